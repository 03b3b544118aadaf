"""Build and train YOWO models with PyTorch; applications that only run a model never need it."""
