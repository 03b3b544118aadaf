"""`yowo-deploy data` as a user types it, and the other commands on a data.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from yowo_deploy.cli import cli
from yowo_deploy.datasets import open_dataset
from yowo_deploy.datasets.data_json import read_annotations
from yowo_deploy.datasets.statistics import statistics_of
from yowo_deploy.datasets.synthetic.generator import make_synthetic
from yowo_deploy.errors import DatasetError, InputError, OutputError, YowoError
from yowo_training import pipeline


def run(*arguments: object) -> Result:
    """The command in this process; an error of ours is in `exception`, everything else is raised."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, (YowoError, SystemExit)):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("data")
    make_synthetic(made, 6, 6, seed=2)
    return made


@pytest.fixture(scope="module")
def native(folder: Path) -> Path:
    return folder / "synthetic.json"


@pytest.mark.parametrize("kind", ["cvat", "ava", "cocovid", "mot"])
def test_what_is_exported_is_recognised_and_comes_back(kind: str, native: Path, folder: Path, tmp_path: Path) -> None:
    exported = run("data", "export", native, "--to", kind, "-o", tmp_path / "out")
    assert exported.exit_code == 0 and all(Path(line).is_file() for line in exported.stdout.splitlines())
    result = run("data", "import", tmp_path / "out", "--videos", folder, "-o", tmp_path / "back.json")
    assert result.exit_code == 0 and f"{kind}: 12 videos (6 to train, 6 to test)" in result.stderr
    found, truth = (read_annotations(path) for path in (tmp_path / "back.json", native))
    by_name = {video.name: video for video in found.videos}
    for video in truth.videos:
        assert by_name[video.name].path == video.path
        boxes = [np.concatenate([t.xyxy for t in v.tubes]).tolist() for v in (by_name[video.name], video)]
        assert sorted(boxes[0]) == sorted(boxes[1])


def test_videos_that_are_not_there_are_said_and_may_be_left_out(native: Path, tmp_path: Path) -> None:
    content = json.loads(native.read_text())
    for video in content["videos"]:
        video["path"] = str(native.parent / video["path"])
    content["videos"][0]["path"] = "gone.avi"
    (tmp_path / "data.json").write_text(json.dumps(content))
    run("data", "export", tmp_path / "data.json", "--to", "cvat", "-o", tmp_path / "cvat")
    result = run("data", "import", tmp_path / "cvat", "-o", tmp_path / "back.json")
    assert "missing videos: 1, the first" in result.stderr and "give --videos" in result.stderr
    result = run("data", "import", tmp_path / "cvat", "--present", "-o", tmp_path / "back.json", "--overwrite")
    assert "left out: 1 video without a file" in result.stderr
    assert len(read_annotations(tmp_path / "back.json").videos) == 11


def test_check_ends_with_1_and_mends_what_is_safe(native: Path, tmp_path: Path) -> None:
    content = json.loads(native.read_text())
    for video in content["videos"]:
        video["path"] = str(native.parent / video["path"])
    content["tubes"][3]["boxes"][0] = [100, 50, 140, 90]
    data = tmp_path / "data.json"
    data.write_text(json.dumps(content))
    result = run("data", "check", data)
    assert result.exit_code == 1 and "tubes[3]" in result.stdout and "cut them at the edge" in result.stdout
    told = json.loads(run("data", "check", data, "--json").stdout)
    assert [each["kind"] for each in told if each["level"] == "error"] == ["outside"]
    mended = run("data", "check", data, "--fix", "-o", tmp_path / "mended.json")
    assert mended.exit_code == 0 and "cut at the edge" in mended.stderr
    assert run("data", "check", tmp_path / "mended.json", "--fast").exit_code == 0
    assert json.loads(data.read_text()) == content
    content["tubes"][4]["class"] = "fly"
    data.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="--fix would lose them"):
        raise run("data", "check", data, "--fix").exception  # type: ignore[misc]


