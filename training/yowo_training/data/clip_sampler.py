"""Random training batches from annotated videos: decode, sample, augment."""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
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
from yowo_training.data.actors import Actors, Silhouettes, draw_placement, paste, still_seen
from yowo_training.data.augmentation import Place, draw_augmentation, draw_places
from yowo_training.loss import IGNORED, UNKNOWN

_PARALLEL = 2**18  # numbers that torch divides among threads
_ROOM = 2 << 30  # bytes for frames where the free memory is unknown
BACKWARDS = 0.5  # of the clips whose actions may be played so
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
    @property
    def mosaic(self) -> float: ...
    @property
    def zoom(self) -> float: ...
    @property
    def late_starts(self) -> float: ...
    @property
    def paste(self) -> float: ...
    @property
    def backwards(self) -> tuple[tuple[str, str], ...]: ...


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
    silhouettes: Silhouettes | None = None,
) -> Iterator[Batch]:
    """Endless batches: every epoch takes one random clip of each video, in random order.

    Each clip depends on the seed and its place in the order only, so that a run can resume anywhere and several
    processes can share it. Of a mosaic the first tile is the video whose turn it is.

    Args:
        first: index of the first batch.
        share: (rank, processes); each has `batch` clips of every step, the first process the first ones.
        cache: of decoded frames, shared by the threads that make clips.
        silhouettes: of actors that are pasted over other clips; none are pasted by default.

    Raises:
        DatasetError: there are no annotated videos, or one cannot be decoded; or none of them has silhouettes.
    """
    annotated = [video for video in videos if not video.tubes or any(tube.class_id != IGNORED for tube in video.tubes)]
    if not any(video.tubes for video in annotated):
        raise DatasetError("no annotated video to train on")
    cv2.setNumThreads(1)  # this runs beside torch, and two pools of threads on the same cores wait for each other
    cache = cache or FrameCache()
    actors = Actors.among(annotated, silhouettes) if silhouettes and sampling.paste else None
    # A team of OpenMP threads beside the training's: with more threads than cores, libgomp puts those that wait to
    # sleep. One team spins, which beside the threads of this module made a training step three times as long.
    torch.zeros(_PARALLEL).exp_()
    rank, processes = share

    def made(place_and_clip: tuple[int, Float]) -> tuple[Tensor, float, int]:
        place, clip = place_and_clip
        epoch, index = divmod(place, len(annotated))
        rng = np.random.default_rng((seed, place))
        video = annotated[_order(seed, epoch, len(annotated))[index]]
        _, boxes = sample(video, spec, sampling, rng, cache, clip, annotated, actors)
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
    others: Sequence[AnnotatedVideo] = (),
    actors: Actors | None = None,
) -> tuple[Float, Float]:
    """A random clip of a video, augmented: (3, T, H, W), in `out` if given; its boxes, (N, 5) class, cx, cy, w, h.

    Boxes of which the crop, or a pasted actor, leaves too little are `IGNORED`.

    Args:
        others: from which the other tiles of mosaics are drawn; none: no mosaics.
        actors: to paste; none are pasted by default.
    """
    width, height = spec.input_size
    clip = np.empty((3, spec.clip_length, height, width), np.float32) if out is None else out
    places: list[Place] = [(0, 0, width, height)]
    if others and sampling.mosaic and rng.random() < sampling.mosaic:
        places = draw_places(rng, spec.input_size)
    parts = []
    for number, (left, top, right, bottom) in enumerate(places):
        shown = others[int(rng.integers(len(others)))] if number else video
        rows = _fill(clip[:, :, top:bottom, left:right], shown, spec, sampling, rng, cache, actors)
        scale = np.array([right - left, bottom - top], np.float32) / spec.input_size
        rows[:, 1:] = rows[:, 1:] * np.tile(scale, 2) + [left / width, top / height, 0, 0]
        parts.append(rows)
    return clip, np.concatenate(parts).astype(np.float32)


def _fill(
    window: Float,
    video: AnnotatedVideo,
    spec: ModelSpec,
    sampling: Sampling,
    rng: np.random.Generator,
    cache: FrameCache,
    actors: Actors | None,
) -> Float:
    """Fill (3, T, h, w) with a random clip of a video; the boxes, relative to the window."""
    drawn = _draw(video, spec, sampling, rng, cache, rng.random() < sampling.negatives)
    if actors is not None and rng.random() < sampling.paste:
        drawn = _with_an_actor(drawn, spec, sampling, rng, cache, actors)
    frame_size = drawn.frames[0].shape[1], drawn.frames[0].shape[0]
    boxes, class_id = drawn.boxes, drawn.class_id
    height, width = window.shape[2:]
    # The square root shares what is odd in a tile's shape: people are stretched by up to 1.4, and crops lose as much.
    aspect = math.sqrt(width / height * spec.input_size[1] / spec.input_size[0])
    targets = boxes[class_id != IGNORED]
    around = targets[int(rng.integers(len(targets)))] if len(targets) and (sampling.zoom < 1 or aspect != 1) else None
    augmentation = draw_augmentation(
        rng,
        frame_size,
        (width, height),
        spec.resize_filter,
        sampling.jitter,
        sampling.colour,
        sampling.zoom,
        aspect,
        around,
    )
    for index, frame in enumerate(augmentation.frames(drawn.frames)):
        normalise(frame, spec, augmentation.gains_bgr, window[:, index])
    relative, visible = augmentation.boxes(boxes)
    rows = np.column_stack([np.where(visible, class_id, IGNORED), xyxy_to_cxcywh(relative)])
    left: Float = rows[visible | (rows[:, 3:].min(axis=1) > 0)].astype(np.float32)
    return left


