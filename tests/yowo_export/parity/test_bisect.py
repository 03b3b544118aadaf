"""The layer in which a fault was planted is the one that is named, whatever is compared with what."""

from __future__ import annotations

import copy
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from yowo_deploy.arrays import Float
from yowo_deploy.backends.loader import open_model
from yowo_deploy.errors import InputError
from yowo_deploy.spec import Precision
from yowo_export.exporter import export_onnx
from yowo_export.parity import bisect as bisect_module
from yowo_export.parity.bisect import bisect, difference
from yowo_export.parity.compare import LIMITS
from yowo_export.precision.convert import Wish, lower_model
from yowo_export.sample_clips import made_up_clips
from yowo_training.checkpoints.checkpoint import Checkpoint, save_checkpoint
from yowo_training.models.yowo import Yowo

if TYPE_CHECKING:
    from tests.conftest import MadeOnce

OWN = LIMITS["fp32"].layer


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines in this process: starting another takes seconds, and `test_apart` shows that it answers the same."""
    monkeypatch.setattr(bisect_module, "Isolated", open_model)


@pytest.fixture(scope="module")
def clip(checkpoint: Checkpoint) -> Float:
    return made_up_clips(checkpoint.spec, 4).clip(3)


@pytest.fixture(scope="module")
def saved(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "m.pt"
    save_checkpoint(path, checkpoint.model, checkpoint.spec, {})
    return path


def one_weight(model: Yowo) -> None:
    assert model.backbone_3d is not None
    model.backbone_3d.features[1][0].weight.data[0, 0, 1, 1, 1] += 3.0  # type: ignore[index,union-attr,operator]


def attention_sign(model: Yowo) -> None:
    model.cfam.attention.sign = "paper"


def colours(model: Yowo) -> None:
    """The network of who fed it BGR for RGB."""
    for branch in (model.backbone_2d, model.backbone_3d):
        first = branch.features[0][0]  # type: ignore[index,union-attr]
        first.weight.data = first.weight.data.flip(1)  # type: ignore[operator,union-attr]


def no_number(model: Yowo) -> None:
    model.backbone_2d.features[2][0].weight.data[3] = 3e38  # type: ignore[index,union-attr,operator]


FAULTS = {
    one_weight: "backbone_3d.features.1.0",
    attention_sign: "cfam.attention",
    colours: ("backbone_2d.features.0.0", "backbone_3d.features.0.0"),
    no_number: "backbone_2d.features.2.0",
}


LOWERED: tuple[Precision, ...] = ("fp16", "int8")


def files_of(folder: Path, spoil: Callable[[Yowo], None] | None) -> dict[Precision, Path]:
    """By precision, float32 first."""
    precisions: tuple[Precision, ...] = ("fp32",) if spoil is no_number else ("fp32", *LOWERED)
    name = spoil.__name__ if spoil else "sound"
    return {precision: folder / f"{name}.{precision}.onnx" for precision in precisions}


@pytest.fixture(scope="module")
def spoiled(
    checkpoint: Checkpoint, fused: Path, made_once: MadeOnce
) -> dict[Callable[[Yowo], None] | None, dict[Precision, Path]]:
    """For each fault, and for none, the exported file in three precisions; of what is no number, float32 alone."""

    def export(folder: Path) -> None:
        for spoil in FAULTS:
            model = copy.deepcopy(checkpoint.model)
            spoil(model)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("yowo_export.exporter._difference", lambda *_: 0.0)  # NaN is not to be written otherwise
                export_onnx(Checkpoint(model, checkpoint.spec), folder / f"{spoil.__name__}.fp32.onnx")
        shutil.copy(fused, folder / "sound.fp32.onnx")
        clips = made_up_clips(checkpoint.spec, 2)
        for spoil in (None, *FAULTS):
            single, *lower = files_of(folder, spoil).values()
            for precision, target in zip(LOWERED, lower, strict=False):
                lower_model(single, target, clips, Wish(precision, fused=False), judged=1)

    folder = made_once("spoiled", export)
    return {spoil: files_of(folder, spoil) for spoil in (None, *FAULTS)}


CASES: dict[str, Precision] = {"checkpoint": "fp32", "another engine": "fp32", "half": "fp16", "quantized": "int8"}


@pytest.mark.parametrize("spoil", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("case", CASES)
def test_a_planted_fault_is_named(
    case: str,
    spoil: Callable[[Yowo], None],
    saved: Path,
    spoiled: dict[Callable[[Yowo], None] | None, dict[Precision, Path]],
    clip: Float,
) -> None:
    precision = CASES[case]
    if precision not in spoiled[spoil]:
        return  # weights that overflow are not lowered
    reference = saved if case == "checkpoint" else spoiled[None]["fp32"]
    engines = ({}, {"backend": "openvino"}) if case == "another engine" else ({}, {"backend": "onnxruntime"})
    found = bisect(reference, spoiled[spoil][precision], clip, LIMITS[precision].layer, engines)
    assert found.culprit is not None and found.culprit.name.startswith(FAULTS[spoil]), found.sentence()
    assert ("non-finite" in found.sentence()) == (spoil is no_number)


@pytest.mark.parametrize("case", CASES)
def test_of_a_sound_file_no_layer_is_named(
    case: str,
    saved: Path,
    spoiled: dict[Callable[[Yowo], None] | None, dict[Precision, Path]],
    clip: Float,
) -> None:
    precision = CASES[case]
    reference = saved if case == "checkpoint" else spoiled[None]["fp32"]
    engines = ({"backend": "pytorch"} if case == "checkpoint" else {"backend": "onnxruntime"}), {"backend": "openvino"}
    own = LIMITS[precision].layer
    found = bisect(reference, spoiled[None][precision], clip, own, engines)
    assert found.culprit is None and "no layer of" in found.sentence()
    assert len(found.layers) > 30 and 0 < max(layer.error for layer in found.layers) <= 10 * own


def test_what_is_held_at_once_stays_within_the_memory(
    saved: Path,
    spoiled: dict[Callable[[Yowo], None] | None, dict[Precision, Path]],
    clip: Float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All values of both sides, twice for the pipes and once within each engine."""
    held, real = [], bisect_module._values

    def watched(*arguments: object) -> dict[str, Float]:
        values = real(*arguments)  # type: ignore[arg-type]
        held.append(sum(value.nbytes for value in values.values()))
        return values

    monkeypatch.setattr(bisect_module, "_values", watched)
    memory, candidate = 6 << 20, spoiled[None]["fp32"]
    found = bisect(saved, candidate, clip, OWN, memory=memory)
    whole = bisect(saved, candidate, clip, OWN)
    assert len(held) > 4 and max(held[:-2]) <= memory / 6
    assert [layer.name for layer in found.layers] == [layer.name for layer in whole.layers]


