"""The handmade ONNX file is one to onnx itself, and its answer is what onnx's own reference computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from yowo_deploy.diagnostics.probe_model import SPEC, clip_kernel_answer, write_one_layer
from yowo_deploy.model_files.onnx_reader import read_spec
from yowo_deploy.postprocess.decode import decode

onnx = pytest.importorskip("onnx")
reference = pytest.importorskip("onnx.reference")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "one_layer.onnx"
    write_one_layer(path)
    return path


def test_the_file_is_whole_and_says_what_it_is(file: Path) -> None:
    onnx.checker.check_model(str(file), full_check=True)
    assert read_spec(file) == SPEC
    assert onnx.load(file).ByteSize() == file.stat().st_size  # no field that onnx does not know


def test_the_answer_is_what_the_reference_computes(file: Path) -> None:
    clip, _, answer = clip_kernel_answer()
    assert np.array_equal(reference.ReferenceEvaluator(str(file)).run(None, {"clip": clip})[0], answer)


def test_the_answer_is_exact_in_every_precision_and_no_two_axes_can_be_mixed_up() -> None:
    clip, kernel, answer = clip_kernel_answer()
    # bfloat16 has 8 bits: whole numbers to 256. No partial sum exceeds that of the sizes of all its terms.
    assert 2 * kernel[0].size <= 256
    assert all(np.array_equal(array, array.round()) for array in (clip, kernel, answer))
    for axis in (1, 2, 3):
        assert not np.array_equal(np.flip(answer, axis), answer)
    assert not np.array_equal(answer.swapaxes(2, 3), answer)


def test_the_answer_is_of_the_shape_that_the_spec_says() -> None:
    clip, _, answer = clip_kernel_answer()
    assert clip.shape == (1, *SPEC.clip_shape)
    boxes, *_ = decode(answer, SPEC)
    assert boxes.shape == (4, 4)  # of four cells with one anchor each
