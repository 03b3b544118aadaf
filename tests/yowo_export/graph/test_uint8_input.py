"""A file that takes bytes is the same model: on both engines, in every form, or it is not there at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from yowo_deploy import Detector
from yowo_deploy.backends.base import Streaming
from yowo_deploy.backends.isolated import Isolated
from yowo_deploy.backends.loader import open_model
from yowo_deploy.benchmark.timing import model_call
from yowo_deploy.errors import InputError, ParityError
from yowo_deploy.model_files.default import DEFAULT
from yowo_deploy.model_files.onnx_reader import read_onnx_file, read_spec
from yowo_deploy.preprocess.frames import preprocess
from yowo_export.exporter import export_onnx
from yowo_export.graph import uint8_input
from yowo_export.graph.uint8_input import export_uint8
from yowo_export.parity.prove import Wanted, prove
from yowo_export.pipeline import export
from yowo_export.precision.convert import Wish, lower_model, store_anew
from yowo_export.precision.lower_precision import LowerPrecision
from yowo_export.sample_clips import made_up_clips
from yowo_training.checkpoints.checkpoint import Checkpoint, save_checkpoint
from yowo_training.checkpoints.onnx_weights import checkpoint_from_onnx

if TYPE_CHECKING:
    from tests.conftest import MadeOnce

ENGINES = ("onnxruntime", "openvino")


@pytest.fixture(scope="session")
def odd(checkpoint: Checkpoint) -> Checkpoint:
    """Every channel normalised by numbers of its own."""
    spec = checkpoint.spec.replace(mean=(0.1, 0.4, 0.6), std=(0.2, 0.3, 0.7))
    return Checkpoint(checkpoint.model, spec)


@pytest.fixture(scope="session", params=["rgb", "bgr"])
def pair(request: pytest.FixtureRequest, odd: Checkpoint, made_once: MadeOnce) -> tuple[Path, Path]:
    """A file that takes normalised planes, and one that takes bytes."""

    def make(folder: Path) -> None:
        export_onnx(Checkpoint(odd.model, odd.spec.replace(colour=request.param)), folder / "float32.onnx")
        export_uint8(folder / "float32.onnx", folder / "uint8.onnx")

    folder = made_once(f"uint8 {request.param}", make)
    return folder / "float32.onnx", folder / "uint8.onnx"


def agree(found: np.ndarray, expected: np.ndarray, limit: float = uint8_input.LIMITS["fp32"]) -> bool:
    assert np.abs(expected).max() > 0.5  # there is something to compare
    return bool(np.abs(found - expected).max() <= limit * np.abs(expected).max())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("batch", [1, 3])
def test_bytes_give_what_normalised_planes_give(pair: tuple[Path, Path], engine: str, batch: int) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (batch, 8, 64, 96, 3), np.uint8)
    answers = []
    for file, dtype in zip(pair, (np.float32, np.uint8), strict=True):
        with open_model(file, engine) as model:
            clips = np.stack([np.stack([preprocess(frame, model.spec) for frame in clip], 1) for clip in frames])
            assert clips.dtype == dtype
            answers.append(model.infer(clips))
    assert agree(answers[1], answers[0])


def test_the_spec_names_the_form_and_no_input_is_taken_for_the_other(pair: tuple[Path, Path]) -> None:
    floats, ours = map(read_spec, pair)
    assert (floats.input_type, ours.input_type) == ("float32", "uint8") and ours == floats.replace(input_type="uint8")
    clips = np.zeros((1, *ours.clip_shape))
    for file, wrong, right in zip(pair, (np.uint8, np.float32), ("float32", "uint8"), strict=True):
        with open_model(file) as model, pytest.raises(InputError, match=f"the model takes {right}"):
            model.infer(clips.astype(wrong))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_streaming_file_takes_bytes_as_well(odd: Checkpoint, tmp_path: Path, engine: str) -> None:
    save_checkpoint(tmp_path / "m.pt", odd.model, odd.spec, {})
    files = [
        export(tmp_path / "m.pt", tmp_path / f"{flag}.onnx", streaming=True, uint8_input=flag) for flag in (False, True)
    ]
    assert [read_spec(file).input_type for file in files] == ["float32", "uint8"]
    frames = np.random.default_rng(0).integers(0, 256, (12, 64, 96, 3), np.uint8)
    with open_model(files[0], engine) as first, open_model(files[1], engine) as second:
        assert isinstance(first, Streaming) and isinstance(second, Streaming)
        one, other = first.open_stream(), second.open_stream()
        for frame in frames:
            expected = one.push(preprocess(frame, first.spec))
            assert agree(other.push(preprocess(frame, second.spec)), expected)


def test_the_form_that_a_file_carries_for_videos_comes_along(tmp_path: Path) -> None:
    made = export(DEFAULT, tmp_path / "bytes.onnx", uint8_input=True)
    frames = np.random.default_rng(0).integers(0, 256, (4, 240, 320, 3), np.uint8)
    for engine in ENGINES:
        with open_model(DEFAULT, engine, streaming="one") as first, open_model(made, engine, streaming="one") as second:
            assert isinstance(first, Streaming) and isinstance(second, Streaming)
            one, other = first.open_stream(), second.open_stream()
            for frame in frames:
                answer, expected = other.push(preprocess(frame, second.spec)), one.push(preprocess(frame, first.spec))
                assert agree(answer, expected)
    with Detector.open(made) as detector:
        assert detector.backend.spec.streaming and detector.push(frames[0]).detections is not None


def test_parity_feeds_each_file_its_own_way(pair: tuple[Path, Path], odd: Checkpoint, tmp_path: Path) -> None:
    """PyTorch beside bytes, layer by layer too."""
    spec = read_spec(pair[1]).replace(input_type="float32")
    save_checkpoint(tmp_path / "m.pt", odd.model, spec, {})
    for engine in ENGINES:
        proof = prove(tmp_path / "m.pt", pair[1], Wanted(clips=2, bisect=True), ({}, {"backend": engine}))
        assert proof.passed and proof.difference and proof.bisection and len(proof.bisection.layers) > 10


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_lower_precision_takes_bytes_too(precision: str, odd: Checkpoint, tmp_path: Path) -> None:
    export_onnx(odd, tmp_path / "m.onnx", "plain")
    wish = Wish(precision, fused=False)  # type: ignore[arg-type]
    lower_model(tmp_path / "m.onnx", tmp_path / "lower.onnx", made_up_clips(odd.spec, 2), wish, judged=1)
    export_uint8(tmp_path / "lower.onnx", tmp_path / "bytes.onnx")
    spec = read_spec(tmp_path / "bytes.onnx")
    assert (spec.precision, spec.input_type) == (precision, "uint8")


def test_such_a_file_is_tried_and_measured_on_bytes(pair: tuple[Path, Path]) -> None:
    with Isolated(pair[1]) as engine:
        engine.try_out()
    with open_model(pair[1]) as model:
        assert np.isfinite(model_call(model, 2)()).all()


def test_weights_come_back_out_of_such_a_file(pair: tuple[Path, Path]) -> None:
    floats, ours = map(checkpoint_from_onnx, pair)
    assert ours.spec == floats.spec and ours.spec.input_type == "float32"
    one, other = ours.model.state_dict(), floats.model.state_dict()
    assert all(np.array_equal(one[name].numpy(), other[name].numpy()) for name in other)


def test_what_cannot_be_is_refused_in_one_line(pair: tuple[Path, Path], tmp_path: Path) -> None:
    floats, ours = pair
    for call in (
        lambda: export_uint8(ours, tmp_path / "twice.onnx"),
        lambda: export(ours, tmp_path / "anew.onnx"),
        lambda: store_anew(ours, tmp_path / "anew.onnx", half_weights=False),
        lambda: export(floats, tmp_path / "bf16.onnx", uint8_input=True, lower=LowerPrecision("bf16", [])),
        lambda: export(floats, tmp_path / "m.pt", uint8_input=True),
    ):
        with pytest.raises(InputError) as refused:
            call()
        assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_a_file_that_differs_is_not_written(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = uint8_input.take_bytes

    def spoiled(model: object) -> None:
        take(model)  # type: ignore[arg-type]
        numbers = model.graph.initializers["bytes_constant"]  # type: ignore[attr-defined]
        numbers.const_value = uint8_input.ir.tensor(numbers.const_value.numpy() + 1, name=numbers.name)

    monkeypatch.setattr(uint8_input, "take_bytes", spoiled)
    with pytest.raises(ParityError, match="not written"):
        export_uint8(pair[0], tmp_path / "bad.onnx")
    assert not list(tmp_path.iterdir())


def test_normalisation_is_three_nodes_before_the_network(pair: tuple[Path, Path]) -> None:
    floats, ours = (read_onnx_file(file).operators for file in pair)
    assert ours - floats == {"Cast": 1, "Sub": 1, "Mul": 1} and not floats - ours
