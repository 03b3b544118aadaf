"""Read detections and ground truth from files of other tools; the content decides the format."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.datasets.box_table import FRAMES, BoxTable, frame_of
from yowo_deploy.datasets.pbtxt import parse_pbtxt
from yowo_deploy.datasets.validation import real, whole
from yowo_deploy.errors import DatasetError, InputError, foreign
from yowo_deploy.files import existing_file, is_hidden, lines_of, read_within
from yowo_deploy.json_text import parse_json
from yowo_deploy.video.suffixes import is_video

MAX_BYTES = 1 << 30  # of a table, unpacked: detections at low thresholds are many

MAX_LABEL_MAP = 4 << 20  # a hundred thousand classes
AVA_COLUMNS = (2, 7, 8)
MICROSECONDS = 1_000_000  # to which AVA's evaluator tells moments apart

# Line, video, second, corners, and what comes after them; a row without corners is a frame without anyone.
AvaRow = tuple[int, str, float, list[float], list[str]]
# file, line, frame name, class, four numbers, score, tube
_Row = tuple[str, int, tuple[str, int], str, Sequence[str] | Sequence[float], str | float, int]


def read_table(path: str | Path, truth: bool, xywh: bool = False, split: int = 1) -> BoxTable:
    """Read boxes; what the file is decides, not its name.

    - Text, a row a box: `frame_id class score x1 y1 x2 y2`, ground truth without the score; classes from 1 or names.
      Lines that start with # are comments.
    - A folder of such files, one a frame and named after it, without the first column.
    - AVA csv: `video,seconds,x1,y1,x2,y2,class,score`; ground truth ends with a person id, or with the class. A row
      `video,seconds` names a frame without a box.
    - Ground truth alone: J-HMDB's JSON (`gttubes`), UCF101-24's (`annotations`), and an official list, whose lines
      name frames in `labels/` or `rgb-images/`.
    - Any of these gzipped.

    Args:
        truth: the file is ground truth.
        xywh: boxes in text are corner and size.
        split: of a JSON with official test splits, from 1.

    Raises:
        InputError: no such file.
        DatasetError: a format that is none of these, a row that does not fit, a box that is none; names file and line.
    """
    with foreign(f"{path} cannot be read", DatasetError):
        table = _read_table(Path(path), truth, xywh, split)
    if not len(table) and (truth or not table.bare):
        raise DatasetError(f"{table.source} holds no box")
    return table


def _read_table(given: Path, truth: bool, xywh: bool, split: int) -> BoxTable:
    if given.is_dir():
        files = sorted(file for file in given.iterdir() if file.suffix.lower() == ".txt" and not is_hidden(file.name))
        return _table(str(given), _folder_rows(files, truth), xywh)
    file = existing_file(given, "ground truth" if truth else "detections")
    text = text_of(file)
    lines = (line.strip() for line in lines_of(text))
    first = next((line for line in lines if line and not line.startswith("# ")), "")[:4096]
    if first.startswith("{"):
        if truth:
            return _json_table(file, text, split)
        raise DatasetError(f"{file} is JSON; detections are text (`yowo-deploy evaluate --save`) or AVA csv")
    columns = next(filter(None, csv_rows(text[:4096])), [])
    if len(columns) >= 7 or (len(columns) == 2 and _is_number(columns[1])):
        return _ava_table(file, text, truth)
    if truth and (len(first.split()) == 1 or _listed(first)[1] is not None):
        return _table(str(file), _listed_rows(file, text), xywh)
    return _table(str(file), _text_rows(str(file), text, truth), xywh)


def read_excluded(path: str | Path) -> set[tuple[str, float]]:
    """AVA's excluded timestamps, `video,seconds` a line; see `BoxTable.moments`."""
    file = existing_file(path, "excluded timestamps")
    with foreign(f"{file}: expected `video,seconds` in every line", DatasetError):
        pairs = [[value.strip() for value in row] for row in csv_rows(text_of(file)) if row]
        return {(video.replace("/", "_"), round(real(seconds), 6)) for video, seconds in pairs}


