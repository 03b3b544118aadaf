"""A model's description: what is written is read again, and what is no description is refused in one sentence."""

from __future__ import annotations

import dataclasses
import json
import typing
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from yowo_deploy.errors import SpecError
from yowo_deploy.spec import FORMAT_VERSION, MAX_ANCHOR, MAX_SCALE, ModelSpec

# JSON text is UTF-8, in which surrogates do not exist.
NAMES = st.text(min_size=1, max_size=8).filter(str.isprintable)
SHARES = st.floats(0, 1)
SIDES = st.floats(1 / MAX_ANCHOR, MAX_ANCHOR)
SCALES = st.floats(1 / MAX_SCALE, MAX_SCALE)
FED = st.tuples(st.sampled_from(["colour", "flow"]), st.sampled_from(["key frame", "clip"]))
HINTS = typing.get_type_hints(ModelSpec)
SMALLEST = {"labels": ["walk"], "anchors": [[1, 2]]}


def choices(field: str) -> st.SearchStrategy[Any]:
    return st.sampled_from(typing.get_args(HINTS[field]))


@st.composite
def specs(draw: st.DrawFn) -> ModelSpec:
    """Any spec that is allowed."""
    labels = tuple(draw(st.lists(NAMES, min_size=1, max_size=5, unique=True)))
    stride = draw(st.integers(1, 64))
    values: dict[str, Any] = {
        "labels": labels,
        "anchors": tuple(draw(st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=3))),
        "clip_length": draw(st.integers(1, 64)),
        "frame_stride": draw(st.integers(1, 4)),
        "input_size": tuple(stride * draw(st.integers(1, 512 // stride)) for _ in range(2)),
        "stride": stride,
        "mean": tuple(draw(st.floats(-MAX_SCALE, MAX_SCALE)) for _ in range(3)),
        "std": tuple(draw(SCALES) for _ in range(3)),
        "softmax_classes": draw(st.integers(1, len(labels))),
        "weights_sha256": draw(NAMES),
        "name": draw(NAMES),
        "branches": tuple((name, *draw(FED)) for name in draw(st.lists(NAMES, max_size=3, unique=True))),
    }
    for field in ("confidence_threshold", "evaluation_threshold", "nms_threshold"):
        values[field] = draw(SHARES)
    for field, hint in HINTS.items():
        if typing.get_origin(hint) is typing.Literal:
            values[field] = draw(choices(field))
    return ModelSpec(**values)


@settings(max_examples=100, deadline=None)
@given(specs(), st.sampled_from([None, 2]))
def test_a_spec_comes_back_from_json_as_it_went(spec: ModelSpec, indent: int | None) -> None:
    again = ModelSpec.from_json(spec.to_json(indent))
    assert again == spec
    assert hash(again) == hash(spec)
    assert again.to_json() == spec.to_json()


@settings(max_examples=50, deadline=None)
@given(specs())
def test_what_follows_from_the_fields(spec: ModelSpec) -> None:
    frames_of_a_clip = range(0, spec.clip_length * spec.frame_stride, spec.frame_stride)
    assert len(frames_of_a_clip) == spec.clip_length
    assert spec.clip_span == frames_of_a_clip[-1] - frames_of_a_clip[0] + 1
    assert tuple(cells * spec.stride for cells in spec.grid_size) == spec.input_size
    assert spec.clip_shape == (3, spec.clip_length, spec.input_size[1], spec.input_size[0])
    assert spec.output_channels == sum(len(("x", "y", "w", "h", "conf", *spec.labels)) for _ in spec.anchors)
    assert spec.classes == len(spec.labels)


@pytest.mark.parametrize("version", range(1, FORMAT_VERSION))
def test_files_of_older_formats_are_read_as_ever(version: int) -> None:
    spec = ModelSpec.from_dict(SMALLEST | {"format_version": version})
    assert spec == ModelSpec.from_dict(SMALLEST).replace(format_version=version) and spec.branches == ()
    assert spec.input_type == "float32"
    assert ModelSpec.from_json(spec.to_json()).format_version == FORMAT_VERSION


def test_defaults_fill_what_the_json_leaves_out() -> None:
    spec = ModelSpec.from_dict(SMALLEST)
    assert spec == ModelSpec(labels=("walk",), anchors=((1.0, 2.0),))
    assert {type(side) for side in spec.anchors[0]} == {float}  # whole numbers in JSON, floats in the spec


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(HINTS)), JSON_VALUES)
@example("nms_threshold", 10**400)  # no float is so large
@example("anchors", [[10**400, 1]])
@example("labels", [["walk"]])
@example("format_version", True)
def test_any_value_in_any_field_is_taken_or_a_spec_error(field: str, value: Any) -> None:
    try:
        spec = ModelSpec.from_dict({**SMALLEST, field: value})
    except SpecError:
        return
    assert json.loads(spec.to_json())[field] == value


