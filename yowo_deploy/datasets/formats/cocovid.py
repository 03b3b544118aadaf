"""CocoVID, COCO's JSON with videos and instances. Knows that one file; nothing of other formats."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yowo_deploy.artifacts import writable_folder, write_text
from yowo_deploy.datasets.base import AnnotatedVideo
from yowo_deploy.datasets.formats.rows import (
    NOBODY,
    Footage,
    Options,
    Rows,
    annotations_of,
    recording_of,
    sides_of,
    subset_of,
)
from yowo_deploy.datasets.native import Annotations, relative_to
from yowo_deploy.errors import DatasetError


def read_cocovid(file: Path, content: dict[str, Any], options: Options) -> tuple[Annotations, list[str]]:
    """Boxes are corner and size in pixels, frames count from 0, `instance_id` is a person, ids are any numbers.

    Classes stand in the order of their ids. Frames of a video that have no image were not looked at. Without
    `instance_id` (or `track_id`) boxes that overlap from frame to frame are one person.

    Raises:
        DatasetError: a field is missing, or names what is not there; with its place in the file.
    """
    footage = Footage(file.parent, options)
    try:
        kinds = sorted(content["categories"], key=lambda row: int(row["id"]))
        names = {int(row["id"]): str(row["name"]) for row in kinds}
        images = {row["id"]: row for row in content["images"]}
        rows: dict[Any, Rows] = {row["id"]: Rows() for row in content["videos"]}
        frames: dict[Any, list[int]] = {row["id"]: [] for row in content["videos"]}
        for number, image in enumerate(content["images"]):
            _of(frames, image.get("video_id"), f"{file}: images[{number}]: video_id").append(int(image["frame_id"]))
        for number, row in enumerate(content["annotations"]):
            where = f"{file}: annotations[{number}]"
            image = _of(images, row.get("image_id"), f"{where}: image_id")
            label = _of(names, row.get("category_id"), f"{where}: category_id")
            x, y, w, h = map(float, row["bbox"])
            person = row.get("instance_id", row.get("track_id"))
            corners = (x, y, x + w, y + h)
            rows[image["video_id"]].add(
                int(image["frame_id"]), NOBODY if person is None else int(person), label, corners
            )
        classes = list(names.values())
        first = {image["video_id"]: image for image in reversed(content["images"])}
        videos = [
            _video(row, rows[row["id"]].tubes(classes, looked_at=seen), seen, first.get(row["id"], {}), footage)
            for row in content["videos"]
            for seen in [sorted(set(frames[row["id"]]))]
        ]
        sides = sides_of(
            (video.name, str(row.get("split", ""))) for video, row in zip(videos, content["videos"], strict=True)
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(
            f"{file} is not CocoVID ({error!r}): expected categories, videos, images, annotations"
        ) from error
    return annotations_of(classes, videos, sides, content.get("info", {}).get("multi_label")), []


def write_cocovid(annotations: Annotations, folder: Path) -> list[Path]:
    """`annotations.json`; what CocoVID has no word for (path, fps, recording, split) stands in fields of its own."""
    writable_folder(folder)
    videos: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    for video_id, video in enumerate(annotations.videos, 1):
        width, height = video.size_wh or (0, 0)
        row: dict[str, Any] = {"id": video_id, "name": video.name, "width": width, "height": height}
        row |= {"fps": video.fps, "length": video.frames, "path": relative_to(video.path, folder)}
        videos.append(row | {"recording": video.group, "split": subset_of(annotations, video.name)})
        judged = np.arange(video.frames) if video.judged is None else video.judged
        seen = np.union1d(judged, video.annotated_frames()).astype(int).tolist()
        places = {frame: len(images) + place for place, frame in enumerate(seen, 1)}
        for frame, image_id in places.items():
            picture = {"file_name": f"{video.name}/{frame + 1:06d}.jpg", "width": width, "height": height}
            images.append({"id": image_id, "video_id": video_id, "frame_id": frame, **picture})
        for tube in video.tubes:
            xywh = tube.xyxy.astype(np.float64)
            xywh[:, 2:] -= xywh[:, :2]
            areas = xywh[:, 2:].prod(axis=1).tolist()
            for frame, bbox, area in zip(tube.frames.tolist(), xywh.tolist(), areas, strict=True):
                about = {"id": len(boxes) + 1, "image_id": places[frame], "video_id": video_id, "bbox": bbox}
                about |= {"category_id": tube.class_id + 1, "instance_id": tube.tracker_id}
                boxes.append(about | {"area": area, "iscrowd": 0})
    kinds = [{"id": number, "name": name} for number, name in enumerate(annotations.classes, 1)]
    content = {"info": {"multi_label": annotations.exclusive is not None}, "categories": kinds}
    content |= {"videos": videos, "images": images, "annotations": boxes}
    write_text(folder / "annotations.json", json.dumps(content, ensure_ascii=False) + "\n")
    return [folder / "annotations.json"]


def _video(
    row: dict[str, Any], tubes: Any, seen: Sequence[int], image: dict[str, Any], footage: Footage
) -> AnnotatedVideo:
    said = str(row["name"])
    path = footage.find(str(row.get("path") or row.get("file_name") or said))
    if not path.exists() and "file_name" in image:
        folder = footage.find(str(Path(image["file_name"]).parent))  # of frames
        path = folder if folder.exists() else path
    facts = footage.facts(path)
    size = (row.get("width") or image.get("width"), row.get("height") or image.get("height"))
    size_wh = (int(size[0]), int(size[1])) if size[0] and size[1] else facts.size_wh if facts else None
    frames = int(row.get("length") or (facts.frames if facts else 0) or max(seen, default=-1) + 1)
    judged = None if list(seen) == list(range(frames)) else np.array(seen, np.int64)
    fps = float(row["fps"]) if row.get("fps") else facts.fps if facts else None
    name = said.rpartition(".")[0] if said.lower().endswith((".mp4", ".avi", ".mkv", ".webm", ".mov")) else said
    video = AnnotatedVideo(
        name, str(row.get("recording") or recording_of(name)), path, frames, tubes, size_wh, judged, fps
    )
    if judged is not None and np.array_equal(judged, video.annotated_frames()):
        return AnnotatedVideo(name, video.group, path, frames, tubes, size_wh, None, fps)
    return video


def _of(table: dict[Any, Any], key: Any, where: str) -> Any:
    """What stands under `key`.

    Raises:
        DatasetError: nothing does.
    """
    if key not in table:
        known = ", ".join(str(each) for each in list(table)[:5])
        raise DatasetError(f"{where} {key!r} is not there, expected one of {known}, ... ({len(table)})")
    return table[key]
