"""Text of others made safe to show: one line, no control characters, no passwords, not too long."""

from __future__ import annotations

import re

LONGEST = 480  # characters of a message; with what stands before it, it stays below 500
_READ = 4096  # characters at either end of a text that are looked at

# What commands a terminal, ends a line there, turns the order of letters round, or is half of a character.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_NETWORK = r"(?:rtsps?|rtspt|rtspu|rtmp\w*|https?|ftps?|sftp|ssh|srt|rtp|udp|tcp|tls|mms\w*|wss?|s3|gs|concat|crypto)"
_ADDRESS = re.compile(rf"\b(?:{_NETWORK}(?=:)|[a-z][\w+.-]*(?=://)):[/\\]*", re.IGNORECASE)
_NAMED = r"[\w.%-]*(?:user|usr|login|pass|pwd|token|key|sig|auth|secret|cred|sess|jwt|hmac|policy|nonce)[\w.%-]*"
_VALUE = re.compile(rf"([?&;#/,|])({_NAMED}|pw|sid|code|u|p)=([^&;\s\"'<>]*)", re.IGNORECASE)
_HEADER = re.compile(r"\b(authorization[\"']?\s*[:=]\s*\w+|bearer)\s+[\w+/=.~-]+", re.IGNORECASE)
_WORD = re.compile(r"[^\s\"'<>]+")


def shown(text: object, longest: int = LONGEST) -> str:
    """A text as one line of a message: without secrets, unsafe characters escaped, its middle left out if it is long.

    Does nothing to what it gave.
    """
    return cut(escaped(redacted(" ".join(_ends(str(text)).split()))), longest)


def cut(text: str, longest: int) -> str:
    """At most so many characters; of a longer text both ends, for what is to be done stands last."""
    if len(text) <= longest:
        return text
    tail = longest // 3
    return f"{text[: longest - tail - 5]} ... {text[-tail:]}"


def escaped(text: str, keep: str = "") -> str:
    """With unsafe characters as \\uXXXX, which JSON takes too.

    Args:
        keep: unsafe characters that stay, as the ends of lines.
    """
    return _UNSAFE.sub(lambda found: found[0] if found[0] in keep else _code(found[0]), text)


def redacted(text: str) -> str:
    """Without what could be a password: names and passwords before an @, queries of addresses, signatures, tokens.

    An address in prose hides everything up to the last @ behind it, whatever stands between, blanks among it.
    """
    if "@" in text and (found := _ADDRESS.search(text)):
        last = max((each.start() for each in re.finditer(r"@(?=[\w\[.:%])", text)), default=-1)
        text = f"{text[: found.end()]}...{text[last:]}" if last > found.end() else text
    return redacted_words(_HEADER.sub(r"\1 ...", text))


def redacted_words(text: str) -> str:
    """As `redacted`, word by word: of JSON, whose quotes end a word, everything else stays."""
    if not any(sign in text for sign in "@=?;"):
        return text
    return _WORD.sub(lambda found: _redacted_word(found[0]), text)


def _redacted_word(word: str) -> str:
    head, at, tail = word.rpartition("@")
    address = _ADDRESS.search(word)
    if at and (address or ":" in head or "//" in head):
        known = _ADDRESS.search(head) or re.search(r".*?(?::|//)[/\\]*", head)
        word = f"{head[: known.end()] if known else ''}...@{tail}"
    if not address:
        return _VALUE.sub(lambda found: found[0] if found[1] in "/," else f"{found[1]}{found[2]}=...", word)
    word = re.sub(r"([?;#])[^?;#]+.*", r"\1...", word) if _has_query(word) else word
    return _VALUE.sub(r"\1\2=...", word)


def _has_query(word: str) -> bool:
    """Whether something stands behind the path of an address, other than the end of a sentence."""
    return re.search(r"[?;#](?!\.{3}|[.,:;)\]}?]*$)", word) is not None


def _ends(text: str) -> str:
    """The text, or of a long one whole words of both its ends."""
    if len(text) <= 2 * _READ:
        return text
    return f"{text[:_READ].rpartition(' ')[0]} ... {text[-_READ:].partition(' ')[2]}"


def _code(character: str) -> str:
    number = ord(character)
    if number < 0x10000:
        return f"\\u{number:04x}"
    return f"\\u{0xD800 + (number - 0x10000 >> 10):04x}\\u{0xDC00 + (number & 0x3FF):04x}"
