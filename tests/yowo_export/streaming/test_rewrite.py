"""Frame by frame gives what whole clips give: every kind of network, on both engines, wherever videos are cut."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from yowo_deploy.arrays import Float
from yowo_deploy.backends.base import Backend, Streaming
from yowo_deploy.backends.loader import open_model
from yowo_deploy.backends.onnx_session import FrameEngine
from yowo_deploy.cli import cli
from yowo_deploy.detector import Detector
from yowo_deploy.errors import InputError, ParityError
from yowo_deploy.model_files.onnx_reader import STREAMING_KEY, read_spec
from yowo_deploy.postprocess.decode import detect
from yowo_deploy.preprocess.clip_buffer import ClipBuffer
from yowo_deploy.preprocess.frames import preprocess
from yowo_deploy.spec import METADATA_KEY, ModelSpec
from yowo_deploy.stream_pool import StreamPool
from yowo_deploy.video.reader import open_video
from yowo_export.exporter import trace
from yowo_export.graph.source import load_graph
from yowo_export.parity.bisect import paired_layers
from yowo_export.precision.convert import Wish, lower_model
from yowo_export.sample_clips import made_up_clips
from yowo_export.streaming import rewrite
from yowo_export.streaming.cut import shared_nodes
from yowo_export.streaming.rewrite import LIMITS, export_streaming, streamed
from yowo_training.checkpoints.checkpoint import Checkpoint
from yowo_training.models.backbones import BACKBONES_3D
from yowo_training.models.backbones.base import Backbone
from yowo_training.models.backbones.mobilenet import Separable
from yowo_training.models.backbones.motion import MAPS, motion
from yowo_training.models.backbones.resnet import BasicBlock, ResNet3d
from yowo_training.models.yowo import Yowo, YowoConfig

ENGINES = ("onnxruntime", "openvino")
SPEC = ModelSpec(labels=("run", "sit"), anchors=((1.0, 2.0), (2.0, 3.0)), clip_length=8, input_size=(64, 64))


class SmallMobile(Backbone):
    """A chain of strides, depthwise and pointwise layers."""

    out_channels = 32

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Conv3d(3, 8, 3, (1, 2, 2), padding=1), nn.BatchNorm3d(8), nn.ReLU()]
        widths = (8, 16, 16, 32, 32)
        self.features = nn.Sequential(*layers, *(Separable(i, o, 2) for i, o in itertools.pairwise(widths)))

    def forward(self, clips: Tensor) -> Tensor:
        return self.features(clips)  # type: ignore[no-any-return]


class SmallMotion(Backbone):
    """The flow of the default model, and a few layers."""

    out_channels = 8

    def __init__(self, pairs: int = 8) -> None:
        super().__init__()
        self.pairs = pairs
        stem = nn.Conv2d(MAPS * pairs, 8, 3, 4, padding=1)
        self.features = nn.Sequential(stem, nn.ReLU(), nn.Conv2d(8, 8, 3, 4, padding=1))

    def forward(self, clips: Tensor) -> Tensor:
        return self.features(motion(clips, self.pairs)).unsqueeze(2)  # type: ignore[no-any-return]


def small_resnet() -> ResNet3d:
    """The stem of the big ones, and one narrow block a layer."""
    return ResNet3d(BasicBlock, (1, 1, 1, 1), widths=(64, 64, 64, 64), expansion=1)


NETWORKS: dict[str, tuple[Callable[[], Backbone], int, str | None]] = {  # by how much frames are shrunk, flow branch
    "small_resnet": (small_resnet, 1, None),
    "small_mobile": (SmallMobile, 1, None),
    "small_motion": (SmallMotion, 2, None),
    "small_pairs": (partial(SmallMotion, 7), 2, None),  # all of eight frames
    "small_flow": (SmallMobile, 1, "tiny3d"),
}


def clip_file(folder: Path, name: str, spec: ModelSpec) -> Path:
    """A network of clips whose every layer is heard, as an ONNX file; for every frame stride the same."""
    path, traced = folder / f"{name}_{spec.clip_length}_{spec.frame_stride}.onnx", folder / f"{name}_{spec.clip_length}"
    if path.exists():
        return path
    if not traced.exists():
        torch.manual_seed(0)
        builder, shrink, flow = NETWORKS[name]
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(BACKBONES_3D, name, builder)
            config = YowoConfig("tiny2d", name, spec.output_channels, width=16, shrink_3d=shrink, backbone_extra=flow)
            network = Yowo(config).eval()
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.Conv3d)):
                nn.init.kaiming_normal_(module.weight)
            if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
                module.running_mean.normal_(0, 0.2)  # type: ignore[union-attr]
                module.bias.data.normal_(0, 0.2)
        ir.save(trace(Checkpoint(network, spec), "plain"), traced)
    model = ir.load(traced)
    model.metadata_props[METADATA_KEY] = spec.to_json()
    ir.save(model, path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("streaming")


@lru_cache
def pair(folder: Path, name: str, spec: ModelSpec, engine: str) -> tuple[Backend, Backend]:
    """A network as it takes clips and as it takes frames."""
    clips = clip_file(folder, name, spec)
    made = clips.with_suffix(".streaming.onnx")
    if not made.exists():
        export_streaming(clips, made)
    return open_model(clips, engine), open_model(made, engine)


def worst(clips: Backend, frames: Backend, video: list[Float | None]) -> float:
    """The largest difference over a video, relative to the largest output; None is a reset."""
    assert isinstance(frames, Streaming)
    stream, buffer, found = frames.open_stream(), ClipBuffer(clips.spec), 0.0
    for planes in video:
        if planes is None:
            stream.reset()
            buffer.reset()
            continue
        expected = clips.infer(buffer.push(planes)[None].copy())[0]
        found = max(found, float(np.abs(stream.push(planes) - expected).max() / max(1.0, np.abs(expected).max())))
    return found


def noise(count: int, spec: ModelSpec, seed: int = 0) -> list[Float | None]:
    return list(np.random.default_rng(seed).random((count, 3, *spec.clip_shape[2:]), np.float32))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_kind_of_network_gives_what_its_clips_give(name: str, engine: str, folder: Path) -> None:
    clips, frames = pair(folder, name, SPEC, engine)
    assert frames.spec == clips.spec.replace(streaming=True)
    video = noise(SPEC.clip_length + 3, SPEC)
    assert worst(clips, frames, [*video, None, *video[5:7]]) < LIMITS["fp32"]
    batch = np.stack([np.stack(video[at : at + SPEC.clip_length], 1) for at in (0, 2)])  # type: ignore[arg-type]
    np.testing.assert_allclose(frames.infer(batch), clips.infer(batch), atol=LIMITS["fp32"] * 10)


@pytest.mark.parametrize(("length", "stride"), [(8, 2), (8, 3), (6, 1)])
def test_clips_of_other_lengths_and_frame_strides(length: int, stride: int, folder: Path) -> None:
    """Clips shorter than the stem's kernel too: there every position sees padding at both ends."""
    spec = SPEC.replace(clip_length=length, frame_stride=stride)
    clips, frames = pair(folder, "small_resnet", spec, "openvino")
    video = noise(spec.clip_span + stride + 1, spec)
    assert worst(clips, frames, [*video, None, *video[:3]]) < LIMITS["fp32"]


