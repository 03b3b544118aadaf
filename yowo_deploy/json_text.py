"""JSON text that every file and every terminal can hold."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any

from yowo_deploy.errors import OutputError, foreign

# Bytes that parsed values take at most, counted before they are made: so much of any text, and so many times its size.
MADE, TIMES = 256 << 20, 10
_COSTS = {b"[": 96, b"{": 240, b",": 32, b'"': 25}  # of an empty list, an object of one value, a number, half a text


def parse_json(packed: bytes) -> Any:
    """What UTF-8, UTF-16 or UTF-32 text of JSON holds.

    Raises:
        ValueError: it is no JSON, or its values would take far more memory than it does: millions of empty ones; or an
            object has a name twice, of which readers take either.
        RecursionError: it is nested too deep.
    """
    refuse_costly(packed)
    text = packed.decode(json.detect_encoding(packed), "surrogatepass")
    del packed
    return json.loads(text.removeprefix("\ufeff"), object_pairs_hook=unique_names)


def unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object for `json`; a ValueError where a name is there twice, of which readers take either."""
    if len(found := dict(pairs)) < len(pairs):
        [(name, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"an object has {name[:60]!r} twice")
    return found


def refuse_costly(packed: bytes) -> None:
    """Raise a ValueError where the values of JSON, or of lines of it, would take far more memory than the text does."""
    cost = sum(each * packed.count(sign) for sign, each in _COSTS.items())
    if cost > MADE + TIMES * len(packed):
        raise ValueError(f"its values would take {cost >> 20} MiB, too large for an annotation file: split it")


def strict_json(text: str | bytes) -> Any:
    """What JSON holds whose numbers fit a double, without NaN and infinity, whose characters are whole, and whose names
    are different in each object.

    The C++ reader takes the same.

    Raises:
        ValueError: it is no such JSON.
        RecursionError: it is nested too deep.
    """
    found = json.loads(
        text,
        parse_constant=finite,
        parse_float=finite,
        parse_int=lambda digits: finite(digits, int),
        object_pairs_hook=unique_names,
    )
    if re.search(r"\\u[dD][89a-fA-F]", text if isinstance(text, str) else text.decode()):
        json.dumps(found, ensure_ascii=False).encode()
    return found


def finite(text: str, kind: type[float] | type[int] = float) -> float:
    """A number of JSON; a ValueError where a double has none such."""
    if not math.isfinite(float(text)):
        raise ValueError(f"{text[:20]} is not a number in JSON, or too large for a double")
    return kind(text)


def to_json(value: Any, **options: Any) -> str:
    """JSON with letters of every script, and halves of characters escaped, as names that are no UTF-8 have them.

    Args:
        options: of `json.dumps`.

    Raises:
        OutputError: a number in it is not finite, for which JSON has no word.
    """
    with foreign("a result cannot be written as JSON", OutputError):
        text = json.dumps(value, ensure_ascii=False, **{"allow_nan": False, **options})
    return _escaped("[\ud800-\udfff]", text)


def json_for(text: str, encoding: str | None) -> str:
    """JSON text as a stream of this encoding may give it: escaped to ASCII where the stream is no UTF-8.

    JSON is UTF-8 (RFC 8259, 8.1), and of the encodings of terminals only ASCII is the same in all.
    """
    return text if (encoding or "utf-8").lower().replace("-", "").startswith("utf8") else _escaped("[^\x00-\x7f]", text)


def _escaped(characters: str, text: str) -> str:
    """Outside of strings JSON is ASCII, so that whatever is escaped stands within one."""
    return re.sub(characters, lambda found: json.dumps(found[0])[1:-1], text)
