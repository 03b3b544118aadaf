"""A file in lower precision says what it is, takes any batch, keeps what must be kept, and is judged."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from yowo_deploy.arrays import Float
from yowo_deploy.backends import open_model
from yowo_deploy.errors import InputError, ModelFileError, ParityError
from yowo_deploy.model_files.onnx_reader import PRECISION_KEY, read_onnx_file, read_spec
from yowo_deploy.reporter import Reporter
from yowo_deploy.spec import METADATA_KEY, ModelSpec
from yowo_export.graph.module_names import block_of
from yowo_export.precision import convert
from yowo_export.precision.accuracy_drop import Damage, Judge
from yowo_export.precision.convert import ORDERED_BY, RAW_LIMITS, Wish, damage_report, lower_model, store_anew
from yowo_export.precision.partial_runs import PartialRuns, answers
from yowo_export.sample_clips import Clips, take_clips


@pytest.fixture(scope="module")
def clips(single: Path, videos: Path) -> Clips:
    return take_clips([videos], read_spec(single), 4)


class Noted(Reporter):
    """Keeps the total and the amounts done of each progress bar, by its label."""

    def __init__(self) -> None:
        self.seen: dict[str, tuple[float | None, list[float]]] = {}

    @contextmanager
    def progress(self, label: str, total: float | None) -> Iterator[Callable[..., None]]:
        _, amounts = self.seen[label] = (total, list[float]())
        yield lambda done, note="": amounts.append(done)


@pytest.mark.parametrize(
    ("wish", "engine"),
    [
        (Wish("fp16"), "onnxruntime"),
        (Wish("fp16", fused=False), "openvino"),
        (Wish("int8", "openvino"), "openvino"),
        (Wish("int8", "onnxruntime", "minmax"), "onnxruntime"),
        (Wish("int8", "tensorrt", "entropy", fused=False), "onnxruntime"),
    ],
    ids=lambda value: f"{value.precision} {value.target} {value.fused}" if isinstance(value, Wish) else value,
)
def test_a_lowered_file_runs_at_every_batch_and_carries_its_story(
    wish: Wish, engine: str, single: Path, clips: Clips, tmp_path: Path
) -> None:
    found = lower_model(single, tmp_path / "low.onnx", clips, wish, judged=4)
    file, spec = read_onnx_file(tmp_path / "low.onnx"), read_spec(tmp_path / "low.onnx")
    assert spec == read_spec(single).replace(precision=wish.precision)
    assert ("Attention" in file.operators) == wish.fused and wish.fits(found.damage)
    record = json.loads(file.metadata[PRECISION_KEY])
    assert record["clips"] == {"sha256": clips.sha256(), "count": 4, "videos": 3}
    assert ("reach" in record) == (wish.precision == "int8")
    assert list(record.get("reach", ())) == sorted(record.get("reach", ()))  # the same file in every process
    batch = np.stack([clip for clip, _ in clips][:2])
    with open_model(tmp_path / "low.onnx", engine) as low, open_model(single, "onnxruntime") as reference:
        both, alone, expected = low.infer(batch), low.infer(batch[1:]), reference.infer(batch)
    assert both.dtype == np.float32
    scale = float(np.abs(expected).max())
    np.testing.assert_allclose(both[1:], alone, atol=2e-3 * scale)  # a step of INT8 may fall to the other side
    limit = 1e-2 if wish.precision == "fp16" else 0.25  # RAW_LIMITS; see test_int8 for the other
    assert 0 < np.abs(both - expected).max() <= limit * scale


def test_bfloat16_is_held_to_its_limit(single: Path, clips: Clips, tmp_path: Path) -> None:
    found = lower_model(single, tmp_path / "low.onnx", clips, Wish("bf16"), judged=4)
    assert 1e-3 < found.damage.raw <= RAW_LIMITS["bf16"]
    assert read_spec(tmp_path / "low.onnx").precision == "bf16"
    assert "bfloat16" in read_onnx_file(tmp_path / "low.onnx").dtypes


def test_the_worst_blocks_stay_until_the_drop_fits(single: Path, clips: Clips, tmp_path: Path) -> None:
    noted = Noted()
    free = lower_model(single, tmp_path / "free.onnx", clips, Wish("int8", rank=True), 4, noted)
    blocks = len(free.ranking)
    assert noted.seen == {
        "ranges by percentile": (4, [1, 2, 3, 4]),
        "int8 block by block": (blocks, list(range(1, blocks + 1))),
    }
    assert free.kept == () and len(free.ranking) > 5 and free.detections > 0
    damages = [damage for _, damage in free.ranking]
    assert damages == sorted(damages, reverse=True)
    limit = free.damage.score_lost / 3
    tight = lower_model(single, tmp_path / "tight.onnx", clips, Wish("int8", max_drop=limit), judged=4)
    assert tight.damage.score_lost <= limit < free.damage.score_lost
    assert tight.kept == tuple(block for block, _ in tight.ranking)[: len(tight.kept)] and tight.kept
    model = ir.load(tmp_path / "tight.onnx")
    for node in model.graph:
        source = node.inputs[0].producer() if node.op_type == "Conv" and node.inputs[0] else None
        if node.op_type == "Conv" and block_of(node) in tight.kept:
            assert node.inputs[1].dtype == ir.DataType.FLOAT and node.inputs[1].const_value is not None  # type: ignore[union-attr]
        elif node.op_type == "Conv":
            assert source is not None
    page = damage_report("small", tight, {"result": "tight.onnx, SHA-256 12ab"})
    assert tight.kept[0] in page and ">higher<" in page
    assert "SHA-256 12ab" in page and clips.sha256() in page


def test_values_beyond_half_precision_stay_in_float32(single: Path, clips: Clips, tmp_path: Path) -> None:
    """A layer whose answers are a million times too large and are made small again behind it."""
    model = onnx.load(single)
    large, small = [node for node in model.graph.node if node.op_type == "Conv" and "cfam" in node.input[1]][:2]
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for node, factor in ((large, 1e6), (small, 1e-6)):
        for name in node.input[1 : 3 if node is large else 2]:
            values = onnx.numpy_helper.to_array(weights[name])
            weights[name].CopyFrom(onnx.numpy_helper.from_array((values * factor).astype(np.float32), name))
    onnx.save(model, tmp_path / "large.onnx")
    found = lower_model(tmp_path / "large.onnx", tmp_path / "low.onnx", clips, Wish("fp16"), judged=4)
    assert {large.name, small.name} <= set(found.overflow) and found.damage.raw <= RAW_LIMITS["fp16"]


def test_a_file_of_lower_precision_is_not_lowered_again(single: Path, clips: Clips, tmp_path: Path) -> None:
    lower_model(single, tmp_path / "low.onnx", clips, Wish("fp16"), judged=1)
    with pytest.raises(InputError, match="fp16 already"):
        lower_model(tmp_path / "low.onnx", tmp_path / "lower.onnx", clips, Wish("int8"))
    assert not (tmp_path / "lower.onnx").exists()


def test_a_drop_that_cannot_be_judged_or_held_is_refused(
    single: Path, clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blind = tmp_path / "blind.onnx"
    model = onnx.load(single)
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            entry.value = ModelSpec.from_json(entry.value).replace(confidence_threshold=0.9999).to_json()
    onnx.save(model, blind)
    with pytest.raises(InputError, match="no detections"):
        lower_model(
            blind, tmp_path / "o.onnx", replace(clips, spec=read_spec(blind)), Wish("int8", max_drop=5.0), judged=1
        )
    monkeypatch.setattr(Wish, "fits", lambda wish, damage: False)
    with pytest.raises(ParityError, match="lost with every block in higher precision, more than the 0 %"):
        lower_model(single, tmp_path / "o.onnx", clips, Wish("int8", max_drop=0.0), judged=1)
    assert not (tmp_path / "o.onnx").exists()


def test_a_file_that_is_fed_otherwise_than_it_says_is_not_written_anew(
    single: Path, clips: Clips, tmp_path: Path
) -> None:
    spoiled = tmp_path / "bgr.onnx"
    model = onnx.load(single)
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            entry.value = ModelSpec.from_json(entry.value).replace(colour="bgr").to_json()
    onnx.save(model, spoiled)
    with pytest.raises(ModelFileError, match="its spec says 'bgr': export its checkpoint again"):
        store_anew(spoiled, tmp_path / "o.onnx", half_weights=False)
    with pytest.raises(ModelFileError, match="its spec says 'bgr'"):
        lower_model(spoiled, tmp_path / "o.onnx", clips, Wish("fp16"), judged=1)


def test_a_judge_finds_nothing_in_the_same_file_and_something_in_a_spoilt_one(
    single: Path, clips: Clips, tmp_path: Path
) -> None:
    judge = Judge(answers(ir.load(single), clips), clips)
    assert judge.damage(answers(ir.load(single), clips)) == Damage(0.0, 0.0) and judge.detections > 0
    model = onnx.load(single)
    for scale, expected in ((0.5, None), (np.nan, Damage(100.0, np.inf))):
        for tensor in model.graph.initializer:
            if tensor.name.startswith("conv_final") and len(tensor.dims) == 4:
                values = onnx.numpy_helper.to_array(tensor)
                tensor.CopyFrom(onnx.numpy_helper.from_array((values * scale).astype(np.float32), tensor.name))
        onnx.save(model, tmp_path / "spoilt.onnx")
        found = judge.damage(answers(ir.load(tmp_path / "spoilt.onnx"), clips))
        assert found == expected if expected else (0 < found.score_lost <= 100 and found.raw > 0.1)
    assert Damage(1.0, 0.5) < Damage(2.0, 0.1) and Damage(1.0, 0.1) < Damage(1.0, 0.2)


def test_half_precision_is_ordered_by_some_clips_and_judged_on_all(
    single: Path, tmp_path: Path, clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    real = Judge.damage

    def damage(judge: Judge, found: Iterable[Float], every: int = 1, **options: Any) -> Damage:
        seen.append(every)
        return real(judge, found, every, **options)

    monkeypatch.setattr(Judge, "damage", damage)
    monkeypatch.setattr(convert, "RAW_LIMITS", {"fp16": 2e-4})
    found = lower_model(single, tmp_path / "half.onnx", clips, Wish("fp16"), len(clips))
    assert found.kept and found.damage.raw <= 2e-4
    assert seen[0] == seen[-1] == 1 and seen.count(ORDERED_BY) == len(found.ranking) > 5


@pytest.mark.parametrize(
    "wish",
    [
        Wish("fp16", rank=True),
        Wish("int8", rank=True),
        Wish("int8", "onnxruntime", rank=True),
        Wish("int8", "tensorrt", "minmax", fused=False, rank=True),
    ],
    ids=lambda wish: f"{wish.precision} {wish.target}",
)
def test_a_block_is_ranked_as_if_the_whole_network_had_run(
    wish: Wish, single: Path, tmp_path: Path, clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = lower_model(single, tmp_path / "low.onnx", clips, wish, 4)
    monkeypatch.setattr(PartialRuns, "part", lambda runs, change: runs._network)
    whole = lower_model(single, tmp_path / "whole.onnx", clips, wish, 4)
    expected, found = dict(whole.ranking), dict(fast.ranking)
    assert found.keys() == expected.keys() and len(found) > 5
    for block, damage in expected.items():
        # Fused otherwise, sums of float32 differ by some 1e-6 of their size.
        assert found[block].raw == pytest.approx(damage.raw, abs=1e-5), block
        assert found[block].score_lost == pytest.approx(damage.score_lost, abs=1e-2), block


def test_a_candidate_that_does_not_fit_is_not_run_on_all_clips(single: Path, clips: Clips) -> None:
    expected = list(answers(ir.load(single), clips))
    judge = Judge(expected, clips)
    off = [raw + np.float32(0.5) for raw in expected]
    limit = judge.damage(off[:1] + expected[1:]).raw / 2
    read = iter(off)
    found = judge.damage(read, accept=lambda damage: damage.raw <= limit)
    assert limit < found.raw and len(list(read)) == len(clips) - 1
    assert judge.damage(off, accept=lambda damage: True) == judge.damage(off)
