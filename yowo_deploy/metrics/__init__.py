"""Accuracy of detections and tubes, with numpy alone: deployed models are measured without torch."""

from yowo_deploy.metrics.frame_ap import (
    ClassAp,
    FrameBoxes,
    classification_accuracy,
    frame_map,
    localization_recall,
)

__all__ = ["ClassAp", "FrameBoxes", "classification_accuracy", "frame_map", "localization_recall"]
