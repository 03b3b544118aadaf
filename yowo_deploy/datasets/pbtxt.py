"""Parse protobuf's text format, in which label maps are written."""

from __future__ import annotations

import re
from collections import deque
from typing import Any

MAX_DEPTH = 100
MAX_TOKENS = 1_000_000  # a hundred thousand classes

_TOKEN = re.compile(
    r"""(\s+|\#[^\n]*)|("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|[\w.+-]+|[{}<>\[\]:;,/])""",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\([0-7]{1,3}|[xX][0-9a-fA-F]{1,2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_LETTERS = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
_CLOSING = {"{": "}", "<": ">", "[": "]"}


def parse_pbtxt(text: str) -> list[tuple[str, Any]]:
    """The fields of a message in their order: name, and text, or the fields of a message, or a list of either.

    Comments, both quotes, escapes, strings side by side, and colons and separators that may be left out are as in the
    Text Format Language Specification (protobuf.dev, "Reference").

    Raises:
        ValueError: it is none; names the line.
    """
    tokens, place, line = deque[tuple[str, int]](), 0, 1
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None:
            raise ValueError(f"line {line}: {text[place : place + 20]!r}")
        if len(tokens) > MAX_TOKENS:
            raise ValueError(f"more than {MAX_TOKENS} words and signs")
        if found.group(2):
            tokens.append((found.group(2), line))
        line += found.group().count("\n")
        place = found.end()
    tokens.append(("", line))
    return _fields(tokens, "", 0)


def _fields(tokens: deque[tuple[str, int]], closing: str, depth: int) -> list[tuple[str, Any]]:
    found = []
    while (token := tokens.popleft()) and token[0] != closing:
        name, line = token
        if not re.fullmatch(r"\w+", name) or depth > MAX_DEPTH:
            raise ValueError(f"line {line}: {name or 'the end'!r}, expected a field")
        has_colon = _skip(tokens, ":")
        if not has_colon and tokens[0][0] not in ("{", "<"):
            raise ValueError(f"line {line}: no value of {name}")
        found.append((name, _value(tokens, depth)))
        _skip(tokens, ",", ";")
    return found


def _value(tokens: deque[tuple[str, int]], depth: int) -> Any:
    token, line = tokens.popleft()
    if token in ("{", "<"):
        return _fields(tokens, _CLOSING[token], depth + 1)
    if token == "[" and depth < MAX_DEPTH:
        values = []
        while not _skip(tokens, "]"):
            values.append(_value(tokens, depth + 1))
            _skip(tokens, ",")
        return values
    if token[:1] in ("'", '"'):
        packed = [_unquoted(token)]
        while tokens[0][0][:1] in ("'", '"'):
            packed.append(_unquoted(tokens.popleft()[0]))
        return b"".join(packed).decode()
    if not re.fullmatch(r"[\w.+-]+", token):
        raise ValueError(f"line {line}: {token or 'the end'!r}, expected a value")
    if re.fullmatch(r"0[0-7]+", token):
        return str(int(token, 8))
    return str(int(token, 16)) if re.fullmatch(r"0[xX][0-9a-fA-F]+", token) else token


def _skip(tokens: deque[tuple[str, int]], *signs: str) -> bool:
    """Whether the next token was one of these, and is gone."""
    if tokens and tokens[0][0] in signs:
        tokens.popleft()
        return True
    return False


def _unquoted(token: str) -> bytes:
    """UTF-8 of a string; escapes in octal and hexadecimal are bytes of it."""

    def byte(found: re.Match[bytes]) -> bytes:
        code = found.group(1)
        if code[:1] in b"uU" and len(code) > 1:
            return chr(int(code[1:], 16)).encode()
        if code[:1] in b"xX" and len(code) > 1:
            return bytes([int(code[1:], 16)])
        return bytes([int(code, 8) & 255]) if code.isdigit() else _LETTERS.get(code, code)

    return re.sub(_ESCAPE.pattern.encode(), byte, token[1:-1].encode(), flags=re.DOTALL)
