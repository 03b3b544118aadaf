"""Tubes of a video as JSON."""

from __future__ import annotations

import math
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from yowo_deploy.arrays import Frame
from yowo_deploy.files import atomic_write
from yowo_deploy.json_text import to_json
from yowo_deploy.postprocess.actions import Action, Actions
from yowo_deploy.postprocess.events import rounded_time
from yowo_deploy.result import Result
from yowo_deploy.sinks.base import FileSink

TUBES_SCHEMA = Path(__file__).parent / "tubes.schema.json"
FORMAT, VERSION = "yowo-deploy tubes", 2


class TubesSink(FileSink):
    """The tubes of one video as JSON, each written when it is over; `tubes.schema.json` lies beside this file.

    A tube is a person over time, with the class and score that `Detector.finish` gives it; its actions are the
    stretches of one thing done. People seen in one frame alone are left out.

    Args:
        source: name of the video.
        classes: the model's.

    Raises:
        OutputError: the folder cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], source: str, classes: tuple[str, ...]) -> None:
        self._classes = classes
        self._people, self._actions = Actions(math.inf, min_frames=2), Actions(min_frames=2)
        self._stack = ExitStack()
        temporary = self._stack.enter_context(atomic_write(path))
        self._stream = self._stack.enter_context(temporary.open("w", encoding="utf-8"))
        head = {"format": FORMAT, "version": VERSION, "source": source, "classes": list(classes)}
        self._stream.write(to_json(head)[:-1] + ', "tubes": [')
        self._tubes = self._frames = 0
        self._size_wh: list[int] | None = None

    def write(self, frame: Frame, result: Result) -> None:
        """Take the next result."""
        self._frames += 1
        self._size_wh = [frame.shape[1], frame.shape[0]]
        self._append(self._people.push(result), self._actions.push(result))

    def _finish(self) -> None:
        self._append(self._people.close(), self._actions.close())
        tail = to_json({"frames": self._frames, "size": self._size_wh})
        self._stream.write(f"\n], {tail[1:]}\n")

    def _append(self, people: list[Action], actions: list[Action]) -> None:
        for person in people:
            of_person = [each for each in actions if each.tube.tracker_id == person.tube.tracker_id]
            line = {"id": self._tubes, **self._stretch(person), "actions": [self._stretch(each) for each in of_person]}
            scores = person.tube.scores if person.tube.scores is not None else np.ones(0, np.float32)
            line["boxes"] = [[round(side, 2) for side in box] for box in person.tube.xyxy.tolist()]
            line["scores"] = [round(score, 5) for score in scores.tolist()]
            self._stream.write((",\n" if self._tubes else "\n") + to_json(line))
            self._tubes += 1

    def _stretch(self, action: Action) -> dict[str, Any]:
        tube = action.tube
        return {
            "person": tube.tracker_id,
            "class_id": tube.class_id,
            "label": self._classes[tube.class_id],
            "score": round(tube.score, 5),
            "first_frame": int(tube.frames[0]),
            "last_frame": int(tube.frames[-1]),
            "first_time": rounded_time(action.first_time),
            "last_time": rounded_time(action.last_time),
        }
