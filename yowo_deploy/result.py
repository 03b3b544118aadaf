"""The result of one frame: detections and tubes, as a picture, as JSON, for other libraries."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from yowo_deploy.arrays import Frame
from yowo_deploy.boxes import Detections, Tube, one_line
from yowo_deploy.errors import MissingExtraError
from yowo_deploy.json_text import to_json
from yowo_deploy.postprocess.events import rounded_time
from yowo_deploy.postprocess.zones import Zone
from yowo_deploy.visuals.draw import draw, draw_zones
from yowo_deploy.visuals.image_io import write_picture

LINE_VERSION = 1  # of `Result.to_json`


@dataclass(frozen=True)
class Result:
    """What was found in one frame.

    Attributes:
        frame_index: from 0; where a source dropped frames, their numbers are missing.
        frame: the BGR frame itself.
        detections: boxes in its pixels, each with the `tracker_id` of its person.
        names: label of each class.
        speed: milliseconds by stage: "preprocess", "infer", "postprocess", "link".
        timestamp: seconds since the video began, or None where unknown.
        tubes: of the people in the frame, up to now; of a carried result, those of the frame before.
        ended: tubes that ended since the result before; each appears once.
        source: name of the video, "" where unknown.
        carried: the model did not run on this frame (`every`): boxes stay where they were, with their scores.
        best_score: the highest of all scores, shown or not; 0 of a carried result.
        label_threshold: score above which a box has further labels, of a model whose classes do not exclude each other
            (AVA's); None where a box has one label.
        latency_ms: from the arrival of the frame to this result, waiting included.
    """

    frame_index: int
    frame: Frame
    detections: Detections
    names: tuple[str, ...]
    speed: dict[str, float]
    timestamp: float | None = None
    tubes: tuple[Tube, ...] = ()
    ended: tuple[Tube, ...] = ()
    source: str = ""
    carried: bool = False
    best_score: float = 0.0
    label_threshold: float | None = None
    latency_ms: float = 0.0

    def __repr__(self) -> str:
        found, (height, width) = self.detections, self.orig_shape
        people = [""] * len(found) if found.tracker_id is None else [f"#{each} " for each in found.tracker_id]
        shown = [
            f"{person}{self.names[class_id]} {confidence:.2f}"
            for person, class_id, confidence in zip(people, found.class_id, found.confidence, strict=True)
        ]
        where = f"frame {self.frame_index}" + (f" of {self.source}" if self.source else "")
        return one_line(f"Result({where}, {width}x{height}: {', '.join(shown) or 'no detections'})")

    @property
    def orig_shape(self) -> tuple[int, int]:
        """(height, width) of the frame."""
        return self.frame.shape[0], self.frame.shape[1]

    def plot(self, frame_bgr: Frame | None = None, trail: int = 0, zones: Sequence[Zone] = ()) -> Frame:
        """A copy of the frame, (H, W, 3) uint8 BGR, with boxes, labels and scores.

        Args:
            frame_bgr: to draw on in place of the result's frame, of the same size.
            trail: frames over which each person's path is drawn.
            zones: whose outlines are drawn.
        """
        image = self.frame if frame_bgr is None else frame_bgr
        image = draw_zones(image, zones) if zones else image
        ways = {tube.tracker_id: tube.xyxy[-trail:] for tube in self.tubes if tube.tracker_id is not None}
        return draw(image, self.detections, self.names, self.label_threshold, ways if trail else {})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `plot` as a picture, .png or .jpg.

        Raises:
            OutputError: another name, or it cannot be written.
        """
        write_picture(path, self.plot())

    def summary(self) -> list[dict[str, Any]]:
        """One plain dict per detection, best first; with "tracker_id" once it is linked.

        With a `label_threshold` it also has "labels": every one whose score exceeds that, best first, and at least the
        best.
        """
        found = self.detections
        rows = []
        for index, (box, confidence, class_id) in enumerate(
            zip(found.xyxy, found.confidence, found.class_id, strict=True)
        ):
            row = self._label(int(class_id), confidence)
            if self.label_threshold is not None:
                classes = found.classes_above(index, self.label_threshold)
                row["labels"] = [self._label(each, found.scores[index, each]) for each in classes]
            if found.tracker_id is not None:
                row["tracker_id"] = int(found.tracker_id[index])
            rows.append(row | {"xyxy": [round(float(value), 2) for value in box]})
        return rows

    def _label(self, class_id: int, score: Any) -> dict[str, Any]:
        return {"label": self.names[class_id], "class_id": class_id, "confidence": round(float(score), 5)}

    def to_json(self) -> str:
        """One line, by `frames.schema.json` in the package; unknown fields are left out."""
        line: dict[str, Any] = {"v": LINE_VERSION}
        if self.source:
            line["source"] = self.source
        line["frame"] = self.frame_index
        if self.timestamp is not None:
            line["time"] = rounded_time(self.timestamp)
        if self.carried:
            line["carried"] = True
        return to_json({**line, "detections": self.summary()})

    def to_supervision(self) -> Any:
        """As `supervision.Detections`, with "class_name" among its data.

        Raises:
            MissingExtraError: the library is not installed.
        """
        if find_spec("supervision") is None:
            raise MissingExtraError("supervision", "supervision")
        found = self.detections
        return importlib.import_module("supervision").Detections(
            xyxy=found.xyxy,
            confidence=found.confidence,
            class_id=found.class_id,
            tracker_id=found.tracker_id,
            data={"class_name": np.array([self.names[class_id] for class_id in found.class_id.tolist()], str)},
        )
