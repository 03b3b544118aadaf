"""A run of `detect` on the page: its video, who did what, and its events."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from yowo_deploy.boxes import Detections
from yowo_deploy.errors import InputError, foreign
from yowo_deploy.files import read_within
from yowo_deploy.json_text import finite, refuse_costly
from yowo_deploy.postprocess.actions import Actions
from yowo_deploy.postprocess.events import rounded_time
from yowo_deploy.serving.access import Access, check_token
from yowo_deploy.serving.live import MAX_EVENTS, bars_of
from yowo_deploy.serving.page import Page, json_answer
from yowo_deploy.serving.tensors import Json
from yowo_deploy.video.suffixes import is_video

FRAMES, EVENTS, TUBES = "detections.jsonl", "events.jsonl", "tubes.json"
_FPS = 25.0  # of lines without times
MOST_CLASSES = 1000  # that occur: a score of each is held for every box


@dataclass(frozen=True)
class _Line:
    """A line of `detections.jsonl`, as `FrameResult`."""

    frame_index: int
    timestamp: float
    source: str
    carried: bool
    detections: Detections
    names: tuple[str, ...]
    orig_shape: tuple[int, int] = (0, 0)  # which lines do not hold


class Recording:
    """The folder of a run.

    Args:
        folder: with `detections.jsonl`, and perhaps `events.jsonl`, `tubes.json` and a video.

    Raises:
        InputError: it is no such folder, or its files are damaged.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        if not (self.folder / FRAMES).is_file():
            raise InputError(f"{folder} holds no {FRAMES}: expected a folder that `yowo-deploy detect` wrote")
        videos = (each for each in sorted(self.folder.iterdir()) if is_video(each) and each.is_file())
        self.video = next(videos, None)
        with foreign(f"{folder} is damaged, its JSON is not what `yowo-deploy detect` writes"):
            self.data = self._read()

    def _read(self) -> Json:
        lines = list(_json_lines(self.folder / FRAMES))
        known = _labels(lines)
        labels = tuple(known.get(number, f"class {number}") for number in range(max(known, default=0) + 1))
        times = list(map(_time, lines))
        events = list(_json_lines(self.folder / EVENTS)) if (self.folder / EVENTS).is_file() else []
        latest = {each["id"]: each for each in events}
        return {
            "labels": list(labels),
            "times": times,
            "people": [[_person(each, labels) for each in line["detections"]] for line in lines],
            "bars": self._bars(lines, sorted(known)),
            "events": list(latest.values())[-MAX_EVENTS:],
            "duration": times[-1] if times else 0.0,
        }

    def _bars(self, lines: list[Json], classes: list[int]) -> list[list[Any]]:
        """Of the run's tubes, and without those of what its lines say: the score of each person's best class."""
        if (self.folder / TUBES).is_file():
            tubes = _parsed(_checked(self.folder / TUBES))["tubes"]
            fields = ("person", "class_id", "score", "first_time", "last_time")
            return [[each[name] for name in fields] for tube in tubes for each in tube["actions"]]
        actions, places = Actions(min_frames=2), {class_id: place for place, class_id in enumerate(classes)}
        bars = bars_of([over for each in lines for over in actions.push(_line(each, places))] + actions.close())
        return [[person, classes[place], *more] for person, place, *more in bars]


def recorded_app(folder: str | os.PathLike[str], *, hosts: Iterable[str] = (), token: str = "") -> Starlette:
    """An ASGI application that shows a run.

    Args:
        folder: of a run of `detect`.
        hosts, token: see `app`.

    Raises:
        InputError: see `Recording`.
    """
    check_token(token)
    recording = Recording(folder)
    about = {"data": "/api/recording", "video": "/api/video"}
    page = Page((), {"model": recording.folder.name, "labels": recording.data["labels"], "recording": about})

    async def data(request: Request) -> Response:
        return json_answer(recording.data)

    async def video(request: Request) -> Response:
        file = recording.video
        return FileResponse(file) if file is not None and file.is_file() else Response(status_code=404)

    routes = [*page.routes(), Route(about["data"], data), Route(about["video"], video)]
    made = Starlette(routes=routes, middleware=[Middleware(Access, hosts=tuple(hosts), token=token)])
    made.state.page = page
    return made


def _json_lines(path: Path) -> Iterator[Json]:
    # Of bytes: names may have what else Unicode takes for an end of line.
    return map(_parsed, _checked(path).splitlines())


def _checked(path: Path) -> bytes:
    content = read_within(path)
    refuse_costly(content)
    return content


def _parsed(text: bytes) -> Any:
    """Of numbers that JSON has, for what holds another cannot be sent."""
    return json.loads(text, parse_constant=finite, parse_float=finite)


def _labels(lines: list[Json]) -> dict[int, str]:
    """By class id, as far as they occur."""
    known: dict[int, str] = {}
    for each in (entry for line in lines for entry in line["detections"]):
        for entry in (each, *each.get("labels", [])):
            known[int(entry["class_id"])] = str(entry["label"])
    if len(known) > MOST_CLASSES or not 0 <= min(known, default=0) <= max(known, default=0) <= 10_000:
        raise ValueError(f"a class_id of more than 10000, or more than {MOST_CLASSES} of them")
    return known


def _time(line: Json) -> float:
    return rounded_time(float(line.get("time", line["frame"] / _FPS))) or 0.0


def _line(line: Json, places: dict[int, int]) -> _Line:
    """With the classes in these places."""
    found = line["detections"]
    scores = np.zeros((len(found), len(places)), np.float32)
    for row, each in enumerate(found):
        for entry in (each, *each.get("labels", [])):
            scores[row, places[int(entry["class_id"])]] = entry["confidence"]
    boxes = np.array([each["xyxy"] for each in found], np.float32).reshape(-1, 4)
    ids = np.array([each.get("tracker_id", -1) for each in found], np.int64)
    best = np.array([places[int(each["class_id"])] for each in found], np.int64)
    detections = Detections(boxes, scores.max(axis=1, initial=0), best, scores, ids)
    return _Line(int(line["frame"]), _time(line), "", bool(line.get("carried", False)), detections, ())


def _person(entry: Json, labels: tuple[str, ...]) -> list[Any]:
    return [entry.get("tracker_id", -1), entry["class_id"], entry["confidence"], *entry["xyxy"]]
