"""Many sources through one model, each with its own clips, people and errors."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

from yowo_deploy.arrays import Frame
from yowo_deploy.backends.base import Backend
from yowo_deploy.backends.batching import SharedBackend
from yowo_deploy.backends.cuda import CudaLibrary
from yowo_deploy.backends.loader import on_cpu, open_model
from yowo_deploy.background import Background
from yowo_deploy.boxes import one_line
from yowo_deploy.closing import Closing, closed_on_error
from yowo_deploy.detector import DetectorOptions, refuse_clips
from yowo_deploy.errors import InputError
from yowo_deploy.keywords import checked_keywords
from yowo_deploy.model_files.default import DEFAULT
from yowo_deploy.result import Result
from yowo_deploy.spec import ModelSpec, Precision
from yowo_deploy.video.sources import CLOSE_S, Source, open_source
from yowo_deploy.video.timed_frame import TimedFrame

WAITING = 2  # results, or pushed frames, of a stream that may wait before the stream does
MOST_STREAMS = 4  # calls at once; beyond that the cores of a CPU gain nothing by being divided further


class Named(NamedTuple):
    """A result, and the stream that it belongs to."""

    name: str
    result: Result


class StreamPool(Closing):
    """Streams that share one engine, each with its own clips, people and errors.

        with StreamPool.open("yowo.onnx", max_wait_ms=30) as pool:
            pool.add("door", "rtsp://camera/door")
            pool.add("yard", "rtsp://camera/yard")
            for name, result in pool:
                ...
        print(pool.errors)

    Every stream gives the results that a `Detector` of its own would give. Streams take turns, whatever their rates;
    a stream that is slow or fails does not delay the others. Results of each stream wait for the reader in order,
    two at most; then the stream waits, and its source waits or drops, as is its policy.

    Args:
        backend: a loaded model; closed with the pool. On a CPU a call at once for each core or two is what many streams
            gain by: `open_model(..., parallel=2)` for two cores.
        max_wait_ms: how long a clip may wait for those of other streams while the engine is free; for an engine that
            works on one call at a time, as GPUs do, see `SharedBackend`. What gathers while the engine is busy goes
            together anyway.
        max_batch: clips in an engine's call; by default 8, or what the model takes, and 1 where the engine works on
            several calls at once.
        confidence, iou, every, classes, keep, tube_scores, cuts: see `DetectorOptions`.

    Attributes:
        backend: as its streams share it.
        confidence: what detections exceed.

    Raises:
        ModelFileError: the model takes no call with one clip.
        InputError: see `Detector`.
    """

    @checked_keywords
    def __init__(
        self,
        backend: Backend,
        max_wait_ms: float = 0.0,
        max_batch: int | None = None,
        confidence: float | None = None,
        iou: float | None = None,
        every: int = 1,
        classes: Iterable[str] | None = None,
        keep: float | None = None,
        tube_scores: bool | None = None,
        cuts: bool | None = None,
    ) -> None:
        self.backend = SharedBackend(backend, max_wait_ms, max_batch)
        with closed_on_error(self.backend):
            refuse_clips(backend, (max_batch or 1) > 1)
            options = DetectorOptions(confidence, iou, every, classes, keep, tube_scores, cuts)
            self._make = partial(options.detector, self.backend)
            self.confidence = self._make().confidence  # wrong arguments are refused now
        self._changed = threading.Condition()
        self._streams: dict[str, _Stream] = {}
        self._turns: deque[str] = deque()
        self._errors: dict[str, BaseException] = {}
        self._closed = False

    @classmethod
    @checked_keywords
    def open(
        cls,
        path: str | os.PathLike[str] = DEFAULT,
        max_wait_ms: float = 0.0,
        max_batch: int | None = None,
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
        parallel: int | None = None,
        cache: str | os.PathLike[str] | None = None,
        trust: bool | None = None,
        cuda: CudaLibrary = "cuda-python",
        streams: int | None = None,
        clips: bool = False,
    ) -> StreamPool:
        """Load a model file, by default the model of the package.

        On a CPU a file that carries a streaming form runs in it, unless calls are to hold several clips.

        Args:
            path: an ONNX file, a plan or a checkpoint.
            clips: use whole clips, see `Detector.open`.
            max_wait_ms, max_batch: see `StreamPool`.
            confidence, iou, every, classes, keep, tube_scores, cuts: see `DetectorOptions`.
            parallel: by default as many calls at once as there are cores on a CPU, four at most, and one elsewhere.
            backend, device, precision, threads, clip, cache, trust, cuda, streams: see `open_model`.
        """
        if parallel is None:
            parallel = max(1, min(MOST_STREAMS, os.cpu_count() or 1)) if on_cpu(device) else 1
        given = (backend, device, precision, threads, clip, parallel, cache, trust, cuda, streams)
        whole = clips or max_batch is not None or not on_cpu(device)
        streaming = DetectorOptions(every=every).streams(whole, "many")
        with closed_on_error(open_model(path, *given, streaming=streaming)) as engine:
            refuse_clips(engine, clips)
            return cls(engine, max_wait_ms, max_batch, confidence, iou, every, classes, keep, tube_scores, cuts)

    def __repr__(self) -> str:
        state = "closed" if self._closed else ", ".join(self._streams) or "no streams"
        return one_line(f"StreamPool({self.spec.name}, {self.spec.classes} classes, {self.backend.name}: {state})")

    @property
    def spec(self) -> ModelSpec:
        """The spec of the loaded model."""
        return self.backend.spec

    @property
    def errors(self) -> dict[str, BaseException]:
        """The errors that ended streams, by name; kept after a stream was removed."""
        with self._changed:
            return dict(self._errors)

    @property
    def sources(self) -> dict[str, Source]:
        """The sources of the streams that have one, by name; for their counts."""
        with self._changed:
            return {name: stream.source for name, stream in self._streams.items() if stream.source is not None}

    def add(
        self,
        name: str,
        source: str | os.PathLike[str] | Source | Iterable[Frame] | None = None,
        **options: Any,
    ) -> None:
        """A new stream, read in a thread of its own; what it gives comes out of the pool's iteration.

        Args:
            name: of results and errors; of a stream that was removed it may be taken again.
            source: what `open_source` takes, which is opened in that thread, where a failure is an error of this
                stream; or a source, closed with the stream; or frames. Without it the stream is for `push`.
            options: of `open_source`, for a text.

        Raises:
            InputError: a stream of this name is there, or the pool is closed.
        """
        with self._changed:
            if self._closed:
                raise InputError(f"the pool is closed: stream {name!r} cannot be added, open another pool")
            if name in self._streams:
                raise InputError(f"a stream {name!r} already exists: choose another name, or remove it first")
            stream = _Stream(self, name, source, options)
            self._streams[name] = stream
            self._turns.append(name)
            self._errors.pop(name, None)
        stream.start()

    def push(self, name: str, frame_bgr: Frame) -> Future[Result]:
        """Push the next frame, (H, W, 3) uint8 BGR, of a stream without a source; an unknown name makes a new stream.

        Frames of one stream are processed in order; the call blocks while two are unfinished. An error is raised only
        by the future of its frame.


        Raises:
            InputError: the stream has a source, or the pool is closed.
        """
        with self._changed:
            stream = self._streams.get(name)
        if stream is None:
            self.add(name)
            stream = self._stream(name)
        return stream.push(frame_bgr)

    def reset(self, name: str) -> None:
        """Forget a stream's frames so far: its next one starts a new video.

        Waits for frames that were pushed, or are at work.

        Raises:
            InputError: there is no such stream.
        """
        self._stream(name).reset()

    def remove(self, name: str) -> None:
        """End a stream; results that were not taken are dropped.

        Raises:
            InputError: there is no such stream.
        """
        stream = self._stream(name)
        stream.close()
        with self._changed:
            self._streams.pop(name, None)
            if name in self._turns:
                self._turns.remove(name)
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Named]:
        """Results of the streams that were added with a source, in turn, until all of these have ended."""
        while (named := self._next()) is not None:
            yield named

    def close(self) -> None:
        """End every stream, then close the model; safe to call twice."""
        with self._changed:
            closed, self._closed = self._closed, True
            streams = list(self._streams.values())
            self._changed.notify_all()
        if closed:
            return
        for stream in streams:
            stream.end()
        for stream in streams:
            stream.close()
        self.backend.close()

    def _stream(self, name: str) -> _Stream:
        with self._changed:
            if name not in self._streams:
                known = ", ".join(map(repr, self._streams)) or "none"
                raise InputError(f"there is no stream {name!r}, only {known}")
            return self._streams[name]

    def _next(self) -> Named | None:
        with self._changed:
            # In steps, or Ctrl-C would not get through on Windows.
            while not self._changed.wait_for(self._ready_or_over, 0.5):
                continue
            for _ in range(len(self._turns)):
                name = self._turns[0]
                self._turns.rotate(-1)
                if self._streams[name].results:
                    result = self._streams[name].results.popleft()
                    self._changed.notify_all()
                    return Named(name, result)
            return None

    def _ready_or_over(self) -> bool:
        streams = self._streams.values()
        return self._closed or any(stream.results for stream in streams) or all(stream.ended for stream in streams)

    def _deliver(self, stream: _Stream, result: Result) -> bool:
        """Put a result where the reader finds it; false when the pool is closed."""
        with self._changed:
            self._changed.wait_for(lambda: len(stream.results) < WAITING or stream.over)
            if not stream.over:
                stream.results.append(result)
                self._changed.notify_all()
            return not stream.over

    def _end(self, stream: _Stream, error: BaseException | None) -> None:
        with self._changed:
            stream.ended = True
            if error is not None and not stream.over:
                self._errors[stream.name] = error
            self._changed.notify_all()


class _Stream:
    """One stream of a pool: its detector, its thread, and results that were not taken yet."""

    def __init__(self, pool: StreamPool, name: str, source: Any, options: dict[str, Any]) -> None:
        self.name, self._pool, self._given, self._options = name, pool, source, options
        self.source: Source | None = source if isinstance(source, Source) else None
        self.results: deque[Result] = deque()
        self.over = False
        self.ended = source is None  # results of pushed frames are returned, not queued
        self._detector = pool._make()
        self._detector.reset(name)
        self._turn = threading.Lock()
        self._room = threading.Semaphore(WAITING)
        self._pushed = ThreadPoolExecutor(1, thread_name_prefix=f"stream {name}")
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._given is not None:
            self._thread = Background(self._run, self.end, f"stream {self.name}")
            self._thread.start()

    def push(self, frame: Frame) -> Future[Result]:
        if self._given is not None:
            raise InputError(f"stream {self.name!r} reads a source: choose another name for frames that are pushed")
        self._room.acquire()
        try:
            future = self._pushed.submit(self._work, frame)
        except RuntimeError as error:  # the executor was shut down
            self._room.release()
            raise InputError(f"stream {self.name!r} is closed and takes no more frames: add it again") from error
        future.add_done_callback(lambda _: self._room.release())
        return future

    def reset(self) -> None:
        if self._given is None:
            try:
                self._pushed.submit(self._detector.reset, self.name).result()
            except RuntimeError as error:  # the executor was shut down
                raise InputError(f"stream {self.name!r} is closed and cannot be reset: add it again") from error
        else:
            with self._turn:
                self._detector.reset(self.name)

    def end(self) -> None:
        """Ask everything to stop, and wait for nothing."""
        self.over = True
        with self._pool._changed:
            self._pool._changed.notify_all()

    def close(self) -> None:
        """As `end`, and wait for the frame that is at work; for a source that does not answer, four seconds."""
        self.end()
        if self.source is not None:
            self.source.close()
        self._pushed.shutdown(cancel_futures=True)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(CLOSE_S)
        self.results.clear()

    def _work(self, frame: Frame | TimedFrame) -> Result:
        image, index, timestamp = frame if isinstance(frame, TimedFrame) else (frame, None, None)
        self._pool.backend.join()
        try:
            with self._turn:
                return self._detector.push(image, timestamp, index)
        finally:
            self._pool.backend.leave()

    def _run(self) -> None:
        failure: BaseException | None = None
        try:
            for frame in self._frames():
                if self.over or not self._pool._deliver(self, self._work(frame)):
                    break
        except BaseException as error:  # handed over, not swallowed: `StreamPool.errors` has it
            failure = error
        if self.source is not None:
            self.source.close()
        self._pool._end(self, failure)

    def _frames(self) -> Iterable[Frame | TimedFrame]:
        if isinstance(self._given, (str, os.PathLike)):
            self.source = open_source(self._given, **self._options)
            if self.over:  # closed while it was opened
                self.source.close()
        return self._given if self.source is None else self.source
