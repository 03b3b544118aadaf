"""The protocols of a backend, and checks that every backend makes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Generic, Protocol, TypeVar, runtime_checkable

import numpy as np

from yowo_deploy.arrays import Float, Planes
from yowo_deploy.closing import Closing
from yowo_deploy.errors import InputError, ModelFileError
from yowo_deploy.spec import ModelSpec

Shape = tuple[int, ...]
T = TypeVar("T")


class Backend(AbstractContextManager["Backend"], Protocol):
    """A loaded model. A context manager; an engine may keep device memory until it is closed.

    Attributes:
        parallel: calls of `infer` that it works on at once.
        batch: the fewest clips that a call must have, and the most; None where there is no limit.
    """

    name: str
    spec: ModelSpec
    parallel: int
    batch: tuple[int, int | None]

    def infer(self, clips: Planes) -> Float:
        """(B, 3, T, H, W) clips of the spec's `input_type` to (B, A * (5 + C), rows, columns) float32 raw outputs.

        The answer is the caller's: no later call changes it. Threads may call it at once; more than `parallel` of them
        gain nothing by that.
        """
        ...

    def close(self) -> None:
        """Free what the engine holds; safe to call twice."""
        ...


class Layered(Backend, Protocol):
    """An engine that also shows what lies between input and output."""

    def outputs(self, clips: Planes, names: Sequence[str]) -> dict[str, Float]:
        """What the named values are for (B, 3, T, H, W) clips, in float32.

        Args:
            names: of an ONNX file's or a plan's outputs; of a checkpoint's modules, as "backbone_3d.layer3.4.conv2",
                with "#2" behind it for what a module returns when it is called a second time.

        Returns:
            By name; what is not there is left out.
        """
        ...


@runtime_checkable
class Staged(Protocol):
    """An engine that can take a call apart, more slowly than `Backend.infer`: it waits after each stage."""

    def infer_in_stages(self, clips: Planes) -> tuple[Float, dict[str, float]]:
        """As `infer`, and the seconds of "copy in", "infer", "copy out"; of "infer" alone where nothing is copied."""
        ...


class FrameStream(Protocol):
    """One video on its way through an engine that keeps what neighbouring clips share."""

    def push(self, planes: Planes) -> Float:
        """The next frame, (3, H, W) as `preprocess` gives, to the (A * (5 + C), rows, columns) raw output of the clip
        that ends with it: what `Backend.infer` says of that clip. What lies before the first frame is filled by the
        spec's start rule.

        A frame on which the engine failed is as if it had never been pushed, as one that a camera dropped: later
        answers are those of the video without it, and the same frame may be pushed again.
        """
        ...

    def reset(self) -> None:
        """Forget every frame: the next push is the first of a new video."""
        ...


@runtime_checkable
class Skipping(Protocol):
    """A `FrameStream` that can take a frame without an answer, which costs less."""

    def skip(self, planes: Planes) -> None:
        """As `push`, for a frame that is no key frame."""
        ...


@runtime_checkable
class Streaming(Protocol):
    """An engine that can take a video frame by frame, which costs less than clip by clip."""

    def open_stream(self) -> FrameStream:
        """A stream at its start; streams of one engine know nothing of each other."""
        ...


class Pool(Generic[T]):
    """What one caller at a time may use, lent to as many callers as there are items."""

    def __init__(self, items: Iterable[T]) -> None:
        self._idle: SimpleQueue[T] = SimpleQueue()
        for item in items:
            self._idle.put(item)

    @contextmanager
    def lent(self) -> Iterator[T]:
        """One of them, waited for if all are lent."""
        item = self._idle.get()
        try:
            yield item
        finally:
            self._idle.put(item)


class Engine(Closing):
    """What all backends share: most have nothing to close and take one call at a time."""

    parallel = 1
    batch: tuple[int, int | None] = (1, None)


# From a clip, (1, 3, T, H, W), and the number of its key frame in the video to the raw output: what takes the place of
# `Backend.infer` where a clip alone does not say it all.
Look = Callable[[Planes, int], Float]


def check_clips(clips: Planes, spec: ModelSpec, batch: int | None = None) -> Planes:
    """`clips` as a contiguous array of the spec's `input_type`.

    Args:
        batch: how many there must be; None for any number.

    Raises:
        InputError: the shape is not (B, 3, T, H, W) of the spec, B at least 1; or one
            of the two is of bytes, and the other not.
    """
    if clips.ndim != 5 or clips.shape[1:] != spec.clip_shape or not len(clips) or batch not in (None, len(clips)):
        sides = ", ".join(map(str, spec.clip_shape))
        raise InputError(f"clips have shape {clips.shape}, expected ({batch or 'batch'}, {sides})")
    if (spec.input_type == "uint8") != (clips.dtype == np.uint8):
        raise InputError(
            f"clips are {clips.dtype}, the model takes {spec.input_type}: make them with "
            "`preprocess(frame, model.spec)`"
        )
    return np.ascontiguousarray(clips, spec.input_type)


def batch_of(shape: Shape) -> tuple[int, int | None]:
    """`Backend.batch` of a network that takes this shape, -1 for a side that is not fixed."""
    return (shape[0], shape[0]) if shape[0] > 0 else (1, None)


def check_shapes(inputs: Sequence[Shape], outputs: Sequence[Shape], spec: ModelSpec, path: Path) -> None:
    """The network must take and put out what the spec announces.

    Args:
        inputs, outputs: shapes with the batch first; -1 for a side that is not fixed.

    Raises:
        ModelFileError: it does not, so the file and its spec do not belong together.
    """
    columns, rows = spec.grid_size
    answer = (spec.output_channels, rows, columns)
    # Outputs behind the first are intermediate values that were marked for inspection.
    for does, shapes, expected in (("takes", inputs, spec.clip_shape), ("outputs", outputs[:1], answer)):
        found = [tuple(shape[1:]) for shape in shapes]
        if found != [expected]:
            said = " and ".join(map(str, found)) or "nothing"
            raise ModelFileError(f"{path} {does} {said}, its spec says {expected}: export it again")
