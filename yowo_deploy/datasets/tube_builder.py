"""Build the tubes of each video from the rows of an annotation file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.arrays import Float, Int
from yowo_deploy.boxes import Tube, paired_iou
from yowo_deploy.datasets.box_table import BoxTable, class_ids
from yowo_deploy.errors import DatasetError

MAX_UNNAMED = 300  # boxes of a frame that persons are looked for: each is compared with all of the frame before
CONTINUES = 0.1  # IoU with the frame before at which two boxes without a name are taken for one person


def tubes_of(table: BoxTable, labels: Sequence[str]) -> dict[str, tuple[Tube, ...]]:
    """Ground-truth tubes by the name of the video; frames as the table counts them.

    Rows that carry no tube are chained: a box continues the box of its class in the frame before that it overlaps.

    Raises:
        DatasetError: a class that is not in `labels`.
    """
    class_id = class_ids(table, labels, ordered=True)
    # One sort in place of a search for every video.
    order = np.lexsort((table.frame, table.tube, table.video))
    bounds = np.searchsorted(table.video[order], np.arange(len(table.videos) + 1))
    found = {}
    for number, name in enumerate(table.videos):
        rows = order[bounds[number] : bounds[number + 1]]
        frames, boxes = table.frame[rows], table.xyxy[rows].astype(np.float32)
        chained = (table.tube[rows] < 0).any()
        person = chains(frames, class_id[rows], boxes) if chained else table.tube[rows]
        found[name] = tuple(_tubes(frames, class_id[rows], boxes, person))
    return found


def _tubes(frames: Int, class_id: Int, boxes: Float, person: Int) -> list[Tube]:
    keys = person * (class_id.max() + 1) + class_id
    order = np.argsort(keys, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(keys[order])) + 1)
    return [Tube(int(class_id[rows[0]]), frames[rows], boxes[rows]) for rows in parts]


def chains(frames: Int, class_id: Int, boxes: Float) -> Int:
    """(N,) which chain each row belongs to; rows are sorted by frame.

    A box continues the box of its class in the frame before that it overlaps.

    Raises:
        DatasetError: a frame with more than `MAX_UNNAMED` boxes.
    """
    chain = np.arange(len(frames))
    open_rows: list[int] = []
    numbers, starts = np.unique(frames, return_index=True)
    for frame, start, end in zip(numbers.tolist(), starts.tolist(), [*starts[1:].tolist(), len(frames)], strict=True):
        if end - start > MAX_UNNAMED:
            raise DatasetError(
                f"{end - start} boxes without a person's number in frame {frame}, expected {MAX_UNNAMED} at most"
            )
        rows = list(range(start, end))
        open_rows = [r for r in open_rows if frames[r] == frame - 1]
        for row in rows:
            before = [r for r in open_rows if class_id[r] == class_id[row]]
            overlaps: NDArray[np.float64] = paired_iou(boxes[before], np.repeat(boxes[[row]], len(before), axis=0))
            if before and overlaps.max() >= CONTINUES:
                best = before[int(overlaps.argmax())]
                chain[row] = chain[best]
                open_rows.remove(best)
        open_rows = rows
    return chain
