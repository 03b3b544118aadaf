"""Check one annotated video, and correct what can be corrected safely.

A correction is safe where the fault has one explanation. Where it has two, it is reported and left as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.arrays import Float, Int
from yowo_deploy.boxes import Tube, paired_iou
from yowo_deploy.datasets.base import AnnotatedVideo
from yowo_deploy.errors import InputError
from yowo_deploy.video.reader import VideoReader, open_video

SLACK = 1.0  # pixels by which a box may leave the picture: annotators round
FEW = 3  # boxes, of which fewer are no evidence of how a file writes its boxes
XYWH = 0.25  # share of boxes that end before they begin, from which all are taken for x y width height
MOST = 0.5  # share of boxes, above which a fault is that of the file and not of these boxes
JUMP_S = 0.25  # two boxes further apart in time are not compared
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
    """Facts of a video, by decoding it."""

    frames: int
    fps: float
    size_wh: tuple[int, int]
    uneven: bool


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


class Rows(NamedTuple):
    """Of a file: which of `videos` a video is, and which of `tubes` its tubes are."""

    video: int
    tubes: list[int]


class VideoCheck:
    """Goes through one video and mends it on the way.

    Args:
        file: the data.json, for messages.
        found: takes the findings.
        from_0: frames of another video of the file are counted from 0.
    """

    def __init__(self, file: Path, video: AnnotatedVideo, rows: Rows, found: list[Finding], from_0: bool) -> None:
        self._file, self._video, self._rows, self._found, self._from_0 = file, video, rows, found, from_0

    def run(self, decode: bool) -> AnnotatedVideo:
        """The video with everything mended that can be."""
        seen = self._look_at_file(decode)
        size_wh = self._video.size_wh or (seen.size_wh if seen else None)
        if self._video.tubes and size_wh is not None and self._check_unit(size_wh):
            self._check_outside(size_wh, self._check_corners(size_wh))
        if seen is not None:
            self._check_frames(seen.frames)
        self._check_jumps(self._video.fps or (seen.fps if seen else 25.0))
        self._video = replace(self._video, tubes=tuple(tube for tube in self._video.tubes if len(tube)))
        return self._video

    def _say(self, level: Level, kind: str, fault: str, remedy: str, mended: str = "", row: int | None = None) -> None:
        place = f"videos[{self._rows.video}]" if row is None else f"tubes[{self._rows.tubes[row]}]"
        where = f"{self._file}: {place}, {self._video.name}"
        self._found.append(Finding(level, kind, where, fault, remedy, mended))

    def _look_at_file(self, decode: bool) -> Probe | None:
        video = self._video
        if not video.path.exists():
            self._say("error", "absent video", f"{video.path} is not there", "import again with --videos FOLDER")
            return None
        try:
            seen = probe(video.path, decode)
        except InputError as error:  # an empty file, too
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
        judged = self._video.judged is not None and (self._video.judged >= frames).any()
        return bool(judged) or any(len(t) and t.frames[-1] >= frames for t in self._video.tubes)

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

    def _check_corners(self, size_wh: tuple[int, int]) -> bool:
        """x y width height where corners are expected, and corners whose size was added a second time.

        Returns:
            Whether corners are known to mean corners now, but for those that end before they begin.
        """
        boxes: Float = np.concatenate([tube.xyxy for tube in self._video.tubes])
        limit = np.array(size_wh) + SLACK
        upside, leaving = _upside(boxes), (boxes[:, 2:] > limit).any(axis=1)
        fits = bool((boxes[:, 2:] > 0).all() and (boxes[:, :2] + boxes[:, 2:] <= limit).all())
        row = next((i for i, t in enumerate(self._video.tubes) if _upside(t.xyxy).any()), 0)
        fault, remedy = f"{int(upside.sum())} of {len(boxes)} boxes end before they begin", "write x1 y1 x2 y2"
        # Boxes far up and left fit as x y width height too: a few the wrong way round are no evidence about the others.
        if fits and upside.sum() >= FEW and upside.mean() >= XYWH:
            fault += ", and all fit as x y width height"
            self._say("error", "xywh", fault, remedy, "taken for x y width height", row)
            self._change(lambda tube: np.concatenate([tube.xyxy[:, :2], tube.xyxy[:, :2] + tube.xyxy[:, 2:]], axis=1))
        elif upside.any() and fits:
            fault += ", and all fit as x y width height as well as with their corners put in order"
            self._say("error", "corners", fault, "see with `yowo-deploy data preview` which it is", row=row)
        elif upside.any():
            self._say("error", "corners", fault, remedy, "corners put in order", row)
            self._change(lambda tube: np.sort(tube.xyxy.reshape(-1, 2, 2), axis=1).reshape(-1, 4))
        elif leaving.mean() > MOST and (boxes[:, 2:] >= 2 * boxes[:, :2]).all():
            fault = f"{int(leaving.sum())} of {len(boxes)} boxes leave the picture"
            remedy = "the file has corners, but was read as x y width height: import it again"
            self._say("error", "xywh", f"{fault}, and all fit if x1 y1 was added to x2 y2", remedy, row=0)
            return False
        return True

    def _check_outside(self, size_wh: tuple[int, int], known: bool) -> None:
        """Boxes that leave the picture or have no area; `_check_corners` reports those that end before they begin.

        Args:
            known: that corners are corners. Else, and where most boxes leave the picture, nothing is cut.
        """
        limit = np.tile(np.array(size_wh, np.float32), 2)
        slack = SLACK if min(size_wh) > 100 else 0.01 * max(size_wh)
        leaving: list[NDArray[np.bool_]] = [
            np.array(((t.xyxy < -slack) | (t.xyxy > limit + slack)).any(axis=1)) for t in self._video.tubes
        ]
        cut = bool(known and np.concatenate(leaving).mean() <= MOST)
        mended, tubes = ("cut at the edge, or left out" if cut else ""), []
        remedy = "cut them at the edge" if cut else f"are they in pixels of {size_wh[0]}x{size_wh[1]}?"
        for row, (tube, outside) in enumerate(zip(self._video.tubes, leaving, strict=True)):
            if outside.any():
                at = int(np.argmax(outside))
                corners = " ".join(f"{value:g}" for value in tube.xyxy[at])
                place = f"first in frame {tube.frames[at]}: {corners}"
                fault = f"{int(outside.sum())} boxes leave {size_wh[0]}x{size_wh[1]}, {place}"
                self._say("error", "outside", fault, remedy, mended, row)
            flat = _flat(tube.xyxy)
            if flat.any():
                fault = f"{int(flat.sum())} boxes have no area, first in frame {tube.frames[int(np.argmax(flat))]}"
                self._say("error", "empty box", fault, "draw them, or leave them out", "left out", row)
            inside = np.where(outside[:, None] & cut, np.clip(tube.xyxy, 0, limit), tube.xyxy)
            tubes.append(_rows_of(replace(tube, xyxy=inside.astype(np.float32)), ~_flat(inside)))
        self._video = replace(self._video, tubes=tuple(tubes))

    def _check_frames(self, frames: int) -> None:
        """Frames that the video does not have: counted from 1, or beyond its end."""
        video = self._video
        if not self._beyond(frames):
            return
        numbered = [(row, tube) for row, tube in enumerate(video.tubes) if len(tube)]
        first = min((int(tube.frames[0]) for _, tube in numbered), default=0)
        last = max((int(tube.frames[-1]) for _, tube in numbered), default=-1)
        row = next((row for row, tube in numbered if tube.frames[-1] >= frames), None)
        if first >= 1 and last == frames:
            fault = f"annotated from frame {first} to {last} of {frames}: counted from 1, not from 0"
            # From the first frame to the last one there is no other explanation; else it may be of a longer video.
            sure = first == 1 and not self._from_0
            remedy = "take 1 off every frame" if sure else f"import again if so, else take frame {last} out"
            self._say("error", "off by one", fault, remedy, "1 taken off every frame" if sure else "", row)
            if sure:
                self._keep_frames(-1, frames)
        else:
            last = max(last, int(video.judged[-1]) if video.judged is not None and len(video.judged) else last)
            fault = f"annotated up to frame {last}, but {video.path} ends with frame {frames - 1}"
            beyond = [tube.frames >= frames for _, tube in numbered]
            most = bool(beyond and np.concatenate(beyond).mean() > MOST)  # of another file, or counted otherwise
            mended = "" if most else "left out what lies beyond"
            self._say("error", "beyond the end", fault, "annotate this very file", mended, row)
            if not most:
                self._keep_frames(0, frames)

    def _keep_frames(self, shift: int, frames: int) -> None:
        """Move boxes and judged frames, and leave out what the video does not have."""
        moved = [replace(tube, frames=tube.frames + shift) for tube in self._video.tubes]
        tubes = tuple(_rows_of(tube, tube.frames < frames) for tube in moved)
        judged = self._video.judged
        if judged is not None:
            judged = judged[(judged + shift >= 0) & (judged + shift < frames)] + shift
        self._video = replace(self._video, tubes=tubes, judged=judged, frames=frames)

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


def _upside(boxes_xyxy: Float) -> NDArray[np.bool_]:
    return np.array((boxes_xyxy[:, 2:] < boxes_xyxy[:, :2]).any(axis=1))


def _flat(boxes_xyxy: Float) -> NDArray[np.bool_]:
    return np.array((boxes_xyxy[:, 2:] == boxes_xyxy[:, :2]).any(axis=1)) & ~_upside(boxes_xyxy)


def _rows_of(tube: Tube, keep: NDArray[np.bool_]) -> Tube:
    return tube if keep.all() else replace(tube, frames=tube.frames[keep], xyxy=tube.xyxy[keep])


def _same_shape(size_wh: tuple[int, int], other_wh: tuple[int, int]) -> bool:
    """Whether one is the other scaled, to 5 %, or is counted in percent; UCF101-24's own videos differ by 0.4 %."""
    return size_wh == (100, 100) or abs(size_wh[0] * other_wh[1] / (size_wh[1] * other_wh[0]) - 1) < 0.05
