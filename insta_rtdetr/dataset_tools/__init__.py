"""What is done with a dataset before training: check, convert, split.  Nothing here needs Detectron2 or PyTorch."""
