"""Link the detections of frames into results, while a video runs or from what was stored of it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from time import perf_counter
from typing import NamedTuple

import numpy as np

from yowo_deploy.arrays import Frame
from yowo_deploy.boxes import Detections, Tube
from yowo_deploy.postprocess.class_filter import ClassFilter
from yowo_deploy.postprocess.linker import OnlineLinker
from yowo_deploy.result import Result

STAGES = ("preprocess", "infer", "postprocess")  # before linking


class Unlinked(NamedTuple):
    """What was found in one frame, before people are followed.

    Attributes:
        number: of the frame, from 0.
        image: the BGR frame, of which linking reads the size alone.
        detections: all that the linker takes; None where the engine was not asked (`every`).
        best_score: the highest of all scores, shown or not.
        is_anew: tubes end before it: the frame before had another size or scene.
        there: when the frame was there, by `perf_counter`.
        seconds: by stage.
    """

    number: int
    image: Frame
    timestamp: float | None
    detections: Detections | None
    best_score: float = 0.0
    is_anew: bool = False
    there: float = 0.0
    seconds: Mapping[str, float] = {}


class ResultLinker:
    """Follows people through the frames of one video: `Unlinked` in, a `Result` out.

    Args:
        linker: as it is at the start of each video.
        class_filter: which classes are shown.
        label_threshold: see `Result`.
    """

    def __init__(self, linker: OnlineLinker, class_filter: ClassFilter, label_threshold: float | None) -> None:
        self._fresh, self._filter, self._label_threshold = linker, class_filter, label_threshold
        self._labels = class_filter.labels
        self.reset()

    def reset(self, source: str = "") -> None:
        """Begin a new video, of that name."""
        self._linker, self._source = deepcopy(self._fresh), source
        self._last: Result | None = None

    def push(self, found: Unlinked) -> Result:
        """The result of the next frame."""
        start = perf_counter()
        result = self._carried(found) if found.detections is None else self._linked(found, found.detections)
        end = perf_counter()
        seconds = {**dict.fromkeys(STAGES, 0.0), **found.seconds, "link": end - start}
        self._last = replace(
            result,
            frame_index=found.number,
            timestamp=found.timestamp,
            speed={stage: 1000 * value for stage, value in seconds.items()},
            latency_ms=1000 * (end - found.there),
        )
        return self._last

    def finish(self) -> tuple[Tube, ...]:
        """End the tubes that are alive and return those that no result had as `ended`."""
        return self._filter.tubes(self._linker.close())

    def _linked(self, found: Unlinked, detections: Detections) -> Result:
        before = self._linker.close() if found.is_anew else []
        tubes = self._linker.push(detections, found.number)
        return Result(
            found.number,
            found.image,
            self._filter.among(self._linker.shown),
            self._labels,
            {},
            tubes=self._filter.tubes(tubes),
            ended=self._filter.tubes([*before, *self._linker.finished()]),
            source=self._source,
            best_score=found.best_score,
            label_threshold=self._label_threshold,
        )

    def _carried(self, found: Unlinked) -> Result:
        empty = replace(Detections.empty(len(self._labels)), tracker_id=np.zeros(0, np.int64))
        last = self._last or Result(0, found.image, empty, self._labels, {}, source=self._source)
        return replace(last, frame=found.image, ended=(), carried=True, best_score=0.0)