@settings(max_examples=100, deadline=None)
@given(st.text() | JSON_VALUES.map(json.dumps))
@example("")
@example("[" * 100_000)  # deeper than Python's parser goes
@example('{"clip_length": ' + "1" * 5000 + "}")  # more digits than Python turns into an int
def test_a_text_that_is_no_spec_is_a_spec_error(text: str) -> None:
    with pytest.raises(SpecError):
        ModelSpec.from_json(text)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"labels": []}, "labels is .*expected at least one class name"),
        ({"labels": [""]}, "labels is .*expected names of printable characters"),
        ({"labels": ["\ud800"]}, "labels is .*expected names of printable characters"),
        ({"format_version": 0}, f"format_version is 0, expected 1 to {FORMAT_VERSION}"),
        ({"clip_length": 1024, "input_size": [8192, 8192]}, "clip_length x frame_stride x input_size is"),
        ({"clip_length": 1, "frame_stride": 1024, "input_size": [8192, 8192]}, "clip_length x frame_stride x input_"),
        ({"labels": ["walk", "walk"]}, "labels is .*expected no name twice"),
        ({"labels": "walk"}, "labels is 'walk', expected a list"),
        ({"labels": [1]}, "labels is 1, expected str"),
        ({"anchors": []}, "anchors is .*expected at least one"),
        ({"anchors": [[1, 0]]}, "anchors is .*expected sizes of 1 / 32768 to 32768 grid cells"),
        ({"anchors": [[1, float("nan")]]}, "anchors is .*expected sizes"),
        ({"anchors": [[1e300, 1]]}, "anchors is .*expected sizes"),
        ({"anchors": [[1, 1e-300]]}, "anchors is .*expected sizes"),
        ({"anchors": [[1, 2, 3]]}, r"anchors is \[1, 2, 3\], expected 2 values"),
        ({"clip_length": 0}, "clip_length is 0, expected 1 to 1024"),
        ({"clip_length": 1025}, "clip_length is 1025, expected 1 to 1024"),
        ({"clip_length": 8.0}, "clip_length is 8.0, expected int"),
        ({"clip_length": True}, "clip_length is True, expected int"),
        ({"clip_length": "8"}, "clip_length is '8', expected int"),
        ({"clip_length": None}, "clip_length is None, expected int"),
        ({"frame_stride": 0}, "frame_stride is 0, expected 1 to 1024"),
        ({"stride": 0}, "stride is 0, expected a positive number"),
        ({"input_size": [224, 225]}, "input_size is .*expected multiples of 32"),
        ({"input_size": [8224, 224]}, "input_size is .*up to 8192"),
        ({"input_size": [0, 224]}, "input_size is .*expected multiples of 32"),
        ({"input_size": [224]}, "input_size is .*expected 2 values"),
        ({"mean": [0, 0, float("inf")]}, "mean is .*expected -32768 to 32768"),
        ({"mean": [-32769, 0, 0]}, "mean is .*expected -32768 to 32768"),
        ({"mean": [float("nan"), 0, 0]}, "mean is .*expected -32768 to 32768"),
        ({"std": [1, 1, 0]}, "std is .*expected 1 / 32768 to 32768"),
        ({"std": [1, 1, 1e-300]}, "std is .*expected 1 / 32768 to 32768"),
        ({"softmax_classes": 2}, "softmax_classes is 2, expected 0 to 1"),
        ({"nms_threshold": 1.01}, "nms_threshold is 1.01, expected 0 to 1"),
        ({"confidence_threshold": -0.1}, "confidence_threshold is -0.1, expected 0 to 1"),
        ({"evaluation_threshold": float("nan")}, "evaluation_threshold is nan, expected 0 to 1"),
        ({"colour": "grey"}, "colour is 'grey', expected 'rgb' or 'bgr'"),
        ({"resize_filter": "lanczos"}, "'nearest' or 'bilinear' or 'bicubic'"),
        ({"precision": ["fp32"]}, "precision is .*expected 'fp32' or"),
        ({"colours": "rgb", "pad": 1}, "unknown field in the model's spec: 'colours', 'pad'"),
        ({"format_version": FORMAT_VERSION + 1, "novelty": 1}, "is newer than .*upgrade yowo-deploy"),
        ({"format_version": "1"}, "format_version is '1', expected int"),
        ({"streaming": 1}, "streaming is 1, expected bool"),
    ],
)
def test_a_wrong_field_is_named_with_what_was_expected(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(SpecError, match=expected):
        ModelSpec.from_json(json.dumps({**SMALLEST, **change}))


@pytest.mark.parametrize(("text", "expected"), [("[]", "is a list"), ("{}", "lacks 'anchors', 'labels'")])
def test_a_spec_that_lacks_everything_says_so(text: str, expected: str) -> None:
    with pytest.raises(SpecError, match=expected):
        ModelSpec.from_json(text)


def test_a_copy_with_changes_is_checked_again(spec: ModelSpec) -> None:
    assert dataclasses.asdict(spec.replace(clip_length=5)) == {**dataclasses.asdict(spec), "clip_length": 5}
    with pytest.raises(SpecError, match="clip_length"):
        spec.replace(clip_length=0)


def test_a_file_of_before_there_were_streaming_ones_takes_clips(spec: ModelSpec) -> None:
    values = spec.to_dict()
    assert values.pop("streaming") is False
    assert ModelSpec.from_dict(values) == spec
