"""Decoding: the same as a plain loop over cells, and the same as the release."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from yowo_deploy.boxes import cxcywh_to_xyxy, nms
from yowo_deploy.postprocess.decode import class_probabilities, decode, detect
from yowo_deploy.spec import ModelSpec

law = settings(max_examples=60, deadline=None)
FRAME = (320, 240)


@st.composite
def specs(draw: st.DrawFn) -> ModelSpec:
    """Grids of any shape, both activations."""
    classes = draw(st.integers(1, 4))
    anchor = st.tuples(st.floats(0.1, 7), st.floats(0.1, 7))
    return ModelSpec(
        labels=tuple("abcd"[:classes]),
        anchors=tuple(draw(st.lists(anchor, min_size=1, max_size=3))),
        input_size=(2 * draw(st.integers(1, 4)), 2 * draw(st.integers(1, 4))),
        stride=2,
        class_activation=draw(st.sampled_from(["softmax", "softmax+sigmoid"])),
        softmax_classes=draw(st.integers(0, classes)),
    )


def answer(spec: ModelSpec, seed: int = 0, scale: float = 2.0) -> NDArray[np.float32]:
    """A made-up raw output of the spec's shape."""
    columns, rows = spec.grid_size
    shape = (spec.output_channels, rows, columns)
    return np.asarray(scale * np.random.default_rng(seed).standard_normal(shape), np.float32)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def softmax(logits: list[float]) -> list[float]:
    return [math.exp(logit) / sum(map(math.exp, logits)) for logit in logits]


def plain_decode(raw: NDArray[Any], spec: ModelSpec) -> list[tuple[list[float], float, list[float]]]:
    """Cell by cell: box, objectness, class probabilities."""
    columns, rows = spec.grid_size
    made = []
    for a, (anchor_w, anchor_h) in enumerate(spec.anchors):
        for row in range(rows):
            for column in range(columns):
                first = a * (5 + spec.classes)
                tx, ty, tw, th, conf, *logits = raw[first : first + 5 + spec.classes, row, column].tolist()
                box = [
                    (sigmoid(tx) + column) / columns,
                    (sigmoid(ty) + row) / rows,
                    math.exp(tw) * anchor_w / columns,
                    math.exp(th) * anchor_h / rows,
                ]
                exclusive = spec.classes if spec.class_activation == "softmax" else spec.softmax_classes
                classes = softmax(logits[:exclusive]) + [sigmoid(logit) for logit in logits[exclusive:]]
                made.append((box, sigmoid(conf), classes))
    return made


@law
@given(specs(), st.integers(0, 1000))
def test_decoding_is_the_plain_loop(spec: ModelSpec, seed: int) -> None:
    raw = answer(spec, seed)
    for found, wanted in zip(decode(raw, spec), zip(*plain_decode(raw, spec), strict=True), strict=True):
        assert found.dtype == np.float32
        # Single precision: a few roundings of 2^-24 each, of exponents up to 10 among them.
        assert np.allclose(found, wanted, rtol=2e-6, atol=1e-7)


@law
@given(specs(), st.integers(0, 1000), st.floats(0, 0.5), st.floats(0, 1))
def test_detections_are_decoded_thresholded_suppressed_and_sorted(
    spec: ModelSpec, seed: int, confidence: float, iou: float
) -> None:
    raw = answer(spec, seed)
    boxes, objectness, probabilities = decode(raw, spec)
    scores = objectness[:, None] * probabilities
    judged = scores.max(axis=1) if spec.class_activation == "softmax" else objectness
    rows = [row for row in range(len(boxes)) if judged[row] > confidence]
    kept = [rows[i] for i in nms(cxcywh_to_xyxy(boxes[rows]), objectness[rows], iou)]  # by objectness alone
    kept.sort(key=lambda row: -scores[row].max())
    found = detect(raw, spec, FRAME, confidence, iou)
    assert np.array_equal(found.scores, scores[kept])
    assert np.array_equal(found.confidence, scores[kept].max(axis=1))
    assert np.array_equal(found.class_id, scores[kept].argmax(axis=1))
    assert np.array_equal(found.xyxy, np.clip(cxcywh_to_xyxy(boxes[kept]), 0, 1) * np.float32(FRAME * 2))


