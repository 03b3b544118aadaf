"""Linking: the release's answers, a brute-force search, and the laws of tubes offline and online."""

from __future__ import annotations

import copy
import itertools
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yowo_deploy.arrays import Float
from yowo_deploy.boxes import Detections, Tube, iou_matrix
from yowo_deploy.errors import InputError
from yowo_deploy.postprocess.tubes import (
    RELEASE_RULE,
    LinkRule,
    OnlineLinker,
    by_class,
    link,
    link_class,
    tube_iou,
    tube_nms,
)

OPEN_RULE = LinkRule(gate=False, nms_iou=1.0)


def walker(frames: int, start: float, step: float, score: float = 0.8) -> list[tuple[list[float], float]]:
    """A box of 20 x 40 that moves to the right."""
    return [([start + step * t, 10, start + step * t + 20, 50], score) for t in range(frames)]


def found(*rows: tuple[list[float], float], classes: int = 1, class_id: int = 0) -> Detections:
    """Detections of one frame, all of one class."""
    scores = np.zeros((len(rows), classes), np.float32)
    scores[:, class_id] = [score for _, score in rows]
    xyxy = np.array([box for box, _ in rows], np.float32).reshape(-1, 4)
    return Detections(xyxy, scores.max(axis=1), scores.argmax(axis=1), scores)


def random_frames(seed: int, frames: int, most: int) -> list[Detections]:
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(frames):
        corner = rng.uniform(0, 60, (rng.integers(0, most + 1), 2))
        boxes = np.concatenate([corner, corner + rng.uniform(10, 50, corner.shape)], axis=1)
        made.append(found(*((box.tolist(), float(rng.uniform(0.01, 1))) for box in boxes)))
    return made


def test_the_release_links_the_same(reference_dir: Path) -> None:
    stored = np.load(reference_dir / "official" / "decode_link_fixture.npz")
    rows = [stored[f"link_in_{frame:02}"] for frame in range(12)]
    tubes = link_class([r[:, :4] for r in rows], [r[:, 4] for r in rows], 3, RELEASE_RULE)
    assert len(tubes) == 3
    for number, tube in enumerate(tubes):
        expected = stored[f"kept_tube_{number}"]
        assert tube.class_id == 3 and np.array_equal(tube.frames, expected[:, 0] - 1)
        assert tube.scores is not None
        np.testing.assert_allclose(tube.xyxy, expected[:, 1:5], atol=1e-5)
        np.testing.assert_allclose(tube.scores, expected[:, 5], atol=1e-5)
        assert tube.score == pytest.approx(expected[:, 5].mean(), abs=1e-6)


@pytest.mark.parametrize(
    ("filled", "sources"), [("0110", "1122"), ("1000100", "0004444"), ("10010", "00333"), ("0001", "3333")]
)
def test_a_frame_without_boxes_takes_those_of_the_nearest_and_of_two_the_earlier(filled: str, sources: str) -> None:
    """As the release fills them (OFFICIAL_YOWO, "Linking and metrics")."""
    boxes = [np.full((int(each), 4), [frame, 0, frame + 9, 9], np.float32) for frame, each in enumerate(filled)]
    [tube] = link_class(boxes, [np.ones(len(rows), np.float32) for rows in boxes], rule=RELEASE_RULE)
    assert tube.xyxy[:, 0].tolist() == [int(each) for each in sources]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 4), st.booleans())
def test_the_first_path_is_the_strongest_there_is(seed: int, frames: int, boxes: int, gate: bool) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 40, (frames, boxes, 2))
    xyxy = np.concatenate([corner, corner + rng.uniform(10, 40, corner.shape)], axis=2).astype(np.float32)
    scores = rng.uniform(0.01, 1, (frames, boxes)).astype(np.float32)

    def strength(path: tuple[int, ...]) -> float:
        total = 0.0
        for t in range(frames - 1):
            i, j = path[t], path[t + 1]
            overlap = float(iou_matrix(xyxy[t, i : i + 1], xyxy[t + 1, j : j + 1])[0, 0])
            s1, s2 = float(scores[t, i]), float(scores[t + 1, j])
            total += (s1 + s2 + 0.5 * s1 * s2 + overlap) * (overlap > 0 or not gate)
        return total

    best = max(itertools.product(range(boxes), repeat=frames), key=strength)
    rule = LinkRule(gate=gate, max_tubes=1 if not gate else None, nms_iou=1.0)
    tubes = link_class(list(xyxy), list(scores), rule=rule)
    if gate:  # the path may be cut, and its pieces come back among others: every box of it is in some tube
        return
    chosen = tuple(int(np.argmax((xyxy[t] == tubes[0].xyxy[t]).all(axis=1))) for t in range(frames))
    if frames > 1:
        assert strength(chosen) == pytest.approx(strength(best), rel=1e-5)
    else:
        assert scores[0, chosen[0]] == scores[0].max()


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5])
def test_each_path_is_the_strongest_of_the_boxes_that_are_left(frames: int) -> None:
    rng, boxes = np.random.default_rng(frames), 4
    corner = rng.uniform(0, 40, (frames, boxes, 2))
    xyxy = np.concatenate([corner, corner + rng.uniform(10, 40, corner.shape)], axis=2).astype(np.float32)
    scores = rng.uniform(0.01, 1, (frames, boxes)).astype(np.float32)
    left = list(itertools.product(range(boxes), repeat=frames))

    def strength(path: tuple[int, ...]) -> float:
        s = [float(scores[t, i]) for t, i in enumerate(path)]
        steps = range(frames - 1)
        overlap = sum(float(iou_matrix(*xyxy[[t, t + 1], path[t : t + 2], None])[0, 0]) for t in steps)
        return s[0] if frames == 1 else overlap + sum(s[t] + s[t + 1] + 0.5 * s[t] * s[t + 1] for t in steps)

    expected = []
    while left:
        expected.append(max(left, key=strength))
        left = [path for path in left if not any(i == j for i, j in zip(path, expected[-1], strict=True))]
    tubes = link_class(list(xyxy), list(scores), rule=OPEN_RULE)
    found = {tuple(int(np.argmax((xyxy[t] == tube.xyxy[t]).all(axis=1))) for t in range(frames)) for tube in tubes}
    assert found == set(expected) and len(tubes) == boxes


