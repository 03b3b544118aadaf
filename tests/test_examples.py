"""The programs in examples/ find in a video what `Detector` finds; packages that cannot be had here are stand-ins."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from PIL import Image

from yowo_deploy import Detector, Result, open_source
from yowo_deploy.arrays import Frame
from yowo_deploy.video.writer import VideoWriter

ROOT = Path(__file__).parent.parent
CONFIDENCE = 0.05


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first frames of the front page's picture."""
    path = tmp_path_factory.mktemp("video") / "street.webm"
    with (
        Image.open(ROOT / "docs" / "pictures" / "detect.webp") as picture,
        VideoWriter(path, 25.0, picture.size) as out,
    ):
        for number in range(4):
            picture.seek(number)
            out.write(np.ascontiguousarray(np.asarray(picture.convert("RGB"))[:, :, ::-1]))
    return path


@pytest.fixture(scope="module")
def expected(video: Path) -> list[Result]:
    with Detector.open(confidence=CONFIDENCE) as detector, open_source(str(video)) as source:
        found = list(detector.stream(source))
    assert any(len(each.detections) for each in found)
    return found


def load(path: str, monkeypatch: pytest.MonkeyPatch, **stand_ins: ModuleType | MagicMock) -> ModuleType:
    for name, module in stand_ins.items():
        monkeypatch.setitem(sys.modules, name.replace("__", "."), module)
    described = importlib.util.spec_from_file_location("example", ROOT / "examples" / path)
    assert described is not None and described.loader is not None
    module = importlib.util.module_from_spec(described)
    described.loader.exec_module(module)
    return module


def boxes(results: list[Result]) -> list[list[tuple[Any, ...]]]:
    """Person, label, score and corners of each box of each frame."""
    return [
        [
            (int(person), each.names[label], float(score), *box)
            for person, label, score, box in zip(
                found.tracker_id, found.class_id, found.confidence, found.xyxy.tolist(), strict=True
            )
        ]
        for each in results
        if (found := each.detections).tracker_id is not None
    ]


def test_the_web_page_shows_a_video_and_its_actions(
    video: Path, expected: list[Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, rows = load("gradio/app.py", monkeypatch).annotate(str(video), CONFIDENCE)
    with open_source(shown) as source:
        assert len(list(source)) == len(expected)
    people = {person for frame in boxes(expected) for person, *_ in frame}
    assert rows and {row[0] for row in rows} <= people
    assert all(0 <= begin <= end <= 4 / 25 and 0 < score <= 1 for _, _, begin, end, score in rows)


def test_rerun_gets_frames_boxes_and_scores(expected: list[Result], monkeypatch: pytest.MonkeyPatch) -> None:
    rerun = MagicMock()
    program = load("rerun/log_video.py", monkeypatch, rerun=rerun)
    for each in expected:
        program.log(each)
    assert [call.kwargs["sequence"] for call in rerun.set_time.call_args_list] == [0, 1, 2, 3]
    sent = [call.kwargs for call in rerun.Boxes2D.call_args_list]
    assert [list(each["class_ids"]) for each in sent] == [[box[0] for box in frame] for frame in boxes(expected)]
    assert [each["labels"] for each in sent] == [[box[1] for box in frame] for frame in boxes(expected)]
    paths = [call.args[0] for call in rerun.log.call_args_list]
    assert paths.count("camera") == len(expected) and any(path.startswith("score/person_") for path in paths)


def test_the_ros_node_publishes_what_is_found(expected: list[Result], monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[Any] = []

    class Node:
        """A node whose parameters are fixed."""

        def __init__(self, name: str) -> None: ...

        def declare_parameter(self, name: str, default: object) -> SimpleNamespace:
            return SimpleNamespace(value=CONFIDENCE if name == "confidence" else default)

        def create_publisher(self, *_: object) -> SimpleNamespace:
            return SimpleNamespace(publish=published.append)

        def create_subscription(self, *_: object) -> None: ...

        def destroy_node(self) -> None: ...

    def message(**fields: Any) -> Any:
        made = MagicMock(**fields)
        made.results, made.detections = [], []
        return made

    bridge = SimpleNamespace(imgmsg_to_cv2=lambda message, desired_encoding: message.image)
    program = load(
        "ros2/yowo_node.py",
        monkeypatch,
        rclpy=MagicMock(),
        rclpy__node=MagicMock(Node=Node),
        rclpy__qos=MagicMock(),
        cv_bridge=MagicMock(CvBridge=lambda: bridge),
        sensor_msgs=MagicMock(),
        sensor_msgs__msg=MagicMock(),
        vision_msgs=MagicMock(),
        vision_msgs__msg=MagicMock(
            **dict.fromkeys(("Detection2DArray", "Detection2D", "ObjectHypothesisWithPose"), message)
        ),
    )
    node = program.YowoNode()
    for each in expected:
        node.on_image(SimpleNamespace(header=each.frame_index, image=each.frame))
    node.destroy_node()
    assert [each.header for each in published] == [0, 1, 2, 3]
    for each, frame in zip(published, boxes(expected), strict=True):
        assert len(each.detections) == len(frame)
        for box, (person, label, score, x1, y1, x2, y2) in zip(each.detections, frame, strict=True):
            centre, [found] = box.bbox.center.position, box.results
            assert box.id == str(person) and found.hypothesis.class_id == label
            assert found.hypothesis.score == pytest.approx(score)
            sides = (centre.x, centre.y, box.bbox.size_x, box.bbox.size_y)
            assert sides == pytest.approx(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1))


def test_the_gvapython_callback_adds_regions(expected: list[Result], monkeypatch: pytest.MonkeyPatch) -> None:
    class VideoFrame:
        """BGRA pixels that take regions."""

        def __init__(self, image: Frame) -> None:
            self.image, self.regions = np.dstack([image, image[:, :, :1]]), list[list[Any]]()

        @contextmanager
        def data(self) -> Iterator[Frame]:
            yield self.image

        def add_region(self, *region: Any) -> SimpleNamespace:
            self.regions.append(list(region))
            return SimpleNamespace(set_object_id=self.regions[-1].append)

    callback = load("dlstreamer/yowo_gva.py", monkeypatch).Yowo(confidence=CONFIDENCE)
    frames = [VideoFrame(each.frame) for each in expected]
    assert all(callback.process_frame(each) for each in frames)
    for frame, wanted in zip(frames, boxes(expected), strict=True):
        assert len(frame.regions) == len(wanted)
        for (x, y, width, height, *rest), (person, label, score, x1, y1, x2, y2) in zip(
            frame.regions, wanted, strict=True
        ):
            assert rest == [label, pytest.approx(score), person]
            assert (x, y, x + width, y + height) == pytest.approx((x1, y1, x2, y2))
