"""Web demo: a page onto which users drop images, and an endpoint for programs.

    python -m insta_rtdetr.web --model quickstart_MNV2_D3_256
"""
