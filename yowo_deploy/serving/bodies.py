"""Read request bodies within bounds: bytes, bytes of all requests together, and time."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from yowo_deploy.serving.refusal import Refusal

MAX_BODY = 16 << 20  # bytes, also of what is unpacked
MAX_HELD = 256 << 20  # bytes of all bodies that are read or worked on at once
BODY_S = 30.0  # from the first to the last byte of a body
# What is left of a refused body is read and dropped: a client that sends first and reads then would find its connection
# reset, and never see why.
DROPPED, DROPPED_S = 64 << 20, 5.0

CONTENT_TYPES = ("application/json", "application/octet-stream")
_NOT_ONE = "the body is not one whole gzip or zlib stream"
_PACKED = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


class Bodies:
    """Lends the bodies of requests, each while it is worked on.

    Args:
        limit: bytes of a body, packed and unpacked.
        held: bytes of all bodies at once.
        seconds: for a body to arrive.
    """

    def __init__(self, limit: int = MAX_BODY, held: int = MAX_HELD, seconds: float = BODY_S) -> None:
        self._limit, self._most_held, self._seconds = limit, held, seconds
        self._held = 0

    @asynccontextmanager
    async def read(self, scope: Scope, receive: Receive) -> AsyncIterator[bytearray]:
        """The unpacked body.

        Raises:
            Refusal: 413 it is too long, 415 its type or encoding is another, 400 it is damaged, 408 it does not come
                in time, 503 too many bytes are held.
            ClientDisconnect: the client is gone.
        """
        headers, body = Headers(scope=scope), bytearray()
        incoming = _Incoming(receive)
        try:
            try:
                await self._fill(body, headers, incoming)
            except Refusal as refusal:
                if refusal.status != 408 and "expect" not in headers:
                    await incoming.drop()
                raise
            yield body
        finally:
            self._held -= len(body)

    async def _fill(self, body: bytearray, headers: Headers, incoming: _Incoming) -> None:
        unpack = _unpacker(headers)
        if _declared(headers) > self._limit:
            raise self._too_long()
        packed = 0
        async with _deadline(self._seconds):
            async for chunk in incoming.chunks():
                packed += len(chunk)
                self._held += _append(body, chunk, unpack, self._limit)
                if max(packed, len(body)) > self._limit:
                    raise self._too_long()
                if self._held > self._most_held:
                    raise Refusal(503, "too many requests at once: try again later", "held")
        if unpack is not None and not unpack.eof:
            raise Refusal(400, _NOT_ONE)

    def _too_long(self) -> Refusal:
        return Refusal(413, f"the body is longer than {self._limit} bytes")


async def drop_body(receive: Receive) -> None:
    """Read and drop a body that nothing was read of, within bounds."""
    await _Incoming(receive).drop()


class _Incoming:
    """The chunks of a body as they come."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self._more = receive, True

    async def chunks(self) -> AsyncIterator[bytes]:
        while self._more:
            message = await self._receive()
            if message["type"] != "http.request":
                raise ClientDisconnect
            self._more = message.get("more_body", False)
            yield message.get("body", b"")

    async def drop(self) -> None:
        """Drop what still comes, up to a bound."""
        dropped = 0
        try:
            async with _deadline(DROPPED_S):
                async for chunk in self.chunks():
                    dropped += len(chunk)
                    if dropped > DROPPED:
                        return
        except (Refusal, ClientDisconnect):
            return


@asynccontextmanager
async def _deadline(seconds: float) -> AsyncIterator[None]:
    """Cancel what takes longer; `asyncio.timeout` came with Python 3.11.

    Raises:
        Refusal: 408.
    """
    task, late = asyncio.current_task(), False
    assert task is not None

    def cancel() -> None:
        nonlocal late
        late = True
        task.cancel()

    timer = asyncio.get_running_loop().call_later(seconds, cancel)
    try:
        yield
    except asyncio.CancelledError as error:
        if not late:
            raise
        raise Refusal(408, f"the body did not come within {seconds:g} s") from error
    finally:
        timer.cancel()


def _declared(headers: Headers) -> int:
    length = headers.get("content-length", "0")
    return int(length) if len(length) < 16 and length.isdecimal() else 1 << 60


def _unpacker(headers: Headers) -> zlib._Decompress | None:
    kind = headers.get("content-type", CONTENT_TYPES[0]).partition(";")[0].strip().lower()
    if kind not in CONTENT_TYPES:
        raise Refusal(415, f"expected a Content-Type of {' or '.join(CONTENT_TYPES)}")
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding == "identity":
        return None
    if encoding not in _PACKED:
        raise Refusal(415, "expected a Content-Encoding of gzip, deflate or identity")
    return zlib.decompressobj(_PACKED[encoding])


def _append(body: bytearray, chunk: bytes, unpack: zlib._Decompress | None, limit: int) -> int:
    """Append a chunk, unpacked up to one byte more than the limit; by how many bytes the body grew."""
    before = len(body)
    try:
        body += chunk if unpack is None else unpack.decompress(chunk, limit + 1 - before)
    except zlib.error as error:
        raise Refusal(400, "the body does not match its Content-Encoding") from error
    grown = len(body) - before
    if unpack is not None and unpack.unused_data:  # zlib would keep all that comes behind its end
        del body[before:]
        raise Refusal(400, _NOT_ONE)
    return grown
