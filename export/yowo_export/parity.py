"""Are two model files the same model? Raw outputs and detections compared; knows engines by their protocol alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.backends.base import Backend
from yowo_deploy.boxes import Detections, Float, iou_matrix
from yowo_deploy.clip import ClipBuffer
from yowo_deploy.decode import detect
from yowo_deploy.errors import InputError
from yowo_deploy.preprocess import Frame, preprocess
from yowo_deploy.spec import ModelSpec

KINDS = ("tx", "ty", "tw", "th", "conf", "class")
MATCH_IOU = 0.9  # two detections at this overlap, of one class, are one detection


@dataclass(frozen=True)
class Limits:
    """What two models may differ by.

    Attributes:
        raw: largest difference of any output value, relative to the largest output (at least 1).
        missing: share of detections without a counterpart.
        score: difference of scores of the same detection.
        box_px: difference of its corners in pixels.
    """

    raw: float
    missing: float
    score: float
    box_px: float


# fp32: rounding of sums in another order (see onnx_export.LIMIT). fp16 keeps 11 bits, 2^-11 a value, and what a
# hundred layers make of it (onnx_export.HALF_LIMIT); bf16 keeps 8, and 5e-2 of outputs of size 4 was measured
# (DEPLOYMENT_FACTS). int8 has steps of 1/255 of the largest value, 4e-3; over a hundred layers sqrt(100) times that is
# usual, and the worst of thousands of outputs lies six times beyond; 0.05 to 0.11 was measured of yowo-lite. Scores and
# boxes follow: an output of size 10 that is off by r of it moves a score by a quarter of 10 r at most.
LIMITS = {
    "fp32": Limits(2e-4, 0.0, 1e-3, 0.1),
    "fp16": Limits(1e-2, 0.02, 0.025, 4.0),
    "bf16": Limits(5e-2, 0.05, 0.1, 8.0),
    "int8": Limits(0.25, 0.25, 0.25, 32.0),
}


@dataclass(frozen=True)
class Parity:
    """What was seen over all clips.

    Attributes:
        clips: how many.
        raw: largest difference of the outputs, relative to the largest output.
        cosine: of the two outputs, the least over all clips.
        by_kind: largest absolute difference for each of `KINDS`.
        detections: of the reference.
        missing: reference detections without a counterpart of the same class.
        extra: candidate detections without one.
        score: largest difference of scores of matched detections.
        box_px: largest difference of their corners in pixels.
        limits: by which `passed` judges.
    """

    clips: int
    raw: float
    cosine: float
    by_kind: dict[str, float]
    detections: int
    missing: int
    extra: int
    score: float
    box_px: float
    limits: Limits

    @property
    def passed(self) -> bool:
        """Whether every figure is within its limit; NaN is not."""
        unmatched = (self.missing + self.extra) / max(1, self.detections)
        pairs = (
            (self.raw, self.limits.raw),
            (unmatched, self.limits.missing),
            (self.score, self.limits.score),
            (self.box_px, self.limits.box_px),
        )
        return all(found <= limit for found, limit in pairs)

    def rows(self) -> list[tuple[str, str, str]]:
        """What was compared, the difference found and its limit, as text for a table."""
        kinds = [(f"raw {kind}, absolute", f"{value:.1e}", "") for kind, value in self.by_kind.items()]
        return [
            ("raw output, relative to the largest", f"{self.raw:.1e}", f"{self.limits.raw:.2g}"),
            *kinds,
            ("cosine, least", f"{self.cosine:.8f}", ""),
            ("detections", str(self.detections), ""),
            ("missing", str(self.missing), f"{100 * self.limits.missing:.0f} % with extra"),
            ("extra", str(self.extra), ""),
            ("score", f"{self.score:.1e}", f"{self.limits.score:.2g}"),
            ("box, pixels", f"{self.box_px:.1e}", f"{self.limits.box_px:g}"),
        ]


def compare(
    reference: Backend, candidate: Backend, clips: Iterable[tuple[Float, tuple[int, int]]], limits: Limits
) -> Parity:
    """Run both models over the same clips.

    Args:
        clips: (3, T, H, W) float32 and the (width, height) of the frames it was made from.

    Raises:
        InputError: the models do not describe the same task, or there is no clip.
    """
    refuse_different_tasks(reference.spec, candidate.spec)
    spec = reference.spec
    seen: list[tuple[float, float, NDArray[np.float64]]] = []
    pairs: list[tuple[Detections, Detections]] = []
    for clip, size_wh in clips:
        expected, answer = (model.infer(clip[None])[0].astype(np.float64) for model in (reference, candidate))
        seen.append(_raw_difference(expected, answer, spec))
        # A little below the threshold too, so that a score that just crosses it does not count as a lost detection.
        low = max(0.0, spec.confidence_threshold - limits.score)
        if np.isfinite(seen[-1][0]):  # else the verdict is out, and there is nothing to decode
            first, second = (detect(raw, spec, size_wh, low) for raw in (expected, answer))
            pairs.append((first, second))
    if not seen:
        raise InputError("no clip to compare the models on")
    matches = [_match(first, second, spec.confidence_threshold) for first, second in pairs]
    kinds = np.max([by_kind for _, _, by_kind in seen], axis=0)
    return Parity(
        clips=len(seen),
        raw=float(np.max([raw for raw, _, _ in seen])),
        cosine=float(np.min([cosine for _, cosine, _ in seen])),
        by_kind=dict(zip(KINDS, kinds.tolist(), strict=True)),
        detections=sum(int((first.confidence > spec.confidence_threshold).sum()) for first, _ in pairs),
        missing=sum(match.missing for match in matches),
        extra=sum(match.extra for match in matches),
        score=max((match.score for match in matches), default=0.0),
        box_px=max((match.box_px for match in matches), default=0.0),
        limits=limits,
    )


def video_clips(frames: Iterable[Frame], spec: ModelSpec, count: int) -> Iterator[tuple[Float, tuple[int, int]]]:
    """The clips that end at `count` frames of a video, one every clip length, and the frames' size."""
    buffer, taken = ClipBuffer(spec), 0
    for index, frame in enumerate(frames):
        clip = buffer.push(preprocess(frame, spec))
        if index % spec.clip_length == spec.clip_length - 1:
            yield clip, (frame.shape[1], frame.shape[0])
            taken += 1
        if taken == count:
            return


