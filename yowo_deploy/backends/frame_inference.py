"""Inference on one video frame by frame, whichever form of the model a backend runs."""

from __future__ import annotations

import numpy as np

from yowo_deploy.arrays import Float, Planes
from yowo_deploy.backends.base import Backend, FrameStream, Look, Skipping, Streaming
from yowo_deploy.errors import InputError
from yowo_deploy.preprocess.clip_buffer import ClipBuffer


class FrameInference:
    """Preprocessed frames in, raw outputs out; the start rule of the spec fills what lies before the first frame.

    A `Streaming` backend gets frames, every other one clips that are ready without a copy.

    Args:
        look: takes the place of `backend.infer`, on clips.
        sparse: some frames get no output. A stream that cannot skip frames (`Skipping`) costs more than clips then.

    Attributes:
        parallel: calls of `raw` at once; 1 where the backend keeps the state of the stream.

    Raises:
        InputError: the backend takes no single clips.
    """

    def __init__(self, backend: Backend, look: Look | None = None, sparse: bool = False) -> None:
        self._backend, self._look = backend, look
        stream = backend.open_stream() if isinstance(backend, Streaming) and look is None else None
        self._stream: FrameStream | None = stream if not sparse or isinstance(stream, Skipping) else None
        self.parallel = backend.parallel if self._stream is None else 1
        if self._stream is None and backend.batch[0] > 1:
            raise InputError(
                f"the model takes at least {backend.batch[0]} clips a call, and a video gives one at a time: "
                "export or build it without --batch, or with --batch 1"
            )
        # `map_ahead` asks for one clip more than it has calls at work.
        held = self.parallel + 1 if self.parallel > 1 else 1
        self._buffer = ClipBuffer(backend.spec, held) if self._stream is None else None

    @property
    def by_clip(self) -> bool:
        """Whether the backend gets clips."""
        return self._stream is None

    def next_input(self, planes: Planes) -> Planes:
        """What `raw` takes for the next frame, (3, H, W) as `preprocess` gives it: a clip, (1, 3, T, H, W), valid for
        `parallel` + 1 frames; or the planes themselves."""
        return planes if self._buffer is None else self._buffer.push(planes)[None]

    def raw(self, given: Planes, number: int) -> Float:
        """(A * (5 + C), rows, columns) for the frame of that number; of a stream one frame after the other.

        Where the engine raises, the frame has no answer. Clips behind it hold it all the same, as those of the video
        do; a stream, whose maps of that frame are not there, goes on as if the video did not have it.
        """
        if self._stream is not None:
            return self._stream.push(given)
        answers = self._backend.infer(given) if self._look is None else self._look(given, number)
        return np.asarray(answers[0], np.float32)

    def skip(self, given: Planes) -> None:
        """As `raw`, for a frame that gets no output."""
        if isinstance(self._stream, Skipping):
            self._stream.skip(given)
        elif self._stream is not None:
            self._stream.push(given)

    def reset(self) -> None:
        """Forget every frame: the next one is the first of a new video."""
        for each in (self._buffer, self._stream):
            if each is not None:
                each.reset()
