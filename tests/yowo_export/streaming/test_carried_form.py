"""A file of clips that carries its streaming form: opened in it where a video comes frame by frame, else as before."""

from __future__ import annotations

import base64
import itertools
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from yowo_deploy import Detector
from yowo_deploy.backends.base import Streaming
from yowo_deploy.backends.loader import open_model
from yowo_deploy.errors import ModelFileError
from yowo_deploy.model_files.default import DEFAULT, model_path
from yowo_deploy.model_files.onnx_reader import read_onnx_file
from yowo_deploy.model_files.streaming_form import (
    FORM_KEY,
    MAX_FORM_BYTES,
    in_streaming_form,
    pack_form,
    streaming_form,
)
from yowo_deploy.preprocess.clip_buffer import ClipBuffer
from yowo_deploy.spec import FORMAT_VERSION
from yowo_deploy.video.reader import open_video
from yowo_export.graph.onnx_file import write_onnx
from yowo_export.graph.source import load_graph
from yowo_export.parity.prove import Wanted, prove
from yowo_export.precision.convert import store_anew
from yowo_export.streaming import carry
from yowo_export.streaming.carry import EXACT, carry_streaming_form
from yowo_export.streaming.cut import saved_share
from yowo_export.streaming.rewrite import export_streaming

ENGINES = ("onnxruntime", "openvino")


def worst(path: Path, engine: str, frames: int = 20) -> float:
    """The largest difference of the two forms on noise, relative to the largest output."""
    found, rng = 0.0, np.random.default_rng(0)
    with open_model(path, engine) as clips, open_model(path, engine, streaming="one") as streaming:
        assert isinstance(streaming, Streaming) and not isinstance(clips, Streaming)
        assert streaming.parallel == 1 and streaming.spec == replace(
            clips.spec, streaming=True, format_version=FORMAT_VERSION
        )
        stream, buffer = streaming.open_stream(), ClipBuffer(clips.spec)
        for _ in range(frames):
            planes = rng.random((3, *clips.spec.clip_shape[2:]), np.float32)
            expected, raw = clips.infer(buffer.push(planes)[None].copy())[0], stream.push(planes)
            found = max(found, float(np.abs(raw - expected).max() / max(1.0, np.abs(expected).max())))
    return found


@pytest.mark.parametrize("engine", ENGINES)
def test_the_default_model_carries_it_in_little_room(engine: str) -> None:
    file = read_onnx_file(model_path(DEFAULT))
    assert len(file.metadata[FORM_KEY]) < 30_000
    assert worst(file.path, engine) <= EXACT


OPTIONS: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"backend": "onnxruntime"}, True),
    ({"clips": True}, False),
    ({"every": 2}, False),
    ({"parallel": 2, "backend": "openvino"}, True),
    ({"parallel": 2, "backend": "onnxruntime"}, False),
]


@pytest.mark.parametrize(("options", "streams"), OPTIONS)
def test_a_detector_takes_it_where_every_frame_is_asked_for_and_it_is_faster(
    options: dict[str, Any], streams: bool
) -> None:
    with Detector.open(**options) as detector:
        assert isinstance(detector.backend, Streaming) is streams
        assert detector.backend.parallel == (1 if streams else options.get("parallel", 1))


def test_detections_of_a_real_video_are_the_same(data_dir: Path) -> None:
    file = sorted((data_dir / "jhmdb21" / "videos").rglob("*.avi"))[0]
    with Detector.open() as frames, Detector.open(clips=True) as clips, open_video(file, allow_damaged=True) as video:
        shown = 0
        for image in itertools.islice(video, 24):
            one, other = frames.push(image).detections, clips.push(image).detections
            np.testing.assert_array_equal(one.class_id, other.class_id)
            np.testing.assert_allclose(one.xyxy, other.xyxy, atol=0.05)  # pixels
            shown += len(one)
    assert shown


def test_what_is_written_from_such_a_file_is_of_its_own_weights(tmp_path: Path) -> None:
    source = model_path(DEFAULT)
    store_anew(source, tmp_path / "single.onnx", False)
    export_streaming(source, tmp_path / "streaming.onnx")
    for name in ("single.onnx", "streaming.onnx"):
        assert FORM_KEY not in read_onnx_file(tmp_path / name).metadata
    assert carry_streaming_form(tmp_path / "single.onnx") is not None
    form = streaming_form(read_onnx_file(tmp_path / "single.onnx"))
    assert form and {each.name for each in form.graph.tensors} > {"backbone_2d.blocks.1.expand.1.weight"}