def test_two_people_become_two_tubes_and_a_gap_is_filled_on_a_line() -> None:
    left, right = walker(10, 0, 2), walker(10, 200, -2, 0.6)
    frames = [found(a, b) for a, b in zip(left, right, strict=True)]
    frames[4] = found(right[4])
    first, second = link(frames)
    assert first.score == pytest.approx(0.8) and second.score == pytest.approx(0.6)
    assert first.frames.tolist() == second.frames.tolist() == list(range(10))
    np.testing.assert_allclose(first.xyxy, [box for box, _ in left], atol=1e-4)
    np.testing.assert_allclose(second.xyxy, [box for box, _ in right], atol=1e-4)


def test_a_tube_ends_where_nobody_goes_on() -> None:
    frames = [found(row) for row in walker(6, 0, 2)] + [found()] * 8 + [found(row) for row in walker(6, 0, 2)]
    assert [tube.frames[[0, -1]].tolist() for tube in link(frames)] == [[0, 5], [14, 19]]
    jump = [found(row) for row in (*walker(5, 0, 1), *walker(5, 300, 1))]
    assert [tube.frames[[0, -1]].tolist() for tube in link(jump)] == [[0, 4], [5, 9]]
    assert [len(tube) for tube in link(jump, LinkRule(gate=False))] == [10]


def test_trimming_cuts_what_is_no_action() -> None:
    scores = [0.02] * 12 + [0.9] * 10 + [0.01] * 12
    frames = [found((box, score)) for (box, _), score in zip(walker(34, 0, 1), scores, strict=True)]
    (whole,) = link(frames)
    (cut,) = link(frames, LinkRule(trim=1.0, trim_score=0.3))
    assert len(whole) == 34 and cut.frames.tolist() == list(range(12, 22)) and cut.score == pytest.approx(0.9)
    # A dip that is cheaper to bridge than to cut out stays in.
    frames[16] = found((walker(17, 0, 1)[16][0], 0.1))
    assert [tube.frames[[0, -1]].tolist() for tube in link(frames, LinkRule(trim=1.0, trim_score=0.3))] == [[12, 21]]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 5))
def test_no_detection_is_in_two_tubes(seed: int, frames: int, most: int) -> None:
    made = random_frames(seed, frames, most)
    linker = OnlineLinker()
    for detections in made:
        linker.push(detections)
    for tubes in (link(made, OPEN_RULE), link(made), linker.close()):
        used = [
            (int(frame), int(row))
            for tube in tubes
            for frame, box in zip(tube.frames, tube.xyxy, strict=True)
            for row in np.flatnonzero((made[frame].xyxy == box).all(axis=1))
        ]
        assert len(used) == len(set(used))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 14), st.data())
def test_a_stream_cut_anywhere_and_resumed_is_the_uncut_one(seed: int, frames: int, data: st.DataObject) -> None:
    made = random_frames(seed, frames, 4)
    cut = data.draw(st.integers(0, frames))
    uncut, resumed = OnlineLinker(patience=2), OnlineLinker(patience=2)
    expected = [uncut.push(detections) for detections in made]
    said = [resumed.push(detections) for detections in made[:cut]]
    kept = copy.deepcopy(said)
    resumed = pickle.loads(pickle.dumps(resumed))
    said += [resumed.push(detections) for detections in made[cut:]]
    assert same(itertools.chain(*said), itertools.chain(*expected))
    assert same(itertools.chain(*said[:cut]), itertools.chain(*kept))  # what was given out does not change
    assert same(resumed.close(), uncut.close())


def same(tubes: object, others: object) -> bool:
    def told(tube: Tube) -> tuple[object, ...]:
        return tube.tracker_id, tube.class_id, tube.score, tube.frames.tolist(), tube.xyxy.tolist()

    return [told(tube) for tube in tubes] == [told(tube) for tube in others]  # type: ignore[attr-defined]


