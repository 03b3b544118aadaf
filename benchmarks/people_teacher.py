"""Label the unlabelled people of training videos: `python -m benchmarks.people_teacher --help`.

The teacher is the SSD-MobileNetV2 of MediaPipe's Objectron (Apache-2.0, trained on Open Images V4), which knows persons
and 22 other things. It is cut out of the npm package `@mediapipe/objectron`, version 0.4.1675468480, and read by
OpenVINO as it is; only what it says of training videos goes into a model.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import openvino

from yowo_deploy.arrays import Float, Frame
from yowo_deploy.boxes import Tube, cxcywh_to_xyxy, iou_matrix, nms
from yowo_deploy.datasets import AnnotatedVideo, open_dataset
from yowo_deploy.datasets.data_json import Annotations, Sides, write_annotations
from yowo_deploy.video.reader import open_video
from yowo_training.data.people import NOT_JUDGED

MODEL, ASSETS = "object_detection_ssd_mobilenetv2_oidv4_fp16.tflite", "objectron_solution_packed_assets"
PERSON = 4  # class of the network
SIDE, GRIDS = 300, (19, 10, 5, 3, 2, 1)
SCALES = np.linspace(0.2, 0.95, len(GRIDS))  # of the anchors, by grid
RATIOS = (1.0, 2.0, 0.5, 3.0, 0.3333)
VARIANCE = np.array([10, 10, 5, 5])  # y, x, h, w
CERTAIN, POSSIBLE = 0.6, 0.3  # scores of a person to learn, and of one not to be punished
SAME = 0.4  # IoU above which it is a person who is labelled
EVERY = 4  # frames: people hardly move in between


class Teacher:
    """Persons in a picture.

    Args:
        package: folder of the unpacked npm package.
    """

    def __init__(self, package: Path) -> None:
        listed = (package / f"{ASSETS}_loader.js").read_text(encoding="utf-8")
        found = re.search(rf'"[^"]*{re.escape(MODEL)}",\s*"start":\s*(\d+),\s*"end":\s*(\d+)', listed)
        if found is None:
            raise SystemExit(f"{package} does not list {MODEL}: is it the unpacked @mediapipe/objectron?")
        weights = (package / f"{ASSETS}.data").read_bytes()[int(found[1]) : int(found[2])]
        with TemporaryDirectory() as folder:  # OpenVINO reads this format only from files
            file = Path(folder) / MODEL
            file.write_bytes(weights)
            self._request = openvino.Core().compile_model(file, "CPU").create_infer_request()
        self._anchors = anchors()

    def __call__(self, frame_bgr: Frame) -> tuple[Float, Float]:
        """(N, 4) corners in pixels, and (N,) scores above `POSSIBLE`, best first."""
        rgb = cv2.cvtColor(cv2.resize(frame_bgr, (SIDE, SIDE), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)
        boxes, classes = self._request.infer([rgb[None].astype(np.float32) / 127.5 - 1]).values()
        scores = 1 / (1 + np.exp(-classes[0, :, PERSON]))
        rows = np.flatnonzero(scores > POSSIBLE)
        step = boxes[0, rows] / VARIANCE
        centre, sides = self._anchors[rows, :2], self._anchors[rows, 2:]
        yx, hw = centre + step[:, :2] * sides, np.exp(step[:, 2:]) * sides
        height, width = frame_bgr.shape[:2]
        xyxy = cxcywh_to_xyxy(np.concatenate([yx[:, ::-1], hw[:, ::-1]], axis=1)).clip(0, 1) * ((width, height) * 2)
        kept = nms(xyxy, scores[rows], 0.5)
        return xyxy[kept].astype(np.float32), scores[rows][kept]


def anchors() -> Float:
    """(1917, 4) y, x, h, w of the input: three a cell of the finest grid, six a cell of the others."""
    made = []
    for number, (grid, scale) in enumerate(zip(GRIDS, SCALES.tolist(), strict=True)):
        above = 1.0 if number + 1 == len(GRIDS) else SCALES[number + 1]
        shapes = [(scale / np.sqrt(ratio), scale * np.sqrt(ratio)) for ratio in RATIOS]
        shapes.append((np.sqrt(scale * above),) * 2)
        if number == 0:
            shapes = [(0.1, 0.1), *shapes[1:3]]
        middles = (np.arange(grid) + 0.5) / grid
        made += [(y, x, *shape) for y in middles for x in middles for shape in shapes]
    return np.array(made, np.float32)


def more_people(video: AnnotatedVideo, teacher: Teacher, certain: float) -> Iterator[tuple[str, Tube]]:
    """People of a video who are not labelled, with a label each: "person" or `NOT_JUDGED`."""
    last = int(video.annotated_frames()[-1])
    with open_video(video.path, allow_damaged=True) as reader:
        for index, frame in enumerate(reader):
            if index > last:
                return
            if index % EVERY:
                continue
            boxes, scores = teacher(frame)
            known, _ = video.at(index)
            new = iou_matrix(boxes, known).max(axis=1, initial=0) < SAME
            for box, score in zip(boxes[new], scores[new], strict=True):
                frames = np.arange(index, min(index + EVERY, last + 1))
                yield "person" if score > certain else NOT_JUDGED, Tube(0, frames, np.tile(box, (len(frames), 1)))


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="unpacked npm package @mediapipe/objectron")
    parser.add_argument("output", type=Path, help="data.json to write")
    parser.add_argument("--actors", type=Path, help="J-HMDB-21: the others in its training videos are not judged")
    parser.add_argument("--sure", type=float, default=1.0, help="score above which those others are learnt as well")
    parser.add_argument(
        "--people", type=Path, help="data.json of videos whose people are learnt, and all others as well"
    )
    parser.add_argument("--test-groups", default="", help="recordings of --people to test on: a regular expression")
    given = parser.parse_args()
    teacher, videos, tests = Teacher(given.package), [], []
    actors = open_dataset("jhmdb21", given.actors).videos("train") if given.actors else []
    crowd = open_dataset(str(given.people)).videos("train") if given.people else []
    for number, video in enumerate([*actors, *crowd]):
        if not video.path.exists():
            continue
        crowded = number >= len(actors)
        known = [("person", tube) for tube in video.tubes] if crowded else []
        people = [*known, *more_people(video, teacher, CERTAIN if crowded else given.sure)]
        tubes = tuple(
            replace(tube, class_id=int(label == NOT_JUDGED), tracker_id=who) for who, (label, tube) in enumerate(people)
        )
        if crowded and given.test_groups and re.search(given.test_groups, video.name):
            tests.append(video.name)
        videos.append(replace(video, tubes=tubes, path=video.path.absolute()))
    sides: Sides = {"train": tuple(v.name for v in videos if v.name not in tests), "test": tuple(tests)}
    write_annotations(Annotations(("person", NOT_JUDGED), tuple(videos), (sides,)), given.output)
    print(json.dumps(counts(videos)))


def counts(videos: Sequence[AnnotatedVideo]) -> dict[str, Any]:
    """Videos, and boxes by label."""
    boxes = [sum(len(tube) for video in videos for tube in video.tubes if tube.class_id == label) for label in (0, 1)]
    return {"videos": len(videos), "person boxes": boxes[0], "boxes not judged": boxes[1]}


if __name__ == "__main__":
    main()
