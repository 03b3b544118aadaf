"""The tables of an archive: tubes as Parquet and as JSON lines, events, and paths that are read from Parquet."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from yowo_deploy.errors import InputError, MissingExtraError, foreign
from yowo_deploy.files import atomic_write
from yowo_deploy.json_text import to_json

Json = dict[str, Any]
TUBES, TUBE_LINES, EVENT_LINES = "tubes.parquet", "tubes.jsonl", "events.jsonl"
ROWS = 50_000  # of a group of the table, which is made at a time
SCHEMA = {  # column -> type; one row an action: a stretch in which a person does one thing
    "source": "string",
    "tube": "int64",
    "person": "int64",
    "class_id": "int32",
    "label": "string",
    "score": "float32",
    "first_frame": "int64",
    "last_frame": "int64",
    "first_time": "float64",
    "last_time": "float64",
    "seconds": "float64",
    "width": "int32",
    "height": "int32",
    "boxes": "list",
}


def has_parquet() -> bool:
    """Whether pyarrow is installed."""
    return find_spec("pyarrow") is not None


def parquet() -> Any:
    """`pyarrow`, with `pyarrow.parquet` and `pyarrow.compute`.

    Raises:
        MissingExtraError: it is not installed.
    """
    if not has_parquet():
        raise MissingExtraError("pyarrow", "archive")
    importlib.import_module("pyarrow.parquet")
    importlib.import_module("pyarrow.compute")
    return importlib.import_module("pyarrow")


def write_tables(folder: Path, records: Iterable[Path]) -> Json:
    """Write `tubes.jsonl`, `events.jsonl` and, where pyarrow is installed, `tubes.parquet`.

    Args:
        records: of the videos, in the order of the lines.

    Returns:
        Sums over the videos: "frames", "seconds", "detections", "tubes", "actions", "events".

    Raises:
        OutputError: they cannot be written.
        InputError: a record is damaged.
    """
    sums = dict.fromkeys(("frames", "seconds", "detections", "tubes", "actions", "events"), 0)
    with ExitStack() as stack:
        tubes, events = (
            stack.enter_context(stack.enter_context(atomic_write(folder / name)).open("w", encoding="utf-8"))
            for name in (TUBE_LINES, EVENT_LINES)
        )
        table = stack.enter_context(_Table(folder / TUBES)) if has_parquet() else None
        for path in records:
            with foreign(f"{path} is damaged, remove it", InputError, OSError):
                record = json.loads(path.read_bytes())
            tubes.writelines(to_json({"source": record["source"], **tube}) + "\n" for tube in record["tubes"])
            events.writelines(to_json(event) + "\n" for event in record["events"])
            rows = list(rows_of(record))
            if table is not None:
                table.add(rows)
            for name in ("frames", "seconds", "detections"):
                sums[name] += record[name]
            sums["tubes"] += len(record["tubes"])
            sums["events"] += len(record["events"])
            sums["actions"] += len(rows)
    return {**sums, "seconds": round(sums["seconds"], 4)}


def rows_of(record: Json) -> Iterator[Json]:
    """The rows of the table of a video's tubes, see `SCHEMA`."""
    width, height = record["size"]
    for tube in record["tubes"]:
        for action in tube["actions"]:
            begin = action["first_frame"] - tube["first_frame"]
            boxes = tube["boxes"][begin : begin + 1 + action["last_frame"] - action["first_frame"]]
            lasts = action["last_time"] - action["first_time"] + 1 / record["fps"]
            yield {
                "source": record["source"],
                "tube": tube["id"],
                **action,
                "seconds": lasts,
                "width": width,
                "height": height,
                "boxes": [side for box in boxes for side in box],
            }


def schema() -> Any:
    """`SCHEMA` as pyarrow has it."""
    arrow = parquet()
    kinds = {"list": arrow.list_(arrow.float32())}
    return arrow.schema([(name, kinds.get(kind) or getattr(arrow, kind)()) for name, kind in SCHEMA.items()])


class _Table:
    """A Parquet file, written in groups of rows; whole or absent."""

    def __init__(self, path: Path) -> None:
        self._path, self._rows = path, list[Json]()
        self._stack = ExitStack()

    def __enter__(self) -> _Table:
        arrow = parquet()
        temporary = self._stack.enter_context(atomic_write(self._path))
        self._writer = self._stack.enter_context(arrow.parquet.ParquetWriter(temporary, schema(), compression="zstd"))
        return self

    def add(self, rows: list[Json]) -> None:
        self._rows += rows
        if len(self._rows) >= ROWS:
            self._flush()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is None:
            self._flush()
        self._stack.__exit__(kind, error, trace)

    def _flush(self) -> None:
        table = parquet().Table.from_pylist(self._rows, schema())
        self._writer.write_table(table)
        self._rows = []


def read_paths(path: Path, columns: Sequence[str]) -> list[str]:
    """The texts of a column of a Parquet file: the first of `columns` that it has, else its first one.

    Raises:
        InputError: it cannot be read, or the column holds other things.
    """
    arrow = parquet()
    with foreign(f"{path} cannot be read as Parquet", InputError):
        names = arrow.parquet.read_schema(path).names
        column = next((name for name in columns if name in names), names[0])
        return list(map(str, arrow.parquet.read_table(path, columns=[column]).column(0).to_pylist()))
