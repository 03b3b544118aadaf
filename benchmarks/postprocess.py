"""Decoding, suppression, linking and frame-mAP against plain loops, in turn: `python -m benchmarks.postprocess`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from time import perf_counter

import numpy as np

from yowo_deploy.arrays import Float, Int
from yowo_deploy.datasets.jhmdb import ANCHORS
from yowo_deploy.metrics import FrameBoxes, frame_map
from yowo_deploy.postprocess.decode import detect
from yowo_deploy.postprocess.tubes import RELEASE_RULE, link_class
from yowo_deploy.spec import ModelSpec

SPEC = ModelSpec(labels=tuple(map(str, range(24))), anchors=ANCHORS, clip_length=8)
FRAMES, BOXES = 200, 30
ROWS = 138_109  # of the published detections on J-HMDB-21
Box = tuple[float, float, float, float]


def main() -> None:
    """Print one line a task: times, and how many times slower the loop is."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    rng = np.random.default_rng(0)
    raw = rng.normal(0, 1, (SPEC.output_channels, 7, 7)).astype(np.float32)
    boxes, scores = _frames(rng, FRAMES)
    _compare("decode + NMS", lambda: detect(raw, SPEC, (320, 240), 0.005), lambda: loop_detect(raw), 50, 2)
    ours, theirs = (lambda: link_class(boxes, scores, 0, RELEASE_RULE), lambda: loop_link(boxes, scores))
    _compare(f"link {FRAMES} x {BOXES}", ours, theirs, 20, 1)
    twice = _frames(rng, 2 * FRAMES)
    _compare(
        f"link {2 * FRAMES} x {BOXES}, beside half as many frames",
        lambda: link_class(*twice, 0, RELEASE_RULE),
        ours,
        20,
        20,
    )
    found, truth = _rows(rng, ROWS), _rows(rng, 9_139)
    start = perf_counter()
    frame_map(found, truth, 21)
    print(f"frame-mAP of {ROWS} boxes: {1000 * (perf_counter() - start):.0f} ms")


def _compare(what: str, ours: Callable[[], object], other: Callable[[], object], calls: int, calls_other: int) -> None:
    """Medians of both, in turn."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(3):
        for function, spent, count in ((ours, times[0], calls), (other, times[1], calls_other)):
            for _ in range(count):
                start = perf_counter()
                function()
                spent.append(1000 * (perf_counter() - start))
    first, second = (float(np.median(spent)) for spent in times)
    print(f"{what}: {first:.2f} ms, compared with {second:.2f} ms: {second / first:.1f} times")


def _frames(rng: np.random.Generator, count: int) -> tuple[list[Float], list[Float]]:
    boxes, scores = [], []
    for _ in range(count):
        corner = rng.uniform(0, 200, (BOXES, 2))
        boxes.append(np.concatenate([corner, corner + rng.uniform(20, 100, (BOXES, 2))], axis=1).astype(np.float32))
        scores.append(rng.random(BOXES, np.float32))
    return boxes, scores


def _rows(rng: np.random.Generator, count: int) -> FrameBoxes:
    corner = rng.uniform(0, 200, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(20, 100, (count, 2))], axis=1)
    frame: Int = rng.integers(0, 9_139, count)
    return FrameBoxes(frame, rng.integers(0, 21, count), boxes, rng.random(count))


def loop_detect(raw: Float) -> list[tuple[float, Box]]:
    """As `detect`, one anchor, cell and pair of boxes at a time."""
    found = []
    cells = raw.reshape(len(SPEC.anchors), 5 + SPEC.classes, 7, 7)
    for (anchor_w, anchor_h), of_anchor in zip(SPEC.anchors, cells, strict=True):
        for row in range(7):
            for column in range(7):
                tx, ty, tw, th, conf, *logits = of_anchor[:, row, column].tolist()
                x, y, objectness = (1 / (1 + math.exp(-value)) for value in (tx, ty, conf))
                largest = max(logits)
                exponentials = [math.exp(logit - largest) for logit in logits]
                if objectness * max(exponentials) / sum(exponentials) > 0.005:
                    w, h = math.exp(tw) * anchor_w / 14, math.exp(th) * anchor_h / 14
                    cx, cy = (x + column) / 7, (y + row) / 7
                    found.append((objectness, (cx - w, cy - h, cx + w, cy + h)))
    found.sort(key=lambda pair: -pair[0])
    kept: list[tuple[float, Box]] = []
    for objectness, box in found:
        if all(loop_iou(box, better) <= SPEC.nms_threshold for _, better in kept):
            kept.append((objectness, box))
    return kept


def loop_link(boxes: list[Float], scores: list[Float]) -> list[list[int]]:
    """As `link_class` by the release's rule, one pair of boxes at a time."""
    left = [list(range(len(of_frame))) for of_frame in scores]
    rows = [[tuple(box) for box in of_frame.tolist()] for of_frame in boxes]
    paths: list[list[int]] = []
    while len(paths) < 3 and all(left):
        ahead, choice = dict.fromkeys(left[-1], 0.0), []
        for t in range(len(rows) - 2, -1, -1):
            sums, best = {}, {}
            for i in left[t]:
                strengths = {}
                for j in left[t + 1]:
                    s1, s2 = float(scores[t][i]), float(scores[t + 1][j])
                    strengths[j] = s1 + s2 + 0.5 * s1 * s2 + loop_iou(rows[t][i], rows[t + 1][j]) + ahead[j]
                best[i] = max(strengths, key=strengths.__getitem__)
                sums[i] = strengths[best[i]]
            ahead = sums
            choice.append(best)
        path = [max(ahead, key=ahead.__getitem__)]
        for best in reversed(choice):
            path.append(best[path[-1]])
        for t, taken in enumerate(path):
            left[t].remove(taken)
        paths.append(path)
    return paths


def loop_iou(one: Box, other: Box) -> float:
    """Of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = ((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return width * height / (sum(areas) - width * height)


if __name__ == "__main__":
    main()
