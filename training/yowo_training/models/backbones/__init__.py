"""Backbones by name; each maps to a function without arguments that builds it with random weights.

A 2-D backbone turns (B, 3, H, W) into (B, C, H/32, W/32); a 3-D backbone turns (B, 3, T, H, W) into
(B, C, T', H/32, W/32). Each has `out_channels`, its C.
"""

from __future__ import annotations

from collections.abc import Callable

from yowo_training.models.backbones.base import Backbone
from yowo_training.models.backbones.darknet import Darknet19, Darknet19Bare
from yowo_training.models.backbones.efficientnet import EfficientNetLite0
from yowo_training.models.backbones.mobilenet import MobileNet, MobileNetV2
from yowo_training.models.backbones.motion import ALL_PAIRS, MotionLite0
from yowo_training.models.backbones.resnet import resnet18, resnet50, resnet101, resnext101
from yowo_training.models.backbones.shufflenet import ShuffleNet
from yowo_training.models.backbones.shufflenetv2 import ShuffleNetV2
from yowo_training.models.backbones.tiny import Tiny2d, Tiny3d

Builder = Callable[[], Backbone]

BACKBONES_2D: dict[str, Builder] = {
    "darknet19": Darknet19,
    "darknet19_bare": Darknet19Bare,
    "efficientnet_lite0": EfficientNetLite0,
    "tiny2d": Tiny2d,
}

BACKBONES_3D: dict[str, Builder] = {
    "resnext101": resnext101,
    "resnet18": resnet18,
    "resnet50": resnet50,
    "resnet101": resnet101,
    "mobilenet_2x": MobileNet,
    "mobilenetv2_1x": MobileNetV2,
    "shufflenet_2x": ShuffleNet,
    "shufflenetv2_2x": ShuffleNetV2,
    "motion_lite0": MotionLite0,
    "motion_lite0_p15": lambda: MotionLite0(ALL_PAIRS),
    "tiny3d": Tiny3d,
    "tiny3d_s16": lambda: Tiny3d(last_stride=1),
}
