"""Texts of specs and of the records of plans that break a reader, by hand and at random."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

from tests.hostile.onnx_files import SPEC
from yowo_deploy.model_files import plan_record
from yowo_deploy.model_files.plan_record import PlanFile

PLAN = PlanFile(SPEC, "tensorrt", "10.8.0", "8.9", "ab" * 32, (1, 2, 4))
PLAN_VALUES: dict[str, Any] = json.loads(plan_record.to_name(PLAN)[0].split(" ", 4)[-1])

# What stands in place of values.
VALUES = [
    None, True, False, 0, -1, 1, 0.5, 1e308, -1e308, 10**400, 2**31, 2**63, "", "a", "\x1b[31m", "\ud800", "a" * 10**5,
    [], [[]], [0], [None], ["a", "a"], [1] * 10**4, {}, {"a": 1}, [[1.0, 2.0]], [[0, 0]], [[1e999, 1]], "fp16", "int8",
]  # fmt: skip
# Of every field.
_ODD = [None, True, 1.5, 1e999, -1, 0, 2**31, 2**53 + 1, 10**400, "", "x", "\ud800", "x" * 1_001, [], [[]], {}, [1, 2]]


def spec_texts() -> Iterator[str]:
    """JSON of specs: every field with odd values, and what is at a bound or just beyond it."""
    good = SPEC.to_dict()
    for name in good:
        for value in _ODD:
            yield json.dumps(good | {name: value})
    changes: list[dict[str, Any]] = [
        {"labels": ["x" * 1_000]}, {"labels": ["\u00e9" * 1_000]}, {"labels": ["\U00010428" * 1_001]},
        {"labels": [str(n) for n in range(100_000)]}, {"labels": [str(n) for n in range(100_001)]},
        {"anchors": [[1, 1]] * 1_000}, {"anchors": [[1, 1]] * 1_001}, {"anchors": [[1, 1, 1]]},
        {"anchors": [[2**53 - 1, 1]]}, {"anchors": [[2**53 + 1, 1]]}, {"mean": [0, 1e300, -0.0]},
        {"name": "\u00e9" * 1_000}, {"name": "\u00e9" * 1_001}, {"name": "two\nlines"}, {"weights_sha256": "x" * 1_001},
        {"clip_length": 1_024, "frame_stride": 1_024}, {"clip_length": 1_025}, {"frame_stride": 0},
        {"input_size": [8192, 8192]}, {"input_size": [8196, 4]}, {"input_size": [8, 6]}, {"stride": 2**40},
        {"softmax_classes": 1}, {"softmax_classes": 2}, {"event_off": 0.6}, {"event_on": 1.0000001},
        {"format_version": 0}, {"format_version": 2.0}, {"format_version": 3}, {"std": [1e-320, 1, 1]}, {"other": 1},
        {"std": [2**-15, 1, 2**15]}, {"std": [3e-5, 1, 1]}, {"std": [1, 1, 1e300]}, {"mean": [-(2**15), 2**15, 0]},
        {"mean": [0, -32769, 0]},
    ]  # fmt: skip
    for change in changes:
        yield json.dumps(good | change)
    text = SPEC.to_json()
    yield from (text[:-1], text + ",", f"\ufeff{text}", f" \t\r\n{text}", text.replace("0.25", "NaN"), "[" * 100_000)
    yield from (text.replace("0.25", number) for number in ("1e-400", "00.25", "+1", ".5", "1.", "1E-1", "-0", "0x1"))
    yield from (text[:1] + '"name": 5, ' + text[1:], text[:1] + '"name": "x", ' + text[1:], '"text"', "null", "")
    yield json.dumps({f"{n}": n for n in range(1_000)})


def plan_texts() -> Iterator[str]:
    """Records of plans, as `spec_texts`; those of up to 9,999 characters, as many as a record can say."""
    good = PLAN_VALUES
    for name in good:
        for value in _ODD:
            yield json.dumps(good | {name: value})
    changes: list[dict[str, Any]] = [
        {"version": "10.8"}, {"version": "10.8.0.1+x_y"}, {"version": "10.8.0 1"}, {"version": f"1{'0' * 30}.8.0"},
        {"version": "10.8.0\u0661"}, {"version": "10.8.0\u00e9"}, {"compute_capability": "8."},
        {"onnx_sha256": "AB" * 32},
        {"compute_capability": f"8.{'9' * 30}"}, {"batch": [1, 2]}, {"batch": [2, 1, 4]}, {"batch": [1, 1, 2**31]},
        {"batch": [0, 1, 1]}, {"batch": [1.0, 1, 1]}, {"workspace": 2**53}, {"workspace": -0.0}, {"macs": 2**60},
        {"golden": "[1, 2]"}, {"golden": "[" * 2_002}, {"golden": "[" * 2_003}, {"golden": "x"}, {"flavour": "trt"},
        {"other": 1}, {"spec": "ab" * 32},
    ]  # fmt: skip
    for change in changes:
        yield json.dumps(good | change)


def in_plan(record: str) -> bytes:
    """A plan with this record and its right checksum."""
    return b"ftrt" + b"\0" * 99 + plan_record._sealed("json", record).encode(errors="replace") + b"\0" * 9


def spoiled_json(values: dict[str, Any], generator: random.Random) -> str:
    """JSON with some values, keys or letters changed."""
    made = dict(values)
    for _ in range(generator.randint(1, 3)):
        name = generator.choice([*made, "other"]) if made else "other"
        match generator.randrange(4):
            case 0 if name in made:
                del made[name]
            case 1 if name in made and isinstance(made[name], (int, float)) and abs(made[name]) < 2**63:
                made[name] = made[name] * generator.choice((-1, 0, 2, 1000, 2**40, 0.1))
            case _:
                made[name] = generator.choice(VALUES)
    text = json.dumps(made)
    if generator.random() < 0.3:
        at = generator.randrange(len(text))
        text, rest = text[:at], text[at + generator.randint(0, 4) :]
        text += generator.choice(("", '"', "[" * generator.choice((1, 10**5)), "NaN", "\0", ",", "1e999")) + rest
    return text
