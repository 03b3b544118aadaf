"""Which values the clips of neighbouring frames share: receptive fields in time.

A layer that slides over time gives the same at every position that sees as much of the padding: a *signal*, computed
once, when the newest frame that it needs arrives, and read again by later clips. The stem of YOWO's ResNets has seven
at sixteen positions: one inner, and three at either end of the clip, which see fewer frames.

Example: a kernel of 3 with padding 1 over a clip of 4 frames, ages 3 to 0. Position 0 sees padding, 3, 2; positions 1
and 2 see 3, 2, 1 and 2, 1, 0: the same signal at two ages; position 3 sees 1, 0, padding. Three signals
a frame in place of four positions, and with 16 frames still three in place of sixteen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

FRAMES = -1  # the level of the frames; layers count from 0


@dataclass(frozen=True)
class Window:
    """How a layer slides over time.

    Attributes:
        kernel, stride: in positions of its input.
        before: positions of padding before the first.
        length: positions that come out.
        ordered: whether taps differ, as in a convolution; False for a maximum.
        starts: positions of its input where it begins, if those are not `stride` apart.
    """

    kernel: int
    stride: int
    before: int
    length: int
    ordered: bool = True
    starts: tuple[int, ...] = ()

    @property
    def begins(self) -> Sequence[int]:
        """Where the kernel begins, by position that comes out; below 0 in the padding."""
        return self.starts or range(-self.before, self.length * self.stride - self.before, self.stride)


@dataclass(frozen=True)
class Tap:
    """What one tap of a kernel reads: the value of `source` of `age` frames ago."""

    index: int
    source: Signal
    age: int


@dataclass(frozen=True)
class Signal:
    """One value to compute per frame: its layer and its inputs. A frame itself has the level `FRAMES`."""

    level: int
    taps: tuple[Tap, ...] = ()


Positions = list[tuple[Signal, int]]  # of a clip, oldest first: a signal, and how many frames ago it was computed


def frame_positions(length: int) -> Positions:
    """A clip's own frames."""
    return [(Signal(FRAMES), length - 1 - index) for index in range(length)]


def slide(positions: Positions, window: Window, level: int) -> Positions:
    """Output positions of a layer from its input positions."""
    found = []
    for start in window.begins:
        # Taps in the padding drop out; so positions that see the same part of it get equal taps, hence equal signals.
        seen = [(k, *positions[start + k]) for k in range(window.kernel) if 0 <= start + k < len(positions)]
        # Ages count from the newest input, whose arrival completes the signal.
        newest = min(age for _, _, age in seen)
        taps = tuple(Tap(k if window.ordered else 0, source, age - newest) for k, source, age in seen)
        found.append((Signal(level, taps), newest))
    return found


def signals(positions: Positions) -> list[Signal]:
    """The distinct signals, in the order of their first position."""
    return list(dict.fromkeys(signal for signal, _ in positions))


def reads(positions: Positions) -> Iterator[tuple[Signal, int]]:
    """Every signal that the positions depend on, at any depth, and how many frames ago it was computed; each once."""
    seen: set[tuple[Signal, int]] = set()
    waiting: list[tuple[Signal, int]] = list(reversed(positions))
    while waiting:
        signal, age = waiting.pop()
        if (signal, age) in seen or signal.level == FRAMES:
            continue
        seen.add((signal, age))
        yield signal, age
        waiting += [(tap.source, tap.age) for tap in signal.taps]


def levels_of(windows: Sequence[Window], length: int) -> list[Positions]:
    """The positions of each layer of a chain that reads clips of `length` frames."""
    found, positions = [], frame_positions(length)
    for level, window in enumerate(windows):
        positions = slide(positions, window, level)
        found.append(positions)
    return found
