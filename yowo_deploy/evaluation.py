"""Accuracy of a model file on annotated videos."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from yowo_deploy.arrays import Int, Planes
from yowo_deploy.backends.base import Backend, Look
from yowo_deploy.backends.frame_inference import FrameInference
from yowo_deploy.backends.loader import open_model
from yowo_deploy.backends.long_term import bank_of, long_term_look
from yowo_deploy.boxes import Detections
from yowo_deploy.datasets.base import AnnotatedVideo, Rules, annotations_hash, split_present
from yowo_deploy.datasets.box_table import FRAMES
from yowo_deploy.datasets.registry import open_dataset
from yowo_deploy.errors import DatasetError, EngineError, InputError, ModelFileError
from yowo_deploy.files import sha256_of
from yowo_deploy.keywords import checked_keywords_with
from yowo_deploy.metrics import ClassAp, FrameBoxes, classification_accuracy, frame_map, localization_recall
from yowo_deploy.metrics.ava_ap import ava_map
from yowo_deploy.metrics.ava_csv import AvaCsv
from yowo_deploy.metrics.detections_log import DetectionsFile, DetectionsLog
from yowo_deploy.metrics.frame_ap import confusion_matrix
from yowo_deploy.metrics.matching import Matched
from yowo_deploy.metrics.tube_scores import averaged, rescored, rows_of
from yowo_deploy.metrics.video_ap import linked, truth_tubes, video_map
from yowo_deploy.model_files.default import model_path
from yowo_deploy.postprocess.decode import detect
from yowo_deploy.postprocess.linker import TUBE_DECAY
from yowo_deploy.postprocess.tubes import RELEASE_RULE
from yowo_deploy.prefetch import Prefetch, map_ahead
from yowo_deploy.preprocess.frames import preprocess
from yowo_deploy.reporter import Reporter
from yowo_deploy.spec import ModelSpec
from yowo_deploy.video.reader import open_video
from yowo_deploy.worker_pool import Beat, ProcessPool

VIDEO_IOUS = (0.2, 0.5, 0.75)  # of the published tables


@dataclass(frozen=True)
class Figures:
    """How good one kind of scores is; see `Evaluation` for the fields."""

    frame_map: ClassAp
    video_map: dict[float, ClassAp]
    recall: float
    accuracy: float


@dataclass(frozen=True)
class Evaluation(Figures):
    """Figures of one model on one set of videos.

    Attributes:
        frame_map: average precision by class at IoU 0.5.
        video_map: by threshold, of tubes linked as the release does; empty unless every annotated frame was judged,
            and by AVA's rules.
        recall: share of ground-truth boxes found at IoU 0.5 by a detection of any class above the threshold.
        accuracy: share of the boxes found whose best-scoring detection has the right class (paper, Table 3); NaN by
            AVA's rules, where a box has many.
        frames: annotated frames that were judged.
        frames_missing: annotated frames beyond the end of their video file; they count as not found.
        labels: of the classes.
        videos: evaluated.
        videos_absent: test videos of the data set whose file is missing; they are left out.
        variants: by name, the figures of other scores of the same detections where tube scores were computed: "frame"
            (each frame by itself) and "whole tube" (of all its frames, later ones included: not causal).
        confusion: see `confusion_matrix`; None by AVA's rules.
    """

    frames: int
    frames_missing: int
    labels: tuple[str, ...] = ()
    videos: int = 0
    videos_absent: int = 0
    variants: dict[str, Figures] = field(default_factory=dict)
    confusion: Int | None = None


@checked_keywords_with(open_model)
def evaluate(
    model: str | os.PathLike[str],
    dataset: str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    split: int = 1,
    *,
    every: int = 1,
    save: str | os.PathLike[str] | None = None,
    features: str | os.PathLike[str] | None = None,
    tube_scores: bool | None = None,
    workers: int = 1,
    reporter: Reporter | None = None,
    **options: Any,
) -> Evaluation:
    """Evaluate a model file on the test videos of a data set: `yowo-deploy evaluate` as one call.

        evaluate("yowo.onnx", "jhmdb21", "data/jhmdb21").frame_map.mean

    Args:
        model: ONNX file, plan or checkpoint; "default" is the model of the package.
        dataset: a name of `DATASETS`, or a data.json.
        data: folder of a data set that is called by its name.
        split: number of the official split.
        every: judge each video's first annotated frame and every N-th after it.
        save: text file of detections, by AVA's rules its csv; an interrupted run continues from it.
        features: folder that `yowo-deploy features` wrote with this checkpoint.
        tube_scores: average class scores along tubes, as `detect` shows them; by default where the model's spec has a
            `tube_decay` and `every` is 1. Not by AVA's rules.
        workers: processes, each with an engine, that share the videos; the cores are divided among them.
        reporter: receives messages and progress; by default they are logged.
        options: of `open_model`: backend, device, precision, threads, clip, cache, trust, parallel.

    Raises:
        InputError: the classes of model and data set differ, or `save` holds other detections.
        DatasetError: the data set cannot be read, or has no annotated frame.
        YowoError: the model cannot be opened.
    """
    name, reporter = os.fspath(dataset), reporter or Reporter()
    truth = open_dataset(name, None if data is None else Path(data), split)
    tested = truth.videos("test")
    videos, absent = split_present(tested)
    if absent:
        reporter.message(f"{absent} of {absent + len(videos)} test videos are not in {data or dataset}: left out")
    with open_model(model, **{"parallel": min(2, os.cpu_count() or 1), **options}) as backend:
        if backend.spec.labels != truth.labels:
            raise InputError(
                f"{model} has {backend.spec.classes} classes ({', '.join(backend.spec.labels[:3])}, ...), "
                f"{dataset} has {len(truth.labels)} ({', '.join(truth.labels[:3])}, ...)"
            )
        look_into = None
        if features:
            look_into = lambda video: long_term_look(backend, bank_of(features, video.path))  # noqa: E731
        kept = None
        if save:
            # The file's hash too: files of several precisions, and two in INT8, have one spec and answer differently.
            made_by = (name, str(Path(data or dataset).resolve()), split, every, backend.name, options, features)
            of_files = (annotations_hash(tested), sha256_of(model_path(model)), backend.spec.to_json())
            kept = _kept(save, hashlib.sha256(repr((made_by, of_files)).encode()).hexdigest(), truth.rules, videos)
        with reporter.progress("evaluating", len(videos)) as update:
            done = iter(range(1, len(videos) + 1))
            if workers > 1:
                kept = kept or _InMemory()
                threads = options.get("threads") or max(1, (os.cpu_count() or 1) // workers)
                make = _MakeJudge(os.fspath(model), features, {**options, "threads": threads})
                _judge_by_workers(make, workers, [each for each in videos if each.name not in kept.done], every, kept)
            found = evaluate_videos(
                backend,
                videos,
                every,
                lambda video: update(next(done), video.name.rpartition("/")[2][:40]),
                kept,
                truth.rules,
                look_into,
                truth.judged_classes,
                tube_scores,
            )
    return replace(found, videos_absent=absent)


class _InMemory:
    """A `DetectionsLog` without a file."""

    def __init__(self) -> None:
        self.done: dict[str, tuple[FrameBoxes, int]] = {}

    def add(self, video: str, boxes: FrameBoxes, missing: int) -> None:
        """See `DetectionsLog`."""
        self.done[video] = boxes, missing


class _Judge:
    """A `Worker` with one engine, for videos with their judged frames."""

    greeting = "ready"

    def __init__(self, backend: Backend, features: str | os.PathLike[str] | None) -> None:
        self._backend, self._features = backend, features

    def do(self, task: tuple[AnnotatedVideo, Int], beat: Beat) -> tuple[FrameBoxes, int]:
        """The rows of a video, and how many of its annotated frames the file lacks."""
        video, judged = task
        look = long_term_look(self._backend, bank_of(self._features, video.path)) if self._features else None
        return _judge(self._backend, video, judged, None, look)


@dataclass(frozen=True)
class _MakeJudge:
    """Makes a `_Judge` in its process."""

    model: str
    features: str | os.PathLike[str] | None
    options: dict[str, Any]

    def __call__(self) -> _Judge:
        return _Judge(open_model(self.model, **self.options), self.features)


def _judge_by_workers(
    make: _MakeJudge, workers: int, videos: Sequence[AnnotatedVideo], every: int, kept: DetectionsLog
) -> None:
    """Put the rows of the videos into a log.

    Raises:
        EngineError: a video cannot be read, or the model cannot be run.
    """
    waiting = [(video, video.judged_frames()[::every]) for video in reversed(videos)]
    with ProcessPool(make, min(workers, max(1, len(videos))), math.inf) as pool:
        while waiting or pool.busy():
            while waiting and pool.idle():
                pool.submit(waiting.pop())
            for outcome in pool.outcomes(1.0):
                if outcome.reason:
                    raise EngineError(outcome.reason)
                kept.add(outcome.task[0].name, *outcome.value)


def _kept(path: str | os.PathLike[str], stamp: str, rules: Rules, videos: Sequence[AnnotatedVideo]) -> DetectionsLog:
    return AvaCsv(Path(path), stamp, videos) if rules == "ava" else DetectionsFile(Path(path), stamp)


def evaluate_videos(
    backend: Backend,
    videos: Sequence[AnnotatedVideo],
    every: int = 1,
    on_video: Callable[[AnnotatedVideo], None] | None = None,
    kept: DetectionsLog | None = None,
    rules: Rules = "voc",
    look_into: Callable[[AnnotatedVideo], Look] | None = None,
    judged_classes: Collection[int] = (),
    tube_scores: bool | None = None,
) -> Evaluation:
    """Run a model over videos frame by frame and score it with the model's evaluation threshold.

    Args:
        rules: see `Dataset`; AVA has no tubes, and judges the 50 best detections of a frame.
        judged_classes: class ids whose detections count; all by default.
        look_into: what takes the place of `backend.infer` for a video, where a clip alone does not say it all.
        every: judge each video's first annotated frame and every N-th after it; 1 judges all.
        on_video: called when a video is done.
        kept: where detections of each frame by itself are written; what is in it already is not computed again.
        tube_scores: see `evaluate`.

    Raises:
        DatasetError: there is no annotated frame.
    """
    spec, truth, truth_tube, missing, frames = backend.spec, [], [], 0, 0
    by_default = bool(spec.tube_decay) and every == 1  # tubes are linked through all frames
    tubes_too = rules == "voc" and (by_default if tube_scores is None else tube_scores)
    kinds = ("tube", "frame", "whole tube") if tubes_too else ("frame",)
    found: dict[str, list[FrameBoxes]] = {kind: [] for kind in kinds}
    for number, video in enumerate(videos):
        judged = video.judged_frames()[::every]
        look = look_into(video) if look_into else None
        boxes, lacking = _judge(backend, video, judged, kept, look)
        for kind in kinds:
            found[kind].append(_scored(kind, boxes, spec).moved(number * FRAMES))
        of_truth, tubes = _truth(video, judged)
        truth.append(of_truth.moved(number * FRAMES))
        truth_tube.append(tubes)
        missing, frames = missing + lacking, frames + len(judged)
        if on_video:
            on_video(video)
    boxes = FrameBoxes.concatenate(truth)
    if not len(boxes):
        raise DatasetError("no annotated frame in these videos, nothing to evaluate")
    names = tuple(video.name for video in videos)
    figures, confusion = {}, None
    for kind, parts in found.items():
        everything = FrameBoxes.concatenate(parts)
        if judged_classes:
            everything = everything.rows(np.isin(everything.class_id, list(judged_classes)))
        matched = Matched(everything, boxes, np.concatenate(truth_tube), spec.labels, names, {}, ())
        if kind == kinds[0] and rules == "voc":
            confusion = confusion_matrix(everything, boxes, spec.classes)
        figures[kind] = _figures(matched, rules, linked_too=every == 1)
    first = vars(figures.pop(kinds[0]))
    counts: dict[str, Any] = {"frames": frames, "frames_missing": missing, "videos": len(videos)}
    return Evaluation(**first, **counts, labels=spec.labels, variants=figures, confusion=confusion)


def _scored(kind: str, rows: FrameBoxes, spec: ModelSpec) -> FrameBoxes:
    """The rows of a video with the scores of a kind."""
    if kind == "frame":
        return rows
    if kind == "tube":
        return averaged(rows, spec.classes, spec.evaluation_threshold, spec.tube_decay or TUBE_DECAY)
    return rescored(rows, spec.classes, spec.evaluation_threshold)


def _figures(matched: Matched, rules: Rules, linked_too: bool) -> Figures:
    found, truth, voc = matched.detections, matched.truth, rules == "voc"
    return Figures(
        {"voc": frame_map, "ava": ava_map}[rules](found, truth, len(matched.labels)),
        _video_map(matched) if linked_too and voc else {},
        localization_recall(found, truth if voc else _each_once(truth)),
        classification_accuracy(found, truth) if voc else math.nan,
    )


def detect_frames(
    backend: Backend, video: AnnotatedVideo, wanted: set[int], look: Look | None = None
) -> dict[int, Detections]:
    """Detections of the wanted frames of a video, all frames before them seen; those it does not have are left out.

    Boxes are in pixels of the picture that the ground truth is measured in.

    Args:
        wanted: numbers of frames, from 0.
        look: at the frames around, see `long_term_look`.

    Raises:
        ModelFileError: an answer is not finite; with video and frame.
        VideoError: the video cannot be read.
    """
    spec, inference = backend.spec, FrameInference(backend, look, sparse=True)

    def inputs(frames: Iterable[Planes]) -> Iterator[tuple[int, Planes]]:
        for index, planes in enumerate(frames):
            given = inference.next_input(planes)
            if index in wanted:
                yield index, given.copy()  # frames that are not wanted may take its place before it is read
            else:
                inference.skip(given)

    def judged(numbered: tuple[int, Planes]) -> tuple[int, Detections]:
        index, given = numbered
        raw = inference.raw(given, index)
        try:
            return index, detect(raw, spec, video.size_wh or reader.size_wh, spec.evaluation_threshold)
        except ModelFileError as error:
            raise ModelFileError(f"{video.name}, frame {index}: {error}") from error

    with ExitStack() as stack:
        reader = stack.enter_context(open_video(video.path, allow_damaged=True))
        seen = islice(reader, max(wanted, default=-1) + 1)
        prepared = stack.enter_context(Prefetch(preprocess(frame, spec) for frame in seen))
        return dict(map_ahead(judged, inputs(prepared), inference.parallel))


def _judge(
    backend: Backend, video: AnnotatedVideo, judged: Int, kept: DetectionsLog | None, look: Look | None
) -> tuple[FrameBoxes, int]:
    """The rows of a video, and how many of its annotated frames the file lacks."""
    if kept and video.name in kept.done:
        _refuse_spoiled(video, judged, backend.spec.classes, *kept.done[video.name])
        return kept.done[video.name]
    detections = detect_frames(backend, video, set(judged.tolist()), look)
    threshold = backend.spec.evaluation_threshold
    boxes = FrameBoxes.concatenate([rows_of(frame, each, threshold) for frame, each in sorted(detections.items())])
    missing = len(judged) - len(detections)
    if kept:
        kept.add(video.name, boxes, missing)
    return boxes, missing


def _refuse_spoiled(video: AnnotatedVideo, judged: Int, classes: int, rows: FrameBoxes, missing: int) -> None:
    """Raise an InputError where a file of detections holds for a video what no model can have found in it."""
    known = np.isin(rows.frame, judged).all() and ((rows.class_id >= 0) & (rows.class_id < classes)).all()
    scored = ((rows.score >= 0) & (rows.score <= 1.001)).all()  # NaN is in no range
    if not (known and scored and np.isfinite(rows.xyxy).all() and missing <= len(judged)):
        raise InputError(
            f"the detections of {video.name} that --save holds are damaged: remove the file and start again"
        )


def _truth(video: AnnotatedVideo, judged: Int) -> tuple[FrameBoxes, Int]:
    """The judged ground truth of a video, and which tube each row is of."""
    parts, numbers = [], []
    for number, tube in enumerate(video.tubes):
        rows = np.flatnonzero(np.isin(tube.frames, judged))
        class_id = np.full(len(rows), tube.class_id, np.int64)
        parts.append(FrameBoxes(tube.frames[rows], class_id, tube.xyxy[rows], np.ones(len(rows), np.float32)))
        numbers.append(np.full(len(rows), number, np.int64))
    return FrameBoxes.concatenate(parts), np.concatenate([np.zeros(0, np.int64), *numbers])


def _each_once(truth: FrameBoxes) -> FrameBoxes:
    """Every box a single time, however many labels it has."""
    places = np.column_stack([truth.frame.astype(np.float64), truth.xyxy])
    _, first = np.unique(places, axis=0, return_index=True)
    return truth.rows(np.sort(first))


def _video_map(matched: Matched) -> dict[float, ClassAp]:
    figures = video_map(linked(matched, RELEASE_RULE), truth_tubes(matched), len(matched.labels), VIDEO_IOUS, False)
    return dict(zip(VIDEO_IOUS, figures, strict=True))
