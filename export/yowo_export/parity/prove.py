"""Prove that two model files are the same model: raw outputs, detections, mAP and layers, each isolated."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from yowo_deploy.arrays import Frame, Planes
from yowo_deploy.backends.base import Backend
from yowo_deploy.backends.isolated import Isolated
from yowo_deploy.backends.loader import is_checkpoint
from yowo_deploy.boxes import Detections
from yowo_deploy.datasets.base import AnnotatedVideo, Dataset, split_present
from yowo_deploy.errors import EngineError, InputError, ModelFileError, ParityError
from yowo_deploy.evaluation import evaluate_videos
from yowo_deploy.files import existing_file
from yowo_deploy.model_files.default import model_path
from yowo_deploy.model_files.onnx_reader import read_onnx_file, read_spec
from yowo_deploy.model_files.plan_record import is_plan, read_plan
from yowo_deploy.model_files.streaming_form import FORM_KEY
from yowo_deploy.postprocess.decode import detect
from yowo_deploy.preprocess.frames import resize
from yowo_deploy.preprocess.golden_frame import GOLDEN_KEY, check_golden
from yowo_deploy.spec import ModelSpec, Precision
from yowo_export.graph.decoded_outputs import DECODED, decoded_difference, has_decoded_outputs
from yowo_export.graph.decoded_outputs import LIMIT as DECODED_LIMIT
from yowo_export.parity.bisect import MEMORY, Bisection, bisect, paired_layers
from yowo_export.parity.compare import (
    FEED,
    LIMITS,
    SHOWN,
    Difference,
    Limits,
    Pair,
    answer_of,
    compare,
    differences,
    refuse_different_tasks,
)
from yowo_export.sample_clips import Clips, made_up_clips, take_clips

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Wanted:
    """What to compare, and on which data.

    Attributes:
        data: "random", a video, or a folder that is searched for videos.
        clips: number of clips, evenly spaced over the videos.
        limits: values for fields of `Limits` in place of those of the precision.
        bisect: find the first layer that differs, also if the proof passes.
        memory: see `bisect`.
        dataset: on its test videos both models are evaluated.
        every: evaluate only every n-th frame of them.
    """

    data: str | os.PathLike[str] = "random"
    clips: int = 16
    limits: Mapping[str, float] = field(default_factory=dict)
    bisect: bool = False
    memory: int = MEMORY
    dataset: Dataset | None = None
    every: int = 1


@dataclass(frozen=True)
class WorstClip:
    """The clip whose outputs differ most, as both models see it.

    Attributes:
        place: file and number of the key frame.
        frame_bgr: the key frame, (H, W, 3) uint8, in the size of the video.
        reference, candidate: detections above the display threshold, in pixels of the frame.
        labels: of the classes.
    """

    place: str
    frame_bgr: Frame
    reference: Detections
    candidate: Detections
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Proof:
    """The result of a comparison.

    Attributes:
        engines: names and precisions of both.
        limits: that applied.
        failures: one phrase per failure; none if the two are the same model.
        difference: on the clips; None if an engine died or the specs forbid it.
        bisection: layer by layer, if requested or if an output was non-finite.
        maps: frame-mAP at IoU 0.5 of the reference and of the candidate, if a data set was given.
        worst: None if there is no difference, or an output was non-finite.
    """

    engines: str
    limits: Limits
    failures: tuple[str, ...]
    difference: Difference | None
    bisection: Bisection | None = None
    maps: tuple[float, float] | None = None
    worst: WorstClip | None = field(default=None, repr=False)

    @property
    def passed(self) -> bool:
        """Whether there are no failures."""
        return not self.failures

    def verdict(self) -> str:
        """The result in one line."""
        found = self.difference
        seen = f"{self.engines}, {found.clips} clips" if found else self.engines
        if self.passed and found:
            return f"PASSED: {seen}: raw {found.raw:.1e}, {found.detections} detections, {found.missing} missing"
        where = f"; {self.bisection.sentence()}" if self.bisection else ""
        return f"FAILED: {seen}: {'; '.join(self.failures)}{where}"


def prove(
    reference: str | os.PathLike[str],
    candidate: str | os.PathLike[str],
    wanted: Wanted = Wanted(),
    options: tuple[Options, Options] = ({}, {}),
    on_step: Callable[[str], None] = lambda text: None,
) -> Proof:
    """Prove that two model files are the same model: `yowo-deploy parity` as one call.

        prove("ckpt.pth", "yowo.onnx", Wanted("video.mp4", clips=32)).passed

    Args:
        reference, candidate: checkpoints, ONNX files or plans, on any backends.
        wanted: what to compare, and on what.
        options: of `open_model`, for each of the two.
        on_step: called with a line at each step.

    Raises:
        InputError: they are for different tasks, there is nothing to compare on, or no layers to `bisect`.
        YowoError: a file cannot be opened.
    """
    files = existing_file(model_path(reference), "model"), existing_file(model_path(candidate), "model")
    if wanted.bisect:
        paired_layers(*files)
    wrongly_fed = _wrong_preprocessing(files, on_step)
    with ExitStack() as stack:
        try:
            second = stack.enter_context(Isolated(files[1], **options[1]))
            options = _same_clip(files[0], options[0], second.spec), options[1]
            first = stack.enter_context(Isolated(files[0], **options[0]))
        except EngineError as error:
            return Proof(f"{files[0].name} and {files[1].name}", LIMITS["fp32"], (str(error),), None)
        precisions = _precision(first, options[0]), _precision(second, options[1])
        halves = {_weights(file) for file in files}  # weights rounded in both alike are the same weights
        stored = first.spec.precision, second.spec.precision, *(halves if len(halves) > 1 else ())
        widest = max((*precisions, *stored), key=list(LIMITS).index)
        limits = replace(LIMITS[widest], **wanted.limits)
        engines = f"{first.name} {precisions[0]} and {second.name} {precisions[1]}"
        refuse_different_tasks(first.spec, second.spec)
        fed, shown = (differences(first.spec, second.spec, fields) for fields in (FEED, SHOWN))
        failures = (*wrongly_fed, *(f"preprocessing differs, {what}" for what in fed))
        failures += tuple(f"thresholds differ, {what}" for what in shown)
        clips = _clips(wanted, first.spec)
        lacking = f"; {clips.skipped} videos could not be read and were left out" if clips.skipped else ""
        on_step(f"{engines} on {len(clips)} clips{lacking}")
        proof = Proof(engines, limits, failures, None)
        try:
            proof = _on_clips(first, second, clips, proof)
            proof = _with_decoded(files[1], second, clips, proof, precisions[1])
            proof = _with_streaming_form(files[1], options[1], second, clips, proof)
            proof = _on_videos(first, second, wanted, proof, on_step)
        except EngineError as error:
            return replace(proof, failures=(*proof.failures, str(error)))
    assert proof.difference is not None
    if not wanted.bisect and np.isfinite(proof.difference.raw):
        return proof
    clip, other = _fed_alike(clips, second.spec, proof.difference.worst)
    if all(is_checkpoint(file) for file in files) and not np.isfinite(proof.difference.raw):
        return _with_odd_modules(files, options, clip, proof)
    on_step("layer by layer, on the clip that differs most")
    try:
        found = bisect(*files, clip, limits.layer, options, wanted.memory, other)
    except (EngineError, InputError) as error:  # the results so far are not lost
        if isinstance(error, InputError) and proof.passed:
            raise InputError(f"{error}; apart from layers {proof.verdict()}") from error
        return replace(proof, failures=(*proof.failures, f"no layers were compared: {error}"))
    hidden = ("a layer differs, though the outputs agree on these clips",)
    return replace(proof, bisection=found, failures=proof.failures or (hidden if found.culprit else ()))


def _with_odd_modules(files: tuple[Path, Path], options: tuple[Options, Options], clip: Planes, proof: Proof) -> Proof:
    """The proof with the first module of each checkpoint whose output is non-finite."""
    found = []
    for file, chosen in zip(files, options, strict=True):
        with Isolated(file, **chosen) as engine:
            if name := engine.first_odd(clip[None]):
                found.append(f"first non-finite output: {name}, in {file}")
    return replace(proof, failures=(*proof.failures, *found))


def _on_clips(first: Backend, second: Backend, clips: Clips, proof: Proof) -> Proof:
    """The proof with raw outputs and detections compared."""
    found = compare(first, second, _pairs(clips, second.spec), proof.limits)
    failures = [*proof.failures, *found.beyond(proof.limits)]
    pair = _fed_alike(clips, second.spec, found.worst)
    if not found.raw <= proof.limits.raw and _wants_other_colours(first, second, pair, proof.limits.raw):
        failures.append("the candidate agrees if its colours are swapped: it reads BGR as RGB or the reverse")
    worst = _worst_clip(first, second, clips, found.worst) if np.isfinite(found.raw) else None
    return replace(proof, difference=found, failures=tuple(failures), worst=worst)


def _with_decoded(file: Path, model: Isolated, clips: Clips, proof: Proof, precision: Precision) -> Proof:
    """The proof with boxes and scores compared that an ONNX file decodes itself of its raw output."""
    if not _is_onnx(file) or not has_decoded_outputs(read_onnx_file(file)):
        return proof
    limit, worst = DECODED_LIMIT if precision != "bf16" else proof.limits.score, 0.0
    for clip, _ in clips.as_for(model.spec):
        repeated = np.repeat(clip[None], model.batch[0], axis=0)
        worst = np.maximum(worst, decoded_difference(model.outputs(repeated, ("raw", *DECODED)), model.spec))
    if worst <= limit:
        return proof
    failure = f"boxes and scores in the graph differ by {worst:.1e} from its raw outputs, limit {limit:.0e}"
    return replace(proof, failures=(*proof.failures, failure))


def _with_streaming_form(file: Path, options: Options, model: Backend, clips: Clips, proof: Proof) -> Proof:
    """The proof with the streaming form compared that a file of clips carries, and which `detect` runs.

    On the first clip and on the one that differs most: frame by frame, a clip takes as long as several.
    """
    if not _is_onnx(file) or FORM_KEY not in read_onnx_file(file).metadata or proof.difference is None:
        return proof
    own, numbers = clips.as_for(model.spec), sorted({0, proof.difference.worst})
    pairs = ((own.clip(number), own.clip(number), clips.sizes[number]) for number in numbers)
    with Isolated(file, **{**options, "streaming": "one", "parallel": 1}) as form:
        found = compare(model, form, pairs, proof.limits)
    where = "its streaming form, which detect runs, is another model than its clips"
    return replace(proof, failures=(*proof.failures, *(f"{where}: {words}" for words in found.beyond(proof.limits))))


def _worst_clip(first: Backend, second: Backend, clips: Clips, index: int) -> WorstClip:
    size_wh = clips.sizes[index]
    answers = answer_of(first, clips.clip(index)), answer_of(second, clips.as_for(second.spec).clip(index))
    file, frame = clips.places[index] if clips.places else (Path("a made-up clip"), clips.spec.clip_length - 1)
    picture = resize(clips.frames[index][-1], size_wh, "bicubic")
    one, other = (detect(answer, first.spec, size_wh) for answer in answers)
    return WorstClip(f"{file.name}, frame {frame}", picture, one, other, first.spec.labels)


def _on_videos(first: Backend, second: Backend, wanted: Wanted, proof: Proof, on_step: Callable[[str], None]) -> Proof:
    """The proof with frame-mAP compared, if there is a data set."""
    if wanted.dataset is None:
        return proof
    failures, limit = proof.failures, proof.limits.map_points
    videos, absent = split_present(wanted.dataset.videos("test"))
    on_step(f"frame-mAP on {len(videos)} test videos, {absent} absent")
    try:
        one, other = (_frame_map(model, videos, wanted.dataset, wanted.every) for model in (first, second))
    except ModelFileError as error:  # non-finite outputs: failed, but the results so far are not lost
        return replace(proof, failures=(*failures, f"no frame-mAP: {error}"))
    if not one - other <= limit / 100:
        failures += (f"frame-mAP falls from {100 * one:.2f} to {100 * other:.2f}, limit {limit:g} points",)
    return replace(proof, maps=(one, other), failures=failures)


def _frame_map(model: Backend, videos: Sequence[AnnotatedVideo], dataset: Dataset, every: int) -> float:
    if model.spec.labels != dataset.labels:
        raise InputError(f"the models' classes, {', '.join(model.spec.labels[:3])} ..., are not those of the data set")
    found = evaluate_videos(
        model, videos, every, rules=dataset.rules, judged_classes=dataset.judged_classes, tube_scores=False
    )
    return found.frame_map.mean


def assert_parity(
    reference: str | os.PathLike[str],
    candidate: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] = "random",
    clips: int = 8,
    options: tuple[Options, Options] = ({}, {}),
    **limits: float,
) -> Proof:
    """Raise unless two model files are the same model; for use in tests.

    Args:
        reference, candidate: see `prove`.
        data, clips: see `Wanted`.
        options: of `open_model`, for each of the two.
        limits: fields of `Limits`, as in ``assert_parity(a, b, score=0.01)``.

    Raises:
        ParityError: they differ; the message is the verdict, with the first layer that differs.
        YowoError: what `prove` raises.
    """
    wanted = Wanted(data, clips, limits)
    proof = prove(reference, candidate, wanted, options)
    if proof.passed:
        return proof
    with suppress(InputError):  # the layers of some forms cannot be compared
        if proof.difference and proof.bisection is None and _is_onnx(Path(model_path(candidate))):
            proof = prove(reference, candidate, replace(wanted, bisect=True), options)
    raise ParityError(proof.verdict())


def _is_onnx(file: Path) -> bool:
    return not is_checkpoint(file) and not is_plan(file)


def _wrong_preprocessing(files: Iterable[Path], on_step: Callable[[str], None]) -> list[str]:
    """Failures of the golden frames of files under preprocessing here; a file without one is reported."""
    found = []
    for file in files:
        if is_checkpoint(file):
            continue
        if is_plan(file):
            plan = read_plan(file)
            spec, recorded = plan.spec, plan.golden
        else:
            spec, recorded = read_spec(file), read_onnx_file(file).metadata.get(GOLDEN_KEY, "")
        if not recorded:
            on_step(f"{file} carries no golden frame, so only specs are compared for preprocessing: export it again")
            continue
        try:
            check_golden(spec, recorded, str(file))
        except ModelFileError as error:
            found.append(str(error))
    return found


def _precision(backend: Backend, options: Options) -> Precision:
    precision: Precision = options.get("precision") or backend.spec.precision
    return precision


def _weights(file: Path) -> Precision:
    """ "fp16" for a file that stores weights in half precision, whatever it computes in."""
    held = {} if is_checkpoint(file) or is_plan(file) else read_onnx_file(file).dtypes
    return "fp16" if held.get("float16") else "fp32"


def _same_clip(file: Path, options: Options, spec: ModelSpec) -> Options:
    """A checkpoint runs at any clip length: at the other model's, unless an option gives one."""
    return options if options.get("clip") or not is_checkpoint(file) else {**options, "clip": spec.clip_length}


