"""What is wrong with a data.json and its videos, and what of it can be mended safely. Knows no other format."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from yowo_deploy.boxes import Float, Int, Tube, paired_iou
from yowo_deploy.datasets.base import AnnotatedVideo, Split
from yowo_deploy.datasets.native import Annotations, load_json, read_annotations
from yowo_deploy.errors import VideoError
from yowo_deploy.video import VideoReader, open_video

SLACK = 1.0  # pixels by which a box may leave the picture: annotators round
MIN_TUBES = 5  # of a class to train on
JUMP_S = 0.25  # two boxes further apart in time say nothing of each other
JUMP_SIZES = 1.5  # diagonals of a box that a person moves at most from one frame to the next
UNEVEN = 0.02  # share of the steps of a video that may be longer or shorter than most ...
LONGER, ROUNDED_MS = 0.15, 2.0  # ... by this share, and by more than what containers round
FPS_SLACK = 0.01

Level = Literal["error", "warning"]


class Finding(NamedTuple):
    """One fault.

    Attributes:
        kind: of fault, one word or two.
        where: file and row.
        fault: what was found.
        remedy: what to do.
        mended: what `--fix` does about it; "" where nothing is safe.
    """

    level: Level
    kind: str
    where: str
    fault: str
    remedy: str
    mended: str = ""


class Probe(NamedTuple):
    """What decoding a video says."""

    frames: int
    fps: float
    size_wh: tuple[int, int]
    uneven: bool


@dataclass
class Checked:
    """The findings, and the annotations with everything mended that can be.

    Attributes:
        whole: every row could be read, so that nothing is lost by writing `mended`.
    """

    mended: Annotations
    findings: list[Finding] = field(default_factory=list)
    whole: bool = True


def check_data(path: Path, decode: bool = True, on_video: Callable[[int], None] | None = None) -> Checked:
    """Look at every row and every video.

    Args:
        decode: go through the videos frame by frame; else believe what their containers say.
        on_video: called with the number of videos that are done.

    Raises:
        InputError: no such file.
        DatasetError: it is no JSON, or of another format.
    """
    broken: list[tuple[str, str]] = []
    annotations = read_annotations(path, lambda where, fault: broken.append((where, fault)))
    remedy = "correct it, or import again: `yowo-deploy data import`"
    found = [Finding("error", "row", f"{path}: {where}", fault, remedy) for where, fault in broken]
    rows = _rows(path, {where for where, _ in broken})
    videos = []
    for number, video in enumerate(annotations.videos, 1):
        checker = _VideoCheck(path, video, rows.get(video.name, []), found)
        videos.append(checker.run(decode))
        if on_video:
            on_video(number)
    mended = replace(annotations, videos=tuple(videos))
    found += _findings_of_classes(path, mended)
    found += _findings_of_splits(path, mended)
    return Checked(mended, found, not broken)


def probe(path: Path, decode: bool = True) -> Probe:
    """Frames, rate, size and evenness of a video or a folder of frames.

    Raises:
        InputError: it is not there.
        VideoError: it cannot be read.
    """
    with open_video(path, allow_damaged=True) as reader:
        if not isinstance(reader, VideoReader) or not (decode or not reader.frames_declared):
            return Probe(reader.frames_declared, reader.fps, reader.size_wh, False)
        times = reader.times_ms()
        steps = np.diff(times)
        usual = np.median(steps) if len(steps) else 0.0
        uneven = int((np.abs(steps - usual) > max(LONGER * usual, ROUNDED_MS)).sum()) > max(1, UNEVEN * len(steps))
        # AVI has one rate and repeats frames, which are skipped here: a frame's number is what it was when annotated.
        return Probe(len(times), reader.fps, reader.size_wh, uneven and path.suffix.lower() != ".avi")


def _rows(path: Path, broken: set[str]) -> dict[str, list[int]]:
    """Which rows of the file are the tubes of a video, in their order; those that cannot be read left out."""
    rows = load_json(path).get("tubes")
    found: dict[str, list[int]] = {}
    for number, row in enumerate(rows if isinstance(rows, list) else []):
        if isinstance(row, dict) and f"tubes[{number}]" not in broken:
            found.setdefault(str(row.get("video")), []).append(number)
    return found


class _VideoCheck:
    """Goes through one video and mends it on the way."""

    def __init__(self, file: Path, video: AnnotatedVideo, rows: list[int], found: list[Finding]) -> None:
        self._file, self._video, self._rows, self._found = file, video, rows, found

    def run(self, decode: bool) -> AnnotatedVideo:
        """The video with everything mended that can be."""
        seen = self._look_at_file(decode)
        size_wh = self._video.size_wh or (seen.size_wh if seen else None)
        if self._video.tubes and size_wh is not None and self._check_unit(size_wh):
            self._check_corners(size_wh)
            self._check_outside(size_wh)
        if self._video.tubes and seen is not None:
            self._check_frames(seen.frames)
        self._check_jumps(self._video.fps or (seen.fps if seen else 25.0))
        self._video = replace(self._video, tubes=tuple(tube for tube in self._video.tubes if len(tube)))
        return self._video

    def _say(self, level: Level, kind: str, fault: str, remedy: str, mended: str = "", row: int | None = None) -> None:
        place = f"tubes[{self._rows[row]}]" if row is not None and row < len(self._rows) else "videos"
        where = f"{self._file}: {place}, {self._video.name}"
        self._found.append(Finding(level, kind, where, fault, remedy, mended))

    def _look_at_file(self, decode: bool) -> Probe | None:
        video = self._video
        if not video.path.exists():
            self._say("error", "absent video", f"{video.path} is not there", "import again with --videos FOLDER")
            return None
        try:
            seen = probe(video.path, decode)
        except VideoError as error:
            self._say("error", "unreadable video", str(error), "re-encode it, or take the video out")
            return None
        again = f"ffmpeg -i {video.path.name} -fps_mode cfr -r {seen.fps:g} even.mp4, and annotate that"
        if seen.uneven:
            self._say(
                "error", "uneven rate", f"{video.path} has a variable frame rate: its frames last unequally", again
            )
        if video.fps is not None and abs(video.fps / seen.fps - 1) > FPS_SLACK:
            fault = f"annotated at {video.fps:g} frames/s, {video.path} has {seen.fps:g}"
            self._say("error", "fps", fault, f"annotate this very file, or re-encode it: -r {video.fps:g}")
        if video.size_wh and min(video.size_wh) > 2 and not _same_shape(video.size_wh, seen.size_wh):
            sizes = [f"{width}x{height}" for width, height in (video.size_wh, seen.size_wh)]
            fault = f"annotated in {sizes[0]}, the file has {sizes[1]}: another shape"
            self._say("warning", "size", fault, "see with `yowo-deploy data preview` whether the boxes fit")
        if video.frames > seen.frames and not self._beyond(seen.frames):
            fault, mend = f"frames is {video.frames}, {video.path} has {seen.frames}", f"frames: {seen.frames}"
            self._say("warning", "length", fault, "correct it", mend)
            self._video = replace(video, frames=seen.frames)
        return seen

    def _beyond(self, frames: int) -> bool:
        return any(tube.frames[-1] >= frames for tube in self._video.tubes)

    def _change(self, boxes_of: Callable[[Tube], Float]) -> None:
        self._video = replace(self._video, tubes=tuple(replace(t, xyxy=boxes_of(t)) for t in self._video.tubes))

    def _check_unit(self, size_wh: tuple[int, int]) -> bool:
        """Shares of the picture where pixels are expected, and the other way round; whether corners mean pixels now."""
        largest = max(float(tube.xyxy.max()) for tube in self._video.tubes)
        if largest <= 1.5 and min(size_wh) > 2:
            fault = f"corners reach {largest:.3g} in a picture of {size_wh[0]}x{size_wh[1]}: normalised, not pixels"
            self._say("error", "normalised", fault, "multiply by the size", "multiplied by the size", 0)
            scale = np.tile(np.array(size_wh, np.float32), 2)
            self._change(lambda tube: tube.xyxy * scale)
        elif size_wh == (1, 1) and largest > 1.5:
            fault = f"corners reach {largest:.4g}, but size is [1, 1]: pixels, not normalised"
            self._say("error", "normalised", fault, "give the size of the video", row=0)
            return False
        return True

    def _check_corners(self, size_wh: tuple[int, int]) -> None:
        """x y width height where corners are expected, and corners whose size was added a second time."""
        boxes: Float = np.concatenate([tube.xyxy for tube in self._video.tubes])
        limit = np.array(size_wh) + SLACK
        upside = (boxes[:, 2:] < boxes[:, :2]).any(axis=1)
        leaving = (boxes[:, 2:] > limit).any(axis=1)
        row = next((i for i, t in enumerate(self._video.tubes) if (t.xyxy[:, 2:] < t.xyxy[:, :2]).any()), 0)
        # A box or two the wrong way round say nothing of the others, which fit as x y width height far up and left.
        if (
            upside.sum() >= min(3, len(boxes))
            and (boxes[:, 2:] > 0).all()
            and (boxes[:, :2] + boxes[:, 2:] <= limit).all()
        ):
            fault = f"{int(upside.sum())} boxes end before they begin, and all fit as x y width height"
            self._say("error", "xywh", fault, "write corners, x1 y1 x2 y2", "taken for x y width height", row)
            self._change(lambda tube: np.concatenate([tube.xyxy[:, :2], tube.xyxy[:, :2] + tube.xyxy[:, 2:]], axis=1))
        elif upside.any():
            fault = f"{int(upside.sum())} boxes end before they begin"
            self._say("error", "corners", fault, "write x1 y1 x2 y2", "corners put in order", row)
            self._change(lambda tube: np.sort(tube.xyxy.reshape(-1, 2, 2), axis=1).reshape(-1, 4))
        elif leaving.mean() > 0.5 and (boxes[:, 2:] >= 2 * boxes[:, :2]).all():
            fault = (
                f"{int(leaving.sum())} of {len(boxes)} boxes leave the picture, and all fit if x1 y1 was added to x2 y2"
            )
            self._say(
                "error",
                "xywh",
                fault,
                "the file said corners where it was read as x y width height: import again",
                row=0,
            )

    def _check_outside(self, size_wh: tuple[int, int]) -> None:
        limit = np.tile(np.array(size_wh, np.float32), 2)
        slack = SLACK if min(size_wh) > 100 else 0.01 * max(size_wh)
        for row, tube in enumerate(self._video.tubes):
            outside = ((tube.xyxy < -slack) | (tube.xyxy > limit + slack)).any(axis=1)
            if outside.any():
                at = int(np.argmax(outside))
                corners = " ".join(f"{value:g}" for value in tube.xyxy[at])
                place = f"first in frame {tube.frames[at]}: {corners}"
                fault = f"{int(outside.sum())} boxes leave {size_wh[0]}x{size_wh[1]}, {place}"
                self._say("error", "outside", fault, "cut them at the edge", "cut at the edge, or left out", row)
            flat = (_sides(tube.xyxy) <= 0).any(axis=1)
            if flat.any():
                fault = f"{int(flat.sum())} boxes have no area, first in frame {tube.frames[int(np.argmax(flat))]}"
                self._say("error", "empty box", fault, "draw them, or leave them out", "left out", row)
        self._video = replace(self._video, tubes=tuple(_cut(tube, limit) for tube in self._video.tubes))

    def _check_frames(self, frames: int) -> None:
        """Frames that the video does not have: counted from 1, or beyond its end."""
        tubes = [tube for tube in self._video.tubes if len(tube)]
        if not tubes or not any(tube.frames[-1] >= frames for tube in tubes):
            return
        first, last = min(int(t.frames[0]) for t in tubes), max(int(t.frames[-1]) for t in tubes)
        row = next(i for i, tube in enumerate(self._video.tubes) if len(tube) and tube.frames[-1] >= frames)
        if first >= 1 and last == frames:
            fault = f"annotated from frame {first} to {last} of {frames}: counted from 1, not from 0"
            self._say("error", "off by one", fault, "take 1 off every frame", "1 taken off every frame", row)
            self._video = replace(self._video, tubes=tuple(replace(t, frames=t.frames - 1) for t in self._video.tubes))
        else:
            fault = f"annotated up to frame {last}, but {self._video.path} ends with frame {frames - 1}"
            self._say("error", "beyond the end", fault, "annotate this very file", "left out what lies beyond", row)
            self._video = replace(self._video, tubes=tuple(_rows_of(t, t.frames < frames) for t in self._video.tubes))
        self._video = replace(self._video, frames=frames)

    def _check_jumps(self, fps: float) -> None:
        for row, tube in enumerate(self._video.tubes):
            jumps = _jumps(tube, fps)
            if len(jumps):
                at = int(jumps[0])
                fault = f"{len(jumps)} jumps, first from frame {tube.frames[at]} to {tube.frames[at + 1]}"
                self._say("warning", "jump", fault, "is it one person? give the second another track", row=row)


def _jumps(tube: Tube, fps: float) -> Int:
    """Places in a tube after which the box is suddenly somewhere else."""
    before, after = tube.xyxy[:-1], tube.xyxy[1:]
    gap = np.diff(tube.frames)
    moved = np.linalg.norm((after[:, :2] + after[:, 2:] - before[:, :2] - before[:, 2:]) / 2, axis=1)
    size = np.maximum(*(np.linalg.norm(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (before, after)))
    apart = paired_iou(before, after) == 0
    return np.flatnonzero(apart & (moved > JUMP_SIZES * size * gap) & (gap <= max(1, JUMP_S * fps)))


def _sides(boxes_xyxy: Float) -> Float:
    return np.asarray(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], np.float32)


def _cut(tube: Tube, limit: Float) -> Tube:
    """Within the picture, without what has no area there."""
    inside = np.clip(tube.xyxy, 0, limit)
    return _rows_of(replace(tube, xyxy=inside), (_sides(inside) > 0).all(axis=1))


def _rows_of(tube: Tube, keep: Any) -> Tube:
    return tube if keep.all() else replace(tube, frames=tube.frames[keep], xyxy=tube.xyxy[keep])


def _same_shape(size_wh: tuple[int, int], other_wh: tuple[int, int]) -> bool:
    """Whether one is the other scaled, to 5 %, or is counted in percent; UCF101-24's own videos differ by 0.4 %."""
    return size_wh == (100, 100) or abs(size_wh[0] * other_wh[1] / (size_wh[1] * other_wh[0]) - 1) < 0.05


