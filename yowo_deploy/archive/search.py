"""Search in the tubes of an archive, and cut clips of what was found."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from yowo_deploy.archive.tables import TUBES, parquet
from yowo_deploy.arrays import Float
from yowo_deploy.boxes import Detections
from yowo_deploy.errors import InputError, foreign
from yowo_deploy.files import writable_folder
from yowo_deploy.postprocess.zones import Anchor, Zone, Zones

FLAT = ("source", "person", "label", "score", "first_frame", "last_frame", "first_time", "last_time", "seconds")
PADDING_S = 1.0  # of clips, before and behind
# Bytes of a row in the file: scores and times alone are more, but 5,000,000 equal rows lie in 425 kB and took 700 MiB.
LEAST_ROW, FEW_ROWS = 8, 100_000


@dataclass(frozen=True)
class Moment:
    """A person doing one thing for a while.

    Attributes:
        source: path of the video.
        person: number of the person in it.
        label, score: of the action; the mean score.
        first_frame, last_frame, first_time, last_time: of it, in a zone where one was asked for; times in seconds.
        seconds: that it lasts.
        boxes: (F, 4) corners in each of its frames, or None where they were not read.
    """

    source: str
    person: int
    label: str
    score: float
    first_frame: int
    last_frame: int
    first_time: float
    last_time: float
    seconds: float
    boxes: Float | None = None


def find(
    folder: str | os.PathLike[str],
    action: str | Sequence[str] = (),
    min_score: float = 0.0,
    seconds: float = 0.0,
    zones: Sequence[Zone] = (),
    zone_anchor: Anchor = "bottom",
    limit: int | None = None,
    boxes: bool = False,
) -> list[Moment]:
    """Moments in the results of `batch`: `yowo-deploy find` as one call.

        find("results", "wave", min_score=0.5, seconds=2)

    Args:
        folder: with `tubes.parquet`, or with those of shards.
        action: a label, or several; all by default.
        min_score: of the action, at least.
        seconds: that it lasts, at least.
        zones: `Zone`s: the person is in one of them for so long, in a row.
        zone_anchor: what of a box must be in a zone, see `Zones`.
        limit: how many, the best first; all by default.
        boxes: read the boxes too.

    Returns:
        Best first; equal ones in the order of the videos.

    Raises:
        InputError: there are no results, or they have no such action.
        MissingExtraError: pyarrow is not installed.
    """
    labels = [action] if isinstance(action, str) else list(action)
    arrow = parquet()
    compute, columns = arrow.compute, [*FLAT, *(("boxes", "width", "height") if zones or boxes else ())]
    wanted = (compute.field("score") >= min_score) & (compute.field("seconds") >= seconds)
    if labels:
        wanted &= compute.field("label").isin(labels)
    files = _tables(Path(folder))
    with foreign(f"{folder} cannot be searched", InputError):
        for file in files:
            rows = arrow.parquet.read_metadata(file).num_rows
            if rows > FEW_ROWS and rows * LEAST_ROW > file.stat().st_size:
                raise ValueError(f"{file.name} claims {rows} rows in {file.stat().st_size} bytes")
        found = arrow.concat_tables(arrow.parquet.read_table(file, columns=columns, filters=wanted) for file in files)
        if labels and not len(found):
            _refuse_unknown(arrow, files, labels)
        order = compute.sort_indices(found, sort_keys=[("score", "descending")])  # which is stable
        found_rows = found.take(order if zones or limit is None else order[:limit]).to_pylist()
        if zones:
            within = Zones(zones, zone_anchor)
            found_rows = [part for row in found_rows for part in _inside(row, within, seconds)][:limit]
        return [_moment(row) for row in found_rows]


def cut_clips(moments: Sequence[Moment], output: str | os.PathLike[str]) -> list[Path]:
    """A video of each moment, a second longer on both sides, with the person's box; see `VideoWriter`.

    Args:
        moments: from `find` with `boxes`.
        output: folder, made if it is not there.

    Raises:
        YowoError: a video is gone or damaged, or a clip cannot be written.
    """
    folder, made = writable_folder(output), []
    for number, moment in enumerate(moments, 1):
        stem, label = _plain(Path(moment.source).stem, 150), _plain(moment.label, 60)
        path = folder / f"{number:04}-{stem}-{moment.first_frame}-{label}.webm"
        _cut_clip(moment, path)
        made.append(path)
    return made


def _plain(name: str, most: int) -> str:
    """As a part of a file's name: without slashes, which labels have too, and of `most` bytes."""
    return re.sub(r"[^\w.-]+", "_", name).encode()[:most].decode(errors="ignore")


