"""How good a model file is on annotated videos. Knows engines by their protocol, data sets by theirs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from yowo_deploy.ahead import Prefetch, map_ahead
from yowo_deploy.backends.base import Backend
from yowo_deploy.boxes import Detections, Float
from yowo_deploy.clip import ClipBuffer
from yowo_deploy.datasets.base import AnnotatedVideo
from yowo_deploy.decode import detect
from yowo_deploy.errors import DatasetError
from yowo_deploy.metrics import FrameBoxes, FrameMap, classification_accuracy, frame_map, localization_recall
from yowo_deploy.preprocess import preprocess
from yowo_deploy.video import VideoReader


@dataclass(frozen=True)
class Evaluation:
    """Figures of one model on one set of videos.

    Attributes:
        frame_map: average precision by class at IoU 0.5.
        recall: share of ground-truth boxes found at IoU 0.5 by a detection of any class above the threshold.
        accuracy: share of the boxes found whose best-scoring detection has the right class (paper, Table 3).
        frames: annotated frames that were judged.
        frames_missing: annotated frames beyond the end of their video file; they count as not found.
    """

    frame_map: FrameMap
    recall: float
    accuracy: float
    frames: int
    frames_missing: int


def evaluate(
    backend: Backend,
    videos: Sequence[AnnotatedVideo],
    every: int = 1,
    on_video: Callable[[AnnotatedVideo], None] | None = None,
) -> Evaluation:
    """Run a model over videos frame by frame and score it with the model's evaluation threshold.

    Args:
        every: judge each video's first annotated frame and every so-many-th after it; 1 is the full measure.
        on_video: called when a video is done.

    Raises:
        DatasetError: there is no annotated frame.
    """
    found, truth, missing = [], [], 0
    spec = backend.spec
    for number, video in enumerate(videos):
        judged = video.annotated_frames()[::every]
        detections = detect_frames(backend, video, set(judged.tolist()))
        for index in judged.tolist():
            frame = number * 1_000_000 + index
            truth.append(_truth_rows(frame, video, index))
            if index in detections:
                found.append(_rows(frame, detections[index], spec.evaluation_threshold))
        missing += len(judged) - len(detections)
        if on_video:
            on_video(video)
    everything, boxes = FrameBoxes.concatenate(found), FrameBoxes.concatenate(truth)
    if not len(boxes):
        raise DatasetError("no annotated frame in these videos, nothing to evaluate")
    return Evaluation(
        frame_map(everything, boxes, spec.classes),
        localization_recall(everything, boxes),
        classification_accuracy(everything, boxes),
        len(truth),
        missing,
    )


def detect_frames(backend: Backend, video: AnnotatedVideo, wanted: set[int]) -> dict[int, Detections]:
    """Detections of the wanted frames of a video, every frame of it seen; frames it does not have are left out."""
    spec, buffer = backend.spec, ClipBuffer(backend.spec)

    def judged(numbered: tuple[int, Float]) -> tuple[int, Detections]:
        index, clip = numbered
        return index, detect(backend.infer(clip)[0], spec, reader.size_wh, spec.evaluation_threshold)

    with ExitStack() as stack:
        reader = stack.enter_context(VideoReader(video.path, allow_damaged=True))
        prepared = stack.enter_context(Prefetch(preprocess(frame, spec) for frame in reader))
        clips = ((index, buffer.push(planes)[None]) for index, planes in enumerate(prepared))
        copies = ((index, clip.copy()) for index, clip in clips if index in wanted)
        return dict(map_ahead(judged, copies, backend.streams))


def _rows(frame: int, detections: Detections, threshold: float) -> FrameBoxes:
    """One row for each class of each box whose score passes the threshold."""
    box, class_id = np.nonzero(detections.scores > threshold)
    scores = detections.scores[box, class_id]
    return FrameBoxes(np.full(len(box), frame, np.int64), class_id.astype(np.int64), detections.xyxy[box], scores)


def _truth_rows(frame: int, video: AnnotatedVideo, index: int) -> FrameBoxes:
    boxes, class_id = video.at(index)
    return FrameBoxes(np.full(len(boxes), frame, np.int64), class_id, boxes, np.ones(len(boxes), np.float32))
