"""Which classes were asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from yowo_deploy.boxes import Detections, Tube
from yowo_deploy.errors import InputError
from yowo_deploy.postprocess.class_filter import ClassFilter, parse_classes
from yowo_deploy.spec import ModelSpec

LABELS = ("stand", "walk", "talk to (a person, a group)")


def found() -> Detections:
    scores = np.array([[0.9, 0.1, 0.8], [0.2, 0.7, 0.1], [0.6, 0.3, 0.2]], np.float32)
    boxes = np.arange(12, dtype=np.float32).reshape(3, 4)
    return Detections(boxes, scores.max(axis=1), scores.argmax(axis=1), scores, np.array([5, 6, 7]))


def spec_of(several: bool) -> ModelSpec:
    activation = "softmax+sigmoid" if several else "softmax"
    return ModelSpec(LABELS, ((1.0, 1.0),), class_activation=activation, softmax_classes=2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("several", "classes", "people", "confidence"),
    [
        (False, ["walk"], [6], [0.7]),  # of one class a box: that of its best
        (True, ["walk"], [6, 7], [0.7, 0.3]),  # of several: those above the threshold
        (True, [LABELS[2]], [5], [0.8]),
        (False, [LABELS[2]], [], []),
        (False, ["stand", "walk"], [5, 6, 7], [0.9, 0.7, 0.6]),
        (False, None, [5, 6, 7], [0.9, 0.7, 0.6]),
    ],
)
def test_boxes_of_wanted_classes_stay(
    several: bool, classes: list[str] | None, people: list[int], confidence: list[float]
) -> None:
    kept = ClassFilter(spec_of(several), classes, 0.25).among(found())
    assert kept.tracker_id is not None and kept.tracker_id.tolist() == people
    assert kept.confidence.tolist() == pytest.approx(confidence)
    assert np.array_equal(kept.scores.max(axis=1, initial=0), kept.confidence)
    others = [LABELS.index(name) for name in LABELS if classes and name not in classes]
    assert not kept.scores[:, others].any()


def test_tubes_of_wanted_classes_stay() -> None:
    tubes = [Tube(class_id, np.arange(3), np.zeros((3, 4), np.float32)) for class_id in (0, 1, 1, 2)]
    assert ClassFilter(spec_of(False), ["walk"], 0.25).tubes(tubes) == (tubes[1], tubes[2])
    assert ClassFilter(spec_of(False), "walk", 0.25).tubes(tubes) == (tubes[1], tubes[2])


def test_a_person_who_is_shown_for_another_label_has_a_tube_of_it() -> None:
    means = np.array([[0.9, 0.1, 0.8], [0.9, 0.1, 0.2], [0.3, 0.1, 0.7]], np.float32)
    one = Tube(0, np.arange(3), np.zeros((3, 4), np.float32), 0.9, np.full(3, 0.9, np.float32), 5)
    tubes = [replace(one, class_id=int(each.argmax()), class_scores=each) for each in means]
    kept = ClassFilter(spec_of(True), [LABELS[2]], 0.25).tubes(tubes)
    assert [(tube.class_id, tube.score, tube.tracker_id) for tube in kept] == [(2, means[0, 2], 5), (2, 0.9, 5)]
    assert kept[0].scores is None and kept[1] is tubes[2]
    assert ClassFilter(spec_of(False), [LABELS[2]], 0.25).tubes(tubes) == (tubes[2],)


def test_a_class_that_the_model_lacks_is_refused() -> None:
    with pytest.raises(InputError, match="no class 'run', expected some of stand, walk"):
        ClassFilter(spec_of(False), ["run"], 0.25)


def test_classes_are_typed_with_commas_between_and_may_hold_some() -> None:
    assert parse_classes([], LABELS) is None
    assert parse_classes(["walk, stand"], LABELS) == ["walk", "stand"]
    assert parse_classes([LABELS[2], "walk"], LABELS) == [LABELS[2], "walk"]
