"""Engines: every one gives what plain numpy gives, and what they cannot run is refused before it runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yowo_deploy.arrays import Float
from yowo_deploy.backends.base import Backend, check_clips
from yowo_deploy.backends.loader import ONNX_ENGINES, open_model
from yowo_deploy.errors import InputError, ModelFileError, SpecError, YowoError
from yowo_deploy.prefetch import map_ahead
from yowo_deploy.spec import ModelSpec

onnx = pytest.importorskip("onnx")
helper = onnx.helper
Model = Any  # onnx.ModelProto, made by protobuf when onnx is imported


@pytest.fixture(params=ONNX_ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Every engine for ONNX files that is installed."""
    pytest.importorskip(ONNX_ENGINES[request.param][1])
    return str(request.param)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, onnx_model: Callable[..., Model], spec: ModelSpec) -> Path:
    """The small network."""
    path = tmp_path_factory.mktemp("models") / "small.onnx"
    path.write_bytes(onnx_model(spec).SerializeToString())
    return path


@pytest.fixture
def opened(engine: str, file: Path) -> Backend:
    return open_model(file, engine, threads=1)


def clips_of(spec: ModelSpec, count: int = 1, seed: int = 0) -> Float:
    return np.random.default_rng(seed).random((count, *spec.clip_shape), np.float32)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_an_engine_computes_what_numpy_computes(
    count: int, opened: Backend, spec: ModelSpec, numpy_backend: Callable[[ModelSpec], Backend]
) -> None:
    clips = clips_of(spec, count)
    found = opened.infer(clips)
    assert found.dtype == np.float32
    assert found.shape == (count, spec.output_channels, *spec.grid_size[::-1])
    # 36 products of at most 2 in any order: 36 roundings of 2^-24 of a sum below 10, at the worst.
    assert np.abs(found - numpy_backend(spec).infer(clips)).max() < 36 * 10 * 2**-24


@pytest.mark.parametrize("parallel", [1, 2])
def test_many_threads_may_call_at_once(engine: str, file: Path, spec: ModelSpec, parallel: int) -> None:
    clips = [clips_of(spec, seed=seed) for seed in range(40)]
    with open_model(file, engine, parallel=parallel) as backend:
        assert backend.parallel == parallel
        alone = [backend.infer(clip) for clip in clips]
        together = list(map_ahead(backend.infer, clips, 4))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


def test_streams_is_an_alias_of_parallel(engine: str, file: Path) -> None:
    with open_model(file, engine, parallel=2) as backend:
        assert backend.parallel == 2


@pytest.mark.parametrize("name", ["parallel", "threads"])
@pytest.mark.parametrize("value", [-1, 0, 1025, 2**31 - 1, 10**11, 10**30])
def test_no_threads_and_more_than_any_processor_has_are_refused(engine: str, file: Path, name: str, value: int) -> None:
    with pytest.raises(InputError, match=f"{name} is {value}, expected 1 to 1024"):
        open_model(file, engine, **{name: value})


def test_a_batch_of_two_is_twice_one(opened: Backend, spec: ModelSpec) -> None:
    clips = clips_of(spec, 2)
    both = opened.infer(clips)
    one_by_one = np.concatenate([opened.infer(clips[:1]), opened.infer(clips[1:])])
    assert np.abs(both - one_by_one).max() < 36 * 10 * 2**-24  # as above: a batch may be summed in another order


def test_an_answer_is_the_callers_own(opened: Backend, spec: ModelSpec) -> None:
    first = opened.infer(clips_of(spec))
    before = first.copy()
    second = opened.infer(clips_of(spec, seed=1))
    assert np.array_equal(first, before)
    assert not np.array_equal(first, second)
    first[:] = 0
    assert np.array_equal(opened.infer(clips_of(spec, seed=1)), second)


def test_clips_of_any_layout_in_memory_are_taken_and_stay(opened: Backend, spec: ModelSpec) -> None:
    clips = clips_of(spec, 2)
    every_second = np.repeat(clips, 2, axis=2)[:, :, ::2]
    assert not every_second.flags.c_contiguous
    assert np.array_equal(opened.infer(every_second), opened.infer(clips))
    assert np.array_equal(opened.infer(clips.astype(np.float64)), opened.infer(clips))
    assert np.array_equal(clips, clips_of(spec, 2))


def test_an_engine_says_what_it_is_and_closes_twice(engine: str, file: Path, spec: ModelSpec) -> None:
    with open_model(file, engine) as backend:
        assert backend.name == engine
        assert backend.spec == spec
    backend.close()


@pytest.mark.parametrize(
    "wrong",
    ["batch is missing", "a frame too few", "a channel too many", "sides swapped", "no clip at all", "batch of none"],
)
def test_a_clip_of_another_shape_is_refused(wrong: str, opened: Backend, spec: ModelSpec) -> None:
    clips = clips_of(spec)
    shapes = {
        "batch is missing": clips[0],
        "a frame too few": clips[:, :, 1:],
        "a channel too many": np.concatenate([clips, clips[:, :1]], axis=1),
        "sides swapped": clips.swapaxes(3, 4),
        "no clip at all": np.zeros(0, np.float32),
        "batch of none": clips[:0],
    }
    with pytest.raises(InputError, match=r"expected \(batch, 3, 3, 4, 8\)"):
        opened.infer(shapes[wrong])