@dataclass(frozen=True)
class _Drawn:
    """The frames of a clip, their numbers, and the boxes of the last one in its pixels."""

    frames: list[Frame]
    numbers: list[int]
    boxes: Float
    class_id: Int


def _draw(
    video: AnnotatedVideo,
    spec: ModelSpec,
    sampling: Sampling,
    rng: np.random.Generator,
    cache: FrameCache,
    negative: bool = False,
) -> _Drawn:
    """A random clip of a video; see `_key_frames`."""
    keys = _key_frames(video, negative)
    key, stride = int(rng.choice(keys)), int(rng.choice(sampling.train_strides))
    reach = (spec.clip_length - 1) * stride
    undone = _undone(video, spec, sampling.backwards) if sampling.backwards else {}
    backwards = bool(undone) and bool(rng.random() < BACKWARDS)
    if sampling.late_starts and rng.random() < sampling.late_starts:
        reach = int(rng.integers(0, reach + 1))
    while not (found := _clip_frames(video, key, spec.clip_length, stride, cache, reach, backwards)):
        keys = keys[keys < key]  # the file ends before that clip: draw an earlier one
        if not len(keys):
            raise DatasetError(f"{video.path} ends before its first annotated frame, {key}")
        key = int(rng.choice(keys))
    frames, numbers = found
    height, width = frames[0].shape[:2]
    measured_wh = video.size_wh or (width, height)
    boxes, class_id = video.at(numbers[-1])
    if backwards:
        class_id = np.array([undone[label] for label in class_id.tolist()], np.int64)
    scale = np.array([width / measured_wh[0], height / measured_wh[1]] * 2, np.float32)
    return _Drawn(frames, numbers, (boxes * scale).astype(np.float32), class_id)


def _undone(video: AnnotatedVideo, spec: ModelSpec, backwards: Sequence[tuple[str, str]]) -> dict[int, int]:
    """The class of each person of a video when it is played backwards; empty where an action has no class then."""
    place = {label: class_id for class_id, label in enumerate(spec.labels)}
    classes = {place[action]: place[other] for action, other in backwards if {action, other} <= place.keys()}
    classes |= {UNKNOWN: UNKNOWN, IGNORED: IGNORED}
    found = {tube.class_id for tube in video.tubes}
    return {label: classes[label] for label in found} if found <= classes.keys() else {}


def _with_an_actor(
    host: _Drawn, spec: ModelSpec, sampling: Sampling, rng: np.random.Generator, cache: FrameCache, actors: Actors
) -> _Drawn:
    """The clip with the actor of another clip in front, through all its frames."""
    video = actors.videos[int(rng.integers(len(actors.videos)))]
    donor = _draw(video, spec, sampling, rng, cache)
    if not len(donor.boxes):  # the file ends before the actor comes
        return host
    sizes = [(frame.shape[1], frame.shape[0]) for frame in (donor.frames[-1], host.frames[-1])]
    placement = draw_placement(rng, donor.boxes[0], *sizes)
    masks = actors.silhouettes.of(video.name, donor.numbers)
    frames, covered = paste(host.frames, donor.frames, masks, placement)
    boxes = np.concatenate([host.boxes, placement.boxes(donor.boxes[:1])])
    seen = still_seen(host.boxes, host.class_id, covered)
    return _Drawn(frames, host.numbers, boxes, np.append(seen, donor.class_id[:1]))


def _key_frames(video: AnnotatedVideo, negative: bool) -> Int:
    """Frames with boxes that are targets; or those without any boxes, if `negative` or in an empty scene."""
    if not video.tubes:
        return np.arange(video.frames)
    targets = replace(video, tubes=tuple(tube for tube in video.tubes if tube.class_id != IGNORED))
    annotated = targets.annotated_frames()
    bare = np.setdiff1d(np.arange(video.frames), video.annotated_frames()) if negative else annotated[:0]
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
        """Frames `first` to `last` of a video, each (H, W, 3) uint8 BGR; fewer if the file ends before.

        Args:
            video: opened at its path, damaged or not.
            first, last: numbers of frames, the last one included.

        Raises:
            VideoError: it cannot be opened.
        """
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
    video: AnnotatedVideo, key: int, length: int, stride: int, cache: FrameCache, reach: int, backwards: bool
) -> tuple[list[Frame], list[int]] | None:
    """The frames of the clip that ends at `key`, and their numbers; a shorter file's clip ends at its last frame.

    None where the file ends before the clip begins.

    Args:
        reach: frames before the key frame that the clip sees; the first of them stands for those before it.
        backwards: the frames that follow the key frame, played backwards.
    """
    first, end = (key, key + reach) if backwards else (max(0, key - reach), key)
    frames = cache.window(video, first, end)
    if not frames:
        return None
    last, steps = first + len(frames) - 1, [back * stride for back in reversed(range(length))]
    wanted = [min(last, first + step) if backwards else max(first, last - step) for step in steps]
    return [frames[index - first] for index in wanted], wanted