def test_a_single_wrong_channel_shows_and_an_even_error_is_its_size() -> None:
    rng = np.random.default_rng(0)
    one = rng.standard_normal((1, 8, 4, 5)).astype(np.float32)
    other = one.copy()
    other[:, 3] += 1.0
    assert difference(one, other)[0] == pytest.approx(1 / np.sqrt(np.mean(one**2)), rel=1e-5)
    assert difference(one, 1.01 * one)[0] == pytest.approx(0.01, rel=0.5)
    assert difference(one, one) == (0, "")


def test_who_puts_out_what_is_no_number_is_told() -> None:
    sound, odd = np.ones((1, 3, 2), np.float32), np.array([[[1, 1], [1, np.inf], [1, 1]]], np.float32)
    assert difference(sound, odd) == (np.inf, "candidate")
    assert difference(odd, sound) == (np.inf, "reference")
    assert difference(odd, np.roll(odd, 1, axis=1)) == (np.inf, "both")


def test_a_difference_takes_little_beside_what_it_compares() -> None:
    """48 MB compared with 48 MB, in parts of a million numbers: four of them in float64 are 32 MB."""
    one = np.ones((1, 12, 1 << 20), np.float32)
    tracemalloc.start()
    try:
        assert difference(one, one)[0] == 0
        assert tracemalloc.get_traced_memory()[1] < 36e6
    finally:
        tracemalloc.stop()


def test_a_checkpoint_may_stand_on_either_side(
    saved: Path, spoiled: dict[Callable[[Yowo], None] | None, dict[Precision, Path]], clip: Float
) -> None:
    there, back = (bisect(*files, clip, OWN) for files in pairs(saved, spoiled[one_weight]["fp32"]))
    assert there.culprit is not None and back.culprit is not None
    assert there.culprit.name == back.culprit.name == FAULTS[one_weight]


def pairs(one: Path, other: Path) -> tuple[tuple[Path, Path], tuple[Path, Path]]:
    return (one, other), (other, one)


@pytest.mark.parametrize("candidate", ["checkpoint", "stranger"])
def test_what_has_no_layers_to_compare_is_refused(
    candidate: str,
    saved: Path,
    spoiled: dict[Callable[[Yowo], None] | None, dict[Precision, Path]],
    clip: Float,
    tmp_path: Path,
) -> None:
    if candidate == "checkpoint":
        with pytest.raises(InputError, match="needs an ONNX file"):
            bisect(saved, saved, clip, OWN)
        return
    import onnx

    model = onnx.load(spoiled[None]["fp32"])
    for index, node in enumerate(model.graph.node):
        node.name = f"node_{index}"
    onnx.save(model, tmp_path / "renamed.onnx")
    with pytest.raises(InputError, match="no layer in common"):
        bisect(spoiled[None]["fp32"], tmp_path / "renamed.onnx", clip, OWN)