@law
@given(specs(), st.integers(0, 1000))
def test_boxes_lie_in_the_frame_and_grow_with_it(spec: ModelSpec, seed: int) -> None:
    raw = answer(spec, seed)
    small, large = (detect(raw, spec, (width, 240), 0.01) for width in (320, 640))
    assert np.all((small.xyxy >= 0) & (small.xyxy <= FRAME * 2))
    assert np.all(small.xyxy[:, :2] <= small.xyxy[:, 2:])
    assert np.array_equal(small.xyxy * np.float32([2, 1, 2, 1]), large.xyxy)  # a power of two rounds nothing
    assert np.array_equal(small.scores, large.scores)


def test_thresholds_are_the_specs_unless_they_are_given(spec: ModelSpec) -> None:
    raw = answer(spec)
    strict = spec.replace(confidence_threshold=0.3, nms_threshold=0.1)
    one, other = detect(raw, strict, FRAME), detect(raw, spec, FRAME, 0.3, 0.1)
    assert np.array_equal(one.xyxy, other.xyxy)
    assert 0 < len(one) < len(detect(raw, spec, FRAME, 0.0, 1.0)) == raw[0].size * len(spec.anchors)


def test_detections_exceed_the_threshold(spec: ModelSpec) -> None:
    raw = answer(spec)
    everything = detect(raw, spec, FRAME, 0.0, 1.0)
    for rank, confidence in enumerate(everything.confidence.tolist()):
        assert len(detect(raw, spec, FRAME, confidence, 1.0)) == rank  # neither itself nor what comes after it


def test_a_box_that_was_put_in_comes_out(spec: ModelSpec) -> None:
    columns, rows = spec.grid_size
    raw = np.full((len(spec.anchors), 5 + spec.classes, rows, columns), -20, np.float32)
    raw[1, :, 1, 2] = [math.log(0.25 / 0.75), 0, math.log(2), 0, 20, 0, 0, 20]
    found = detect(raw.reshape(-1, rows, columns), spec, FRAME)
    # Anchor 1 is 0.5 x 2 cells; a cell is 80 x 120 pixels. x: (2 + 0.25) cells +- 0.5 * 2 / 2, y: 1.5 +- 1, cut at 2.
    assert np.allclose(found.xyxy, [[1.75 * 80, 0.5 * 120, 2.75 * 80, 240]], atol=1e-3)  # 2^-15, the step at 200, twice
    assert found.class_id.tolist() == [2]
    assert found.confidence.tolist() == [pytest.approx(1, abs=1e-6)]


def test_nothing_above_the_threshold_gives_no_detections(spec: ModelSpec) -> None:
    found = detect(answer(spec), spec, FRAME, confidence=1.0)
    assert (found.xyxy.shape, found.scores.shape) == ((0, 4), (0, spec.classes))
    assert (found.confidence.shape, found.class_id.shape) == ((0,), (0,))
    assert found.class_id.dtype == np.int64


