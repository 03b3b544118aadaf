"""Convert a float32 ONNX file to FP16, bfloat16 or INT8 and leave sensitive blocks in higher precision."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass
from onnxruntime.quantization.calibrate import TensorsData

from yowo_deploy.errors import InputError, ParityError
from yowo_deploy.files import atomic_write, work_folder
from yowo_deploy.model_files.onnx_reader import PRECISION_KEY, OnnxFile, read_onnx_file, read_spec
from yowo_deploy.model_files.streaming_form import FORM_KEY
from yowo_deploy.preprocess.golden_frame import GOLDEN_KEY, check_golden, golden_record
from yowo_deploy.reporter import Reporter
from yowo_deploy.spec import METADATA_KEY
from yowo_deploy.visuals.html_report import Paragraph, Section, Table, html_report
from yowo_export.graph.conv3d_as_2d import conv3d_as_2d
from yowo_export.graph.decoded_outputs import has_decoded_outputs
from yowo_export.graph.module_names import block_of, name_blocks
from yowo_export.graph.onnx_file import write_onnx
from yowo_export.graph.rewrites import ATTENTION_OPSET, fuse_attention, split_attention, store_half, store_single
from yowo_export.graph.source import add_shapes, graph_of
from yowo_export.precision.accuracy_drop import Damage, Judge
from yowo_export.precision.fp16 import lower, overflowing, rehearse
from yowo_export.precision.int8 import (
    POLICIES,
    RANGED,
    Target,
    has_grouped_3d,
    quantizable,
    quantize,
    quantize_before_pooling,
)
from yowo_export.precision.partial_runs import PartialRuns, answers
from yowo_export.precision.ranges import Method, reach, tensor_ranges
from yowo_export.sample_clips import Clips
from yowo_export.streaming.cut import shared_nodes

Lower = Literal["fp16", "bf16", "int8"]

# Largest accepted difference of raw outputs; blocks stay in float32 until it holds. Half precision: see
# `exporter.HALF_LIMIT`. bfloat16 has 3 bits less; engines that use it were off by 5e-2 (DEPLOYMENT_FACTS).
RAW_LIMITS: Mapping[Lower, float] = {"fp16": 1e-2, "bf16": 1e-1}
# Half precision harms few blocks, and those much: each N-th clip puts them in order. The file is judged on all.
ORDERED_BY = 4
TYPES = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}


@dataclass(frozen=True)
class Wish:
    """The conversion that is asked for.

    Attributes:
        precision: of all blocks that do not need a higher one on the clips.
        target: the engine that INT8 is for, see `POLICIES`.
        method: how INT8 ranges follow from the values on the clips.
        fused: the attention as one node, see `fuse_attention`.
        max_drop: percent of detection scores that INT8 may cost (`Damage.score_lost`); None for no limit.
        rank: measure every block by itself, also where no limit requires it.
        streaming: the result will be made a streaming file: leave the nodes that `streamed` rewrites.
    """

    precision: Lower
    target: Target = "openvino"
    method: Method = "percentile"
    fused: bool = True
    max_drop: float | None = None
    rank: bool = False
    streaming: bool = False

    def fits(self, damage: Damage) -> bool:
        """Whether a file with that damage may be written."""
        if self.precision == "int8":
            return self.max_drop is None or damage.score_lost <= self.max_drop
        return damage.raw <= RAW_LIMITS[self.precision]


@dataclass(frozen=True)
class Outcome:
    """The result of a conversion.

    Attributes:
        damage: of the file as written, on the clips used for comparison.
        ranking: each block's damage when only that block is lowered, worst first; empty unless it was needed.
        kept: blocks left in higher precision.
        overflow: nodes left in float32, because their values are within a factor of `fp16.HEADROOM` of overflow.
        detections: of the float32 file on those clips, above its threshold.
        clips_sha256: hash of the pixels of all clips.
    """

    damage: Damage
    ranking: tuple[tuple[str, Damage], ...]
    kept: tuple[str, ...]
    overflow: tuple[str, ...]
    detections: int
    clips_sha256: str


def lower_model(
    source: Path,
    output: str | os.PathLike[str],
    clips: Clips,
    wish: Wish,
    judged: int = 32,
    reporter: Reporter | None = None,
) -> Outcome:
    """Write a float32 ONNX file of ours in lower precision; inputs and outputs stay float32.

    Args:
        clips: for INT8 ranges and the overflow check of half precision.
        judged: number of clips, spread over all, on which the loss is measured.
        reporter: receives messages, and the progress of what takes long; by default they are logged.

    Raises:
        ModelFileError, SpecError: the source is not such a file, or records other preprocessing than is done here.
        InputError: it is in lower precision already; or a drop is limited, and nothing is detected on the clips.
        ParityError: the limit of the drop cannot be held.
        OutputError: the file cannot be written.
    """
    file = _source(source)
    if file.spec.precision != "fp32":
        raise InputError(f"{source} is {file.spec.precision} already: start from the checkpoint or the fp32 file")
    reporter = reporter or Reporter()
    with work_folder() as name:
        work = _Work(Path(name), file, clips, wish, reporter)
        some = clips.some(judged)
        judge = Judge(answers(ir.from_proto(work.proto), some), some)
        reporter.message(f"{judge.detections} detections on {len(some)} clips to compare with")
        if wish.max_drop is not None and not judge.detections:
            raise InputError("no detections on the calibration clips, so --max-drop cannot be applied: give others")
        if wish.precision == "int8" and POLICIES[wish.target].half_rest:
            half = replace(work, wish=Wish("fp16", fused=wish.fused), prepared=work.proto)
            work.single, work.overflow = half.settle(judge, some)[0], half.overflow
        kept, ranking, damage = work.settle(judge, some)
        if wish.max_drop is not None and not wish.fits(damage):
            raise ParityError(
                f"{damage.score_lost:.2f} % of the scores are lost with every block in higher precision, more than the "
                f"{wish.max_drop:g} % of --max-drop: not written"
            )
        model = work.candidate(kept, rehearsal=False)
        model.metadata_props[METADATA_KEY] = file.spec.replace(precision=wish.precision).to_json()
        model.metadata_props[GOLDEN_KEY] = golden_record(file.spec)
        model.metadata_props[PRECISION_KEY] = json.dumps(work.record(kept, damage))
        _write(model, output)
    return Outcome(damage, tuple(ranking), kept, tuple(sorted(work.overflow)), judge.detections, clips.sha256())


def store_anew(
    source: Path, output: str | os.PathLike[str], half_weights: bool, attention: Literal["fused", "plain"] | None = None
) -> None:
    """Write an ONNX file of ours again, its weights in half or in single precision; the arithmetic stays.

    Args:
        attention: the form wanted; unchanged by default.

    Raises:
        ModelFileError, SpecError: see `lower_model`.
        InputError: it is in bfloat16, and plain attention is wanted.
        OutputError: the file cannot be written.
    """
    file = _source(source)
    if attention == "plain" and file.spec.precision == "bf16":
        raise InputError(f"{source} is in bf16, which engines without the Attention node cannot run: start from fp32")
    model = graph_of(file)
    model.metadata_props[GOLDEN_KEY] = golden_record(file.spec)
    model.metadata_props.pop(FORM_KEY, None)  # of the weights as they were
    name_blocks(model)
    (store_half if half_weights else store_single)(model)
    if attention is not None:
        split_attention(model)
    if attention == "fused":
        _fuse(model)
    _write(model, output)


@dataclass
class _Work:
    """Candidates for one conversion, made one after the other.

    Attributes:
        prepared: the network that candidates are made of, where it is there already.
    """

    folder: Path
    file: OnnxFile
    clips: Clips
    wish: Wish
    reporter: Reporter
    prepared: onnx.ModelProto | None = None
    overflow: set[str] = field(default_factory=set, init=False)
    ranges: TensorsData | None = field(default=None, init=False)
    single: tuple[str, ...] = field(default=(), init=False)  # float32 blocks of an INT8 file that is else in half

    def __post_init__(self) -> None:
        base = self.folder / "fp32.onnx"
        if self.prepared is None:
            model = self._network()
            write_onnx(model, base)  # the calibrators want a file
            self.proto = ir.to_proto(model)
            add_shapes(self.proto)
        else:
            self.proto = self.prepared
        model = ir.from_proto(self.proto)
        nodes = list(model.graph) if self.wish.precision != "int8" else quantizable(model, self.wish.target)
        self.blocks: dict[str, list[str]] = {}  # names of the nodes that can be lowered, by block, in the graph's order
        for node in nodes:
            self.blocks.setdefault(block_of(node), []).append(str(node.name))
        if self.wish.precision == "int8":
            with self.reporter.progress(f"ranges by {self.wish.method}", len(self.clips)) as update:
                self.ranges = tensor_ranges(base, self.clips, self.wish.method, RANGED, update)
        if self.wish.precision == "fp16":
            with self.reporter.progress("values that half precision cannot hold", len(self.clips)) as update:
                ranges = tensor_ranges(base, self.clips, "minmax", on_clip=update)
            self.overflow = overflowing(model, reach(ranges))

    def _network(self) -> ir.Model:
        """The float32 network, its attention plain, in the form that the policy wants."""
        model = graph_of(self.file)
        model.metadata_props.pop(FORM_KEY, None)
        name_blocks(model)
        store_single(model)
        split_attention(model)  # ONNX Runtime's quantizer takes opset 20 at most
        if self.wish.precision == "int8" and POLICIES[self.wish.target].conv3d_as_2d and has_grouped_3d(model):
            conv3d_as_2d(model, shared_nodes(model, self.file.spec) if self.wish.streaming else ())
        RemoveUnusedNodesPass()(model)  # with its initializers, of which ONNX Runtime would warn
        return model

    def settle(self, judge: Judge, clips: Clips) -> tuple[tuple[str, ...], list[tuple[str, Damage]], Damage]:
        """Blocks to leave in higher precision, the ranking if one was needed, and the damage then."""
        damage = self.damage(judge, clips, ())
        if self.wish.fits(damage) and not self.wish.rank:
            return (), [], damage
        ranking = self.ranking(judge, clips)
        kept, damage = self.keep_least(judge, clips, [block for block, _ in ranking])
        return kept, ranking, damage

    def candidate(
        self, kept: Collection[str], rehearsal: bool = True, network: onnx.ModelProto | None = None
    ) -> ir.Model:
        """The network with those blocks in higher precision, as a rehearsal (see `rehearse`) or final.

        Args:
            network: a part of it.
        """
        proto = network or self.proto
        if self.ranges is not None:
            there = {node.name for node in proto.graph.node}
            names = [name for block, names in self.blocks.items() if block not in kept for name in names]
            proto = quantize(proto, self.ranges, [name for name in names if name in there], self.wish.target)
            if self._half() is not None:
                add_shapes(proto)
        model = ir.from_proto(proto)
        model.graph.sort()  # the quantizer puts its nodes at the end
        quantize_before_pooling(model)
        if self.wish.fused:
            _fuse(model)
        half = self._half()
        if half is not None:
            left = set(self.single if self.wish.precision == "int8" else kept)
            (rehearse if rehearsal else lower)(
                model, half, lambda node: node.name in self.overflow or block_of(node) in left
            )
        if self.ranges is not None and POLICIES[self.wish.target].conv3d_as_2d:
            store_half(model)  # weights that stay float, 20 MB of 140 in ResNeXt-101
        return model

    def damage(self, judge: Judge, clips: Clips, kept: Collection[str]) -> Damage:
        """Damage with those blocks in higher precision; where it does not fit, as much of it as shows that."""
        return judge.damage(answers(self.candidate(kept), clips), accept=self.wish.fits)

    def ranking(self, judge: Judge, clips: Clips) -> list[tuple[str, Damage]]:
        """Damage of every block when only that block is lowered, worst first."""
        every = 1 if self.wish.rank or self.wish.precision == "int8" else ORDERED_BY
        runs, found = PartialRuns(self.proto, self.blocks, clips, every), []
        runs.store(self.candidate(self.blocks))
        with self.reporter.progress(f"{self.wish.precision} block by block", len(self.blocks)) as update:
            for done, block in enumerate(self.blocks, 1):
                model = self.candidate(self.blocks.keys() - {block}, network=runs.part(block))
                found.append((block, judge.damage(runs.answers(model), every)))
                update(done, f"{block or '(none)'}: {found[-1][1].score_lost:.2f} % lost")
        return sorted(found, key=lambda pair: pair[1], reverse=True)

    def keep_least(self, judge: Judge, clips: Clips, worst_first: list[str]) -> tuple[tuple[str, ...], Damage]:
        """The fewest of the worst blocks whose exclusion meets the limit, and the damage then.

        By bisection: excluding more loses less.
        """
        low, high, found = 0, len(worst_first), None
        while low < high:
            middle = (low + high) // 2
            damage = self.damage(judge, clips, worst_first[:middle])
            fits = self.wish.fits(damage)
            self.reporter.message(
                f"{middle} blocks in higher precision: {'' if fits else 'at least '}{damage.score_lost:.2f} % lost, "
                f"raw {damage.raw:.1e}"
            )
            low, high = (low, middle) if fits else (middle + 1, high)
            found = damage if fits else found
        if found is None:  # all of them are excluded, which was not tried
            found = self.damage(judge, clips, worst_first)
        return tuple(worst_first[:low]), found

    def record(self, kept: Collection[str], damage: Damage) -> dict[str, Any]:
        """The conversion record for the file's metadata."""
        made: dict[str, Any] = {"precision": self.wish.precision, "kept": list(kept), "overflow": sorted(self.overflow)}
        made["single"] = list(self.single)
        made["clips"] = {"sha256": self.clips.sha256(), "count": len(self.clips), "videos": self.clips.videos}
        made |= {"score_lost": damage.score_lost, "raw": damage.raw}
        if self.ranges is not None:
            # Stands for the scales: a symmetric one is reach / 127.
            made |= {"target": self.wish.target, "method": self.wish.method, "reach": reach(self.ranges)}
        return made

    def _half(self) -> ir.DataType | None:
        """The 16-bit type of what is not INT8; None for float32."""
        if self.wish.precision == "int8":
            return ir.DataType.FLOAT16 if POLICIES[self.wish.target].half_rest else None
        return TYPES[self.wish.precision]


