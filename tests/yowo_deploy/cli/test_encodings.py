"""Commands print in every encoding: JSON as UTF-8, and tables with what the encoding lacks escaped."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from yowo_deploy.boxes import Tube
from yowo_deploy.cli import main
from yowo_deploy.datasets.base import AnnotatedVideo
from yowo_deploy.datasets.data_json import Annotations, write_annotations
from yowo_deploy.detection.outputs import to_stdout

LABELS = ("走路", "été", "كتاب")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    boxes = np.tile(np.float32([1, 1, 9, 9]), (5, 1))
    tubes = tuple(Tube(number, np.arange(5), boxes, tracker_id=number) for number in range(3))
    video = AnnotatedVideo("院子", "院子", tmp_path / "院子.mp4", 5, tubes, (64, 48), fps=25)
    write_annotations(Annotations(LABELS, (video,)), tmp_path / "data.json")
    return tmp_path / "data.json"


def printed(arguments: list[str], encoding: str, monkeypatch: pytest.MonkeyPatch) -> bytes:
    stdout = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(sys, "argv", ["yowo-deploy", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, 1, None)
    stdout.flush()
    return bytes(stdout.buffer.getvalue())  # type: ignore[attr-defined]


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "ascii", "gbk"])
def test_a_table_escapes_what_the_encoding_lacks(encoding: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`backslashreplace`, PEP 293; the names themselves where the encoding has them."""
    shown = printed(["data", "stats", str(data)], encoding, monkeypatch).decode(encoding)
    for label in LABELS:
        assert label.encode(encoding, "backslashreplace").decode(encoding) in shown


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "ascii", "gbk"])
@pytest.mark.parametrize("arguments", [["stats"], ["check", "--fast"]])
def test_json_is_utf_8(arguments: list[str], encoding: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 8259, 8.1: JSON between systems is UTF-8."""
    found = printed(["data", *arguments, str(data), "--json"], encoding, monkeypatch)
    assert "走路" in str(json.loads(found.decode("utf-8"))) or "院子" in str(json.loads(found.decode("utf-8")))


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "ascii", "gbk"])
def test_a_line_for_stdout_is_utf_8(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stdout = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stdout)
    to_stdout('{"label": "走路"}')
    found: bytes = stdout.buffer.getvalue()  # type: ignore[attr-defined]
    assert json.loads(found.decode("utf-8")) == {"label": "走路"}
