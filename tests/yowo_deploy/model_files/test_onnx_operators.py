"""The table of operators: one text in Python and C++, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from yowo_deploy.errors import ModelFileError
from yowo_deploy.model_files.onnx_graph import Attribute, Node
from yowo_deploy.model_files.onnx_operators import OPERATOR_RULES, OPERATORS, check_nodes


def test_the_text_is_that_of_the_cpp_runtime(project_root: Path) -> None:
    header = project_root / "yowo_deploy" / "include" / "yowo" / "model_files" / "onnx_language.hpp"
    assert f'R"({OPERATOR_RULES})"' in header.read_text(encoding="utf-8")


def test_operators_are_in_order_and_each_once() -> None:
    names = [line.split()[0] for line in OPERATOR_RULES.strip().splitlines() if line[0] != " "]
    assert names == sorted(set(names)) and set(names) == OPERATORS


@pytest.mark.parametrize(
    ("name", "value", "passes"),
    [
        ("strides", (1, 1024), True),
        ("strides", (0,), False),
        ("strides", (1025,), False),
        ("strides", (1,) * 17, False),
        ("strides", 2, False),
        ("ceil_mode", 0, True),
        ("ceil_mode", 1, False),
        ("ceil_mode", (0,), False),
        ("ceil_mode", 0.0, False),
        ("auto_pad", "NOTSET", True),
        ("auto_pad", "VALID", False),
        ("alpha", 1.0, False),
    ],
)
def test_an_attribute_has_its_type_and_range(name: str, value: Attribute, passes: bool) -> None:
    node = Node("MaxPool", "", ("x",), ("y",), {"kernel_shape": (2,), name: value})
    if passes:
        check_nodes([node])
        return
    with pytest.raises(ModelFileError, match=name):
        check_nodes([node])