def test_annotations_are_replaced_only_where_that_is_said(native: Path, tmp_path: Path) -> None:
    made, mended = tmp_path / "cvat", tmp_path / "mended.json"
    content = json.loads(native.read_text())
    content["tubes"][3]["boxes"][0] = [100, 50, 140, 90]
    faulty = native.parent / "faulty.json"
    faulty.write_text(json.dumps(content))
    commands = [
        ("data", "export", native, "--to", "cvat", "-o", made),
        ("data", "import", made, "-o", tmp_path / "data.json"),
        ("data", "check", faulty, "--fast", "--fix", "-o", mended),
    ]
    for command in commands:
        assert run(*command).exit_code == 0
        before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
        with pytest.raises(OutputError, match="already exists: give another name, or --overwrite to replace it"):
            raise run(*command).exception  # type: ignore[misc]
        assert before == {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
        assert run(*command, "--overwrite").exit_code == 0
    assert run("data", "check", mended, "--fast", "--fix").exit_code == 0  # in place, as it says


def test_that_nothing_is_left_to_test_on_is_said(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("a,0,0,0,1,1,1\nb,0,0,0,1,1,2\n")
    said = run("data", "import", tmp_path / "mine.csv", "--fps", 10, "--test-share", 0.5, "-o", tmp_path / "a.json")
    assert "2 videos (2 to train, 0 to test), 2 tubes, 2 boxes, 2 classes: 1, 2" in said.stderr
    assert "no test videos: every class has only one recording" in said.stderr


def test_what_is_lost_on_the_way_out_is_said(native: Path, tmp_path: Path) -> None:
    content = json.loads(native.read_text())
    content["tubes"] += [content["tubes"][0]]
    content["splits"] *= 2
    (tmp_path / "data.json").write_text(json.dumps(content))
    said = run("data", "export", tmp_path / "data.json", "--to", "ava", "-o", tmp_path / "ava").stderr
    assert "tubes overlap in time with another of their person and class (the first: 'train_0000', person 0" in said
    assert "boxes lie between whole seconds: AVA's own tools read only whole seconds" in said
    assert "only for `data import`, because the format cannot express it: 1 more split" in said


def test_a_name_that_no_file_can_have_is_one_line(native: Path, tmp_path: Path) -> None:
    long = tmp_path / ("x" * 300 + ".json")
    for command in (
        ("data", "import", long),
        ("data", "import", native, "--from", "cocovid", "-o", long),
        ("data", "export", native, "--to", "mot", "-o", long),
        ("data", "check", long),
    ):
        assert isinstance(run(*command).exception, (InputError, OutputError)), command


def test_figures_agree_with_the_file(native: Path, tmp_path: Path) -> None:
    result = run("data", "stats", native, "--plot", tmp_path / "plot.png", "--json")
    figures: dict[str, Any] = json.loads(result.stdout)
    truth = read_annotations(native)
    tubes = [tube for video in truth.videos for tube in video.tubes]
    assert (figures["videos"], figures["frames"], figures["tubes"]) == (12, 12 * 16, len(tubes))
    assert figures["boxes"] == sum(map(len, tubes)) == sum(row["boxes"] for row in figures["classes"])
    assert figures["bare_frames"] == 12 * 7  # labelled from frame 7 on
    assert figures["most_people"] == max(len(video.tubes) for video in truth.videos)
    assert {row["median_s"] for row in figures["classes"]} == {9 / 12}
    assert figures["anchor_iou"]["--fit-anchors"] > figures["anchor_iou"]["default anchors"]
    picture = cv2.imread(str(tmp_path / "plot.png"))
    assert picture is not None and picture.std() > 5
    assert "frames without anyone" in run("data", "stats", native).stdout
    assert statistics_of(truth).sizes.shape == (figures["boxes"], 2)


def test_ground_truth_is_drawn_where_it_is(native: Path, tmp_path: Path) -> None:
    assert run("data", "preview", native, "-o", tmp_path / "sheet.png", "--count", 4).exit_code == 0
    assert cv2.imread(str(tmp_path / "sheet.png")).shape[1] > 4 * 320
    run("data", "preview", native, "-o", tmp_path / "one.webm", "--video", "test_0001")
    [video] = [v for v in read_annotations(native).videos if v.name == "test_0001"]
    capture, plain = cv2.VideoCapture(str(tmp_path / "one.webm")), cv2.VideoCapture(str(video.path))
    for number in range(16):
        drawn, frame = capture.read()[1], plain.read()[1]
        changed = np.abs(drawn.astype(int) - frame).max(axis=2) > 60
        assert changed.any() == (number >= 7), number


def test_pictures_of_nobody_are_refused(native: Path, tmp_path: Path) -> None:
    content = json.loads(native.read_text()) | {"tubes": []}
    (native.parent / "nobody.json").write_text(json.dumps(content))
    result = run("data", "preview", native.parent / "nobody.json", "-o", tmp_path / "sheet.png")
    assert isinstance(result.exception, DatasetError) and "has annotated people" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "error", "expected"),
    [
        (("import", "absent"), InputError, "annotations not found: absent"),
        (("import", ".", "--from", "cvat", "--videos", "absent"), InputError, "folder of videos not found"),
        (("import", ".", "-o", "data.xml"), OutputError, r"ends in .json"),
        (("export", "absent.json", "--to", "cvat", "-o", "out"), InputError, "data not found"),
        (("check", "absent.json"), InputError, "data not found"),
        (("check", "absent.json", "-o", "other.json"), InputError, "give --fix as well"),
        (("stats", "absent.json", "--plot", "plot.pdf"), OutputError, "ends in .png"),
        (("preview", "absent.json", "-o", "a.png"), InputError, "data not found"),
    ],
)
def test_a_wrong_call_is_one_line_with_a_remedy(
    arguments: tuple[str, ...], error: type[YowoError], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=expected):
        raise run("data", *arguments).exception  # type: ignore[misc]
    assert list(tmp_path.iterdir()) == []


