"""The verdict on two model files: passed for the same model, and what is wrong in one line for any other."""

from __future__ import annotations

import copy
import importlib
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from yowo_deploy.arrays import Float
from yowo_deploy.backends.base import Backend
from yowo_deploy.backends.isolated import Isolated
from yowo_deploy.backends.loader import open_model
from yowo_deploy.backends.ort import open_file
from yowo_deploy.boxes import Detections, Tube
from yowo_deploy.datasets.base import AnnotatedVideo
from yowo_deploy.datasets.data_json import Annotations, NativeDataset, Sides
from yowo_deploy.errors import InputError, ParityError
from yowo_deploy.files import sha256_of
from yowo_deploy.model_files.onnx_reader import read_spec
from yowo_deploy.postprocess.decode import detect
from yowo_deploy.spec import METADATA_KEY, ModelSpec
from yowo_export.exporter import export_onnx
from yowo_export.parity import bisect as bisect_module
from yowo_export.parity.bisect import Bisection, LayerError
from yowo_export.parity.compare import LIMITS
from yowo_export.parity.prove import Wanted, assert_parity, prove
from yowo_export.parity.report import parity_report
from yowo_export.precision.convert import Wish, lower_model
from yowo_export.sample_clips import made_up_clips
from yowo_export.streaming.rewrite import export_streaming
from yowo_training.checkpoints.checkpoint import Checkpoint, save_checkpoint
from yowo_training.torch_backend import TorchBackend

prove_module = importlib.import_module("yowo_export.parity.prove")  # the package gives the function of that name


