"""Timing a model from image to Instances to COCO RLE, end to end and by stage."""
