"""Sample and augment training clips."""
