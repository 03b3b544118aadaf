"""Annotated videos: what stands in which frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from yowo_deploy.boxes import Tube
from yowo_deploy.datasets import AnnotatedVideo

FRAMES = 8


@st.composite
def tubes(draw: st.DrawFn) -> Tube:
    frames = sorted(draw(st.sets(st.integers(0, FRAMES - 1))))
    boxes = [[10 * frame, draw(st.integers(0, 99)), 10 * frame + 9, 100] for frame in frames]
    return Tube(draw(st.integers(0, 3)), np.array(frames, np.int64), np.array(boxes, np.float32).reshape(-1, 4))


@settings(max_examples=100, deadline=None)
@given(st.lists(tubes(), max_size=3))
def test_every_box_of_every_tube_is_found_in_its_frame_and_nowhere_else(people: list[Tube]) -> None:
    video = AnnotatedVideo("a", "a", Path("a.avi"), FRAMES, tuple(people))
    wanted: dict[int, list[tuple[list[float], int]]] = {}
    for tube in people:
        for frame, box in zip(tube.frames.tolist(), tube.xyxy.tolist(), strict=True):
            wanted.setdefault(frame, []).append((box, tube.class_id))
    assert video.annotated_frames().tolist() == sorted(wanted)
    assert video.annotated_frames().dtype == np.int64
    for frame in range(-1, FRAMES + 1):
        boxes, class_ids = video.at(frame)
        assert list(zip(boxes.tolist(), class_ids.tolist(), strict=True)) == wanted.get(frame, [])
        assert (boxes.shape[1], boxes.dtype, class_ids.dtype) == (4, np.float32, np.int64)
