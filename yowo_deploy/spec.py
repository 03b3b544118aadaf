"""The model specification that every artifact carries, as JSON."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
import typing
from dataclasses import dataclass
from typing import Any, Literal

from yowo_deploy.errors import SpecError, foreign
from yowo_deploy.json_text import unique_names

# 2: averaged scores, hysteresis and event thresholds; 3: what each branch is fed; 4: the type of the input
FORMAT_VERSION = 4
MAX_CLIP = 1 << 28  # numbers in the frames that clips share: 1 GiB of float32
MAX_LABELS, MAX_TEXT, MAX_ANCHORS, MAX_ANCHOR, MAX_BRANCHES = 100_000, 1_000, 1_000, 1 << 15, 8
MAX_SCALE = 1 << 15  # of mean and std: normalised values stay finite, and those of two grey levels differ in float32
MAX_JSON = 16 << 20  # characters of the JSON: its values take up to fifty times as much
METADATA_KEY = "yowo_spec"  # in ONNX metadata_props and in checkpoints

ResizeFilter = Literal["nearest", "bilinear", "bicubic"]
ClassActivation = Literal["softmax", "softmax+sigmoid"]
AttentionSign = Literal["paper", "release"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]
InputType = Literal["float32", "uint8"]
Modality = Literal["colour", "flow"]
Branch = tuple[str, Modality, Literal["key frame", "clip"]]

_SHARES = (
    "confidence_threshold", "keep_threshold", "tube_decay", "event_on", "event_off", "evaluation_threshold",
    "nms_threshold",
)  # fmt: skip


@dataclass(frozen=True)
class ModelSpec:
    """Everything a runtime must know to feed a YOWO model and to read its answer.

    Attributes:
        labels: class names; their order is the order of the class channels.
        anchors: (w, h) of each anchor in grid cells.
        clip_length: frames in a clip, T. The last one is the key frame.
        frame_stride: distance d between the frames of a clip; clip = key - (T-1)*d, ..., key - d, key.
        input_size: (width, height) in pixels; multiples of `stride`.
        stride: pixels to a grid cell.
        colour: order of the three input channels. Frames always arrive as BGR.
        mean, std: per channel in `colour` order, applied to values in [0, 1].
        input_type: "float32" planes that are normalised already, or "uint8": bytes, normalised in the network.
        resize: "squash" fills the input and does not keep the aspect ratio.
        resize_filter: how pixels are interpolated, see `preprocess.resize`.
        start_rule: what stands for frames before the first: "repeat" the first one.
        class_activation: "softmax" over all classes, or AVA's "softmax+sigmoid": softmax over the first
            `softmax_classes`, sigmoid over the rest.
        softmax_classes: see above; ignored for plain softmax.
        attention_sign: softmax(G) as in the paper, or softmax(-G) as released weights were trained
            (OFFICIAL_YOWO, "Attention sign").
        confidence_threshold: score above which a person is shown.
        keep_threshold: objectness above which a person who was shown stays so; 0: every box must exceed
            `confidence_threshold`.
        tube_decay: weight of a frame's class probabilities one frame later, where class scores are averaged along
            tubes; 0: every frame stands alone. See `postprocess.linker`.
        event_on, event_off: scores above which events begin, and below which they end.
        evaluation_threshold: for mAP.
        nms_threshold: IoU above which the weaker of two boxes goes.
        precision: of the arithmetic that the file prescribes.
        weights_sha256: hash of the weights that the file was made from; "" while there is none.
        name: of the architecture; informative only.
        streaming: whether the file takes frames and its state (see `backends/streaming.py`), not clips.
        branches: of each branch of the network its name, what it reads and from which frames. "colour" is the
            clip as it is given, "flow" optical flow that the network computes from it. Empty in files of before
            format 3. Informative only: a runtime always gives the clip.
        format_version: of the JSON; files of a newer one are refused.

    Raises:
        SpecError: a value of the wrong type or outside its range.
    """

    labels: tuple[str, ...]
    anchors: tuple[tuple[float, float], ...]
    clip_length: int = 16
    frame_stride: int = 1
    input_size: tuple[int, int] = (224, 224)
    stride: int = 32
    colour: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    input_type: InputType = "float32"
    resize: Literal["squash"] = "squash"
    resize_filter: ResizeFilter = "bilinear"
    start_rule: Literal["repeat"] = "repeat"
    class_activation: ClassActivation = "softmax"
    softmax_classes: int = 0
    attention_sign: AttentionSign = "paper"
    confidence_threshold: float = 0.25
    keep_threshold: float = 0.0
    tube_decay: float = 0.0
    event_on: float = 0.5
    event_off: float = 0.3
    evaluation_threshold: float = 0.005
    nms_threshold: float = 0.4
    precision: Precision = "fp32"
    weights_sha256: str = ""
    name: str = "yowo"
    streaming: bool = False
    branches: tuple[Branch, ...] = ()
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        _require(self.format_version >= 1, "format_version", self.format_version, f"1 to {FORMAT_VERSION}")
        if self.format_version > FORMAT_VERSION:
            raise SpecError(f"spec format {self.format_version} is newer than {FORMAT_VERSION}: upgrade yowo-deploy")
        _require(
            0 < len(self.labels) <= MAX_LABELS,
            "labels",
            len(self.labels),
            f"at least one class name, at most {MAX_LABELS}",
        )
        names = [name for name, *_ in self.branches]
        longest = max(map(len, (*self.labels, self.name, self.weights_sha256, *names)))
        _require(longest <= MAX_TEXT, "labels", longest, f"names of at most {MAX_TEXT} characters")
        distinct = len(names) == len(set(names)) <= MAX_BRANCHES and all(name and name.isprintable() for name in names)
        _require(distinct, "branches", names, f"at most {MAX_BRANCHES} printable names, none twice")
        halves = re.search("[\ud800-\udfff]", self.name + self.weights_sha256)
        _require(not halves, "name", self.name, "whole characters")
        _require(len(set(self.labels)) == len(self.labels), "labels", self.labels, "no name twice")
        printable = all(label and label.isprintable() for label in self.labels)
        _require(printable, "labels", self.labels, "names of printable characters")
        _require(
            0 < len(self.anchors) <= MAX_ANCHORS,
            "anchors",
            len(self.anchors),
            f"at least one (w, h), at most {MAX_ANCHORS}",
        )
        _require(
            all(1 / MAX_ANCHOR <= v <= MAX_ANCHOR for wh in self.anchors for v in wh),
            "anchors",
            self.anchors,
            f"sizes of 1 / {MAX_ANCHOR} to {MAX_ANCHOR} grid cells",
        )
        _require(1 <= self.clip_length <= 1024, "clip_length", self.clip_length, "1 to 1024 frames")
        _require(1 <= self.frame_stride <= 1024, "frame_stride", self.frame_stride, "1 to 1024 frames")
        _require(self.stride > 0, "stride", self.stride, "a positive number of pixels")
        _require(
            all(0 < side <= 8192 and side % self.stride == 0 for side in self.input_size),
            "input_size",
            self.input_size,
            f"multiples of {self.stride} up to 8192",
        )
        numbers = 3 * self.clip_length * self.frame_stride * math.prod(self.input_size)  # what a ring of clips holds
        _require(numbers <= MAX_CLIP, "clip_length x frame_stride x input_size", numbers, f"at most {MAX_CLIP} numbers")
        low, high = 1 / MAX_SCALE, MAX_SCALE
        _require(all(-high <= v <= high for v in self.mean), "mean", self.mean, f"-{high} to {high}")
        _require(all(low <= v <= high for v in self.std), "std", self.std, f"1 / {high} to {high}")
        _require(
            0 <= self.softmax_classes <= len(self.labels),
            "softmax_classes",
            self.softmax_classes,
            f"0 to {len(self.labels)}",
        )
        for name in _SHARES:
            _require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "0 to 1")
        _require(self.event_off <= self.event_on, "event_off", self.event_off, f"at most event_on, {self.event_on}")

    @property
    def classes(self) -> int:
        """Number of classes, C."""
        return len(self.labels)

    @property
    def grid_size(self) -> tuple[int, int]:
        """(columns, rows) of the output grid."""
        return self.input_size[0] // self.stride, self.input_size[1] // self.stride

    @property
    def output_channels(self) -> int:
        """Channels of the raw output, A * (5 + C)."""
        return len(self.anchors) * (5 + self.classes)

    @property
    def clip_span(self) -> int:
        """Consecutive frames that one clip reaches over, (T - 1) * d + 1."""
        return (self.clip_length - 1) * self.frame_stride + 1

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """(3, T, H, W), one clip as the model takes it."""
        return 3, self.clip_length, self.input_size[1], self.input_size[0]

    def replace(self, **changes: Any) -> ModelSpec:
        """A copy with some fields changed, checked again."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON, in the newest format."""
        return dataclasses.asdict(self) | {"format_version": FORMAT_VERSION}

    def to_json(self, indent: int | None = None) -> str:
        """One JSON object; `from_json` gives an equal spec back."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """The spec that `to_json` wrote.

        Raises:
            SpecError: not JSON, an unknown or missing field, a wrong type or value, or a newer format.
        """
        if not isinstance(text, str):
            raise SpecError(f"the model's spec is a {type(text).__name__}, expected JSON text")
        if len(text) > MAX_JSON:
            raise SpecError(f"the model's spec has {len(text)} characters, expected at most {MAX_JSON}")
        with foreign("the model's spec is not JSON, export the model again", SpecError):
            values = json.loads(text, object_pairs_hook=unique_names)
        return cls.from_dict(values)

    @classmethod
    def from_dict(cls, values: Any) -> ModelSpec:
        """As `from_json`, from the values it holds.

        Raises:
            SpecError: an unknown, missing or wrong field, or a newer format.
        """
        if not isinstance(values, dict):
            raise SpecError(f"the model's spec is a {type(values).__name__}, expected a JSON object")
        version = values.get("format_version", 1)
        if isinstance(version, int) and version > FORMAT_VERSION:  # first: its fields would be unknown ones
            raise SpecError(f"spec format {version} is newer than {FORMAT_VERSION}: upgrade yowo-deploy")
        hints = _hints()
        if unknown := sorted(set(values) - set(hints)):
            raise SpecError(f"unknown field in the model's spec: {', '.join(map(repr, unknown))}")
        required = {f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING}
        if missing := sorted(required - set(values)):
            raise SpecError(f"the model's spec lacks {', '.join(map(repr, missing))}")
        return cls(**{name: typed(name, value, hints[name]) for name, value in values.items()})


def _require(holds: bool, field: str, found: object, expected: str, of: str = "spec") -> None:
    if not holds:
        raise SpecError(f"{of} field {field} is {found!r}, expected {expected}")


@functools.cache
def _hints() -> dict[str, Any]:
    return typing.get_type_hints(ModelSpec)  # 2 ms


def typed(field: str, value: Any, hint: Any, of: str = "spec") -> Any:
    """`value` from JSON as the type that a field of a dataclass declares: lists become tuples, ints may be floats.

    Raises:
        SpecError: it is of another type; `of` names the dataclass in the message.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if type(None) in arguments:
        return None if value is None else typed(field, value, arguments[0], of)
    if origin is tuple:
        _require(isinstance(value, (list, tuple)), field, value, "a list", of)
        item_hints = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        _require(len(value) == len(item_hints), field, value, f"{len(item_hints)} values", of)
        return tuple(typed(field, item, item_hint, of) for item, item_hint in zip(value, item_hints, strict=True))
    if origin is Literal:
        _require(value in arguments, field, value, " or ".join(map(repr, arguments)), of)
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        _require(abs(value) < 2**53, field, value, "float", of)
        return float(value)
    right = isinstance(value, hint) and not (hint is int and isinstance(value, bool))
    _require(right, field, value, f"{hint.__name__}", of)
    return value
