"""Draw ground truth on its videos, or on a contact sheet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from yowo_deploy.arrays import Frame
from yowo_deploy.boxes import Detections
from yowo_deploy.datasets.base import AnnotatedVideo
from yowo_deploy.errors import DatasetError
from yowo_deploy.video.reader import open_video
from yowo_deploy.visuals.draw import contact_sheet, draw

COLUMNS, CELL_WIDTH = 4, 320


def annotated_frames(video: AnnotatedVideo, labels: Sequence[str]) -> Iterator[Frame]:
    """Every frame of a video with its ground truth, as the file decodes.

    Raises:
        VideoError: it cannot be read.
    """
    with open_video(video.path, allow_damaged=True) as reader:
        for number, frame in enumerate(reader):
            yield _drawn(video, number, frame, labels)


def sheet(videos: Sequence[AnnotatedVideo], labels: Sequence[str], count: int) -> Frame:
    """A picture of each of at most `count` videos, spread evenly: its middle annotated frame, and its name.

    Raises:
        DatasetError: no video has anybody in it.
        VideoError: one cannot be read, or ends before that frame.
    """
    peopled = [video for video in videos if video.tubes]
    if not peopled:
        raise DatasetError("no video has annotated people: nothing to show")
    chosen = np.unique(np.linspace(0, len(peopled) - 1, min(count, len(peopled))).round().astype(int))
    pictures, captions = [], []
    for video in (peopled[place] for place in chosen):
        annotated = video.annotated_frames()
        number = int(annotated[len(annotated) // 2])
        with open_video(video.path, allow_damaged=True) as reader:
            frame = next(reader.window(number, number), None)
        if frame is None:
            raise DatasetError(f"{video.path} ends before frame {number}, which is annotated: `yowo-deploy data check`")
        pictures.append(_drawn(video, number, frame, labels))
        captions.append(f"{video.name}, {number}")
    return contact_sheet(pictures, COLUMNS, captions, CELL_WIDTH)


def _drawn(video: AnnotatedVideo, number: int, frame_bgr: Frame, labels: Sequence[str]) -> Frame:
    present = [(tube, int(np.searchsorted(tube.frames, number))) for tube in video.tubes]
    rows = [(t, i) for t, i in present if i < len(t.frames) and t.frames[i] == number]
    if not rows:
        return frame_bgr
    frame_wh = np.array(frame_bgr.shape[1::-1], np.float32)
    scale = np.tile(frame_wh / np.array(video.size_wh or frame_wh, np.float32), 2)
    boxes = np.asarray(np.array([tube.xyxy[place] for tube, place in rows]) * scale, np.float32)
    class_id = np.array([tube.class_id for tube, _ in rows], np.int64)
    person = np.array([tube.tracker_id or 0 for tube, _ in rows], np.int64)
    unsaid = np.full(len(rows), np.nan, np.float32)
    return draw(frame_bgr, Detections(boxes, unsaid, class_id, unsaid[:, None], person), labels)
