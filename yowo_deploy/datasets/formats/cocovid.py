"""CocoVID, COCO's JSON with videos and instances. Knows that one file; nothing of other formats."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yowo_deploy.datasets.base import AnnotatedVideo
from yowo_deploy.datasets.data_json import Annotations, relative_to
from yowo_deploy.datasets.formats.box_rows import (
    MAX_BOXES,
    NOBODY,
    Footage,
    Options,
    Rows,
    annotations_of,
    recording_of,
    sides_of,
)
from yowo_deploy.datasets.formats.sidecar import (
    KEY,
    Written,
    file_names,
    lost_of,
    notes_of,
    read_remarks,
    refuse_unspeakable,
    remarks_of,
    subset_of,
)
from yowo_deploy.datasets.validation import MAX_FRAMES
from yowo_deploy.errors import DatasetError
from yowo_deploy.files import refuse_existing, writable_folder, write_text
from yowo_deploy.video.suffixes import is_video


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
        rows: dict[Any, Rows] = {row["id"]: Rows(options.allowance) for row in content["videos"]}
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
        told = [read_remarks(f"{file}: videos[{n}]", row.get(KEY)) for n, row in enumerate(content["videos"])]
        videos = []
        for row, each in zip(content["videos"], told, strict=True):
            seen = sorted(set(frames[row["id"]]))
            tubes = rows[row["id"]].tubes(classes, looked_at=seen, told=each)
            videos.append(_video(row, tubes, seen, first.get(row["id"], {}), footage))
        sides = sides_of(
            (video.name, str(row.get("split", ""))) for video, row in zip(videos, content["videos"], strict=True)
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(
            f"{file} is not CocoVID ({error!r}): expected categories, videos, images, annotations"
        ) from error
    return annotations_of(classes, videos, sides, told), []


def write_cocovid(annotations: Annotations, folder: Path, overwrite: bool = False) -> Written:
    """`annotations.json`; what CocoVID has no word for (path, fps, split, remarks) stands in fields of its own.

    Raises:
        DatasetError: the annotations cannot be written, or their videos have too many frames, each of which is a row.
        OutputError: the file is there already, and `overwrite` is not said.
    """
    refuse_unspeakable(annotations)
    if (total := sum(_looked_at(video) for video in annotations.videos)) > MAX_BOXES:
        raise DatasetError(f"{total} frames, each a row in CocoVID, expected {MAX_BOXES} at most: another format")
    file = folder / "annotations.json"
    refuse_existing(file, overwrite)
    writable_folder(folder)
    write_text(file, json.dumps(_content(annotations, folder), ensure_ascii=False, allow_nan=False) + "\n")
    return Written([file], lost_of(annotations), notes_of(annotations, judged=True))


def _looked_at(video: AnnotatedVideo) -> int:
    return video.frames if video.judged is None else len(video.judged)


def _content(annotations: Annotations, folder: Path) -> dict[str, Any]:
    videos: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    folders = file_names(video.name for video in annotations.videos)
    for video_id, video in enumerate(annotations.videos, 1):
        width, height = video.size_wh or (0, 0)
        row: dict[str, Any] = {"id": video_id, "name": video.name, "width": width, "height": height}
        row |= {"fps": video.fps, "length": int(video.frames), "path": relative_to(video.path, folder)}
        row |= {"split": subset_of(annotations, video.name), KEY: remarks_of(annotations, video_id - 1)}
        videos.append(row)
        judged = np.arange(video.frames) if video.judged is None else video.judged
        seen = np.union1d(judged, video.annotated_frames()).astype(int).tolist()
        places = {frame: len(images) + place for place, frame in enumerate(seen, 1)}
        for frame, image_id in places.items():
            picture = {"file_name": f"{folders[video_id - 1]}/{frame + 1:06d}.jpg", "width": width, "height": height}
            images.append({"id": image_id, "video_id": video_id, "frame_id": frame, **picture})
        for tube in video.tubes:
            xywh = tube.xyxy.astype(np.float64)
            xywh[:, 2:] -= xywh[:, :2]
            areas = xywh[:, 2:].prod(axis=1).tolist()
            for frame, bbox, area in zip(tube.frames.tolist(), xywh.tolist(), areas, strict=True):
                about = {"id": len(boxes) + 1, "image_id": places[frame], "video_id": video_id, "bbox": bbox}
                about |= {"category_id": tube.class_id + 1, "instance_id": int(tube.tracker_id or 0)}
                boxes.append(about | {"area": area, "iscrowd": 0})
    kinds = [{"id": number, "name": name} for number, name in enumerate(annotations.classes, 1)]
    content: dict[str, Any] = {"info": {"description": "written by yowo-deploy"}, "categories": kinds}
    return content | {"videos": videos, "images": images, "annotations": boxes}


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
    if seen and not 0 <= seen[0] <= seen[-1] < MAX_FRAMES:
        raise ValueError(f"frame_id {seen[0]} to {seen[-1]}, expected 0 to {MAX_FRAMES - 1}")
    frames = int(row.get("length") or (facts.frames if facts else 0) or max(seen, default=-1) + 1)
    judged = None if len(seen) == frames and seen[-1:] == [frames - 1] else np.array(seen, np.int64)
    fps = float(row["fps"]) if row.get("fps") else facts.fps if facts else None
    is_ours = KEY in row  # and has the name itself
    called = is_video(said) and not is_ours
    name = said.rpartition(".")[0] if called else said
    video = AnnotatedVideo(name, recording_of(name), path, frames, tubes, size_wh, judged, fps)
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
