"""Preprocessing: the pixels that Pillow would make, in the order and scale that the spec asks for."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeVar, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from yowo_deploy.arrays import Float, Frame
from yowo_deploy.errors import InputError
from yowo_deploy.preprocess.frames import (
    MAX_SIDE,
    WEIGHT_ONE,
    KernelName,
    as_bgr,
    normalise,
    preprocess,
    resample_weights,
    resize,
)
from yowo_deploy.preprocess.golden_frame import golden_frame
from yowo_deploy.spec import MAX_SCALE, ModelSpec, ResizeFilter

Number = TypeVar("Number", float, Fraction)

law = settings(max_examples=60, deadline=None)
FILTERS = st.sampled_from(get_args(ResizeFilter))
SIDES = st.integers(1, 16)


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    """Noise of any small size; half of them black and white, which makes bicubic overshoot most."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    noise = rng.integers(0, 256, (draw(SIDES), draw(SIDES), 3), np.uint8)
    return noise if draw(st.booleans()) else (noise // 128 * 255).astype(np.uint8)


def triangle(x: Number) -> Number:
    return max(x * 0, 1 - abs(x))


def keys(x: Number) -> Number:
    """Cubic convolution with a = -0.5 (Keys 1981, equation 15), in floats or fractions."""
    x = abs(x)
    if x < 1:
        return (3 * x**3 - 5 * x**2 + 2) / 2
    return (-(x**3) + 5 * x**2 - 8 * x + 4) / 2 if x < 2 else x * 0


KERNELS: dict[str, tuple[Callable[[Any], Any], int]] = {"bilinear": (triangle, 1), "bicubic": (keys, 2)}


KERNEL_NAMES = st.sampled_from(sorted(KERNELS))


def plain_resample(line: list[int], length: int, resize_filter: str) -> list[int]:
    """One line of grey levels as Pillow's Resample.c makes it: a kernel as wide as the shrinking asks for, cut off at
    the ends and normalised; rounded half up and clipped."""
    kernel, radius = KERNELS[resize_filter]
    scale = max(1.0, len(line) / length)
    made = []
    for i in range(length):
        centre = (i + 0.5) * len(line) / length
        low = max(0, math.floor(centre - radius * scale + 0.5))
        high = min(len(line), math.floor(centre + radius * scale + 0.5))
        taps = [kernel((x + 0.5 - centre) / scale) for x in range(low, high)]
        value = sum(tap * line[low + x] for x, tap in enumerate(taps)) / sum(taps)
        made.append(min(255, max(0, math.floor(value + 0.5))))
    return made


def plain_resize(frame: Frame, size_wh: tuple[int, int], resize_filter: str) -> NDArray[np.int64]:
    """Line by line, then column by column, each channel for itself."""
    rows = [
        [plain_resample(row[:, channel].tolist(), size_wh[0], resize_filter) for channel in range(3)] for row in frame
    ]
    columns = [
        [plain_resample(list(column), size_wh[1], resize_filter) for column in zip(*channel, strict=True)]
        for channel in zip(*rows, strict=True)
    ]
    return np.array(columns, np.int64).transpose(2, 1, 0)


@law
@given(frames(), SIDES, SIDES, KERNEL_NAMES)
def test_resizing_is_the_plain_convolution(frame: Frame, width: int, height: int, resize_filter: KernelName) -> None:
    agrees_with_the_plain_convolution(frame, (width, height), resize_filter)


@pytest.mark.parametrize("resize_filter", sorted(KERNELS))
def test_what_takes_many_products_is_the_plain_convolution_too(resize_filter: KernelName) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (70, 900, 3), np.uint8)
    agrees_with_the_plain_convolution(frame, (20, 11), resize_filter)  # more than `_PRODUCTS_A_BLOCK` in the first pass


def agrees_with_the_plain_convolution(frame: Frame, size_wh: tuple[int, int], resize_filter: KernelName) -> None:
    found = resize(frame, size_wh, resize_filter).astype(np.int64)
    # Single and double precision may round a sum that is all but a half apart. That is one grey level; a second pass
    # multiplies it by at most 1.25, the sum of bicubic's absolute weights, and may round apart once more.
    passes = (size_wh[0] != frame.shape[1]) + (size_wh[1] != frame.shape[0])
    assert np.abs(found - plain_resize(frame, size_wh, resize_filter)).max() <= passes


def exact_weights(length_in: int, length_out: int, resize_filter: str) -> list[list[int]]:
    """By the definition, in fractions: running sums of the kernel, rounded half up to multiples of 2^-15."""
    kernel, _ = KERNELS[resize_filter]
    scale = max(Fraction(1), Fraction(length_in, length_out))
    rows = []
    for i in range(length_out):
        centre = (i + Fraction(1, 2)) * length_in / length_out
        taps = [kernel((x + Fraction(1, 2) - centre) / scale) for x in range(length_in)]
        ends = [math.floor(sum(taps[: x + 1]) / sum(taps) * 2**15 + Fraction(1, 2)) for x in range(length_in)]
        rows.append([end - start for start, end in zip([0, *ends], ends, strict=False)])
    return rows


