"""Annotations as other tools, other systems and other people's scripts write them, each with what is in it.

A case is a format, a name, files by name, and either the tubes of its first video, `label first-last x1,y1,x2,y2` with
the first box, or `!` and what the refusal says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

Case = tuple[str, str, dict[str, bytes], str]
LABELS = b'item {\n name: "walk"\n id: 1\n}\nitem { name: "run" id: 2 }\n'
WALK = "walk 0-1 1,1,9,9"


def _cvat() -> Iterator[Case]:
    def box(frame: object, outside: object = 0, x1: object = 1, **more: object) -> str:
        others = "".join(f' {key}="{value}"' for key, value in more.items())
        return f'<box frame="{frame}" outside="{outside}" xtl="{x1}" ytl="1" xbr="9" ybr="9"{others}/>'

    def task(*shapes: str, label: str = "walk", meta: str = "", encoding: str = "utf-8", code: str = "") -> bytes:
        head = f'<?xml version="1.0" encoding="{encoding}"?><annotations><meta><task><name>a</name><size>20</size>'
        body = f'{head}{meta}</task></meta><track id="0" label="{label}">{"".join(shapes)}</track></annotations>'
        return body.encode(code or encoding)

    two = box(0), box(2, 1)
    for encoding, label in (("utf-16", "ходьба"), ("iso-8859-1", "gehört"), ("windows-1252", "“x”"), ("utf-8", "走る")):
        yield "cvat", encoding, {"a.xml": task(*two, label=label, encoding=encoding)}, f"{label} 0-1 1,1,9,9"
    yield "cvat", "mark of UTF-8", {"a.xml": b"\xef\xbb\xbf" + task(*two)}, WALK
    yield "cvat", "name in capitals", {"ANNOTATIONS.XML": task(*two)}, WALK
    yield "cvat", "Python's words", {"a.xml": task(box(0, "False", keyframe="True"), box(2, "True"))}, WALK
    yield "cvat", "boxes in no order", {"a.xml": task(two[1], two[0])}, WALK
    yield "cvat", "outside at first", {"a.xml": task(box(0, 1), box(3), box(5, 1))}, "walk 3-4 1,1,9,9"
    filtered = "<start_frame>4</start_frame><stop_frame>12</stop_frame><frame_filter>step=2</frame_filter>"
    boxes = box(4, keyframe=1), box(6, x1=3, keyframe=0), box(8, x1=5, keyframe=1), box(10, 1, x1=5, keyframe=1)
    yield "cvat", "every second frame", {"a.xml": task(*boxes, meta=filtered)}, "walk 4-8 1,1,9,9"
    turned = '<box frame="0" outside="0" xtl="10" ytl="10" xbr="30" ybr="20" rotation="{}"/>'
    yield "cvat", "a quarter turn", {"a.xml": task(turned.format(90))}, "walk 0-0 15,5,25,25"
    ellipse = '<ellipse frame="0" outside="0" cx="20" cy="20" rx="10" ry="5" rotation="90"/>'
    yield "cvat", "an ellipse turned", {"a.xml": task(ellipse)}, "walk 0-0 15,10,25,30"
    mask = '<mask frame="0" outside="0" rle="1,2" left="3" top="4" width="5" height="6"/>'
    yield "cvat", "a mask", {"a.xml": task(mask)}, "walk 0-0 3,4,8,10"
    files = {".DS_Store": b"\0", "Thumbs.db": b"\xd0\xcf", "__MACOSX/._a.xml": b"\0\5", "._a.xml": b"\0\5"}
    yield "cvat", "beside files of systems", {"a.xml": task(*two), **files}, WALK
    yield "cvat", "a frame that is none", {"a.xml": task(box("0.0"))}, "!invalid literal"
    yield "cvat", "decimal commas", {"a.xml": task(box(0, x1="1,5"))}, "!could not convert"
    yield "cvat", "GBK", {"a.xml": task(*two, label="走", encoding="gbk")}, "!multi-byte encodings"
    yield (
        "cvat",
        "another namespace",
        {"a.xml": task(*two).replace(b"<annotations>", b'<annotations xmlns="a">')},
        "!begins with",
    )


def _studio() -> Iterator[Case]:
    def task(*keys: dict[str, Any], **value: Any) -> dict[str, bytes]:
        sides = {"x": 10, "y": 10, "width": 20, "height": 20, "rotation": 0, "enabled": True}
        of_region = {"framesCount": 20, "duration": 0.8, "labels": ["walk"], "sequence": [sides | key for key in keys]}
        region = {"type": "videorectangle", "id": "a", "value": of_region | value}
        content = [{"id": 1, "data": {"video": "a.mp4"}, "annotations": [{"result": [region]}]}]
        return {"a.json": json.dumps(content).encode()}

    first, end, at = {"frame": 1}, {"frame": 5, "enabled": False}, "10,10,30,30"
    yield "labelstudio", "a stretch", task(first, end), f"walk 0-4 {at}"
    yield "labelstudio", "to the end", task(first), f"walk 0-19 {at}"
    yield "labelstudio", "keyframes in no order", task(end, first), f"walk 0-4 {at}"
    yield "labelstudio", "frames as text", task({"frame": "1"}, end | {"frame": "5"}), f"walk 0-4 {at}"
    yield "labelstudio", "frames as decimals", task({"frame": 1.0}, end | {"frame": 5.0}), f"walk 0-4 {at}"
    yield "labelstudio", "half a frame", task(first, end | {"frame": 4.6}), "!4.6, expected a whole number"
    yield "labelstudio", "enabled as text", task(first, end | {"enabled": "false"}), "!enabled is 'false'"
    yield "labelstudio", "enabled as a number", task(first, end | {"enabled": 0}), f"walk 0-4 {at}"
    yield "labelstudio", "twice in a frame", task(first, end, end | {"x": 20}), f"walk 0-4 {at}"
    yield "labelstudio", "no count", task(first, end, framesCount=None, duration=None), f"walk 0-4 {at}"
    yield "labelstudio", "UTF-16", {"a.json": task(first, end)["a.json"].decode().encode("utf-16")}, f"walk 0-4 {at}"


def _ava() -> Iterator[Case]:
    row, walk = "v,0.0,0.1,0.2,0.5,0.6,1,0", "walk 0-0 0.1,0.2,0.5,0.6"

    def rows(*lines: str, end: str = "\n", code: str = "utf-8", name: str = "a.csv", **more: bytes) -> dict[str, bytes]:
        return {name: end.join([*lines, ""]).encode(code), **(more or {"labels.pbtxt": LABELS})}

    for name, end in (("Windows", "\r\n"), ("old Macs", "\r")):
        yield "ava", f"line ends of {name}", rows(row, end=end), walk
    yield "ava", "UTF-16", rows(row, code="utf-16"), walk
    yield "ava", "a mark and a header", rows("video,time,x1,y1,x2,y2,action,person", row, code="utf-8-sig"), walk
    yield "ava", "semicolons, decimal commas", rows(row.replace(",", ";").replace(".", ",")), walk
    yield "ava", "tabs", rows(row.replace(",", "\t")), walk
    yield "ava", "quotes", rows(",".join(f'"{cell}"' for cell in row.split(","))), walk
    yield "ava", "blanks", rows(row.replace(",", ", ")), walk
    yield "ava", "blank lines at first", rows("", "", row), walk
    yield "ava", "name in capitals", rows(row, name="A.CSV"), walk
    yield "ava", "label map in capitals", {"a.csv": row.encode(), "LABELS.PBTXT": LABELS}, walk
    yield "ava", "ids with decimals", rows(row.replace(",1,0", ",1.0,0.0")), walk
    yield "ava", "a clock's time", rows(row.replace("0.0", "00:00:00.0", 1), row), "!00:00:00.0"
    yield "ava", "a first time that is none", rows(row.replace("0.0", "0x0", 1), row), "!0x0"
    yield "ava", "a name for an action", rows(row.replace(",1,0", ",walk,0")), "!'walk', expected"
    yield "ava", "an octal id", rows(row, labels_pbtxt=LABELS) | {"labels.pbtxt": b'item { name: "walk" id: 01 }'}, walk
    octal = {"labels.pbtxt": b'item { name: "eight" id: 010 }'}
    yield "ava", "an octal id of eight", rows(row.replace(",1,0", ",8,0")) | octal, "eight 0-0 0.1,0.2,0.5,0.6"


def _others() -> Iterator[Case]:
    two = b"1,1,1,1,8,8,1,1,1\n2,1,1,1,8,8,1,1,1\n"
    for name, content in (
        ("a mark", b"\xef\xbb\xbf" + two), ("CRLF", two.replace(b"\n", b"\r\n")), ("blanks", two.replace(b",", b" ")),
        ("a comma at the end", two.replace(b"\n", b",\n")), ("decimals", two.replace(b"1,1,1,1", b"1.0,1.0,1.0,1.0")),
    ):  # fmt: skip
        yield "mot", name, {"a/gt/gt.txt": content}, "person 0-1 1,1,9,9"
    yield "mot", "in capitals", {"a/gt/GT.TXT": two}, "person 0-1 1,1,9,9"
    yield "mot", "semicolons", {"a/gt/gt.txt": two.replace(b",", b";")}, "!columns"
    metadata = {"1": {"vid": "1", "z": ["0.04"], "xy": [2, "1", 1, 8, 8], "av": {"1": 0}}}
    via: dict[str, Any] = {"attribute": {"1": {"aname": "a", "options": {"0": "walk"}}}, "metadata": metadata}
    via |= {"view": {"1": {"fid_list": [1]}}, "file": {"1": {"fname": "C:\\films\\a.mp4"}}}
    yield "via", "numbers as text", {"a.json": json.dumps(via).encode()}, "walk 1-1 1,1,9,9"
    image = {"id": "i", "video_id": 1, "frame_id": 0, "file_name": "a/1.jpg"}
    note = {"id": "x", "image_id": "i", "category_id": 1.0, "track_id": "3", "bbox": [1, 1, 8, 8]}
    coco: dict[str, Any] = {"categories": [{"id": "1", "name": "walk"}], "videos": [{"id": 1, "name": "a"}]}
    coco |= {"images": [image], "annotations": [note]}
    yield "cocovid", "ids as text", {"a.json": json.dumps(coco).encode()}, "walk 0-0 1,1,9,9"
    half = coco | {"categories": [{"id": 1.5, "name": "walk"}]}
    yield "cocovid", "half an id", {"a.json": json.dumps(half).encode()}, "!1.5, expected a whole number"
    labels = {f"labels/Walk/v_a_c01/{n:05d}.txt": b"1 1 1 9 9\n" for n in (1, 2)}
    there = {f"rgb-images/Walk/v_a_c01/{n:05d}.jpg": b"\xff" for n in (1, 2)} | labels
    for name, listed in (
        ("Windows' slashes", "\r\n".join(labels).replace("/", "\\")), ("dots", "./" + "\n./".join(labels)),
        ("another machine's paths", "/home/a/" + "\n/home/a/".join(labels)), ("a mark", "\ufeff" + "\n".join(labels)),
    ):  # fmt: skip
        yield "yowo-folders", name, there | {"trainlist.txt": listed.encode()}, "Walk 0-1 1,1,9,9"
    none = dict.fromkeys(labels, b"0 1 1 9 9") | {"trainlist.txt": "\n".join(labels).encode()}
    yield "yowo-folders", "class 0", there | none, "!no number from 1 on"


def exports() -> dict[str, Case]:
    """By format and name."""
    makers: tuple[Callable[[], Iterator[Case]], ...] = (_cvat, _studio, _ava, _others)
    every = [case for make in makers for case in make()]
    found = {f"{kind}: {name}": (kind, name, files, said) for kind, name, files, said in every}
    assert len(found) == len(every)
    return found
