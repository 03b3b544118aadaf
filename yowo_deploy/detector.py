"""Detect people and their actions in a video frame by frame: the loop that an application writes."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from time import perf_counter
from typing import NamedTuple

import numpy as np

from yowo_deploy.arrays import Float, Frame
from yowo_deploy.backends.base import Backend, Look
from yowo_deploy.backends.cuda import CudaLibrary
from yowo_deploy.backends.frame_inference import FrameInference
from yowo_deploy.backends.loader import open_model
from yowo_deploy.boxes import Detections, Tube, one_line
from yowo_deploy.closing import Closing, closed_on_error
from yowo_deploy.errors import InputError, ModelFileError
from yowo_deploy.keywords import checked_keywords
from yowo_deploy.model_files.default import DEFAULT
from yowo_deploy.model_files.streaming_form import VideosAtOnce
from yowo_deploy.postprocess.class_filter import ClassFilter
from yowo_deploy.postprocess.decode import detect_and_best
from yowo_deploy.postprocess.linker import TUBE_DECAY, OnlineLinker
from yowo_deploy.prefetch import Prefetch, map_ahead
from yowo_deploy.preprocess.cuts import CutDetector
from yowo_deploy.preprocess.frames import as_bgr, preprocess
from yowo_deploy.result import Result
from yowo_deploy.spec import ModelSpec, Precision
from yowo_deploy.video.timed_frame import TimedFrame

__all__ = ["Detector", "Result"]

AHEAD = 8  # frames of a file that are read before the engine asks for them
AHEAD_BYTES = 1 << 26  # of them, where frames are large


class _Prepared(NamedTuple):
    """A frame, its number where one was given, and its planes.

    Attributes:
        there: when the frame was there, by `perf_counter`.
        seconds: that preprocessing took.
    """

    image: Frame
    number: int | None
    timestamp: float | None
    planes: Float
    there: float
    seconds: float


class _Task(NamedTuple):
    """A frame in its place.

    Attributes:
        given: what the engine gets: a clip, (1, 3, T, H, W), or a stream's next planes, (3, H, W).
        asked: whether it is to answer.
        anew: tubes end before it: the frame before had another size or scene.
    """

    prepared: _Prepared
    number: int
    given: Float
    asked: bool
    anew: bool


class _Answer(NamedTuple):
    """What the engine found, with seconds by stage."""

    detections: Detections
    best_score: float
    seconds: dict[str, float]


@dataclass(frozen=True)
class DetectorOptions:
    """Which detections are shown, and how often the model runs.

    Attributes:
        confidence: score above which a person is shown; the spec's threshold by default.
        keep: objectness above which a person who was shown stays so; 0: every box must exceed `confidence`. By default
            the spec's, and less in proportion where `confidence` is below the spec's.
        tube_scores: average class scores along tubes, see `OnlineLinker`; by default where the spec has a `tube_decay`.
        cuts: end all tubes at hard cuts, see `CutDetector`; by default where the spec has a `tube_decay`.
        iou: suppression threshold; the spec's by default.
        every: run the model on the first frame and every N-th after it. In those between, results are marked `carried`
            and boxes stay where they were: on J-HMDB-21, with `every` 2, held boxes had an IoU of 0.906 with what the
            model finds there, moved on as before 0.886. Tubes get boxes on a straight line there afterwards. A
            `Streaming` backend whose streams cannot skip frames (`Skipping`) then gets whole clips.
        classes: labels to show; all by default. See `ClassFilter`.

    Raises:
        InputError: `every` is less than 1, or a threshold is outside 0 to 1.
    """

    confidence: float | None = None
    iou: float | None = None
    every: int = 1
    classes: Iterable[str] | None = None
    keep: float | None = None
    tube_scores: bool | None = None
    cuts: bool | None = None

    def __post_init__(self) -> None:
        for name in ("confidence", "iou", "keep"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:  # NaN as well
                raise InputError(f"{name} is {value}, expected 0 to 1")
        if self.every < 1:
            raise InputError(f"every is {self.every}, expected 1 or more frames")
        if self.classes is not None and not isinstance(self.classes, str):
            object.__setattr__(self, "classes", tuple(self.classes))  # it may be an iterator, and is read many times

    def detector(self, backend: Backend, look: Look | None = None) -> Detector:
        """A detector with these options."""
        given = (self.confidence, self.iou, look, self.every, self.classes)
        return Detector(backend, *given, keep=self.keep, tube_scores=self.tube_scores, cuts=self.cuts)

    def streams(self, clips: bool = False, videos: VideosAtOnce = "one") -> VideosAtOnce | None:
        """`streaming` of `open_model`: None where some frames are not asked for, or clips are wished."""
        return videos if self.every == 1 and not clips else None

    def linker(self, spec: ModelSpec) -> OnlineLinker:
        """What follows people by these options, in the results of a model."""
        confidence = spec.confidence_threshold if self.confidence is None else self.confidence
        averaged = bool(spec.tube_decay) if self.tube_scores is None else self.tube_scores
        return OnlineLinker(
            min_frames=2,  # a single detection is no evidence of a person
            appear=confidence,
            keep=self.keep_of(spec) or None,
            decay=(spec.tube_decay or TUBE_DECAY) if averaged else 0.0,
        )

    def keep_of(self, spec: ModelSpec) -> float:
        """The objectness above which people stay; 0 where every box must exceed the confidence."""
        if self.keep is not None:
            return self.keep
        if self.confidence is None or self.confidence >= spec.confidence_threshold:
            return spec.keep_threshold
        return spec.keep_threshold * (self.confidence / spec.confidence_threshold)


class Detector(Closing):
    """Push frames of one video, get a result for each.

        with Detector.open("yowo.onnx") as detector:
            for frame in frames:
                result = detector.push(frame)

    Before a clip is full the spec's start rule stands for the frames that are missing. An engine that takes a video
    frame by frame (`Streaming`) gets it so, all others get clips that lie ready without a copy.

    Args:
        backend: a loaded model; closed with the detector.
        confidence, iou, every, classes, keep, tube_scores, cuts: see `DetectorOptions`.
        look: what takes the place of `backend.infer`, see there.
        linker: as it is to follow people at the start of each video, in place of `keep` and `tube_scores`.
    """

    @checked_keywords
    def __init__(
        self,
        backend: Backend,
        confidence: float | None = None,
        iou: float | None = None,
        look: Look | None = None,
        every: int = 1,
        classes: Iterable[str] | None = None,
        linker: OnlineLinker | None = None,
        keep: float | None = None,
        tube_scores: bool | None = None,
        cuts: bool | None = None,
    ) -> None:
        options = DetectorOptions(confidence, iou, every, classes, keep, tube_scores, cuts)
        self.backend, self._every, spec = backend, every, backend.spec
        self._confidence = spec.confidence_threshold if confidence is None else confidence
        self._iou = spec.nms_threshold if iou is None else iou
        self._label_threshold = None if spec.class_activation == "softmax" else self._confidence
        self._filter = ClassFilter(spec, options.classes, self._confidence)
        self._inference = FrameInference(backend, look, sparse=every > 1)
        self._keep = 0.0 if linker else options.keep_of(spec)
        self._fresh_linker = linker or options.linker(spec)
        self._cuts = CutDetector() if (bool(spec.tube_decay) if cuts is None else cuts) else None
        self._busy, self._at_work, self._closed = threading.Lock(), "", False
        self.reset()

    @classmethod
    @checked_keywords
    def open(
        cls,
        path: str | os.PathLike[str] = DEFAULT,
        confidence: float | None = None,
        iou: float | None = None,
        every: int = 1,
        classes: Iterable[str] | None = None,
        keep: float | None = None,
        tube_scores: bool | None = None,
        cuts: bool | None = None,
        backend: str | None = None,
        device: str | None = None,
        precision: Precision | None = None,
        threads: int | None = None,
        clip: int | None = None,
        parallel: int = 1,
        cache: str | os.PathLike[str] | None = None,
        trust: bool | None = None,
        cuda: CudaLibrary = "cuda-python",
        streams: int | None = None,
        clips: bool = False,
    ) -> Detector:
        """Load a model file, by default the model of the package.

        Args:
            clips: give the model whole clips also where its file carries a streaming form, which gives the same
                answers for less.
            confidence, iou, every, classes, keep, tube_scores, cuts: see `DetectorOptions`.
            backend, device, precision, threads, clip, parallel, cache, trust, cuda, streams: see `open_model`.
        """
        shown = DetectorOptions(confidence, iou, every, classes, keep, tube_scores, cuts)
        given = (backend, device, precision, threads, clip, parallel, cache, trust, cuda, streams)
        with closed_on_error(open_model(path, *given, streaming=shown.streams(clips))) as engine:
            return shown.detector(engine)

    @property
    def spec(self) -> ModelSpec:
        """Of the loaded model."""
        return self.backend.spec

    @property
    def confidence(self) -> float:
        """The score above which people are shown."""
        return self._confidence

    def push(self, frame: Frame, timestamp: float | None = None, index: int | None = None) -> Result:
        """The next frame of the video: (H, W, 3) uint8 BGR of any size; also grey or BGRA, see `as_bgr`.

        Args:
            timestamp: seconds since the video began; it goes into the result.
            index: number of the frame, larger than the one before, where frames were dropped; by default the next one.

        Raises:
            InputError: the frame is of another kind, or its number is not larger. The next frame may be pushed. Also:
                the detector is closed, or another thread or a `stream` is at work in it.
            ModelFileError: the network answers with NaN or infinity.
        """
        with self._alone("push()"):
            task = self._next(self._prepare(frame, index, timestamp))
            return self._finish(task, self._ask(task))

    def stream(self, frames: Iterable[Frame | TimedFrame], ahead: int = AHEAD) -> Iterator[Result]:
        """As `push` for every frame, with decoding and preprocessing run ahead in a thread of their own.

        A model opened with two streams works on two frames at once: more frames a second, each a little later. Every
        frame must be an array of its own, and leaving early waits for the frame that is being read.

        Args:
            frames: as `push` takes them, or with number and time, as a `Source` gives them. It is read in that thread.
            ahead: frames that wait between source and engine; 1 for the newest frames of a camera.

        Raises:
            InputError: see `push`; also while another `stream` has not ended.
        """
        with self._alone("stream()"), Prefetch(self._prepared(frames), ahead) as prepared:
            tasks, parallel = map(self._next, prepared), self._inference.parallel
            answered = map_ahead(lambda task: (task, self._ask(task)), tasks, parallel)
            for task, answer in answered:
                yield self._finish(task, answer)

    def finish(self) -> tuple[Tube, ...]:
        """End the tubes that are alive and return those that no result had as `ended`."""
        return self._filter.tubes(self._linker.close())

    def reset(self, source: str = "") -> None:
        """Forget the frames so far: the next one starts a new video, with people numbered from 0.

        Args:
            source: its name, for the results.
        """
        self._inference.reset()
        if self._cuts:
            self._cuts.reset()
        self._linker = deepcopy(self._fresh_linker)
        self._last: Result | None = None
        self._source, self._count, self._number, self._shape = source, 0, -1, (0, 0)

    def close(self) -> None:
        """Close the model; safe to call twice."""
        self._closed = True
        self.backend.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{self._count} frames so far"
        model = f"{self.spec.name}, {self.spec.classes} classes, {self.backend.name}"
        return one_line(f"Detector({model}, confidence {self._confidence:g}, {state})")

    @contextmanager
    def _alone(self, call: str) -> Iterator[None]:
        """Refuse a second call while one is at work: frames of two videos would become one clip."""
        if self._closed:
            raise InputError(f"{call} after the detector was closed: call it within the `with` block, or open another")
        if not self._busy.acquire(blocking=False):
            raise InputError(
                f"{call} while {self._at_work} of the same detector is at work, and a detector follows one video: end "
                "that one first, or use StreamPool, where several videos and threads share a model"
            )
        self._at_work = call
        try:
            yield
        finally:
            self._busy.release()

    def _prepared(self, frames: Iterable[Frame | TimedFrame]) -> Iterator[_Prepared]:
        for frame in frames:
            timed = frame if isinstance(frame, TimedFrame) else (frame, None, None)
            yield self._prepare(*timed)

    def _prepare(self, frame: Frame, number: int | None, timestamp: float | None) -> _Prepared:
        there = perf_counter()
        if timestamp is not None and not math.isfinite(timestamp):
            raise InputError(f"the time of a frame is {timestamp}, expected seconds, or None where it is unknown")
        image = as_bgr(frame)
        planes = preprocess(image, self.spec)
        return _Prepared(image, number, timestamp, planes, there, perf_counter() - there)

    def _next(self, prepared: _Prepared) -> _Task:
        """Put a frame into the clip; frames come here one after the other."""
        number = self._number + 1 if prepared.number is None else prepared.number
        if number <= self._number:
            raise InputError(f"frame {number} comes after frame {self._number}: call reset() where a new video begins")
        shape = prepared.image.shape[:2]
        anew = self._count > 0 and shape != self._shape
        anew |= bool(self._cuts and self._cuts.push(prepared.image))
        given = self._inference.next_input(prepared.planes)
        asked = self._count % self._every == 0 or anew
        self._number, self._shape = number, shape
        self._count += 1
        return _Task(prepared, number, given, asked, anew)

    def _ask(self, task: _Task) -> _Answer | None:
        """The engine's answer to a task, decoded; tasks may be here at once unless there is a stream."""
        if not task.asked:
            self._inference.skip(task.given)
            return None
        start = perf_counter()
        raw = self._inference.raw(task.given, task.number)
        inferred = perf_counter()
        size_wh = task.prepared.image.shape[1], task.prepared.image.shape[0]
        try:
            found, best = detect_and_best(raw, self.spec, size_wh, self._confidence, self._iou, self._keep)
        except ModelFileError as error:
            raise ModelFileError(f"frame {task.number}: {error}") from error
        return _Answer(found, best, {"infer": inferred - start, "postprocess": perf_counter() - inferred})

    def _finish(self, task: _Task, answer: _Answer | None) -> Result:
        """Follow people; answers come here in order."""
        start, prepared = perf_counter(), task.prepared
        result = self._carried(prepared.image) if answer is None else self._linked(task, answer)
        end = perf_counter()
        seconds = {"preprocess": prepared.seconds, "infer": 0.0, "postprocess": 0.0}
        seconds |= {**(answer.seconds if answer else {}), "link": end - start}
        self._last = replace(
            result,
            frame_index=task.number,
            timestamp=prepared.timestamp,
            speed={stage: 1000 * value for stage, value in seconds.items()},
            latency_ms=1000 * (end - prepared.there),
        )
        return self._last

    def _linked(self, task: _Task, answer: _Answer) -> Result:
        before = self._linker.close() if task.anew else []
        tubes = self._linker.push(answer.detections, task.number)
        found = self._filter.among(self._linker.shown)
        return Result(
            task.number,
            task.prepared.image,
            found,
            self.spec.labels,
            {},
            tubes=self._filter.tubes(tubes),
            ended=self._filter.tubes([*before, *self._linker.finished()]),
            source=self._source,
            best_score=answer.best_score,
            label_threshold=self._label_threshold,
        )

    def _carried(self, image: Frame) -> Result:
        empty = replace(Detections.empty(self.spec.classes), tracker_id=np.zeros(0, np.int64))
        last = self._last or Result(0, image, empty, self.spec.labels, {}, source=self._source)
        return replace(last, frame=image, ended=(), carried=True, best_score=0.0)
