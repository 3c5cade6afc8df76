"""How fast a model is: image -> Instances -> COCO RLE, end to end and by stage.  `tools/benchmark.py` runs it."""
