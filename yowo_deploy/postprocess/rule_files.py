"""Zones and rules as text and as JSON files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from yowo_deploy.errors import InputError, foreign
from yowo_deploy.files import existing_file, read_within
from yowo_deploy.postprocess.rules import Rule, Times
from yowo_deploy.postprocess.zones import MAX_NAME, Zone

ZONES_SCHEMA = Path(__file__).parent / "zones.schema.json"
RULES_SCHEMA = Path(__file__).parent / "rules.schema.json"
MAX_BYTES = 1 << 20
T = TypeVar("T")

_TEXTS, _NUMBERS = ("actions", "zones", "times"), ("for_s", "score", "keep_score", "people")


def parse_zone(text: str) -> Zone:
    """A zone as the command line takes it: `yard=0.1,0.5,0.9,0.5,0.5,1`.

    Raises:
        InputError: it is not of this form, or no zone.
    """
    name, _, numbers = text.rpartition("=")
    try:
        values = [float(each) for each in numbers.split(",")]
    except ValueError:
        values = []
    if not values or len(values) % 2:
        raise InputError(f"zone {text[:MAX_NAME]!r} is not of the form name=x,y,x,y,x,y with fractions of the picture")
    return Zone(name, tuple(zip(values[::2], values[1::2], strict=True)))


def read_zones(path: str | os.PathLike[str]) -> list[Zone]:
    """The zones of a JSON file, by `zones.schema.json` beside this file.

    Raises:
        InputError: no such file, or not of this form; with its name.
    """
    return _read(path, "zones", _zone)


def read_rules(path: str | os.PathLike[str]) -> list[Rule]:
    """The rules of a JSON file, by `rules.schema.json` beside this file.

    Raises:
        InputError: no such file, or not of this form; with its name.
    """
    return _read(path, "rules", _rule)


def zones_json(zones: Iterable[Zone]) -> str:
    """The text of a file that `read_zones` reads."""
    return json.dumps({"v": 1, "zones": [{"name": each.name, "corners": each.corners} for each in zones]}, indent=1)


def _read(path: str | os.PathLike[str], name: str, parse: Callable[[dict[str, Any]], T]) -> list[T]:
    file = existing_file(path, f"file of {name}")
    with foreign(f"{file} is no JSON"):
        content = json.loads(read_within(file, MAX_BYTES), object_pairs_hook=_each_once)
    try:
        if not isinstance(content, dict) or set(content) != {"v", name} or content["v"] != 1:
            raise InputError(f'expected {{"v": 1, "{name}": [...]}} and nothing else')
        if not isinstance(content[name], list) or not all(isinstance(each, dict) for each in content[name]):
            raise InputError(f'"{name}" is not a list of objects')
        return [parse(each) for each in content[name]]
    except InputError as error:
        raise InputError(f"{file}: {error}") from error


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; a ValueError where it says something twice, of which JSON readers take the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)[:MAX_NAME]!r} occurs twice")
    return found


def _zone(entry: dict[str, Any]) -> Zone:
    name, corners = _name(entry), entry.get("corners")
    _refuse_others(name, entry, ("name", "corners"))
    if not isinstance(corners, list) or not all(_is_corner(each) for each in corners):
        raise InputError(f"the corners of zone {name!r} are not pairs of numbers")
    return Zone(name, tuple((float(x), float(y)) for x, y in corners))


def _rule(entry: dict[str, Any]) -> Rule:
    name = _name(entry)
    _refuse_others(name, entry, ("name", *_TEXTS, *_NUMBERS))
    for key in _TEXTS:
        if not isinstance(value := entry.get(key, []), list) or not all(isinstance(each, str) for each in value):
            raise InputError(f"{key} of rule {name!r} is not a list of strings")
    for key in _NUMBERS:
        if not _is_number(entry.get(key, 0)) or (key == "people" and type(entry.get(key, 0)) is not int):
            raise InputError(f"{key} of rule {name!r} is {str(entry[key])[:MAX_NAME]}, expected a number")
    actions, zones, times = (tuple(entry.get(key, ())) for key in _TEXTS)
    numbers: dict[str, Any] = {key: entry[key] for key in _NUMBERS if key in entry}
    return Rule(name, actions, zones, times=tuple(map(Times.parse, times)), **numbers)


def _name(entry: dict[str, Any]) -> str:
    if not isinstance(entry.get("name"), str):
        raise InputError(f"an entry has no name: {str(entry)[:MAX_NAME]}")
    return str(entry["name"])[: MAX_NAME + 1]


def _refuse_others(name: str, entry: dict[str, Any], known: tuple[str, ...]) -> None:
    if others := sorted(set(entry) - set(known)):
        raise InputError(
            f"{name[:MAX_NAME]!r} has {others[0][:MAX_NAME]!r}, which is not known: {', '.join(known)} are"
        )


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e9  # NaN as well


def _is_corner(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) == 2 and all(_is_number(each) for each in entry)
