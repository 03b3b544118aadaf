"""Match detections with ground truth by the names of videos, frames and classes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from yowo_deploy.arrays import Int
from yowo_deploy.datasets.box_table import FRAMES, BoxTable, class_ids
from yowo_deploy.errors import DatasetError
from yowo_deploy.metrics.frame_ap import FrameBoxes

MAX_CLASSES = 100_000
COUNT_AS_WRONG = "detections in frames without ground truth, which count as wrong"


@dataclass(frozen=True)
class Matched:
    """Detections and ground truth with the same numbers for the same names.

    Attributes:
        detections, truth: what can be compared.
        truth_tube: (N,) see `BoxTable.tube`.
        labels: class names by class id.
        videos: names by video number.
        lengths: frames of each video by name, where the truth has them.
        notes: what could not be compared, one sentence each.
    """

    detections: FrameBoxes
    truth: FrameBoxes
    truth_tube: Int
    labels: tuple[str, ...]
    videos: tuple[str, ...]
    lengths: dict[str, int]
    notes: tuple[str, ...]


def match(
    detections: BoxTable,
    truth: BoxTable,
    classes: int | None = None,
    named: Collection[tuple[str, float]] | None = None,
) -> Matched:
    """Bring two tables together by the names of videos, frames and classes.

    Detections of videos that the truth does not know are left out. Those in frames without ground truth stay: they are
    wrong, as published figures count them. Both are noted, and videos without any detection.

    Args:
        classes: how many there are, where they are numbers and the truth does not declare them; by default the largest
            number in the truth.
        named: by AVA's rules, video and second of the frames that are judged; detections in others are left out.

    Raises:
        DatasetError: a detection of a class that does not exist, or no video that both tables know.
    """
    labels = _labels(truth, classes)
    ticks = max(detections.ticks, truth.ticks)
    detections.check_frames(truth.lengths)
    videos = tuple(dict.fromkeys((*truth.videos, *truth.lengths, *(video for video, _ in sorted(named or ())))))
    ordered = bool(truth.labels) or labels[0] == "1"
    number_of = {name: number for number, name in enumerate(videos)}
    moved, frame_boxes = [], []
    for table in (truth, detections):
        video = np.array([number_of.get(name, -1) for name in table.videos], np.int64)[table.video]
        keys = np.where(video < 0, -1, video * FRAMES + table.frame * (ticks // table.ticks))
        moved.append(keys)
        frame_boxes.append(FrameBoxes(keys, class_ids(table, labels, ordered), table.xyxy, table.score))
    of_truth, of_detections = moved
    known = of_detections >= 0
    if len(known) and not known.any():
        first = detections.videos[0], truth.videos[0]
        raise DatasetError(
            f"no video is in both: {detections.source} has {first[0]!r}, {truth.source} has {first[1]!r}"
        )
    notes = []
    if named is not None:
        judged = [number_of[video] * FRAMES + round(second * ticks) for video, second in named]
        strays = known & ~np.isin(of_detections, judged)
        notes = [f"{strays.sum()} detections in frames that no row of the truth names left out"] if strays.any() else []
        known &= ~strays
    lonely = int((known & ~np.isin(of_detections, of_truth)).sum())
    notes += _notes(detections, truth, videos, lonely)
    return Matched(frame_boxes[1].rows(known), frame_boxes[0], truth.tube, labels, videos, truth.lengths, tuple(notes))


def _labels(truth: BoxTable, classes: int | None) -> tuple[str, ...]:
    if truth.labels:
        return truth.labels
    if all(name.isdecimal() for name in truth.classes):
        count = classes or max(map(int, truth.classes))
        if count > MAX_CLASSES:
            raise DatasetError(f"{truth.source} names class {count}, expected {MAX_CLASSES} at most")
        return tuple(str(number) for number in range(1, count + 1))
    return tuple(sorted(truth.classes))


def _notes(detections: BoxTable, truth: BoxTable, videos: Sequence[str], lonely: int) -> list[str]:
    strange = [name for name in detections.videos if name not in set(videos)]
    silent = [name for name in truth.videos if name not in set(detections.videos)]
    notes = []
    if strange:
        notes.append(f"{len(strange)} videos without ground truth left out, the first {strange[0]}")
    if silent:
        notes.append(f"{len(silent)} videos without any detection, the first {silent[0]}")
    if lonely:
        notes.append(f"{lonely} {COUNT_AS_WRONG}")
    return notes