def read_label_map(path: str | Path) -> dict[int, str]:
    """Names of classes by id: of an AVA label map (`.pbtxt`), or of a `.txt` that lists them from 1 on.

    An item without a name is called by its id.

    Raises:
        DatasetError: it names no class, or an item has no id from 1 to 100,000.
    """
    file = existing_file(path, "label map")
    text = text_of(file, MAX_LABEL_MAP)
    try:
        fields_of = [value for name, value in parse_pbtxt(text) if name in ("item", "label")]
        items = list(map(dict, map(reversed, _messages(fields_of))))  # the first of each field counts
    except ValueError as error:
        if file.suffix != ".txt":
            raise DatasetError(f"{file} is not protobuf text: {error}") from error
        items = []
    found: dict[int, str] = {}
    if not items and file.suffix == ".txt":
        found = dict(enumerate(filter(None, map(str.strip, lines_of(text))), 1))
    for fields in items:
        number = str(fields.get("id", fields.get("label_id", "")))
        if number == "0" and "background" in (fields.get("name"), fields.get("display_name")):
            continue  # a class that TensorFlow's object detection reserves, and that no box has
        if not number.isdecimal() or not 1 <= int(number) <= 100_000:
            raise DatasetError(f"{file}: an item has no id from 1 to 100,000")
        name = str(fields.get("display_name") or fields.get("name") or number)  # a name may be a code, /m/01g317
        if found.setdefault(int(number), name) != name:
            raise DatasetError(f"{file}: id {number} is {found[int(number)]!r} and {name!r}")
    if not found:
        raise DatasetError(f"{file} names no class: expected an AVA label map with `id: 1` in each item")
    return found


def _messages(values: Iterable[Any]) -> Iterator[list[tuple[str, Any]]]:
    """The fields of each message, alone or in lists as `item: [{...}, {...}]`; none of what is no message."""
    for value in values:
        is_list = isinstance(value, list) and bool(value) and not isinstance(value[0], tuple)
        yield from _messages(value) if is_list else (value if isinstance(value, list) else [],)


def read_list(path: str | Path) -> tuple[set[str], set[tuple[str, int]]]:
    """A test list: the videos it names, and the frames where its lines name frames (`.../labels/a/b/00001.txt`)."""
    file = existing_file(path, "list")
    entries = [_listed(line) for line in map(str.strip, lines_of(text_of(file))) if line]
    return {video for video, _ in entries}, {(video, frame) for video, frame in entries if frame is not None}


def text_of(file: Path, limit: int = MAX_BYTES) -> str:
    """The text of a file in UTF-8, or in UTF-16 with a mark, as Windows' shell writes it.

    Raises:
        DatasetError: it cannot be read, is larger than `limit` bytes, or in another encoding.
    """
    try:
        content = read_within(file, limit)
        is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except InputError as error:
        raise DatasetError(f"{file} is damaged, or is not text: {error}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{file} is not text in UTF-8 (byte {error.start}): save it in that encoding") from error


def _table(source: str, rows: Iterable[_Row], xywh: bool, **known: Any) -> BoxTable:
    listed = list(rows)
    files, lines, frames, classes, boxes, scores, tubes = zip(*listed, strict=True) if listed else ((),) * 7
    xyxy = _numbers(listed, boxes).reshape(-1, 4)
    if xywh:
        xyxy[:, 2:] += xyxy[:, :2]
    (videos, video), (names, class_id), (paths, file) = map(_coded, ([f[0] for f in frames], classes, files))
    return BoxTable(
        source,
        videos,
        video,
        np.array([frame[1] for frame in frames], np.int64),
        names,
        class_id,
        xyxy,
        _numbers(listed, scores),
        paths,
        file,
        np.array(lines, np.int64),
        np.array(tubes, np.int64),
        **known,
    )


def _numbers(rows: Sequence[_Row], values: Sequence[Any]) -> Any:
    try:
        return np.array(values, np.float64)
    except ValueError:
        for (file, line, *_), value in zip(rows, values, strict=True):
            try:
                np.array(value, np.float64)
            except ValueError as error:
                raise DatasetError(f"{file}:{line}: {error}") from error
        raise


def _coded(values: Sequence[str]) -> tuple[tuple[str, ...], Any]:
    """The different values in the order of their first appearance, and each value's place among them."""
    places = {value: place for place, value in enumerate(dict.fromkeys(values))}
    return tuple(places), np.array([places[value] for value in values], np.int64)


