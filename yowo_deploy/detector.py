"""Detect people and their actions in a video frame by frame: the loop that an application writes."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from time import perf_counter
from typing import NamedTuple

from yowo_deploy.arrays import Frame, Planes
from yowo_deploy.backends.base import Backend, Look
from yowo_deploy.backends.cuda import CudaLibrary
from yowo_deploy.backends.frame_inference import FrameInference
from yowo_deploy.backends.loader import open_model
from yowo_deploy.boxes import Tube, one_line
from yowo_deploy.closing import Closing, closed_on_error
from yowo_deploy.errors import InputError, ModelFileError
from yowo_deploy.keywords import checked_keywords
from yowo_deploy.model_files.default import DEFAULT
from yowo_deploy.model_files.streaming_form import VideosAtOnce
from yowo_deploy.postprocess.class_filter import ClassFilter
from yowo_deploy.postprocess.decode import detect_and_best
from yowo_deploy.postprocess.linker import MAX_GAP, TUBE_DECAY, OnlineLinker
from yowo_deploy.prefetch import Prefetch, map_ahead
from yowo_deploy.preprocess.cuts import CutDetector
from yowo_deploy.preprocess.frames import as_bgr, preprocess
from yowo_deploy.result import Result
from yowo_deploy.result_linker import ResultLinker, Unlinked
from yowo_deploy.spec import ModelSpec, Precision
from yowo_deploy.video.timed_frame import TimedFrame

__all__ = ["Detector", "Result"]

AHEAD = 8  # frames of a file that are read before the engine asks for them


class _Prepared(NamedTuple):
    """A frame, its number where one was given, and its planes.

    Attributes:
        there: when the frame was there, by `perf_counter`.
        seconds: that preprocessing took.
    """

    image: Frame
    number: int | None
    timestamp: float | None
    planes: Planes
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
    given: Planes
    asked: bool
    anew: bool


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
        """The argument `streaming` of `open_model`; None if `every` skips frames, or whole clips are wanted."""
        return videos if self.every == 1 and not clips else None

    def linker(self, spec: ModelSpec, decay: float | None = None) -> OnlineLinker:
        """A linker with these options, for the results of a model; `decay` replaces that of the options."""
        confidence = spec.confidence_threshold if self.confidence is None else self.confidence
        averaged = bool(spec.tube_decay) if self.tube_scores is None else self.tube_scores
        return OnlineLinker(
            min_frames=2,  # a single detection is no evidence of a person
            max_gap=MAX_GAP + self.every - 1,  # frames that were dropped, beside those between two runs of the model
            appear=confidence,
            keep=self.keep_of(spec) or None,
            decay=((spec.tube_decay or TUBE_DECAY) if averaged else 0.0) if decay is None else decay,
        )

    def result_linker(self, spec: ModelSpec, linker: OnlineLinker | None = None) -> ResultLinker:
        """A `ResultLinker` with these options; `linker` replaces theirs."""
        confidence = spec.confidence_threshold if self.confidence is None else self.confidence
        label_threshold = None if spec.class_activation == "softmax" else confidence
        shown = ClassFilter(spec, self.classes, confidence)
        return ResultLinker(linker or self.linker(spec), shown, label_threshold)

    def keep_of(self, spec: ModelSpec) -> float:
        """The objectness above which people stay; 0 where every box must exceed the confidence."""
        if self.keep is not None:
            return self.keep
        if self.confidence is None or self.confidence >= spec.confidence_threshold:
            return spec.keep_threshold
        return spec.keep_threshold * (self.confidence / spec.confidence_threshold)


def refuse_clips(backend: Backend, clips: bool) -> None:
    """Raise an InputError where whole clips are wanted of a streaming file, which has none."""
    if clips and backend.spec.streaming:
        raise InputError(
            "the model is a streaming file, which takes single frames: leave --clips and max_batch out, or give the "
            "file of clips"
        )


class Detector(Closing):
    """Push frames of one video, get a result for each.

        with Detector.open("yowo.onnx") as detector:
            for frame in frames:
                result = detector.push(frame)

    Until a clip is full, the spec's start rule supplies the missing frames: the first frame is repeated. A `Streaming`
    backend gets single frames, all others get clips, without a copy.

    Args:
        backend: a loaded model; closed with the detector.
        confidence, iou, every, classes, keep, tube_scores, cuts: see `DetectorOptions`.
        look: called with clip and number of the frame in place of `backend.infer`.
        linker: follows people, copied at the start of each video; `keep` and `tube_scores` then have no effect.
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
        self._inference = FrameInference(backend, look, sparse=every > 1)
        self._keep = 0.0 if linker else options.keep_of(spec)
        self._linker = options.result_linker(spec, linker)
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
            path: an ONNX file, a plan or a checkpoint.
            clips: use whole clips even if the file contains a streaming form, which gives the same answers faster.
            confidence, iou, every, classes, keep, tube_scores, cuts: see `DetectorOptions`.
            backend, device, precision, threads, clip, parallel, cache, trust, cuda, streams: see `open_model`.

        Raises:
            YowoError: see `open_model` and `DetectorOptions`.
        """
        shown = DetectorOptions(confidence, iou, every, classes, keep, tube_scores, cuts)
        given = (backend, device, precision, threads, clip, parallel, cache, trust, cuda, streams)
        with closed_on_error(open_model(path, *given, streaming=shown.streams(clips))) as engine:
            refuse_clips(engine, clips)
            return shown.detector(engine)

    @property
    def spec(self) -> ModelSpec:
        """The spec of the loaded model."""
        return self.backend.spec

    @property
    def confidence(self) -> float:
        """The score above which people are shown."""
        return self._confidence

    def push(self, frame: Frame, timestamp: float | None = None, index: int | None = None) -> Result:
        """Process the next frame of the video: (H, W, 3) uint8 BGR of any size; also grey or BGRA, see `as_bgr`.

        Args:
            timestamp: seconds since the video began; it goes into the result.
            index: number of the frame, larger than the one before, where frames were dropped; by default the next one.

        Raises:
            InputError: the frame is of another kind, or its number is not larger. The next frame may be pushed. Also:
                the detector is closed, or another thread or a `stream` is at work in it.
            ModelFileError: the network answers with NaN or infinity.
        """
        with self._alone("push()"):
            return self._linker.push(self._ask(self._next(self._prepare(frame, index, timestamp))))

    def stream(self, frames: Iterable[Frame | TimedFrame], ahead: int = AHEAD) -> Iterator[Result]:
        """As `push` for every frame, with decoding and preprocessing run ahead in a thread of their own.

        A model opened with `parallel=2` processes two frames at once: more frames per second, each a little later.
        Every frame must be a separate array. Leaving the loop early waits for the frame that is being read.

        Args:
            frames: (H, W, 3) as for `push`, or with number and time, as a `Source` gives them; read in that thread.
            ahead: frames that wait between source and engine; 1 for the newest frames of a camera.

        Raises:
            InputError: see `push`; also while another `stream` has not ended.
        """
        with self._alone("stream()"):
            yield from map(self._linker.push, self._unlinked(frames, ahead))

    def detections(self, frames: Iterable[Frame | TimedFrame], first: int = 0, lead_in: int = 0) -> Iterator[Unlinked]:
        """As `stream` of a new video, without following people: `ResultLinker` makes the same results of it later.

        Args:
            frames: (H, W, 3), as `stream` takes them.
            first: number of the first of them in the video.
            lead_in: frames at the beginning that only fill the clip and get no detections. With `lead_in_frames` of
                them the later frames get the detections of the whole video, to the bit.

        Raises:
            InputError: see `stream`.
        """
        with self._alone("detections()"):
            self.reset()
            self._count, self._number, self._asked_from = first, first - 1, first + lead_in
            yield from self._unlinked(frames, AHEAD)

    @property
    def lead_in_frames(self) -> int:
        """Frames before one that its detections depend on: those of a clip, and one for cuts and sizes."""
        return max(1, (self.spec.clip_length - 1) * self.spec.frame_stride)

    def _unlinked(self, frames: Iterable[Frame | TimedFrame], ahead: int) -> Iterator[Unlinked]:
        with Prefetch(self._prepared(frames), ahead, attrgetter("image.nbytes")) as prepared:
            yield from map_ahead(self._ask, map(self._next, prepared), self._inference.parallel)

    def finish(self) -> tuple[Tube, ...]:
        """End the tubes that are alive and return those that no result had as `ended`."""
        return self._linker.finish()

    def reset(self, source: str = "") -> None:
        """Forget the frames so far: the next one starts a new video, with people numbered from 0.

        Args:
            source: its name, for the results.
        """
        self._inference.reset()
        if self._cuts:
            self._cuts.reset()
        self._linker.reset(source)
        self._count, self._number, self._shape, self._asked_from = 0, -1, (0, 0), 0

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
        asked = self._count >= self._asked_from and (self._count % self._every == 0 or anew)
        self._number, self._shape = number, shape
        self._count += 1
        return _Task(prepared, number, given, asked, anew)

    def _ask(self, task: _Task) -> Unlinked:
        """The engine's answer to a task, decoded; tasks may be here at once unless there is a stream."""
        prepared, seconds = task.prepared, {"preprocess": task.prepared.seconds}
        found, best = None, 0.0
        if task.asked:
            start = perf_counter()
            raw = self._inference.raw(task.given, task.number)
            inferred = perf_counter()
            size_wh = prepared.image.shape[1], prepared.image.shape[0]
            try:
                found, best = detect_and_best(raw, self.spec, size_wh, self._confidence, self._iou, self._keep)
            except ModelFileError as error:
                raise ModelFileError(f"frame {task.number}: {error}") from error
            seconds |= {"infer": inferred - start, "postprocess": perf_counter() - inferred}
        else:
            self._inference.skip(task.given)
        facts = (task.number, prepared.image, prepared.timestamp, found, best, task.anew)
        return Unlinked(*facts, prepared.there, seconds)
