"""CVAT's auto-annotation: with a stand-in of its interface, and with cvat-cli itself in an environment of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from yowo_deploy import cvat
from yowo_deploy.arrays import Frame
from yowo_deploy.backends.base import Backend
from yowo_deploy.cvat import CvatFunction
from yowo_deploy.detector import Detector
from yowo_deploy.errors import MissingExtraError
from yowo_deploy.spec import ModelSpec

CVAT_CLI = "cvat-cli==2.80.0"


class Context(NamedTuple):
    """As `DetectionFunctionContext` is documented."""

    frame_name: str
    conf_threshold: float | None = None


class Picture:
    """As much of a `PIL.Image` as is used."""

    def __init__(self, frame_bgr: Frame) -> None:
        self._rgb = frame_bgr[:, :, ::-1]

    def convert(self, mode: str) -> Frame:
        assert mode == "RGB"
        return self._rgb


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """`cvat_sdk.auto_annotation` as documented: the factories that are used."""
    module = types.SimpleNamespace(
        DetectionFunctionSpec=lambda *, labels: labels,
        label_spec=lambda name, id: (name, id),
        rectangle=lambda label_id, points: (label_id, points),
    )
    monkeypatch.setattr(cvat, "_cvat", lambda: module)


@pytest.fixture
def clip() -> list[Frame]:
    return list(np.random.default_rng(0).integers(0, 256, (10, 48, 64, 3), np.uint8))


def rectangles(detector: Detector, frames: list[Frame], least: float = 0.0) -> list[list[tuple[int, list[float]]]]:
    """What a detector finds, in the words of the stand-in."""
    detector.reset()
    found = [detector.push(frame).detections for frame in frames]
    return [
        [
            (class_id, box)
            for class_id, box, score in zip(each.class_id.tolist(), each.xyxy.tolist(), each.confidence, strict=True)
            if score >= least
        ]
        for each in found
    ]


@pytest.mark.usefixtures("stand_in")
def test_a_task_gets_what_a_detector_finds_and_a_name_that_goes_back_begins_a_video(
    spec: ModelSpec, numpy_backend: Callable[[ModelSpec], Backend], clip: list[Frame]
) -> None:
    expected = rectangles(Detector(numpy_backend(spec), 0.02), clip)
    assert sum(map(len, expected)) > 5
    with CvatFunction(Detector(numpy_backend(spec), 0.02)) as function:
        assert function.spec == [("walk", 0), ("sit", 1), ("stand", 2)]
        for folder in ("a", "a", "b"):  # the second time the numbers go back, the third the name is another
            names = [f"{folder}/frame_{number:06}.PNG" for number in range(10)]
            found = [function.detect(Context(name), Picture(frame)) for name, frame in zip(names, clip, strict=True)]
            assert found == expected
        alone = [function.detect(Context(name), Picture(clip[3])) for name in ("x.jpg", "y.jpg", "y.jpg")]
    assert alone == rectangles(Detector(numpy_backend(spec), 0.02), [clip[3]]) * 3


@pytest.mark.usefixtures("stand_in")
def test_the_threshold_of_the_task_leaves_out_what_is_below(
    spec: ModelSpec, numpy_backend: Callable[[ModelSpec], Backend], clip: list[Frame]
) -> None:
    every, few = (rectangles(Detector(numpy_backend(spec), 0.02), clip, least) for least in (0.0, 0.1))
    function = CvatFunction(Detector(numpy_backend(spec), 0.02))
    found = [function.detect(Context(f"{number}.png", 0.1), Picture(frame)) for number, frame in enumerate(clip)]
    assert found == few != every


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("frame_000012.PNG", ("frame_#.PNG", 12)),
        ("cam2/clip 7 - 012.jpg", ("cam2/clip 7 - #.jpg", 12)),
        ("img9.mp4.png", ("img9.mp#.png", 4)),
        ("portrait.jpg", ("portrait.jpg", 0)),
        ("2026/door.jpg", ("2026/door.jpg", 0)),
    ],
)
def test_a_name_is_a_video_and_the_number_of_a_frame(name: str, expected: tuple[str, int]) -> None:
    assert cvat._numbered(name) == expected


def test_without_cvat_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cvat, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'yowo-deploy\[cvat\]'"):
        cvat._cvat()


RUN = """
import json, sys
import numpy, PIL.Image
from cvat_cli._internal.common import FunctionLoader
from cvat_sdk.auto_annotation.driver import _DetectionFunctionContextImpl as Context

function = FunctionLoader("yowo_deploy.cvat", None, {"model": sys.argv[1], "confidence": 0.02}).load()
labels = [label.name for label in function.spec.labels]
found = []
for number, frame in enumerate(numpy.load(sys.argv[2])):
    image = PIL.Image.fromarray(frame[:, :, ::-1])
    shapes = function.detect(Context(frame_name=f"frame_{number:06}.PNG"), image)
    assert all(shape.type.value == "rectangle" and shape.frame == 0 for shape in shapes)
    found.append([[shape.label_id, list(shape.points)] for shape in shapes])
print(json.dumps([labels, found]))
"""


@pytest.mark.slow
def test_cvat_clis_own_loader_takes_the_module_and_finds_the_same(
    onnx_model: Callable[..., Any],
    spec: ModelSpec,
    clip: list[Frame],
    made_once: Callable[[str, Callable[[Path], object]], Path],
    tmp_path: Path,
    project_root: Path,
) -> None:
    """20 s, and 60 s for the environment."""
    pytest.importorskip("openvino")

    def make(folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        subprocess.run([folder / "venv/bin/python", "-m", "pip", "install", "-q", CVAT_CLI], check=True)
        # Its own libraries come first; the engine and OpenCV are those of this environment.
        [packages] = (folder / "venv/lib").glob("python*/site-packages")
        ours = Path(np.__file__).parents[1]
        (packages / "ours.pth").write_text(f"{ours}\n{project_root}\n")

    python = made_once("cvat", make) / "venv/bin/python"
    model, frames = tmp_path / "small.onnx", tmp_path / "clip.npy"
    model.write_bytes(onnx_model(spec).SerializeToString())
    np.save(frames, np.stack(clip))
    ran = subprocess.run([python, "-c", RUN, model, frames], capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    labels, found = json.loads(ran.stdout)
    assert labels == list(spec.labels)
    with Detector.open(model, 0.02) as detector:
        expected = rectangles(detector, clip)
    assert [[tuple(each) for each in frame] for frame in found] == expected and sum(map(len, found)) > 5
