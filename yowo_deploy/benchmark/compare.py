"""Read benchmark records, and compare a later one with an earlier one."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from yowo_deploy.benchmark.timing import median_interval
from yowo_deploy.errors import InputError, foreign
from yowo_deploy.files import existing_file, read_within
from yowo_deploy.json_text import parse_json

FORMAT = 2
MAX_RECORD = 64 << 20  # bytes: a million calls
_LONGEST_S = 1e9  # of a call
_SAME_MACHINE = ("cpu", "cores", "gpus")
_SAME_MODEL = ("backend", "precision", "batch", "clip_length", "streaming")


@dataclass(frozen=True)
class Change:
    """One figure that two records have in common.

    Attributes:
        what: in words.
        old, new: the figure, in `unit`: a time or a ratio of times, or the share of frames that were answered.
        percent: how much slower the new one is; less than 0 is faster.
        low, high: 95 % interval of that, as far as the calls of the two runs tell. What differs from run to run, the
            neighbours on a shared machine and where memory came to lie, is not in it.
    """

    what: str
    unit: str
    old: float
    new: float
    percent: float
    low: float
    high: float


def read_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The record that `bench --json` wrote, also of format 1, where a model's "backend" was called "engine".

    Raises:
        InputError: it is something else, or of a newer format.
    """
    file = existing_file(path, "record of `bench --json`")
    with foreign(f"{file} is no record of a measurement, write it with `yowo-deploy bench --json`"):
        record = parse_json(read_within(file, MAX_RECORD))
        if record["format"] > FORMAT:
            raise InputError(f"{file} is of format {record['format']}, newer than {FORMAT}: upgrade yowo-deploy")
        if record["format"] == 1:
            record["models"] = [{"backend": each.get("engine"), **each} for each in record["models"]]
        # Before records had it, the forms for frames that files of clips contain were not measured.
        record["models"] = [{"streaming": False, **each} for each in record["models"]]
        _refuse_odd(record)
        return dict(record)


def _refuse_odd(record: dict[str, Any]) -> None:
    """Raise an error of any kind unless everything that is compared is there, of its type and in its range."""
    models, live = record["models"], record.get("open_loop")
    for each in (record["machine"], record.get("settings", {}), *models):
        each.keys()
    if not models or not all(isinstance(each["name"], str) for each in models):
        raise ValueError("a model has no name")
    for each in (*models, *([live] if live else [])):
        seconds = np.array(each["seconds"], np.float64)
        if seconds.ndim != 1 or len(seconds) < 2 or not ((seconds > 0) & (seconds < _LONGEST_S)).all():
            raise ValueError("the seconds of calls are no times")
    for each in record.get("stages") or []:
        if not isinstance(each["name"], str) or not 0 <= each["p50_ms"] < math.inf:
            raise ValueError("a stage has no time")
    if live and not (0 < live["fps"] < math.inf and 0 <= live["dropped"] < live["offered"]):
        raise ValueError("the open loop answered no frame")
    if record.get("versus") and len(models) == 2:
        [each["sha256"] for each in models]