def test_anchors_and_batches_are_shown_of_a_data_json(native: Path, tmp_path: Path) -> None:
    assert run("anchors", native, "--json").exit_code == 0
    arguments = ("--recipe", "yowo-tiny", "--show-batch", tmp_path / "batch.png", "-o", tmp_path / "run")
    assert run("train", native, "--fit-anchors", *arguments).exit_code == 0
    assert isinstance(run("train", native, "--data", tmp_path, *arguments).exception, DatasetError)


@pytest.mark.parametrize(
    ("start", "recipe", "own", "weights", "expected"),
    [
        ("auto", "yowo-lite", True, False, "yowo-lite.onnx"),
        ("auto", "yowo-tiny", True, False, None),
        ("auto", "yowo-lite", False, False, None),  # the shipped model has seen the public data
        ("auto", "yowo-lite", True, True, None),
        ("recipe", "yowo-lite", True, False, None),
        ("default", "yowo-tiny", True, False, "yowo-lite.onnx"),
        ("mine.pt", "yowo-lite", True, False, "mine.pt"),
    ],
)
def test_small_sets_of_ones_own_start_from_the_shipped_model(
    start: str, recipe: str, own: bool, weights: bool, expected: str | None, native: Path
) -> None:
    name = str(native) if own else "synthetic"
    chosen = pipeline._start(start, recipe, name, open_dataset(str(native)), weights)
    assert (Path(chosen).name if chosen else None) == expected


def test_large_sets_start_as_the_recipe_says(native: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "SMALL", 6)
    assert pipeline._start("auto", "yowo-lite", str(native), open_dataset(str(native)), False) is None
    with pytest.raises(InputError, match="a trained model has both branches"):
        pipeline._start("default", "yowo-lite", str(native), open_dataset(str(native)), True)


def test_what_is_detected_is_a_data_json_to_correct(native: Path, tmp_path: Path) -> None:
    video = read_annotations(native).videos[0].path
    result = run("detect", video, "--save-json", tmp_path / "found.json", "--conf", 0.001)
    assert result.exit_code == 0
    found = read_annotations(tmp_path / "found.json")
    assert (len(found.classes), found.videos[0].path, found.videos[0].frames) == (21, video, 16)
    assert found.videos[0].tubes
    assert run("data", "export", tmp_path / "found.json", "--to", "cvat", "-o", tmp_path / "cvat").exit_code == 0


def test_clips_to_calibrate_on_come_from_the_training_videos(native: Path) -> None:
    calibration = pytest.importorskip("yowo_export.sample_clips")
    found = list(calibration._videos([native]))
    assert found == [video.path for video in open_dataset(str(native)).videos("train")]
