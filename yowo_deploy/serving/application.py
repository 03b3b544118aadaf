"""The ASGI application: models, health, metrics, and the live page."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from yowo_deploy.backends.base import Backend
from yowo_deploy.backends.batching import SharedBackend
from yowo_deploy.backends.loader import open_model
from yowo_deploy.closing import Closing, closed_on_error
from yowo_deploy.detector import Detector, DetectorOptions
from yowo_deploy.keywords import checked_keywords_with
from yowo_deploy.model_files.default import DEFAULT
from yowo_deploy.postprocess.events import Events
from yowo_deploy.result import Result
from yowo_deploy.serving.access import Access, check_token
from yowo_deploy.serving.bodies import Bodies
from yowo_deploy.serving.live import Hub
from yowo_deploy.serving.metrics import CONTENT_TYPE, Metrics
from yowo_deploy.serving.models import ClipModel, Health, ServedModel, StreamModel, model_config
from yowo_deploy.serving.page import Page
from yowo_deploy.serving.refusal import Refusal
from yowo_deploy.serving.sequences import IDLE_S, MAX_SEQUENCES, Sequences
from yowo_deploy.serving.tensors import HEADER, encode_response, parse_request
from yowo_deploy.version import __version__

SWEEP_S = 1.0  # between two looks for idle sequences


class Service(Closing):
    """A model behind HTTP, and the sources that the live page shows.

    Args:
        backend: closed with the service.
        shown: which detections are shown.
        sources: what `open_source` takes.
        max_sequences, idle_s: see `Sequences`.
    """

    def __init__(
        self,
        backend: Backend,
        shown: DetectorOptions | None = None,
        sources: Iterable[str] = (),
        max_sequences: int = MAX_SEQUENCES,
        idle_s: float = IDLE_S,
    ) -> None:
        shown, batch = shown or DetectorOptions(), backend.batch
        self._backend = SharedBackend(backend)
        self.spec = spec = self._backend.spec
        self.health, self._bodies = Health(), Bodies()

        def detector() -> Detector:
            return shown.detector(self._backend)

        self.sequences = Sequences(detector, max_sequences, idle_s)
        events = partial(Events, spec.event_on, spec.event_off)
        self.hub = Hub(sources, detector, events, self._observe_source, self.health.fail)
        self.page = Page(self.hub.watched, {"model": spec.name, "labels": list(spec.labels)})
        gauges = lambda: len(self.sequences), lambda: self.sequences.open_tubes, lambda: self.page.viewers
        self.metrics = Metrics(self._drops, *gauges)
        stream = StreamModel(self.sequences, self.health, self.metrics.observe)
        clips = ClipModel(self._backend, batch, self.health)
        self._models: dict[str, ServedModel] = {stream.name: stream, clips.name: clips}
        self._limits = (idle_s, max_sequences)

    def routes(self) -> list[BaseRoute]:
        """Of the protocol, the metrics and the page."""
        described = {"": self._metadata, "/ready": self._model_ready, "/config": self._config}
        models = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
        return [
            Route("/v2", self._server, methods=["GET"]),
            Route("/v2/health/live", self._live, methods=["GET"]),
            Route("/v2/health/ready", self._ready, methods=["GET"]),
            *(Route(model + end, act, methods=["GET"]) for model in models for end, act in described.items()),
            *(Route(f"{model}/infer", self._infer, methods=["POST"]) for model in models),
            Route("/metrics", self._metrics, methods=["GET"]),
            *self.page.routes(),
        ]

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """From the first request to the last; closes the service."""
        sweeping = asyncio.create_task(self._sweep())
        self.hub.start()
        try:
            yield
        finally:
            sweeping.cancel()
            with suppress(asyncio.CancelledError):
                await sweeping
            await run_in_threadpool(self.close)

    def close(self) -> None:
        """End sequences and sources, and close the model."""
        self.health.fail("the server is ending")
        self.hub.close()
        self.sequences.clear()
        self._backend.close()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sequences.expire()

    def _observe_source(self, result: Result) -> None:
        self.metrics.observe(result, "source")

    def _drops(self) -> Mapping[tuple[str, str], int]:
        sources = [(each.name, each.source.counts) for each in self.hub.watched if each.source is not None]
        return {(name, reason): n for name, each in sources for reason, n in {**each.dropped, **each.suspect}.items()}

    def _asked(self, request: Request) -> ServedModel:
        name, version = request.path_params["model"], request.path_params.get("version", "1")
        if name not in self._models or version != "1":
            raise Refusal(404, f"no such model: expected {' or '.join(self._models)}, version 1", "unknown model")
        return self._models[name]

    async def _server(self, request: Request) -> Response:
        return JSONResponse(
            {"name": "yowo-deploy", "version": __version__, "extensions": ["binary_tensor_data", "sequence"]}
        )

    async def _live(self, request: Request) -> Response:
        return Response()

    async def _ready(self, request: Request) -> Response:
        self.health.check()
        return Response()

    async def _model_ready(self, request: Request) -> Response:
        self._asked(request)
        return await self._ready(request)

    async def _metadata(self, request: Request) -> Response:
        model = self._asked(request)
        tensors = {side: [each.metadata() for each in getattr(model, side)] for side in ("inputs", "outputs")}
        return JSONResponse({"name": model.name, "versions": ["1"], "platform": "yowo-deploy", **tensors})

    async def _config(self, request: Request) -> Response:
        return JSONResponse(model_config(self._asked(request), self.spec.labels, *self._limits))

    async def _metrics(self, request: Request) -> Response:
        return Response(await run_in_threadpool(self.metrics.text), media_type=CONTENT_TYPE)

    async def _infer(self, request: Request) -> Response:
        model, length = self._asked(request), request.headers.get(HEADER)
        if length is not None and not (len(length) < 16 and length.isdecimal()):
            raise Refusal(400, f"{HEADER}: expected a number of bytes")
        async with self._bodies.read(request.scope, request.receive) as body:
            return await run_in_threadpool(_answer, model, body, None if length is None else int(length))

    async def refused(self, request: Request, error: Exception) -> Response:
        """The answer to a request that gets none."""
        assert isinstance(error, Refusal)
        self.metrics.refuse(error.reason)
        closes = {"Connection": "close"} if error.status in (408, 413, 415) else None
        return JSONResponse({"error": str(error)}, error.status, closes)


def _answer(model: ServedModel, body: bytearray, json_length: int | None) -> Response:
    request = parse_request(body, json_length, model.inputs, model.outputs)
    content, length = encode_response(model.name, request, model.infer(request), model.outputs)
    if length is None:
        return Response(content, media_type="application/json")
    return Response(content, media_type="application/octet-stream", headers={HEADER: str(length)})


async def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # that nothing will read


async def _broken(request: Request, error: Exception) -> Response:
    """The server logs the traceback; the client gets none."""
    return JSONResponse({"error": "internal error"}, 500)


@checked_keywords_with(open_model)
def app(
    model: str | os.PathLike[str] | Backend = DEFAULT,
    *,
    sources: Iterable[str | os.PathLike[str]] = (),
    hosts: Iterable[str] = (),
    token: str = "",
    any_address: bool = False,
    max_sequences: int = MAX_SEQUENCES,
    idle_s: float = IDLE_S,
    confidence: float | None = None,
    iou: float | None = None,
    every: int = 1,
    classes: Iterable[str] | None = None,
    keep: float | None = None,
    tube_scores: bool | None = None,
    cuts: bool | None = None,
    **options: Any,
) -> Starlette:
    """An ASGI application that serves a model, for uvicorn or another server; `app.state.service` closes it.

    Args:
        model: a file, or a loaded model, which is closed with the application.
        sources: videos, cameras and addresses that the live page shows; what `open_source` takes.
        hosts: names by which the server may be called, beside those of the loopback address.
        token: that requests must carry; none by default, which is for the loopback address alone.
        any_address: let requests call it by any IP address.
        max_sequences, idle_s: sequences at once, and the seconds without a frame after which one is ended.
        confidence, iou, every, classes, keep, tube_scores, cuts: see `DetectorOptions`.
        options: of `open_model`: backend, device, precision, threads, clip, parallel, cache, trust; `streaming=None`
            for a server of clips, each of which costs many frames of a streaming form.

    Raises:
        YowoError: the model cannot be opened, or an argument is wrong.
    """
    shown = DetectorOptions(confidence, iou, every, classes, keep, tube_scores, cuts)
    options = {"streaming": shown.streams(videos="many"), **options}
    backend = open_model(model, **options) if isinstance(model, (str, os.PathLike)) else model
    with closed_on_error(backend):
        check_token(token)
        service = Service(backend, shown, [os.fspath(each) for each in sources], max_sequences, idle_s)
    made = Starlette(
        routes=service.routes(),
        middleware=[Middleware(Access, hosts=tuple(hosts), token=token, any_address=any_address)],
        exception_handlers={
            Refusal: service.refused, HTTPException: _unknown, ClientDisconnect: _gone, Exception: _broken
        },
        lifespan=service.lifespan,
    )  # fmt: skip
    made.state.service, made.state.page = service, service.page
    return made
