"""Tubes of a video as JSON."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from yowo_deploy.arrays import Frame
from yowo_deploy.boxes import FrameResult
from yowo_deploy.files import atomic_write
from yowo_deploy.json_text import to_json
from yowo_deploy.postprocess.actions import Action, Actions
from yowo_deploy.postprocess.events import rounded_time
from yowo_deploy.result import Result
from yowo_deploy.sinks.base import FileSink

TUBES_SCHEMA = Path(__file__).parent / "tubes.schema.json"
FORMAT, VERSION = "yowo-deploy tubes", 2


class TubeLines:
    """Results of one video in, its tubes out when they are over, as `tubes.schema.json` describes each."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes, self._count = classes, 0
        self._people, self._actions = Actions(math.inf, min_frames=2), Actions(min_frames=2)

    def push(self, result: FrameResult) -> list[dict[str, Any]]:
        """Take the next result; returns the tubes that are over."""
        return self._tubes(self._people.push(result), self._actions.push(result))

    def close(self) -> list[dict[str, Any]]:
        """The tubes at the end."""
        return self._tubes(self._people.close(), self._actions.close())

    def _tubes(self, people: list[Action], actions: list[Action]) -> list[dict[str, Any]]:
        return [self._tube(each, actions) for each in people]

    def _tube(self, person: Action, actions: list[Action]) -> dict[str, Any]:
        of_person = [each for each in actions if each.tube.tracker_id == person.tube.tracker_id]
        tube = {"id": self._count, **self._stretch(person), "actions": [self._stretch(each) for each in of_person]}
        scores = person.tube.scores if person.tube.scores is not None else np.ones(0, np.float32)
        tube["boxes"] = [[round(side, 2) for side in box] for box in person.tube.xyxy.tolist()]
        tube["scores"] = [round(score, 5) for score in scores.tolist()]
        self._count += 1
        return tube

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


class TubesSink(FileSink):
    """The tubes of one video as JSON, each written when it is over; `tubes.schema.json` lies beside this file.

    A tube is a person over time, with the class and score that `Detector.finish` gives it; its actions are the
    intervals with one class. People seen in only one frame are left out.

    Args:
        path: the JSON file to write.
        source: name of the video.
        classes: labels of the model.

    Raises:
        OutputError: the folder cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], source: str, classes: tuple[str, ...]) -> None:
        self._lines = TubeLines(classes)
        self._stack = ExitStack()
        temporary = self._stack.enter_context(atomic_write(path))
        self._stream = self._stack.enter_context(temporary.open("w", encoding="utf-8"))
        head = {"format": FORMAT, "version": VERSION, "source": source, "classes": list(classes)}
        self._stream.write(to_json(head)[:-1] + ', "tubes": [')
        self._frames = 0
        self._size_wh: list[int] | None = None

    def write(self, frame: Frame, result: Result) -> None:
        """Take the next result, see `Sink.write`."""
        self._frames += 1
        self._size_wh = [frame.shape[1], frame.shape[0]]
        self._append(self._lines.push(result))

    def _finish(self) -> None:
        self._append(self._lines.close())
        tail = to_json({"frames": self._frames, "size": self._size_wh})
        self._stream.write(f"\n], {tail[1:]}\n")

    def _append(self, tubes: list[dict[str, Any]]) -> None:
        for tube in tubes:
            self._stream.write((",\n" if tube["id"] else "\n") + to_json(tube))
