"""Read and write ONNX files and plan records without onnx."""
