"""Foreign hosts and pages are kept out; other addresses need a token."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.yowo_deploy.serving.calls import STREAM_INFER, Running
from yowo_deploy.backends.base import Backend
from yowo_deploy.errors import InputError
from yowo_deploy.serving import app
from yowo_deploy.serving.access import COOKIE
from yowo_deploy.spec import ModelSpec

TOKEN = "a-token-of-some-length"


@pytest.fixture
def guarded(spec: ModelSpec, numpy_backend: Callable[[ModelSpec], Backend]) -> Iterator[Running]:
    with Running(app(numpy_backend(spec), token=TOKEN, any_address=True, hosts=["Door.lan"])) as server:
        yield server


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9", "LOCALHOST", "[::1]:8000", "127.9.9.9"])
def test_a_loopback_host_is_served(host: str, running: Running) -> None:
    assert running.ask("/v2", headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.5", "", "[::1", "localhost.evil.example", "localhost@b"]
)
def test_a_foreign_host_is_400(host: str, running: Running) -> None:
    answer = running.ask("/v2", headers={"Host": host})
    assert answer.status == 400 and answer.headers["x-content-type-options"] == "nosniff"


def test_listed_names_and_addresses_are_hosts_where_a_token_is_asked_for(guarded: Running) -> None:
    for host, status in {"door.lan": 200, "10.0.0.5:8000": 200, "[fe80::1]": 200, "other.lan": 400}.items():
        assert guarded.ask("/v2/health/live", headers={"Host": host}).status == status, host


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://localhost", "http://["]
)
def test_a_page_of_another_origin_may_not_post(origin: str, running: Running) -> None:
    assert running.ask(STREAM_INFER, b"{}", {"Origin": origin}).status == 403
    assert running.ask("/v2", headers={"Origin": origin}, method="DELETE").status == 403


def test_our_own_page_may_post(running: Running) -> None:
    host = f"127.0.0.1:{running.port}"
    assert running.ask(STREAM_INFER, b"{}", {"Origin": f"http://{host}", "Host": host}).status == 400  # for its body


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
        {"Cookie": f"{COOKIE}=wrong"},
        {"Cookie": f"other={TOKEN}"},
        {"Authorization": f"Bearer {TOKEN}\u00e9"},
    ],
)
def test_without_the_token_there_is_nothing(headers: dict[str, str], guarded: Running) -> None:
    for path in ("/v2", "/metrics", "/", "/v2/models/yowo_clip", "/nothing"):
        assert guarded.ask(path, headers=headers).status == 401
    assert guarded.ask(STREAM_INFER, b"{}", headers).status == 401
    assert guarded.ask("/v2/health/ready", headers=headers).status == 200


@pytest.mark.parametrize("headers", [{"Authorization": f"Bearer {TOKEN}"}, {"Cookie": f"a=b; {COOKIE}={TOKEN}"}])
def test_with_the_token_all_is_served(headers: dict[str, str], guarded: Running) -> None:
    assert guarded.ask("/v2", headers=headers).status == 200
    assert guarded.ask(f"/v2?token={TOKEN}").status == 200


def test_the_page_takes_the_token_into_a_cookie(guarded: Running) -> None:
    answer = guarded.ask(f"/?token={TOKEN}")
    assert answer.status == 303 and answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"].lower()
    assert all(part in cookie for part in (f"{COOKIE}={TOKEN}", "httponly", "samesite=strict"))
    assert guarded.ask("/?token=wrong").status == 401


@pytest.mark.parametrize("token", ["short", "x" * 15, "with spaces in it", "t\u00f6ken-with-umlaut", "x" * 16 + "\n"])
def test_a_weak_token_is_refused(token: str, spec: ModelSpec, numpy_backend: Callable[[ModelSpec], Backend]) -> None:
    with pytest.raises(InputError, match="token"):
        app(numpy_backend(spec), token=token)


def test_answers_carry_the_security_headers(running: Running) -> None:
    for path in ("/v2", "/nothing", "/metrics"):
        headers = running.ask(path).headers
        assert headers["content-security-policy"].startswith("default-src 'self'; img-src 'self' blob:")
        assert headers["x-content-type-options"] == "nosniff"
