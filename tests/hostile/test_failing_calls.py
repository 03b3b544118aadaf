"""A system call that fails, on a full or broken disk, costs a command one line: the old file or the new one is whole.

The long form tries every call of every command: `python -m benchmarks.hostile calls`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.failing_calls import ERRORS, Commands, build
from tests.hostile.writers import WRITERS, Writer, prepared


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """A process that runs commands; skips without a compiler."""
    library = build(tmp_path_factory.mktemp("shim"))
    if library is None:
        pytest.skip("needs Linux and a C compiler")
    for name in ("onnxruntime", "matplotlib", "defusedxml"):
        pytest.importorskip(name)
    started = Commands(library, "yowo_deploy.backends.ort")
    yield started
    started.close()


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.name)
def test_a_command_does_its_work_where_no_call_fails(writer: Writer, commands: Commands, tmp_path: Path) -> None:
    place = prepared(tmp_path / "run", writer)
    ended = commands.run(writer.arguments, place, -1, 0)
    assert (ended.code, ended.failed, writer.faults(place, ended)) == (0, False, [])


@pytest.mark.parametrize(("number", "error"), [(0, "EIO"), (2, "ENOSPC"), (5, "EDQUOT")])
@pytest.mark.parametrize(
    "writer", [each for each in WRITERS if each.name.endswith((", all", "import", "mot", "--save", "--json"))],
    ids=lambda writer: writer.name,
)  # fmt: skip
def test_a_call_that_fails_is_one_line(
    writer: Writer, number: int, error: str, commands: Commands, tmp_path: Path
) -> None:
    place = prepared(tmp_path / "run", writer)
    ended = commands.run(writer.arguments, place, number, ERRORS[error])
    assert writer.faults(place, ended) == []
    assert ended.code == (1 if ended.failed else 0) or ended.failed
