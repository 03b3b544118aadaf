"""What `pip install 'yowo-deploy[...]'` brings: never two wheels that lie over each other's files."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest

OVER_EACH_OTHER = ({"onnxruntime", "onnxruntime-gpu"}, {"opencv-python", "opencv-python-headless"})


@pytest.fixture(scope="module")
def extras(project_root: Path) -> dict[str, list[str]]:
    """Each extra's own lines."""
    setup = configparser.ConfigParser()
    setup.read(project_root / "setup.cfg")
    base = setup["options"]["install_requires"].split()
    section = setup["options.extras_require"]
    return {name: [*base, *filter(None, lines.splitlines())] for name, lines in section.items()}


def wheels(extra: str, extras: dict[str, list[str]]) -> set[str]:
    """Every wheel that an extra names, through other extras of ours too."""
    found = set()
    for line in extras[extra]:
        name, inner = re.match(r"([\w.-]+)(?:\[([\w,-]+)\])?", line).groups()  # type: ignore[union-attr]
        if name == "yowo-deploy":
            found |= {wheel for each in inner.split(",") for wheel in wheels(each, extras)}
        else:
            found.add(name)
    return found


def test_no_extra_brings_two_wheels_of_one_module(extras: dict[str, list[str]]) -> None:
    for extra in extras:
        brought = wheels(extra, extras)
        assert all(len(brought & clash) < 2 for clash in OVER_EACH_OTHER), extra


def test_an_export_can_be_checked_at_the_first_try_with_a_gpu_and_without(extras: dict[str, list[str]]) -> None:
    with_gpu, without = wheels("export-cuda", extras), wheels("export", extras)
    assert with_gpu - without == {"onnxruntime-gpu"} and without - with_gpu == {"onnxruntime"}
    assert {"onnx", "onnxscript", "torch"} <= with_gpu & without


def test_the_gpu_wheel_comes_beside_any_other_engine(extras: dict[str, list[str]]) -> None:
    for other in ("openvino", "tensorrt", "tensorrt-rtx", "onnxruntime-rtx", "export-cuda", "train", "video", "plots"):
        assert "onnxruntime" not in wheels(other, extras)


def test_the_installation_page_names_every_extra(extras: dict[str, list[str]], project_root: Path) -> None:
    named = set(re.findall(r"`([\w-]+)`", (project_root / "docs/install.md").read_text(encoding="utf-8")))
    assert set(extras) - {"export-tools"} <= named


def test_the_readme_installs_what_its_commands_need(extras: dict[str, list[str]], project_root: Path) -> None:
    text = (project_root / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^pip install .*", text, re.MULTILINE)
    installed = {each for line in lines for names in re.findall(r"\[([\w,-]+)\]", line) for each in names.split(",")}
    used = set(re.findall(r"^yowo-deploy (\w+)", text, re.MULTILINE))
    assert "openvino" in installed and {"serve", "train", "export"} <= used
    brought = {"data", "bench"}  # by [train]; and `bench` runs without its extra
    assert (used & set(extras)) - brought <= installed
