"""Readers of annotation formats.  Each returns COCO's dicts of images, annotations and categories, split by split."""
