"""data.json: what is written is read again, the schema and the reader agree, a fault is told with its place."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.yowo_deploy.datasets.random_data import annotations, assert_same
from yowo_deploy.datasets import open_dataset
from yowo_deploy.datasets.data_json import SCHEMA, Annotations, plain_numbers, read_annotations, write_annotations
from yowo_deploy.errors import DatasetError, InputError

GOOD: dict[str, Any] = {
    "format": "yowo-deploy data",
    "version": 1,
    "classes": ["walk", "sit"],
    "videos": [
        {"name": "a", "path": "a.mp4", "fps": 25, "size": [640, 480], "frames": 100},
        {"name": "b", "path": "b.mp4", "fps": None, "size": None, "frames": 3, "recording": "a", "judged_frames": [1]},
    ],
    "tubes": [{"video": "a", "class": "walk", "person": 0, "frames": [3, 4], "boxes": [[1, 2, 3, 4], [1, 2, 3, 4.5]]}],
    "splits": [{"train": ["a"], "test": ["b"]}],
}


@pytest.fixture(scope="module")
def schema() -> Any:
    return jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))


def written(folder: Path, content: Any) -> Path:
    (folder / "data.json").write_text(json.dumps(content), encoding="utf-8")
    return folder / "data.json"


@pytest.mark.parametrize("name", ["data.json", "data.json.gz"])
@settings(max_examples=25, deadline=None)
@given(given_data=annotations(measured=False))
def test_what_is_written_is_read_again_and_is_valid_by_the_schema(
    given_data: Annotations, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("data") / name
    write_annotations(given_data, path)
    assert_same(read_annotations(path), given_data)
    if name == "data.json":
        schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
        jsonschema.validate(json.loads(path.read_text(encoding="utf-8")), schema)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_numbers_are_written_short_and_are_the_very_same_float32(values: list[float]) -> None:
    array = np.array(values, np.float32)
    assert np.array_equal(np.array(json.loads(json.dumps(plain_numbers(array))), np.float32), array)
    assert plain_numbers(np.array([12.3], np.float32)) == [12.3]


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    video = read_annotations(written(tmp_path, GOOD)).videos[0]
    assert video.path == tmp_path / "a.mp4"
    (tmp_path / "deeper").mkdir()
    write_annotations(read_annotations(tmp_path / "data.json"), tmp_path / "deeper" / "data.json")
    assert json.loads((tmp_path / "deeper" / "data.json").read_text())["videos"][0]["path"] == "../a.mp4"


BROKEN: list[tuple[tuple[Any, ...], Any, str]] = [
    (("classes",), ["walk", "walk"], "classes: a name occurs twice"),
    (("classes",), "walk", 'classes: "walk", expected a list'),
    (("videos", 0, "name"), 3, r"videos\[0\]: name 3"),
    (("videos", 1, "path"), None, r"videos\[1\]: path null"),
    (("videos", 0, "frames"), -1, r"videos\[0\]: frames -1"),
    (("videos", 0, "fps"), 0, r"videos\[0\]: fps 0"),
    (("videos", 0, "size"), [640], r"videos\[0\]: size \[640\]"),
    (("videos", 1, "judged_frames"), ["1"], r"videos\[1\]: judged_frames"),
    (("tubes",), {}, "tubes: {}, expected a list"),
    (("tubes", 0, "class"), 0, r"tubes\[0\]: class 0 is none of walk, sit"),
    (("tubes", 0, "person"), "Bob", r'tubes\[0\]: person "Bob"'),
    (("tubes", 0, "frames"), ["3", "4"], r"tubes\[0\]: frames are not a list of whole numbers"),
    (("tubes", 0, "frames"), [3, True], r"tubes\[0\]: frames are not a list of whole numbers"),
    (("tubes", 0, "frames"), [-1, 4], r"tubes\[0\]: frames do not ascend"),
    (("tubes", 0, "frames"), [3, 2**40], r"tubes\[0\]: frames reach 1099511627776"),
    (("tubes", 0, "boxes"), [[1, 2, 3, 4], [1, 2, 3]], r"tubes\[0\]: boxes are not lists of four numbers"),
    (("splits", 0, "train"), "a", r"splits\[0\].train"),
    (("exclusive_classes",), -1, "exclusive_classes: -1"),
    (("tubes", 0, "class"), ["walk"], r"tubes\[0\]: class .* is none of"),
]
BEYOND_SCHEMA: list[tuple[tuple[Any, ...], Any, str]] = [
    (("classes", 0), "walk\u200b", "classes: 'walk.u200b' has characters that cannot be seen"),
    (("videos", 1, "name"), "\x1b[2J", r"videos\[1\]: name"),
    (("videos", 0, "path"), "\ud800.mp4", r"videos\[0\]: path"),
    (("videos", 0, "path"), "x" * 256, r"videos\[0\]: path .* more than 255 bytes"),
    (("videos", 1, "name"), "a", r"videos\[1\]: name \"a\", expected one that no other video has"),
    (("tubes", 0, "class"), "run", r"tubes\[0\]: class \"run\""),
    (("judged_classes",), ["Walk"], "judged_classes: .Walk. is none of the classes"),
    (("tubes", 0, "video"), "c", "video 'c' is not among the videos"),
    (("videos", 0, "fps"), 10**400, r"videos\[0\]: fps 1000"),  # which no float holds
    (("videos", 0, "fps"), 1e-300, r"videos\[0\]: fps 1e-300"),
    (("tubes", 0, "frames"), [4, 3], r"tubes\[0\]: frames do not ascend"),
    (("tubes", 0, "frames"), [3], r"tubes\[0\]: 1 frames and boxes of shape \(2, 4\)"),
    (("splits", 0, "test"), ["c"], r"splits\[0\].test: video 'c'"),
]


def spoilt(place: tuple[Any, ...], value: Any) -> Any:
    content: Any = copy.deepcopy(GOOD) | {"multi_label": True}
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return content


@pytest.mark.parametrize(("place", "value", "expected"), [*BROKEN, *BEYOND_SCHEMA])
def test_a_fault_is_told_with_its_place(place: tuple[Any, ...], value: Any, expected: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=f"data.json: .*{expected}"):
        read_annotations(written(tmp_path, spoilt(place, value)))


@pytest.mark.parametrize(("place", "value", "expected"), BROKEN)
def test_the_schema_refuses_what_the_reader_refuses(
    place: tuple[Any, ...], value: Any, expected: str, schema: Any
) -> None:
    assert schema.is_valid(GOOD)
    assert not schema.is_valid(spoilt(place, value))


def test_all_faults_are_told_at_once_and_what_is_sound_is_kept(tmp_path: Path) -> None:
    content = copy.deepcopy(GOOD)
    content["tubes"] += [{**GOOD["tubes"][0], "class": "run"}, {**GOOD["tubes"][0], "frames": [1]}]
    told: list[tuple[str, str]] = []
    found = read_annotations(written(tmp_path, content), lambda where, fault: told.append((where, fault)))
    assert [where for where, _ in told] == ["tubes[1]", "tubes[2]"]
    assert [len(video.tubes) for video in found.videos] == [1, 0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("[", "is no JSON"), ("[]", "has no"), ("{}", "data import"), (json.dumps(GOOD | {"version": 2}), "newer than 1")],
)
def test_another_file_is_refused(text: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text(text)
    with pytest.raises(DatasetError, match=expected):
        read_annotations(tmp_path / "data.json")


def test_it_opens_as_a_data_set_with_its_splits(tmp_path: Path) -> None:
    path = str(written(tmp_path, GOOD))
    dataset = open_dataset(path)
    assert (dataset.labels, dataset.rules) == (("walk", "sit"), "voc")
    assert [[v.name for v in dataset.videos(side)] for side in ("train", "test")] == [["a"], ["b"]]
    with pytest.raises(DatasetError, match="no split 2, expected 1 to 1"):
        open_dataset(path, None, 2)
    with pytest.raises(DatasetError, match="leave --data out"):
        open_dataset(path, tmp_path)
    with pytest.raises(InputError, match="not found"):
        open_dataset(os.fspath(tmp_path / "absent.json"))


def test_without_splits_everything_is_to_train_on(tmp_path: Path) -> None:
    dataset = open_dataset(str(written(tmp_path, {**GOOD, "splits": []})))
    assert len(dataset.videos("train")) == 2
    with pytest.raises(DatasetError, match="no test videos: import two recordings a class, --test-share"):
        dataset.videos("test")


def test_boxes_that_end_before_they_begin_are_not_trained_on(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"a has boxes that end before they begin: `yowo-deploy data check`"):
        open_dataset(str(written(tmp_path, spoilt(("tubes", 0, "boxes"), [[1, 2, 3, 4], [5, 2, 3, 4]]))))


def test_several_labels_a_box_are_scored_as_avas(tmp_path: Path) -> None:
    content = GOOD | {"multi_label": True, "exclusive_classes": 1, "judged_classes": ["sit"]}
    dataset = open_dataset(str(written(tmp_path, content)))
    assert (dataset.rules, dataset.exclusive, dataset.judged_classes) == ("ava", 1, (1,))
