"""Tools for datasets before training: check, convert, split.

The modules findings and problems need neither Detectron2 nor PyTorch: the doctor, which imports findings, must start
without them.
"""
