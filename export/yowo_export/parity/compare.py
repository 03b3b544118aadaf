"""Differences of two models on the same clips: raw outputs and detections."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.arrays import Planes
from yowo_deploy.backends.base import Backend
from yowo_deploy.boxes import Detections, iou_matrix
from yowo_deploy.errors import InputError
from yowo_deploy.postprocess.decode import detect
from yowo_deploy.spec import ModelSpec, Precision

KINDS = ("tx", "ty", "tw", "th", "conf", "class")
MATCH_IOU = 0.9  # two detections at this overlap, of one class, are one detection
TIE = 0.025  # closer scores of two classes have no order: half precision may swap them


@dataclass(frozen=True)
class Limits:
    """Largest accepted differences of two models.

    Attributes:
        raw: largest difference of any output value, relative to the largest output (at least 1).
        missing: fraction of detections without a counterpart.
        score: difference of scores of the same detection.
        box_px: difference of its corners in pixels.
        map_points: percentage points of frame-mAP that may be lost, where there is a data set.
        layer: the error that one layer may add by itself, see `bisect.LayerError`.
    """

    raw: float
    missing: float
    score: float
    box_px: float
    map_points: float
    layer: float


# fp32: rounding of sums in another order (see exporter.LIMIT). fp16 keeps 11 bits, 2^-11 a value, and what a
# hundred layers make of it (exporter.HALF_LIMIT); bf16 keeps 8, and 5e-2 of outputs of size 4 was measured
# (DEPLOYMENT_FACTS). int8 has steps of 1/255 of the largest value, 4e-3; over a hundred layers sqrt(100) times that is
# usual, and the worst of thousands of outputs lies six times beyond; 0.05 to 0.11 was measured of yowo-lite. Scores and
# boxes follow: an output of size 10 that is off by r of it moves a score by a quarter of 10 r at most. Points of
# frame-mAP are the project's promise for its own model; docs/parity.md has all of this at length.
# A layer, relative to its values. fp32: sums of 10^4 products in another order are off by sqrt(10^4) * 2^-24 = 6e-6.
# fp16: inputs and weights rounded by 2^-11 each, bf16 by 2^-8. int8: steps of 1/127 of the largest weight and 1/255 of
# the largest value, which lies some ten times above the rms.
LIMITS: dict[Precision, Limits] = {
    "fp32": Limits(2e-4, 0.0, 1e-3, 0.1, 0.1, 2e-5),
    "fp16": Limits(1e-2, 0.02, 0.025, 4.0, 0.1, 5e-3),
    "bf16": Limits(5e-2, 0.05, 0.1, 8.0, 0.5, 4e-2),
    "int8": Limits(0.25, 0.25, 0.25, 32.0, 0.5, 0.15),
}


@dataclass(frozen=True)
class Difference:
    """Differences over all clips.

    Attributes:
        clips: how many.
        worst: index of the clip whose outputs differ most.
        raw: largest difference of the outputs, relative to the largest output; NaN if one is non-finite.
        cosine: of the two outputs, the least over all clips.
        by_kind: largest absolute difference for each of `KINDS`.
        detections: of the reference.
        missing: reference detections without a counterpart of the same class.
        extra: candidate detections without one.
        score: largest difference of scores of matched detections.
        box_px: largest difference of their corners in pixels.
    """

    clips: int
    worst: int
    raw: float
    cosine: float
    by_kind: dict[str, float]
    detections: int
    missing: int
    extra: int
    score: float
    box_px: float

    def beyond(self, limits: Limits) -> tuple[str, ...]:
        """One phrase per figure beyond its limit; NaN is beyond any."""
        unmatched = (self.missing + self.extra) / max(1, self.detections)
        figures = (
            (self.raw, limits.raw, f"raw outputs differ by {self.raw:.1e}, limit {limits.raw:.1e}"),
            (unmatched, limits.missing, f"{self.missing} of {self.detections} detections missing, {self.extra} extra"),
            (self.score, limits.score, f"a score differs by {self.score:.3f}, limit {limits.score:g}"),
            (self.box_px, limits.box_px, f"a box differs by {self.box_px:.2f} px, limit {limits.box_px:g}"),
        )
        return tuple(words for found, limit, words in figures if not found <= limit)

    def rows(self, limits: Limits) -> list[tuple[str, str, str]]:
        """What was compared, the difference found and its limit, as text for a table."""
        kinds = [(f"raw {kind}, absolute", f"{value:.1e}", "") for kind, value in self.by_kind.items()]
        return [
            ("raw output, relative to the largest", f"{self.raw:.1e}", f"{limits.raw:.2g}"),
            *kinds,
            ("cosine, least", f"{self.cosine:.8f}", ""),
            ("detections", str(self.detections), ""),
            ("missing", str(self.missing), f"{100 * limits.missing:g} % with extra"),
            ("extra", str(self.extra), ""),
            ("score", f"{self.score:.1e}", f"{limits.score:.2g}"),
            ("box, pixels", f"{self.box_px:.1e}", f"{limits.box_px:g}"),
        ]


Pair = tuple[Planes, Planes, tuple[int, int]]


def compare(reference: Backend, candidate: Backend, clips: Iterable[Pair], limits: Limits) -> Difference:
    """Run both models over the same clips.

    Args:
        clips: (3, T, H, W) after the preprocessing of each model, and (width, height) of the original frames.
        limits: the one for scores also bounds how far below the threshold a missing detection may lie.

    Raises:
        InputError: the models are for different tasks, or there is no clip.
    """
    refuse_different_tasks(reference.spec, candidate.spec)
    spec = reference.spec
    seen: list[tuple[float, float, NDArray[np.float64]]] = []
    matches: list[_Match] = []
    detections = 0
    for first_clip, second_clip, size_wh in clips:
        expected, answer = answer_of(reference, first_clip), answer_of(candidate, second_clip)
        seen.append(_raw_difference(expected, answer, spec))
        if np.isfinite(seen[-1][0]):  # else it has failed, and there is nothing to decode
            matches.append(_match(expected, answer, spec, size_wh, limits.score))
            detections += len(detect(expected, spec, size_wh))
    if not seen:
        raise InputError("no clip to compare the models on")
    kinds = np.max([by_kind for _, _, by_kind in seen], axis=0)
    raws = np.array([raw for raw, _, _ in seen])
    return Difference(
        clips=len(seen),
        worst=int(np.where(np.isnan(raws), np.inf, raws).argmax()),
        raw=float(raws.max()),
        cosine=float(np.min([cosine for _, cosine, _ in seen])),
        by_kind=dict(zip(KINDS, kinds.tolist(), strict=True)),
        detections=detections,
        missing=sum(match.missing for match in matches),
        extra=sum(match.extra for match in matches),
        score=max((match.score for match in matches), default=0.0),
        box_px=max((match.box_px for match in matches), default=0.0),
    )


def answer_of(model: Backend, clip: Planes) -> NDArray[np.float64]:
    """The raw output for one (3, T, H, W) clip; an engine with a fixed batch gets the clip repeated."""
    return np.asarray(model.infer(np.repeat(clip[None], model.batch[0], axis=0))[0], np.float64)


TASK = (
    "labels",
    "anchors",
    "clip_length",
    "frame_stride",
    "input_size",
    "class_activation",
    "softmax_classes",
    "stride",
)
SHOWN = ("confidence_threshold", "evaluation_threshold", "nms_threshold")
FEED = ("colour", "mean", "std", "resize", "resize_filter", "start_rule")


def refuse_different_tasks(first: ModelSpec, second: ModelSpec) -> None:
    """Raise an InputError that lists the fields in which two models cannot be compared."""
    different = differences(first, second, TASK)
    if different:
        raise InputError(f"the two models are for different tasks: {'; '.join(different)[:400]}")


def differences(first: ModelSpec, second: ModelSpec, fields: Iterable[str]) -> tuple[str, ...]:
    """One phrase per field in which two specs differ."""
    pairs = [(name, getattr(first, name), getattr(second, name)) for name in fields]
    return tuple(f"{name}: {one!r} and {other!r}" for name, one, other in pairs if one != other)


def _raw_difference(
    expected: NDArray[np.float64], answer: NDArray[np.float64], spec: ModelSpec
) -> tuple[float, float, NDArray[np.float64]]:
    with np.errstate(invalid="ignore"):  # two infinities differ by NaN, which is beyond any limit
        difference = np.abs(answer - expected)
        by_anchor = difference.reshape(len(spec.anchors), 5 + spec.classes, -1).max(axis=(0, 2))
        by_kind = np.append(by_anchor[:5], by_anchor[5:].max())
        norms = float(np.linalg.norm(expected) * np.linalg.norm(answer))
        cosine = float((expected * answer).sum()) / norms if norms else float("nan")
        relative = float(difference.max()) / max(1.0, float(np.abs(expected).max()))
    return relative, cosine, by_kind


@dataclass(frozen=True)
class _Match:
    missing: int
    extra: int
    score: float
    box_px: float


def _match(
    expected: NDArray[np.float64], answer: NDArray[np.float64], spec: ModelSpec, size_wh: tuple[int, int], near: float
) -> _Match:
    """Pair the detections of both models. A detection is not lost if the other model has it just below its threshold,
    or if NMS or the best class fell the other way between near equals.

    Args:
        near: largest distance of scores from the threshold, or from one another, for that.
    """
    first, second = (detect(raw, spec, size_wh) for raw in (expected, answer))
    pairs = _paired(first, second)
    gaps = [_gap(first, i, second, j) for i, j in pairs]
    lost = []
    for shown, matched, raw in ((first, {i for i, _ in pairs}, answer), (second, {j for _, j in pairs}, expected)):
        rows = np.array([i for i in range(len(shown)) if i not in matched], np.int64)
        found = _hidden(shown[rows], raw, spec, size_wh, near) if len(rows) else []
        gaps += found
        lost.append(len(rows) - len(found))
    return _Match(*lost, *np.max([(0.0, 0.0), *gaps], axis=0).tolist())


def _hidden(
    lacking: Detections, raw: NDArray[np.float64], spec: ModelSpec, size_wh: tuple[int, int], near: float
) -> list[tuple[float, float]]:
    """Differences of score and corners for each detection that a model has below its threshold or suppressed."""
    low, tie = max(0.0, spec.confidence_threshold - near), min(near, TIE)
    weak = detect(raw, spec, size_wh, low)
    suppressed = detect(raw, spec, size_wh, low, 1.0)  # at 1 NMS removes nothing
    found = [_like(lacking, row, weak, near) or _like(lacking, row, suppressed, tie) for row in range(len(lacking))]
    return [gap for gap in found if gap]


def _like(lacking: Detections, row: int, among: Detections, near: float) -> tuple[float, float] | None:
    """The gap to the most similar equal detection in `among`, its class the best or tied with the best."""
    scores = among.scores[:, lacking.class_id[row]]
    away = np.abs(scores - lacking.confidence[row])
    alike = iou_matrix(lacking.xyxy[row : row + 1], among.xyxy)[0] >= MATCH_IOU
    alike &= (away <= near) & (scores >= among.confidence - min(near, TIE))
    if not alike.any():
        return None
    best = int(np.where(alike, away, np.inf).argmin())
    return float(away[best]), float(np.abs(among.xyxy[best] - lacking.xyxy[row]).max())


def _paired(first: Detections, second: Detections) -> list[tuple[int, int]]:
    """Pairs of rows that are the same detection, greedily by overlap within a class."""
    overlaps = iou_matrix(first.xyxy, second.xyxy) * (first.class_id[:, None] == second.class_id[None])
    pairs = []
    while overlaps.size and overlaps.max() >= MATCH_IOU:
        i, j = np.unravel_index(overlaps.argmax(), overlaps.shape)
        pairs.append((int(i), int(j)))
        overlaps[i], overlaps[:, j] = 0, 0
    return pairs


def _gap(first: Detections, i: int, second: Detections, j: int) -> tuple[float, float]:
    """Differences of score and corners of a pair."""
    score = abs(float(first.confidence[i] - second.confidence[j]))
    return score, float(np.abs(first.xyxy[i] - second.xyxy[j]).max())
