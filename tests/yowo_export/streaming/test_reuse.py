"""Each signal computed once, when its newest frame arrives, gives what every whole clip gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from yowo_export.streaming.reuse import FRAMES, Signal, Window, frame_positions, levels_of, reads, signals, slide

STEM, POOL = Window(7, 1, 3, 16), Window(3, 2, 1, 8, ordered=False)


def windows(length: int, sizes: list[tuple[int, int]]) -> list[Window]:
    """A chain of layers with kernels 1, 3, 5 or 7, padded by half, and strides."""
    found = []
    for number, (half, stride) in enumerate(sizes):
        length = (length - 1) // stride + 1
        found.append(Window(2 * half + 1, stride, half, length, ordered=number % 2 == 0))
    return found


def layer(window: Window, level: int, seen: list[tuple[int, float]]) -> float:
    """A sum with a weight for each tap, or the largest, of the taps that see something."""
    return sum((level + 2) * (k + 1) * x for k, x in seen) if window.ordered else max(x for _, x in seen)


def whole(frames: NDArray[np.float64], chain: list[Window]) -> list[float]:
    """What the chain puts out for a clip."""
    values = list(frames)
    for level, w in enumerate(chain):
        inside = [
            range(max(0, at * w.stride - w.before), at * w.stride - w.before + w.kernel) for at in range(w.length)
        ]
        values = [
            layer(w, level, [(i - at * w.stride + w.before, values[i]) for i in seen if i < len(values)])
            for at, seen in enumerate(inside)
        ]
    return values


def at_frame(signal: Signal, now: int, video: NDArray[np.float64], chain: list[Window]) -> float:
    """The signal as it is computed when frame `now` is the newest."""
    if signal.level == FRAMES:
        return float(video[now])
    seen = [(tap.index, at_frame(tap.source, now - tap.age, video, chain)) for tap in signal.taps]
    return layer(chain[signal.level], signal.level, seen)


@given(
    length=st.integers(1, 12),
    sizes=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 2)), min_size=1, max_size=3),
    seed=st.integers(0, 99),
)
def test_signals_give_what_the_clip_gives(length: int, sizes: list[tuple[int, int]], seed: int) -> None:
    chain = windows(length, sizes)
    video = np.random.default_rng(seed).integers(-9, 9, length + 40).astype(np.float64)  # sums are exact
    now = len(video) - 1
    expected = whole(video[now - length + 1 :], chain)
    positions = levels_of(chain, length)[-1]
    assert [at_frame(signal, now - age, video, chain) for signal, age in positions] == expected


def test_the_stem_of_a_residual_network_has_seven_signals_and_its_pooling_five() -> None:
    stem, pooled = levels_of([STEM, POOL], 16)
    assert (len(stem), len(signals(stem))) == (16, 7)
    assert (len(pooled), len(signals(pooled))) == (8, 5)
    assert sorted(len(signal.taps) for signal in signals(stem)) == [4, 4, 5, 5, 6, 6, 7]


def test_what_is_read_of_earlier_frames_is_what_layers_behind_ask_for() -> None:
    pooled = levels_of([STEM, POOL], 16)[-1]
    earlier = [(signal.level, age) for signal, age in reads(pooled) if age]
    # Of the stem: the inner map of one and of two frames ago, and three parts of the clip's two oldest maxima.
    assert sorted(age for level, age in earlier if level == 0) == [1, 1, 1, 2, 2]
    assert sorted(age for level, age in earlier if level == 1) == [1, 3, 5, 7, 9, 11]


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_layer_that_looks_at_single_frames_has_one_signal(length: int) -> None:
    found = slide(frame_positions(length), Window(1, 1, 0, length), 0)
    assert len(signals(found)) == 1 and [age for _, age in found] == list(range(length))[::-1]