@pytest.mark.parametrize("engine", ENGINES)
def test_parity_compares_the_form_that_detect_runs(engine: str, tmp_path: Path) -> None:
    source, changed = model_path(DEFAULT), tmp_path / "changed.onnx"
    assert prove(source, source, Wanted(clips=2), ({}, {"backend": engine})).passed
    file = read_onnx_file(source)
    form = streaming_form(file)
    assert form is not None
    [head] = [tensor for tensor in form.graph.tensors if tensor.name == "conv_final.bias"]
    other = replace(head, values=(np.frombuffer(bytes(head.values), np.float32) + 1).tobytes())
    tensors = [other if tensor is head else tensor for tensor in form.graph.tensors]
    model = ir.load(source)
    model.metadata_props[FORM_KEY] = pack_form(replace(form, graph=replace(form.graph, tensors=tensors)), file)
    write_onnx(model, changed)
    proof = prove(source, changed, Wanted(clips=2), ({}, {"backend": engine}))
    assert proof.failures and all("its streaming form, which detect runs" in each for each in proof.failures)


def test_a_streaming_file_and_one_without_a_form_stay_as_they_are(tmp_path: Path) -> None:
    source = model_path(DEFAULT)
    export_streaming(source, tmp_path / "streaming.onnx")
    assert carry_streaming_form(tmp_path / "streaming.onnx") is None
    file = read_onnx_file(tmp_path / "streaming.onnx")
    assert in_streaming_form(file, 2, "one") == (file, 1) and in_streaming_form(file, 2, "many") == (file, 2)
    plain = replace(read_onnx_file(source), metadata={})
    plain.metadata.update(yowo_spec=read_onnx_file(source).metadata["yowo_spec"])
    assert in_streaming_form(plain, 2, "one") == (plain, 2)


@pytest.mark.parametrize("limit", ["WORTH", "ROOM", "EXACT"])
def test_a_form_that_saves_little_is_large_or_differs_is_not_carried(
    limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_anew(model_path(DEFAULT), tmp_path / "half.onnx", True)
    share = saved_share(load_graph(tmp_path / "half.onnx"), read_onnx_file(tmp_path / "half.onnx").spec)
    monkeypatch.setattr(carry, limit, {"WORTH": share + 0.01, "ROOM": 1e-4, "EXACT": -1.0}[limit])
    assert carry_streaming_form(tmp_path / "half.onnx") is None
    assert FORM_KEY not in read_onnx_file(tmp_path / "half.onnx").metadata


def packed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode()


@pytest.mark.parametrize(
    "said",
    [
        "",
        "no base64!",
        packed(b"")[:-4],
        packed(b""),
        packed(b"no graph"),
        packed(b"\0" * (MAX_FORM_BYTES + 1)),
        base64.b64encode(zlib.compress(b"") + b"more").decode(),
    ],
)
def test_a_damaged_form_is_refused(said: str) -> None:
    file = read_onnx_file(model_path(DEFAULT))
    damaged = replace(file, metadata=file.metadata | {FORM_KEY: said})
    with pytest.raises(ModelFileError, match=r"yowo-lite\.onnx"):
        streaming_form(damaged)


def test_a_form_of_other_weights_is_refused() -> None:
    """A weight that the form reads by name is not there."""
    file = read_onnx_file(model_path(DEFAULT))
    missing = [each for each in file.graph.tensors if each.name != "backbone_2d.stem.1.weight"]
    with pytest.raises(ModelFileError, match=r"yowo-lite\.onnx"):
        streaming_form(replace(file, graph=replace(file.graph, tensors=missing)))


def test_any_flipped_bit_of_a_form_is_noticed() -> None:
    file = read_onnx_file(model_path(DEFAULT))
    content = bytearray(base64.b64decode(file.metadata[FORM_KEY]))
    for at in np.random.default_rng(0).integers(0, 8 * len(content), 60):
        content[at // 8] ^= 1 << (at % 8)
        said = base64.b64encode(content).decode()
        with pytest.raises(ModelFileError, match=r"yowo-lite\.onnx"):
            streaming_form(replace(file, metadata=file.metadata | {FORM_KEY: said}))
        content[at // 8] ^= 1 << (at % 8)