def dense(length_in: int, length_out: int, resize_filter: KernelName) -> NDArray[np.int64]:
    sources, weights = resample_weights(length_in, length_out, resize_filter)
    made = np.zeros((length_out, length_in), np.int64)
    np.add.at(made, (np.arange(length_out)[:, None], sources), weights)
    return made


@law
@given(SIDES, SIDES, KERNEL_NAMES)
def test_weights_are_the_definition_to_the_bit(length_in: int, length_out: int, resize_filter: KernelName) -> None:
    made = dense(length_in, length_out, resize_filter)
    assert made.tolist() == exact_weights(length_in, length_out, resize_filter)


@law
@given(st.integers(1, MAX_SIDE), st.integers(1, 900), KERNEL_NAMES)
def test_every_sum_of_bytes_and_weights_is_exact_in_float32(
    length_in: int, length_out: int, resize_filter: KernelName
) -> None:
    _, weights = resample_weights(length_in, length_out, resize_filter)
    assert np.all(weights.sum(axis=1) == WEIGHT_ONE)
    assert 255 * np.abs(weights).sum(axis=1).max() + WEIGHT_ONE // 2 < 2**24


@law
@given(
    st.integers(1, 60), st.integers(1, 60), st.floats(-80, 80), st.floats(0.5, 150), st.sampled_from(sorted(KERNELS))
)
def test_windows_beyond_the_edge_keep_weights_that_are_exact(
    length_in: int, length_out: int, start: float, extent: float, resize_filter: KernelName
) -> None:
    sources, weights = resample_weights(length_in, length_out, resize_filter, (start, start + extent))
    assert sources.min() >= 0 and sources.max() < length_in
    assert np.all(weights.sum(axis=1) == WEIGHT_ONE)
    assert 255 * np.abs(weights).sum(axis=1).max() + WEIGHT_ONE // 2 < 2**24


