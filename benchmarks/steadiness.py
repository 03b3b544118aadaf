"""How steady boxes, labels and person numbers are, every frame alone and along tubes.

`python -m benchmarks.steadiness JHMDB21 [VIDEO_OR_FOLDER ...] [--every N]`: the default model on the test clips of
J-HMDB-21, whose people are known, and on other videos. Each clip is inferred once; all ways of showing people get the
same network outputs. `--every N` takes each N-th clip alone. `--bytetrack` is a third way: every frame alone, followed
by the ByteTrack of supervision 0.26 (later ones have none) with its own settings; it prints the CPU time of each, too.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from yowo_deploy.arrays import Float
from yowo_deploy.backends.base import Backend
from yowo_deploy.backends.loader import open_model
from yowo_deploy.boxes import Detections, iou_matrix
from yowo_deploy.datasets.registry import open_dataset
from yowo_deploy.detector import DetectorOptions
from yowo_deploy.errors import YowoError
from yowo_deploy.postprocess.decode import detect, detect_and_best
from yowo_deploy.preprocess.clip_buffer import ClipBuffer
from yowo_deploy.preprocess.frames import preprocess
from yowo_deploy.spec import ModelSpec
from yowo_deploy.video.reader import open_video
from yowo_deploy.video.suffixes import VIDEO_SUFFIXES

WAYS = {
    "every frame alone, 0.25": DetectorOptions(confidence=0.25, keep=0.0, tube_scores=False),
    "the model's default": DetectorOptions(),
}
BYTETRACK = "every frame alone, ByteTrack"
LOWEST = 0.1  # score below which ByteTrack takes no boxes at all
FRAME_RATE = 25
MOST_FRAMES = 400  # of a video
Truth = dict[int, Float]  # by frame (N, 4) boxes


@dataclass
class Counts:
    """Sums over clips; see `row` for the figures."""

    clips: int = 0
    frames: int = 0
    boxed: int = 0
    people_frames: int = 0
    flips: int = 0
    label_changes: int = 0
    numbers: int = 0
    true_boxes: int = 0
    found: int = 0
    wrong: int = 0
    one_number: int = 0

    def add(self, shown: list[Detections], truth: Truth | None) -> None:
        """Count one clip."""
        labels: dict[int, int] = {}
        of_truth: set[int] = set()
        boxed = [len(each) > 0 for each in shown]
        self.clips, self.frames, self.boxed = self.clips + 1, self.frames + len(shown), self.boxed + sum(boxed)
        self.flips += sum(one != other for one, other in itertools.pairwise(boxed))
        for number, found in enumerate(shown):
            ids = [] if found.tracker_id is None else found.tracker_id.tolist()
            self.people_frames += len(ids)
            for who, label in zip(ids, found.class_id.tolist(), strict=True):
                self.label_changes += labels.get(who, label) != label
                labels[who] = label
            for box in (truth or {}).get(number, np.zeros((0, 4), np.float32)):
                overlap = iou_matrix(found.xyxy, box[None])[:, 0]
                self.true_boxes += 1
                if overlap.max(initial=0) >= 0.5:
                    self.found += 1
                    of_truth.add(ids[int(overlap.argmax())])
            if truth and number in truth:
                self.wrong += int((iou_matrix(found.xyxy, truth[number]).max(axis=1, initial=0) < 0.5).sum())
        self.numbers += len(labels)
        self.one_number += len(of_truth) <= 1

    def row(self) -> str:
        """Figures as cells of a table."""
        per = 100 / max(1, self.people_frames)
        figures = [
            f"{100 * self.boxed / max(1, self.frames):.0f} %",
            f"{per * self.flips:.1f}",
            f"{per * self.label_changes:.1f}",
            f"{per * self.numbers:.1f}",
        ]
        if self.true_boxes:
            figures += [
                f"{100 * self.found / self.true_boxes:.1f} %",
                f"{100 * self.found / max(1, self.found + self.wrong):.1f} %",
                f"{100 * self.one_number / self.clips:.0f} %",
            ]
        return " | ".join(figures)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of J-HMDB-21")
    parser.add_argument("others", type=Path, nargs="*", help="videos, or folders of them")
    parser.add_argument("--every", type=int, default=1, help="take each N-th clip alone")
    parser.add_argument("--bytetrack", action="store_true", help="a third way, by supervision 0.26")
    given = parser.parse_args()
    ways: dict[str, DetectorOptions | None] = {**WAYS, **({BYTETRACK: None} if given.bytetrack else {})}
    seconds = dict.fromkeys(ways, 0.0)
    if None in ways.values():
        import supervision  # noqa: F401  # before the clock runs
    with open_model("default") as backend:
        spec = backend.spec
        sums = {way: Counts() for way in ways}
        for video in open_dataset("jhmdb21", given.data).videos("test")[:: given.every]:
            truth: dict[int, list[Float]] = {}
            for tube in video.tubes:
                for frame, box in zip(tube.frames.tolist(), tube.xyxy, strict=True):
                    truth.setdefault(frame, []).append(box)
            outputs, size_wh = raw_outputs(video.path, backend)
            boxes = {frame: np.stack(each) for frame, each in truth.items()}
            for way, options in ways.items():
                start = process_time()
                found = shown(outputs, size_wh, spec, options) if options else by_bytetrack(outputs, size_wh, spec)
                seconds[way] += process_time() - start
                sums[way].add(found, boxes)
        print(f"{sums[next(iter(WAYS))].clips} test clips of J-HMDB-21; per 100 person-frames: flips, labels, numbers")
        print("| | frames with a box | flips | label changes | numbers | recall | precision | one number |")
        print("|---|---:|---:|---:|---:|---:|---:|---:|")
        for way, counts in sums.items():
            print(f"| {way} | {counts.row()} |", flush=True)
        for way, spent in seconds.items() if None in ways.values() else ():
            print(f"{way}: {1000 * spent / sums[way].frames:.2f} ms of CPU a frame, decoding included")
        for path in videos_in(given.others):
            try:
                outputs, size_wh = raw_outputs(path, backend)
            except YowoError as error:
                print(f"{path.name}: {error}", file=sys.stderr)
                continue
            for way, options in WAYS.items():
                counts = Counts()
                counts.add(shown(outputs, size_wh, spec, options), None)
                print(f"| {path.name}, {way} | {counts.row()} |", flush=True)


def videos_in(places: list[Path]) -> Iterator[Path]:
    """The videos named, and those in the folders named."""
    for place in places:
        found = sorted(place.rglob("*")) if place.is_dir() else [place]
        yield from (each for each in found if each.suffix.lower() in VIDEO_SUFFIXES)


def raw_outputs(path: Path, backend: Backend) -> tuple[list[Float], tuple[int, int]]:
    """The network's output for every frame, and (width, height) of the video."""
    spec, buffer = backend.spec, ClipBuffer(backend.spec)
    with open_video(path, allow_damaged=True) as reader:
        frames = (frame for frame, _ in zip(reader, range(MOST_FRAMES), strict=False))
        outputs = [backend.infer(buffer.push(preprocess(frame, spec))[None])[0] for frame in frames]
        return outputs, reader.size_wh


