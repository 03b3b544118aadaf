"""JSON text that every file and every terminal can hold."""

from __future__ import annotations

import json
import re
from typing import Any


def to_json(value: Any, **options: Any) -> str:
    """JSON with letters of every script, and halves of characters escaped, as names that are no UTF-8 have them.

    Args:
        options: of `json.dumps`.
    """
    return _escaped("[\ud800-\udfff]", json.dumps(value, ensure_ascii=False, **options))


def json_for(text: str, encoding: str | None) -> str:
    """JSON text as a stream of this encoding may give it: escaped to ASCII where the stream is no UTF-8.

    JSON is UTF-8 (RFC 8259, 8.1), and of the encodings of terminals only ASCII is the same in all.
    """
    return text if (encoding or "utf-8").lower().replace("-", "").startswith("utf8") else _escaped("[^\x00-\x7f]", text)


def _escaped(characters: str, text: str) -> str:
    """Outside of strings JSON is ASCII, so that whatever is escaped stands within one."""
    return re.sub(characters, lambda found: json.dumps(found[0])[1:-1], text)
