"""JSON is read again as it was, by whatever encoding it went."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yowo_deploy import json_text
from yowo_deploy.errors import OutputError
from yowo_deploy.json_text import json_for, parse_json, to_json

VALUES = st.recursive(st.none() | st.integers() | st.text(st.characters()), lambda inner: st.lists(inner, max_size=4))


@pytest.mark.parametrize("encoding", ["utf-8", "UTF8", "cp1252", "ascii", "gbk", "big5", "shift_jis", None])
@given(value=st.dictionaries(st.text(), VALUES, max_size=4))
def test_json_goes_through_every_encoding(encoding: str | None, value: object) -> None:
    """RFC 8259, 8.1: JSON is UTF-8; what is read is what was written, halves of characters too."""
    text = json_for(to_json(value), encoding)
    assert json.loads(text.encode(encoding or "utf-8").decode("utf-8")) == value


def test_letters_stay_where_they_can() -> None:
    assert to_json({"label": "走路", "of": "caf\udce9"}) == '{"label": "走路", "of": "caf\\udce9"}'
    assert json_for('["走路"]', "utf-8") == '["走路"]'
    assert json_for('["走😀"]', "gbk") == '["\\u8d70\\ud83d\\ude00"]'


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_written_nowhere(number: float) -> None:
    with pytest.raises(OutputError, match="cannot be written as JSON"):
        to_json({"time": number})


@pytest.mark.parametrize("value", ['{"é": [1, "\\ud800", null]}', "[1.5, 2e3]", '"x"', "7"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32", "utf-8-sig"])
def test_json_of_every_encoding_is_read(value: str, encoding: str) -> None:
    """RFC 4627, 3; as `json.loads` reads bytes."""
    assert parse_json(value.encode(encoding)) == json.loads(value)


def test_values_that_would_take_far_more_than_their_text_are_not_made() -> None:
    """An empty object is three bytes of text and 64 of memory; lists of boxes take a tenth of what is allowed."""
    with pytest.raises(ValueError, match="would take"):
        parse_json(b"[" + b"{}," * 2_000_000 + b"{}]")
    boxes = json.dumps([[12.5, 33.25, 44.125, 60.5]] * 10_000).encode()
    assert sum(each * boxes.count(sign) for sign, each in json_text._COSTS.items()) < json_text.TIMES * len(boxes)


def test_a_name_that_an_object_has_twice_is_refused_not_chosen_from() -> None:
    """Of `tubes` and an empty `tubes` behind it the last would count, and every box be lost in silence."""
    with pytest.raises(ValueError, match="an object has 'a' twice"):
        parse_json(b'[{"b": {"a": [1], "a": []}}]')
