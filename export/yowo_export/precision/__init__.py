"""Convert ONNX files to FP16 and INT8."""
