"""Make videos of stick figures with exact annotations."""
