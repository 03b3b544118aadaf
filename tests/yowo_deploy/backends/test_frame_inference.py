"""Frame by frame gives what the clip gives, whichever way a backend takes a video."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from yowo_deploy.arrays import Float
from yowo_deploy.backends.base import Backend, Engine
from yowo_deploy.backends.frame_inference import FrameInference
from yowo_deploy.preprocess.clip_buffer import ClipBuffer
from yowo_deploy.spec import ModelSpec


class Stream:
    """Clips put together on the backend's side; it counts the frames that were pushed."""

    def __init__(self, backend: Backend) -> None:
        self._backend, self._buffer, self.pushed = backend, ClipBuffer(backend.spec), 0

    def push(self, planes: Float) -> Float:
        self.pushed += 1
        return np.asarray(self._backend.infer(self._buffer.push(planes)[None])[0])

    def reset(self) -> None:
        self._buffer.reset()


class SkippingStream(Stream):
    def skip(self, planes: Float) -> None:
        self._buffer.push(planes)


class ByFrame(Engine):
    """A backend that takes frames; what it is asked for clips is counted."""

    name = "by frame"

    def __init__(self, backend: Backend, kind: type[Stream]) -> None:
        self.spec, self._backend, self._kind, self.clips = backend.spec, backend, kind, 0
        self.opened: Stream | None = None

    def infer(self, clips: Float) -> Float:
        self.clips += 1
        return self._backend.infer(clips)

    def open_stream(self) -> Stream:
        self.opened = self._kind(self._backend)
        return self.opened


def outputs(inference: FrameInference, frames: list[Float], every: int) -> list[Float]:
    found = []
    for number, planes in enumerate(frames):
        given = inference.next_input(planes)
        if number % every:
            inference.skip(given)
        else:
            found.append(inference.raw(given, number))
    return found


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("kind", [None, Stream, SkippingStream])
def test_frames_give_what_their_clips_give(
    kind: type[Stream] | None, every: int, spec: ModelSpec, numpy_backend: Callable[[ModelSpec], Backend]
) -> None:
    _, _, height, width = spec.clip_shape
    frames = list(np.random.default_rng(0).random((10, 3, height, width), np.float32))
    plain, buffer = numpy_backend(spec), ClipBuffer(spec)
    expected = [plain.infer(buffer.push(planes)[None])[0] for planes in frames][::every]
    backend = plain if kind is None else ByFrame(plain, kind)
    for sparse in (False, True):
        inference = FrameInference(backend, sparse=sparse)
        for _ in range(2):  # a second video after the first
            assert np.array_equal(outputs(inference, frames, every), expected)
            inference.reset()
        assert inference.by_clip == (kind is None or (sparse and kind is Stream))
        if isinstance(backend, ByFrame) and not inference.by_clip:
            assert backend.opened is not None
            assert backend.opened.pushed == 2 * (10 if kind is Stream else len(expected))


def test_a_look_takes_clips_and_the_number_of_the_frame(
    spec: ModelSpec, numpy_backend: Callable[[ModelSpec], Backend]
) -> None:
    plain, numbers = numpy_backend(spec), []

    def look(clip: Float, number: int) -> Float:
        numbers.append(number)
        return plain.infer(clip) + np.float32(1)

    _, _, height, width = spec.clip_shape
    frames = list(np.random.default_rng(0).random((5, 3, height, width), np.float32))
    backend = ByFrame(plain, SkippingStream)
    found = outputs(FrameInference(backend, look), frames, 2)
    expected = outputs(FrameInference(plain), frames, 2)
    assert numbers == [0, 2, 4] and backend.clips == 0
    assert np.array_equal(found, np.array(expected) + np.float32(1))


def test_a_frame_on_which_the_engine_fails_stays_in_the_clips_behind_it(
    spec: ModelSpec, numpy_backend: Callable[[ModelSpec], Backend], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream leaves it out, see test_streaming: it has no maps of it. A clip needs none, and is the video's own."""
    _, _, height, width = spec.clip_shape
    frames = list(np.random.default_rng(0).random((10, 3, height, width), np.float32))
    backend = numpy_backend(spec)
    expected = outputs(FrameInference(backend), frames, 1)
    inference, answer = FrameInference(backend), backend.infer
    for number, planes in enumerate(frames):
        fails = number % 3 == 1
        monkeypatch.setattr(backend, "infer", (lambda clips: 1 // 0) if fails else answer)
        given = inference.next_input(planes)
        if fails:
            with pytest.raises(ZeroDivisionError):
                inference.raw(given, number)
        else:
            assert np.array_equal(inference.raw(given, number), expected[number])
