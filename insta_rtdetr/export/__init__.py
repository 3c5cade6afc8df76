"""Write a trained model as one file for ONNX Runtime, OpenVINO, TensorRT or `torch.export.load`.

`insta_rtdetr.predict.runtime` reads such files.

run (options) -> network (what is traced) -> formats (writing files) -> parity (comparing file and model)
"""
