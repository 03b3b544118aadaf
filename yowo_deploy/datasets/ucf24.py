"""UCF101-24: videos and their JSON of tubes, or the official YOWO folders of frames and labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from yowo_deploy.datasets import class_names as names
from yowo_deploy.datasets.base import AnnotatedVideo, Rules, Split
from yowo_deploy.datasets.box_files import read_list, read_table
from yowo_deploy.datasets.box_table import BoxTable
from yowo_deploy.datasets.tube_builder import tubes_of
from yowo_deploy.datasets.yowo_folders import (
    annotated,
    is_yowo_layout,
    list_file,
    refuse_absent_split,
    yowo_table,
    yowo_videos,
)
from yowo_deploy.errors import DatasetError
from yowo_deploy.files import visible_files
from yowo_deploy.video.suffixes import is_video

ANNOTATIONS = ("pyannot.json.gz", "pyannot.json")


class Ucf24:
    """One of two layouts, recognised by what is in the folder.

    - `pyannot.json.gz`, `testlist01.txt`, and videos as `<class>/<name>.avi` or `<name>.mp4`, in `videos/` or not. What
      the list does not name is trained on.
    - The official YOWO folders, see `yowo_videos`.

    Raises:
        DatasetError: neither is there, or what is there cannot be read.
    """

    labels = names.UCF24
    # The official ones (OFFICIAL_YOWO, "Anchors").
    anchors = ((0.70458, 1.18803), (1.26654, 2.55121), (1.59382, 4.08321), (2.30548, 4.94180), (3.52332, 5.91979))
    anchor_grid = (7, 7)
    rules: Rules = "voc"
    judged_classes: tuple[int, ...] = ()
    exclusive = 0

    def __init__(self, folder: Path, split: int = 1) -> None:
        self._folder, self._split = Path(folder), split
        json = next((self._folder / name for name in ANNOTATIONS if (self._folder / name).is_file()), None)
        self._table: BoxTable | None = None
        if json is not None:
            self._list = list_file(self._folder, "test", split)
            self._test, _ = read_list(self._list)
            self._table = read_table(json, truth=True)
        elif not is_yowo_layout(self._folder):
            raise DatasetError(
                f"{self._folder / ANNOTATIONS[0]} not found: the UCF101-24 folder holds it with the videos, "
                "or rgb-images/ and labels/ as the official YOWO code has them"
            )
        else:
            refuse_absent_split(self._folder, split)

    def videos(self, split: Split) -> Sequence[AnnotatedVideo]:
        """The videos of one side, whether their files are there or not, in the order of the annotations.

        Raises:
            DatasetError: no annotated video is in the split, or a list or an annotation cannot be read.
        """
        if self._table is None:
            return yowo_videos(self._folder, yowo_table(self._folder, split, self._split), self.labels)
        wanted = np.array([(name in self._test) == (split == "test") for name in self._table.videos])
        if not wanted.any():
            raise DatasetError(f"no annotated video is in the {split} split that {self._list} makes")
        files = {path.stem: path for path in visible_files(self._folder) if is_video(path)}
        found = []
        for name, tubes in tubes_of(self._table.rows(wanted[self._table.video]), self.labels).items():
            short = re.sub(r"^.*?(?=v_)", "", name)  # Biking_v_Biking_g01_c01 lies in v_Biking_g01_c01.avi
            found.append(annotated(name, files.get(short, self._folder / f"{short}.avi"), tubes))
        return found
