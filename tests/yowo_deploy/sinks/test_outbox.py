"""The queue in front of the network: order, bounds, tries, and an end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count

import pytest

from tests.waiting import NEVER_S, wait_until
from yowo_deploy.sinks.outbox import MOST_TRIES, Outbox, Refused, Retry


class Gate:
    """A receiver that waits until it is opened."""

    def __init__(self) -> None:
        self.opened, self.reached, self.sent = threading.Event(), threading.Event(), list[int]()

    def send(self, item: int) -> None:
        self.reached.set()
        self.opened.wait()
        self.sent.append(item)


def test_items_are_sent_in_order_and_all_of_them_before_it_closes() -> None:
    sent: list[int] = []
    outbox = Outbox[int]("x", sent.append)
    assert all(outbox.put(number) for number in range(500))
    outbox.close(NEVER_S)
    assert sent == list(range(500)) and outbox.counts == {"sent": 500}
    assert not outbox.put(500) and outbox.counts == {"sent": 500, "unsent": 1}


def test_a_full_queue_drops_the_expendable_first_then_the_newcomer_and_counts_both() -> None:
    gate = Gate()
    outbox = Outbox[int]("x", gate.send, lambda item: item % 2 == 1, most=6)
    outbox.put(0)
    gate.reached.wait()  # it is on its way
    assert [outbox.put(number) for number in (2, 3, 4, 5, 6)] == [True] * 5
    assert not outbox.put(7)  # itself expendable
    assert outbox.put(8) and outbox.put(10)  # in place of 3 and 5
    assert not outbox.put(12)  # in place of nothing
    gate.opened.set()
    outbox.close(NEVER_S)
    assert gate.sent == [0, 2, 4, 6, 8, 10]
    assert outbox.counts == {"sent": 6, "full": 4}


def test_a_receiver_that_is_away_is_tried_after_1_to_30_s_for_as_long_as_it_takes() -> None:
    tries, pauses, told = count(), list[float](), list[str]()

    def send(item: str) -> None:
        if next(tries) < 20:
            raise Retry("no answer: Connection refused")

    outbox = Outbox[str]("webhook https://host", send, report=told.append, wait=pauses.append)
    outbox.put("a")
    wait_until(lambda: outbox.waiting == 0)
    assert pauses == [1, 2, 4, 8, 16] + [30] * 15
    assert outbox.counts == {"sent": 1}
    assert told == [
        "webhook https://host: no answer: Connection refused; trying again, up to 1000 messages wait",
        "webhook https://host: messages are accepted again",
    ]
    outbox.close()


def test_a_message_that_fails_by_itself_does_not_hold_up_the_others_for_ever() -> None:
    pauses: list[float] = []

    def send(item: str) -> None:
        if item == "poison":
            raise Retry("status 500", unreachable=False)
        if item == "bad":
            raise Refused("status 400")

    outbox = Outbox[str]("x", send, wait=pauses.append)
    for item in ("poison", "good", "bad", "good"):
        outbox.put(item)
    wait_until(lambda: outbox.waiting == 0)
    assert outbox.counts == {"failed": 1, "sent": 2, "refused": 1}
    assert len(pauses) == MOST_TRIES - 1
    outbox.close()


def test_the_receiver_may_say_how_long_to_wait() -> None:
    answers: Iterator[Exception | None] = iter([Retry("status 429", 7.5), Retry("status 503"), None])
    pauses: list[float] = []

    def send(item: str) -> None:
        if error := next(answers):
            raise error

    outbox = Outbox[str]("x", send, wait=pauses.append)
    outbox.put("a")
    wait_until(lambda: outbox.waiting == 0)
    assert pauses == [7.5, 2]
    outbox.close()


def test_closing_interrupts_a_pause_and_tries_each_once_more() -> None:
    tries: list[str] = []

    def send(item: str) -> None:
        tries.append(item)
        raise Retry("no answer")

    outbox = Outbox[str]("x", send)  # with real pauses: nothing but `close` ends the first in this test
    outbox.put("a")
    outbox.put("b")
    wait_until(lambda: tries == ["a"])
    outbox.close(NEVER_S)
    assert tries == ["a", "a", "b"]
    assert outbox.counts == {"unsent": 2}


def test_closing_does_not_wait_for_a_receiver_that_never_answers() -> None:
    gate = Gate()
    outbox = Outbox[int]("x", gate.send)
    outbox.put(1)
    outbox.put(2)
    gate.reached.wait()
    outbox.close(within_s=-1)
    assert outbox.counts == {"unsent": 2} and outbox.expired
    outbox.close()  # safe to call twice
    gate.opened.set()
    wait_until(lambda: gate.sent == [1])
    assert outbox.counts == {"unsent": 2}


def test_a_bug_in_sending_reaches_the_writer() -> None:
    outbox = Outbox[int]("x", lambda item: 1 // item)
    outbox.put(0)
    with pytest.raises(ZeroDivisionError):
        wait_until(lambda: not outbox.put(1))
    outbox.close()
