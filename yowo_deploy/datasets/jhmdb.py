"""J-HMDB-21: 928 trimmed clips, one labelled person or more in each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yowo_deploy.boxes import Tube
from yowo_deploy.datasets.base import AnnotatedVideo, Rules, Split
from yowo_deploy.datasets.box_files import jhmdb_tubes
from yowo_deploy.datasets.class_names import JHMDB21
from yowo_deploy.datasets.validation import whole
from yowo_deploy.datasets.yowo_folders import is_yowo_layout, refuse_absent_split, yowo_table, yowo_videos
from yowo_deploy.errors import DatasetError, InputError, foreign
from yowo_deploy.files import read_within
from yowo_deploy.json_text import parse_json

# The official ones (OFFICIAL_YOWO, "Anchors").
ANCHOR_GRID = (7, 7)
ANCHORS = ((0.95878, 3.10197), (1.67204, 4.0040), (1.75482, 5.64937), (3.09299, 5.80857), (4.91803, 6.25225))

_FIELDS = {"labels": list, "train_videos": list, "test_videos": list, "nframes": dict, "gttubes": dict}


class Jhmdb21:
    """`JHMDB-GT.json.gz` beside `videos/<class>/<name>.avi`, or the official YOWO folders (see `yowo_videos`).

    The annotations count frames from 1; three clips decode to fewer frames than they are annotated for.

    Raises:
        DatasetError: the annotation file is missing or broken, or there is no such split; tubes are
            read by `videos`.
    """

    anchors = ANCHORS
    anchor_grid = ANCHOR_GRID
    rules: Rules = "voc"
    judged_classes: tuple[int, ...] = ()
    exclusive = 0

    def __init__(self, folder: Path, split: int = 1) -> None:
        self._folder, self._split = Path(folder), split
        file = self._folder / "JHMDB-GT.json.gz"
        self._truth: dict[str, Any] = {}
        self.labels = JHMDB21
        if not file.is_file() and is_yowo_layout(self._folder):
            refuse_absent_split(self._folder, split)
            return
        self._truth = _read(file)
        splits = len(self._truth["train_videos"])
        if not 1 <= split <= splits:
            raise DatasetError(f"J-HMDB-21 has no split {split}, expected 1 to {splits}")
        self.labels = tuple(self._truth["labels"])

    def videos(self, split: Split) -> Sequence[AnnotatedVideo]:
        """660 videos to train on, 268 to test on, in the order of the annotation file."""
        if not self._truth:
            return yowo_videos(self._folder, yowo_table(self._folder, split, self._split), self.labels)
        with foreign("the J-HMDB-21 annotations do not fit together, fetch them again", DatasetError):
            return [self._video(name) for name in self._truth[f"{split}_videos"][self._split - 1]]

    def _video(self, name: str) -> AnnotatedVideo:
        tubes = []
        for class_id, rows in jhmdb_tubes(self._truth["gttubes"][name]):
            # Their corners are the first and last pixel of the box, ours its edges.
            xyxy = (rows[:, 1:] + [0, 0, 1, 1]).astype(np.float32)
            tubes.append(Tube(class_id, rows[:, 0].astype(np.int64) - 1, xyxy))
        path = self._folder / "videos" / f"{name}.avi"
        return AnnotatedVideo(name, re.sub(r"_\d+$", "", name), path, whole(self._truth["nframes"][name]), tuple(tubes))


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DatasetError(
            f"{path} not found: the J-HMDB-21 folder holds JHMDB-GT.json.gz and videos/<class>/<name>.avi"
        )
    try:
        with foreign(f"{path} cannot be read (fetch it again)", DatasetError):
            truth = parse_json(read_within(path))
    except InputError as error:
        raise DatasetError(str(error)) from error
    found = truth if isinstance(truth, dict) else {}
    if missing := [name for name, kind in _FIELDS.items() if not isinstance(found.get(name), kind)]:
        raise DatasetError(f"{path} lacks {', '.join(missing)}; is it the J-HMDB-21 ground truth?")
    return found
