"""Rescore the detections of a video along the tubes that they form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from yowo_deploy.arrays import Float, Int
from yowo_deploy.boxes import Detections
from yowo_deploy.metrics.frame_ap import FrameBoxes
from yowo_deploy.postprocess.linker import TUBE_DECAY, OnlineLinker


def averaged(rows: FrameBoxes, classes: int, threshold: float, decay: float = TUBE_DECAY) -> FrameBoxes:
    """The rows with scores and boxes averaged along their tubes so far, as `OnlineLinker` gives them: causal.

    Args:
        rows: of one video, one for each class of each box.
        threshold: rows with lower scores are left out.
    """
    linker, parts = OnlineLinker(decay=decay), []
    for frame, found in detections_of(rows, classes):
        linker.follow(found, frame)
        parts.append(rows_of(frame, linker.shown, threshold))
    return FrameBoxes.concatenate(parts)


def rescored(rows: FrameBoxes, classes: int, threshold: float) -> FrameBoxes:
    """As `averaged`, with the class probabilities of whole tubes, later frames included: not causal.

    Args:
        rows: of one video, one a class of each box, see `rows_of`.
        classes: how many there are.
        threshold: rows at or below it are left out.
    """
    linker, frames, shown = OnlineLinker(decay=1.0), list[int](), list[Detections]()
    for frame, found in detections_of(rows, classes):
        linker.follow(found, frame)
        frames.append(frame)
        shown.append(linker.shown)
    found_whole = zip(frames, whole_tube_scores(shown), strict=True)
    return FrameBoxes.concatenate([rows_of(frame, whole, threshold) for frame, whole in found_whole])


def whole_tube_scores(shown: Sequence[Detections]) -> list[Detections]:
    """Detections with the class probabilities of their whole tubes: not causal.

    Args:
        shown: of each frame of a video, as an `OnlineLinker` with a decay of 1 shows them.
    """
    last: dict[int, Float] = {}  # probabilities of each person where its tube ends, which are those of the whole
    for found in reversed(shown):
        for person, scores, objectness in zip(*_people(found), strict=True):
            last.setdefault(int(person), scores / max(float(objectness), 1e-12))
    made = []
    for found in shown:
        people, _, objectness = _people(found)
        scores = [last[int(person)] * weight for person, weight in zip(people, objectness, strict=True)]
        whole = np.array(scores, np.float32).reshape(found.scores.shape)
        best, class_id = whole.max(axis=1, initial=0), whole.argmax(axis=1) if len(whole) else found.class_id
        best_first = np.argsort(-best, kind="stable")
        made.append(replace(found, scores=whole, confidence=best, class_id=class_id)[best_first])
    return made


def rows_of(frame: int, detections: Detections, threshold: float) -> FrameBoxes:
    """One row for each class of each box whose score passes the threshold."""
    box, class_id = np.nonzero(detections.scores > threshold)
    scores = detections.scores[box, class_id]
    return FrameBoxes(np.full(len(box), frame, np.int64), class_id.astype(np.int64), detections.xyxy[box], scores)


def detections_of(rows: FrameBoxes, classes: int) -> list[tuple[int, Detections]]:
    """The frames of a video in order, each with its detections, from `rows_of`.

    Scores that did not pass the threshold are 0; objectness is the sum of the others, which it is exactly where class
    probabilities sum to 1 and all pass.
    """
    made = []
    for frame in np.unique(rows.frame).tolist():
        of_frame = rows.rows(rows.frame == frame)
        boxes, place = np.unique(of_frame.xyxy, axis=0, return_inverse=True)
        scores = np.zeros((len(boxes), classes), np.float32)
        scores[place.reshape(-1), of_frame.class_id] = of_frame.score
        order = np.argsort(-scores.max(axis=1), kind="stable")
        boxes, scores = boxes[order].astype(np.float32), scores[order]
        objectness = np.minimum(scores.sum(axis=1), 1)
        best = scores.max(axis=1)
        made.append((int(frame), Detections(boxes, best, scores.argmax(axis=1), scores, None, objectness)))
    return made


def _people(found: Detections) -> tuple[Int, Float, Float]:
    assert found.tracker_id is not None and found.objectness is not None
    return found.tracker_id, found.scores, found.objectness
