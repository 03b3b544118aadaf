"""Random training batches from annotated videos: decode, sample, augment."""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, islice
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from yowo_deploy.arrays import Float, Frame, Int
from yowo_deploy.boxes import xyxy_to_cxcywh
from yowo_deploy.datasets.base import AnnotatedVideo
from yowo_deploy.diagnostics.system_info import free_memory_bytes
from yowo_deploy.errors import DatasetError
from yowo_deploy.prefetch import map_ahead
from yowo_deploy.preprocess.frames import normalise
from yowo_deploy.spec import ModelSpec
from yowo_deploy.video.reader import open_video
from yowo_training.data.augmentation import draw_augmentation

_PARALLEL = 2**18  # numbers that torch divides among threads
_ROOM = 2 << 30  # bytes for frames where the free memory is unknown
WORKERS = 2  # threads that decode and augment; numpy and cv2 let them run side by side


class Sampling(Protocol):
    """How clips are drawn and augmented; a `Recipe` is one, see there."""

    @property
    def batch(self) -> int: ...
    @property
    def train_strides(self) -> tuple[int, ...]: ...
    @property
    def negatives(self) -> float: ...
    @property
    def jitter(self) -> float: ...
    @property
    def colour(self) -> float: ...


@dataclass(frozen=True)
class Batch:
    """The input of one training step.

    Attributes:
        clips: (B, 3, T, H, W) float32.
        targets: for each clip (N, 5): class, cx, cy, w, h relative to the input.
        luck: (B,) uniform in 0 to 1, for random choices per clip in training.
        epoch: from 0, of the last clip of this batch.
    """

    clips: Tensor
    targets: list[Tensor]
    luck: Tensor
    epoch: int


def batches(
    videos: Sequence[AnnotatedVideo],
    spec: ModelSpec,
    sampling: Sampling,
    seed: int,
    first: int = 0,
    share: tuple[int, int] = (0, 1),
    cache: FrameCache | None = None,
) -> Iterator[Batch]:
    """Endless batches: every epoch takes one random clip of each video, in random order.

    Each clip depends on the seed and its place in the order only, so that a run can resume anywhere and several
    processes can share it.

    Args:
        first: index of the first batch.
        share: (rank, processes); each has `batch` clips of every step, the first process the first ones.
        cache: of decoded frames, shared by the threads that make clips.

    Raises:
        DatasetError: there are no annotated videos, or one cannot be decoded.
    """
    annotated = [video for video in videos if video.tubes]
    if not annotated:
        raise DatasetError("no annotated video to train on")
    cv2.setNumThreads(1)  # this runs beside torch, and two pools of threads on the same cores wait for each other
    cache = cache or FrameCache()
    # A team of OpenMP threads beside the training's: with more threads than cores, libgomp puts those that wait to
    # sleep. One team spins, which beside the threads of this module made a training step three times as long.
    torch.zeros(_PARALLEL).exp_()
    rank, processes = share

    def made(place_and_clip: tuple[int, Float]) -> tuple[Tensor, float, int]:
        place, clip = place_and_clip
        epoch, index = divmod(place, len(annotated))
        rng = np.random.default_rng((seed, place))
        video = annotated[_order(seed, epoch, len(annotated))[index]]
        _, boxes = sample(video, spec, sampling, rng, cache, clip)
        return torch.from_numpy(boxes), rng.random(), epoch

    memory = _Memory((sampling.batch, 3, spec.clip_length, *spec.input_size[::-1]))
    started: deque[Tensor] = deque()  # batches whose clips are being made, each in its place: no copy

    def places() -> Iterator[tuple[int, Float]]:
        for number in count(first):
            started.append(memory.take())
            yield from enumerate(started[-1].numpy(), (number * processes + rank) * sampling.batch)

    clips = map_ahead(made, places(), WORKERS)
    while True:
        targets, luck, epochs = zip(*islice(clips, sampling.batch), strict=True)
        yield Batch(started.popleft(), list(targets), torch.tensor(luck), epochs[-1])