def test_clips_that_fit_are_passed_on_as_contiguous_singles(spec: ModelSpec) -> None:
    clips = clips_of(spec, 2)
    assert check_clips(clips, spec) is clips
    turned = check_clips(clips.astype(np.float64)[::-1], spec)
    assert turned.dtype == np.float32
    assert turned.flags.c_contiguous
    assert np.array_equal(turned, clips[::-1])


def test_bytes_and_floats_are_not_taken_for_each_other(spec: ModelSpec) -> None:
    ours, clips = spec.replace(input_type="uint8"), clips_of(spec, 1)
    given = clips.astype(np.uint8)
    assert check_clips(given, ours) is given
    with pytest.raises(InputError, match="clips are uint8, the model takes float32"):
        check_clips(given, spec)
    with pytest.raises(InputError, match="clips are float32, the model takes uint8"):
        check_clips(clips, ours)


def other_output(model: Model, spec: ModelSpec) -> None:
    """One class more than the file says."""
    del model.metadata_props[:]
    helper.set_model_props(model, {"yowo_spec": spec.replace(labels=(*spec.labels, "jump")).to_json()})


def other_clip_length(model: Model, spec: ModelSpec) -> None:
    del model.metadata_props[:]
    helper.set_model_props(model, {"yowo_spec": spec.replace(clip_length=spec.clip_length + 1).to_json()})


def other_input_size(model: Model, spec: ModelSpec) -> None:
    """The same grid of cells twice the size."""
    del model.metadata_props[:]
    width, height = spec.input_size
    twice = spec.replace(input_size=(2 * width, 2 * height), stride=2 * spec.stride)
    helper.set_model_props(model, {"yowo_spec": twice.to_json()})


def no_spec(model: Model, spec: ModelSpec) -> None:
    del model.metadata_props[:]


def unconnected(model: Model, spec: ModelSpec) -> None:
    model.graph.node[0].input[0] = "nowhere"


def impossible_attribute(model: Model, spec: ModelSpec) -> None:
    del model.graph.node[0].attribute[:]
    model.graph.node[0].attribute.append(helper.make_attribute("strides", [0, 0, 0]))


def mixed_types(model: Model, spec: ModelSpec) -> None:
    model.graph.node[0].CopyFrom(helper.make_node("Add", ["clip", "time"], ["with_time"]))


def no_input(model: Model, spec: ModelSpec) -> None:
    """A constant answer of the right shape."""
    del model.graph.input[:]
    columns, rows = spec.grid_size
    answer = np.zeros((1, spec.output_channels, rows, columns), np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(answer, "answer"))
    del model.graph.node[:]
    model.graph.node.append(helper.make_node("Identity", ["answer"], ["raw"]))


def no_output(model: Model, spec: ModelSpec) -> None:
    del model.graph.output[:]


def another_output_first(model: Model, spec: ModelSpec) -> None:
    columns, rows = spec.grid_size
    shape = ["batch", spec.output_channels, 1, rows, columns]
    model.graph.output.insert(0, helper.make_tensor_value_info("with_time", onnx.TensorProto.FLOAT, shape))


def unknown_operator(model: Model, spec: ModelSpec) -> None:
    model.graph.node.append(helper.make_node("NonZero", ["raw"], ["places"]))


@pytest.mark.parametrize(
    ("spoil", "error", "expected"),
    [
        (other_output, ModelFileError, r"outputs \(16, 2, 4\), its spec says \(18, 2, 4\)"),
        (other_clip_length, ModelFileError, r"takes \(3, 3, 4, 8\), its spec says \(3, 4, 4, 8\)"),
        (other_input_size, ModelFileError, r"takes \(3, 3, 4, 8\), its spec says \(3, 3, 8, 16\)"),
        (no_spec, SpecError, "carries no spec"),
        (unknown_operator, ModelFileError, "NonZero"),
        (unconnected, ModelFileError, "reads 'nowhere'"),
        (impossible_attribute, ModelFileError, "gives Conv the attribute 'strides'"),
        (mixed_types, ModelFileError, "has a Add .*cannot take its inputs"),
        (no_input, ModelFileError, "takes 0 numbers"),
        (no_output, ModelFileError, "cannot load|outputs nothing"),
        (another_output_first, ModelFileError, r"outputs \(16, 1, 2, 4\), its spec says"),
    ],
)
def test_a_file_that_cannot_be_right_is_refused_when_it_is_opened(
    spoil: Callable[[Model, ModelSpec], None],
    error: type[YowoError],
    expected: str,
    engine: str,
    onnx_model: Callable[..., Model],
    spec: ModelSpec,
    tmp_path: Path,
) -> None:
    model = onnx_model(spec)
    spoil(model, spec)
    file = tmp_path / "wrong.onnx"
    file.write_bytes(model.SerializeToString())
    with pytest.raises(error, match=expected) as refused:
        open_model(file, engine, threads=1)
    assert "\n" not in str(refused.value)
