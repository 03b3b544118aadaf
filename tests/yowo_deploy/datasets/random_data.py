"""Random data sets for the laws of files: names that need escaping, gaps, several people and labels."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from yowo_deploy.boxes import Tube
from yowo_deploy.datasets.base import AnnotatedVideo
from yowo_deploy.datasets.formats.rows import Rows, annotations_of
from yowo_deploy.datasets.native import Annotations

LENGTH = 12
NAMES = st.text("ab <&>\"'é;=#%[]", min_size=1, max_size=6).map(str.strip).filter(bool)


@st.composite
def annotations(draw: st.DrawFn, whole: bool = True, names: st.SearchStrategy[str] = NAMES) -> Annotations:
    """Of videos that are not there.

    Args:
        whole: everything is known of a video, and every frame was looked at.
    """
    classes = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    called = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    videos = [_video(draw, name, classes, whole) for name in called]
    test = set(draw(st.lists(st.sampled_from(called)))) if draw(st.booleans()) else None
    sides = {} if test is None else {
        "train": tuple(name for name in called if name not in test),
        "test": tuple(name for name in called if name in test),
    }  # fmt: skip
    return annotations_of(classes, videos, sides)  # type: ignore[arg-type]


def _video(draw: st.DrawFn, name: str, classes: list[str], whole: bool) -> AnnotatedVideo:
    size_wh = draw(st.tuples(st.integers(1, 4000), st.integers(1, 4000)))
    rows = Rows()
    for person, label in draw(st.sets(st.tuples(st.integers(0, 3), st.sampled_from(classes)), max_size=4)):
        for frame in draw(st.sets(st.integers(0, LENGTH - 1), min_size=1)):
            corners = [draw(st.floats(0, side, width=32)) for side in size_wh for _ in range(2)]
            xs, ys = sorted(corners[:2]), sorted(corners[2:])
            rows.add(frame, person, label, (xs[0], ys[0], xs[1], ys[1]))
    fps = draw(st.sampled_from([24.0, 25.0, 30000 / 1001, 59.94]))
    group = draw(st.sampled_from([name, "one recording"]))
    path = Path(os.path.abspath("videos")) / f"{name.replace('/', '_')}.mp4"
    if whole:
        return AnnotatedVideo(name, group, path, LENGTH, rows.tubes(classes), size_wh, fps=fps)
    judged = np.array(sorted(draw(st.sets(st.integers(0, LENGTH - 1)))), np.int64) if draw(st.booleans()) else None
    return AnnotatedVideo(
        name,
        group,
        path,
        LENGTH,
        rows.tubes(classes),
        draw(st.sampled_from([size_wh, None])),
        judged,
        draw(st.sampled_from([fps, None])),
    )


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
