"""What FFmpeg may open: options reach the one who asked for them, passwords reach nobody."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from tests.waiting import calls_of, stands_in, wait_until
from yowo_deploy.errors import InputError, VideoError
from yowo_deploy.video.ffmpeg_options import FILES_ONLY, Address, capture_options

VARIABLE = "OPENCV_FFMPEG_CAPTURE_OPTIONS"


def side_by_side(*tasks: object) -> list[BaseException]:
    """Run functions in threads; what they raised."""
    problems: list[BaseException] = []

    def run(task: object) -> None:
        try:
            task()  # type: ignore[operator]
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return problems


@pytest.mark.parametrize("own", [None, "of;the|application;itself"])
def test_each_opens_with_its_own_options_and_the_applications_come_back(
    own: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if own is None:
        monkeypatch.delenv(VARIABLE, raising=False)
    else:
        monkeypatch.setenv(VARIABLE, own)

    def opens(value: str) -> None:
        for _ in range(1000):
            with capture_options(value):
                assert os.environ[VARIABLE] == value

    assert side_by_side(*(lambda value=value: opens(value) for value in ("a", "b", "a", "c"))) == []
    assert os.environ.get(VARIABLE) == own


def test_the_options_are_gone_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(VideoError), capture_options(FILES_ONLY):
        raise VideoError("cannot be opened")
    assert VARIABLE not in os.environ


def test_who_wants_the_same_does_not_wait() -> None:
    together = threading.Barrier(3)

    def opens() -> None:
        with capture_options("a"):
            together.wait()  # for all three: none of them waits for another to leave

    assert side_by_side(opens, opens, opens) == []


def test_who_wants_other_options_goes_first() -> None:
    order: list[str] = []
    with capture_options("a"):
        other = threading.Thread(target=lambda: entered("b", order))
        other.start()
        wait_until(lambda: stands_in(other, "capture_options"))
        late = threading.Thread(target=lambda: entered("a", order))
        late.start()
        wait_until(lambda: order or "capture_options" in calls_of(late))
        assert order == []
    other.join()
    late.join()
    assert order == ["b", "a"]


def entered(value: str, order: list[str]) -> None:
    with capture_options(value):
        order.append(value)


@pytest.mark.parametrize(
    ("text", "shown", "port"),
    [
        ("rtsp://cam/live", "rtsp://cam/live", 554),
        ("rtsp://user:s3cret@cam:8554/live?pwd=s3cret#s3cret", "rtsp://cam:8554/live", 8554),
        ("rtsps://s3cret@cam/live", "rtsps://cam/live", 322),
        ("http://user:s3cret@[::1]:81/", "http://[::1]:81/", 81),
        ("https://cam/a/b.mp4?token=s3cret", "https://cam/a/b.mp4", 443),
    ],
)
def test_an_address_is_shown_without_its_password(text: str, shown: str, port: int) -> None:
    address = Address.parse(text)
    assert (address.url, address.shown, address.port) == (text, shown, port)
    assert "s3cret" not in repr(address)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("file:///etc/s3cret", r"file:// addresses are not supported, expected rtsp://, rtsps://, http://, https://"),
        ("concat://s3cret", "concat:// addresses"),
        ("udp://user:s3cret@cam:99", "udp:// addresses"),
        ("rtsp://", "without a host"),
        ("rtsp:///s3cret", "without a host"),
        ("http://cam/s3cret\r\nHost: other", "without a host"),
        ("rtsp://user:s3cret@cam:port/", "invalid stream address: expected rtsp://host:port/path"),
        ("rtsp://user:s3cret@cam:0/", "invalid stream address with port 0"),
        ("rtsp://user:s3cret@[cam/", "invalid stream address"),
        ("rtsp://user:s3cret@cam..yard/", "invalid stream address"),
        (f"http://user:s3cret@{'cam' * 22}/", "invalid stream address"),
    ],
)
def test_another_address_is_refused_without_its_password(text: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected) as refused:
        Address.parse(text)
    assert "s3cret" not in str(refused.value)


def test_a_host_that_does_not_answer_is_named_with_the_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        address = Address.parse(f"rtsp://user:s3cret@127.0.0.1:{port}/live")
        address.reach(5)
    with pytest.raises(VideoError, match=rf"^rtsp://127.0.0.1:{port}/live cannot be reached: \w+"):
        address.reach(5)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://user:hush@door:554/stream?key=hush", "rtsp://door:554/stream"),
        ("rtsp://door/user=admin&password=hush&channel=1", "rtsp://door/user=...&password=...&channel=1"),
        ("rtsp://door/live/token=hush/main", "rtsp://door/live/token=..."),
    ],
)
def test_what_may_be_a_password_is_not_shown(address: str, shown: str) -> None:
    assert Address.parse(address).shown == shown and Address.parse(address).url == address


@pytest.mark.parametrize("password", ["12/34", "123?abc", "12#3"])
def test_a_password_that_ends_the_host_early_is_refused_without_being_said(password: str) -> None:
    with pytest.raises(InputError, match="%2F") as refusal:
        Address.parse(f"rtsp://user:{password}@door/stream")
    assert "34" not in str(refusal.value) and "abc" not in str(refusal.value)
