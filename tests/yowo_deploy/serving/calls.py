"""A server on this machine and requests to it, with the standard library alone."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette

from tests.waiting import wait_until
from yowo_deploy.serving.server import listen, server
from yowo_deploy.serving.tensors import DATATYPES, HEADER

STREAM_INFER, CLIP_INFER = "/v2/models/yowo_stream/infer", "/v2/models/yowo_clip/infer"


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """Of an answer that is none; its body holds that and nothing else."""
        [(name, text)] = self.json.items()
        assert name == "error" and self.status >= 400
        return str(text)

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """The tensors, as bytes or as JSON."""
        assert self.status == 200, self.body
        length = int(self.headers.get(HEADER, len(self.body)))
        at, found = length, {}
        for each in json.loads(self.body[:length])["outputs"]:
            kind, size = DATATYPES[each["datatype"]], each.get("parameters", {}).get("binary_data_size")
            if size is None:
                array = np.array(each["data"], kind)
            else:
                array = np.frombuffer(self.body[at : at + size], kind)
                at += size
            found[each["name"]] = array.reshape(each["shape"])
        assert at == len(self.body)
        return found


class Running:
    """An application behind uvicorn on a port of the loopback address, in a thread."""

    def __init__(self, application: Starlette, port: int = 0) -> None:
        self.service = getattr(application.state, "service", None)
        self._listener = listen("127.0.0.1", port)
        self.port: int = self._listener.getsockname()[1]
        self._server = server(application)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]})
        self._thread.start()
        wait_until(lambda: self._server.started)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port)

    def ask(
        self,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        method: str | None = None,
    ) -> Answer:
        """One request on a connection of its own; with a body a POST, in chunks if it is an iterable."""
        line = self.connection()
        try:
            return ask(line, path, body, headers, method)
        finally:
            line.close()

    def push(self, frame: NDArray[Any], key: int | str = 1, start: bool = False, end: bool = False) -> Answer:
        """The next frame of a sequence, as bytes."""
        return self.ask(*binary({"frame": frame}, sequence_id=key, sequence_start=start, sequence_end=end))


def ask(
    line: http.client.HTTPConnection,
    path: str,
    body: bytes | Iterable[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
    method: str | None = None,
) -> Answer:
    """As `Running.ask`, on a connection that stays open."""
    line.request(method or ("GET" if body is None else "POST"), path, body, dict(headers or {}))
    answer = line.getresponse()
    return Answer(answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()})


def binary(
    arrays: Mapping[str, NDArray[Any]], binary_data_output: bool = True, **parameters: Any
) -> tuple[str, bytes, dict[str, str]]:
    """Path, body and headers of a request with tensors as bytes behind the JSON."""
    kinds = {kind: name for name, kind in DATATYPES.items()}
    inputs = [
        {"name": name, "shape": list(array.shape), "datatype": kinds[array.dtype]}
        | {"parameters": {"binary_data_size": array.nbytes}}
        for name, array in arrays.items()
    ]
    parameters = {**parameters, "binary_data_output": binary_data_output}
    head = json.dumps({"inputs": inputs, "parameters": parameters}).encode()
    path = CLIP_INFER if "clips" in arrays else STREAM_INFER
    blobs = [array.tobytes() for array in arrays.values()]
    return path, b"".join([head, *blobs]), {HEADER: str(len(head)), "Content-Type": "application/octet-stream"}


def as_json(arrays: Mapping[str, NDArray[Any]], **parameters: Any) -> tuple[str, bytes, dict[str, str]]:
    """As `binary`, with tensors in the JSON."""
    kinds = {kind: name for name, kind in DATATYPES.items()}
    inputs = [
        {"name": name, "shape": list(array.shape), "datatype": kinds[array.dtype], "data": array.tolist()}
        for name, array in arrays.items()
    ]
    text = json.dumps({"inputs": inputs, "parameters": parameters}).encode()
    return CLIP_INFER if "clips" in arrays else STREAM_INFER, text, {"Content-Type": "application/json"}
