"""Clips of videos, or made-up ones, for calibration and proof."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.arrays import Frame, Planes
from yowo_deploy.datasets import open_dataset, split_present
from yowo_deploy.errors import InputError, VideoError
from yowo_deploy.files import visible_files
from yowo_deploy.preprocess.frames import resize, to_planes
from yowo_deploy.spec import MAX_CLIP, ModelSpec
from yowo_deploy.video.reader import open_video
from yowo_deploy.video.suffixes import VIDEO_SUFFIXES, is_video

CANDIDATES = 2  # clips looked at for each that is taken, so that there is motion to choose from
MOST_CLIPS = 100_000


@dataclass(frozen=True)
class Clips:
    """Clips after the network's preprocessing, stored as uint8.

    Attributes:
        spec: of the model that reads them.
        frames: (T, height, width, 3) uint8 BGR of each clip, resized.
        sizes: (width, height) of the video that each is from.
        places: file and number of the key frame of each; none for made-up clips.
        videos: number of files that they are from.
        skipped: number of files that could not be read.
    """

    spec: ModelSpec
    frames: Sequence[NDArray[np.uint8]]
    sizes: Sequence[tuple[int, int]]
    places: Sequence[tuple[Path, int]]
    videos: int
    skipped: int

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[tuple[Planes, tuple[int, int]]]:
        """(3, T, H, W) as the model takes it and the video's (width, height), one after the other."""
        for index, size_wh in enumerate(self.sizes):
            yield self.clip(index), size_wh

    def clip(self, index: int) -> Planes:
        """One clip, (3, T, H, W) as the model takes it."""
        return np.stack([to_planes(frame, self.spec) for frame in self.frames[index]], axis=1)

    def some(self, count: int) -> Clips:
        """That many of the clips, evenly spaced."""
        picks = np.unique(np.linspace(0, len(self) - 1, count).round().astype(int))
        frames, sizes, places = ([kind[i] for i in picks if kind] for kind in (self.frames, self.sizes, self.places))
        return Clips(self.spec, frames, sizes, places, self.videos, self.skipped)

    def as_for(self, spec: ModelSpec) -> Clips:
        """The same clips after another model's preprocessing; its input and its clips have the same size.

        Raises:
            InputError: a video cannot be read any more.
        """
        frames: Sequence[NDArray[np.uint8]] = self.frames
        if spec.resize_filter != self.spec.resize_filter and self.places:
            keys: dict[Path, list[int]] = {}
            for file, key in self.places:
                keys.setdefault(file, []).append(key)
            read = {file: _clips_at(file, wanted, spec) for file, wanted in keys.items()}
            if gone := [file for file, key in self.places if key not in read[file]]:
                raise InputError(f"{gone[0]} has fewer frames than before: it changed while it was read, start again")
            frames = [read[file][key] for file, key in self.places]
        return replace(self, spec=spec, frames=frames)

    def sha256(self) -> str:
        """Hash of all pixels in their order."""
        digest = hashlib.sha256()
        for frames in self.frames:
            digest.update(np.ascontiguousarray(frames).data)
        return digest.hexdigest()