@law
@given(specs(), st.sampled_from([1e2, 1e4, 1e30]))
def test_any_finite_output_gives_finite_detections_without_a_warning(spec: ModelSpec, scale: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = detect(answer(spec, scale=scale), spec, FRAME, 0.0)
    assert np.isfinite(found.xyxy).all()
    assert np.isfinite(found.scores).all()


def test_half_precision_is_decoded_as_the_same_numbers_in_single(spec: ModelSpec) -> None:
    raw = answer(spec).astype(np.float16)
    for half, single in zip(decode(raw, spec), decode(raw.astype(np.float32), spec), strict=True):
        assert half.dtype == np.float32
        assert np.array_equal(half, single)


def test_class_channels_follow_the_labels(spec: ModelSpec) -> None:
    raw = answer(spec)
    order = [2, 0, 1]
    by_anchor = raw.reshape(len(spec.anchors), -1, *raw.shape[1:])
    shuffled = np.concatenate([by_anchor[:, :5], by_anchor[:, 5:][:, order]], axis=1).reshape(raw.shape)
    assert np.allclose(decode(shuffled, spec)[2], decode(raw, spec)[2][:, order], rtol=1e-6)  # sums in another order


@pytest.mark.parametrize("exclusive", [0, 2, 3])
def test_avas_classes_are_softmax_first_and_sigmoid_after(exclusive: int, spec: ModelSpec) -> None:
    spec = spec.replace(class_activation="softmax+sigmoid", softmax_classes=exclusive)
    logits = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    found = class_probabilities(logits, spec)
    wanted = [softmax(row[:exclusive]) + [sigmoid(x) for x in row[exclusive:]] for row in logits.tolist()]
    assert np.allclose(found, wanted, rtol=1e-6)  # a few roundings of 2^-24


@pytest.mark.parametrize(("activation", "found"), [("softmax", 0), ("softmax+sigmoid", 1)])
def test_by_the_rules_of_ava_a_box_is_chosen_by_its_objectness_alone(
    activation: str, found: int, spec: ModelSpec
) -> None:
    """Objectness 0.5, every class at most a third: the best score is below the threshold of 0.25."""
    spec = spec.replace(class_activation=activation, softmax_classes=3 if activation != "softmax" else 0)
    raw = np.zeros((len(spec.anchors), 5 + spec.classes, *spec.grid_size[::-1]), np.float32)
    raw[:, 4] = -9.0
    raw[0, 4, 0, 0] = 0.0
    detections = detect(raw.reshape(spec.output_channels, *raw.shape[2:]), spec, (100, 100))
    assert spec.classes >= 3 and len(detections) == found
    assert all(score < 0.25 for score in detections.confidence)


def differ_at_most(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    """How far the rows of two tables are apart, whatever their order: the largest error, relative above 1."""
    apart = np.abs(found[:, None] - wanted[None]) / np.maximum(1, np.abs(wanted))
    nearest = apart.max(axis=2).argmin(axis=0)
    assert sorted(nearest) == list(range(len(found)))  # every row answers exactly one
    return float(apart[nearest, np.arange(len(wanted))].max())


@pytest.fixture(scope="module")
def release(reference_dir: Path) -> Callable[[str], NDArray[Any]]:
    """The release's own answers by name."""
    stored = np.load(reference_dir / "official" / "decode_link_fixture.npz")
    return lambda name: np.asarray(stored[name])


@pytest.fixture(scope="module")
def release_spec(release: Callable[[str], NDArray[Any]]) -> ModelSpec:
    anchors = tuple((float(w), float(h)) for w, h in release("anchors").reshape(-1, 2))
    return ModelSpec(tuple(f"class {i}" for i in range(24)), anchors)


# The release computes in float32 too, in another order: up to a dozen roundings of 2^-24 each, of which exp(tw) makes
# |tw| < 10 times as much.
AS_THE_RELEASE = 1e-5


@pytest.mark.parametrize("threshold", [0.005, 0.25])
def test_boxes_above_the_threshold_are_those_of_the_release(
    threshold: float, release: Callable[[str], NDArray[Any]], release_spec: ModelSpec
) -> None:
    boxes, objectness, probabilities = decode(release("output")[0], release_spec)
    kept = objectness * probabilities.max(axis=1) > threshold
    best = probabilities[kept]
    found = np.column_stack([boxes[kept], objectness[kept], best.max(axis=1), best.argmax(axis=1)])
    wanted = release(f"region_{threshold}")
    assert len(found) == len(wanted) > 50
    assert differ_at_most(found, wanted) < AS_THE_RELEASE


@pytest.mark.parametrize("threshold", [0.005, 0.25])
def test_boxes_that_survive_are_those_of_the_release(
    threshold: float, release: Callable[[str], NDArray[Any]], release_spec: ModelSpec
) -> None:
    wanted = release(f"nms_{threshold}")
    found = detect(release("output")[0], release_spec, (1, 1), confidence=threshold)
    assert len(found) == len(wanted) > 50
    corners = np.clip(cxcywh_to_xyxy(wanted[:, :4]), 0, 1)
    wanted_rows = np.column_stack([corners, wanted[:, 4] * wanted[:, 5], wanted[:, 6]])
    found_rows = np.column_stack([found.xyxy, found.confidence, found.class_id])
    assert differ_at_most(found_rows, wanted_rows) < AS_THE_RELEASE
