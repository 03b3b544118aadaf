"""What the clips of neighbouring frames share, as arithmetic on time. Knows no graph and no numbers.

A layer that slides over time gives the same at every position that sees as much of the padding: a *signal*, computed
once, when the newest frame that it needs arrives, and read again by later clips. The stem of YOWO's ResNets has seven
at sixteen positions: one inner, and three at either end of the clip, which see fewer frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

FRAMES = -1  # the level of the frames themselves


@dataclass(frozen=True)
class Window:
    """How a layer slides over time.

    Attributes:
        kernel, stride: in positions of its input.
        before: positions of padding before the first.
        length: positions that come out.
        ordered: whether it matters which tap reads what; not for a maximum.
    """

    kernel: int
    stride: int
    before: int
    length: int
    ordered: bool = True


@dataclass(frozen=True)
class Tap:
    """What one tap of a kernel reads: `source`, as it was `age` frames ago."""

    index: int
    source: Signal
    age: int


@dataclass(frozen=True)
class Signal:
    """One thing to compute a frame: of which layer, and from what. A frame itself is of level `FRAMES`."""

    level: int
    taps: tuple[Tap, ...] = ()


Positions = list[tuple[Signal, int]]  # of a clip, oldest first: a signal, and how many frames ago it was computed


def frame_positions(length: int) -> Positions:
    """A clip's own frames."""
    return [(Signal(FRAMES), length - 1 - index) for index in range(length)]


def slide(positions: Positions, window: Window, level: int) -> Positions:
    """What a layer puts out, from what it reads."""
    found = []
    for at in range(window.length):
        start = at * window.stride - window.before
        seen = [(k, *positions[start + k]) for k in range(window.kernel) if 0 <= start + k < len(positions)]
        newest = min(age for _, _, age in seen)
        taps = tuple(Tap(k if window.ordered else 0, source, age - newest) for k, source, age in seen)
        found.append((Signal(level, taps), newest))
    return found


def signals(positions: Positions) -> list[Signal]:
    """The different ones, in the order of their first position."""
    return list(dict.fromkeys(signal for signal, _ in positions))


def reads(positions: Positions) -> Iterator[tuple[Signal, int]]:
    """Everything that is read to compute the positions, each once: a signal and how many frames ago it was computed."""
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
    """The positions of each layer of a chain that reads clips of so many frames."""
    found, positions = [], frame_positions(length)
    for level, window in enumerate(windows):
        positions = slide(positions, window, level)
        found.append(positions)
    return found
