"""Choose a model's thresholds on videos that it was not trained on: `python -m benchmarks.thresholds MODEL JHMDB21`.

The held-out recordings of the training split (`--held-out`, the share that `train` was given; 0 for none, if the model
or what it began with has seen them), and the test videos of `--people`, a data.json, are inferred once. For each pair
of `--conf` and `--keep` of the grid: how many people are shown, how many of the boxes are right (IoU 0.5, whatever the
class), F1, and flips of a box on or off per 100 frames; means of the data sets. The pair that is printed last is the
steadiest of those within half a point of the best F1. Then the scores above which events begin and end: by F1 of the
actions of the people shown, on recordings held out.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.people import NOT_JUDGED, Found, count, raw_outputs
from benchmarks.steadiness import shown
from yowo_deploy.arrays import Float
from yowo_deploy.backends.loader import open_model
from yowo_deploy.boxes import Detections, iou_matrix
from yowo_deploy.datasets import AnnotatedVideo, open_dataset, split_present
from yowo_deploy.detector import DetectorOptions
from yowo_deploy.spec import ModelSpec
from yowo_training.data.held_out import hold_out

APPEAR = (0.05, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25)
KEEP = (0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6)
EVENTS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)
NEARLY = 0.5  # points of F1 that steadiness may cost
EVENT_OFF = 0.6  # of the score above which events begin


@dataclass(frozen=True)
class Clip:
    """A video and the network's output for each of its frames."""

    video: AnnotatedVideo
    outputs: list[Float]
    size_wh: tuple[int, int]
    ignored: int | None


@dataclass(frozen=True)
class Row:
    """Figures of one pair of thresholds, in %; flips per 100 frames."""

    appear: float
    keep: float
    recall: float
    precision: float
    f1: float
    flips: float


def row(sets: Sequence[Sequence[Clip]], spec: ModelSpec, appear: float, keep: float) -> Row:
    """The figures of a pair, averaged over the data sets."""
    options = DetectorOptions(confidence=appear, keep=keep)
    found = np.mean([figures(clips, spec, options) for clips in sets], axis=0).tolist()
    return Row(appear, keep, *found)


def figures(clips: Sequence[Clip], spec: ModelSpec, options: DetectorOptions) -> tuple[float, float, float, float]:
    """Recall, precision, F1 and flips of one data set."""
    total, flips, frames = Found(0, 0, 0, 0), 0, 0
    for clip in clips:
        people = shown(clip.outputs, clip.size_wh, spec, options)
        boxed = [len(each) > 0 for each in people]
        flips += sum(one != other for one, other in itertools.pairwise(boxed))
        frames += len(boxed)
        for frame in clip.video.annotated_frames().tolist():
            if frame < len(people):
                boxes, class_id = clip.video.at(frame)
                total += count(people[frame].xyxy, boxes[class_id != clip.ignored], boxes[class_id == clip.ignored])
    recall, precision = total.share, 100 * total.found / max(1, total.found + total.false)
    return recall, precision, f1(recall, precision), 100 * flips / max(1, frames)


def f1(recall: float, precision: float) -> float:
    """Their harmonic mean."""
    return 2 * recall * precision / max(recall + precision, 1e-9)


def steadiest(rows: Sequence[Row]) -> Row:
    """Of the rows within `NEARLY` of the best F1 the one with the fewest flips; of equal ones the best."""
    best = max(each.f1 for each in rows)
    return min((each for each in rows if each.f1 >= best - NEARLY), key=lambda each: (each.flips, -each.f1))


def event_rows(clips: Sequence[Clip], spec: ModelSpec, chosen: Row) -> list[tuple[float, float]]:
    """F1 of the actions of people shown, whose class must be right, by the score above which they count."""
    options = DetectorOptions(confidence=chosen.appear, keep=chosen.keep)
    scores: list[float] = []
    right: list[bool] = []
    people = 0
    for clip in clips:
        for frame, found in enumerate(shown(clip.outputs, clip.size_wh, spec, options)):
            boxes, class_id = clip.video.at(frame)
            people += len(boxes)
            scores += found.confidence.tolist()
            right += hits(found, boxes, class_id)
    above = np.array(scores)[:, None] > EVENTS
    n, ok = above.sum(axis=0), (above & np.array(right, bool)[:, None]).sum(axis=0)
    rates = zip(EVENTS, 100 * ok / max(1, people), 100 * ok / np.maximum(1, n), strict=True)
    return [(score, f1(float(recall), float(precision))) for score, recall, precision in rates]


def hits(found: Detections, boxes: Float, class_id: np.ndarray) -> list[bool]:
    """Of each box, whether it lies on a person of its class."""
    same = found.class_id[:, None] == class_id[None]
    return ((iou_matrix(found.xyxy, boxes) >= 0.5) & same).any(axis=1).tolist()  # type: ignore[no-any-return]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("jhmdb", type=Path)
    parser.add_argument("--held-out", type=float, default=0.06)
    parser.add_argument("--people", help="data.json, of which the test videos are taken")
    given = parser.parse_args()
    if not (given.held_out or given.people):
        parser.error("--held-out 0 leaves nothing to judge without --people")
    held_out = hold_out(open_dataset("jhmdb21", given.jhmdb).videos("train"), given.held_out)[1]
    chosen: list[tuple[Sequence[AnnotatedVideo], int | None]] = [(held_out, None)] if given.held_out else []
    if given.people:
        people = open_dataset(given.people)
        ignored = people.labels.index(NOT_JUDGED) if NOT_JUDGED in people.labels else None
        chosen.append((split_present(people.videos("test"))[0], ignored))
    with open_model(given.model) as backend:
        spec = backend.spec
        sets = [[Clip(each, *raw_outputs(backend, each), ignored) for each in videos] for videos, ignored in chosen]
    print("| conf | keep | recall | precision | F1 | flips |\n|---:|---:|---:|---:|---:|---:|")
    rows = [row(sets, spec, appear, keep) for appear in APPEAR for keep in KEEP]
    for each in rows:
        print("| " + " | ".join(f"{value:.2f}" for value in vars(each).values()) + " |", flush=True)
    best = steadiest(rows)
    if not given.held_out:
        print(f"\n--conf {best.appear} --keep {best.keep}")
        return
    events = event_rows(sets[0], spec, best)
    print("\n| event above | F1 |\n|---:|---:|")
    for score, value in events:
        print(f"| {score:.2f} | {value:.1f} |")
    on = max(events, key=lambda each: each[1])[0]
    print(f"\n--conf {best.appear} --keep {best.keep} --on {on} --off {EVENT_OFF * on:.2f}")


if __name__ == "__main__":
    main()
