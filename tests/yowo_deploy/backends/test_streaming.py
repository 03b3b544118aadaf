"""Maps come back as old as they were asked for, whatever is pushed and reset, and memories are reused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from yowo_deploy.arrays import Float
from yowo_deploy.backends.onnx_session import FrameEngine
from yowo_deploy.backends.streaming import Keeping, KeptStream, Maps, Memory, input_name, output_name
from yowo_deploy.errors import InputError, ModelFileError
from yowo_deploy.spec import ModelSpec

SPEC = ModelSpec(labels=("a",), anchors=((1.0, 1.0),), clip_length=7, frame_stride=2, input_size=(2, 2), stride=2)
INPUTS = {"frames": (1, 6, 2, 2), "kept_0_0@1": (1,), "kept_0_0@2": (1,), "kept_1_1@3": (1,)}
OUTPUTS = {"raw": (1, 6, 1, 1), "kept_0_0": (1,), "kept_1_1": (1,)}


class NumpyStep:
    """A network of numbers: even = newest + 2 * the one before; odd = even + even@1 + even@2; raw = odd@3 + even."""

    def __init__(self) -> None:
        self.made, self.calls = Counter[str](), Counter[bool]()

    def memory(self, output: str) -> Memory:
        self.made[output] += 1
        return np.full(1, np.nan, np.float32)

    def __call__(self, frames: Float, reads: Maps, writes: Maps, whole: bool) -> Float | None:
        assert frames.shape == INPUTS["frames"] and frames.flags.c_contiguous
        assert not {id(each) for each in reads.values()} & {id(each) for each in writes.values()}
        self.calls[whole] += 1
        even = frames[0, 3, 0, 0] + 2 * frames[0, 0, 0, 0]
        odd = even + reads["kept_0_0@1"][0] + reads["kept_0_0@2"][0]
        raw = np.full((6, 1, 1), reads["kept_1_1@3"][0] + even, np.float32)
        writes["kept_0_0"][:], writes["kept_1_1"][:] = even, odd
        return raw if whole else None


def expected(video: list[int], stride: int) -> float:
    """The raw output at the end of a video, by the formula; the first frame stands for those before."""

    def even(ago: int) -> float:
        newest, before = (video[max(0, len(video) - 1 - stride * each)] for each in (ago, ago + 1))
        return newest + 2 * before

    return sum(even(ago) for ago in (3, 4, 5)) + even(0)


def planes(value: int) -> Float:
    return np.full((3, 2, 2), value, np.float32)


def keeping() -> Keeping:
    return Keeping.of(INPUTS, OUTPUTS, SPEC, Path("m.onnx"))


MOVES = st.tuples(st.integers(-9, 9), st.booleans())  # a frame, and whether its answer is wanted


@settings(deadline=None)
@given(moves=st.lists(MOVES | st.none(), max_size=30), stride=st.integers(1, 3))
@example(moves=[(number * number, True) for number in range(20)], stride=2)
def test_maps_are_as_old_as_their_names_say_from_the_first_frame_on(
    moves: list[tuple[int, bool] | None], stride: int
) -> None:
    """Frames are pushed or skipped, and None resets."""
    step = NumpyStep()
    stream, video = KeptStream(step, keeping(), SPEC, stride), list[int]()
    for move in moves:
        if move is None:
            stream.reset()
            video = []
            continue
        value, wanted = move
        video.append(value)
        if wanted:
            assert stream.push(planes(value))[0, 0, 0] == expected(video, stride)
        else:
            stream.skip(planes(value))
    assert step.made == {"kept_0_0": 3 * stride, "kept_1_1": 4 * stride}  # as many as ages, and one to write


def test_whole_clips_are_answered_and_only_maps_made_before_their_last_frame() -> None:
    step = NumpyStep()
    shapes = {"inputs": INPUTS, "outputs": OUTPUTS}
    session: Any = SimpleNamespace(name="numpy", spec=SPEC, parallel=1, make_step=lambda: step, **shapes)
    engine = FrameEngine(session, Path("m.onnx"))
    clips = np.random.default_rng(0).integers(0, 9, (3, *SPEC.clip_shape)).astype(np.float32)
    answers = engine.infer(clips)
    assert step.calls == {True: 3, False: 3 * (SPEC.clip_length - 1)}
    assert answers[:, 0, 0, 0].tolist() == [expected([int(x) for x in clip[0, :, 0, 0]], 1) for clip in clips]


def test_planes_of_another_shape_are_refused() -> None:
    stream = KeptStream(NumpyStep(), keeping(), SPEC, 1)
    with pytest.raises(InputError, match=r"planes have shape \(3, 2, 3\), expected \(3, 2, 2\)"):
        stream.push(np.zeros((3, 2, 3), np.float32))


@pytest.mark.parametrize(
    ("inputs", "outputs", "said"),
    [
        ({"frames": (1, 6, 2, 4)}, {}, "not what its spec says"),
        ({"frames": (1, 5, 2, 2)}, {}, "not what its spec says"),
        ({"frames": ()}, {}, "not what its spec says"),
        ({}, {"raw": (1, 7, 1, 1)}, "not what its spec says"),
        ({"other": (1,)}, {}, "'other', which is not a map"),
        ({"kept_0_0@0": (1,)}, {}, "'kept_0_0@0', which is not a map"),
        ({"kept_0_0@10250": (1,)}, {}, "'kept_0_0@10250', which is not a map"),
        ({"kept_0_0@\u0661": (1,)}, {}, "which is not a map"),  # a digit to Python alone
        ({"kept_0_0@7": (1,)}, {}, "at maps of up to 7 frames before, a clip has 7"),
        ({"kept_0_0@1024": (1,)}, {}, "at maps of up to 1024 frames before"),
        ({"frames": (1, 24, 2, 2)}, {}, "looks at 8 frames"),
        (
            {name: (9_000, 9_000) for name in INPUTS if name.startswith("kept_0_0@")},
            {"kept_0_0": (9_000, 9_000)},
            "numbers, expected at most 251658240",
        ),
        ({"kept_0_7@1": (1,)}, {}, "kept_0_7@1, which is not one of its outputs in that shape"),
        ({}, {"kept_0_0": (2,)}, "kept_0_0@1, which is not one of its outputs in that shape"),
    ],
)
def test_other_inputs_and_outputs_are_refused(inputs: Maps, outputs: Maps, said: str) -> None:
    with pytest.raises(ModelFileError, match=said):
        Keeping.of({**INPUTS, **inputs}, {**OUTPUTS, **outputs}, SPEC, Path("m.onnx"))


def test_names_are_read_back() -> None:
    name = output_name(1, 1)
    assert input_name(name, 3) in INPUTS
    assert keeping().inputs[input_name(name, 3)] == (name, 3)
    assert keeping().levels == 2 and keeping().ages == {"kept_0_0": 2, "kept_1_1": 3}


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("calls", [0, 1, 2])
def test_a_step_that_fails_costs_that_frame_alone(stride: int, calls: int) -> None:
    """As if it had never been pushed: at the start, after many frames, and where the step failed several times.

    The first frames of each set need three calls, of which `calls` succeed before the one that fails.
    """

    class Fragile(NumpyStep):
        left = -1

        def __call__(self, frames: Float, reads: Maps, writes: Maps, whole: bool) -> Float | None:
            self.left -= 1
            if self.left == -1:
                raise MemoryError("of the device")
            return super().__call__(frames, reads, writes, whole)

    step = Fragile()
    stream = KeptStream(step, keeping(), SPEC, stride)
    for _ in range(2):
        video = list[int]()
        for number in range(20):
            for _ in range((number + 1) % 4):
                step.left = calls if number < stride else 0
                with pytest.raises(MemoryError):
                    stream.push(planes(-100))
            step.left = -1
            video.append(number * number)
            assert stream.push(planes(video[-1])).item(0) == expected(video, stride)
        stream.reset()
    assert step.made == {"kept_0_0": 3 * stride, "kept_1_1": 4 * stride}


@pytest.mark.parametrize("outputs", [{**OUTPUTS, "foo": (1,)}, {**OUTPUTS, "kept_0_7": (1,)}])
def test_outputs_that_are_no_maps_or_that_nobody_reads_are_refused(outputs: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(ModelFileError, match="export it again"):
        Keeping.of(INPUTS, outputs, SPEC, Path("m.onnx"))


@pytest.mark.parametrize("frame", [planes(7), np.full((2, 2, 3), 7, np.float64).T])
def test_a_network_of_one_frame_reads_it_in_place_if_it_can(frame: Float) -> None:
    seen = []

    class Recording(NumpyStep):
        def __call__(self, frames: Float, reads: Maps, writes: Maps, whole: bool) -> Float | None:
            seen.append((frames, whole))
            return np.zeros((6, 1, 1), np.float32) if whole else None

    inputs, outputs = {"frames": (1, 3, 2, 2), "kept_0_0@1": (1,)}, {"raw": (1, 6, 1, 1), "kept_0_0": (1,)}
    stream = KeptStream(Recording(), Keeping.of(inputs, outputs, SPEC, Path("m.onnx")), SPEC, 1)
    stream.push(frame)
    for read, whole in seen:
        assert read.flags.c_contiguous and read.dtype == np.float32 and np.array_equal(read[0], frame)
        assert np.shares_memory(read, frame) == (whole and frame.dtype == np.float32)
