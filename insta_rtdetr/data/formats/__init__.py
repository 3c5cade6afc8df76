"""Readers of annotation formats: each gives COCO's dicts of images, annotations and categories, split by split."""
