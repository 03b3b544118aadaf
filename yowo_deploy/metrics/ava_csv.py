"""Append detections to AVA's csv film by film, and resume a run that was stopped."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from yowo_deploy.datasets.base import AnnotatedVideo
from yowo_deploy.datasets.box_files import ava_rows
from yowo_deploy.errors import DatasetError, InputError, foreign
from yowo_deploy.files import atomic_write, write_text
from yowo_deploy.metrics.detections_log import append
from yowo_deploy.metrics.frame_ap import FrameBoxes

_DONE = re.compile(r"(\d{1,18}) bytes, (\d{1,18}) frames missing, after (.*)")


class AvaCsv:
    """Rows of `video,second,x1,y1,x2,y2,action,score`, as AVA's evaluator reads them; corners in 0 to 1.

    That format has no comments: what is finished stands in a file beside it, FILE.done.

    Args:
        path: made if it is not there. Films that are whole in it need not be run again; half of one is dropped.
        stamp: what the detections depend on; a file of another stamp is not added to.
        films: their judged frames have seconds.

    Attributes:
        done: see `DetectionsFile`.

    Raises:
        InputError: the file was made by another model or is something else.
        OutputError: it cannot be written.
    """

    def __init__(self, path: str | Path, stamp: str, films: Iterable[AnnotatedVideo]) -> None:
        self.path, self._beside = Path(path), Path(f"{path}.done")
        self._seconds = {film.name: (film.judged_frames(), np.array(film.judged_s)) for film in films}
        header = f"# yowo-deploy detections {stamp}"
        text = self._beside.read_text(encoding="utf-8", errors="replace") if self._beside.is_file() else f"{header}\n"
        first, *lines = text.split("\n")
        if first != header or (self.path.is_file() and not self._beside.is_file()):
            raise InputError(f"{self.path} holds other detections: remove it and {self._beside}, or give another name")
        content = self.path.read_bytes() if self.path.is_file() else b""
        self.done: dict[str, tuple[FrameBoxes, int]] = {}
        kept, end = [header], 0
        for line in lines[:-1]:  # the last was torn by whatever stopped the run, or is empty
            found = _DONE.fullmatch(line)
            if found and end <= int(found[1]) <= len(content):
                rows = content[end : int(found[1])].decode("utf-8", errors="replace")
                with foreign(f"{self._beside} is damaged, remove it and {self.path}"):
                    film = json.loads(found[3])
                    self.done[film] = self._boxes(film, rows), int(found[2])
                kept.append(line)
                end = int(found[1])
        with atomic_write(self.path) as temporary:
            temporary.write_bytes(content[:end])
        write_text(self._beside, "\n".join(kept) + "\n")

    def add(self, video: str, boxes: FrameBoxes, missing: int) -> None:
        """Append a finished film."""
        frames, seconds = self._seconds[video]
        places = seconds[np.searchsorted(frames, boxes.frame)]
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        columns = boxes.xyxy, boxes.class_id + 1, boxes.score
        for second, box, action, score in zip(places.tolist(), *(each.tolist() for each in columns), strict=True):
            moment = f"{int(second):04}" if second == int(second) else f"{second:.6f}"
            writer.writerow([video, moment, *(f"{value:.9g}" for value in box), action, f"{score:.9g}"])
        append(self.path, out.getvalue())
        size = self.path.stat().st_size
        append(self._beside, f"{size} bytes, {missing} frames missing, after {json.dumps(video)}\n")
        self.done[video] = boxes, missing

    def _boxes(self, film: str, text: str) -> FrameBoxes:
        try:
            frames, seconds = self._seconds[film]
            rows = list(ava_rows(self.path, text, detections=True))
            frame = frames[np.searchsorted(seconds, np.array([row[2] for row in rows], np.float64))]
            numbers = np.array([[*box, *rest] for *_, box, rest in rows], np.float64).reshape(-1, 6)
        except (DatasetError, ValueError, LookupError) as error:
            raise InputError(f"{self.path} is damaged ({error}): remove it, or give another name") from error
        class_id, score = numbers[:, 4].astype(np.int64) - 1, numbers[:, 5].astype(np.float32)
        return FrameBoxes(frame, class_id, numbers[:, :4].astype(np.float32), score)
