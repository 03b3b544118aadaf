"""Random data sets for the laws of files: names that need escaping, gaps, several people and labels."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from yowo_deploy.boxes import Tube
from yowo_deploy.datasets.base import AnnotatedVideo
from yowo_deploy.datasets.data_json import Annotations, Sides

LENGTH = 12
NAMES = st.text("ab /.\\<&>\"'é;:=#%[]{},", min_size=1, max_size=6).map(str.strip).filter(bool)


@st.composite
def annotations(draw: st.DrawFn, measured: bool = True, names: st.SearchStrategy[str] = NAMES) -> Annotations:
    """Of videos that are not there: tubes with gaps, boxes that leave the picture, any number of splits and labels.

    Args:
        measured: fps and size of every video are known.
    """
    classes = tuple(draw(st.lists(names, min_size=1, max_size=3, unique=True)))
    called = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    videos = tuple(_video(draw, name, len(classes), measured) for name in called)
    splits = tuple(_sides(draw, called) for _ in range(draw(st.integers(0, 2))))
    exclusive = draw(st.sampled_from([None, 0, 1]))
    judged = tuple(sorted(draw(st.sets(st.integers(0, len(classes) - 1)))))
    return Annotations(classes, videos, splits, exclusive, judged)


def _sides(draw: st.DrawFn, names: list[str]) -> Sides:
    train, test = (draw(st.lists(st.sampled_from(names), unique=True)) for _ in range(2))
    return {"train": tuple(train), "test": tuple(test)}


def _video(draw: st.DrawFn, name: str, classes: int, measured: bool) -> AnnotatedVideo:
    size_wh = draw(st.tuples(st.integers(1, 4000), st.integers(1, 4000)))
    tubes = tuple(_tube(draw, size_wh, classes) for _ in range(draw(st.integers(0, 4))))
    fps = draw(st.sampled_from([1.0, 24.0, 25.0, 30000 / 1001, 59.94]))
    group = draw(st.sampled_from([name, "one recording"]))
    path = Path(os.path.abspath("videos")) / f"{re.sub(r'[/.]', '_', name)}.mp4"
    judged = np.array(sorted(draw(st.sets(st.integers(0, LENGTH - 1)))), np.int64) if draw(st.booleans()) else None
    size, rate = (
        (size_wh, fps) if measured else (draw(st.sampled_from([size_wh, None])), draw(st.sampled_from([fps, None])))
    )
    return AnnotatedVideo(name, group, path, LENGTH, tubes, size, judged, rate)


def _tube(draw: st.DrawFn, size_wh: tuple[int, int], classes: int) -> Tube:
    frames = sorted(draw(st.sets(st.integers(0, LENGTH + 2), min_size=1, max_size=5)))
    low, high = -np.array(size_wh * 2), 2 * np.array(size_wh * 2)
    shares = np.random.default_rng(draw(st.integers(0, 2**31))).random((len(frames), 4))
    boxes = np.asarray(np.round(low + shares * (high - low), draw(st.integers(0, 9))), np.float32)
    boxes = np.clip(boxes, low, high).astype(np.float32)
    return Tube(draw(st.integers(0, classes - 1)), np.array(frames), boxes, tracker_id=draw(st.integers(0, 3)))


def assert_same(found: Annotations, expected: Annotations) -> None:
    """Everything is equal, to the last bit of every box."""
    assert plain(found) == plain(expected)


def plain(data: Annotations) -> tuple[object, ...]:
    videos = [
        (
            v.name,
            v.group,
            v.path,
            v.frames,
            v.size_wh,
            v.fps,
            None if v.judged is None else v.judged.tolist(),
            _tubes(v),
        )
        for v in data.videos
    ]
    return data.classes, videos, [dict(sides) for sides in data.splits], data.exclusive, data.judged_classes


def _tubes(video: AnnotatedVideo) -> list[tuple[object, ...]]:
    def told(tube: Tube) -> tuple[object, ...]:
        return tube.class_id, tube.tracker_id, tube.frames.tolist(), tube.xyxy.tolist()

    assert all(tube.xyxy.dtype == np.float32 and tube.frames.dtype == np.int64 for tube in video.tubes)
    return [told(tube) for tube in video.tubes]
