"""Figures that say how good detections are; numpy alone, so that deployed models are measured without torch."""

from yowo_deploy.metrics.frame_ap import (
    FrameBoxes,
    FrameMap,
    classification_accuracy,
    frame_map,
    localization_recall,
)

__all__ = ["FrameBoxes", "FrameMap", "classification_accuracy", "frame_map", "localization_recall"]
