"""Auto-annotation for CVAT: `cvat-cli task auto-annotate ID --function-module yowo_deploy.cvat`."""

from __future__ import annotations

import importlib
import re
from functools import cached_property
from importlib.util import find_spec
from pathlib import PurePath
from typing import Any, Protocol

import numpy as np

from yowo_deploy.closing import Closing
from yowo_deploy.detector import Detector
from yowo_deploy.errors import MissingExtraError
from yowo_deploy.model_files.default import DEFAULT


class Context(Protocol):
    """What CVAT tells of an image."""

    @property
    def frame_name(self) -> str:
        """Name of the file in the task."""
        ...

    @property
    def conf_threshold(self) -> float | None:
        """Scores below it are not wished."""
        ...


class CvatFunction(Closing):
    """A detection function by CVAT's protocol: images in, rectangles out, each with the best label of a person.

    The images of a task come in order. Those whose names differ in their last number alone are one video, and the
    number is that of the frame; a name with a smaller number, or another name, begins a new video.

    Args:
        detector: closed with it.
    """

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._last: tuple[str, int] | None = None

    @cached_property
    def spec(self) -> Any:
        """The labels of the model, as CVAT's `DetectionFunctionSpec`."""
        cvat = _cvat()
        labels = enumerate(self._detector.spec.labels)
        return cvat.DetectionFunctionSpec(labels=[cvat.label_spec(name, number) for number, name in labels])

    def detect(self, context: Context, image: Any) -> list[Any]:
        """The people in an image, a `PIL.Image`, as CVAT's rectangles.

        Raises:
            InputError: see `Detector.push`.
        """
        name, number = _numbered(context.frame_name)
        if self._last is None or self._last[0] != name or self._last[1] >= number:
            self._detector.reset(name)
        self._last = name, number
        frame_bgr = np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])
        found = self._detector.push(frame_bgr, index=number).detections
        threshold, cvat = context.conf_threshold or 0.0, _cvat()
        return [
            cvat.rectangle(class_id, box)
            for box, class_id, confidence in zip(
                found.xyxy.tolist(), found.class_id.tolist(), found.confidence.tolist(), strict=True
            )
            if confidence >= threshold
        ]

    def close(self) -> None:
        """Close the model."""
        self._detector.close()


def create(model: str = DEFAULT, confidence: float | None = None, classes: str = "", **options: Any) -> CvatFunction:
    """What cvat-cli calls: `-p model=str:yowo.onnx -p confidence=float:0.3 -p classes=str:walk,run`.

    Args:
        model: ONNX file, plan or checkpoint; by default the model of the package.
        confidence: score above which a person appears; the model's by default.
        classes: labels to show, with commas between; all by default.
        options: others of `Detector.open`: backend, device, every.

    Raises:
        YowoError: see `Detector.open`.
    """
    labels = [label.strip() for label in classes.split(",") if label.strip()]
    return CvatFunction(Detector.open(model, confidence, classes=labels or None, **options))


def _numbered(name: str) -> tuple[str, int]:
    """A name without its last number, and the number; -1 where there is none."""
    path = PurePath(name)
    found = re.search(r"(\d{1,9})\D*$", path.stem, re.ASCII)
    if found is None:
        return name, 0
    return str(path.with_name(path.stem[: found.start(1)] + "#" + path.stem[found.end(1) :] + path.suffix)), int(
        found[1]
    )


def _cvat() -> Any:
    if find_spec("cvat_sdk") is None:
        raise MissingExtraError("cvat-sdk, which comes with cvat-cli,", "cvat")
    return importlib.import_module("cvat_sdk.auto_annotation")
