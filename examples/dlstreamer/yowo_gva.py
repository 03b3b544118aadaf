"""A callback for DL Streamer's `gvapython`: boxes become regions of the frame, the person their `object_id`.

Written from DL Streamer's API reference; never run in DL Streamer. Its logic runs in the tests with a stand-in for the
frame.

    gst-launch-1.0 filesrc location=video.mp4 ! decodebin ! videoconvert ! video/x-raw,format=BGR !
        gvapython module=yowo_gva.py class=Yowo kwarg='{"model": "yowo.onnx"}' ! gvawatermark !
        videoconvert ! autovideosink
"""

from __future__ import annotations

from typing import Any

import numpy as np

from yowo_deploy import Detector


class Yowo:
    """One stream; `gvapython` makes an instance for each of its elements.

    Args:
        model: a model file, or "default".
        confidence: above which a person appears; the model's own by default.
    """

    def __init__(self, model: str = "default", confidence: float | None = None) -> None:
        self._detector = Detector.open(model, confidence=confidence)

    def process_frame(self, frame: Any) -> bool:
        """Attach what is found to the frame, BGR or BGRA; True keeps the frame in the pipeline."""
        with frame.data() as pixels:
            result = self._detector.push(np.ascontiguousarray(pixels[:, :, :3]))
        found = result.detections
        for row, (x1, y1, x2, y2) in enumerate(found.xyxy.tolist()):
            label, score = result.names[found.class_id[row]], float(found.confidence[row])
            region = frame.add_region(x1, y1, x2 - x1, y2 - y1, label, score)
            if found.tracker_id is not None:
                region.set_object_id(int(found.tracker_id[row]))
        return True
