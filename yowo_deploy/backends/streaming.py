"""Maps that neighbouring clips share, kept from frame to frame.

A streaming file's network takes "frames", the newest K frames of the clip one behind the other as channels, oldest
first, (1, 3 * K, H, W), and maps that it put out at earlier frames: "kept_L_N@A" is what "kept_L_N" was A frames ago. L
is a level: maps of level 0 are made of frames alone, others of those and of maps of the levels before. It puts out
"raw" and the maps. Frames are counted in steps of the spec's frame stride: with a stride d, d sets of maps take turns.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from yowo_deploy.arrays import Float, Planes
from yowo_deploy.errors import InputError, ModelFileError
from yowo_deploy.model_files.onnx_reader import FRAMES, RAW
from yowo_deploy.spec import ModelSpec

_KEPT = r"kept_[0-9]{1,2}_[0-9]{1,4}"  # level and number
# Numbers kept for each of a clip's: as many as the gate lets a graph of clips make, of which those are a part.
_MOST_KEPT, _LEAST = 240, 1 << 20

Memory = Any  # of one map, on the engine's device: opaque to everything but the engine
Maps = Mapping[str, Memory]


def output_name(level: int, number: int) -> str:
    """Of a map that is kept."""
    return f"kept_{level}_{number}"


def input_name(output: str, age: int) -> str:
    """Of a map that was put out so many frames ago."""
    return f"{output}@{age}"


class Step(Protocol):
    """One frame of one stream, on an engine."""

    def memory(self, output: str) -> Memory:
        """New memory for a map, whatever is in it."""
        ...

    def __call__(self, frames: Planes, reads: Maps, writes: Maps, whole: bool) -> Float | None:
        """Run the network, or the part of it that makes the maps.

        Args:
            frames: (1, 3 * K, H, W), contiguous.
            reads: by input name.
            writes: by output name, to be filled; none of them is among `reads`.
            whole: whether "raw" is wanted.

        Returns:
            (A * (5 + C), rows, columns), the caller's own, or None.
        """
        ...


@dataclass(frozen=True)
class Keeping:
    """What a streaming network looks at and keeps, as the names of its inputs and outputs say.

    Attributes:
        frames: K.
        ages: by kept output, how many frames ago its oldest reader wants it.
        inputs: by input, the output it is of and the age.
        levels: of maps.
    """

    frames: int
    ages: dict[str, int]
    inputs: dict[str, tuple[str, int]]
    levels: int

    @classmethod
    def of(
        cls, inputs: Mapping[str, tuple[int, ...]], outputs: Mapping[str, tuple[int, ...]], spec: ModelSpec, path: Path
    ) -> Keeping:
        """What the shapes of a file's inputs and outputs, by name, say.

        Raises:
            ModelFileError: they are not those of a streaming file for this spec.
        """
        _, _, height, width = spec.clip_shape
        columns, rows = spec.grid_size
        frames = inputs.get(FRAMES, ())
        fits = len(frames) == 4 and frames[1] > 0 and frames[1] % 3 == 0 and frames[2:] == (height, width)
        if not fits or outputs.get(RAW, ())[1:] != (spec.output_channels, rows, columns):
            raise ModelFileError(
                f"{path} takes {dict(inputs)} and outputs {outputs.get(RAW)}: not what its spec says, export it again"
            )
        reads = {name: _parsed(name, path) for name in inputs if name != FRAMES}
        ages = {name: 0 for name in outputs if name != RAW}
        if odd := [name for name in ages if not re.fullmatch(_KEPT, name)]:
            raise ModelFileError(f"{path} outputs {odd[0]!r}, which is not a map of a streaming file: export it again")
        for name, (output, age) in reads.items():
            if output not in ages or outputs[output] != inputs[name]:
                raise ModelFileError(
                    f"{path} reads {name}, which is not one of its outputs in that shape: export it again"
                )
            ages[output] = max(ages[output], age)
        if unread := [name for name, age in ages.items() if not age]:
            raise ModelFileError(f"{path} outputs {unread[0]} and never reads it: export it again")
        oldest = max(ages.values(), default=0)
        if not 0 < oldest < spec.clip_length >= frames[1] // 3:
            raise ModelFileError(
                f"{path} looks at {frames[1] // 3} frames and at maps of up to {oldest} frames before, a clip has "
                f"{spec.clip_length}: export it again"
            )
        kept = spec.frame_stride * sum((age + 1) * math.prod(outputs[name]) for name, age in ages.items())
        if kept > (most := _MOST_KEPT * max(_LEAST, 3 * spec.clip_span * height * width)):
            raise ModelFileError(f"{path} keeps {kept} numbers, expected at most {most} for this clip: export it again")
        levels = 1 + max((int(name.split("_")[1]) for name in ages), default=0)
        return cls(frames[1] // 3, ages, reads, levels)


def _parsed(name: str, path: Path) -> tuple[str, int]:
    found = re.fullmatch(rf"({_KEPT})@([0-9]{{1,4}})", name)
    if not found or not int(found[2]):
        raise ModelFileError(f"{path} reads {name!r}, which is not a map of a streaming file: export it again")
    return found[1], int(found[2])


class KeptStream:
    """A `FrameStream` over a step of an engine.

    Args:
        step: for this stream alone.
        stride: frames between those of a clip.
    """

    def __init__(self, step: Step, keeping: Keeping, spec: ModelSpec, stride: int) -> None:
        self._sets = [_Set(step, keeping, spec) for _ in range(stride)]
        self._shape, self._type = (3, *spec.clip_shape[2:]), spec.input_type
        self._count, self._first = 0, np.empty(0, self._type)

    def push(self, planes: Planes) -> Float:
        """See `FrameStream.push`.

        Raises:
            InputError: another shape than (3, H, W).
        """
        return self._take(planes, whole=True)

    def skip(self, planes: Planes) -> None:
        """As `push`, for a frame without an answer: only the state that later frames need is computed."""
        self._take(planes, whole=False)

    def _take(self, planes: Planes, whole: bool) -> Float:
        """A frame by the set whose turn it is, begun if it is new."""
        if planes.shape != self._shape:
            raise InputError(f"planes have shape {planes.shape}, expected {self._shape}")
        if self._count == 0:
            self._first = np.array(planes, self._type)
        turn = self._sets[self._count % len(self._sets)]
        if self._count < len(self._sets):
            turn.start(self._first)
        raw = turn.push(planes, whole)
        self._count += 1  # where the engine failed it stays this set's turn
        return raw

    def reset(self) -> None:
        """See `FrameStream.reset`."""
        self._count = 0

    def last_of(self, clip: Planes) -> Float:
        """(3, T, H, W) to the raw output of this clip, whatever was pushed before; nothing may be pushed after."""
        [turn] = self._sets
        for index in range(clip.shape[1] - 1):
            turn.push(clip[:, index], whole=False)
        return turn.push(clip[:, -1])


class _Set:
    """The newest frames that lie a stride apart, and the maps made of them.

    Frames stand in a mirrored ring, so that the newest are always one view; a network of one frame reads it in place.
    Of each map there are as many memories as it is read back, and one to write into: which is which moves on with each
    frame, the numbers do not.
    """

    def __init__(self, step: Step, keeping: Keeping, spec: ModelSpec) -> None:
        self._step, self._keeping = step, keeping
        self._ring = np.zeros((2 * keeping.frames, 3, *spec.clip_shape[2:]), spec.input_type)
        self._next = 0
        self._spare = {name: [step.memory(name) for _ in range(age)] for name, age in keeping.ages.items()}
        self._past = {name: deque([step.memory(name)] * age) for name, age in keeping.ages.items()}

    def start(self, planes: Planes) -> None:
        """As if this frame had been pushed for ever."""
        self._ring[:] = planes
        for _ in range(self._keeping.levels):
            made = self._run(self._ring[: self._keeping.frames], whole=False)[1]
            for name, memory in made.items():
                past = self._past[name]
                self._spare[name] += _different([*past], memory)
                self._past[name] = deque([memory] * len(past))

    def push(self, planes: Planes, whole: bool = True) -> Float:
        """The raw output at this frame; an empty one where only maps are wanted."""
        count = self._keeping.frames
        following = (self._next + 1) % count
        if count == 1:
            newest = np.ascontiguousarray(planes, self._ring.dtype)[None]
        else:
            self._ring[self._next] = self._ring[self._next + count] = planes
            newest = self._ring[following : following + count]
        raw, made = self._run(newest, whole)
        self._next = following  # not where the engine failed: the next frame is written over this one, as the maps are
        for name, memory in made.items():
            past = self._past[name]
            past.appendleft(memory)
            oldest = past.pop()
            if not any(oldest is each for each in past):
                self._spare[name].append(oldest)
        return np.empty(0, np.float32) if raw is None else raw

    def _run(self, newest: Planes, whole: bool) -> tuple[Float | None, dict[str, Memory]]:
        reads = {name: self._past[output][age - 1] for name, (output, age) in self._keeping.inputs.items()}
        writes = {name: spare.pop() for name, spare in self._spare.items()}
        try:
            return self._step(newest.reshape(1, -1, *newest.shape[2:]), reads, writes, whole), writes
        except BaseException:
            for name, memory in writes.items():  # or there were none for the frames after this one
                self._spare[name].append(memory)
            raise


def _different(memories: Iterable[Memory], new: Memory) -> list[Memory]:
    """Each once, without the new one."""
    return list({id(each): each for each in memories if each is not new}.values())
