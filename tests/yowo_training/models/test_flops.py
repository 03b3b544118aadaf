"""Multiply-adds and parameters, against the figures in the fact file."""

from __future__ import annotations

import pytest

from yowo_training.models.flops import cost
from yowo_training.models.yowo import Yowo, YowoConfig

# 3-D branch at T = 16 and 224 x 224: G multiply-adds, M parameters (OFFICIAL_YOWO, "Network").
FACTS = {
    "resnext101": (38.0, 47.5),
    "resnet18": (32.8, 33.0),
    "resnet50": (39.9, 46.2),
    "resnet101": (55.1, 85.2),
    "mobilenet_2x": (2.4, 12.9),
    "mobilenetv2_1x": (2.05, 2.4),
    "shufflenet_2x": (2.0, 3.6),
    "shufflenetv2_2x": (1.6, 5.4),
}


@pytest.mark.parametrize("name", FACTS)
def test_the_3d_branch_costs_what_it_should(name: str) -> None:
    found = cost(Yowo(YowoConfig(None, name, 145, width=8)), (3, 16, 224, 224))["backbone_3d"]
    macs, parameters = FACTS[name]
    # The facts are rounded to two figures where they are small.
    assert found.macs / 1e9 == pytest.approx(macs, rel=0.01, abs=0.05)
    assert found.parameters / 1e6 == pytest.approx(parameters, abs=0.06)


def test_the_whole_is_the_sum_of_its_parts_and_of_the_attention() -> None:
    model = Yowo(YowoConfig("tiny2d", "tiny3d", 14, width=16))
    costs = cost(model, (3, 8, 64, 64))
    assert set(costs) == {"backbone_3d", "backbone_2d", "cfam", "conv_final", "total"}
    for field in ("macs", "parameters"):
        parts = sum(getattr(part, field) for name, part in costs.items() if name != "total")
        assert parts == getattr(costs["total"], field) > 0


def test_a_clip_of_twice_the_length_costs_twice_as_much_in_the_3d_branch_alone() -> None:
    model = Yowo(YowoConfig("tiny2d", "tiny3d", 14, width=16))
    short, long = (cost(model, (3, frames, 64, 64)) for frames in (8, 16))
    assert long["backbone_3d"].macs == 2 * short["backbone_3d"].macs
    assert long["backbone_2d"].macs == short["backbone_2d"].macs