def _text_rows(file: str, text: str, truth: bool, frame: tuple[str, int] | None = None) -> Iterator[_Row]:
    columns = ["frame_id"] * (frame is None) + ["class"] + ["score"] * (not truth) + ["x1", "y1", "x2", "y2"]
    frames: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(lines_of(text), start=1):
        tokens = line.split()
        if not tokens or (line.startswith("#") and not _is_row(tokens, len(columns))):
            continue
        if len(tokens) != len(columns):
            raise DatasetError(f"{file}:{number}: {len(tokens)} columns, expected {' '.join(columns)}")
        if frame is None:
            name = tokens.pop(0)
            place = frames[name] if name in frames else frames.setdefault(name, frame_of(name))
        else:
            place = frame
        if any("_" in value for value in tokens[1:]):
            raise DatasetError(f"{file}:{number}: {' '.join(tokens[1:])[:60]}, expected numbers")
        score: str | float = 1.0 if truth else tokens[1]
        yield file, number, place, tokens[0], tokens[-4:], score, -1


def _is_row(tokens: Sequence[str], columns: int) -> bool:
    """Whether a line that begins with # is no comment, but of a video whose name does."""
    return len(tokens) == columns and tokens[0] != "#" and all(map(_is_number, tokens[-4:]))


def csv_rows(text: str) -> Iterator[list[str]]:
    """Rows of a csv; also by semicolons or tabs with decimal commas, as spreadsheets write it in half of Europe."""
    text = text.removeprefix("\ufeff")
    signs = (sign for sign in ",;\t" if len(next(filter(None, _csv_by(text, sign)), [])) in AVA_COLUMNS)
    if (sign := next(signs, ",")) == ",":
        yield from _csv_by(text, sign)
        return
    for row in _csv_by(text, sign):
        yield [*row[:1], *(value.replace(",", ".") for value in row[1:])]


def _csv_by(text: str, sign: str) -> Iterator[list[str]]:
    """Rows without the empty columns at their ends, which spreadsheets write wherever another row has more."""
    for row in csv.reader(io.StringIO(text, newline=""), delimiter=sign):
        yield row[: next((end for end in range(len(row), 0, -1) if row[end - 1].strip()), 0)]


def _folder_rows(files: Sequence[Path], truth: bool) -> Iterator[_Row]:
    for file in files:
        yield from _text_rows(str(file), text_of(file), truth, frame_of(file.stem))


def ava_rows(file: Path, text: str, detections: bool = False) -> Iterator[AvaRow]:
    """Rows of AVA's csv: `video,second,x1,y1,x2,y2,action[,person]`, or `...,action,score`; a header is passed over.

    Raises:
        DatasetError: a row of other columns, or a second or corner that is no number; with file and line.
    """
    wanted = "video,second,x1,y1,x2,y2,action" + (",score" if detections else "[,person]")
    for line, row in enumerate(csv_rows(text), 1):
        if not row or (line == 1 and len(row) > 1 and not any(map(_is_number, row[1:]))):
            continue
        if len(row) not in ((2, 8) if detections else AVA_COLUMNS):
            raise DatasetError(f"{file}:{line}: {len(row)} columns, expected {wanted}")
        row = [value.strip() for value in row]
        try:
            corners = [real(value) for value in row[2:6]] if len(row) > 2 and row[2] else []
            yield line, row[0], real(row[1]), corners, row[6:]
        except ValueError as error:
            raise DatasetError(f"{file}:{line}: {error}") from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _ava_table(file: Path, text: str, truth: bool) -> BoxTable:
    rows = list(ava_rows(file, text, not truth))
    seconds = [round(second, 6) if abs(second) < FRAMES else FRAMES for _, _, second, _, _ in rows]
    ticks = 1 if all(second == int(second) for second in seconds) else MICROSECONDS
    boxes: list[_Row] = []
    for (number, video, _, corners, rest), second in zip(rows, seconds, strict=True):
        if corners:
            frame = min(round(second * ticks), FRAMES)  # FRAMES is refused, and fits into 64 bits
            boxes.append(
                (str(file), number, (video.replace("/", "_"), frame), rest[0], corners, 1.0 if truth else rest[1], -1)
            )
    bare = frozenset(
        (row[1].replace("/", "_"), second) for row, second in zip(rows, seconds, strict=True) if not row[3]
    )
    return _table(str(file), boxes, False, ticks=ticks, bare=bare)


