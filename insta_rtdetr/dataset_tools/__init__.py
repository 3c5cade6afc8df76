"""What is done with a dataset before training: check, convert, split.

findings, problems, segmentation, check_records and check_image need neither Detectron2 nor PyTorch.
"""