@settings(deadline=None, max_examples=25)
@given(moves=st.lists(st.integers(0, 5) | st.none(), max_size=16))
def test_videos_may_be_cut_and_reset_anywhere(moves: list[int | None]) -> None:
    """Frames come again, are left out, and videos begin anew, in any order."""
    folder = CUT_FOLDER[0]
    clips, frames = pair(folder, "small_mobile", SPEC.replace(frame_stride=2), "onnxruntime")
    known = noise(6, SPEC)
    assert worst(clips, frames, [None if move is None else known[move] for move in moves]) < LIMITS["fp32"]


CUT_FOLDER: list[Path] = []


@pytest.fixture(autouse=True)
def _folder_for_hypothesis(folder: Path) -> None:
    CUT_FOLDER[:] = [folder]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_real_video_gives_the_same_detections(engine: str, folder: Path, data_dir: Path) -> None:
    """Every third frame is dropped in the second half."""
    clips, frames = pair(folder, "small_resnet", SPEC, engine)
    assert isinstance(frames, Streaming)
    file = sorted((data_dir / "jhmdb21" / "videos").rglob("*.avi"))[0]
    stream, buffer, shown = frames.open_stream(), ClipBuffer(SPEC), 0
    with open_video(file, allow_damaged=True) as video:
        for number, frame in enumerate(video):
            if number > 15 and number % 3 == 0:
                continue
            planes, size_wh = preprocess(frame, SPEC), (frame.shape[1], frame.shape[0])
            expected, raw = clips.infer(buffer.push(planes)[None].copy())[0], stream.push(planes)
            assert np.abs(raw - expected).max() < LIMITS["fp32"] * max(1.0, np.abs(expected).max())
            one, other = detect(expected, SPEC, size_wh), detect(raw, SPEC, size_wh)
            np.testing.assert_array_equal(one.class_id, other.class_id)
            np.testing.assert_allclose(one.xyxy, other.xyxy, atol=0.05)  # pixels: 1e-4 of a box of 500
            shown += len(one)
    assert shown


