"""What an ONNX file says about itself, read from its bytes. Needs no onnx package, and is the gate before any parser.

The checker and the runtimes can be crashed or hung by small crafted files (HARDENING, "ONNX"), and read protobuf less
strictly than a walker. So a file is read once and walked here; what is not of the language of our exporter, or would
make too much, is refused; and an engine is given bytes written anew from what was walked, never the file.
"""

from __future__ import annotations

import json
import os
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.errors import ModelFileError, SpecError, YowoError, foreign
from yowo_deploy.model_files.checksum import CHECKSUM_KEY, ONNX_MARK, has_checksum, refuse_another
from yowo_deploy.model_files.onnx_graph import FLOAT16, FLOAT32, INT64, UINT8, Graph, Tensor, Value, read_graph
from yowo_deploy.model_files.onnx_operators import check_nodes
from yowo_deploy.model_files.onnx_shapes import check_shapes
from yowo_deploy.model_files.protobuf import Buffer, field
from yowo_deploy.spec import METADATA_KEY, ModelSpec

CONFIG_KEY = "yowo_config"  # metadata: the architecture, with which the weights make a checkpoint again, JSON
COST_KEY = "yowo_cost"  # metadata: parameters and multiply-adds by part, JSON
STREAMING_KEY = "yowo_streaming"  # metadata: frames looked at and bytes kept by a stream, of a streaming file, JSON
PRECISION_KEY = "yowo_precision"  # metadata: how a file of lower precision came about, JSON

FRAMES, RAW = "frames", "raw"  # of a streaming file, see `backends.streaming`; other files name theirs as they like
NOTES = "yowo_"  # begins the keys of metadata that our exporter gives to nodes
MAX_BYTES = 2 << 30  # what one protobuf file can hold
MOST_PARTS = 100  # of a network; and facts of how a file came about
_LARGE = 1024  # bytes of a weight that is worth a name of its own
_REUSED = 31 << 20  # see `read_onnx_file`

_DTYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 10: "float16", 16: "bfloat16"}
_TAKEN = {each: _DTYPES[each] for each in (FLOAT32, UINT8)}


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file that passed the gate.

    Attributes:
        path: for messages alone; the file is not read again.
        metadata: the model's own key-value pairs.
        values: type and shape of every value by name, for a batch of one.
        checked: it records its checksum, as those of older versions and of other programs do not.
    """

    path: Path
    graph: Graph
    metadata: dict[str, str]
    values: dict[str, tuple[int, tuple[int, ...]]]
    checked: bool = False

    @property
    def opset(self) -> int:
        """Of the standard operators."""
        return self.graph.opset

    @property
    def batch(self) -> int | None:
        """Clips that a call must have; None for any number."""
        side = (self.graph.inputs[0].shape or (-1,))[0]
        return side if side > 0 else None

    @cached_property
    def operators(self) -> Counter[str]:
        """How often each occurs."""
        return Counter(node.operator for node in self.graph.nodes)

    @property
    def dtypes(self) -> Counter[str]:
        """How many weights are of each type."""
        return Counter(_DTYPES[tensor.dtype] for tensor in self.graph.tensors)

    @property
    def spec(self) -> ModelSpec:
        """The spec that the file carries.

        Raises:
            SpecError: it carries none, a broken one, or that of a network which takes another type.
            ModelFileError: its raw output is not of float32, or not of as many clips as go in.
        """
        if METADATA_KEY not in self.metadata:
            raise SpecError(
                f"{self.path} carries no spec (metadata {METADATA_KEY!r}), so labels and anchors are unknown: "
                "write the file with `yowo-deploy export`"
            )
        spec = ModelSpec.from_json(self.metadata[METADATA_KEY])
        given, raw = _named(self.graph.inputs, FRAMES), _named(self.graph.outputs, RAW)
        found = _TAKEN.get(given.dtype, "numbers of another type") if given else "nothing"
        if found != spec.input_type:
            raise SpecError(f"{self.path} takes {found}, its spec says {spec.input_type}: export it again")
        taken, put = (self.values[each.name] if each else (0, ()) for each in (given, raw))
        if put[0] != FLOAT32 or put[1][:1] != taken[1][:1]:
            raise ModelFileError(
                f"{self.path} outputs {_DTYPES.get(put[0], 'nothing')} of shape {put[1]} for {taken[1]}, expected "
                "float32 of as many clips: export it again"
            )
        return spec

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """The float32 and float16 weights by name, as float32."""
        return {each.name: _values(each) for each in self.graph.tensors if each.dtype in (FLOAT32, FLOAT16)}

    def model_bytes(self) -> bytes:
        """An ONNX file of the graph, for an engine: nothing is in it but what the gate walked."""
        return b"".join(self.graph.parts())

    def model_and_weights(self) -> tuple[bytes, dict[str, Buffer]]:
        """As `model_bytes`, but large weights lie beside it in memory and are not copied: views of what was read.

        Their names are random, so that no file on a disk can be taken for one of them.
        """
        weights: dict[str, Buffer] = {}
        secret = secrets.token_hex(16)

        def place(tensor: Tensor) -> str:
            if tensor.field != 9 or tensor.dtype == INT64 or len(tensor.values) < _LARGE:
                return ""  # engines infer shapes by whole numbers before they look beside the model
            name = f"{secret}-{len(weights)}"
            weights[name] = tensor.values
            return name

        return b"".join(self.graph.parts(beside=place)), weights

    def file_bytes(self) -> bytes:
        """As `model_bytes`, with the metadata of the model and our own of its nodes: for tools that rewrite graphs."""
        return b"".join([*self.graph.parts(notes=NOTES), *_metadata(self)])


def read_onnx_file(path: Path, sha256: str | None = None) -> OnnxFile:
    """Read a file once, and refuse what is not a plain network of our exporter's language.

    Args:
        sha256: that it must have; None for any.

    Raises:
        ModelFileError: no ONNX file, or not strictly written; damaged since it was written; functions, subgraphs or
            external data; operators, attributes or shapes that no YOWO graph has; too large, or what an engine would
            make of it is; or of another hash.
    """
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        # glibc gives blocks over a size back to the system at once, and pages of new ones are dear: 2 us each. Once one
        # was freed, blocks up to its size are used again, at most 32 MiB. This one is not touched, so it costs nothing;
        # opening the default model on ONNX Runtime has 28,000 page faults so in place of 36,000.
        bytes(min(size, _REUSED))
        content = stream.read(size + 1) if size <= MAX_BYTES else b""  # a file that grows meanwhile is cut off
    if size > MAX_BYTES:
        raise ModelFileError(f"{path} is larger than {MAX_BYTES >> 30} GiB, more than one ONNX file can be")
    refuse_another(path, content, sha256)
    checked = has_checksum(path, content, ONNX_MARK, 0)
    return replace(checked_file(content, path), checked=checked)


def checked_file(content: bytes, path: Path, shared: Sequence[Tensor] = ()) -> OnnxFile:
    """As `read_onnx_file`, of bytes, whatever their checksum.

    Args:
        path: for messages.
        shared: weights that the graph reads by name and does not hold itself.

    Raises:
        ModelFileError: no ONNX file, or one that is refused; see `read_onnx_file`.
    """
    try:
        graph, metadata = read_graph(memoryview(content))
        used = {name for node in graph.nodes for name in node.inputs} - {each.name for each in graph.tensors}
        graph.tensors.extend(each for each in shared if each.name in used)
        check_nodes(graph.nodes)
        values = check_shapes(graph)
    except ModelFileError as error:
        raise ModelFileError(f"{path} {error}") from error
    except (IndexError, ValueError) as error:
        raise ModelFileError(f"{path} is not an ONNX file, or is cut off") from error
    return OnnxFile(path, graph, metadata, values)


def read_spec(path: Path) -> ModelSpec:
    """The spec that an ONNX file carries, the file itself passed through the gate.

    Raises:
        ModelFileError: as `read_onnx_file`.
        SpecError: the file carries none, or a broken one.
    """
    return read_onnx_file(path).spec


def recorded_cost(metadata: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """Parameters and multiply-adds ("macs") by part as the exporter recorded them; nothing where something else stands.

    The whole is under "total".
    """
    with suppress(YowoError), foreign(COST_KEY):
        parts = json.loads(metadata[COST_KEY])
        if len(parts) <= MOST_PARTS:
            return {name: {key: int(part[key]) for key in ("parameters", "macs")} for name, part in parts.items()}
    return {}


def show_values(source: Path, names: Sequence[str], path: Path) -> None:
    """Write a file again with values of it as outputs behind its own, under their names and of their own types.

    Args:
        source: an ONNX file.
        names: of values that nodes put out; outputs already are left out.

    Raises:
        ModelFileError: as `read_onnx_file`.
    """
    found = read_onnx_file(source)
    shown = {each.name for each in found.graph.outputs}
    found.graph.outputs.extend(Value(name, 0, None) for name in dict.fromkeys(names) if name not in shown)
    with path.open("wb") as written:
        written.writelines([*found.graph.parts(), *_metadata(found)])


def _named(values: Sequence[Value], name: str) -> Value | None:
    """The one of this name, as streaming files have, else the first."""
    return next((each for each in values if each.name == name), values[0] if values else None)


def _metadata(file: OnnxFile) -> list[bytes]:
    kept = ((key, value) for key, value in file.metadata.items() if key != CHECKSUM_KEY)
    return [field(14, field(1, key) + field(2, value)) for key, value in kept]


def _values(tensor: Tensor) -> NDArray[np.float32]:
    kind = "<f4" if tensor.dtype == FLOAT32 else "<f2"
    return np.frombuffer(tensor.values, kind).reshape(tensor.shape).astype(np.float32)
