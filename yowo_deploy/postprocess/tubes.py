"""From detections of frames to the action tubes of a whole video; `OnlineLinker` does it while the video runs.

Knows numpy and boxes; nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.arrays import Float, Int
from yowo_deploy.boxes import Detections, Tube, paired_iou
from yowo_deploy.postprocess.linker import OnlineLinker

__all__ = ["RELEASE_RULE", "LinkRule", "OnlineLinker", "by_class", "link", "link_class", "tube_iou", "tube_nms"]


@dataclass(frozen=True)
class LinkRule:
    """How boxes become tubes.

    Two boxes of consecutive frames are linked with the strength s1 + s2 + alpha * s1 * s2 + beta * IoU (paper,
    equation 12), s their scores for the class.

    Attributes:
        alpha, beta: the release's by default (OFFICIAL_YOWO, "Linking and metrics").
        gate: boxes that do not overlap have a strength of 0, and a tube ends between them.
        max_gap: frames in a row without a box that a tube may span; its boxes there are interpolated.
        max_tubes: of a class and video; None is as many as there are.
        trim: cost of a change between "acting" and "not acting" along a tube, by which untrimmed video is cut
            (two-state smoothing); None leaves tubes whole.
        trim_score: a frame whose score exceeds this speaks for "acting".
        nms_iou: a tube goes when it overlaps a better one of its class by more than this.
        fill_frames: frames without boxes take those of the nearest frame with some, the earlier of two, and each tube
            spans the whole video.
        pixel_inclusive: areas count the last pixel too where tubes are suppressed. Links never count it, here and in
            the release.
    """

    alpha: float = 0.5
    beta: float = 1.0
    gate: bool = True
    max_gap: int = 5
    max_tubes: int | None = None
    trim: float | None = None
    trim_score: float = 0.1
    nms_iou: float = 0.3
    fill_frames: bool = False
    pixel_inclusive: bool = False


_CACHED = 16_384  # numbers that stay in the processor's cache while they are worked on

RELEASE_RULE = LinkRule(gate=False, max_tubes=3, fill_frames=True)


def link(frames: Sequence[Detections], rule: LinkRule | None = None, release: bool = False) -> list[Tube]:
    """The tubes of a video, class by class, best first in each.

    Args:
        frames: detections of frame 0, 1, ...; a score of 0 keeps a box out of a class.
        rule: the paper's gate with the release's numbers by default.
        release: `RELEASE_RULE` instead.
    """
    rule = RELEASE_RULE if release else rule or LinkRule()
    tubes = []
    for class_id in range(frames[0].scores.shape[1] if frames else 0):
        heard = [np.flatnonzero(found.scores[:, class_id] > 0) for found in frames]
        boxes = [found.xyxy[rows] for found, rows in zip(frames, heard, strict=True)]
        scores = [found.scores[rows, class_id] for found, rows in zip(frames, heard, strict=True)]
        tubes += link_class(boxes, scores, class_id, rule)
    return tubes


def link_class(
    boxes: Sequence[Float], scores: Sequence[Float], class_id: int = 0, rule: LinkRule | None = None
) -> list[Tube]:
    """The tubes of one class, best first: the strongest path through the frames, again and again without its boxes.

    Args:
        boxes: for each frame (N, 4) corners in pixels.
        scores: for each frame (N,), above 0.
    """
    rule = rule or LinkRule()
    if not any(len(found) for found in scores):
        return []
    if rule.fill_frames:
        sources = _nearest_filled(np.array([len(found) > 0 for found in scores]))
        boxes, scores = [boxes[source] for source in sources], [scores[source] for source in sources]
    xyxy, left = _padded(boxes, scores)
    tubes: list[Tube] = []
    for rows in _strongest_paths(xyxy, left, rule):
        tubes += _pieces(Tube(class_id, rows[0], xyxy[rows], scores=left[rows]), rule)
        if rule.max_tubes is not None and len(tubes) >= rule.max_tubes:
            break
    return tube_nms(tubes[: rule.max_tubes], rule.nms_iou, rule.pixel_inclusive)


def tube_iou(one: Tube, other: Tube, pixel_inclusive: bool = False) -> float:
    """Mean IoU over the frames that both have, times their share of all frames that either has.

    Args:
        pixel_inclusive: see `iou_matrix`.
    """
    if not len(one) or not len(other) or one.frames[-1] < other.frames[0] or other.frames[-1] < one.frames[0]:
        return 0.0
    _, rows, other_rows = np.intersect1d(one.frames, other.frames, assume_unique=True, return_indices=True)
    if not len(rows):
        return 0.0
    spatial = paired_iou(one.xyxy[rows], other.xyxy[other_rows], pixel_inclusive).mean()
    return float(spatial * len(rows) / (len(one) + len(other) - len(rows)))


def tube_nms(tubes: Sequence[Tube], iou_threshold: float, pixel_inclusive: bool = False) -> list[Tube]:
    """The tubes that overlap no better one by more than this, best first.

    Args:
        iou_threshold: of `tube_iou`, 0 to 1.
        pixel_inclusive: see `iou_matrix`.
    """
    kept: list[Tube] = []
    for tube in sorted(tubes, key=lambda tube: -tube.score):
        if all(tube_iou(tube, better, pixel_inclusive) <= iou_threshold for better in kept):
            kept.append(tube)
    return kept


def by_class(tubes: Sequence[Tube], nms_iou: float = 0.3) -> list[Tube]:
    """Tubes of people once for each class that has a score there, so that they can be judged class by class.

    Of those that overlap by more than `nms_iou`, the better-scored one of each class stays.
    """
    scored: dict[int, list[Tube]] = {}
    for tube in tubes:
        of_tube = enumerate([] if tube.class_scores is None else tube.class_scores.tolist())
        for class_id, score in of_tube:
            if score > 0:
                scored.setdefault(class_id, []).append(Tube(class_id, tube.frames, tube.xyxy, score))
    return [tube for class_id in sorted(scored) for tube in tube_nms(scored[class_id], nms_iou)]


@dataclass(frozen=True)
class _Chain:
    """Frames in a row and how strongly the boxes of neighbours are linked.

    Paths are found from both ends at once, which takes half as many calls of numpy as from one.

    Attributes:
        frames: (F,) frame numbers.
        walks: (W + 1, 2) rows of `frames` from the first, and from the last, to the one in the middle. Where F is even,
            the first is there twice, linked to itself.
        links: (W, N, 2, N) strength between each box of a step's frame, and on each walk those of its next frame.
    """

    frames: Int
    walks: Int
    links: NDArray[np.float32]

    @classmethod
    def of(cls, frames: Int, xyxy: Float, scores: Float, rule: LinkRule) -> _Chain:
        """Compute the links between all boxes of (F, N, 4) and (F, N)."""
        steps, boxes = len(frames) // 2, xyxy.shape[1]
        from_first = np.maximum(np.arange(steps + 1) - (len(frames) + 1) % 2, 0)
        walks = np.stack([from_first, len(frames) - 1 - np.arange(steps + 1)], axis=1)
        sides = np.ascontiguousarray(xyxy.transpose(2, 0, 1))  # (4, F, N)
        areas = (sides[2] - sides[0]) * (sides[3] - sides[1])
        found = np.where(np.isfinite(scores), scores, 0)
        links = np.empty((steps, boxes, 2, boxes), np.float32)
        block = max(1, _CACHED // (2 * boxes**2))
        for start in range(0, steps, block):
            numbers = frames[walks[start : start + block + 1]]
            now, then = numbers[:-1], numbers[1:]
            here, there = sides[:, now, :, None], sides[:, then, None, :]
            shared = np.minimum(here[2], there[2])
            shared -= np.maximum(here[0], there[0])
            down = np.minimum(here[3], there[3])
            down -= np.maximum(here[1], there[1])
            np.maximum(shared, 0, out=shared)
            shared *= np.maximum(down, 0, out=down)
            union = areas[now, :, None] + areas[then, None, :]
            union -= shared
            first, second = found[now, :, None], found[then, None, :]
            strength = first * (1 + rule.alpha * second)
            strength += second
            strength += np.divide(rule.beta * shared, np.maximum(union, 1e-9, out=union), out=union)
            if rule.gate:
                strength *= shared > 0
            links[start : start + block] = strength.transpose(0, 2, 1, 3)
        if len(frames) % 2 == 0:
            links[0, :, 0] = np.where(np.eye(boxes, dtype=bool), 0, -np.inf)
        return cls(frames, walks, links)

    def strongest_path(self, scores: Float) -> tuple[float, Int]:
        """The greatest sum of links, and (F,) the box of each frame on its path (Viterbi).

        A frame on its own has no links: there it is the best score.

        Args:
            scores: (F, N), -inf where there is no box, or no longer.
        """
        absent = np.where(np.isfinite(scores), np.float32(0), np.float32(-np.inf))
        reached, sums = absent[self.walks], np.empty(self.links.shape[1:], np.float32)  # the best sum up to each box
        flat = sums.reshape(len(sums), -1)  # numpy finds maxima along the first of two axes faster than of three
        for links, before, here in zip(self.links, reached[:-1], reached[1:], strict=True):
            np.add(links, before.T[:, :, None], out=sums)
            here += np.maximum.reduce(flat, axis=0).reshape(here.shape)
        meeting = reached[-1].sum(axis=0) if len(self.links) else scores[0]
        both, boxes = np.arange(2), [np.full(2, meeting.argmax())]
        for links, before in zip(self.links[::-1], reached[-2::-1], strict=True):
            boxes.append((links[:, both, boxes[-1]] + before.T).argmax(axis=0))
        path = np.empty(len(scores), np.int64)
        path[self.walks[::-1]] = boxes
        return float(meeting.max()), path


def _strongest_paths(xyxy: Float, left: Float, rule: LinkRule) -> Iterator[tuple[Int, Int]]:
    """Frames and boxes of the strongest path there is, again and again without the boxes of those before.

    Args:
        left: (F, N) scores, -inf where there is no box; the boxes of a path are taken out here.
    """
    waiting: list[tuple[float, Int, _Chain]] = []
    runs: list[tuple[Int, _Chain | None]] = [(frames, None) for frames in _runs(left, np.arange(len(left)), rule)]
    while True:
        for frames, known in runs:
            chain = known or _Chain.of(frames, xyxy, left, rule)
            waiting.append((*chain.strongest_path(left[frames]), chain))
        if not waiting:
            return
        _, path, chain = waiting.pop(max(range(len(waiting)), key=lambda index: waiting[index][0]))
        yield chain.frames, path
        left[chain.frames, path] = -np.inf
        runs = [
            (frames, chain if len(frames) == len(chain.frames) else None) for frames in _runs(left, chain.frames, rule)
        ]


def _runs(scores: Float, frames: Int, rule: LinkRule) -> list[Int]:
    """Those of the frames that still have boxes, cut where too many in a row have none."""
    alive = np.isfinite(scores[frames]).any(axis=1)
    if rule.fill_frames:
        return [frames] if alive.all() else []
    kept = frames[alive]
    return [run for run in np.split(kept, np.flatnonzero(np.diff(kept) > rule.max_gap + 1) + 1) if len(run)]


def _padded(boxes: Sequence[Float], scores: Sequence[Float]) -> tuple[Float, Float]:
    """(F, N, 4) corners and (F, N) scores; -inf where a frame has fewer than N boxes."""
    counts = np.array([len(found) for found in scores])
    filled = np.arange(counts.max()) < counts[:, None]
    xyxy, padded = np.zeros((*filled.shape, 4), np.float32), np.full(filled.shape, -np.inf, np.float32)
    xyxy[filled], padded[filled] = np.concatenate(list(boxes)), np.concatenate(list(scores))
    return xyxy, padded


def _nearest_filled(filled: NDArray[np.bool_]) -> Int:
    """For each frame the nearest filled one, which is itself or the earlier of two."""
    frames, full = np.arange(len(filled)), np.flatnonzero(filled)
    at = np.searchsorted(full, frames)
    before, after = full[np.maximum(at - 1, 0)], full[np.minimum(at, len(full) - 1)]
    return np.where(np.abs(frames - before) <= np.abs(after - frames), before, after)


def _pieces(tube: Tube, rule: LinkRule) -> list[Tube]:
    """The tube, cut where consecutive boxes do not meet, without gaps, trimmed, scored."""
    parted = (paired_iou(tube.xyxy[:-1], tube.xyxy[1:]) <= 0) & rule.gate
    cuts = np.flatnonzero(parted) + 1
    parts = [_without_gaps(_rows(tube, rows)) for rows in np.split(np.arange(len(tube)), cuts)]
    if rule.trim is not None:
        parts = [_rows(part, rows) for part in parts for rows in _acting(part, rule.trim, rule.trim_score)]
    return [replace(part, score=_mean(part.scores)) for part in parts]


def _rows(tube: Tube, rows: Any) -> Tube:
    scores = None if tube.scores is None else tube.scores[rows]
    return replace(tube, frames=tube.frames[rows], xyxy=tube.xyxy[rows], scores=scores)


def _without_gaps(tube: Tube) -> Tube:
    """Boxes and scores in the frames between, on a straight line."""
    frames = np.arange(tube.frames[0], tube.frames[-1] + 1)
    if len(frames) == len(tube) or tube.scores is None:
        return tube
    columns = [np.interp(frames, tube.frames, values) for values in (*tube.xyxy.T, tube.scores)]
    *corners, scores = (column.astype(np.float32) for column in columns)
    return replace(tube, frames=frames, xyxy=np.stack(corners, axis=1), scores=scores)


def _acting(tube: Tube, cost: float, threshold: float) -> Iterator[Int]:
    """Rows of each stretch that is labelled "acting", where gains minus costs of changes are greatest (two states).

    A frame gains score - threshold when it is labelled so.
    """
    gains = np.zeros(0) if tube.scores is None else tube.scores.astype(np.float64) - threshold
    rest, acting = 0.0, 0.0
    came: list[tuple[bool, bool]] = []  # whether "rest", and "acting", came from acting
    for gain in gains.tolist():
        came.append((acting - cost > rest, acting >= rest - cost))
        rest, acting = max(rest, acting - cost), max(acting, rest - cost) + gain
    labels, state = [], acting > rest
    for from_rest, from_acting in reversed(came):
        labels.append(state)
        state = from_acting if state else from_rest
    rows = np.flatnonzero(labels[::-1])
    yield from (run for run in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1) if len(run))


def _mean(scores: Float | None) -> float:
    return 1.0 if scores is None else float(scores.mean(dtype=np.float64))
