"""AVA: fifteen minutes of a film, people labelled once a second with what they all do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.arrays import Int
from yowo_deploy.boxes import Tube
from yowo_deploy.datasets import class_names as names
from yowo_deploy.datasets.base import AnnotatedVideo, Rules, Split
from yowo_deploy.datasets.box_files import read_excluded, read_label_map, read_table
from yowo_deploy.datasets.box_table import BoxTable
from yowo_deploy.datasets.tube_builder import tubes_of
from yowo_deploy.errors import DatasetError
from yowo_deploy.files import is_hidden
from yowo_deploy.video.reader import open_video
from yowo_deploy.video.suffixes import is_video

FIRST_S, LAST_S = 902, 1798  # annotated seconds of the film
SLACK = 0.01  # by which real corners leave the picture
CUT_S = 900  # where films cut to the annotated part begin
CUT_IS_SHORTER_S = 1500  # a whole film lasts longer than its last annotated second
FRAMES_FPS = 30.0  # of folders of frames, as everyone extracts them
CSV = {"train": "ava_train_v2.2.csv", "test": "ava_val_v2.2.csv"}
EXCLUDED = {"train": "ava_train_excluded_timestamps_v2.2.csv", "test": "ava_val_excluded_timestamps_v2.2.csv"}
JUDGED_CLASSES = "ava_action_list_v2.2_for_activitynet_2019.pbtxt"


class Ava:
    """The csv files beside videos, or beside folders of their frames at 30 a second, anywhere below.

    A box is there once for each of its labels. The validation part is the "test" split; where the 60-class list of the
    official evaluation is in the folder, the other 20 classes are left out of its truth. Frames that no row names are
    not judged, nor excluded timestamps, which are read where they are there. Films may be whole or cut to minutes 15 to
    30: their length decides.

    Raises:
        DatasetError: a csv is missing when its split is asked for, or a split other than 1.
    """

    labels = names.AVA
    # The official ones (OFFICIAL_YOWO, "Anchors").
    anchors = ((0.71626, 2.13583), (1.28967, 4.15014), (2.12714, 5.09344), (3.27212, 5.87423), (5.16303, 6.33821))
    anchor_grid = (7, 7)
    rules: Rules = "ava"
    exclusive = names.AVA_POSES

    def __init__(self, folder: Path, split: int = 1) -> None:
        self._folder = Path(folder)
        if split != 1:
            raise DatasetError(f"AVA has one split, not {split}")
        if not any((self._folder / name).is_file() for name in CSV.values()):
            raise DatasetError(f"{self._folder / CSV['test']} not found, nor {CSV['train']}")
        judged = self._folder / JUDGED_CLASSES
        self.judged_classes: tuple[int, ...] = ()
        if judged.is_file():
            self.judged_classes = tuple(each - 1 for each in read_label_map(judged))

    def videos(self, split: Split) -> Sequence[AnnotatedVideo]:
        """The films of one side, whether their files are there or not.

        Raises:
            DatasetError: the csv is not there, or a row is not as its format has it.
        """
        file = self._folder / CSV[split]
        if not file.is_file():
            raise DatasetError(f"{file} not found, needed for the {split} split")
        excluded = self._folder / EXCLUDED[split]
        left_out = read_excluded(excluded) if excluded.is_file() else set()
        table = read_table(file, truth=True)
        early, late = table.frame < FIRST_S * table.ticks, table.frame > LAST_S * table.ticks
        table.refuse(early | late, f"the second is not in {FIRST_S} to {LAST_S}")
        outside = ((table.xyxy < -SLACK) | (table.xyxy > 1 + SLACK)).any(axis=1)
        table.refuse(outside, "a corner is not in 0 to 1, a share of the picture")
        named = {*table.moments(), *table.bare} - left_out
        table = self._kept(table, split, left_out)
        tubes = tubes_of(table, self.labels)
        paths = {
            path.stem: path
            for path in self._folder.rglob("*")
            if not is_hidden(path.name) and (is_video(path) or path.is_dir())
        }
        seconds: dict[str, list[float]] = {}
        for name, second in sorted(named):
            seconds.setdefault(name, []).append(second)
        return [
            _video(name, tubes.get(name, ()), paths.get(name, self._folder / f"{name}.mp4"), seconds[name], table.ticks)
            for name in dict.fromkeys((*tubes, *seconds))
        ]

    def _kept(self, table: BoxTable, split: Split, left_out: set[tuple[str, float]]) -> BoxTable:
        """Without excluded seconds and, to test, without classes that are not judged."""
        excluded = np.array([moment in left_out for moment in table.moments()], bool)
        if split == "test" and self.judged_classes:
            known = {str(class_id + 1) for class_id in self.judged_classes}
            excluded |= ~np.array([name in known for name in table.classes])[table.class_id]
        return table.rows(~excluded)


def _video(name: str, tubes: tuple[Tube, ...], path: Path, seconds: list[float], ticks: int) -> AnnotatedVideo:
    """A film of which the frames of some seconds are judged; tubes count `ticks` a second."""
    start_s, fps, frames = _time_line(path)

    def frame_at(seconds: NDArray[Any]) -> Int:
        return np.asarray(np.rint((seconds - start_s) * fps), np.int64)

    placed = tuple(Tube(tube.class_id, frame_at(tube.frames / ticks), tube.xyxy) for tube in tubes)
    judged, first = np.unique(frame_at(np.array(seconds)), return_index=True)
    judged_s = tuple(seconds[each] for each in first.tolist())
    # Corners are shares of the picture.
    return AnnotatedVideo(name, name, path, frames, placed, (1, 1), judged, fps, judged_s)


def _time_line(path: Path) -> tuple[float, float, int]:
    """The second of the film with which a file begins, its frames a second and its frames."""
    if not path.exists():
        return 0.0, FRAMES_FPS, 0
    with open_video(path, allow_damaged=True) as reader:
        fps = FRAMES_FPS if path.is_dir() else reader.fps
        frames = reader.frames_declared
    return (CUT_S if frames < CUT_IS_SHORTER_S * fps else 0.0), fps, frames
