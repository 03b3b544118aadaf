"""From the stored detections of a video to its results, tubes and events."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from yowo_deploy.archive.parts import Part, joined
from yowo_deploy.detection.outputs import Outputs
from yowo_deploy.detector import DetectorOptions
from yowo_deploy.metrics.tube_scores import whole_tube_scores
from yowo_deploy.result import Result
from yowo_deploy.sinks.tubes import TubeLines
from yowo_deploy.spec import ModelSpec

Json = dict[str, Any]


def results_of(
    parts: Sequence[Part | str | os.PathLike[str]],
    spec: ModelSpec,
    options: DetectorOptions | None = None,
    source: str = "",
    whole_tubes: bool = False,
) -> Iterator[Result]:
    """What `Detector.stream` gives for a video, but for its pixels, from the parts that `batch` stored of it.

    Args:
        parts: of one video, in order: files, or what was read of them.
        spec: of the model.
        options: those of the run by default; classes and tube scores may be others.
        source: name of the video, for the results.
        whole_tubes: give each person the class probabilities of the whole tube, later frames included: not causal.

    Raises:
        InputError: a file is damaged.
        PiecesDiffer: the pieces are not of one video, or cannot be joined; perhaps after some results.
    """
    options = options or DetectorOptions()
    linker = options.result_linker(spec, options.linker(spec, decay=1.0) if whole_tubes else None)
    linker.reset(source)
    results = map(linker.push, joined([part if isinstance(part, Part) else Part.read(Path(part)) for part in parts]))
    return _rescored(list(results)) if whole_tubes else results


def _rescored(results: list[Result]) -> Iterator[Result]:
    scored = whole_tube_scores([each.detections for each in results])
    return (replace(each, detections=found) for each, found in zip(results, scored, strict=True))


def record_of(results: Iterable[Result], spec: ModelSpec, outputs: Outputs, fps: float) -> Json:
    """Tubes, events and counts of a video, as its record holds them."""
    tubes, rule = TubeLines(spec.labels), outputs.event_rule(spec)
    found: dict[str, list[Json]] = {"tubes": [], "events": []}
    frames, detections, size_wh, seconds = 0, 0, (0, 0), 0.0
    for result in results:
        found["tubes"] += tubes.push(result)
        found["events"] += rule.push(result)
        frames, detections = frames + 1, detections + len(result.detections)
        size_wh, seconds = result.orig_shape[::-1], (result.timestamp or 0.0) + 1 / fps
    found["tubes"] += tubes.close()
    found["events"] += rule.close()
    counts = {"frames": frames, "detections": detections, "fps": fps, "size": list(size_wh)}
    return {**counts, "seconds": round(seconds, 4), **found}