def test_a_pool_takes_frames_of_many_and_finds_what_each_finds_alone(folder: Path) -> None:
    _, frames = pair(folder, "small_resnet", SPEC, "openvino")
    rng = np.random.default_rng(0)
    videos = {name: list(rng.integers(0, 256, (6, 48, 64, 3), np.uint8)) for name in ("door", "yard")}
    alone = {}
    for name, video in videos.items():
        detector = Detector(frames, confidence=0.0)
        alone[name] = [detector.push(image).summary() for image in video]
    pool = StreamPool(frames, confidence=0.0)  # not closed: the engine is every test's
    for name, video in videos.items():
        pool.add(name, video)
    found: dict[str, list[object]] = {name: [] for name in videos}
    for name, result in pool:
        found[name].append(result.summary())
    assert found == alone and all(alone["door"]) and not pool.errors and not pool.backend.calls


def test_streams_of_one_engine_know_nothing_of_each_other(folder: Path) -> None:
    _, frames = pair(folder, "small_mobile", SPEC, "openvino")
    assert isinstance(frames, Streaming)
    one, other = frames.open_stream(), frames.open_stream()
    first, second = noise(10, SPEC, 1), noise(10, SPEC, 2)
    alone = [one.push(each) for each in first if each is not None]
    one.reset()
    for number, expected in enumerate(alone):
        np.testing.assert_array_equal(one.push(first[number]), expected)  # type: ignore[arg-type]
        other.push(second[number])  # type: ignore[arg-type]
        frames.infer(np.zeros((1, *SPEC.clip_shape), np.float32))


@pytest.mark.parametrize(
    ("name", "precision", "target", "kept"),
    [
        ("small_resnet", "fp16", "openvino", "FLOAT16"),
        ("small_resnet", "int8", "openvino", "UINT8"),
        ("small_mobile", "int8", "onnxruntime", "FLOAT"),
        ("small_flow", "int8", "openvino", "UINT8"),
        ("small_pairs", "fp16", "openvino", "FLOAT16"),
        ("small_pairs", "int8", "openvino", "FLOAT"),
        ("small_pairs", "int8", "onnxruntime", "FLOAT"),
    ],
)
def test_lower_precision_is_kept_as_narrow_as_it_is(
    name: str, precision: str, target: str, kept: str, folder: Path, tmp_path: Path
) -> None:
    """ONNX Runtime's policy leaves the stem in float, and takes apart what follows alone."""
    lowered, made = tmp_path / "low.onnx", tmp_path / "made.onnx"
    wish = Wish(precision, target, fused=False, streaming=True)  # type: ignore[arg-type]
    lower_model(clip_file(folder, name, SPEC), lowered, made_up_clips(SPEC, 2), wish, judged=1)
    assert export_streaming(lowered, made) < LIMITS[precision]
    model = ir.load(made)
    assert {value.dtype.name for value in model.graph.outputs if value.name != "raw" and value.dtype} >= {kept}
    assert name != "small_pairs" or {value.name for value in model.graph.outputs} == {"raw", "kept_1_0", "kept_0_1"}
    engine = "openvino" if target == "openvino" else "onnxruntime"
    with open_model(lowered, engine) as clips, open_model(made, engine) as frames:
        assert worst(clips, frames, noise(10, SPEC)) < LIMITS[precision]


def test_a_residual_stem_costs_thirteen_taps_a_frame(folder: Path) -> None:
    path = clip_file(folder, "small_resnet", SPEC)
    made = streamed(load_graph(path), read_spec(path))
    stem = [node for node in made.graph if node.op_type == "Conv" and node.inputs[1].shape[2:] == (7, 7)]  # type: ignore[union-attr,index]
    channels = [int(node.inputs[1].shape[1]) for node in stem]  # type: ignore[union-attr,index,call-overload]
    assert sum(channels) == 3 * 13  # of 3 * 44 in a clip: seven of the inner sum, and six of the clip's end


