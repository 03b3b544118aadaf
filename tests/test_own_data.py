"""docs/own-data.md works: its commands run one after the other, on videos that are made here."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from yowo_deploy.cli import cli
from yowo_deploy.datasets.data_json import SCHEMA, read_annotations
from yowo_deploy.datasets.importer import WRITERS
from yowo_deploy.datasets.synthetic.generator import make_synthetic

TUTORIAL = (Path(__file__).parent.parent / "docs" / "own-data.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^yowo-deploy .*$", TUTORIAL, flags=re.MULTILINE)
AN_HOUR, A_MOMENT = "--minutes 60", "--epochs 1"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """videos/ and annotated/, as somebody who annotated eight videos in CVAT has them, and a ninth video."""
    make_synthetic(tmp_path / "made", 8, 1)
    data = read_annotations(tmp_path / "made" / "synthetic.json")
    (tmp_path / "videos").mkdir()
    videos = {video.name: video for video in data.videos}
    shutil.move(videos["test_0000"].path, tmp_path / "videos" / "new.avi")
    train = tuple(videos[name] for name in data.splits[0]["train"])
    WRITERS["cvat"](type(data)(data.classes, train), tmp_path / "annotated", False)
    for video in train:
        shutil.move(video.path, tmp_path / "videos")
    shutil.rmtree(tmp_path / "made")
    monkeypatch.chdir(tmp_path)
    recipes, lite = importlib.import_module("yowo_training.recipes"), "yowo-lite"
    monkeypatch.setitem(recipes.RECIPES, lite, replace(recipes.RECIPES[lite], batch=2, input_size=(64, 64)))
    return tmp_path


@pytest.mark.slow
def test_every_command_of_the_tutorial_works_in_its_turn(folder: Path) -> None:
    assert len(COMMANDS) == 10 and AN_HOUR in TUTORIAL
    for line in COMMANDS:
        arguments = shlex.split(line.replace(AN_HOUR, A_MOMENT))[1:]
        result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
        assert result.exit_code == 0, f"{line}\n{result.output}"
    for made in ("data.json", "stats.png", "sheet.png", "mine.onnx", "out.webm", "new.json", "corrections/new.xml"):
        assert (folder / made).stat().st_size > 0


def test_the_example_is_valid_and_can_be_read(tmp_path: Path) -> None:
    [text] = re.findall(r"```json\n(.*?)```", TUTORIAL, flags=re.DOTALL)
    jsonschema.validate(json.loads(text), json.loads(SCHEMA.read_text(encoding="utf-8")))
    (tmp_path / "data.json").write_text(text, encoding="utf-8")
    [video] = read_annotations(tmp_path / "data.json").videos
    assert [tube.frames.tolist() for tube in video.tubes] == [[0, 1]]
