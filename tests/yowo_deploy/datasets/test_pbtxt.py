"""Label maps are read by protobuf's grammar: what the Text Format Language Specification (protobuf.dev) writes."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yowo_deploy.datasets.box_files import read_label_map
from yowo_deploy.datasets.pbtxt import parse_pbtxt
from yowo_deploy.errors import DatasetError

CASES: list[tuple[str, str, list[tuple[str, Any]]]] = [
    ("both quotes", """a: "x" b: 'y'""", [("a", "x"), ("b", "y")]),
    ("a quote in the other quotes", """a: "it's" b: 'a "b"'""", [("a", "it's"), ("b", 'a "b"')]),
    ("comments", "# a: 1\nb: 2 # c: 3\n", [("b", "2")]),
    ("a hash in a string", 'a: "#1"', [("a", "#1")]),
    ("strings side by side are one", """a: "sit " 'down'""", [("a", "sit down")]),
    ("escapes", r"""a: "\"\\\n\x41\101\303\251\u00e9" """, [("a", '"\\\nAAéé')]),
    (
        "messages with and without a colon",
        "a { b: 1 } c: { d: 2 } e < f: 3 >",
        [("a", [("b", "1")]), ("c", [("d", "2")]), ("e", [("f", "3")])],
    ),
    ("separators", "a { b: 1, c: 2; }, d: 3;", [("a", [("b", "1"), ("c", "2")]), ("d", "3")]),
    ("brackets in a string", 'a { b: "}{[" }', [("a", [("b", "}{[")])]),
    ("lists", "a: [1, 'x', { b: 2 }] c: []", [("a", ["1", "x", [("b", "2")]]), ("c", [])]),
    ("numbers of other bases", "a: 0x1F b: -3 c: 1.5e3", [("a", "31"), ("b", "-3"), ("c", "1.5e3")]),
    ("nothing", " \n# nothing\n", []),
]


@pytest.mark.parametrize(("text", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_the_grammar(text: str, expected: list[tuple[str, Any]]) -> None:
    assert parse_pbtxt(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "a 1",
        "a:",
        "a {",
        "a { b: 1",
        "}",
        "a: 'x",
        'a: "x\n"',
        "a: [1",
        "{" * 5000,
        "a{" * 5000,
        "a:" + "[" * 5000,
        "ä: 1 §",
    ],
)
def test_what_is_no_text_of_protobuf_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(ValueError, match="line 1"):
        parse_pbtxt(text)


@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(parse_pbtxt(text), list)


@given(st.lists(st.text(st.characters(blacklist_categories=("Cs",))), min_size=1, max_size=4))
def test_names_survive_quoting(names: list[str]) -> None:
    def quoted(name: str) -> str:
        return "".join(f"\\{byte:03o}" for byte in name.encode())

    text = "\n".join(f"item {{ name: '{quoted(name)}' id: {number} }}" for number, name in enumerate(names, 1))
    assert [dict(item)["name"] for _, item in parse_pbtxt(text)] == names


def test_label_maps_have_items_or_labels_and_an_id_has_one_name(tmp_path: Path) -> None:
    file = tmp_path / "map.pbtxt"
    # string_int_label_map.proto: display_name is the "human readable string label", name mostly a code; and AVA's two.
    file.write_text("""item { name: '/m/01g317' id: 1 display_name: "person" }\nitem { id: 3 display_name: 'sit' }""")
    assert read_label_map(file) == {1: "person", 3: "sit"}
    file.write_text("label { name: 'stand' label_id: 12 label_type: PERSON_MOVEMENT } # label { label_id: 13 }")
    assert read_label_map(file) == {12: "stand"}
    file.write_text("item { id: 1 name: 'a' } item { id: 1 name: 'b' }")
    with pytest.raises(DatasetError, match="id 1 is 'a' and 'b'"):
        read_label_map(file)
    file.write_text("item { id: 1 name: 'a'\n")
    with pytest.raises(DatasetError, match=r"map.pbtxt is not protobuf text: line 2"):
        read_label_map(file)


def test_items_may_stand_in_a_list_and_the_background_is_no_class(tmp_path: Path) -> None:
    """TensorFlow's label maps may name the background, with id 0 (`label_map_util`)."""
    file = tmp_path / "a.pbtxt"
    file.write_text("item: [{ id: 0 name: 'background' }, { id: 1 name: 'walk' }]\nitem { id: 2 name: 'run' }")
    assert read_label_map(file) == {1: "walk", 2: "run"}
    file.write_text("item { id: 0 name: 'walk' }")
    with pytest.raises(DatasetError, match="an item has no id from 1"):
        read_label_map(file)
