"""Sequences begin, end and expire by a clock of the test."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import numpy as np
import pytest

from yowo_deploy.arrays import Frame
from yowo_deploy.backends.base import Backend
from yowo_deploy.detector import Detector
from yowo_deploy.errors import InputError
from yowo_deploy.serving.refusal import Refusal
from yowo_deploy.serving.sequences import Sequences
from yowo_deploy.spec import ModelSpec


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Made:
    """Makes detectors, and knows which are still there."""

    def __init__(self, backend: Backend) -> None:
        self._backend, self.refs = backend, list[weakref.ref[Detector]]()

    def __call__(self) -> Detector:
        detector = Detector(self._backend, confidence=0.02)
        self.refs.append(weakref.ref(detector))
        return detector

    @property
    def alive(self) -> int:
        return sum(ref() is not None for ref in self.refs)


@pytest.fixture
def made(spec: ModelSpec, numpy_backend: Callable[[ModelSpec], Backend]) -> Made:
    return Made(numpy_backend(spec))


FRAME: Frame = np.zeros((4, 8, 3), np.uint8)


def test_a_sequence_that_is_idle_for_too_long_is_ended(made: Made) -> None:
    clock = Clock()
    sequences = Sequences(made, idle_s=30, clock=clock)
    sequences.push(1, FRAME, start=True)
    sequences.push(2, FRAME, start=True)
    clock.now = 20
    sequences.push(2, FRAME)
    clock.now = 30
    assert sequences.expire() == 0
    clock.now = 31
    assert sequences.expire() == 1 and made.alive == 1
    with pytest.raises(Refusal) as caught:
        sequences.push(1, FRAME)
    assert caught.value.status == 400
    clock.now = 60
    with pytest.raises(Refusal):
        sequences.push(2, FRAME)  # without a sweep
    assert len(sequences) == 0 and made.alive == 0


def test_idle_sequences_make_room(made: Made) -> None:
    clock = Clock()
    sequences = Sequences(made, limit=1, idle_s=30, clock=clock)
    sequences.push(1, FRAME, start=True)
    with pytest.raises(Refusal) as caught:
        sequences.push(2, FRAME, start=True)
    assert caught.value.status == 503
    clock.now = 31
    sequences.push(2, FRAME, start=True)


def test_a_start_begins_anew(made: Made) -> None:
    sequences = Sequences(made, limit=1)
    assert sequences.push("a", FRAME, start=True).frame_index == 0
    assert sequences.push("a", FRAME).frame_index == 1
    assert sequences.push("a", FRAME, start=True).frame_index == 0
    assert made.alive == 1


def test_a_refused_frame_begins_nothing_and_ends_what_it_ends(made: Made) -> None:
    sequences = Sequences(made)
    with pytest.raises(InputError):
        sequences.push(1, np.zeros((4, 8, 2), np.uint8), start=True)
    assert len(sequences) == made.alive == 0
    sequences.push(1, FRAME, start=True)
    with pytest.raises(InputError):
        sequences.push(1, np.zeros((4, 8, 2), np.uint8))
    assert sequences.push(1, FRAME).frame_index == 1
    with pytest.raises(InputError):
        sequences.push(1, np.zeros((4, 8, 2), np.uint8), end=True)
    assert len(sequences) == made.alive == 0


def test_nothing_is_left_of_a_thousand_sequences(made: Made) -> None:
    sequences = Sequences(made, limit=2)
    for key in range(1, 1001):
        sequences.push(key, FRAME, start=True, end=True)
    assert len(made.refs) == 1000 and made.alive == 0


@pytest.mark.parametrize(("limit", "idle_s"), [(0, 30.0), (1, 0.0), (1, float("nan"))])
def test_limits_that_are_none_are_refused(limit: int, idle_s: float, made: Made) -> None:
    with pytest.raises(InputError):
        Sequences(made, limit, idle_s)
