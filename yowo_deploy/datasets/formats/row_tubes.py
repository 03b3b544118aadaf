"""Divide the boxes of a video into the tubes of its people."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from yowo_deploy.arrays import Float, Int
from yowo_deploy.boxes import Tube
from yowo_deploy.datasets.tube_builder import chains

UNKNOWN = -1  # the person of a box without a person's number


def taken_numbers(frame: Int, person: Int, class_id: Int, boxes: Float) -> Int:
    """Rows whose person does the same in the same frame in another box: two who were given one number."""
    order = np.lexsort((frame, class_id, person))
    keys = np.column_stack([person, class_id, frame])[order]
    again = np.flatnonzero((np.diff(keys, axis=0) == 0).all(axis=1) & (keys[1:, 0] != UNKNOWN)) + 1
    others = (boxes[order[again]] != boxes[order[again - 1]]).any(axis=1)
    found: Int = order[again[others]]
    return found


def people_by_overlap(when: Int, person: Int, boxes: Float) -> Int:
    """Persons for the rows that have none: a box with several labels is one person, and goes on where it overlaps."""
    unknown = np.flatnonzero(person == UNKNOWN)
    rows, back = np.unique(np.column_stack([when[unknown], boxes[unknown]]), axis=0, return_inverse=True)
    chain = chains(rows[:, 0].astype(np.int64), np.zeros(len(rows), np.int64), rows[:, 1:].astype(np.float32))
    found = person.copy()
    found[unknown] = np.unique(chain, return_inverse=True)[1][back.reshape(-1)] + person.max(initial=UNKNOWN) + 1
    return found


def divided(
    frame: Int, when: Int, person: Int, class_id: Int, boxes: Float, starts: Sequence[tuple[int, int, int]]
) -> tuple[Tube, ...]:
    """Tubes as they start, in that order; then each stretch of frames of a person and class that has no start.

    Args:
        starts: person, class and first frame.
    """
    order = np.lexsort((frame, class_id, person))
    same = (np.diff(person[order]) == 0) & (np.diff(class_id[order]) == 0)
    order = order[np.concatenate([[True], ~(same & (np.diff(frame[order]) == 0))])]  # the same box twice is one box
    frame, when, person, class_id, boxes = (each[order] for each in (frame, when, person, class_id, boxes))
    opened: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for place, (who, what, first) in enumerate(starts):
        opened.setdefault((who, what), []).append((first, place))
    anew = (np.diff(person) != 0) | (np.diff(class_id) != 0)
    groups = [0, *(np.flatnonzero(anew) + 1).tolist(), len(frame)]
    made: list[tuple[int, Tube]] = []
    for a, b in pairwise(groups):
        who, what = int(person[a]), int(class_id[a])
        known = sorted(opened.get((who, what), ()))
        bounds = [a + int(np.searchsorted(frame[a:b], first)) for first, _ in known[1:]]
        places = [place for _, place in known]
        if not known:
            bounds = (a + 1 + np.flatnonzero(np.diff(when[a:b]) > 1)).tolist()
            places = [len(starts)] * (len(bounds) + 1)
        for place, (low, high) in zip(places, pairwise([a, *bounds, b]), strict=True):
            if high > low:
                made.append((place, Tube(what, frame[low:high], boxes[low:high], tracker_id=who)))
    return tuple(tube for _, tube in sorted(made, key=lambda each: each[0]))