def test_ids_stay_with_people_who_cross_and_end_with_patience() -> None:
    linker, paths = OnlineLinker(patience=3), (walker(12, 0, 4), walker(12, 120, -4, 0.6))
    for a, b in zip(*paths, strict=True):
        assert [tube.tracker_id for tube in linker.push(found(a, b))] == [0, 1]
        assert linker.tracker_id.tolist() == [0, 1]
    for _ in range(3):
        assert linker.push(found()) == [] and linker.finished() == []
    linker.push(found())
    ended = linker.finished()
    assert [tube.frames[[0, -1]].tolist() for tube in ended] == [[0, 11], [0, 11]]
    assert linker.finished() == [] == linker.close()
    (back,) = linker.push(found(paths[0][-1]))
    assert back.tracker_id == 2 and back.frames.tolist() == [16]


@pytest.mark.parametrize(("lacking", "people"), [(9, 1), (10, 1), (11, 2)])
def test_after_too_many_frames_that_nobody_saw_everybody_is_new(lacking: int, people: int) -> None:
    linker = OnlineLinker(max_gap=10)
    for frame in (0, 1 + lacking):
        linker.push(found(([0.0, 0.0, 20.0, 40.0], 0.9)), frame)
    assert len(linker.close()) == people


@pytest.mark.parametrize(("bottom", "people"), [(5.0, 1), (4.75, 2)])
def test_a_box_that_overlaps_by_exactly_min_iou_goes_on_and_by_less_does_not(bottom: float, people: int) -> None:
    linker = OnlineLinker(min_iou=0.5)
    for box in ([0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, bottom]):
        linker.push(found((box, 0.8)))
    assert len(linker.close()) == people


def test_an_endless_stream_needs_bounded_memory() -> None:
    linker, box = OnlineLinker(memory=50), [0.0, 0.0, 20.0, 40.0]
    for index in range(1000):
        (tube,) = linker.push(found((box, 0.5 if index < 500 else 1.0)))
        assert len(tube) <= 2 * 50
    assert tube.score == pytest.approx(0.75)  # of its whole life
    assert len(pickle.dumps(linker)) < 20_000


@pytest.mark.parametrize("first", [0, 1, 5, 1000])
def test_a_tube_has_every_frame_once_whatever_the_gap(first: int) -> None:
    for gap in range(1, 52):
        linker, seen = OnlineLinker(), found(([0, 0, 10, 20], 0.5))
        for frame in (first, first + gap):
            linker.push(seen, frame)
        (made,) = linker.close()
        assert made.frames.tolist() == list(range(first, first + gap + 1))


def test_a_person_is_judged_in_every_class() -> None:
    linker = OnlineLinker()
    for scores in ([0.6, 0.2], [0.4, 0.5], [0.5, 0.2]):
        row = np.array([scores], np.float32)
        linker.push(Detections(np.array([[0, 0, 9, 9]], np.float32), row.max(axis=1), row.argmax(axis=1), row))
    (tube,) = linker.close()
    assert tube.class_id == 0 and tube.score == pytest.approx(0.5)
    assert [(each.class_id, round(each.score, 3)) for each in by_class([tube])] == [(0, 0.5), (1, 0.3)]
    shifted = replace(tube, class_scores=np.array([0.4, 0.6], np.float32))
    assert [(each.class_id, round(each.score, 3)) for each in by_class([tube, shifted])] == [(0, 0.5), (1, 0.6)]


@pytest.mark.parametrize("options", [{"patience": -1}, {"memory": 0}])
def test_an_online_linker_that_cannot_be_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(InputError, match="expected at least"):
        OnlineLinker(**options)  # type: ignore[arg-type]


def tube(boxes: Float, first: int = 0, score: float = 1.0) -> Tube:
    return Tube(0, np.arange(first, first + len(boxes)), np.asarray(boxes, np.float32), score)


def test_tube_iou_is_space_times_time() -> None:
    box = np.tile([0.0, 0, 10, 10], (10, 1))
    assert tube_iou(tube(box), tube(box)) == 1
    assert tube_iou(tube(box), tube(box, first=20)) == 0
    half = box.copy()
    half[:, 2] = 5
    assert tube_iou(tube(box), tube(half, first=5)) == pytest.approx(0.5 * 5 / 15)
    assert tube_iou(tube(box), tube(half), pixel_inclusive=True) == pytest.approx(6 / 11)


def test_of_tubes_that_overlap_the_best_stays() -> None:
    box = np.tile([0.0, 0, 10, 10], (10, 1))
    kept = tube_nms([tube(box + 1, score=0.5), tube(box, score=0.9), tube(box + 100, score=0.1)], 0.3)
    assert [each.score for each in kept] == [0.9, 0.1]


def test_the_strongest_tube_is_kept_and_not_the_first() -> None:
    weak, strong = walker(3, 0, 1, 0.1), walker(9, 0, 1, 0.9)
    frames = [*(found(row) for row in weak), *[found()] * 8, *(found(row) for row in strong)]
    (kept,) = link(frames, LinkRule(max_tubes=1))
    assert kept.frames[[0, -1]].tolist() == [11, 19]