def _clips(wanted: Wanted, spec: ModelSpec) -> Clips:
    if wanted.data == "random":
        return made_up_clips(spec, wanted.clips)
    return take_clips([os.fspath(wanted.data)], spec, wanted.clips)


def _pairs(clips: Clips, other: ModelSpec) -> Iterator[Pair]:
    for (one, size_wh), (two, _) in zip(clips, clips.as_for(other), strict=True):
        yield one, two, size_wh


def _fed_alike(clips: Clips, other: ModelSpec, number: int) -> tuple[Planes, Planes]:
    """A clip by the preprocessing of its own spec for both networks, each in the type that its input has."""
    alike = clips.as_for(clips.spec.replace(input_type=other.input_type))
    return clips.clip(number), alike.clip(number)


def _wants_other_colours(first: Backend, second: Backend, clips: tuple[Planes, Planes], limit: float) -> bool:
    """Whether swapped colours make the candidate agree, and reduce the difference fivefold."""
    expected, plain, swapped = (
        answer_of(first, clips[0]),
        answer_of(second, clips[1]),
        answer_of(second, clips[1][::-1]),
    )
    if not all(np.isfinite(answer).all() for answer in (expected, plain, swapped)):
        return False
    near, far = (float(np.abs(expected - answer).max()) for answer in (swapped, plain))
    return near <= limit * max(1.0, float(np.abs(expected).max())) and near < far / 5