class _Memory:
    """Pool of batch memory, reused when no array refers to it: page faults took a third of a clip's time."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._free: list[Float] = []

    def take(self) -> Tensor:
        """An uninitialised tensor."""
        held = self._free.pop() if self._free else torch.empty(self._shape).numpy()
        window = held[...]  # views of the tensor keep this one alive
        weakref.finalize(window, self._free.append, held).atexit = False
        return torch.from_numpy(window)


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, videos: int) -> list[int]:
    return np.random.default_rng((seed, epoch, videos)).permutation(videos).tolist()  # type: ignore[no-any-return]


def sample(
    video: AnnotatedVideo,
    spec: ModelSpec,
    sampling: Sampling,
    rng: np.random.Generator,
    cache: FrameCache,
    out: Float | None = None,
) -> tuple[Float, Float]:
    """A random clip of a video, augmented: (3, T, H, W), in `out` if given; its boxes, (N, 5) class, cx, cy, w, h."""
    keys = _key_frames(video, rng.random() < sampling.negatives)
    key, stride = int(rng.choice(keys)), int(rng.choice(sampling.train_strides))
    while not (found := _clip_frames(video, key, spec.clip_length, stride, cache)):
        keys = keys[keys < key]  # the file ends before that clip: draw an earlier one
        if not len(keys):
            raise DatasetError(f"{video.path} ends before its first annotated frame, {key}")
        key = int(rng.choice(keys))
    frames, key = found
    frame_size = frames[0].shape[1], frames[0].shape[0]
    augmentation = draw_augmentation(
        rng, frame_size, spec.input_size, spec.resize_filter, sampling.jitter, sampling.colour
    )
    clip = np.empty((3, len(frames), *spec.input_size[::-1]), np.float32) if out is None else out
    for index, frame in enumerate(augmentation.frames(frames)):
        normalise(frame, spec, augmentation.gains_bgr, clip[:, index])
    boxes, class_id = video.at(key)
    measured_wh = video.size_wh or frame_size
    scale = np.array([frame_size[side] / measured_wh[side] for side in (0, 1)] * 2, np.float32)
    relative, visible = augmentation.boxes((boxes * scale).astype(np.float32))
    rows = np.column_stack([class_id.astype(np.float32), xyxy_to_cxcywh(relative)])
    return clip, rows[visible].astype(np.float32)


def _key_frames(video: AnnotatedVideo, negative: bool) -> Int:
    """Frames with boxes; or those without, if `negative` and there are any."""
    annotated = video.annotated_frames()
    bare = np.setdiff1d(np.arange(video.frames), annotated) if negative else annotated[:0]
    return bare if len(bare) else annotated


class FrameCache:
    """Cache of decoded videos, filled in the order of first use and never evicted.

    Attributes:
        held_bytes: of cached frames.

    Args:
        limit_bytes: of cached frames; a third of the free memory by default, shared with other processes of the team.
            Videos that do not fit are decoded at each use, without more memory than the clip; long ones should be
            folders of frames, which need not be read from the start.
    """

    def __init__(self, limit_bytes: int | None = None) -> None:
        self._limit, self.held_bytes = _room() if limit_bytes is None else limit_bytes, 0
        self._lock = threading.Lock()
        self._held: dict[str, list[Frame]] = {}

    def window(self, video: AnnotatedVideo, first: int, last: int) -> list[Frame]:
        """Frames `first` to `last` of a video, fewer where the file ends before."""
        if video.name not in self._held:
            with open_video(video.path, allow_damaged=True) as reader:
                size = 3 * math.prod(reader.size_wh) * max(reader.frames_declared, last + 1)
                if self.held_bytes + size > self._limit:
                    return list(reader.window(first, last))
                frames = list(reader)
            with self._lock:
                if video.name not in self._held:  # another thread may have been faster
                    self._held[video.name] = frames
                    self.held_bytes += sum(frame.nbytes for frame in frames)
        return self._held[video.name][first : last + 1]


def _room() -> int:
    free = free_memory_bytes()
    return _ROOM if free is None else free // (3 * int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _clip_frames(
    video: AnnotatedVideo, key: int, length: int, stride: int, cache: FrameCache
) -> tuple[list[Frame], int] | None:
    """The frames of the clip that ends at `key`; at the last frame there is, where the file ends before it.

    None where it ends before the clip begins.
    """
    first = max(0, key - (length - 1) * stride)
    frames = cache.window(video, first, key)
    if not frames:
        return None
    last = first + len(frames) - 1
    wanted = (max(first, last - back * stride) for back in reversed(range(length)))
    return [frames[index - first] for index in wanted], last
