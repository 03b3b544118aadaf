"""Made-up results of a yard with two people."""

from __future__ import annotations

from collections.abc import Callable

from yowo_deploy.result import Result

NAMES = ("歩く\n", "run $5", "sit")


def yard(made_up: Callable[..., Result]) -> list[Result]:
    """Person 0 walks for 20 frames and runs for 20; person 4 sits from frame 10 to 14, with frame 12 missing."""
    made = []
    for number in range(40):
        people = {0: [0.9, 0.1, 0.0] if number < 20 else [0.1, 0.7, 0.0]}
        if 10 <= number < 15 and number != 12:
            people[4] = [0.0, 0.0, 0.8]
        made.append(made_up(number, people))
    return made