def _listed_rows(file: Path, text: str) -> Iterator[_Row]:
    for line in dict.fromkeys(filter(None, map(str.strip, lines_of(text)))):  # official lists name some frames twice
        video, frame = _listed(line)
        if frame is None:
            raise DatasetError(f"{file}: {line} names a video; ground truth needs its frames: .../labels/a/b/00001.txt")
        relative = Path(line.replace("\\", "/").replace("rgb-images", "labels")).with_suffix(".txt")
        moved = relative.parts[relative.parts.index("labels") :] if "labels" in relative.parts else ()
        places = (*(folder / relative for folder in file.resolve().parents), file.parent.joinpath(*moved))
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise DatasetError(f"{file}: {relative} is in no folder above the list")
        yield from _text_rows(str(found), text_of(found), True, (video, frame))


def _listed(line: str) -> tuple[str, int | None]:
    """Video and frame of `labels/Biking/v_Biking_g01/00001.txt`; the video alone of `Biking/v_Biking_g01`.

    UCF101's own training lists have a class number behind each video.
    """
    line = line.replace("\\", "/")  # as Windows lists them
    before, _, last = line.rpartition(" ")
    line = before if last.isdecimal() and is_video(before) else line
    parts = Path(line).parts
    if Path(line).suffix in (".txt", ".jpg", ".png") and len(parts) >= 3:
        return f"{parts[-3]}_{parts[-2]}", frame_of(Path(line).stem)[1]
    name = "_".join(parts[-2:])
    return (name.rpartition(".")[0] if is_video(name) else name), None


def _json_table(file: Path, text: str, split: int) -> BoxTable:
    with foreign(f"{file} is neither J-HMDB's JSON nor UCF101-24's", DatasetError):
        content = parse_json(text.encode())
        if "gttubes" in content:
            if not 1 <= split <= len(content.get("test_videos", [0])):
                raise DatasetError(f"{file} has no split {split}")
            names = content["test_videos"][split - 1] if "test_videos" in content else list(content["gttubes"])
            lengths = {name.replace("/", "_"): whole(content["nframes"][name]) for name in names}
            rows = list(_jhmdb_rows(file, content["gttubes"], names))
            return _table(str(file), rows, False, labels=tuple(content["labels"]), lengths=lengths)
        return _table(str(file), list(_ucf24_rows(file, content)), True)


def jhmdb_tubes(of_video: dict[str, Any]) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Class id and (N, 5) frame from 1 and corners of each tube of a video, as J-HMDB's JSON has them.

    Corners are the first and the last pixel of a box.
    """
    for class_id, of_class in of_video.items():
        for tube in of_class:
            rows = np.array(tube, np.float64)
            if rows.ndim != 2 or rows.shape[1] != 5 or (rows[:, 0] != np.rint(rows[:, 0])).any():
                raise ValueError(f"a tube of shape {rows.shape}, expected a whole frame and four corners in each row")
            yield whole(class_id), rows


def _jhmdb_rows(file: Path, tubes: dict[str, Any], names: Sequence[str]) -> Iterator[_Row]:
    for name in names:
        for number, (class_id, rows) in enumerate(jhmdb_tubes(tubes[name])):
            for frame, *box in rows.tolist():
                place = (name.replace("/", "_"), int(frame))
                yield str(file), 0, place, str(class_id + 1), box, 1.0, number


def _ucf24_rows(file: Path, videos: dict[str, Any]) -> Iterator[_Row]:
    """Frames count from 0 there and pixels from 1; in text it is the other way round, and here."""
    for name, video in videos.items():
        for number, tube in enumerate(video["annotations"]):
            for frame, (x, y, w, h) in enumerate(tube["boxes_xywh"], start=whole(tube["sf"]) + 1):
                place, class_id = (name.replace("/", "_"), frame), str(whole(tube["label"]) + 1)
                yield str(file), 0, place, class_id, [x - 1, y - 1, w, h], 1.0, number
