"""Detected tubes as a data.json to be corrected by hand."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from yowo_deploy.arrays import Frame
from yowo_deploy.boxes import Tube
from yowo_deploy.datasets.base import AnnotatedVideo
from yowo_deploy.datasets.data_json import Annotations, refuse_faults, write_annotations
from yowo_deploy.postprocess.actions import Action, Actions
from yowo_deploy.result import Result
from yowo_deploy.sinks.base import FileSink

_ALL_FRAMES = 1 << 31


class AnnotationsSink(FileSink):
    """The tubes of one video as a data.json, each person with the class that suits best: to be corrected by hand.

    Args:
        path: the data.json to write.
        source: the video.
        fps, size_wh: frame rate of the video, and its (width, height) in pixels.
        classes: labels of the model.

    Raises:
        DatasetError: a data.json cannot hold the name of the video, or of a class.
        OutputError: the folder cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        source: str | os.PathLike[str],
        fps: float,
        size_wh: tuple[int, int],
        classes: tuple[str, ...],
    ) -> None:
        self._path, self._source, self._facts = path, Path(source), (fps, size_wh)
        self._classes, self._frames = classes, 0
        self._people = Actions(math.inf, memory=_ALL_FRAMES, min_frames=2)
        self._seen_wh, self._tubes = size_wh, list[Tube]()
        self._stack = ExitStack()
        refuse_faults(self._annotations(()))  # now, and not when all is done

    def write(self, frame: Frame, result: Result) -> None:
        """Take the next frame's detections, see `Sink.write`."""
        self._frames = result.frame_index + 1
        seen_wh = frame.shape[1], frame.shape[0]
        if seen_wh != self._seen_wh:  # a camera's picture has another size now: tubes end
            self._keep(self._people.close())
            self._seen_wh = seen_wh
        self._keep(self._people.push(result))

    def _finish(self) -> None:
        self._keep(self._people.close())
        tubes = sorted(self._tubes, key=lambda tube: tube.tracker_id or 0)
        write_annotations(self._annotations(tubes), self._path)

    def _annotations(self, tubes: Iterable[Tube]) -> Annotations:
        (fps, size_wh), name = self._facts, self._source.stem
        video = AnnotatedVideo(name, name, self._source, self._frames, tuple(tubes), size_wh, fps=fps)
        return Annotations(self._classes, (video,))

    def _keep(self, ended: list[Action]) -> None:
        """Tubes in pixels of the size that the video had at first."""
        scale = np.array([first / seen for first, seen in zip(self._facts[1], self._seen_wh, strict=True)] * 2)
        self._tubes += [replace(each.tube, xyxy=(each.tube.xyxy * scale).astype(np.float32)) for each in ended]
