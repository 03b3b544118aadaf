"""People whose actions are not known: they join the videos they are in, and never what is held out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from yowo_deploy.boxes import Tube
from yowo_deploy.datasets import AnnotatedVideo
from yowo_deploy.datasets.data_json import Annotations, NativeDataset
from yowo_deploy.errors import DatasetError
from yowo_training.data.people import with_people
from yowo_training.loss import IGNORED, UNKNOWN


def video(path: Path, *class_ids: int) -> AnnotatedVideo:
    """A file that is there, with a tube of each class."""
    path.touch()
    tubes = tuple(Tube(each, np.arange(2), np.full((2, 4), each, np.float32)) for each in class_ids)
    return AnnotatedVideo(path.stem, path.stem, path, 2, tubes)


def classes(videos: list[AnnotatedVideo]) -> dict[str, list[int]]:
    return {each.name: [tube.class_id for tube in each.tubes] for each in videos}


def test_people_join_their_video_and_bring_their_own(tmp_path: Path) -> None:
    run, held = video(tmp_path / "run.avi", 5), video(tmp_path / "held.avi", 6)
    more = [video(tmp_path / name, *of) for name, of in (("run.avi", (0, 1)), ("held.avi", (0,)), ("surf.avi", (2,)))]
    people = NativeDataset(Annotations(("person", "ignored", "Surfing"), tuple(more)), "people.json")
    found = with_people([run], people, [held])
    assert classes(found) == {"run": [5, UNKNOWN, IGNORED], "surf": [UNKNOWN]}
    assert found[0].path == run.path and run.tubes == found[0].tubes[:1]


def test_test_videos_of_people_are_not_trained_on(tmp_path: Path) -> None:
    both = (video(tmp_path / "a.avi", 0), video(tmp_path / "b.avi", 0))
    split = ({"train": ("a",), "test": ("b",)},)
    assert classes(with_people([], NativeDataset(Annotations(("person",), both, split), "people.json"))) == {
        "a": [UNKNOWN]
    }


def test_absent_videos_are_left_out_and_none_at_all_is_an_error(tmp_path: Path) -> None:
    there, gone = video(tmp_path / "a.avi", 0), video(tmp_path / "b.avi", 0)
    gone.path.unlink()
    assert [each.name for each in with_people([], NativeDataset(Annotations(("p",), (there, gone)), "p"))] == ["a"]
    there.path.unlink()
    with pytest.raises(DatasetError, match="none of the 2 videos"):
        with_people([], NativeDataset(Annotations(("p",), (there, gone)), "p"))