def _cut_clip(moment: Moment, path: Path) -> None:
    from yowo_deploy.video.reader import open_video  # loaded here: OpenCV costs more than a search
    from yowo_deploy.video.writer import VideoWriter
    from yowo_deploy.visuals.draw import draw

    with open_video(moment.source, allow_damaged=True) as reader:
        begin_s = reader.timestamp_s
        first_s, last_s, half_s = begin_s + moment.first_time, begin_s + moment.last_time, 0.5 / reader.fps
        if first_s - PADDING_S > begin_s:
            reader.start_at(0, first_s - PADDING_S)
        boxes = iter(() if moment.boxes is None else moment.boxes)
        with VideoWriter(path, reader.fps, reader.size_wh) as writer:
            for frame in reader:
                if reader.timestamp_s > last_s + PADDING_S:
                    break
                if reader.timestamp_s > first_s - half_s and (box := next(boxes, None)) is not None:
                    frame = draw(frame, _one(moment, box), (moment.label,))
                writer.write(frame)


def _one(moment: Moment, box: Float) -> Detections:
    score = np.array([moment.score], np.float32)
    person = np.array([moment.person], np.int64)
    return Detections(box[None], score, np.zeros(1, np.int64), score[None], person)


def _tables(folder: Path) -> list[Path]:
    """The table of a folder, or those of its shards."""
    files = [folder / TUBES] if (folder / TUBES).is_file() else sorted((folder / "shards").glob(f"*/{TUBES}"))
    if not files:
        raise InputError(
            f"{folder} holds no {TUBES}: expected the output of `yowo-deploy batch`, made with pyarrow installed"
        )
    return files


def _refuse_unknown(arrow: Any, files: Sequence[Path], labels: Sequence[str]) -> None:
    """Raise an InputError for a label that nothing has."""
    tables = [arrow.parquet.read_table(file, columns=["label"]) for file in files]
    known = sorted({label for table in tables for label in table.column(0).unique().to_pylist()})
    if unknown := [label for label in labels if label not in known]:
        raise InputError(f"no tube has the action {unknown[0]!r}, expected one of {', '.join(known) or 'none'}")


def _inside(row: dict[str, Any], zones: Zones, seconds: float) -> Iterator[dict[str, Any]]:
    """The stretches of a row in which the person is in a zone, if they last long enough."""
    boxes = np.array(row["boxes"]).reshape(-1, 4)
    is_in = [bool(zones.of_box(box, row["width"], row["height"])) for box in boxes.tolist()]
    step_s = row["seconds"] / max(1, len(boxes))
    changes = np.flatnonzero(np.diff([False, *is_in, False])).tolist()
    for begin, end in zip(changes[::2], changes[1::2], strict=True):
        if (end - begin) * step_s >= seconds:
            first, last = row["first_frame"] + begin, row["first_frame"] + end - 1
            first_s = row["first_time"] + begin * step_s
            times = {"first_time": first_s, "last_time": first_s + (end - begin - 1) * step_s}
            lasts = {"seconds": (end - begin) * step_s, "boxes": row["boxes"][4 * begin : 4 * end]}
            yield {**row, "first_frame": first, "last_frame": last, **times, **lasts}


def _moment(row: dict[str, Any]) -> Moment:
    """A ValueError or TypeError where a table of others has no text or finite number in its place."""
    boxes = np.array(row["boxes"], np.float32).reshape(-1, 4) if "boxes" in row else None
    numbers = [row[name] for name in FLAT if name not in ("source", "label")]
    texts = isinstance(row["source"], str) and isinstance(row["label"], str)
    if not (texts and all(map(math.isfinite, numbers)) and (boxes is None or np.isfinite(boxes).all())):
        raise ValueError("a row without a name, or with a value that is not a number")
    return Moment(**{name: row[name] for name in FLAT}, boxes=boxes)
