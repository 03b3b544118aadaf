"""Tensors of the Open Inference Protocol (KServe v2): JSON, and bytes behind the JSON.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol and its binary extension.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.serving.refusal import Refusal

# As bytes, little-endian.
DATATYPES: dict[str, np.dtype[Any]] = {"UINT8": np.dtype("<u1"), "FP32": np.dtype("<f4"), "INT64": np.dtype("<i8")}
HEADER = "inference-header-content-length"
# Of JSON: a request has few objects, and of nested data each pixel is a list. Empty ones take 20 to 80 times their text
MOST_OBJECTS, LIST_BYTES = 1000, 8

Json = dict[str, Any]
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a model.

    Attributes:
        datatype: a name in `DATATYPES`.
        shape: -1 for a side that is not fixed.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]

    def metadata(self) -> Json:
        """As the protocol describes a tensor."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


@dataclass(frozen=True)
class InferRequest:
    """A request for one inference.

    Attributes:
        inputs: by name, every one that the model has.
        wanted: the outputs to send, by name; whether each goes as bytes.
        id: that the client gave the request, or "".
        parameters: of the request, with `sequence_id` and its kin.
    """

    inputs: dict[str, NDArray[Any]]
    wanted: dict[str, bool]
    id: str
    parameters: Json


def parse_request(
    body: bytes | bytearray, json_length: int | None, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]
) -> InferRequest:
    """The request that a body holds; arrays of binary tensors are views of the body.

    Args:
        json_length: bytes of JSON at the start, with tensors behind them; None: the body is JSON.

    Raises:
        Refusal: 400, it is no request for a model with these tensors.
    """
    length = len(body) if json_length is None else json_length
    if not 0 <= length <= len(body):
        raise Refusal(400, f"the JSON is {length} bytes of a body of {len(body)}")
    head = _json(memoryview(body)[:length])
    parameters = _object(head.get("parameters", {}), "parameters")
    arrays = dict(_arrays(_list(head.get("inputs"), "inputs"), memoryview(body)[length:], inputs))
    if missing := [each.name for each in inputs if each.name not in arrays]:
        raise Refusal(400, f"input {missing[0]!r} is missing")
    said = head.get("id", "")
    if not isinstance(said, str) or len(said) > 256:
        raise Refusal(400, "the id of a request is a text of 256 characters at most")
    return InferRequest(arrays, _wanted(head.get("outputs"), parameters, outputs), said, parameters)


def encode_response(
    model: str, request: InferRequest, arrays: Arrays, outputs: Sequence[TensorInfo]
) -> tuple[bytes, int | None]:
    """The body of an answer, and its bytes of JSON where tensors follow them."""
    described, blobs = [], []
    for info in outputs:
        if info.name not in request.wanted:
            continue
        array = np.ascontiguousarray(arrays[info.name], DATATYPES[info.datatype])
        entry: Json = info.metadata() | {"shape": list(array.shape)}
        if request.wanted[info.name]:
            blobs.append(array.tobytes())
            described.append(entry | {"parameters": {"binary_data_size": array.nbytes}})
        else:
            described.append(entry | {"data": array.reshape(-1).tolist()})
    head: Json = {"model_name": model, "model_version": "1"}
    head |= {"id": request.id} if request.id else {}
    text = json.dumps(head | {"outputs": described}).encode()
    return b"".join([text, *blobs]), len(text) if any(request.wanted.values()) else None


def _json(text: memoryview) -> Json:
    packed = bytes(text)
    if packed.count(b"{") > MOST_OBJECTS or packed.count(b"[") > MOST_OBJECTS + len(packed) // LIST_BYTES:
        raise Refusal(400, "the request has more lists or objects than frames of its size")
    try:
        return _object(json.loads(packed, parse_constant=_no_constant), "the request")
    except (ValueError, RecursionError) as error:  # numbers too long, and lists too deep, for Python among them
        raise Refusal(400, "the request is not JSON") from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _object(value: Any, what: str) -> Json:
    if not isinstance(value, dict):
        raise Refusal(400, f"{what}: expected a JSON object, found {type(value).__name__}")
    return value


