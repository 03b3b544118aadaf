"""Read and write CocoVID, COCO's JSON with videos and instances."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yowo_deploy.datasets.data_json import Annotations, relative_to
from yowo_deploy.datasets.formats.box_rows import MAX_BOXES, UNKNOWN, Footage, Options, Rows, is_footage
from yowo_deploy.datasets.formats.sidecar import KEY, file_names, read_remarks, remarks_of, subset_of
from yowo_deploy.datasets.validation import MAX_FRAMES, real, text_in, whole
from yowo_deploy.datasets.yowo_folders import first_number
from yowo_deploy.errors import DatasetError, foreign
from yowo_deploy.json_text import to_json
from yowo_deploy.video.suffixes import is_video


def read_cocovid(file: Path, content: dict[str, Any], options: Options) -> tuple[list[str], list[Rows], list[str]]:
    """Boxes are corner and size in pixels, `instance_id` (or `track_id`) is a person, ids are any numbers.

    Classes stand in the order of their ids. `frame_id` counts from 0, or from 1 as converters of MOTChallenge write it,
    see `_shift`. Frames of a video that have no image were not looked at. Boxes without a person that overlap from
    frame to frame are one. Areas to ignore are left out: `iscrowd`, `ignore`, and category -1 (CenterTrack, ByteTrack).

    Returns:
        Names of classes, videos, notes for the user.

    Raises:
        DatasetError: a field names what is not there; with its place in the file.
    """
    footage = Footage(file.parent, options)
    if not (isinstance(content.get("videos"), list) and all("video_id" in row for row in content["images"])):
        raise DatasetError(f"{file} describes single pictures: expected `videos`, and `video_id` in each of its images")
    for table in ("videos", "images", "categories"):
        _refuse_twice(content[table], "id", f"{file}: {table}")
    names = {
        whole(row["id"]): text_in(row["name"])
        for row in sorted(content["categories"], key=lambda row: whole(row["id"]))
    }
    images = {_key(row["id"]): row for row in content["images"]}
    first = {_key(image["video_id"]): image for image in reversed(content["images"])}
    videos = {
        _key(row["id"]): _rows(f"{file}: videos[{place}]", row, first.get(_key(row["id"]), {}), footage)
        for place, row in enumerate(content["videos"])
    }
    listed: dict[Any, list[dict[str, Any]]] = {video_id: [] for video_id in videos}
    for place, image in enumerate(content["images"]):
        with foreign(f"{file}: images[{place}]", DatasetError):
            _of(listed, image.get("video_id"), f"{file}: images[{place}]: video_id").append(image)
            _frame_id(image)
    shifts, scored = _shifts(videos, listed, footage), Counter[Any]()
    for place, row in enumerate(content["annotations"]):
        where = f"{file}: annotations[{place}]"
        image = _of(images, row.get("image_id"), f"{where}: image_id")
        video_id = _key(image["video_id"])
        if area := _ignored(row, names):
            videos[video_id].left_out[area] += 1
            continue
        label = _of(names, row.get("category_id"), f"{where}: category_id")
        with foreign(where, DatasetError):
            if not isinstance(row["bbox"], list):  # a text of four digits is four numbers as well
                raise ValueError("bbox is not a list of numbers")
            x, y, w, h = map(real, row["bbox"])
            of_others = row.get("attributes")  # where CVAT and Datumaro put it
            of_others = of_others if isinstance(of_others, dict) else {}
            named = row.get("instance_id", row.get("track_id", of_others.get("track_id")))
            person = UNKNOWN if named is None else whole(named)
        videos[video_id].add(_frame_id(image) + shifts[video_id], person, label, (x, y, x + w, y + h))
        scored[video_id] += "score" in row
    for video_id, rows in videos.items():
        if scored[video_id]:
            rows.guessed.append(f"{scored[video_id]} annotations have a score, as detections do: taken as people")
        _refuse_twice(
            [{"frame_id": _frame_id(image)} for image in listed[video_id]], "frame_id", f"{file}: {rows.name}"
        )
        rows.looked_at = rows.judged = frames = {_frame_id(image) + shifts[video_id] for image in listed[video_id]}
        if frames and not 0 <= min(frames) <= max(frames) < MAX_FRAMES:
            raise DatasetError(f"frame_id {min(frames)} to {max(frames)}, expected 0 to {MAX_FRAMES - 1}")
        rows.frames = rows.frames or 1 + max(frames, default=-1)
        if len(frames) == rows.frames and rows.frames - 1 in frames:
            rows.judged = None  # all were looked at
    return list(names.values()), list(videos.values()), []


def _refuse_twice(rows: Sequence[dict[str, Any]], field: str, where: str) -> None:
    """Raise a DatasetError where two rows have one value of a field, as files that were put together have."""
    value, count = next(iter(Counter(_key(row[field]) for row in rows).most_common(1)), (None, 0))
    if count > 1:
        raise DatasetError(f"{where}: {count} have {field} {value!r}, expected one each: import the files one by one")


def _ignored(row: dict[str, Any], names: dict[int, str]) -> str:
    """What an annotation that is no person is called; "" of others."""
    field = next(
        (name for name in ("iscrowd", "ignore") if row.get(name) not in (None, 0, "0", False, "false", "False")), None
    )
    if field is None and row.get("category_id") == -1 and -1 not in names:
        field = "category_id -1"
    return f"areas to ignore ({field})" if field else ""


def _frame_id(image: dict[str, Any]) -> int:
    if "frame_id" not in image and "frame_index" not in image:
        raise ValueError("no frame_id")
    return whole(image["frame_id"] if "frame_id" in image else image["frame_index"])  # TAO's name


def _shifts(videos: dict[Any, Rows], listed: dict[Any, list[dict[str, Any]]], footage: Footage) -> dict[Any, int]:
    """What is added to the frame_id of each video, so that it counts from 0; noted where it is guessed.

    - Where pictures' numbers are a constant away from frame_id and the video or its pictures are there, a picture's
      number places it: ByteTrack's half of a sequence has frame_id 1 for 000302.jpg.
    - Else, where every video begins with frame_id 1 (and its picture is not 000002.jpg), that is the first frame; also
      where one does, and frame_id is the number of the picture everywhere.
    """
    ids = {video_id: [_frame_id(image) for image in rows] for video_id, rows in listed.items()}
    numbers = {video_id: [_number(image) for image in rows] for video_id, rows in listed.items()}
    firsts = [min(of_video) for of_video in ids.values() if of_video]
    from_1 = all(first == 1 for first in firsts) or (min(firsts) == 1 and list(numbers.values()) == list(ids.values()))
    picture_0 = any(number == 0 for of_video in numbers.values() for number in of_video)
    found = {}
    for video_id, rows in videos.items():
        pairs = list(zip(numbers[video_id], ids[video_id], strict=True))
        gaps = {None if number is None else number - frame_id for number, frame_id in pairs}
        gap = gaps.pop() if len(gaps) == 1 else None
        shift = -1 if from_1 and gap != 1 and rows.remarks is None else 0
        if gap is not None and rows.remarks is None and (facts := footage.facts(rows.path)):
            base = first_number(rows.path) if rows.path.is_dir() else int(not picture_0)
            fits = all(number is not None and 0 <= number - base < facts.frames for number, _ in pairs)
            if fits and (gap or rows.path.is_dir()):
                shift = gap - base
        if shift:
            what = "begin at 1: taken as the first frame" if shift == -1 else f"are those of the pictures, {shift:+d}"
            rows.guessed.append(f"frame numbers {what}")
        elif pairs and rows.remarks is None and gap != 1 and min(firsts) > 0:
            rows.guessed.append(f"frame numbers begin at {min(firsts)}: counted from 0")
        found[video_id] = shift
    return found


def _number(image: dict[str, Any]) -> int | None:
    """With which the name of a picture ends."""
    found = re.search(r"(\d{1,9})\.\w+$", str(image.get("file_name", "")))
    return int(found.group(1)) if found else None


def _rows(where: str, row: dict[str, Any], image: dict[str, Any], footage: Footage) -> Rows:
    """Of a video, and the first of its images."""
    name_given = text_in(row["name"] if "name" in row else row["file_name"])
    path = footage.find(str(row.get("path") or row.get("file_name") or name_given))
    folder = re.split(r"[/\\][^/\\]*$", str(image.get("file_name", "")))[0]  # of frames
    if not is_footage(path) and folder != image.get("file_name", ""):
        pictures = footage.find(folder)
        path = pictures if is_footage(pictures) else path
    is_ours = KEY in row  # and has the name itself
    name = name_given.rpartition(".")[0] if is_video(name_given) and not is_ours else name_given
    size = int(row.get("width") or image.get("width") or 0), int(row.get("height") or image.get("height") or 0)
    found = footage.rows(name, path, size, int(row.get("length") or 0), float(row.get("fps") or 0))
    found.subset, found.remarks = str(row.get("split", "")), read_remarks(where, row.get(KEY))
    return found


def _key(value: Any) -> Any:
    """An id, which some tools write as text in one table and as a number in another."""
    is_number = isinstance(value, str) and value.isdecimal() and len(value) < 19 and str(int(value)) == value
    return int(value) if is_number else value


def _of(table: dict[Any, Any], key: Any, where: str) -> Any:
    """What stands under `key`.

    Raises:
        DatasetError: nothing does.
    """
    if _key(key) not in table:
        known = ", ".join(str(each) for each in list(table)[:5])
        known = f"one of {known}{', ...' * (len(table) > 5)} ({len(table)})" if table else "none: that table is empty"
        raise DatasetError(f"{where} {key!r} is not there, expected {known}")
    return table[_key(key)]


def cocovid_texts(annotations: Annotations, folder: Path) -> tuple[dict[Path, str], list[str]]:
    """`annotations.json`; fields of our own hold what CocoVID lacks (path, fps, split, remarks).

    Raises:
        DatasetError: the videos have too many frames, each of which is a row.
    """
    total = sum(video.frames if video.judged is None else len(video.judged) for video in annotations.videos)
    if total > MAX_BOXES:
        raise DatasetError(f"{total} frames, each a row in CocoVID, expected {MAX_BOXES} at most: another format")
    content = to_json(_content(annotations, folder), allow_nan=False)
    return {folder / "annotations.json": f"{content}\n"}, []


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
