"""The web demo: a page on which images are dropped, and an endpoint for programs.

    python -m insta_rtdetr.web --model quickstart_MNV2_D3_256
"""
