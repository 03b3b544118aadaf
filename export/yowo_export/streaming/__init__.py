"""Make streaming ONNX files, which take frames and carry state."""