@law
@given(frames(), SIDES, SIDES, KERNEL_NAMES)
def test_resizing_is_whole_numbers_to_the_bit(frame: Frame, width: int, height: int, resize_filter: KernelName) -> None:
    if (width, height) == (frame.shape[1], frame.shape[0]):
        return
    across, down = dense(frame.shape[1], width, resize_filter), dense(frame.shape[0], height, resize_filter)
    half = WEIGHT_ONE // 2
    narrow = np.clip((np.einsum("ow,hwc->hoc", across, frame.astype(np.int64)) + half) // WEIGHT_ONE, 0, 255)
    expected = np.clip((np.einsum("oh,hwc->owc", down, narrow) + half) // WEIGHT_ONE, 0, 255)
    assert np.array_equal(resize(frame, (width, height), resize_filter), expected)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("resize_filter", sorted(KERNELS))
def test_a_graph_resizes_to_the_same_bits(resize_filter: KernelName, engine: str) -> None:
    """Two matrix products, each rounded half up and clipped: what a served model may do inside."""
    onnx = pytest.importorskip("onnx")
    across, down = (dense(*sides, resize_filter) / np.float32(WEIGHT_ONE) for sides in ((97, 64), (61, 96)))
    constants = {"across": across.astype(np.float32).T, "down": down.astype(np.float32), "half": np.float32(0.5),
                 "low": np.float32(0), "high": np.float32(255)}  # fmt: skip
    nodes = []
    for name, operands in (("narrow", ["frame", "across"]), ("made", ["down", "narrow"])):
        nodes += [
            onnx.helper.make_node("MatMul", operands, [f"{name}_sum"]),
            onnx.helper.make_node("Add", [f"{name}_sum", "half"], [f"{name}_half"]),
            onnx.helper.make_node("Floor", [f"{name}_half"], [f"{name}_floor"]),
            onnx.helper.make_node("Clip", [f"{name}_floor", "low", "high"], [name]),
        ]
    tensor = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        nodes, "resize",
        [onnx.helper.make_tensor_value_info("frame", tensor, [3, 61, 97])],
        [onnx.helper.make_tensor_value_info("made", tensor, [3, 96, 64])],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    frame = golden_frame()
    made = run_graph(model.SerializeToString(), engine, frame.transpose(2, 0, 1).astype(np.float32))
    assert np.array_equal(made.transpose(1, 2, 0), resize(frame, (64, 96), resize_filter))


def run_graph(model: bytes, engine: str, planes: Float) -> Float:
    if engine == "onnxruntime":
        session = pytest.importorskip("onnxruntime").InferenceSession(model, providers=["CPUExecutionProvider"])
        return np.asarray(session.run(None, {"frame": planes})[0])
    openvino = pytest.importorskip("openvino")
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(io.BytesIO(model)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array(compiled([planes])[0])


@law
@given(st.tuples(*[st.integers(0, 255)] * 3), SIDES, SIDES, SIDES, SIDES, FILTERS)
def test_a_plain_colour_stays_that_colour(
    colour: tuple[int, int, int], width: int, height: int, width_out: int, height_out: int, resize_filter: ResizeFilter
) -> None:
    made = resize(np.full((height, width, 3), colour, np.uint8), (width_out, height_out), resize_filter)
    assert made.dtype == np.uint8
    assert np.array_equal(made, np.full((height_out, width_out, 3), colour, np.uint8))


@law
@given(frames(), FILTERS)
def test_a_frame_of_the_wanted_size_is_left_as_it_is(frame: Frame, resize_filter: ResizeFilter) -> None:
    assert np.array_equal(resize(frame, (frame.shape[1], frame.shape[0]), resize_filter), frame)


@law
@given(frames(), SIDES, SIDES, KERNEL_NAMES)
def test_a_mirrored_frame_is_mirrored_after_resizing(
    frame: Frame, width: int, height: int, resize_filter: KernelName
) -> None:
    made = resize(frame, (width, height), resize_filter).astype(int)
    mirrored = resize(frame[::-1, ::-1], (width, height), resize_filter)[::-1, ::-1].astype(int)
    assert np.abs(made - mirrored).max() <= 2  # as above: the same sums in another order


@law
@given(frames(), SIDES, SIDES, FILTERS)
def test_colours_do_not_mix(frame: Frame, width: int, height: int, resize_filter: ResizeFilter) -> None:
    reversed_colours = resize(frame[..., ::-1], (width, height), resize_filter)
    assert np.array_equal(reversed_colours, resize(frame, (width, height), resize_filter)[..., ::-1])


NORMS: list[dict[str, Any]] = [
    {},
    {"colour": "bgr"},
    {"mean": (0.45, 0.45, 0.45), "std": (0.225, 0.225, 0.225)},
    {"mean": (0.1, 0.2, 0.3), "std": (0.5, 1.0, 2.0), "colour": "bgr"},
    {"mean": (0.1, 0.0, 0.3), "std": (0.5, 1.0, 2.0)},
]


@pytest.mark.parametrize("norm", NORMS)
def test_values_are_scaled_and_normalised_in_the_order_of_the_spec(norm: dict[str, Any], spec: ModelSpec) -> None:
    spec = spec.replace(**norm)
    frame = np.random.default_rng(0).integers(0, 256, (4, 8, 3), np.uint8)
    by_name = dict(zip("bgr", np.moveaxis(frame, 2, 0) / 255, strict=True))
    wanted = [(by_name[c] - mean) / std for c, mean, std in zip(spec.colour, spec.mean, spec.std, strict=True)]
    # Values reach 4.5; the factor, the product, the quotient and the difference each round by half of 2^-21.
    assert np.allclose(normalise(frame, spec), wanted, rtol=0, atol=2 * 2**-21)
    assert np.array_equal(preprocess(frame, spec), normalise(frame, spec))


@pytest.mark.parametrize("norm", NORMS)
def test_gains_go_to_their_colours_and_end_at_white(norm: dict[str, Any], spec: ModelSpec) -> None:
    spec, gains_bgr = spec.replace(**norm), (0.5, 1.0, 1.75)
    frame = np.random.default_rng(0).integers(0, 256, (4, 8, 3), np.uint8)
    written = np.full((3, 4, 8), np.nan, np.float32)
    assert normalise(frame, spec, gains_bgr, out=written) is written
    by_name = dict(zip("bgr", np.moveaxis(np.minimum(frame * gains_bgr, 255), 2, 0) / 255, strict=True))
    wanted = [(by_name[c] - mean) / std for c, mean, std in zip(spec.colour, spec.mean, spec.std, strict=True)]
    assert np.allclose(written, wanted, rtol=0, atol=2 * 2**-21)  # as above


@law
@given(frames(), FILTERS)
def test_planes_are_what_a_clip_takes_and_the_frame_stays(frame: Frame, resize_filter: ResizeFilter) -> None:
    spec = ModelSpec(("walk",), ((1.0, 1.0),), input_size=(8, 4), stride=2, resize_filter=resize_filter)
    before = frame.copy()
    frame.flags.writeable = False
    planes = preprocess(frame, spec)
    assert planes.shape == (3, 4, 8)
    assert planes.dtype == np.float32
    assert planes.flags.c_contiguous
    assert 0 <= planes.min() <= planes.max() <= 1 + 2**-23  # 255 times the rounded 1 / 255
    assert np.array_equal(frame, before)


@pytest.mark.parametrize("resize_filter", get_args(ResizeFilter))
def test_a_frame_may_be_any_view(resize_filter: ResizeFilter, spec: ModelSpec) -> None:
    spec = spec.replace(resize_filter=resize_filter)
    frame = np.random.default_rng(0).integers(0, 256, (9, 14, 3), np.uint8)
    for view in (frame[:, ::-1], frame[::2, ::3], frame[..., ::-1], frame.transpose(1, 0, 2), frame[2:7, 3:9]):
        assert np.array_equal(preprocess(view, spec), preprocess(view.copy(), spec))


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((8,), np.uint8),
        ((), np.uint8),
        ((8, 8, 2), np.uint8),
        ((1, 8, 8, 3), np.uint8),
        ((0, 8, 3), np.uint8),
        ((0, 8), np.uint8),
        ((8, 8), np.uint16),
        ((8, 8, 3), np.float32),
    ],
)
def test_what_is_no_frame_is_refused(shape: tuple[int, ...], dtype: type, spec: ModelSpec) -> None:
    with pytest.raises(InputError, match="expected uint8 of shape \\(height, width, 3\\) in BGR"):
        preprocess(np.zeros(shape, dtype), spec)


def test_what_is_no_array_is_refused(spec: ModelSpec) -> None:
    with pytest.raises(InputError, match="frame is NoneType, expected a numpy array"):
        preprocess(None, spec)  # type: ignore[arg-type]  # what a camera gives when it has nothing


def test_grey_becomes_three_equal_channels_and_alpha_is_left_out(spec: ModelSpec) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (9, 14, 3), np.uint8)
    grey, alpha = frame[..., 0], np.concatenate([frame, frame[..., :1]], axis=2)
    assert as_bgr(frame) is frame
    assert np.array_equal(as_bgr(alpha), frame)
    for view in (grey, grey[..., None], grey[::-1].copy()[::-1]):
        assert np.array_equal(as_bgr(view), np.repeat(grey[..., None], 3, axis=2))
    assert np.array_equal(preprocess(alpha, spec), preprocess(frame, spec))


