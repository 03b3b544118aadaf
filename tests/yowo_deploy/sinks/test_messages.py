"""Messages that leave the machine: unique ids, names of cameras, Unix times, Frigate's form."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from yowo_deploy.postprocess.events import Events
from yowo_deploy.result import Result
from yowo_deploy.sinks.messages import Addressed, FrigateForm, Json, level_of


def messages(made_up: Callable[..., Result], source: str | None = None) -> list[Json]:
    """Of a person in frames 0 to 9, at 25 frames a second, the first at the Unix time 1000."""
    now = [1000.0]
    maker = Addressed(Events(min_frames=2, update_frames=4), source, lambda: now[0])
    told = []
    for number in range(14):
        now[0] = 1000 + number / 25
        told += maker.push(made_up(number, {0: [0.9, 0, 0]} if number < 10 else {}))
    return told + maker.close()


def test_ids_are_unique_over_sources_and_restarts_and_the_same_within_an_event(made_up: Callable[..., Result]) -> None:
    one, other = messages(made_up), messages(made_up)
    assert len({each["id"] for each in one}) == len({each["id"] for each in other}) == 1
    assert one[0]["id"] != other[0]["id"] and one[0]["id"].endswith("-0-0-0")


def test_the_source_is_the_camera_and_the_rest_is_what_the_events_said(made_up: Callable[..., Result]) -> None:
    plain = Events(min_frames=2, update_frames=4)
    said = [
        each for number in range(14) for each in plain.push(made_up(number, {0: [0.9, 0, 0]} if number < 10 else {}))
    ]
    sent = messages(made_up, "door")
    assert [each["time"] for each in sent] == [1000.04, 1000.2, 1000.36, 1000.44]
    for ours, theirs in zip(sent, said, strict=True):
        assert ours | {"id": "", "source": ""} == theirs | {"id": "", "source": "", "time": ours["time"]}
        assert ours["source"] == "door"


def test_frigates_form_chains_before_and_after_and_forgets_ended_events(made_up: Callable[..., Result]) -> None:
    form, now_s = FrigateForm(), iter([0.04, 0.2, 0.36, 0.44])
    sent = [form.of(each, next(now_s)) for each in messages(made_up, "door")]
    assert [each["type"] for each in sent] == ["new", "update", "update", "end"]
    assert sent[0]["before"] == sent[0]["after"]
    assert all(later["before"] == earlier["after"] for earlier, later in pairwise(sent))
    last = sent[-1]["after"]
    assert (last["start_time"], last["end_time"], last["frame_time"]) == (1000.0, 1000.36, 1000.44)
    assert last["box"] == [8, 8, 40, 40] and last["area"] == 1024
    assert last["current_zones"] == last["entered_zones"] == []
    assert vars(form) == {"_before": {}}


def test_zones_and_rules_go_into_frigates_form() -> None:
    zones = {"zones": ["yard"], "entered_zones": ["yard", "b"]}
    message = {"type": "new", "id": "1", "time": 9.0, "source": "door", "rule": "loitering", "label": None, **zones}
    after = FrigateForm().of(message, None)["after"]
    assert after["label"] == "loitering"
    assert (after["current_zones"], after["entered_zones"], after["start_time"]) == (["yard"], ["yard", "b"], 9.0)


@pytest.mark.parametrize(
    ("name", "level"),
    [
        *(
            ("front door", "front_door"),
            ("rtsp://yard/a/b", "yard_a_b"),
            ("a/+/#", "a"),
            ("歩く\n", "歩く"),
            ("", "source"),
        ),
        *(("..", "source"), ("talk to (e.g., self)", "talk_to_e.g._self"), ("$SYS", "SYS")),
    ],
)
def test_a_level_of_a_topic_holds_nothing_that_mqtt_or_an_address_reads(name: str, level: str) -> None:
    assert level_of(name) == level
