"""Random training batches from annotated videos: decode, sample, augment. Knows no network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import cv2
import numpy as np
import torch
from torch import Tensor

from yowo_deploy.boxes import Float, xyxy_to_cxcywh
from yowo_deploy.datasets.base import AnnotatedVideo
from yowo_deploy.errors import DatasetError
from yowo_deploy.preprocess import Frame, normalise
from yowo_deploy.spec import ModelSpec
from yowo_deploy.video import open_video
from yowo_training.augmentation import draw_augmentation
from yowo_training.recipes import Recipe


@dataclass(frozen=True)
class Batch:
    """One training step's worth.

    Attributes:
        clips: (B, 3, T, H, W) float32.
        targets: for each clip (N, 5): class, cx, cy, w, h relative to the input.
        epoch: how often every video had been seen before this batch began.
    """

    clips: Tensor
    targets: list[Tensor]
    epoch: int


def batches(videos: Sequence[AnnotatedVideo], spec: ModelSpec, recipe: Recipe, seed: int) -> Iterator[Batch]:
    """Batches without end: every epoch takes one random clip of each video, in random order.

    Raises:
        DatasetError: there are no annotated videos, or one cannot be decoded.
    """
    annotated = [video for video in videos if video.tubes]
    if not annotated:
        raise DatasetError("no annotated video to train on")
    cv2.setNumThreads(1)  # this runs beside torch, and two pools of threads on the same cores wait for each other
    rng, cache = np.random.default_rng(seed), FrameCache()
    order: list[int] = []
    epoch = -1
    while True:
        clips: list[Float] = []
        targets: list[Float] = []
        while len(clips) < recipe.batch:
            if not order:
                order, epoch = rng.permutation(len(annotated)).tolist(), epoch + 1
            clip, boxes = sample(annotated[order.pop()], spec, recipe, rng, cache)
            clips.append(clip)
            targets.append(boxes)
        yield Batch(torch.from_numpy(np.stack(clips)), [torch.from_numpy(t) for t in targets], epoch)


def sample(
    video: AnnotatedVideo, spec: ModelSpec, recipe: Recipe, rng: np.random.Generator, cache: FrameCache
) -> tuple[Float, Float]:
    """A random clip of a video, augmented: (3, T, H, W), and its boxes, (N, 5) class, cx, cy, w, h."""
    key = int(rng.choice(video.annotated_frames()))
    stride = int(rng.choice(recipe.train_strides))
    frames, key = _clip_frames(video, key, spec.clip_length, stride, cache)
    frame_size = frames[0].shape[1], frames[0].shape[0]
    augmentation = draw_augmentation(rng, frame_size, spec.input_size, spec.resize_filter, recipe.jitter, recipe.colour)
    clip = np.stack([normalise(augmentation.frame(frame), spec) for frame in frames], axis=1)
    boxes, class_id = video.at(key)
    measured_wh = video.size_wh or frame_size
    scale = np.array([frame_size[side] / measured_wh[side] for side in (0, 1)] * 2, np.float32)
    relative, visible = augmentation.boxes((boxes * scale).astype(np.float32))
    rows = np.column_stack([class_id.astype(np.float32), xyxy_to_cxcywh(relative)])
    return clip, rows[visible].astype(np.float32)


class FrameCache:
    """Decoded videos, kept as long as there is room; the first ones asked for stay.

    Args:
        limit_bytes: of frames held. A small data set fits and is decoded once; of a large one, what does not fit is
            decoded at each visit, up to the frame that is wanted.
    """

    def __init__(self, limit_bytes: int = 512 << 20) -> None:
        self._room = limit_bytes
        self._held: dict[str, list[Frame]] = {}

    def window(self, video: AnnotatedVideo, first: int, last: int) -> list[Frame]:
        """Frames `first` to `last` of a video, fewer where the file ends before."""
        if video.name not in self._held:
            if self._room <= 0:
                return _decode(video, last)[first:]
            self._held[video.name] = frames = _decode(video, None)
            self._room -= sum(frame.nbytes for frame in frames)
        return self._held[video.name][first : last + 1]


def _decode(video: AnnotatedVideo, last: int | None) -> list[Frame]:
    with open_video(video.path, allow_damaged=True) as reader:
        return list(islice(reader, None if last is None else last + 1))


def _clip_frames(
    video: AnnotatedVideo, key: int, length: int, stride: int, cache: FrameCache
) -> tuple[list[Frame], int]:
    """The frames of the clip that ends at `key`; at the last frame there is, where the file ends before it."""
    first = max(0, key - (length - 1) * stride)
    kept = cache.window(video, first, key)
    if not kept:
        raise DatasetError(f"{video.path} ends before frame {first}, its annotations reach frame {key}")
    last = first + len(kept) - 1
    wanted = (max(first, last - back * stride) for back in reversed(range(length)))
    return [kept[index - first] for index in wanted], last