@pytest.fixture(scope="module")
def saved(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("parity") / "m.pt"
    save_checkpoint(path, checkpoint.model, checkpoint.spec, {})
    return path


@pytest.fixture(scope="module")
def lowered(checkpoint: Checkpoint, single: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The file in half precision and quantized."""
    folder = tmp_path_factory.mktemp("lowered")
    wishes = {"fp16": Wish("fp16", fused=False), "int8": Wish("int8", fused=False)}
    for name, wish in wishes.items():
        lower_model(single, folder / f"{name}.onnx", made_up_clips(checkpoint.spec, 2), wish, judged=1)
    return {name: folder / f"{name}.onnx" for name in wishes}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines in this process: starting another takes seconds, and `test_apart` shows that it answers the same."""
    monkeypatch.setattr(prove_module, "Isolated", open_model)
    monkeypatch.setattr(bisect_module, "Isolated", open_model)


def with_spec(source: Path, path: Path, **changes: Any) -> Path:
    """The same network under another description."""
    model = onnx.load(source)
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            entry.value = ModelSpec.from_json(entry.value).replace(**changes).to_json()
    onnx.save(model, path)
    return path


def test_a_file_and_its_checkpoint_are_the_same_model(saved: Path, single: Path, videos: Path) -> None:
    for data in ("random", videos):
        proof = prove(saved, single, Wanted(data, clips=3))
        assert proof.passed and proof.verdict().startswith("PASSED: pytorch fp32 and openvino fp32, 3 clips: raw ")
        assert proof.difference is not None and proof.difference.detections > 0 and proof.bisection is None


@pytest.mark.usefixtures("here")
def test_engines_may_be_chosen_for_both(single: Path) -> None:
    options = {"backend": "onnxruntime"}, {"backend": "openvino"}
    assert prove(single, single, Wanted(clips=1), options).engines == "onnxruntime fp32 and openvino fp32"


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("changes", [{"colour": "bgr"}, {"resize_filter": "nearest"}, {"mean": (0.1, 0.0, 0.0)}])
def test_a_file_that_is_fed_otherwise_fails_and_the_field_is_named(
    changes: dict[str, Any], saved: Path, single: Path, lowered: dict[str, Path], videos: Path, tmp_path: Path
) -> None:
    """The network is the same: only what it is given differs, and the golden frame of the export says so too."""
    [(name, value)] = changes.items()
    spoiled = with_spec(single, tmp_path / "fed.onnx", **changes)
    half = with_spec(lowered["fp16"], tmp_path / "half.onnx", **changes)
    quantized = with_spec(lowered["int8"], tmp_path / "int8.onnx", **changes)
    for reference, candidate in ((saved, spoiled), (single, spoiled), (single, half), (single, quantized)):
        proof = prove(reference, candidate, Wanted(videos, clips=2, bisect=True))
        assert not proof.passed and f"preprocessing differs, {name}: " in proof.verdict()
        assert repr(value) in proof.verdict()
        assert any("was written" in words or "was made with" in words for words in proof.failures)
        assert proof.bisection is not None and proof.bisection.culprit is None  # fed alike, the networks agree


@pytest.mark.usefixtures("here")
def test_a_fault_that_no_output_shows_fails_all_the_same(single: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = LayerError("backbone_2d.stem", 0.5, 0.0, 1e-4)
    monkeypatch.setattr(prove_module, "bisect", lambda *arguments: Bisection((hidden,), 0))
    proof = prove(single, single, Wanted(clips=1, bisect=True))
    assert not proof.passed and "though the outputs agree" in proof.verdict()


@pytest.mark.usefixtures("here")
def test_the_clip_that_differs_most_is_taken_apart(single: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips, seen = made_up_clips(read_spec(single), 4), []

    def opened(path: Path, odd: bool = False, **options: Any) -> Backend:
        backend = open_file(path, **options)
        plain = backend.infer
        if odd:
            monkeypatch.setattr(
                backend, "infer", lambda given: plain(given) + 9.0 * np.array_equal(given[0], clips.clip(2))
            )
        return backend

    def looked(reference: Path, candidate: Path, clip: Float, *_: object) -> Bisection:
        seen.append(clip)
        return Bisection((LayerError("", 0.0, 0.0, 0.0),), 0)

    monkeypatch.setattr(prove_module, "Isolated", opened)
    monkeypatch.setattr(prove_module, "bisect", looked)
    prove(single, single, Wanted(clips=4, bisect=True), ({}, {"odd": True}))
    np.testing.assert_array_equal(seen, [clips.clip(2)])


@pytest.mark.usefixtures("here")
def test_a_checkpoint_runs_at_the_clip_length_of_the_file(saved: Path, checkpoint: Checkpoint, tmp_path: Path) -> None:
    shorter = Checkpoint(checkpoint.model, checkpoint.spec.replace(clip_length=4))
    export_onnx(shorter, tmp_path / "four.onnx")
    proof = prove(saved, tmp_path / "four.onnx", Wanted(clips=1))
    assert proof.passed, proof.verdict()


@pytest.mark.usefixtures("here")
def test_the_wider_precision_counts_whoever_asks_for_the_narrower(
    saved: Path, checkpoint: Checkpoint, lowered: dict[str, Path], tmp_path: Path
) -> None:
    """A file's own precision, that of its weights, and what an engine is asked for."""
    halved = tmp_path / "half.onnx"
    export_onnx(checkpoint, halved, half_weights=True)
    asked = ({}, {"backend": "openvino", "precision": "fp32"})
    for candidate, options, precision in (
        (halved, ({}, {}), "fp16"),
        (lowered["fp16"], asked, "fp16"),
        (lowered["int8"], ({}, {}), "int8"),
    ):
        proof = prove(saved, candidate, Wanted(clips=1), options)
        assert proof.limits == LIMITS[precision] and proof.passed, proof.verdict()  # type: ignore[index]


@pytest.mark.usefixtures("here")
def test_half_weights_in_both_files_are_held_to_the_arithmetic(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """The same rounded weights in float32 arithmetic on two engines."""
    halved = tmp_path / "half.onnx"
    export_onnx(checkpoint, halved, half_weights=True)
    proof = prove(halved, halved, Wanted(clips=1), ({"backend": "onnxruntime"}, {"backend": "openvino"}))
    assert proof.limits == LIMITS["fp32"] and proof.passed, proof.verdict()


@pytest.mark.usefixtures("here")
def test_clips_in_another_order_are_seen_on_a_single_clip(single: Path, tmp_path: Path) -> None:
    model = onnx.load(single)
    backwards = {"starts": [-1], "ends": [-1000], "axes": [2], "steps": [-1]}
    for name, values in backwards.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(values, np.int64), f"turn_{name}"))
    for node in model.graph.node:
        node.input[:] = ["turned" if name == "clips" else name for name in node.input]
    turn = onnx.helper.make_node("Slice", ["clips", *(f"turn_{name}" for name in backwards)], ["turned"], "turn")
    model.graph.node.insert(0, turn)
    onnx.save(model, tmp_path / "turned.onnx")
    assert not prove(single, tmp_path / "turned.onnx", Wanted(clips=1)).passed


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", ["confidence_threshold", "nms_threshold"])
def test_a_file_that_chooses_other_boxes_fails(name: str, single: Path, tmp_path: Path) -> None:
    proof = prove(single, with_spec(single, tmp_path / "m.onnx", **{name: 0.9}), Wanted(clips=1))
    assert f"thresholds differ, {name}: " in proof.verdict()


@pytest.mark.usefixtures("here")
def test_models_without_layers_to_compare_are_no_failure(
    saved: Path, single: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They agree, so the verdict is not FAILED: the comparison that cannot be made is refused, before all work."""
    frames = tmp_path / "frames.onnx"
    export_streaming(single, frames)
    said: list[str] = []
    for candidate, why in ((saved, "needs an ONNX file"), (frames, "is a streaming file")):
        with pytest.raises(InputError, match=why):
            prove(saved, candidate, Wanted(clips=1, bisect=True), on_step=said.append)
        assert not said and prove(saved, candidate, Wanted(clips=1)).passed
    with pytest.raises(ParityError, match="FAILED"):  # and what differs still does
        assert_parity(saved, frames, clips=1, raw=0.0)
    # Whether a plan shows its layers is known once it is open.
    monkeypatch.setattr(bisect_module, "_values", lambda *_: {})
    with pytest.raises(InputError, match=r"no layer in common.*apart from layers PASSED"):
        prove(saved, single, Wanted(clips=1, bisect=True))
    proof = prove(saved, single, Wanted(clips=1, bisect=True, limits={"raw": 0.0}))
    assert len(proof.failures) == 2 and proof.failures[1].startswith("no layers were compared")


@pytest.mark.usefixtures("here")
def test_a_network_that_wants_its_colours_the_other_way_is_told(
    checkpoint: Checkpoint, saved: Path, tmp_path: Path
) -> None:
    model = copy.deepcopy(checkpoint.model)
    for branch in (model.backbone_2d, model.backbone_3d):
        first = branch.features[0][0]  # type: ignore[index,union-attr]
        first.weight.data = first.weight.data.flip(1)  # type: ignore[operator,union-attr]
    export_onnx(Checkpoint(model, checkpoint.spec), tmp_path / "m.onnx")
    with pytest.raises(ParityError, match=r"colours are swapped.*first layer to differ: backbone_.d.features.0.0"):
        assert_parity(saved, tmp_path / "m.onnx", clips=2)


def test_an_engine_that_crashes_is_a_verdict_and_not_the_end(single: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fragile(Isolated):
        def infer(self, clips: np.ndarray) -> Float:
            os.kill(self._child.process.pid, signal.SIGSEGV)
            return super().infer(clips)

    monkeypatch.setattr(prove_module, "Isolated", Fragile)
    proof = prove(single, single, Wanted(clips=1))
    assert not proof.passed and "died: Segmentation fault" in proof.verdict() and proof.difference is None


@pytest.mark.usefixtures("here")
def test_outputs_that_are_no_numbers_are_traced_to_their_layer_without_being_asked(
    single: Path, tmp_path: Path
) -> None:
    model = onnx.load(single)
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "conv_final.weight")
    values = onnx.numpy_helper.to_array(weight).copy()
    values[2] = 3e38  # overflows; a weight that is NaN is refused where the file is read
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(model, tmp_path / "m.onnx")
    proof = prove(single, tmp_path / "m.onnx", Wanted(clips=1))
    assert "first non-finite output: conv_final, in the candidate" in proof.verdict()
    proof = prove(tmp_path / "m.onnx", tmp_path / "m.onnx", Wanted(clips=1))
    assert "first non-finite output: conv_final, in both models" in proof.verdict()


@pytest.mark.usefixtures("here")
def test_checkpoints_that_put_out_what_is_no_number_are_traced_to_their_module(
    checkpoint: Checkpoint, saved: Path, single: Path, tmp_path: Path
) -> None:
    model = copy.deepcopy(checkpoint.model)
    model.backbone_2d.features[2][0].weight.data[3] = 3e38  # type: ignore[index,union-attr,operator]
    spoiled = tmp_path / "overflows.pt"
    save_checkpoint(spoiled, model, checkpoint.spec, {})
    words = "first non-finite output: backbone_2d.features.2.0"
    for files in ((saved, spoiled), (spoiled, spoiled)):
        assert f"{words}, in {spoiled}" in prove(*files, Wanted(clips=1)).verdict()
    assert f"{words}, in the candidate" in prove(single, spoiled, Wanted(clips=1)).verdict()


@pytest.mark.usefixtures("here")
def test_a_data_set_is_no_way_round_what_is_no_number(
    checkpoint: Checkpoint, saved: Path, videos: Path, tmp_path: Path
) -> None:
    model = copy.deepcopy(checkpoint.model)
    model.conv_final.weight.data[:] = 3e38
    save_checkpoint(tmp_path / "overflows.pt", model, checkpoint.spec, {})
    tube = Tube(0, np.arange(3), np.tile(np.float32([10, 10, 50, 50]), (3, 1)))
    video = AnnotatedVideo("one", "one", videos / "1.webm", 20, (tube,), (160, 120))
    split: Sides = {"train": (), "test": ("one",)}
    dataset = NativeDataset(Annotations(checkpoint.spec.labels, (video,), (split,)), "here")
    proof = prove(saved, tmp_path / "overflows.pt", Wanted(clips=1, dataset=dataset))
    assert "no frame-mAP: " in proof.verdict() and proof.difference is not None


@pytest.mark.usefixtures("here")
def test_limits_may_be_set(saved: Path, single: Path) -> None:
    assert "raw outputs differ" in prove(saved, single, Wanted(clips=1, limits={"raw": 0.0})).verdict()
    assert_parity(saved, single, clips=1, raw=1e-3)
    with pytest.raises(ParityError, match=r"FAILED.*raw outputs differ.*no layer of"):
        assert_parity(saved, single, clips=1, raw=0.0)


@pytest.mark.usefixtures("here")
def test_flipped_signs_are_caught_or_declared_harmless_with_figures(
    checkpoint: Checkpoint, saved: Path, tmp_path: Path
) -> None:
    """Whichever weight it is: what is PASSED shows the same boxes, decoded here without the code under test."""
    rng = np.random.default_rng(0)
    caught, clips = 0, made_up_clips(checkpoint.spec, 2)
    whole = TorchBackend.of(checkpoint)
    for trial in range(4):
        model = copy.deepcopy(checkpoint.model)
        weights = [p for p in model.parameters() if p.ndim > 3]
        chosen = weights[rng.integers(len(weights))].data.view(-1)
        chosen[int(rng.integers(len(chosen)))] *= -1
        save_checkpoint(tmp_path / f"{trial}.pt", model, checkpoint.spec, {})
        proof = prove(saved, tmp_path / f"{trial}.pt", Wanted(clips=2))
        assert proof.difference is not None
        caught += not proof.passed
        flipped = TorchBackend.of(Checkpoint(model, checkpoint.spec))
        harmless = all(
            same_boxes(
                detect(whole.infer(clip[None])[0], checkpoint.spec, size_wh),
                detect(flipped.infer(clip[None])[0], checkpoint.spec, size_wh),
            )
            for clip, size_wh in clips
        )
        assert harmless or not proof.passed
        assert f"raw {proof.difference.raw:.1e}" in proof.verdict() or not proof.passed
    assert caught


def same_boxes(first: Detections, second: Detections) -> bool:
    """Box for box; of two whose scores are equal to the limit any may stand first."""
    if len(first) != len(second):
        return False
    near = np.abs(first.xyxy[:, None] - second.xyxy[None]).max(axis=2) <= 0.1
    near &= np.abs(first.confidence[:, None] - second.confidence[None]) <= 1e-3
    near &= first.class_id[:, None] == second.class_id[None]
    return bool(near.any(axis=0).all() and near.any(axis=1).all())


@pytest.mark.usefixtures("here")
def test_other_tasks_are_refused_with_what_differs(saved: Path, single: Path, tmp_path: Path) -> None:
    other = with_spec(single, tmp_path / "other.onnx", labels=("a", "b", "c"))
    with pytest.raises(InputError, match=r"labels: \('run', 'sit', 'wave'\) and \('a', 'b', 'c'\)"):
        prove(saved, other, Wanted(clips=1))


@pytest.mark.usefixtures("here")
def test_the_page_shows_the_verdict_the_figures_and_the_layers(saved: Path, single: Path) -> None:
    pytest.importorskip("matplotlib")
    proof = prove(saved, single, Wanted(clips=1, bisect=True))
    page = parity_report(saved, single, proof)
    assert proof.verdict() in page and "backbone_3d.features.1.0" in page and "data:image/png" in page
    assert all(sha256_of(file) in page for file in (saved, single)) and "data:image/jpeg" in page


@pytest.mark.usefixtures("here")
def test_the_clip_that_differs_most_is_shown_with_the_boxes_of_both(single: Path, tmp_path: Path) -> None:
    everywhere = with_spec(single, tmp_path / "all.onnx", confidence_threshold=0.0)
    lowered = tmp_path / "low.onnx"
    clips = made_up_clips(read_spec(single), 3)
    lower_model(everywhere, lowered, clips, Wish("int8"), judged=1)
    proof = prove(everywhere, lowered, Wanted(clips=3))
    assert proof.difference is not None and proof.worst is not None
    index, spec = proof.difference.worst, read_spec(everywhere)
    for model, shown in ((everywhere, proof.worst.reference), (lowered, proof.worst.candidate)):
        with open_model(model) as backend:
            expected = detect(backend.infer(clips.clip(index)[None])[0], spec, clips.sizes[index])
        assert len(shown) and same_boxes(shown, expected)
    assert proof.worst.frame_bgr.shape[1::-1] == clips.sizes[index]
    assert not same_boxes(proof.worst.reference, proof.worst.candidate)


@pytest.mark.usefixtures("here")
@pytest.mark.slow
@pytest.mark.parametrize("every", [12])
def test_frame_map_is_a_level_of_its_own(every: int, data_dir: Path) -> None:
    """The shipped model against itself on real test videos: no point is lost."""
    from yowo_deploy.datasets import open_dataset

    opened = open_dataset("jhmdb21", data_dir / "jhmdb21", 1)

    class Few:
        labels, anchors, anchor_grid = opened.labels, opened.anchors, opened.anchor_grid
        rules, judged_classes = opened.rules, opened.judged_classes

        def videos(self, split: Any) -> Any:
            return opened.videos(split)[::60]

    proof = prove("default", "default", Wanted(clips=1, dataset=Few(), every=every))
    assert proof.passed and proof.maps is not None and proof.maps[0] == proof.maps[1] > 0
