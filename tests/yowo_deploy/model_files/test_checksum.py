"""A file that records its checksum is used whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from yowo_deploy.errors import ModelFileError, YowoError
from yowo_deploy.model_files.checksum import CHECKSUM_KEY, DIGITS, ONNX_MARK, checksum, has_checksum, with_checksum
from yowo_deploy.model_files.default import DEFAULT, model_path
from yowo_deploy.model_files.onnx_reader import read_onnx_file, show_values
from yowo_deploy.spec import ModelSpec

onnx = pytest.importorskip("onnx")


@pytest.fixture
def file(onnx_model: Callable[..., Any], spec: ModelSpec, tmp_path: Path) -> Path:
    """A small file with its checksum."""
    path = tmp_path / "small.onnx"
    onnx.save(onnx_model(spec), path)
    assert not read_onnx_file(path).checked  # of a writer that records none
    path.write_bytes(with_checksum(path.read_bytes()))
    return path


def test_the_checksum_is_metadata_of_a_plain_onnx_file(file: Path) -> None:
    assert read_onnx_file(file).checked
    entries = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    assert bytes(entries[CHECKSUM_KEY], "ascii") == file.read_bytes()[len(ONNX_MARK) :][:DIGITS]
    assert checksum(b"123456789" + b"0" * DIGITS, 9) == b"cbf43926"  # the check value of CRC-32 in its catalogues


def test_every_flipped_bit_of_the_file_is_noticed(file: Path) -> None:
    whole = file.read_bytes()
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ModelFileError, match="damaged"):
            has_checksum(file, damaged, ONNX_MARK, 0)
    for at in (0, 7, len(ONNX_MARK), len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(ModelFileError, match=r"small\.onnx is damaged, or was changed by another program"):
            read_onnx_file(file)


@pytest.mark.parametrize("kept", [0, 1, 20, 100, -1, -30])
def test_a_cut_file_is_refused(file: Path, kept: int) -> None:
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(YowoError):
        read_onnx_file(file).spec  # noqa: B018


def test_the_checksum_counts_no_more_in_a_file_that_another_program_wrote_again(file: Path) -> None:
    model = onnx.load(file)
    model.metadata_props.add(key="note", value="rewritten")
    onnx.save(model, file)
    found = read_onnx_file(file)
    assert not found.checked and found.metadata["note"] == "rewritten"


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_engines_read_such_a_file_themselves(engine: str, file: Path) -> None:
    library = pytest.importorskip(engine)
    if engine == "openvino":
        assert len(library.Core().read_model(file).inputs) == 1
    else:
        assert len(library.InferenceSession(file, providers=["CPUExecutionProvider"]).get_inputs()) == 1


def test_a_file_with_more_outputs_does_not_keep_the_checksum(file: Path, tmp_path: Path) -> None:
    show_values(file, ["with_time"], tmp_path / "shown.onnx")
    assert not read_onnx_file(tmp_path / "shown.onnx").checked


def test_the_shipped_model_records_its_checksum() -> None:
    assert read_onnx_file(model_path(DEFAULT)).checked
