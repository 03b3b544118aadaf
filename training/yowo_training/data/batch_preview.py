"""Contact sheets of training batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from yowo_deploy.arrays import Frame
from yowo_deploy.boxes import Detections, cxcywh_to_xyxy
from yowo_deploy.spec import ModelSpec
from yowo_deploy.visuals.draw import contact_sheet, draw
from yowo_training.data.clip_sampler import Batch
from yowo_training.loss import IGNORED, UNKNOWN

SHOWN = 4  # frames of a clip, the first and the last among them
CLIPS = 8


def show_batch(batch: Batch, spec: ModelSpec) -> Frame:
    """A sheet with a row for each clip, at most eight: frames from first to last, boxes on the last, the key frame."""
    length, labels = spec.clip_length, (*spec.labels, "action unknown")
    chosen = np.unique(np.linspace(0, length - 1, min(SHOWN, length)).round().astype(int)).tolist()
    pictures, captions = [], []
    for clip, targets in zip(batch.clips[:CLIPS].numpy(), batch.targets[:CLIPS], strict=True):
        rows = targets[targets[:, 0] > IGNORED].numpy()
        width, height = spec.input_size
        boxes = cxcywh_to_xyxy(rows[:, 1:]) * (width, height, width, height)
        class_id = np.where(rows[:, 0] == UNKNOWN, spec.classes, rows[:, 0]).astype(np.int64)
        certain = np.eye(len(labels), dtype=np.float32)[class_id]
        truth = Detections(boxes.astype(np.float32), certain.max(axis=1, initial=0), class_id, certain)
        for index in chosen:
            frame = _picture(clip[:, index], spec)
            pictures.append(draw(frame, truth, labels) if index == length - 1 else frame)
            captions.append(f"{index + 1 - length:d}" if index < length - 1 else _names(class_id, labels))
    return contact_sheet(pictures, columns=len(chosen), captions=captions)


def _picture(planes: np.ndarray, spec: ModelSpec) -> Frame:
    """The inverse of `normalise`."""
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (spec.mean, spec.std))
    shown = np.rint((planes * std + mean) * 255).clip(0, 255).astype(np.uint8).transpose(1, 2, 0)
    return np.ascontiguousarray(shown[..., ::-1] if spec.colour == "rgb" else shown)


def _names(class_ids: np.ndarray, labels: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(labels[int(each)] for each in class_ids)) or "no box"
