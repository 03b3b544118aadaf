"""The golden data that C++ reads is what Python computes today."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.golden import make


def cases(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((make.FOLDER / f"{name}.json").read_text(encoding="utf-8"))["cases"]
    return found


@pytest.mark.parametrize("case", cases("specs"), ids=lambda case: case["text"][:20])
def test_specs(case: dict[str, Any]) -> None:
    text = case.pop("text")
    assert make.spec_expected(text) == case


def test_planes() -> None:
    for case in cases("planes"):
        found = make.planes_expected(case)
        assert {name: case[name] for name in found} == found  # to the bit, on every processor


def test_detections() -> None:
    for case in cases("detections"):
        assert make.detections_expected(case) == case["expected"]  # float64 until the end hides how exp rounds


def test_tubes() -> None:
    for case in cases("tubes"):
        assert make.tubes_expected(case) == {name: case[name] for name in ("online", "ended")}  # to the bit as well


def test_zones() -> None:
    for case in cases("zones"):
        assert make.zones_expected(case) == case["expected"]