def random_clips(spec: ModelSpec, count: int, seed: int = 0) -> Iterator[tuple[Float, tuple[int, int]]]:
    """Clips of smooth random frames through the model's own preprocessing."""
    rng = np.random.default_rng(seed)
    width, height = spec.input_size
    for _ in range(count):
        coarse = rng.integers(0, 256, (spec.clip_length, 9, 12, 3), dtype=np.uint8)
        frames = [frame.repeat(height // 8, axis=0).repeat(width // 8, axis=1) for frame in coarse]
        yield np.stack([preprocess(frame, spec) for frame in frames], axis=1), (320, 240)


def refuse_different_tasks(first: ModelSpec, second: ModelSpec) -> None:
    """Raise an InputError that lists the fields in which two models cannot be compared."""
    names = ("labels", "anchors", "clip_length", "frame_stride", "input_size", "colour", "mean", "std", "resize_filter")
    different = [name for name in names if getattr(first, name) != getattr(second, name)]
    if different:
        details = "; ".join(f"{name}: {getattr(first, name)!r} and {getattr(second, name)!r}" for name in different)
        raise InputError(f"the two models differ in what they are for: {details[:400]}")


def _raw_difference(
    expected: NDArray[np.float64], answer: NDArray[np.float64], spec: ModelSpec
) -> tuple[float, float, NDArray[np.float64]]:
    difference = np.abs(answer - expected)
    by_anchor = difference.reshape(len(spec.anchors), 5 + spec.classes, -1).max(axis=(0, 2))
    by_kind = np.append(by_anchor[:5], by_anchor[5:].max())
    norms = float(np.linalg.norm(expected) * np.linalg.norm(answer))
    cosine = float((expected * answer).sum()) / norms if norms else float("nan")
    return float(difference.max()) / max(1.0, float(np.abs(expected).max())), cosine, by_kind


@dataclass(frozen=True)
class _Match:
    missing: int
    extra: int
    score: float
    box_px: float


def _match(first: Detections, second: Detections, threshold: float) -> _Match:
    """Pair detections greedily by overlap within a class; what is left over counts if it exceeds the threshold."""
    overlaps = iou_matrix(first.xyxy, second.xyxy) * (first.class_id[:, None] == second.class_id[None])
    left, right = np.ones(len(first), bool), np.ones(len(second), bool)
    score = box_px = 0.0
    while overlaps.size and overlaps.max() >= MATCH_IOU:
        i, j = np.unravel_index(overlaps.argmax(), overlaps.shape)
        score = max(score, abs(float(first.confidence[i] - second.confidence[j])))
        box_px = max(box_px, float(np.abs(first.xyxy[i] - second.xyxy[j]).max()))
        overlaps[i], overlaps[:, j] = 0, 0
        left[i], right[j] = False, False
    missing, extra = (int((d.confidence[m] > threshold).sum()) for d, m in ((first, left), (second, right)))
    return _Match(missing, extra, score, box_px)
