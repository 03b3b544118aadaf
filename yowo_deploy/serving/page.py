"""The page, what it is told, and MJPEG for players."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from yowo_deploy.json_text import to_json
from yowo_deploy.serving.live import Seen, Watched, packed
from yowo_deploy.serving.refusal import Refusal
from yowo_deploy.serving.tensors import Json
from yowo_deploy.version import __version__

_FILES = Path(__file__).parent / "static"
_PATHS = {"/": "index.html", **{f"/{name}": name for name in ("app.js", "app.css", "zones.js", "icon.svg")}}
IN_FLIGHT = 2  # messages that a viewer has not acknowledged: the newest frame is never behind older ones
BEAT_S = 1.0  # between two messages where there is no new frame
_BOUNDARY = "frame"


class Page:
    """Routes of the page and of what it watches.

    Args:
        watched: sources, by their numbers.
        facts: what else the page is told at the start: labels, the model, a recording.
    """

    def __init__(self, watched: Sequence[Watched], facts: Json) -> None:
        self._watched, self._ending = watched, False
        # Another one after a restart: the page then forgets what it was told.
        self._facts = {"version": __version__, "run": secrets.token_hex(8), **facts}

    def routes(self) -> list[BaseRoute]:
        """All of them."""
        return [
            *(Route(path, self._file, methods=["GET"]) for path in _PATHS),
            Route("/api/state", self._state, methods=["GET"]),
            Route("/stream.mjpg", self._mjpeg, methods=["GET"]),
            WebSocketRoute("/watch/{number}", self._watch),
        ]

    @property
    def viewers(self) -> int:
        """Pages and players that watch."""
        return sum(each.viewers for each in self._watched)

    def end(self) -> None:
        """End streams that have no end of their own."""
        self._ending = True
        for each in self._watched:
            each.wake()

    async def _file(self, request: Request) -> Response:
        return FileResponse(_FILES / _PATHS[request.url.path], headers={"Cache-Control": "no-cache"})

    async def _state(self, request: Request) -> Response:
        sources = [{"name": each.name, "state": each.state} for each in self._watched]
        return json_answer({**self._facts, "sources": sources}, {"Cache-Control": "no-store"})

    async def _watch(self, socket: WebSocket) -> None:
        """Send what is new, and never more than a viewer keeps up with."""
        number = self._number(socket.path_params["number"])
        if number is None:
            await socket.close()
            return
        await socket.accept()
        room = _Room()
        tasks = [asyncio.create_task(each) for each in (_acknowledged(socket, room), self._send(socket, number, room))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                if ended is not None and not isinstance(ended, (WebSocketDisconnect, asyncio.CancelledError)):
                    raise ended

    async def _send(self, socket: WebSocket, number: int, room: _Room) -> None:
        watched, seen = self._watched[number], Seen()
        news, stop = _notified(watched)
        try:
            while True:
                await room.taken()
                await self._until_news(watched, seen, news)
                await socket.send_bytes(await run_in_threadpool(_message, watched, seen))
        finally:
            stop()

    async def _until_news(self, watched: Watched, seen: Seen, news: asyncio.Event) -> None:
        news.clear()
        if not watched.news(seen) and not self._ending:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(news.wait(), BEAT_S)

    async def _mjpeg(self, request: Request) -> Response:
        number = self._number(request.query_params.get("source", "0"))
        if number is None:
            raise Refusal(404, "no such source: expected ?source=0 or another number", "unknown source")
        watched = self._watched[number]
        return StreamingResponse(self._parts(watched), media_type=f"multipart/x-mixed-replace; boundary={_BOUNDARY}")

    def _number(self, text: str) -> int | None:
        """Of a source; None where it is none."""
        known = text.isdecimal() and len(text) < 5 and int(text) < len(self._watched)
        return int(text) if known else None

    async def _parts(self, watched: Watched) -> AsyncIterator[bytes]:
        seen = Seen()
        news, stop = _notified(watched)
        try:
            while not self._ending and watched.state != "ended":
                await self._until_news(watched, seen, news)
                if jpeg := await run_in_threadpool(watched.drawn, seen):
                    head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                    yield head.encode() + jpeg + b"\r\n"
        finally:
            stop()


def json_answer(content: Json, headers: dict[str, str] | None = None) -> Response:
    """As Starlette's own, which fails at names of files that are no UTF-8."""
    return Response(to_json(content), headers=headers, media_type="application/json")


def _notified(watched: Watched) -> tuple[asyncio.Event, Callable[[], None]]:
    """An event of this loop that is set from the source's thread, and what ends that."""
    loop, news = asyncio.get_running_loop(), asyncio.Event()
    return news, watched.watch(lambda: loop.call_soon_threadsafe(news.set))


class _Room:
    """Room for messages that were not acknowledged."""

    def __init__(self) -> None:
        self._free, self._changed = IN_FLIGHT, asyncio.Event()

    async def taken(self) -> None:
        """Wait for room for one message, and take it."""
        while not self._free:
            self._changed.clear()
            await self._changed.wait()
        self._free -= 1

    def freed(self) -> None:
        """One message arrived."""
        self._free = min(IN_FLIGHT, self._free + 1)
        self._changed.set()


async def _acknowledged(socket: WebSocket, room: _Room) -> None:
    """Each message of the viewer says that one of ours was shown.

    Raises:
        WebSocketDisconnect: it is gone.
    """
    while (await socket.receive())["type"] != "websocket.disconnect":
        room.freed()


def _message(watched: Watched, seen: Seen) -> bytes:
    head, jpeg = watched.message(seen)
    return packed(to_json(head).encode(), jpeg)
