"""Make streaming ONNX files, which take frames and keep state."""
