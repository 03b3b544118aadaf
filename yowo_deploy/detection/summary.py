"""Frame counts, rates and outcome of one source."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np

from yowo_deploy.result import Result
from yowo_deploy.video.sources import Counts

_LABELS = 5  # that are listed
RECENT = 200  # frames that the rate and latency are measured over


@dataclass
class FrameCounts:
    """Running counts over the results of one source."""

    inferred: int = 0
    carried: int = 0
    detections: int = 0
    by_label: Counter[str] = field(default_factory=Counter)
    best_score: float = 0.0
    start: float = field(default_factory=perf_counter)
    recent: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=RECENT))

    @property
    def frames(self) -> int:
        return self.inferred + self.carried

    def add(self, result: Result) -> None:
        """Count one more result."""
        self.carried += result.carried
        self.inferred += not result.carried
        self.detections += len(result.detections)
        self.by_label.update(result.names[class_id] for class_id in result.detections.class_id.tolist())
        self.best_score = max(self.best_score, result.best_score)
        self.recent.append((perf_counter(), result.latency_ms))

    def labels(self) -> str:
        """The most frequent labels with their counts, in brackets; "" without detections."""
        most = [f"{count} {label}" for label, count in self.by_label.most_common(_LABELS)]
        rest = self.detections - sum(count for _, count in self.by_label.most_common(_LABELS))
        return f" ({', '.join(most + [f'{rest} others'] * (rest > 0))})" if most else ""

    def latency_ms(self) -> float:
        """95th percentile over the newest frames."""
        return float(np.percentile([latency for _, latency in self.recent] or [0.0], 95))

    def rate(self, live: bool) -> str:
        """Frames a second of the newest frames, of live sources also the latency; "" for fewer than two."""
        if len(self.recent) < 2:
            return ""
        seconds = max(self.recent[-1][0] - self.recent[0][0], 1e-9)
        rate = f"{(len(self.recent) - 1) / seconds:.1f} frames/s"
        return f"{rate}, latency p95 {self.latency_ms():.0f} ms" if live else rate

    def account(self, counts: Counts, every: int) -> str:
        """Every captured frame, by what became of it; the parts add up to the total."""
        skipped = {f"by --every {every}": self.carried, **counts.dropped, "not read": counts.waiting}
        skipped["left at the stop"] = counts.given - self.frames
        parts = [_counted("skipped", skipped), _counted("suspect", counts.suspect)]
        text = f"{counts.captured} frames captured = {self.inferred} inferred + {' + '.join(parts)}"
        return text + (f"; {counts.reconnects} reconnects" if counts.reconnects else "")


@dataclass(frozen=True)
class Summary:
    """The outcome of one source.

    Attributes:
        source: its name.
        frames: results that were written.
        detections: over all frames, above `confidence`.
        best_score: the highest score seen, also below `confidence`.
        seconds: from the first frame to the last.
        files: that were to be written; "-" is stdout.
        failed: the error of each output that failed, by the name of the output.
        interrupted: reading was stopped before the end of a file; a live source has no end of its own.
        text: all of it in sentences, one a line.
    """

    source: str
    frames: int
    detections: int
    best_score: float
    confidence: float
    seconds: float
    files: tuple[str, ...]
    failed: Mapping[str, Exception]
    interrupted: bool
    text: str


def nothing_found(threshold: float, best: float) -> str:
    """The message for a source without detections, with a threshold that would have shown some."""
    text = f"0 detections above {threshold:g}; best score {best:.2g}"
    if not 0 < best <= threshold:
        return text
    shown = float(f"{best:.2g}")
    step = 0.05 if shown > 0.05 else 10.0 ** math.floor(math.log10(shown))
    lower = step * (math.ceil(round(shown / step, 6)) - 1)
    return f"{text} (try --conf {lower:.2g})"


def _counted(what: str, reasons: Mapping[str, int]) -> str:
    listed = ", ".join(f"{count} {reason}" for reason, count in reasons.items() if count)
    return f"{sum(reasons.values())} {what}" + (f" ({listed})" if listed else "")