def test_a_frame_beyond_what_weights_reach_is_refused(spec: ModelSpec) -> None:
    with pytest.raises(InputError, match="expected at most 32768 pixels a side"):
        preprocess(np.zeros((1, MAX_SIDE + 1, 3), np.uint8), spec)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 1), (1, 500, 3), (4320, 7680)])
def test_a_frame_may_be_a_pixel_or_8k(shape: tuple[int, ...], spec: ModelSpec) -> None:
    planes = preprocess(np.full(shape, 51, np.uint8), spec)
    assert planes.shape == (3, spec.input_size[1], spec.input_size[0])
    assert np.allclose(planes, 0.2, atol=1e-6)  # whatever the size, a plain frame stays as bright as it is


@pytest.mark.parametrize("resize_filter", sorted(KERNELS))
@pytest.mark.parametrize("long", [4_999, MAX_SIDE])
@pytest.mark.parametrize("thin", [1, 2, 3, 4, 7])
def test_a_frame_may_be_a_line(thin: int, long: int, resize_filter: KernelName) -> None:
    for shape in ((thin, long, 3), (long, thin, 3)):
        assert (resize(np.full(shape, 51, np.uint8), (16, 24), resize_filter) == 51).all()


@pytest.mark.parametrize("colour", ["rgb", "bgr"])
@pytest.mark.parametrize("size_wh", [(32, 24), (97, 61)])
def test_bytes_are_what_is_normalised(colour: Any, size_wh: tuple[int, int]) -> None:
    """Planes of a model that normalises itself, in its colour order, from frames that are resized and that are not."""
    spec = ModelSpec(("walk",), ((1.0, 1.0),), input_size=(32, 24), stride=8, colour=colour, mean=(0.1, 0.2, 0.3))
    frame = np.random.default_rng(0).integers(0, 256, (size_wh[1], size_wh[0], 3), np.uint8)[:, ::-1]
    planes = preprocess(frame, spec.replace(input_type="uint8"))
    assert planes.dtype == np.uint8 and planes.shape == (3, 24, 32) and planes.flags.c_contiguous
    expected = planes / 255 - np.reshape(spec.mean, (3, 1, 1))
    np.testing.assert_array_equal(preprocess(frame, spec), expected.astype(np.float32))


@pytest.mark.parametrize("mean", [-MAX_SCALE, MAX_SCALE])
@pytest.mark.parametrize("grey", [0, 255])
def test_planes_of_any_spec_are_finite(mean: float, grey: int) -> None:
    spec = ModelSpec(("walk",), ((1.0, 1.0),), input_size=(8, 8), stride=8, mean=(mean,) * 3, std=(1 / MAX_SCALE,) * 3)
    assert np.isfinite(preprocess(np.full((8, 8, 3), grey, np.uint8), spec)).all()
