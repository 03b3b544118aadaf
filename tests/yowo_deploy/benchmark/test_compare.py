"""Two records of `bench --json`: is the second slower, and may they be compared at all?"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yowo_deploy.benchmark.compare import FORMAT, compare_records, read_record
from yowo_deploy.errors import InputError

MACHINE = {"cpu": "a CPU", "cores": 2, "gpus": []}


def model(seconds: Any, name: str = "yowo.onnx, openvino", sha256: str = "a") -> dict[str, Any]:
    facts = {"name": name, "sha256": sha256, "backend": "openvino", "precision": "fp32", "batch": 1, "clip_length": 8}
    return facts | {"seconds": [float(value) for value in seconds]}


def record(*models: dict[str, Any], **more: Any) -> dict[str, Any]:
    settings = {"threads": None, "device": None, "fps": None}
    versus = {"ratio": 1.0} if len(models) == 2 else None
    return {"format": FORMAT, "settings": settings, "machine": MACHINE, "models": list(models), "versus": versus} | more


def noisy(middle: float, seed: int, spread: float = 0.02) -> Any:
    return middle * (1 + spread * np.random.default_rng(seed).standard_normal(200))


def test_a_record_is_as_fast_as_itself() -> None:
    [change] = compare_records(record(model(noisy(0.1, 0))), record(model(noisy(0.1, 0))))
    assert change.percent == pytest.approx(0) and change.low < 0 < change.high
    assert change.old == change.new == pytest.approx(100, rel=0.01)


@pytest.mark.parametrize("factor", [0.8, 1.02, 1.1, 3.0])
def test_how_much_slower_is_told_with_its_interval(factor: float) -> None:
    [change] = compare_records(record(model(noisy(0.1, 0))), record(model(noisy(0.1 * factor, 1))))
    assert change.percent == pytest.approx(100 * (factor - 1), abs=1)
    assert change.low < 100 * (factor - 1) < change.high and change.high - change.low < 3 * factor
    assert (change.what, change.unit) == ("yowo.onnx, openvino", "ms")


@pytest.mark.parametrize("name", ["threads", "device", "fps"])
def test_records_of_other_settings_are_not_compared(name: str) -> None:
    old, new = (record(model(noisy(0.1, 0))) for _ in range(2))
    new["settings"][name] = 7
    with pytest.raises(InputError, match=f"{name}: (None|auto) and 7"):
        compare_records(old, new)


def test_a_ratio_does_not_mind_another_machine_under_another_load() -> None:
    def shared(load: float, first: float, seed: int) -> dict[str, Any]:
        noise = noisy(load, seed, 0.2)
        return record(model(first * noise), model(0.2 * noise * noisy(1, seed + 9), "old.onnx", "b"))

    old, new = shared(1, 0.1, 0), shared(4, 0.11, 1) | {"machine": MACHINE | {"cpu": "another"}}
    [change] = compare_records(old, new)
    assert change.percent == pytest.approx(10, abs=1) and change.what == "yowo.onnx, openvino, against old.onnx"
    new["models"][1]["sha256"] = "c"  # against another file, the ratio says nothing
    with pytest.raises(InputError, match="cpu: a CPU and another"):
        compare_records(old, new)


def test_latency_in_the_open_loop_is_compared_as_well() -> None:
    live = {"fps": 30, "seconds": noisy(0.04, 0).tolist(), "offered": 200, "dropped": 0}
    old, new = record(model(noisy(0.1, 0)), open_loop=live), record(model(noisy(0.1, 1)), open_loop=copy.deepcopy(live))
    new["open_loop"] |= {"seconds": noisy(0.06, 1).tolist(), "offered": 250, "dropped": 50}
    closed, loop, answered = compare_records(old, new)
    assert closed.percent == pytest.approx(0, abs=1)
    assert loop.percent == pytest.approx(50, abs=2) and loop.what == "latency at 30 frames/s"
    assert (answered.old, answered.new, answered.percent) == pytest.approx((100, 80, 25))


def test_stages_of_a_frame_are_compared_by_what_they_take_of_it() -> None:
    def stages(**ms: float) -> list[dict[str, Any]]:
        return [{"name": name, "p50_ms": value} for name, value in (ms | {"whole": sum(ms.values())}).items()]

    first = record(model(noisy(0.1, 0)), stages=stages(preprocess=10, infer=89, link=1))
    second = record(model(noisy(0.1, 0)), stages=stages(preprocess=20, infer=89, link=2))
    changes = {change.what: change for change in compare_records(first, second)[1:]}
    percents = {"preprocess, of a frame": 10, "infer, of a frame": 0, "link, of a frame": 1, "whole, of a frame": 11}
    assert {what: change.percent for what, change in changes.items()} == pytest.approx(percents)
    assert (changes["preprocess, of a frame"].old, changes["preprocess, of a frame"].unit) == (10, "ms")
    assert len(compare_records(first, record(model(noisy(0.1, 0))))) == 1  # nothing to compare them with


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"models": [{"precision": "int8"}]}, "precision of model 1: fp32 and int8"),
        ({"models": [{"batch": 4}]}, "batch of model 1: 1 and 4"),
        ({"settings": {"threads": 1}}, "threads: None and 1"),
        ({"machine": {"cpu": "another"}}, "cpu: a CPU and another"),
        ({"machine": {"gpus": [{"name": "L4", "clocks.sm": "1"}]}}, r"gpus: \[\] and \['L4'\]"),
    ],
)
def test_what_cannot_be_compared_is_listed(change: dict[str, Any], told: str) -> None:
    old, new = record(model(noisy(0.1, 0))), record(model(noisy(0.1, 0)))
    new = copy.deepcopy(new)
    for part, values in change.items():
        for place, each in enumerate(values if isinstance(values, list) else [values]):
            (new[part][place] if isinstance(values, list) else new[part]).update(each)
    with pytest.raises(InputError, match=told):
        compare_records(old, new)


def test_another_number_of_models_is_no_comparison() -> None:
    one = model(noisy(0.1, 0))
    with pytest.raises(InputError, match="3 and 1 models"):
        compare_records(record(one, one, one), record(one))


@pytest.mark.parametrize(
    "text",
    ["", "no json", "[]", "{}", "3", '{"format": 1, "models": []}', '{"format": 1, "models": [{"seconds": [1]}]}'],
)
def test_what_is_no_record_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=r"a\.json is (no|empty)"):
        read_record(tmp_path / "a.json")


def test_a_record_of_a_newer_format_asks_for_an_upgrade(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(record(model([1, 2])) | {"format": FORMAT + 1}))
    with pytest.raises(InputError, match="upgrade"):
        read_record(tmp_path / "a.json")
    (tmp_path / "b.json").write_text(json.dumps(record(model([1, 2]))))
    assert read_record(tmp_path / "b.json")["models"][0]["seconds"] == [1, 2]


def test_one_answer_alone_has_no_interval() -> None:
    live = {"fps": 1, "seconds": [0.4], "offered": 1, "dropped": 0}
    old, new = (record(model(noisy(0.1, 0)), open_loop=copy.deepcopy(live)) for _ in range(2))
    _, loop, _ = compare_records(old, new)
    assert (loop.percent, loop.low, loop.high) == (0, -np.inf, np.inf)


def test_a_record_of_the_first_format_is_compared_with_one_of_today(tmp_path: Path) -> None:
    today = record(model(noisy(0.1, 0)))
    former = copy.deepcopy(today) | {"format": 1}
    former["models"][0]["engine"] = former["models"][0].pop("backend")
    for name, each in (("old.json", former), ("new.json", today)):
        (tmp_path / name).write_text(json.dumps(each))
    old, new = (read_record(tmp_path / name) for name in ("old.json", "new.json"))
    assert len(compare_records(old, new)) == 1
    former["models"][0]["engine"] = "onnxruntime"
    (tmp_path / "old.json").write_text(json.dumps(former))
    with pytest.raises(InputError, match="backend of model 1: onnxruntime and openvino"):
        compare_records(read_record(tmp_path / "old.json"), new)


LIVE = {"fps": 25.0, "offered": 4, "dropped": 1, "seconds": [0.1, 0.2, 0.1]}
ODD = ("x", None, -1, 0, [], {}, [0.0, 0.1], [0.1, -0.1], [0.1, 1e300], ["x", "y"], [[0.1, 0.1]])


@pytest.mark.parametrize("odd", ODD, ids=str)
@pytest.mark.parametrize(
    "place",
    [("machine",), ("settings",), ("models",), ("models", 0), ("models", 0, "name"), ("models", 0, "seconds"),
     ("open_loop", "seconds"), ("open_loop", "fps"), ("open_loop", "offered"), ("open_loop", "dropped"),
     ("stages", 0, "p50_ms"), ("stages", 0, "name")],
)  # fmt: skip
def test_a_record_of_odd_values_is_refused_or_compared(place: tuple[Any, ...], odd: Any, tmp_path: Path) -> None:
    stages = [{"name": "decode", "p50_ms": 1.0}, {"name": "whole", "p50_ms": 2.0}]
    good = record(model(noisy(0.1, 0)), open_loop=LIVE, stages=stages)
    spoiled = copy.deepcopy(good)
    inner: Any = spoiled
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = odd
    (tmp_path / "a.json").write_text(json.dumps(spoiled))
    try:
        changes = compare_records(good, read_record(tmp_path / "a.json"))
    except InputError:
        return
    assert all(np.isfinite(change.percent) for change in changes)
