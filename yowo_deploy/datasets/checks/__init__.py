"""Check data sets and videos before training."""
