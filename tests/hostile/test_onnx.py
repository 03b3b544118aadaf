"""Hand-made and mutated ONNX files: each is refused with one line, or passes and an engine can be given it."""

from __future__ import annotations

import importlib
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.hostile.onnx_files import SPEC, mutants, onnx_files, streaming_file
from yowo_deploy.errors import InputError, ModelFileError, YowoError
from yowo_deploy.model_files.onnx_reader import read_onnx_file, read_spec

FILES = onnx_files()


def refusal(path: Path, content: bytes) -> str:
    """What is said of a file; "" where it passes, and any error but our own fails the test."""
    path.write_bytes(content)
    try:
        found = read_onnx_file(path)
        found.model_bytes()
        _ = found.spec
    except InputError as error:
        return str(error).removeprefix(f"{path} ")
    return ""


@pytest.mark.parametrize("name", FILES)
def test_a_file_made_by_hand_gets_its_verdict(name: str, tmp_path: Path) -> None:
    content, verdict = FILES[name]
    said = refusal(tmp_path / "m.onnx", content)
    assert re.search(verdict, said) if verdict else said == ""
    assert "\n" not in said and len(said) < 450


def test_the_corpus_holds_both_verdicts() -> None:
    assert len(FILES) > 250
    assert Counter(bool(verdict) for _, verdict in FILES.values())[False] >= 5


def test_what_an_engine_is_given_passes_the_gate_and_gives_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    for content, verdict in FILES.values():
        if verdict:
            continue
        path.write_bytes(content)
        found = read_onnx_file(path)
        path.write_bytes(found.model_bytes())
        again = read_onnx_file(path)
        assert again.model_bytes() == found.model_bytes()
        assert (again.graph.nodes, again.values) == (found.graph.nodes, found.values)


@pytest.mark.parametrize("name", [name for name, (_, verdict) in FILES.items() if not verdict])
@pytest.mark.parametrize(("module", "library"), [("ort", "onnxruntime"), ("ov", "openvino")])
def test_what_passes_the_gate_runs(name: str, module: str, library: str, tmp_path: Path) -> None:
    pytest.importorskip(library)
    path = tmp_path / "m.onnx"
    path.write_bytes(FILES[name][0])
    try:
        with importlib.import_module(f"yowo_deploy.backends.{module}").open_file(path) as engine:
            raw = engine.infer(np.ones((1, *SPEC.clip_shape), np.float32))
    except ModelFileError as error:  # an engine may be stricter, in its own words
        assert library in str(error)
        return
    np.testing.assert_array_equal(raw, np.full((1, SPEC.output_channels, 1, 2), 96))


@pytest.mark.parametrize(("module", "library"), [("ort", "onnxruntime"), ("ov", "openvino")])
def test_a_streaming_file_keeps_what_lies_within_a_clip(module: str, library: str, tmp_path: Path) -> None:
    pytest.importorskip(library)
    opened, path = importlib.import_module(f"yowo_deploy.backends.{module}").open_file, tmp_path / "m.onnx"
    path.write_bytes(streaming_file())
    with opened(path) as engine:
        stream, frame = engine.open_stream(), np.ones((3, *SPEC.clip_shape[2:]), np.float32)
        assert [float(stream.push(each * frame)[0, 0, 0]) for each in (1, 3)] == [97, 193]
    for content, said in (
        (streaming_file(frames=3), "looks at 3 frames"),
        (streaming_file(age=2), "of up to 2 frames before, a clip has 2"),
        (streaming_file(keeps=False), "of up to 0 frames before, a clip has 2"),
    ):
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match=said):
            opened(path)


def test_an_answer_for_each_clip_or_an_error(tmp_path: Path) -> None:
    """The gate looks at one clip, of which a constant is a fitting answer."""
    path = tmp_path / "m.onnx"
    path.write_bytes(FILES["one answer whatever goes in"][0])
    with pytest.importorskip("yowo_deploy.backends.ort").open_file(path) as engine:
        assert engine.infer(np.ones((1, *SPEC.clip_shape), np.float32)).shape[0] == 1
        with pytest.raises(ModelFileError, match="answers 2 clips with 1"):
            engine.infer(np.ones((2, *SPEC.clip_shape), np.float32))


def test_mutants_are_refused_or_pass(tmp_path: Path) -> None:
    path, passed = tmp_path / "m.onnx", 0
    good = FILES["the good file"][0]
    for spoiled in mutants(good, 1_000, seed=22):
        path.write_bytes(spoiled)
        try:
            read_spec(path)
            passed += 1
        except YowoError as error:
            assert "\n" not in str(error)
    assert 0 < passed < 500  # most of the bytes are weights, whose bits the gate does not judge
