"""Backends of ONNX files, of clips and of frames, over the session of an engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from yowo_deploy.arrays import Float, Planes
from yowo_deploy.backends.base import Engine, Pool, Shape, batch_of, check_clips, check_shapes
from yowo_deploy.backends.streaming import Keeping, KeptStream, Maps, Step
from yowo_deploy.errors import ModelFileError, foreign
from yowo_deploy.spec import ModelSpec

Call = Callable[[Planes], Float]


class Session(Protocol):
    """An ONNX file in an engine.

    Attributes:
        inputs, outputs: shapes by name; -1 for a side that is not fixed.
        parallel: calls at once.
    """

    name: str
    spec: ModelSpec
    parallel: int
    inputs: dict[str, Shape]
    outputs: dict[str, Shape]

    def make_call(self) -> Call:
        """From contiguous clips to raw outputs that are the caller's own; for one thread at a time."""
        ...

    def make_step(self) -> Step:
        """Of a streaming file, for one stream."""
        ...

    def values(self, clips: Planes, names: Sequence[str]) -> dict[str, Float]:
        """The outputs of those names that the file has."""
        ...


class ClipEngine(Engine):
    """A file of clips.

    Raises:
        ModelFileError: the network and its spec do not belong together.
    """

    def __init__(self, session: Session, path: Path) -> None:
        self.name, self.spec, self.parallel, self._session = session.name, session.spec, session.parallel, session
        self._path = path
        self._door = partial(foreign, f"{session.name} cannot run {path}", ModelFileError)
        inputs = list(session.inputs.values())
        check_shapes(inputs, list(session.outputs.values()), self.spec, path)
        self.batch = batch_of(inputs[0])
        with self._door():
            self._calls = Pool(session.make_call() for _ in range(self.parallel))

    def infer(self, clips: Planes) -> Float:
        """See `Backend.infer`.

        Raises:
            ModelFileError: the engine fails, or answers more or fewer clips.
        """
        checked = self._checked(clips)
        with self._calls.lent() as call, self._door():
            raw = call(checked)
        if len(raw) != len(checked):
            raise ModelFileError(f"{self._path} answers {len(checked)} clips with {len(raw)} outputs: export it again")
        return raw

    def outputs(self, clips: Planes, names: Sequence[str]) -> dict[str, Float]:
        """See `Layered.outputs`."""
        checked = self._checked(clips)
        with self._door():
            return self._session.values(checked, names)

    def _checked(self, clips: Planes) -> Planes:
        return check_clips(clips, self.spec, self.batch[1])


class FrameEngine(Engine):
    """A streaming file.

    Raises:
        ModelFileError: its inputs and outputs are not those of a streaming file.
    """

    def __init__(self, session: Session, path: Path) -> None:
        self.name, self.spec, self.parallel, self._session = session.name, session.spec, session.parallel, session
        self._door = partial(foreign, f"{session.name} cannot run {path}", ModelFileError)
        self._keeping = Keeping.of(session.inputs, session.outputs, session.spec, path)
        self._idle = Pool(self._stream(1) for _ in range(self.parallel))

    def open_stream(self) -> KeptStream:
        """See `Streaming.open_stream`."""
        return self._stream(self.spec.frame_stride)

    def infer(self, clips: Planes) -> Float:
        """See `Backend.infer`. For what looks at clips: each is a video of its own, so nothing is saved."""
        checked = check_clips(clips, self.spec)
        with self._idle.lent() as stream:
            return np.stack([stream.last_of(clip) for clip in checked])

    def _stream(self, stride: int) -> KeptStream:
        with self._door():
            step: Step = _StepBehindDoor(self._session.make_step(), self._door)
            return KeptStream(step, self._keeping, self.spec, stride)


class _StepBehindDoor:
    """A step of an engine, whose errors are ours."""

    def __init__(self, step: Step, door: Callable[[], AbstractContextManager[None]]) -> None:
        self._step, self._door, self.memory = step, door, step.memory

    def __call__(self, frames: Planes, reads: Maps, writes: Maps, whole: bool) -> Float | None:
        """See `Step`."""
        with self._door():
            return self._step(frames, reads, writes, whole)
