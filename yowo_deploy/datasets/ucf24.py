"""UCF101-24: videos and their JSON of tubes, or the folders of frames and labels that the release reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from yowo_deploy.boxes import Tube
from yowo_deploy.datasets import labels as names
from yowo_deploy.datasets.annotations import tubes_of
from yowo_deploy.datasets.base import AnnotatedVideo, Rules, Split
from yowo_deploy.errors import DatasetError
from yowo_deploy.metrics.readers import read_list, read_table
from yowo_deploy.metrics.table import BoxTable

ANNOTATED_WH = (320, 240)  # whatever the size of the video is (OFFICIAL_YOWO, "Preprocessing")
ANNOTATIONS = ("pyannot.json.gz", "pyannot.json")
VIDEO_SUFFIXES = (".avi", ".mp4", ".mkv", ".webm")


class Ucf24:
    """One of two layouts, told apart by what is in the folder.

    - `pyannot.json.gz`, `testlist01.txt`, and videos as `<class>/<name>.avi` or `<name>.mp4`, in `videos/` or not. What
      the list does not name is trained on.
    - The release's: `rgb-images/<class>/<name>/00001.jpg`, `labels/<class>/<name>/00001.txt`, `trainlist.txt` and
      `testlist.txt`. Its labels name no persons, so boxes are chained to tubes by overlap.

    Raises:
        DatasetError: neither is there, or what is there cannot be read.
    """

    labels = names.UCF24
    # The release's (OFFICIAL_YOWO, "Anchors").
    anchors = ((0.70458, 1.18803), (1.26654, 2.55121), (1.59382, 4.08321), (2.30548, 4.94180), (3.52332, 5.91979))
    anchor_grid = (7, 7)
    rules: Rules = "voc"

    def __init__(self, folder: Path, split: int = 1) -> None:
        self._folder, self._split = Path(folder), split
        json = next((self._folder / name for name in ANNOTATIONS if (self._folder / name).is_file()), None)
        self._tables: dict[Split, BoxTable] = {}
        if json is not None:
            test, _ = read_list(_list_file(self._folder, "test", split))
            table = read_table(json, truth=True)
            tests = np.array([name in test for name in table.videos])[table.video]
            self._tables = {"train": table.rows(~tests), "test": table.rows(tests)}
        elif not (self._folder / "labels").is_dir():
            raise DatasetError(
                f"{self._folder / ANNOTATIONS[0]} not found: the UCF101-24 folder holds it with the videos, "
                "or rgb-images/ and labels/ as the YOWO release has them"
            )

    def videos(self, split: Split) -> Sequence[AnnotatedVideo]:
        """The videos of one side, whether their files are there or not, in the order of the annotations."""
        if split not in self._tables:
            self._tables[split] = read_table(_list_file(self._folder, split, self._split), truth=True)
        files = _files(self._folder)
        return [self._video(name, tubes, files) for name, tubes in tubes_of(self._tables[split], self.labels).items()]

    def _video(self, name: str, tubes: tuple[Tube, ...], files: dict[str, Path]) -> AnnotatedVideo:
        short = re.sub(r"^.*?(?=v_)", "", name)
        path = files.get(name) or files.get(short) or self._folder / f"{short}{VIDEO_SUFFIXES[0]}"
        from_zero = tuple(Tube(tube.class_id, tube.frames - 1, tube.xyxy) for tube in tubes)
        frames = max(int(tube.frames[-1]) + 1 for tube in from_zero)
        return AnnotatedVideo(name, re.sub(r"_c\d+$", "", name), path, frames, from_zero, ANNOTATED_WH)


def _list_file(folder: Path, split: Split, number: int) -> Path:
    found = sorted(folder.glob(f"{split}list*.txt"))
    numbered = [path for path in found if path.stem.endswith(f"{number:02d}")]
    if not numbered and (len(found) != 1 or number != 1):
        raise DatasetError(f"{folder}: {split}list{number:02d}.txt not found, needed for split {number}")
    return (numbered or found)[0]


def _files(folder: Path) -> dict[str, Path]:
    """Videos by name, and folders of frames by `class_name`."""
    videos = (path for path in folder.rglob("*") if path.suffix in VIDEO_SUFFIXES)
    frames = (path for path in (folder / "rgb-images").glob("*/*") if path.is_dir())
    return {path.stem: path for path in videos} | {f"{path.parent.name}_{path.name}": path for path in frames}
