"""A file that decodes its output itself says what Python decodes, and changes nothing for this runtime."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from yowo_deploy import Detector
from yowo_deploy.backends.loader import open_model
from yowo_deploy.boxes import nms
from yowo_deploy.errors import InputError, ParityError
from yowo_deploy.model_files.onnx_reader import read_onnx_file
from yowo_deploy.model_files.streaming_form import streaming_form
from yowo_deploy.postprocess.decode import detect
from yowo_export.exporter import export_onnx
from yowo_export.graph import decoded_outputs
from yowo_export.graph.decoded_outputs import DECODED, LIMIT, decoded_difference, export_decoded, has_decoded_outputs
from yowo_export.graph.onnx_file import write_onnx
from yowo_export.graph.source import load_graph
from yowo_export.parity.prove import Wanted, prove
from yowo_export.pipeline import export
from yowo_export.precision.convert import Wish, lower_model
from yowo_export.precision.lower_precision import LowerPrecision
from yowo_export.sample_clips import made_up_clips
from yowo_training.checkpoints.checkpoint import Checkpoint, save_checkpoint

if TYPE_CHECKING:
    from tests.conftest import MadeOnce

ENGINES = ("onnxruntime", "openvino")
# By name: what of the classes is exclusive.
ACTIVATIONS = {"softmax": 0, "softmax+sigmoid": 2, "sigmoid": 0, "all exclusive": 3}


@pytest.fixture(scope="session", params=ACTIVATIONS)
def pair(request: pytest.FixtureRequest, checkpoint: Checkpoint, made_once: MadeOnce) -> tuple[Path, Path]:
    """A file without decoded outputs, and one with them."""
    name, count = request.param, ACTIVATIONS[request.param]
    spec = checkpoint.spec.replace(labels=("run", "walk", "sit"))
    if name != "softmax":
        spec = spec.replace(class_activation="softmax+sigmoid", softmax_classes=count)

    def make(folder: Path) -> None:
        export_onnx(Checkpoint(checkpoint.model, spec), folder / "raw.onnx")
        assert export_decoded(folder / "raw.onnx", folder / "decoded.onnx") <= LIMIT

    assert spec.output_channels == checkpoint.spec.output_channels
    folder = made_once(f"decoded {name}", make)
    return folder / "raw.onnx", folder / "decoded.onnx"


def answers(file: Path, engine: str, batch: int) -> tuple[Any, dict[str, Any], Any]:
    with open_model(file, engine) as model:
        clips = np.random.default_rng(1).standard_normal((batch, *model.spec.clip_shape)).astype(np.float32)
        return model.infer(clips), model.outputs(clips, ("raw", *DECODED)), model.spec  # type: ignore[attr-defined]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("batch", [1, 3])
def test_boxes_and_scores_are_what_python_decodes(pair: tuple[Path, Path], engine: str, batch: int) -> None:
    pytest.importorskip(engine)
    raw, _, spec = answers(pair[0], engine, batch)
    same, found, _ = answers(pair[1], engine, batch)
    assert np.array_equal(same, raw) and np.array_equal(found["raw"], raw)
    count = len(spec.anchors) * spec.grid_size[0] * spec.grid_size[1]
    assert [found[name].shape for name in DECODED] == [(batch, count, 4), (batch, count), (batch, count, 3)]
    assert decoded_difference(found, spec) <= LIMIT
    assert np.ptp(found["boxes"]) > 0.5 and np.ptp(found["scores"]) > 0.1  # there is something to compare


def test_a_few_lines_without_this_runtime_find_what_it_finds(pair: tuple[Path, Path]) -> None:
    """As docs/export.md has them, with any suppression that is ordered by objectness."""
    pytest.importorskip("onnxruntime")
    raw, found, spec = answers(pair[1], "onnxruntime", 1)
    expected = detect(raw[0], spec, (640, 480), confidence=0.3)
    boxes, objectness, scores = (found[name][0] for name in DECODED)
    by_objectness = spec.class_activation == "softmax+sigmoid"
    kept = np.flatnonzero((objectness if by_objectness else scores.max(axis=1)) > 0.3)
    kept = kept[nms(boxes[kept], objectness[kept], spec.nms_threshold)]
    kept = kept[np.argsort(-scores[kept].max(axis=1), kind="stable")]
    assert len(kept) == len(expected) > 0
    assert np.abs(np.clip(boxes[kept], 0, 1) * (640, 480, 640, 480) - expected.xyxy).max() < 0.01
    assert np.abs(scores[kept] - expected.scores).max() < 1e-5


@pytest.fixture
def saved(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "model.pt", checkpoint.model, checkpoint.spec, {})
    return tmp_path / "model.pt"


def test_the_option_goes_with_others_and_detection_stays_to_the_bit(saved: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    frames = np.random.default_rng(0).integers(0, 256, (12, 64, 96, 3), np.uint8)
    plain = export(saved, tmp_path / "plain.onnx", uint8_input=True)
    ours = export(saved, tmp_path / "ours.onnx", uint8_input=True, decode=True)
    fixed = export(saved, tmp_path / "fixed.onnx", decode=True, batch=2)
    assert has_decoded_outputs(read_onnx_file(ours)) and not has_decoded_outputs(read_onnx_file(plain))
    assert read_onnx_file(fixed).batch == 2 and decoded_difference(*answers(fixed, "onnxruntime", 2)[1:]) <= LIMIT
    assert bool(streaming_form(read_onnx_file(ours))) == bool(streaming_form(read_onnx_file(plain)))
    for clips in (False, True):
        results = [list(found_in(file, frames, clips)) for file in (plain, ours)]
        assert results[0] == results[1] and any(results[0])


def found_in(file: Path, frames: Any, clips: bool) -> Iterator[Any]:
    with Detector.open(file, backend="onnxruntime", clips=clips, confidence=0.01) as detector:
        for frame in frames:
            found = detector.push(frame).detections
            yield found.xyxy.tolist(), found.scores.tolist()


def test_lower_precisions_decode_in_single(saved: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    single, low = export(saved, tmp_path / "single.onnx"), tmp_path / "low.onnx"
    for precision in ("fp16", "int8"):
        lower_model(
            single, low, made_up_clips(read_onnx_file(single).spec, 2), Wish(precision, max_drop=None), judged=1
        )
        assert export_decoded(low, tmp_path / "ours.onnx") <= LIMIT
        assert prove(low, tmp_path / "ours.onnx", Wanted(clips=2)).passed


def test_other_sources_are_refused(saved: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    ours = export(saved, tmp_path / "ours.onnx", decode=True)
    for source, options in (
        (ours, {"decode": True}),
        (ours, {}),
        (ours, {"lower": LowerPrecision("fp16")}),
        (saved, {"decode": True, "streaming": True}),
        (saved, {"decode": True, "lower": LowerPrecision("bf16")}),
    ):
        with pytest.raises(InputError, match="decode"):
            export(source, tmp_path / "not.onnx", **options)
    with pytest.raises(InputError, match="leave other options out"):
        export(saved, tmp_path / "not.safetensors", decode=True)
    assert not list(tmp_path.glob("not*"))
    other = export(ours, tmp_path / "other.onnx", clip=4)  # from its weights
    assert not has_decoded_outputs(read_onnx_file(other))


def test_what_decodes_otherwise_is_not_written_and_fails_parity(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    model = load_graph(pair[1])
    wrong = next(node for node in model.graph if node.op_type == "Exp")
    wrong.op_type = "Sigmoid"
    write_onnx(model, tmp_path / "wrong.onnx")
    onnx.checker.check_model(str(tmp_path / "wrong.onnx"))
    proof = prove(pair[0], tmp_path / "wrong.onnx", Wanted(clips=1))
    assert not proof.passed and "boxes and scores in the graph differ" in proof.verdict()
    assert prove(*pair, Wanted(clips=1)).passed
    monkeypatch.setattr(decoded_outputs, "LARGEST", -1.0)
    with pytest.raises(ParityError, match="boxes and scores of the graph differ"):
        export_decoded(pair[0], tmp_path / "not.onnx")
    assert not (tmp_path / "not.onnx").exists()
