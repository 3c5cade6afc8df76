"""Write a trained model as one file for ONNX Runtime, OpenVINO, TensorRT or `torch.export.load`.

`tools/export.py` runs it.  Reading such a file is prediction: see `insta_rtdetr.predict.runtime`.

options -> network (traced) -> formats (files) -> parity (does the file find the same objects as the model?)
"""
