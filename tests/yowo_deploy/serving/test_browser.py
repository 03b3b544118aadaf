"""The page in Debian's chromium: what is drawn is what Python computed. 30 s on two idle cores, once downloaded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.browser import Browser
from tests.waiting import wait_until
from tests.yowo_deploy.serving.calls import Running
from yowo_deploy.boxes import Detections
from yowo_deploy.postprocess.events import Events
from yowo_deploy.postprocess.rule_files import read_zones
from yowo_deploy.result import Result
from yowo_deploy.serving import app
from yowo_deploy.serving.live import Seen, Watched
from yowo_deploy.visuals.draw import colour_of

pytestmark = [pytest.mark.slow, pytest.mark.browser]

LABELS = ("walk", "<img src=x onerror=document.title='owned'>", "sit")
WIDTH, HEIGHT = 320, 240


def scene(number: int) -> Result:
    """A person who walks through, does something else on the way, and one who sits there for a while."""
    people = {0: (int(number // 30) % 2, (20.0 + number % 100, 40.0, 90.0 + number % 100, 200.0))}
    if 20 <= number < 80:
        people[3] = (2, (200.0, 100.0, 300.0, 230.0))
    scores = np.array([np.where(np.arange(3) == kind, 0.9, 0.05) for kind, _ in people.values()], np.float32)
    boxes, ids = np.array([box for _, box in people.values()], np.float32), np.array(list(people), np.int64)
    found = Detections(boxes, scores.max(axis=1), scores.argmax(axis=1), scores, ids)
    frame, speed = np.full((HEIGHT, WIDTH, 3), 128, np.uint8), {"preprocess": 1.0, "infer": 20.0}
    return Result(number, frame, found, LABELS, speed, timestamp=number / 25, latency_ms=22.0)


class Stage:
    """A server whose one source is fed by the test."""

    def __init__(self, make: Callable[[], Any], port: int = 0) -> None:
        self.watched = Watched("hall", Events(0.5, 0.3, 4))
        application = make()
        page = application.state.page
        page._watched, page._facts = [self.watched], {**page._facts, "labels": list(LABELS)}
        self.server = Running(application, port)

    def play(self, first: int, end: int, browser: Browser | None = None) -> None:
        """Publish results; with a browser each waits until it is drawn."""
        for number in range(first, end):
            self.watched.publish(scene(number))
            if browser is not None:
                browser.until(f"yowo.drawn?.number === {number - first + 1}")


@pytest.fixture
def stage(spec: Any, numpy_backend: Callable[[Any], Any]) -> Iterator[Stage]:
    made = Stage(lambda: app(numpy_backend(spec)))
    with made.server:
        yield made


def test_lanes_and_bars_are_the_tubes_and_labels_stay_text(browser: Browser, stage: Stage) -> None:
    browser.open(stage.server.port)
    browser.until("yowo.socket?.readyState === 1")
    stage.play(0, 50, browser)
    stage.play(50, 100)
    stage.watched.end("ended")
    browser.until("yowo.state === 'ended'")
    bars = stage.watched.message(Seen())[0]["bars"]
    assert browser.get("yowo.bars") == bars and len(bars) == 5
    drawn = browser.get(
        "[...document.querySelectorAll('.bar')].map((bar) => [Number(bar.closest('.lane').dataset.person), "
        "bar.textContent, Number(bar.dataset.bar.split(' ')[2]), Number(bar.dataset.to)])"
    )
    assert sorted(drawn) == sorted([who, LABELS[kind], first, last] for who, kind, _, first, last in bars)
    assert browser.get("yowo.frames") >= 50 and browser.get("document.title") == "Who does what · yowo-deploy"
    assert LABELS[1] in browser.get("[...document.querySelectorAll('#events td')].map((each) => each.textContent)")
    assert browser.said(stage.server.port) == []


@pytest.mark.parametrize(("width", "ratio"), [(1440, 1), (1440, 2), (390, 2)])
def test_the_sides_of_boxes_are_at_their_pixels(width: int, ratio: int, browser: Browser, stage: Stage) -> None:
    browser.open(stage.server.port, width, ratio)
    browser.until("yowo.socket?.readyState === 1")
    stage.play(25, 26, browser)
    result = scene(25)
    canvas_wh = browser.get("[document.getElementById('canvas').width, document.getElementById('canvas').height]")
    shown_wide = browser.get("document.getElementById('canvas').getBoundingClientRect().width")
    assert abs(canvas_wh[0] - shown_wide * ratio) <= 1  # a pixel of the canvas is one of the screen
    assert browser.get("document.documentElement.scrollWidth") == width
    for (x1, y1, x2, y2), who in zip(result.detections.xyxy.tolist(), (0, 3), strict=True):
        # As the page rounds.
        xs, middle = [int(side * (canvas_wh[0] / WIDTH) + 0.5) for side in (x1, x2)], (y1 + y2) / 2
        y, blue_green_red = round(middle * canvas_wh[1] / HEIGHT), list(colour_of(who))
        for within, beyond in ((xs[0], xs[0] - 1), (xs[1] - 1, xs[1])):
            assert pixel(browser, within, y)[::-1] == blue_green_red
            assert pixel(browser, beyond, y)[::-1] != blue_green_red


def pixel(browser: Browser, x: int, y: int) -> list[int]:
    """Red, green and blue."""
    found = browser.get(f"[...document.getElementById('canvas').getContext('2d').getImageData({x}, {y}, 1, 1).data]")
    return list(found[:3])


def test_a_server_that_goes_away_is_said_and_one_that_returns_is_shown(
    browser: Browser, spec: Any, numpy_backend: Callable[[Any], Any]
) -> None:
    first = Stage(lambda: app(numpy_backend(spec)))
    with first.server:
        browser.open(first.server.port)
        browser.until("yowo.socket?.readyState === 1")
        first.play(0, 3, browser)
        assert browser.get("document.getElementById('banner').hidden")
    browser.until("!document.getElementById('banner').hidden && yowo.state === 'lost'")
    second = Stage(lambda: app(numpy_backend(spec)), first.server.port)
    with second.server:
        browser.until("yowo.socket?.readyState === 1")
        second.play(0, 2, browser)
        browser.until("document.getElementById('banner').hidden && yowo.state === 'live'")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_axe_finds_nothing_serious(width: int, scheme: str, browser: Browser, stage: Stage) -> None:
    browser.open(stage.server.port, width, color_scheme=scheme, reduced_motion="reduce")
    browser.until("yowo.socket?.readyState === 1")
    stage.play(0, 70)
    browser.until("document.querySelectorAll('.bar').length >= 4")
    assert browser.axe() == []


def test_every_control_is_reached_and_used_by_keyboard(browser: Browser, stage: Stage) -> None:
    browser.open(stage.server.port)
    browser.until("yowo.socket?.readyState === 1")
    stage.play(0, 100)
    stage.watched.end("ended")
    browser.until("yowo.state === 'ended'")
    reached = []
    for _ in range(9):
        browser.press("Tab")
        reached.append(browser.get("document.activeElement.id || document.activeElement.dataset.span || "
                                   "document.activeElement.className"))  # fmt: skip
    assert reached == ["theme", "60", "300", "0", "bar", "filter", "download", "scroll", "zone-add"]
    browser.get("document.querySelector('.bar[tabindex=\"0\"]').focus()")
    before = browser.get("document.activeElement.dataset.bar")
    browser.press("Home")
    browser.press("ArrowUp")
    assert browser.get("document.activeElement.dataset.bar") != before
    assert browser.get("document.getElementById('detail').textContent").startswith("Person ")
    browser.get("document.getElementById('theme').focus()")
    theme = browser.get("document.documentElement.dataset.theme ?? 'light'")
    browser.press("Enter")
    assert browser.get("document.documentElement.dataset.theme") != theme
    browser.get("document.getElementById('filter').focus()")
    browser.press("s")
    browser.press("i")
    assert browser.get("[...document.querySelectorAll('#events tr')].map((row) => row.children[2].textContent)") == [
        "sit"
    ]


def test_zones_are_drawn_by_mouse_and_keyboard_and_copied_for_detect(
    browser: Browser, stage: Stage, tmp_path: Path
) -> None:
    browser.open(stage.server.port)
    browser.until("yowo.socket?.readyState === 1")
    stage.play(0, 2, browser)
    browser.get("(scrollTo(0, 0), document.getElementById('zone-add').focus({preventScroll: true}))")
    browser.press("Enter")
    browser.get("document.querySelectorAll('#corners button')[1].focus()")
    browser.press("ArrowLeft", "ArrowLeft", "ArrowUp", "Shift+ArrowDown", "+")
    browser.get("document.querySelectorAll('#corners button')[4].focus()")
    browser.press("Delete")
    room = browser.get("document.getElementById('canvas').getBoundingClientRect().toJSON()")
    left, top, width, height = (room[side] for side in ("left", "top", "width", "height"))
    browser.drag((left + 0.3 * width, top + 0.3 * height), (left + 0.1 * width, top - 50))
    corners = [(0.1, 0.0), (0.68, 0.291), (0.69, 0.546), (0.7, 0.8)]
    written = browser.get("document.getElementById('zone-json').value")
    (tmp_path / "zones.json").write_text(written)
    [zone] = read_zones(tmp_path / "zones.json")
    assert zone.name == "zone1" and np.abs(np.array(zone.corners) - corners).max() < 0.5 / height + 0.001
    browser.get('document.getElementById(\'zone-json\').value = \'{"v": 1, "zones": [{"name": 3}]}\'')
    browser.get("document.getElementById('zone-json').dispatchEvent(new Event('change'))")
    assert "no zones.json" in browser.get("document.getElementById('zone-hint').textContent")
    assert len(browser.get("[...document.querySelectorAll('#outlines polygon')].map((each) => each.outerHTML)")) == 1
    browser.get("document.getElementById('zone-copy').focus()")
    browser.press("Enter")
    browser.until("document.getElementById('zone-hint').textContent.startsWith('Copied')")
    assert browser.axe() == [] and browser.said(stage.server.port) == []


@pytest.mark.skipif(not os.environ.get("YOWO_LONG"), reason="minutes: set YOWO_LONG=1 to play 5,000 frames")
def test_thousands_of_frames_leave_no_memory(browser: Browser, stage: Stage) -> None:
    browser.open(stage.server.port)
    browser.until("yowo.socket?.readyState === 1")
    sizes, told = [], list[int]()
    message = stage.watched.message

    def noted(seen: Seen) -> tuple[Any, bytes]:
        answer = message(seen)
        told.append(seen.result)
        return answer

    stage.watched.message = noted  # type: ignore[method-assign]
    for number in range(5000):
        stage.watched.publish(scene(number))
        wait_until(lambda count=number + 1: told[-1:] == [count])  # so that each frame is sent, and drawn two later
        if number % 1000 == 999:
            sizes.append(browser.get("(gc(), gc(), performance.memory.usedJSHeapSize)"))
    assert browser.get("yowo.frames") > 4990
    assert max(sizes[1:]) - sizes[1] < 2 << 20, sizes
