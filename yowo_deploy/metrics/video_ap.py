"""Average precision over action tubes (paper, section 4.1)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.arrays import Int
from yowo_deploy.boxes import Tube
from yowo_deploy.datasets.box_table import FRAMES
from yowo_deploy.errors import DatasetError
from yowo_deploy.metrics.frame_ap import ClassAp, FrameBoxes, class_ap
from yowo_deploy.metrics.matching import COUNT_AS_WRONG, Matched
from yowo_deploy.postprocess.tubes import LinkRule, link_class, tube_iou

MAX_SPAN = 1_000_000  # frames of a video, nine hours
Located = tuple[int, Tube]  # the number of a video, and a tube in it

# Ground truth without tube numbers: boxes that overlap are one person, and no tube is suppressed.
_TRUTH_RULE = LinkRule(max_gap=0, nms_iou=1.0)


def video_map(
    detections: Sequence[Located],
    truth: Sequence[Located],
    classes: int,
    ious: Sequence[float] = (0.5,),
    pixel_inclusive: bool = True,
) -> list[ClassAp]:
    """Video-mAP at each threshold.

    A tube is right when it reaches the threshold with the ground-truth tube of its video and class that it overlaps
    most, of those that no better-scored tube has taken. Ties of score keep the order given.

    Args:
        ious: thresholds of `tube_iou`.
        pixel_inclusive: areas count the last pixel too, as all published figures have it.
    """
    of_truth: dict[tuple[int, int], list[Tube]] = defaultdict(list)
    for video, tube in truth:
        of_truth[video, tube.class_id].append(tube)
    positives = np.bincount([tube.class_id for _, tube in truth], minlength=classes)
    ranked = sorted(detections, key=lambda located: -located[1].score)
    overlaps = [
        np.array([tube_iou(tube, true, pixel_inclusive) for true in of_truth.get((video, tube.class_id), [])])
        for video, tube in ranked
    ]
    return [class_ap(_right(ranked, overlaps, classes, iou), positives) for iou in ious]


def of_annotated_frames(matched: Matched) -> Matched:
    """Without the detections in frames that are not annotated, where the truth annotates each video from its beginning.

    So it is with J-HMDB-21, of whose videos the release links the annotated frames alone. Truth of untrimmed videos,
    as of UCF101-24, leaves out the beginnings of some of them: there every frame counts, and nothing is changed.
    """
    if matched.lengths or not _annotated_from_the_beginning(matched.truth.frame):
        return matched
    kept = np.isin(matched.detections.frame, matched.truth.frame)
    if kept.all():
        return matched
    note = f"{(~kept).sum()} detections in frames without ground truth left out: all of these videos is annotated"
    others = (each for each in matched.notes if not each.endswith(COUNT_AS_WRONG))
    return replace(matched, detections=matched.detections.rows(kept), notes=(*others, note))


def _annotated_from_the_beginning(keys: Int) -> bool:
    """Whether every video has boxes in all of its frames from 0 or 1 to the last one that has any."""
    frames = np.unique(keys)
    firsts = np.diff(frames // FRAMES, prepend=-1) != 0
    return bool((firsts | (np.diff(frames, prepend=-1) == 1)).all() and (frames[firsts] % FRAMES <= 1).all())


def linked(matched: Matched, rule: LinkRule) -> list[Located]:
    """Tubes from the detections of frames, class by class and video by video."""
    spans = _spans(matched)
    tubes = []
    for video, class_id, rows in _groups(matched.detections):
        first, last = spans[video]
        tubes += [(video, tube) for tube in _link(matched.detections, rows, class_id, first, last, rule)]
    return tubes


def truth_tubes(matched: Matched) -> list[Located]:
    """The ground truth's tubes; linked here where its file does not number them."""
    tubes = []
    for video, class_id, rows in _groups(matched.truth):
        numbers = matched.truth_tube[rows]
        if (numbers < 0).any():
            frames = matched.truth.frame[rows] % FRAMES
            found = _link(matched.truth, rows, class_id, int(frames.min()), int(frames.max()), _TRUTH_RULE)
            tubes += [(video, tube) for tube in found]
            continue
        for number in np.unique(numbers):
            of_tube = rows[numbers == number]
            of_tube = of_tube[np.argsort(matched.truth.frame[of_tube])]
            tube = Tube(class_id, matched.truth.frame[of_tube] % FRAMES, matched.truth.xyxy[of_tube])
            tubes.append((video, tube))
    return tubes


def _right(
    ranked: Sequence[Located], overlaps: Sequence[NDArray[np.float64]], classes: int, iou: float
) -> list[NDArray[np.bool_]]:
    """For each class, whether each of its tubes is right, best first."""
    right: list[list[bool]] = [[] for _ in range(classes)]
    free: dict[tuple[int, int], NDArray[np.bool_]] = {}
    for (video, tube), overlap in zip(ranked, overlaps, strict=True):
        left = free.setdefault((video, tube.class_id), np.ones(len(overlap), bool))
        best = int(np.argmax(np.where(left, overlap, -1.0))) if len(overlap) else 0
        hit = bool(len(overlap) and left[best] and overlap[best] >= iou)
        if hit:
            left[best] = False
        right[tube.class_id].append(hit)
    return [np.array(hits, bool) for hits in right]


def _groups(boxes: FrameBoxes) -> list[tuple[int, int, Int]]:
    """Video, class and rows of each video and class that occurs."""
    video = boxes.frame // FRAMES
    order = np.lexsort((boxes.class_id, video))
    changes = (np.diff(video[order]) != 0) | (np.diff(boxes.class_id[order]) != 0)
    parts = np.split(order, np.flatnonzero(changes) + 1) if len(order) else []
    return [(int(video[rows[0]]), int(boxes.class_id[rows[0]]), rows) for rows in parts]


def _spans(matched: Matched) -> dict[int, tuple[int, int]]:
    """First and last frame that any row of a video names, or 1 and its length where that is known."""
    keys = np.concatenate([matched.detections.frame, matched.truth.frame])
    spans: dict[int, tuple[int, int]] = {}
    for video in np.unique(keys // FRAMES).tolist():
        frames = keys[keys // FRAMES == video] % FRAMES
        length = matched.lengths.get(matched.videos[video])
        spans[video] = (min(1, int(frames.min())), length) if length else (int(frames.min()), int(frames.max()))
    return spans


def _link(boxes: FrameBoxes, rows: Int, class_id: int, first: int, last: int, rule: LinkRule) -> list[Tube]:
    """Tubes of some rows of one video and class, over its frames first to last."""
    if last - first > MAX_SPAN:
        raise DatasetError(f"a video with frames {first} to {last}, expected {MAX_SPAN} at most")
    frames = boxes.frame[rows] % FRAMES
    order = np.argsort(frames, kind="stable")
    cuts = np.searchsorted(frames[order], np.arange(first + 1, last + 1))
    by_frame = np.split(rows[order], cuts)
    found = link_class([boxes.xyxy[r] for r in by_frame], [boxes.score[r] for r in by_frame], class_id, rule)
    return [Tube(class_id, tube.frames + first, tube.xyxy, tube.score, tube.scores) for tube in found]
