"""A public function that raises an error of ours says so where its user reads."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from yowo_deploy import errors

OURS = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, errors.YowoError)}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(node: ast.AST, docs: str = "") -> Iterator[tuple[Function, str]]:
    """Public functions and methods, each with its docstring and those of the classes around it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield from functions(child, docs + (ast.get_docstring(child) or ""))
        elif isinstance(child, Function) and (child.name == "__init__" or not child.name.startswith("_")):
            own = ast.get_docstring(child) or ""
            yield child, own if child.name != "__init__" and own else docs


def raised(function: Function) -> set[str]:
    """Names of our errors that the body raises itself."""
    calls = [each.exc for each in ast.walk(function) if isinstance(each, ast.Raise)]
    names = {each.func.id for each in calls if isinstance(each, ast.Call) and isinstance(each.func, ast.Name)}
    return names & OURS


def unsaid(text: str) -> list[str]:
    """Functions of a module whose errors their docstring passes over."""
    return [
        function.name
        for function, docs in functions(ast.parse(text))
        if docs and raised(function) and not any(name in docs for name in (*raised(function), "Error", "Refusal"))
    ]


@pytest.mark.parametrize("room", ["yowo_deploy", "training", "export"])
def test_errors_are_in_docstrings(room: str, project_root: Path) -> None:
    files = [each for each in (project_root / room).rglob("*.py") if "cli" not in each.parts]
    assert files and {file.name: found for file in files if (found := unsaid(file.read_text(encoding="utf-8")))} == {}


def test_a_function_that_keeps_its_error_to_itself_is_found() -> None:
    body = "    raise InputError('no')\n"
    assert unsaid(f'def one():\n    """Nothing."""\n{body}') == ["one"]
    assert unsaid(f'def one():\n    """Raises: InputError: always."""\n{body}') == []
    assert unsaid(f'class A:\n    """Nothing."""\n    def __init__(self):\n    {body}') == ["__init__"]
