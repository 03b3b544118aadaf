"""Frames in, detections out: the loop that an application writes. Knows engines by their protocol alone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from time import perf_counter
from types import TracebackType
from typing import Any

from yowo_deploy.backends.base import Backend, open_model
from yowo_deploy.boxes import Detections, Float
from yowo_deploy.clip import ClipBuffer
from yowo_deploy.decode import detect
from yowo_deploy.draw import draw
from yowo_deploy.errors import ModelFileError
from yowo_deploy.preprocess import Frame, preprocess
from yowo_deploy.spec import ModelSpec
from yowo_deploy.video import Prefetch


@dataclass(frozen=True)
class Result:
    """What was found in one frame.

    Attributes:
        frame_index: from 0.
        frame: the BGR frame itself.
        detections: boxes in its pixels.
        names: label of each class.
        speed: milliseconds by stage: "preprocess", "infer", "postprocess".
    """

    frame_index: int
    frame: Frame
    detections: Detections
    names: tuple[str, ...]
    speed: dict[str, float]

    @property
    def orig_shape(self) -> tuple[int, int]:
        """(height, width) of the frame."""
        return self.frame.shape[0], self.frame.shape[1]

    def plot(self) -> Frame:
        """A copy of the frame with boxes, labels and scores."""
        return draw(self.frame, self.detections, self.names)

    def summary(self) -> list[dict[str, Any]]:
        """One plain dict a detection, best first."""
        found = self.detections
        return [
            {
                "label": self.names[int(class_id)],
                "class_id": int(class_id),
                "confidence": round(float(confidence), 5),
                "xyxy": [round(float(value), 2) for value in box],
            }
            for box, confidence, class_id in zip(found.xyxy, found.confidence, found.class_id, strict=True)
        ]

    def to_json(self) -> str:
        """One line: the frame's index and its detections."""
        return json.dumps({"frame": self.frame_index, "detections": self.summary()}, ensure_ascii=False)


class Detector:
    """Push frames of one video, get a result for each.

        with Detector.open("yowo.onnx") as detector:
            for frame in frames:
                result = detector.push(frame)

    Args:
        backend: a loaded model; closed with the detector.
        confidence: show what exceeds this; the spec's threshold by default.
        iou: suppression threshold; the spec's by default.
    """

    def __init__(self, backend: Backend, confidence: float | None = None, iou: float | None = None) -> None:
        self.backend = backend
        self._confidence, self._iou = confidence, iou
        self._buffer = ClipBuffer(backend.spec)
        self._count = 0

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], confidence: float | None = None, iou: float | None = None, **options: Any
    ) -> Detector:
        """Load a model file; `options` are those of `open_model`."""
        return cls(open_model(path, **options), confidence, iou)

    @property
    def spec(self) -> ModelSpec:
        """Of the loaded model."""
        return self.backend.spec

    def push(self, frame_bgr: Frame) -> Result:
        """The next frame of the video: (H, W, 3) uint8 BGR of any size.

        Raises:
            InputError: the frame is of another kind.
            ModelFileError: the network answers with NaN or infinity.
        """
        start = perf_counter()
        planes = preprocess(frame_bgr, self.spec)
        return self._infer(frame_bgr, planes, perf_counter() - start)

    def stream(self, frames: Iterable[Frame]) -> Iterator[Result]:
        """As `push` for every frame, with decoding and preprocessing run ahead in a thread of their own."""
        with Prefetch(self._prepared(frames)) as prepared:
            for frame, planes, seconds in prepared:
                yield self._infer(frame, planes, seconds)

    def reset(self) -> None:
        """Forget the frames so far: the next one starts a new video."""
        self._buffer.reset()
        self._count = 0

    def close(self) -> None:
        """Close the model; safe to call twice."""
        self.backend.close()

    def __enter__(self) -> Detector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _prepared(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, Float, float]]:
        for frame in frames:
            start = perf_counter()
            planes = preprocess(frame, self.spec)
            yield frame, planes, perf_counter() - start

    def _infer(self, frame: Frame, planes: Float, seconds_preprocess: float) -> Result:
        start = perf_counter()
        raw = self.backend.infer(self._buffer.push(planes)[None])[0]
        inferred = perf_counter()
        size_wh = frame.shape[1], frame.shape[0]
        try:
            detections = detect(raw, self.spec, size_wh, self._confidence, self._iou)
        except ModelFileError as error:
            raise ModelFileError(f"frame {self._count}: {error}") from error
        seconds = {
            "preprocess": seconds_preprocess,
            "infer": inferred - start,
            "postprocess": perf_counter() - inferred,
        }
        speed = {stage: 1000 * value for stage, value in seconds.items()}
        self._count += 1
        return Result(self._count - 1, frame, detections, self.spec.labels, speed)