def take_clips(
    sources: Sequence[str | Path], spec: ModelSpec, count: int, on_video: Callable[[float], None] | None = None
) -> Clips:
    """Clips evenly spaced over videos and, among twice as many candidates, over the amount of motion.

    Args:
        sources: videos, folders that are searched for videos at any depth, and data.json, for its training videos.
        count: number of clips; fewer if the videos are too short.
        on_video: called with the fraction of the videos that is done.

    Raises:
        InputError: a source is not there, no video among them, or none that can be read.
    """
    _refuse_count(count, MOST_CLIPS)
    files = list(_videos(sources))
    if not files:
        searched, suffixes = ", ".join(map(str, sources)), ", ".join(VIDEO_SUFFIXES)
        raise InputError(f"no video ({suffixes}) in {searched}: give a video, or a folder that holds some")
    chosen = [files[i] for i in np.unique(np.linspace(0, len(files) - 1, CANDIDATES * count).round().astype(int))]
    each = -(-CANDIDATES * count // len(chosen))
    found: list[tuple[NDArray[np.uint8], tuple[int, int], tuple[Path, int]]] = []
    skipped: list[VideoError] = []
    for done, file in enumerate(chosen, 1):
        try:
            found += _clips_of(file, spec, each)
        except VideoError as error:
            skipped.append(error)
        if on_video:
            on_video(done / len(chosen))
    if not found:
        raise InputError(f"none of {len(chosen)} videos can be read, first: {skipped[0]}")
    by_motion = np.argsort([_motion(frames) for frames, _, _ in found], kind="stable")
    first = 0 if count > 1 else len(found) - 1  # a single clip is the one with most motion
    spread = np.linspace(first, len(found) - 1, count)
    taken = [found[by_motion[i]] for i in np.unique(spread.round().astype(int))]
    frames, sizes, places = zip(*taken, strict=True)
    return Clips(spec, frames, sizes, places, len(chosen) - len(skipped), len(skipped))


def made_up_clips(spec: ModelSpec, count: int, seed: int = 0) -> Clips:
    """Clips of blurred random pictures that drift, some slowly and some fast, for use without videos.

    Args:
        count: of clips; the same seed gives the same ones.
    """
    _refuse_count(count, min(MOST_CLIPS, max(1, 4 * MAX_CLIP // math.prod(spec.clip_shape))))
    rng = np.random.default_rng(seed)
    width, height = spec.input_size
    frames = []
    for number in range(count):
        coarse, speed = rng.integers(0, 256, (9, 12, 3), np.uint8), 0.5 * ((number + 6) % 16)
        large = resize(coarse, (2 * width, height), "bicubic")
        starts = [round(speed * t) % width for t in range(spec.clip_length)]
        frames.append(np.stack([large[:, start : start + width] for start in starts]))
    return Clips(spec, frames, [(320, 240)] * count, (), 0, 0)


def _refuse_count(count: int, most: int) -> None:
    if not 1 <= count <= most:
        raise InputError(f"{count} clips, expected 1 to {most}: give fewer")


def _videos(sources: Sequence[str | Path]) -> Iterator[Path]:
    for source in map(Path, sources):
        if source.is_dir():
            yield from filter(is_video, visible_files(source))
        elif source.suffix == ".json":
            present, _ = split_present(open_dataset(str(source)).videos("train"))
            yield from (video.path for video in present)
        elif source.exists():
            yield source
        else:
            raise InputError(f"calibration video not found: {source}")


def _clips_of(
    file: Path, spec: ModelSpec, count: int
) -> list[tuple[NDArray[np.uint8], tuple[int, int], tuple[Path, int]]]:
    """Clips at evenly spaced key frames of a video."""

    def spread(frames: int) -> list[int]:
        return np.unique(np.linspace(0, frames - 1, count + 2)[1:-1].round().astype(int)).tolist() if frames else []

    with open_video(file) as video:
        size_wh, keys = video.size_wh, spread(video.frames_declared)
    found = _clips_at(file, keys, spec)
    if len(found) < max(1, len(keys)):  # the declared number of frames is absent or wrong
        with open_video(file) as video:
            keys = spread(sum(1 for _ in video))
        found = _clips_at(file, keys, spec)
    if not found:
        raise VideoError(f"{file} holds no frame")
    return [(clip, size_wh, (file, key)) for key, clip in found.items()]


def _clips_at(file: Path, keys: Sequence[int], spec: ModelSpec) -> dict[int, NDArray[np.uint8]]:
    """The clips that end at these frames, by frame; without those beyond the end of the file.

    Before the first frame, the first one is repeated (`start_rule`). Memory: the clips, and one more.
    """
    back = spec.frame_stride * np.arange(spec.clip_length - 1, -1, -1)
    reads = {key: np.maximum(key - back, 0).tolist() for key in sorted(keys)}
    window: dict[int, Frame] = {}
    found = {}
    with open_video(file) as video:
        for index, frame in enumerate(islice(video, max(keys, default=-1) + 1)):
            if any(index in frames for frames in reads.values()):
                window[index] = resize(frame, spec.input_size, spec.resize_filter)
            if index in reads:
                found[index] = np.stack([window[number] for number in reads.pop(index)])
                earliest = min(min(frames) for frames in reads.values()) if reads else index
                window = {number: held for number, held in window.items() if number >= earliest}
    return found


def _motion(frames: NDArray[np.uint8]) -> float:
    """Mean change from the first frame to the last, in grey levels."""
    return float(np.abs(frames[-1].astype(np.int16) - frames[0]).mean())
