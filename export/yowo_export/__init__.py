"""Turn checkpoints into model files that engines run, and prove that nothing was lost."""