@pytest.mark.parametrize("name", ["small_motion", "small_pairs"])
def test_flow_is_computed_of_one_pair_a_frame(name: str, folder: Path) -> None:
    """Wherever the pairs of a clip lie; earlier ones and a grey frame are state, of the size that the file states."""
    made = streamed(load_graph(clip_file(folder, name, SPEC)), SPEC)
    inferred = ir.from_proto(onnx.shape_inference.infer_shapes(ir.to_proto(made)))
    pools = [node.inputs[0].shape for node in inferred.graph if node.op_type == "AveragePool"]  # type: ignore[union-attr]
    assert {shape[1] for shape in pools if shape is not None} == {1, 3}
    shapes = {value.name: list(value.shape or ()) for value in made.graph.outputs if value.name != "raw"}
    assert shapes == {"kept_1_0": [1, MAPS, 32, 32], "kept_0_1": [1, 1, 32, 32]}
    stated = json.loads(made.metadata_props[STREAMING_KEY])
    assert stated == {"frames": 1, "bytes": 4 * 32 * 32 * (7 * MAPS + 2)}


def test_what_reads_no_3_d_convolution_is_refused_with_the_reason(folder: Path) -> None:
    model = load_graph(clip_file(folder, "small_mobile", SPEC))
    for node in model.graph:
        if node.op_type == "Conv" and len(node.inputs[1].shape or ()) == 5:  # type: ignore[union-attr]
            mixed = ir.node(
                "Concat", [model.graph.inputs[0], model.graph.inputs[0]], attributes={"axis": 2}, name="mix"
            )
            node.replace_input_with(0, mixed.outputs[0])
            model.graph.insert_before(node, mixed)
            break
    with pytest.raises(InputError, match="read by Concat mix, which mixes them"):
        streamed(model, SPEC)
    assert shared_nodes(model, SPEC) == set()


@pytest.mark.parametrize(
    ("spec", "said"),
    [(SPEC.replace(streaming=True), "streaming file already"), (SPEC.replace(precision="bf16"), "no bf16")],
)
def test_files_of_another_kind_are_refused(spec: ModelSpec, said: str, folder: Path, tmp_path: Path) -> None:
    model = onnx.load(clip_file(folder, "small_mobile", SPEC))
    model.metadata_props[0].value = spec.to_json()
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(InputError, match=said):
        export_streaming(tmp_path / "m.onnx", tmp_path / "out.onnx")


def test_a_file_that_differs_from_its_clips_is_not_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = rewrite.input_name
    monkeypatch.setattr(rewrite, "input_name", lambda output, age: right(output, age + (age == 2)))
    with pytest.raises(ParityError, match="differs from whole clips by"):
        export_streaming(clip_file(folder, "small_resnet", SPEC), tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_a_file_that_puts_out_no_numbers_is_not_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FrameEngine, "open_stream", lambda engine: Odd())
    with pytest.raises(ParityError, match="nan"):
        export_streaming(clip_file(folder, "small_resnet", SPEC), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


class Odd:
    def push(self, planes: Float) -> Float:
        return np.full((SPEC.output_channels, *SPEC.grid_size[::-1]), np.nan, np.float32)

    def skip(self, planes: Float) -> None:
        """Nothing is kept."""


def test_layers_of_a_streaming_file_are_not_compared(folder: Path) -> None:
    pair(folder, "small_mobile", SPEC, "openvino")
    with pytest.raises(InputError, match="is a streaming file"):
        paired_layers(folder / "small_mobile_8_1.onnx", folder / "small_mobile_8_1.streaming.onnx")


def test_the_command_exports_and_inspect_says_what_it_is(folder: Path, tmp_path: Path) -> None:
    clips, made, again = clip_file(folder, "small_mobile", SPEC), tmp_path / "s.onnx", tmp_path / "again.onnx"
    run = CliRunner().invoke
    done = run(cli, ["export", str(clips), "--streaming", "-o", str(made)])
    assert done.exit_code == 0 and read_spec(made).streaming, done.output
    assert "streaming: frames" in run(cli, ["inspect", str(made)]).output
    for arguments, said in (
        (["export", str(made), "-o", str(again)], "is a streaming file"),
        (["export", str(clips), "--streaming", "--target", "tensorrt", "-o", str(again)], "not for tensorrt"),
    ):
        refused = run(cli, arguments)
        assert refused.exit_code != 0 and said in str(refused.output) + str(refused.exception)
