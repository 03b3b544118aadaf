"""What is shown of texts of others is one line, without secrets and control characters, and not long."""

from __future__ import annotations

import json
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yowo_deploy.plain_text import LONGEST, cut, escaped, redacted_words, shown

SECRET = "S3cr3tCanary"
ADDRESSES = [
    "rtsp://user:{}@host/stream", "http:/user:{}@host", "rtsp:user:{}@host", "rtsp//user:{}@host", "user:{}@host:554/1",
    "//{}@host/x", "https://{}@host/x", "RTSP:User:{}@host", "https:\\\\user:{}@host", "http://user:{}%40x@host/",
    "rtsp://user:x{}@y@host", "rtsp:user:a {} b@host", "http://user:{}/x@host", 'rtsp://user:"{}"@host',
    "concat:http://user:{}@host/x", "rtsp://host/x;auth={}", "rtsp:/host;auth={}", "http://host/x?X-Amz-Signature={}",
    "http://host/x?a=b&X-Amz-Credential={}&c=d", "https://h/x?se=1&sig={}%3D", "https:/h/x?token={}", "h/x?api_key={}",
    "http://host/?{}", "http:host/x#access_token={}", "rtsp://host/user=admin&password={}&channel=1",
    "rtsp:/host/user=admin&pwd={}", "rtsp://host/u=admin&p={}", "x;password={}", "gs://bucket/x?X-Goog-Signature={}",
    "http://h/x?sig=a/{}", "https://h/token={}/x", "Authorization: Bearer {}", "authorization=Basic {}",
]  # fmt: skip


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("around", ["{}", "video not found: {}", "'{}' already exists: give another", "[{}], and more"])
def test_no_secret_is_shown(address: str, around: str) -> None:
    text = around.format(address.format(SECRET))
    assert SECRET not in shown(text)
    assert shown(shown(text)) == shown(text)


@pytest.mark.parametrize("address", [each for each in ADDRESSES if not set(each) & set(' "\\')])
def test_no_secret_is_in_json_which_stays_json(address: str) -> None:
    value = {"source": address.format(SECRET), "other": "b@c", "label": "a: b"}
    for separators in ((",", ":"), (", ", ": ")):
        line = redacted_words(json.dumps(value, separators=separators))
        found = json.loads(line)
        assert SECRET not in line and found.keys() == value.keys()
        assert (found["other"], found["label"]) == ("b@c", "a: b")


@pytest.mark.parametrize(
    "text",
    [
        "is it connected, and not used by another program?", "expected rtsp://host:port/path", "a@b.mp4 is no video",
        "/data/user=alice/best.pt", "C:\\runs\\best.pt: not found", "the model's spec lacks 'labels'; export it again",
        "rtsp://10.0.0.1:554/Streaming/Channels/101 gives no video", "line 3: x", "keep=0.5, kernel (3, 3)?",
    ],
)  # fmt: skip
def test_what_is_no_secret_stays(text: str) -> None:
    assert shown(text) == text


@given(st.text(st.characters(), max_size=60))
def test_a_line_commands_no_terminal(text: str) -> None:
    line = shown(text)
    kinds = {unicodedata.category(sign) for sign in line}
    assert not kinds & {"Cc", "Cs", "Zl", "Zp"} and not re.search("[\u202a-\u202e\u2066-\u2069]", line)
    line.encode()
    assert len(line) <= LONGEST and shown(line) == line


@given(st.text(st.characters(codec=None), max_size=20))
def test_what_is_escaped_in_json_comes_back(text: str) -> None:
    assert json.loads(escaped(json.dumps(text, ensure_ascii=False))) == text


@pytest.mark.parametrize("text", ["\x1b[2Jgone", "a\nError: forged", "x\rforged", "\x9b2J", "\u202egnp.exe", "\udcff"])
def test_escape_codes_and_forged_lines_are_escaped(text: str) -> None:
    assert len(shown(text).splitlines()) == 1 and shown(text).isprintable()


def test_a_long_text_keeps_both_ends() -> None:
    text = "found " + "x" * 20_000_000 + " expected less: give another"
    assert len(shown(text)) <= LONGEST
    assert shown(text).startswith("found") and shown(text).endswith("expected less: give another")
    assert cut("abc", 3) == "abc" and len(cut("a" * 100, 40)) <= 40


def test_a_secret_at_the_cut_of_a_long_text_is_not_shown() -> None:
    for length in range(4080, 4100):
        assert SECRET not in shown("x" * length + f" http://user:{SECRET}" + "y" * 9000 + "@host/x")
