"""Frames in, detections out: the loop that an application writes. Knows engines by their protocol alone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from time import perf_counter
from types import TracebackType
from typing import Any, NamedTuple

from yowo_deploy.ahead import Prefetch, map_ahead
from yowo_deploy.backends.base import Backend, Look, open_model
from yowo_deploy.boxes import Detections, Float
from yowo_deploy.clip import ClipBuffer
from yowo_deploy.decode import detect
from yowo_deploy.default_model import DEFAULT
from yowo_deploy.draw import draw
from yowo_deploy.errors import ModelFileError
from yowo_deploy.preprocess import Frame, preprocess
from yowo_deploy.spec import ModelSpec


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


class _Task(NamedTuple):
    """A frame on its way to the engine, with a clip of its own, (1, 3, T, H, W): the buffer's moves on."""

    number: int
    frame: Frame
    clip: Float
    seconds_preprocess: float


class Detector:
    """Push frames of one video, get a result for each.

        with Detector.open("yowo.onnx") as detector:
            for frame in frames:
                result = detector.push(frame)

    Args:
        backend: a loaded model; closed with the detector.
        confidence: show what exceeds this; the spec's threshold by default.
        iou: suppression threshold; the spec's by default.
        look: what takes the place of `backend.infer`, see there.
    """

    def __init__(
        self,
        backend: Backend,
        confidence: float | None = None,
        iou: float | None = None,
        look: Look | None = None,
    ) -> None:
        self.backend, self._look = backend, look
        self._confidence, self._iou = confidence, iou
        self._buffer = ClipBuffer(backend.spec)
        self._count = 0

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str] = DEFAULT,
        confidence: float | None = None,
        iou: float | None = None,
        **options: Any,
    ) -> Detector:
        """Load a model file, by default the model of the package; `options` are those of `open_model`."""
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
        return self._infer(self._next(frame_bgr, planes, perf_counter() - start))

    def stream(self, frames: Iterable[Frame]) -> Iterator[Result]:
        """As `push` for every frame, with decoding and preprocessing run ahead in a thread of their own.

        A model opened with two streams works on two frames at once: more frames a second, each a little later. Every
        frame must be an array of its own, and leaving early waits for the frame that is being read.
        """
        with Prefetch(self._prepared(frames)) as prepared:
            yield from map_ahead(self._infer, (self._next(*each) for each in prepared), self.backend.streams)

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

    def _next(self, frame: Frame, planes: Float, seconds: float) -> _Task:
        self._count += 1
        return _Task(self._count - 1, frame, self._buffer.push(planes)[None].copy(), seconds)

    def _infer(self, task: _Task) -> Result:
        start = perf_counter()
        raw = (self._look(task.clip, task.number) if self._look else self.backend.infer(task.clip))[0]
        inferred = perf_counter()
        size_wh = task.frame.shape[1], task.frame.shape[0]
        try:
            detections = detect(raw, self.spec, size_wh, self._confidence, self._iou)
        except ModelFileError as error:
            raise ModelFileError(f"frame {task.number}: {error}") from error
        seconds = {
            "preprocess": task.seconds_preprocess,
            "infer": inferred - start,
            "postprocess": perf_counter() - inferred,
        }
        speed = {stage: 1000 * value for stage, value in seconds.items()}
        return Result(task.number, task.frame, detections, self.spec.labels, speed)