def shown(
    outputs: list[Float], size_wh: tuple[int, int], spec: ModelSpec, options: DetectorOptions
) -> list[Detections]:
    """What a `Detector` with these options shows."""
    linker, keep, found = options.linker(spec), options.keep_of(spec), []
    for raw in outputs:
        linker.follow(detect_and_best(raw, spec, size_wh, options.confidence, options.iou, keep)[0])
        found.append(linker.shown)
    return found


def by_bytetrack(outputs: list[Float], size_wh: tuple[int, int], spec: ModelSpec) -> list[Detections]:
    """What supervision's ByteTrack shows, which takes weak boxes as well where people were before."""
    import supervision

    tracker: Any = supervision.ByteTrack(frame_rate=FRAME_RATE)
    shown = []
    for raw in outputs:
        found = detect(raw, spec, size_wh, LOWEST)
        tracked = tracker.update_with_detections(
            supervision.Detections(
                found.xyxy, confidence=found.confidence, class_id=found.class_id, data={"scores": found.scores}
            )
        )
        ids = np.array(tracked.tracker_id, np.int64).reshape(-1)
        scores = np.asarray(tracked.data.get("scores", found.scores[:0]), np.float32).reshape(len(ids), spec.classes)
        shown.append(Detections(tracked.xyxy, tracked.confidence, tracked.class_id, scores, ids))
    return shown


if __name__ == "__main__":
    main()
