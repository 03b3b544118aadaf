"""JSON is read again as it was, by whatever encoding it went."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yowo_deploy.json_text import json_for, to_json

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