def compare_records(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """How much slower the new record is: by `--versus` where both have it against the same file, else by each p50.

    A ratio taken within one run holds on any machine and under any load; medians of two runs hold on one quiet
    machine. Latency in the open loop and the share of frames answered are compared as well where both have them, and on
    one machine the stages of a frame: a stage is slower by so much of the whole old frame, lest one of a few
    microseconds decide.

    Raises:
        InputError: the records are not of the same measurement; the message lists what differs.
    """
    models = list(zip(old["models"], new["models"], strict=False))
    differing = [f"{len(old['models'])} and {len(new['models'])} models"] * (len(old["models"]) != len(new["models"]))
    differing += [
        f"{key} of model {place}: {first.get(key)} and {second.get(key)}"
        for place, (first, second) in enumerate(models, 1)
        for key in _SAME_MODEL
        if first.get(key) != second.get(key)
    ]
    differing += _differing(_settings(old), _settings(new), ("threads", "device", "fps"))
    by_ratio = _is_versus(old) and _is_versus(new) and old["models"][1]["sha256"] == new["models"][1]["sha256"]
    if not by_ratio:
        differing += _differing(old["machine"], new["machine"], _SAME_MACHINE)
    if differing:
        raise InputError(
            f"these records cannot be compared, {'; '.join(differing)}: measure the same again"
            + ("" if by_ratio else ", on the same machine or with the same --versus")
        )
    closed = list(_ratio_changes(old, new)) if by_ratio else [*_median_changes(models), *_stage_changes(old, new)]
    return [*closed, *_open_changes(old, new)]


def _ratio_changes(old: dict[str, Any], new: dict[str, Any]) -> Iterator[Change]:
    ratios = [np.divide(*(np.array(model["seconds"]) for model in record["models"][:2])) for record in (old, new)]
    yield _change(f"{new['models'][0]['name']}, against {new['models'][1]['name']}", "x", *ratios)


def _median_changes(models: list[tuple[dict[str, Any], dict[str, Any]]]) -> Iterator[Change]:
    for first, second in models:
        yield _change(second["name"], "ms", *(1000 * np.array(each["seconds"]) for each in (first, second)))


def _stage_changes(old: dict[str, Any], new: dict[str, Any]) -> Iterator[Change]:
    """The whole frame stands last in both."""
    before, after = ({each["name"]: each["p50_ms"] for each in record.get("stages") or []} for record in (old, new))
    whole = list(before.values())[-1] if before else math.nan
    for name in before:
        if name in after:
            slower = 100 * (after[name] - before[name]) / max(whole, 1e-6)
            yield Change(f"{name}, of a frame", "ms", before[name], after[name], slower, slower, slower)


def _open_changes(old: dict[str, Any], new: dict[str, Any]) -> Iterator[Change]:
    if old.get("open_loop") and new.get("open_loop"):
        rate = f"{new['open_loop']['fps']:g} frames/s"
        first, second = (1000 * np.array(each["open_loop"]["seconds"]) for each in (old, new))
        yield _change(f"latency at {rate}", "ms", first, second)
        before, after = (100 * (1 - each["open_loop"]["dropped"] / each["open_loop"]["offered"]) for each in (old, new))
        slower = 100 * (before / after - 1)
        yield Change(f"answered of {rate}", "%", before, after, slower, slower, slower)


def _change(what: str, unit: str, old: Any, new: Any) -> Change:
    (before, low_before, high_before), (after, low_after, high_after) = median_interval(old), median_interval(new)
    # Independent runs: widths of logarithms add up as the sides of a right angle.
    if not low_before > 0 or not low_after > 0:  # one call alone tells no interval
        return Change(what, unit, before, after, 100 * (after / before - 1), -math.inf, math.inf)
    half = math.hypot(math.log(high_before / low_before), math.log(high_after / low_after)) / 2
    ratio = after / before
    low, middle, high = (100 * (value - 1) for value in (ratio * math.exp(-half), ratio, ratio * math.exp(half)))
    return Change(what, unit, before, after, middle, low, high)


def _settings(record: dict[str, Any]) -> dict[str, Any]:
    """Of a record; before there was "auto", no device stood for it."""
    settings = record.get("settings", {})
    return {**settings, "device": settings.get("device") or "auto"}


def _differing(old: dict[str, Any], new: dict[str, Any], keys: tuple[str, ...]) -> list[str]:
    values = [(key, *(_named(each.get(key)) for each in (old, new))) for key in keys]
    return [f"{key}: {first} and {second}" for key, first, second in values if first != second]


def _named(value: Any) -> Any:
    """GPUs by their names: clocks differ from run to run."""
    return [each.get("name") for each in value] if isinstance(value, list) else value


def _is_versus(record: dict[str, Any]) -> bool:
    return bool(record.get("versus")) and len(record["models"]) == 2