def damage_report(title: str, outcome: Outcome, made_of: Mapping[str, str]) -> str:
    """An HTML page with the loss, the ranking of the blocks, those left in higher precision, and `made_of`: names and
    values of what it was made of."""
    lead = (
        f"{outcome.damage.score_lost:.2f} % of the scores of {outcome.detections} detections are lost; raw outputs "
        f"differ by {outcome.damage.raw:.1e} of the largest."
    )
    rows = [
        (block or "(outside of all)", f"{d.score_lost:.2f}", f"{d.raw:.1e}", "higher" if block in outcome.kept else "")
        for block, d in outcome.ranking
    ]
    how = "Each block lowered by itself, the rest in float32; worst first."
    pieces: list[Paragraph | Table] = [
        Paragraph(how),
        Table(("block", "score lost %", "raw", "precision"), rows),
    ]
    if outcome.overflow:
        pieces.append(Paragraph("In float32 because half precision could overflow: " + ", ".join(outcome.overflow)))
    made_of = {**made_of, "calibration clips": f"SHA-256 {outcome.clips_sha256}"}
    provenance = Section("Provenance", [Table(("what", "value"), list(made_of.items()))])
    return html_report(title, [Section("Sensitivity", pieces), provenance], lead)


def _source(source: Path) -> OnnxFile:
    """A file whose weights go into another one; its golden frame is checked against preprocessing here.

    Raises:
        ModelFileError: the source is no such file, or records other preprocessing, which the new file would hide.
        SpecError: it carries no spec.
    """
    file = read_onnx_file(source)
    spec = file.spec
    if spec.streaming:
        raise InputError(f"{source} is a streaming file: start from the checkpoint, or the file of clips")
    if spec.input_type == "uint8":
        raise InputError(f"{source} normalises bytes itself: start from a file without --uint8-input")
    if file.batch not in (None, 1):
        raise InputError(f"{source} takes {file.batch} clips a call: start from a file without --batch")
    if has_decoded_outputs(file):
        raise InputError(f"{source} decodes its output itself: start from a file without --decode")
    if recorded := file.metadata.get(GOLDEN_KEY):
        check_golden(spec, recorded, str(source))
    return file


def _fuse(model: ir.Model) -> None:
    model.graph.opset_imports[""] = max(ATTENTION_OPSET, model.graph.opset_imports[""])
    fuse_attention(model)


def _write(model: ir.Model, output: str | os.PathLike[str]) -> None:
    with atomic_write(output) as temporary:
        write_onnx(model, temporary)
        onnx.checker.check_model(str(temporary), full_check=True)
        read_spec(temporary)
