"""Who may ask: hosts, origins, tokens, and the headers that keep pages of others out."""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Iterable, Sequence
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from yowo_deploy.errors import InputError
from yowo_deploy.serving.bodies import drop_body

COOKIE = "yowo_token"
SHORTEST_TOKEN = 16
_OPEN = ("/v2/health/live", "/v2/health/ready")  # for supervisors: a status without content
_SECURITY = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Access:
    """An ASGI middleware that lets only through what may be meant for this server.

    A Host that is not listed is 400 (DNS rebinding), a foreign Origin of a WebSocket or of anything but GET and HEAD is
    403, a request without the token is 401. The token is a Bearer token, a cookie, or `?token=`: the page, opened so,
    sets the cookie, HttpOnly and SameSite=Strict, and loses the token from its address.

    Args:
        hosts: names allowed in Host, beside those of the loopback address.
        token: "" where none is needed.
        any_address: allow every IP address as Host: a name that is rebound never is one.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = (), token: str = "", any_address: bool = False) -> None:
        self._app, self._token, self._any_address = app, token, any_address
        self._hosts = {"localhost", *(name.lower() for name in hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if refused := self._refused(scope, headers):
            await _answer(refused, scope, receive, send)
        elif scope["type"] == "http":
            await self._app(scope, receive, _with_security(send))
        else:
            await self._app(scope, receive, send)

    def _refused(self, scope: Scope, headers: Headers) -> Response | None:
        host = headers.getlist("host")
        if len(host) != 1 or not self._is_ours(host[0]):
            return _error(400, "this Host is not served here")
        changes = scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD")
        if changes and any(_netloc(each) != host[0] for each in headers.getlist("origin")):
            return _error(403, "pages of another origin may not ask this")
        if not self._token or scope["path"] in _OPEN:
            return None
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        if self._is_token(asked) and scope["path"] == "/" and scope["type"] == "http":
            return self._with_cookie(scope)
        if self._is_token([*asked, *_bearer(headers), *_cookies(headers)]):
            return None
        return _error(401, "expected the token, as Authorization: Bearer")

    def _is_ours(self, host: str) -> bool:
        name = _hostname(host)
        if name in self._hosts:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return self._any_address or address.is_loopback

    def _is_token(self, found: Sequence[str]) -> bool:
        return any(hmac.compare_digest(each.encode(), self._token.encode()) for each in found)

    def _with_cookie(self, scope: Scope) -> Response:
        answer = RedirectResponse("/", 303)
        secure = scope["scheme"] in ("https", "wss")
        answer.set_cookie(COOKIE, self._token, httponly=True, samesite="strict", secure=secure)
        return answer


def check_token(token: str) -> None:
    """Raise an InputError where a token is too short, or holds what a header cannot; "" is none."""
    if token and (len(token) < SHORTEST_TOKEN or re.fullmatch(r"[\w.~+/=-]+", token, re.ASCII) is None):
        raise InputError(f"the token is too short or invalid: expected {SHORTEST_TOKEN} or more letters and digits")


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:  # brackets that hold no address
        return ""


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _bearer(headers: Headers) -> list[str]:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return [token.strip()] if kind.lower() == "bearer" else []


def _cookies(headers: Headers) -> list[str]:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return []
    return [] if found is None else [found.value]


def _error(status: int, text: str) -> Response:
    return JSONResponse({"error": text}, status, {"Connection": "close"})


async def _answer(answer: Response, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        if "expect" not in Headers(scope=scope):
            await drop_body(receive)
        await answer(scope, receive, _with_security(send))
    else:
        await WebSocket(scope, receive, send).send_denial_response(answer)


def _with_security(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _SECURITY.items():
                headers.setdefault(name, value)
        await send(message)

    return sending
