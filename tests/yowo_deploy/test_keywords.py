"""An unknown keyword is answered with the nearest known one, wherever options are taken."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from yowo_deploy import Detector, StreamPool, bench, detect, evaluate, open_model
from yowo_deploy.errors import InputError
from yowo_deploy.keywords import checked_keywords, nearest_name


@pytest.mark.parametrize(
    ("call", "name", "nearest"),
    [
        (Detector.open, "conf", "confidence"),
        (Detector.open, "devise", "device"),
        (Detector, "tubescores", "tube_scores"),
        (StreamPool.open, "conf", "confidence"),
        (StreamPool, "maxbatch", "max_batch"),
        (open_model, "devise", "device"),
        (detect, "conf", "confidence"),
        (detect, "thread", "threads"),
        (evaluate, "precison", "precision"),
        (detect, "streaming", "streams"),
        (bench, "sec", "seconds"),
        (bench, "backends", "backend"),
    ],
)
def test_an_unknown_option_is_answered_with_the_nearest(call: Callable[..., object], name: str, nearest: str) -> None:
    with pytest.raises(InputError, match=f"^{call.__qualname__} has no argument '{name}': did you mean '{nearest}'"):
        call("default", **{name: 1})
    with pytest.raises(InputError, match=r"has no argument 'xyz': expected some of .*, .*"):
        call("default", xyz=1)


@pytest.mark.parametrize(
    ("name", "nearest"), [("conf", "confidence"), ("keep_threshold", "keep"), ("evry", "every"), ("xyz", None)]
)
def test_the_nearest_begins_alike_or_is_spelt_alike(name: str, nearest: str | None) -> None:
    assert nearest_name(name, ["every", "keep", "confidence"]) == nearest


def test_known_arguments_go_through() -> None:
    @checked_keywords
    def made(one: int, *, two: int = 2) -> tuple[int, int]:
        return one, two

    assert made(1) == (1, 2) and made(one=3, two=4) == (3, 4)
    assert made.__name__ == "made"
