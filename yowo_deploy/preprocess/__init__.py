"""From a BGR frame to a clip: resize, normalise, buffer."""

from yowo_deploy.preprocess.frames import preprocess, resample_weights, resize

__all__ = ["preprocess", "resample_weights", "resize"]