def _list(value: Any, what: str) -> list[Json]:
    if not isinstance(value, list):
        raise Refusal(400, f"{what}: expected a list, found {type(value).__name__}")
    return [_object(each, what) for each in value]


def _arrays(
    entries: Sequence[Json], behind: memoryview, inputs: Sequence[TensorInfo]
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Name and array of each input; bytes behind the JSON are used up in order."""
    known, seen, at = {each.name: each for each in inputs}, set[str](), 0
    for entry in entries:
        name = entry.get("name")
        if not isinstance(name, str) or name not in known or name in seen:
            raise Refusal(400, f"inputs: expected each of {', '.join(known)} once")
        seen.add(name)
        info, parameters = known[name], _object(entry.get("parameters", {}), f"parameters of {name}")
        if entry.get("datatype") != info.datatype:
            raise Refusal(400, f"{name}: expected datatype {info.datatype}")
        shape = _shape(entry.get("shape"), info)
        kind = DATATYPES[info.datatype]
        count, left = math.prod(shape), len(behind) - at
        if any(key.startswith("shared_memory") for key in parameters):
            raise Refusal(400, f"{name}: shared memory is not supported")
        if "binary_data_size" in parameters:
            size = parameters["binary_data_size"]
            if type(size) is not int or size != count * kind.itemsize or size > left:
                raise Refusal(400, f"{name}: {list(shape)} is {count * kind.itemsize} bytes, {left} are there")
            array = np.frombuffer(behind[at : at + size], kind)
            at += size
        else:
            array = _numbers(entry.get("data"), info, count)
        yield name, array.reshape(shape)
    if at != len(behind):
        raise Refusal(400, f"{len(behind) - at} bytes belong to no input")


def _shape(found: Any, info: TensorInfo) -> tuple[int, ...]:
    fits = isinstance(found, list) and len(found) == len(info.shape)
    if not fits or not all(
        type(side) is int and 0 < side < 1 << 31 and expected in (-1, side)
        for side, expected in zip(found, info.shape, strict=True)
    ):
        raise Refusal(400, f"{info.name}: expected shape {list(info.shape)}, where -1 is any length from 1")
    return tuple(found)


def _numbers(data: Any, info: TensorInfo, count: int) -> NDArray[Any]:
    """JSON numbers, flat or nested, as the datatype."""
    found = np.array(_flat(data, info.name))
    kind = DATATYPES[info.datatype]
    if found.dtype.kind not in ("iuf" if kind.kind == "f" else "iu") or found.size != count:
        raise Refusal(400, f"{info.name}: expected {count} numbers of datatype {info.datatype} as data")
    if kind.kind == "u" and (found.min() < 0 or found.max() > np.iinfo(kind).max):
        raise Refusal(400, f"{info.name}: expected numbers from 0 to {np.iinfo(kind).max}")
    with np.errstate(over="ignore"):  # infinity, which the model refuses
        return found.reshape(-1).astype(kind)


def _flat(data: Any, name: str) -> list[int | float]:
    """The numbers of a list, flat or nested; of a text among them numpy would make one as long for each number."""
    kinds = set(map(type, data)) if isinstance(data, list) else set()
    while kinds == {list} and len(set(map(len, data))) == 1:
        data = list(chain.from_iterable(data))
        kinds = set(map(type, data))
    if not kinds or not kinds <= {int, float}:
        raise Refusal(400, f"{name}: its data is not a list of numbers")
    return cast("list[int | float]", data)


def _wanted(asked: Any, parameters: Json, outputs: Sequence[TensorInfo]) -> dict[str, bool]:
    binary = parameters.get("binary_data_output", False) is True
    names = [each.name for each in outputs]
    if asked is None:
        return dict.fromkeys(names, binary)
    wanted: dict[str, bool] = {}
    for entry in _list(asked, "outputs"):
        name, own = entry.get("name"), _object(entry.get("parameters", {}), "parameters of an output")
        if not isinstance(name, str) or name not in names:
            raise Refusal(400, f"outputs: expected some of {', '.join(names)}")
        if "classification" in own or any(key.startswith("shared_memory") for key in own):
            raise Refusal(400, f"{name}: neither classification nor shared memory is supported")
        wanted[name] = own.get("binary_data", binary) is True
    return wanted