def _findings_of_classes(path: Path, data: Annotations) -> Iterator[Finding]:
    alike: dict[str, str] = {}
    for name in data.classes:
        plain = name.strip().lower().replace(" ", "_").replace("-", "_")
        if plain in alike:
            fault = f"{alike[plain]!r} and {name!r} are two classes"
            yield Finding("warning", "class names", f"{path}: classes", fault, "one name for one action")
        alike.setdefault(plain, name)
    known = set(data.splits[0].get("train", ())) if data.splits else {video.name for video in data.videos}
    for number, count in enumerate(_tubes_by_class(data, known)):
        if count < MIN_TUBES:
            fault = f"{data.classes[number]!r} has {count} tubes to train on"
            yield Finding("warning", "few tubes", f"{path}: classes[{number}]", fault, f"annotate {MIN_TUBES} or more")


def _tubes_by_class(data: Annotations, names: set[str]) -> list[int]:
    counts = Counter(tube.class_id for video in data.videos if video.name in names for tube in video.tubes)
    return [counts[number] for number in range(len(data.classes))]


def _findings_of_splits(path: Path, data: Annotations) -> Iterator[Finding]:
    videos = {video.name: video for video in data.videos}
    for number, sides in enumerate(data.splits):
        train, test = (set(sides.get(side, ())) for side in ("train", "test"))
        if not train or not test:
            continue
        where = f"{path}: splits[{number}]"
        in_train, in_test = _tubes_by_class(data, train), _tubes_by_class(data, test)
        for name, counts in zip(data.classes, zip(in_train, in_test, strict=True), strict=True):
            for side, count, other in (("train", *counts), ("test", *reversed(counts))):
                if not count and other:
                    fault = f"class {name!r} is missing from {side}"
                    level: Level = "error" if side == "train" else "warning"  # what is not tested can be learnt
                    yield Finding(level, "split", where, fault, "move or annotate a video with it")
        for kind, of in (("recording", lambda v: v.group), ("file", lambda v: _fingerprint(v.path))):
            on_side: dict[Split, dict[str, str]] = {
                "train": {of(videos[name]): name for name in sorted(train)},
                "test": {of(videos[name]): name for name in sorted(test)},
            }
            for same in sorted(set(on_side["train"]) & set(on_side["test"])):
                if same:
                    fault = (
                        f"{on_side['train'][same]} (train) and {on_side['test'][same]} (test) are of the same {kind}"
                    )
                    yield Finding("error", "leak", where, fault, "put both on one side")


def _fingerprint(path: Path) -> str:
    """Of a file's length and first megabyte; "" where there is no file."""
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        return f"{path.stat().st_size} {hashlib.sha256(stream.read(1 << 20)).hexdigest()}"
