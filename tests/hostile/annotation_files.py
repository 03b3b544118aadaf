"""Annotations, specs, pictures and videos made by hand to take memory, time or the terminal, each with its verdict."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from yowo_deploy.spec import ModelSpec

# Kind of reader, name, files by name (the first is read, or their folder), and what the refusal says; "": accepted.
Case = tuple[str, str, dict[str, bytes], str]
HUGE = "1" + "0" * 400
ESCAPE = "\x1b[2J\nError: forged"
_COUNT = "|could|expect|invalid|digit"
_NOT_FINITE = "not a finite number|cannot convert|not a finite"


def packed(value: Any) -> bytes:
    """JSON, with Python's words for numbers that are none."""
    return json.dumps(value).encode().replace(b'"HUGE"', HUGE.encode())


def zipped(name: str, content: bytes) -> bytes:
    """An archive with one member."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def _studio() -> Iterator[Case]:
    def task(*keys: dict[str, Any], labels: Any = ("walk",), data: Any = None, **value: Any) -> dict[str, bytes]:
        sequence = [{"frame": 1, "x": 1, "y": 1, "width": 9, "height": 9, "enabled": True} | key for key in keys]
        region = {"type": "videorectangle", "id": "a", "value": {"sequence": sequence, "labels": list(labels), **value}}
        one = {"id": 1, "data": data or {"video": "a.mp4"}, "annotations": [{"result": [region]}]}
        return {"a.json": packed([one])}

    far, late = "keyframes lie so far apart", "expected less than"
    for frames in (10**6 + 2, 4_900_000, 10**7, 10**9, 10**18, -1):
        yield "labelstudio", f"framesCount {frames}", task({}, framesCount=frames), far if frames > 0 else "frames -1"
    for frame, verdict in (
        (9_000_000, far),
        (10**9, late),
        ("HUGE", "too large"),
        (0, "from 1"),
    ):
        yield "labelstudio", f"keyframes 1 and {frame}", task({}, {"frame": frame}), verdict
    yield "labelstudio", "many labels, few frames", task({}, {"frame": 30_000}, labels=map(str, range(100))), far
    for number in (float("nan"), float("inf"), 1e308, "HUGE", "x", None, [], True):
        verdict = "" if number is True else "frame|finite|cannot|could not|must be|too large|TypeError|float"
        yield "labelstudio", f"corner {str(number)[:20]}", task({"x": number}), verdict
        if number is not True:
            yield "labelstudio", f"duration {str(number)[:20]}", task({}, framesCount=2, duration=number), "|Studio"
    yield "labelstudio", "escape codes in a label", task({}, labels=[ESCAPE]), "cannot be seen|none of a text|rename"
    yield "labelstudio", "half of a character", task({}, labels=["\ud800"]), "none of a text|rename"
    yield (
        "labelstudio",
        "half of a character, video",
        task({}, data={"video": "\ud800.mp4"}),
        "none of a text|surrogates",
    )
    yield "labelstudio", "signed address", task({}, data={"video": "https://h/a.mp4?X-Amz-Signature=canary"}), ""
    for name, value in (("no task", []), ("a number", [1]), ("no data", [{}]), ("nulls", [{"data": None}])):
        yield "labelstudio", name, {"a.json": packed(value)}, "no video|Studio|as labelstudio|no task"
    yield "labelstudio", "result of another type", {"a.json": packed([{"data": {"video": "a"}, "annotations": [
        {"result": {"a": 1}}]}])}, "Studio|no task"  # fmt: skip


def _cvat() -> Iterator[Case]:
    box = '<box frame="{}" outside="0" keyframe="1" xtl="{}" ytl="1" xbr="9" ybr="9"/>'

    def task(*boxes: str, meta: str = "", track: str = 'id="0" label="walk"') -> dict[str, bytes]:
        text = f"<annotations><meta><task><name>a</name>{meta}</task></meta><track {track}>{''.join(boxes)}</track>"
        return {"a.xml": f"{text}</annotations>".encode()}

    far = "keyframes lie so far apart"
    whole, word = "expected 0 to|digits", "invalid literal"
    frames = ((5 * 10**6, far), (9_999_999, far), (10**7, whole), (HUGE, whole), (-1, whole), ("nan", word), ("", word))
    for frame, verdict in frames:
        yield "cvat", f"keyframe {str(frame)[:20]}", task(box.format(0, 1), box.format(frame, 1)), verdict
    listed = '<box frame="1" outside="0" keyframe="0" xtl="1" ytl="1" xbr="9" ybr="9"/>'
    yield "cvat", "millions of deleted frames", task(box.format(0, 1), listed, box.format(9_000_000, 1)), far
    for number in ("nan", "inf", "1e400", "1e300", HUGE, "x"):
        yield "cvat", f"corner {number[:20]}", task(box.format(0, number)), _NOT_FINITE + "|could not"
    for field in ("stop_frame", "size", "start_frame", "original_size/width"):
        outer, _, inner = field.partition("/")
        for number in (HUGE, "-1", "x", str(10**9)):
            inside = f"<{inner}>{number}</{inner}><height>9</height>" if inner else number
            verdict = "" if field == "size" and number != "x" else "|expected|invalid|size|frames"
            yield "cvat", f"{field} {number[:20]}", task(box.format(0, 1), meta=f"<{outer}>{inside}</{outer}>"), verdict
    yield "cvat", "step of nothing", task(box.format(0, 1), meta="<frame_filter>step=0</frame_filter>"), ""
    yield "cvat", "track of a huge number", task(box.format(0, 1), track=f'id="{HUGE}" label="walk"'), "not a number"
    yield "cvat", "escape codes in a label", task(box.format(0, 1), track='id="0" label="&#27;[2J"'), "trusted"
    yield "cvat", "c1 codes in a label", task(box.format(0, 1), track='id="0" label="&#155;2J"'), "rename"
    laughs = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;"><!ENTITY c "&b;&b;">]><annotations>&c;</annotations>'
    yield "cvat", "laughs", {"a.xml": laughs.encode()}, "trusted"
    outside = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotations>&x;</annotations>'
    yield "cvat", "entity of another file", {"a.xml": outside.encode()}, "trusted"
    yield "cvat", "no end", {"a.xml": b"<annotations><track>"}, "trusted"
    yield "cvat", "another root", {"a.xml": b"<kml/>"}, "begins with <kml>"
    yield "cvat", "a web page", {"a.xml": b"<html/>"}, "is a web page, expected an annotation file"
    yield "cvat", "bytes", {"a.xml": bytes(range(256))}, "trusted"
    yield (
        "cvat",
        "nested deep",
        {"a.xml": b"<annotations>" + b"<a>" * 50_000 + b"</a>" * 50_000 + b"</annotations>"},
        "|trusted",
    )
    many = b"<annotations>" + b"<a/>" * 1_500_000 + b"</annotations>"
    yield "cvat", "millions of elements", {"a.xml": many}, "more elements"
    yield "cvat", "millions of elements in an archive", {"a.zip": zipped("a.xml", many)}, "more elements|MiB"
    yield "cvat", "bomb", {"a.zip": zipped("a.xml", b" " * (64 << 20))}, "MiB"
    yield "cvat", "attributes", {"a.xml": b"<annotations>" + b'<a b=""/>' * 800_000 + b"</annotations>"}, "more elem"
    yield "cvat", "archive of nothing", {"a.zip": zipped("a.txt", b"a")}, "0 XML files"
    yield "cvat", "archive cut off", {"a.zip": zipped("a.xml", b"<annotations/>" * 99)[:-9]}, "trusted"


def _via() -> Iterator[Case]:
    def project(*rows: dict[str, Any], **others: Any) -> dict[str, bytes]:
        metadata = {str(n): {"vid": "1", "z": [1.0], "xy": [2, 1, 1, 9, 9], "av": {"1": "walk"}} | row
                    for n, row in enumerate(rows)}  # fmt: skip
        content = {"attribute": {"1": {"aname": "action", "options": {}}}, "view": {"1": {"fid_list": ["1"]}}}
        content |= {"file": {"1": {"fname": "a.mp4"}}, "metadata": metadata}
        return {"a.json": packed(content | others)}

    for second in (1e9, 1e300, float("inf"), float("nan"), "HUGE", -1, "x", None):
        verdict = "expected 0 to|cannot convert|too large|as via|could not|TypeError|must be"
        yield "via", f"second {str(second)[:20]}", project({"z": [second]}), verdict
    for number in (float("nan"), float("inf"), "HUGE", "x"):
        yield "via", f"corner {str(number)[:20]}", project({"xy": [2, number, 1, 9, 9]}), _NOT_FINITE + "|as via"
    for kind in (0, 99, [], None, -1):
        yield "via", f"shape {kind}", project({"xy": [kind, 1, 1, 9, 9]}), "expected a rectangle|as via"
    for count in (0, 1, 3):
        yield "via", f"shape of {count} numbers", project({"xy": [7, *range(count)]}), "|as via"
    stretches = [{"z": [n, n + 1.0], "xy": []} for n in range(2_000)]
    yield "via", "stretches without end", project(*stretches, {}), "stretches of time, expected"
    for name in ("attribute", "view", "file", "metadata"):
        for value in ({}, [], None, {"1": None}):
            verdict = "no video" if name == "view" and value == {} else "|as via|attribute"
            yield "via", f"{name} {value}", project({}, **{name: value}), verdict
    yield "via", "escape codes", project({"av": {"1": ESCAPE}}), "rename"
    yield "via", "half of a character", project({}, file={"1": {"fname": "\udcff.mp4"}}), "none of a text"


def _cocovid() -> Iterator[Case]:
    def file(image: Any = (), video: Any = (), box: Any = (), **others: Any) -> dict[str, bytes]:
        content: dict[str, Any] = {"categories": [{"id": 1, "name": "walk"}]}
        content["videos"] = [{"id": 1, "name": "a", "width": 64, "height": 48} | dict(video)]
        content["images"] = [{"id": 1, "video_id": 1, "frame_id": 0, "file_name": "a/0.jpg"} | dict(image)]
        content["annotations"] = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9]} | dict(box)]
        return {"a.json": packed(content | others)}

    for number in (10**9, 10**18, "HUGE", -1, float("inf"), "x", None, []):
        yield (
            "cocovid",
            f"frame_id {str(number)[:20]}",
            file({"frame_id": number}),
            "expected 0|as cocovid|frame|whole number",
        )
        yield "cocovid", f"length {str(number)[:20]}", file(video={"length": number}), "|expected|as cocovid"
        yield "cocovid", f"width {str(number)[:20]}", file(video={"width": number}), "|expected|as cocovid"
        yield "cocovid", f"fps {str(number)[:20]}", file(video={"fps": number}), "|expected|as cocovid"
        yield "cocovid", f"instance {str(number)[:20]}", file(box={"instance_id": number}), "|expected|as cocovid"
        yield "cocovid", f"id {str(number)[:20]}", file({"id": number}), "is not there|as cocovid"
        yield "cocovid", f"corner {str(number)[:20]}", file(box={"bbox": [number, 1, 2, 3]}), "|finite|as cocovid"
    for name in ("categories", "videos", "images", "annotations"):
        for value in ({}, [], None, [None], [{}]):
            yield "cocovid", f"{name} {value}", file(**{name: value}), "|as cocovid|is not there|no video"
    yield "cocovid", "escape codes", file(video={"name": ESCAPE}), "none of a text|name"
    yield "cocovid", "address with a password", file(video={"name": "rtsp://u:canary@h/a"}), ""


def _texts_for_lists() -> Iterator[Case]:
    """A text of digits is as many numbers, where a list of numbers is expected; and other kinds of values."""
    box = {"id": 1, "image_id": 1, "category_id": 1}
    coco: dict[str, Any] = {"categories": [{"id": 1, "name": "walk"}], "videos": [{"id": 1, "name": "a"}]}
    coco["images"] = [{"id": 1, "video_id": 1, "frame_id": 0, "file_name": "a/0.jpg"}]
    for of in ("1234", {"0": 1}, 4, [1] * 1_000_000, ["1", "1", "9", [9]]):
        yield (
            "cocovid",
            f"box {str(of)[:20]}",
            {"a.json": packed(coco | {"annotations": [box | {"bbox": of}]})},
            "annot",
        )
    row = {"vid": "1", "z": [1.0], "xy": [2, 1, 1, 9, 9], "av": {"1": "walk"}}
    via: dict[str, Any] = {"attribute": {"1": {"aname": "action", "options": {}}}, "view": {"1": {"fid_list": ["1"]}}}
    via["file"] = {"1": {"fname": "a.mp4"}}
    for change in ({"z": "5"}, {"z": {"0": 1}}, {"xy": "21199"}, {"xy": {"2": 1}}, {"av": [1]}, {"z": [1, 2, 3]}):
        verdict = "times|expected a rectangle|as via"
        yield "via", f"with {change}", {"a.json": packed(via | {"metadata": {"1": row | change}})}, verdict
    tube = {"video": "a", "class": "walk", "frames": [0, 1], "boxes": [[1, 1, 9, 9]] * 2}
    content: dict[str, Any] = {"format": "yowo-deploy data", "version": 1, "classes": ["walk"]}
    content["videos"] = [{"name": "a", "path": "a.mp4", "fps": 25, "frames": 10, "size": [64, 48]}]
    for change in ({"boxes": ["1234", "1234"]}, {"boxes": "1234"}, {"frames": "01"}, {"frames": {"0": 0, "1": 1}}):
        yield (
            "data",
            f"tube with {change}",
            {"data.json": packed(content | {"tubes": [tube | change]})},
            "expected|list",
        )


def _packages() -> Iterator[Case]:
    """Archives of CVAT whose directory lies."""
    text = b'<annotations><meta><task><name>a</name></task></meta><track id="0" label="walk"></track></annotations>'
    good = zipped("annotations.xml", text)
    at = good.index(b"PK\x01\x02")
    changes = {"wrong checksum": (16, b"\1\2\3\4"), "unknown compression": (10, b"\x63\0"), "offset": (42, b"\xff" * 4),
               "larger": (24, b"\xff\xff\xff\x7f"), "encrypted": (8, b"\1\0")}  # fmt: skip
    for name, (place, of) in changes.items():
        lying = good[: at + place] + of + good[at + place + len(of) :]
        yield "cvat", f"archive: {name}", {"a.zip": lying}, "trusted|MiB"
    yield "cvat", "archive: absolute name", {"a.zip": zipped("/etc/annotations.xml", text)}, ""
    yield "cvat", "archive: half of a character", {"a.zip": good.replace(b"annotations.xml", b"annotation\xff.xml")}, ""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.xml", b" " * (40 << 20))
    yield "cvat", "archive: bomb of LZMA", {"a.zip": stream.getvalue()}, "MiB"
    for name, head in (
        ("parameter of another host", b'<!DOCTYPE a [<!ENTITY % x SYSTEM "http://127.0.0.1:9/x"> %x;]>'),
        ("an entity of 100 kB a thousand times", b'<!DOCTYPE a [<!ENTITY a "' + b"x" * 100_000 + b'">]>'),
        ("UTF-7", b'<?xml version="1.0" encoding="utf-7"?>'),
        ("UTF-16 that is none", b'<?xml version="1.0" encoding="utf-16"?>'),
    ):  # fmt: skip
        yield "cvat", name, {"a.xml": head + b"<annotations>" + b"&a;" * 1_000 + b"</annotations>"}, "trusted"


def _mot() -> Iterator[Case]:
    def sequence(text: str | bytes, info: str = "") -> dict[str, bytes]:
        content = text if isinstance(text, bytes) else text.encode()
        return {"a/gt/gt.txt": content} | ({"a/seqinfo.ini": f"[Sequence]\n{info}".encode()} if info else {})

    row = "{},1,1,1,9,9,1,1\n"
    for number in ("1e9", "1e300", "inf", "nan", "0", "-1", "x", "", HUGE):
        said = "frame|could not|cannot|expected 0|expected a whole number"
        yield "mot", f"frame {number[:20]}", sequence(row.format(number)), said
        for place, name in ((1, "person"), (2, "corner"), (6, "confidence"), (7, "class")):
            cells = ["1", "1", "1", "1", "9", "9", "1", "1"]
            cells[place] = number
            verdict = "|frame|could not|cannot|expected|finite|person|no video"
            yield "mot", f"{name} {number[:20]}", sequence(",".join(cells)), verdict
        for field in ("seqLength", "imWidth", "frameRate"):
            yield (
                "mot",
                f"{field} {number[:20]}",
                sequence(row.format(1), f"{field}={number}\n"),
                _COUNT,
            )
    yield "mot", "bytes", sequence(bytes(range(256))), "as mot|columns|decode|is not text in UTF-8"
    yield "mot", "blank lines", sequence("\n" * 3_000_000), "|no box|no video"
    yield "mot", "columns", sequence("1," * 100_000), "columns"
    yield "mot", "no sequence", sequence(row.format(1), "") | {"a/seqinfo.ini": b"nothing"}, "not a seqinfo.ini"
    yield "mot", "escape codes", sequence(row.format(1)) | {"a/gt/labels.txt": ESCAPE.encode()}, "rename"


def _ava() -> Iterator[Case]:
    def rows(*lines: str, **others: bytes) -> dict[str, bytes]:
        return {"a.csv": "\n".join(lines).encode(), **{name.replace("_", "."): of for name, of in others.items()}}

    row = "a,{},0.1,0.1,0.5,0.5,{},1"
    for number in ("1e9", "1e300", "inf", "nan", "-1", "x", HUGE):
        yield "ava", f"second {number[:20]}", rows(row.format(number, 1)), "second|frame|could not|finite|no video"
        cells = row.format(1, 1).replace("0.5", number)
        yield "ava", f"corner {number[:20]}", rows(cells), "|corner|could not|finite"
        yield "ava", f"action {number[:20]}", rows(row.format(1, number)), "action|invalid|digits|expected"
    yield "ava", "a hundred days of seconds", rows(row.format(0, 1), row.format(399_000, 1)), ""
    yield "ava", "a field without end", rows('a,"' + "x" * 200_000), "field|columns|as ava"
    yield "ava", "nul", rows("a,1,\0,1,1,1,1"), "could not|as ava"
    yield "ava", "label map of braces", rows(row.format(1, 1), labels_pbtxt=b"item {" * 200_000), "protobuf|field"
    yield "ava", "label map of signs", rows(row.format(1, 1), labels_pbtxt=b"a:1 " * 400_000), "|words|no class"
    yield "ava", "label of a huge id", rows(row.format(1, 1), labels_pbtxt=b'item{id:99999999 name:"a"}'), "id from 1"
    yield "ava", "label map too long", rows(row.format(1, 1), labels_pbtxt=b" " * (5 << 20)), "MiB"


def _native() -> Iterator[Case]:
    tube = {"video": "a", "class": "walk", "frames": [0, 1], "boxes": [[1, 1, 9, 9]] * 2}
    video = {"name": "a", "path": "a.mp4", "fps": 25, "frames": 10, "size": [64, 48]}

    def data(**changes: Any) -> dict[str, bytes]:
        content: dict[str, Any] = {"format": "yowo-deploy data", "version": 1, "classes": ["walk"]}
        return {"data.json": packed(content | {"videos": [video], "tubes": [tube], **changes})}

    yield "data", "the good one", data(), ""
    for value in (10**9, 10**7, "HUGE", -1, float("nan"), float("inf"), True, "x", None, [], {}):
        shown, none = str(value)[:20], "expected|whole|are not|frames|ascend|finite|version"
        yield (
            "data",
            f"frames {shown}",
            data(videos=[video | {"frames": value}]),
            "|" + none if value == 10**7 else none,
        )
        yield "data", f"a tube's frame {shown}", data(tubes=[tube | {"frames": [0, value]}]), "|" + none
        yield "data", f"a corner {shown}", data(tubes=[tube | {"boxes": [[value, 1, 2, 3]] * 2}]), "|" + none
        yield "data", f"person {shown}", data(tubes=[tube | {"person": value}]), "|" + none
        yield "data", f"size {shown}", data(videos=[video | {"size": [value, 48]}]), "|" + none
        yield "data", f"fps {shown}", data(videos=[video | {"fps": value}]), "|" + none
        yield "data", f"version {shown}", data(version=value), "|" + none + "|newer"
        yield "data", f"judged {shown}", data(videos=[video | {"judged_frames": [value]}]), "|" + none + "|judged"
        yield "data", f"videos {shown}", data(videos=value), "expected|not among"
        yield "data", f"splits {shown}", data(splits=[{"train": value}]), "|expected"
        yield "data", f"exclusive {shown}", data(exclusive_classes=value, multi_label=True), "|expected"
    for text in (ESCAPE, "\ud800", "", "x" * 10**6, "../" * 3_000 + "etc/passwd", "a\0b"):
        verdict = "none of a text|expected|bytes|rename"
        yield "data", f"path {text[:20]!r}", data(videos=[video | {"path": text}]), "|" + verdict
        yield "data", f"class {text[:20]!r}", data(classes=[text]), "|rename|expected|none of|seen"
        yield "data", f"name {text[:20]!r}", data(videos=[video | {"name": text}]), "|" + verdict + "|not among"
    for name, content in (
        ("empty objects", b"[" + b"{}," * 7_000_000 + b"{}]"), ("nested", b"[" * 10**6), ("words", b"nonsense"),
        ("half", b'{"format": "yowo-deploy data"'), ("utf-16", '{"a": 1}'.encode("utf-16")), ("nul", bytes(99)),
        ("digits", b"1" * 10**6), ("bytes", bytes(range(256))),
        ("bomb", gzip.compress(b"[" + b"{}," * 9_000_000, mtime=0)),
        ("gzip cut off", gzip.compress(b"{}" * 999, mtime=0)[:-12]),
    ):  # fmt: skip
        yield "data", name, {"data.json": content}, 'no JSON|no "format|MiB|cannot be read|is empty'


def _tables() -> Iterator[Case]:
    for number in ("1e9", "inf", "nan", "x", HUGE, "-1"):
        yield "table", f"frame {number[:20]}", {"a.txt": f"v_{number} 1 1 1 9 9".encode()}, "|frame|expected|finite"
        yield "table", f"corner {number[:20]}", {"a.txt": f"v_1 1 {number} 1 9 9".encode()}, "|finite|could not|x2 <"
        yield (
            "table",
            f"second {number[:20]}",
            {"a.csv": f"v,{number},0,0,1,1,1".encode()},
            "|second|frame|could|finite",
        )
    for name, content in (
        ("gttubes alone", packed({"gttubes": {}})), ("tubes of text", packed({"annotations": "x"})),
        ("nested", b"{" + b'"a":[' * 10**5), ("fields without end", b'a,"' + b"x" * 200_000), ("nul", bytes(99)),
        ("empty objects", b'{"a": [' + b"{}," * 7_000_000 + b"{}]}"),
        ("a huge frame", packed({"v": {"annotations": [{"sf": "HUGE", "label": 0, "boxes_xywh": [[1, 1, 2, 2]]}]}})),
        ("ragged", packed({"v": {"annotations": [{"sf": 0, "label": 0, "boxes_xywh": [[1, 1, 2]]}]}})),
    ):  # fmt: skip
        yield "table", name, {"a.txt": content}, "neither|cannot be read|columns|no box|MiB|lists|frame"
    yield "table", "crowd without names", {"a.txt": b"v_1 1 1 1 9 9\n" * 2_000}, ""
    for name, content in (
        ("words", b"x"), ("list", b"[]"), ("format", packed({"format": "x"})), ("nested", b"[" * 10**5),
        ("models", packed({"format": 1, "models": [{"seconds": [1]}]})), ("huge", packed({"format": "HUGE"})),
        ("empty objects", b"[" + b"{}," * 7_000_000 + b"{}]"),
    ):  # fmt: skip
        yield "record", name, {"a.json": content}, "no record of a measurement|newer"


def _specs() -> Iterator[Case]:
    good = ModelSpec(labels=("walk",), anchors=((1.0, 2.0),)).to_dict()
    for field in good:
        for value in ("HUGE", -1, float("nan"), float("inf"), [], {}, None, "x\x1b[2J" * 10**5, ["\ud800"], [[]], True):
            shown = f"{field} {str(value)[:20]!r}"
            yield "spec", shown, {"spec.json": packed(good | {field: value})}, "|spec|field|format"
    for name, content in (
        ("nested", b"[" * 10**6), ("digits", b"1" * 10**6), ("a long label", packed(good | {"labels": ["x" * 10**7]})),
        ("unknown", packed(good | {"x" * 10**6: 1})), ("labels", packed(good | {"labels": [*map(str, range(10**6))]})),
        ("escape codes", packed(good | {ESCAPE: 1})), ("empty objects", packed(good | {"labels": [{}] * 10**6})),
        ("many anchors", packed(good | {"anchors": [[1, 1]] * 10**6})),
    ):  # fmt: skip
        yield "spec", name, {"spec.json": content}, "spec|field"


def png(width: int, height: int) -> bytes:
    """A picture whose header says so, and which holds nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def _pictures() -> Iterator[Case]:
    jpeg = b"\xff\xd8\xff\xc0\x00\x11\x08{}{}\x03" + bytes(9)
    for side in (8192, 16_384, 65_535):
        two = struct.pack(">H", side)
        yield "picture", f"PNG of {side}", {"001.png": png(side, side)}, "pixels"
        yield "picture", f"JPEG of {side}", {"001.jpg": jpeg.replace(b"{}{}", two + two)}, "pixels"
        bitmap = b"BM" + bytes(12) + struct.pack("<IiiHH", 40, side, -side, 1, 24) + bytes(99)
        yield "picture", f"BMP of {side}", {"001.bmp": bitmap}, "pixels"
        webp = b"RIFF" + bytes(4) + b"WEBPVP8X" + bytes(8) + struct.pack("<I", side - 1)[:3] * 2 + bytes(9)
        yield "picture", f"WebP of {side}", {"001.webp": webp}, "pixels"
    for name, content in (("empty", b""), ("bytes", bytes(99)), ("cut off", png(9, 9)[:20]), ("text", b"#EXTM3U")):
        yield "picture", name, {"001.png": content}, "cannot be read as a picture"
    yield "picture", "no number", {"a.png": png(9, 9)}, "does not end with the number"
    yield "picture", "number of 400 digits", {f"{'1' * 200}.png": png(9, 9)}, "cannot be read|some are missing"
    lists = {"HLS": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "concat": b"ffconcat version 1.0\nfile /etc/passwd\n",
             "SDP": b"v=0\nm=video 9 RTP/AVP 96\n", "text": ESCAPE.encode(), "nul": bytes(600)}  # fmt: skip
    for name, content in lists.items():
        yield "video", f"{name} as MP4", {"a.mp4": content}, "is not a video"
    box = b"\0\0\0\x08free"
    for name, content in (
        ("a box alone", b"\0\0\0\x18ftypisom" + bytes(12)), ("empty boxes", b"\0\0\0\x08ftyp" + box * 1_500_000),
        ("nested boxes", b"\0\0\0\x08ftyp" + b"".join(struct.pack(">I", 8 * n) + b"mdia" for n in range(5_000, 0, -1))),
        ("Matroska of nothing", b"\x1aE\xdf\xa3" + b"\x80" * 99), ("AVI of nothing", b"RIFF" + bytes(4) + b"AVI "),
        ("FLV of nothing", b"FLV\x01\x05" + bytes(99)), ("MPEG of noise", b"\x00\x00\x01\xba" + bytes(range(256)) * 9),
    ):  # fmt: skip
        yield "video", name, {"a.mp4": content}, "cannot be decoded|holds no frame|is not a video"


def cases() -> dict[str, Case]:
    """By kind and name."""
    makers: tuple[Callable[[], Iterator[Case]], ...] = (
        _studio, _cvat, _via, _cocovid, _texts_for_lists, _packages, _mot, _ava, _native, _tables, _specs, _pictures,
    )  # fmt: skip
    every = [case for make in makers for case in make()]
    found = {f"{kind}: {name}": (kind, name, files, verdict) for kind, name, files, verdict in every}
    assert len(found) == len(every)
    return found
