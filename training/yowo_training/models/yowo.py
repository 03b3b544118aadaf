"""The YOWO network: two backbones, their fusion, one output layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from yowo_deploy.errors import InputError
from yowo_deploy.spec import AttentionSign, Branch
from yowo_training.models.backbones import BACKBONES_2D, BACKBONES_3D
from yowo_training.models.backbones.base import Backbone
from yowo_training.models.backbones.flow import of_flow
from yowo_training.models.cfam import Cfam

Fusion = Literal["cfam", "concat"]
# Far above any network: 1,000 anchors of 1,000 classes; the largest backbone puts out 2,048 channels.
_HIGHEST = {"outputs": 1_005_000, "width": 16_384, "shrink_3d": 32}


@dataclass(frozen=True)
class YowoConfig:
    """The architecture of a network; with a `ModelSpec` all that a checkpoint records.

    Attributes:
        backbone_2d: reads the key frame; a name of `BACKBONES_2D`, or None.
        backbone_3d: reads the clip; a name of `BACKBONES_3D`, or None.
        outputs: A * (5 + C).
        width: channels inside CFAM.
        attention_sign: see `GramAttention`.
        shrink_3d: the 3-D branch and the third one read frames shrunk by this integer factor.
        fusion: "cfam", or "concat": the output layer directly on the concatenated features (paper, Table 2).
        backbone_extra: a third branch over another modality of the clip (paper, section 4.3): optical flow, which the
            network computes itself, see `of_flow`; a name of `BACKBONES_3D`, or None.
    """

    backbone_2d: str | None
    backbone_3d: str | None
    outputs: int
    width: int = 1024
    attention_sign: AttentionSign = "paper"
    shrink_3d: int = 1
    fusion: Fusion = "cfam"
    backbone_extra: str | None = None

    def __post_init__(self) -> None:
        branches = ((self.backbone_2d, BACKBONES_2D), (self.backbone_3d, BACKBONES_3D))
        for name, zoo in (*branches, (self.backbone_extra, BACKBONES_3D)):
            if name is not None and (not isinstance(name, str) or name not in zoo):
                raise InputError(f"backbone {name!r} is not known, expected one of {', '.join(zoo)}")
        if self.backbone_2d is None and self.backbone_3d is None:
            raise InputError("a model needs a 2-D or a 3-D backbone, both are None")
        for field, highest in _HIGHEST.items():
            found = getattr(self, field)
            if type(found) is not int or not 1 <= found <= highest:
                raise InputError(f"{field} is {found!r}, expected a whole number from 1 to {highest}")
        for field, allowed in (("attention_sign", get_args(AttentionSign)), ("fusion", get_args(Fusion))):
            if getattr(self, field) not in allowed:
                raise InputError(f"{field} is {getattr(self, field)!r}, expected one of {', '.join(allowed)}")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> YowoConfig:
        """The configuration that a file records.

        Raises:
            InputError, TypeError: it is none.
        """
        # Files of before the third branch computed its own input record how many channels that had.
        return cls(**{name: value for name, value in values.items() if name != "channels_extra"})


class Yowo(nn.Module):
    """(B, 3, T, H, W), key frame last, to (B, A * (5 + C), H/32, W/32)."""

    def __init__(self, config: YowoConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone_2d = BACKBONES_2D[config.backbone_2d]() if config.backbone_2d else None
        self.backbone_3d = BACKBONES_3D[config.backbone_3d]() if config.backbone_3d else None
        self.backbone_extra = of_flow(BACKBONES_3D[config.backbone_extra]()) if config.backbone_extra else None
        channels = sum(branch.out_channels for branch in self.branches().values())
        self.cfam: Cfam | None = None
        if config.fusion == "cfam":
            self.cfam = Cfam(channels, config.width, config.width, config.attention_sign)
            channels = config.width
        self.conv_final = nn.Conv2d(channels, config.outputs, 1, bias=False)

    def forward(self, clips: Tensor) -> Tensor:
        return self.fused(self.features(clips))

    def features(self, clips: Tensor, without: str = "") -> list[Tensor]:
        """Features of the branches, (B, C, H/32, W/32) each: 3-D first as in the official code, the third one last.

        Args:
            without: name of a branch that is not run; its features are left out.
        """
        found, shrunk = [], self._shrunk(clips)
        if self.backbone_2d is not None and without != "backbone_2d":
            found.append(self.backbone_2d(clips[:, :, -1]))
        if self.backbone_3d is not None and without != "backbone_3d":
            found.insert(0, self.backbone_3d(shrunk).mean(dim=2))
        if self.backbone_extra is not None:
            found.append(self.backbone_extra(shrunk).mean(dim=2))
        return found

    def fused(self, features: list[Tensor], heard_3d: Tensor | None = None) -> Tensor:
        """From the features of the branches to the output.

        Args:
            heard_3d: (B,) 1 or 0 for each clip, in training: 0 replaces the 3-D features, the first, by zeros.

        Raises:
            InputError: the grids of the branches differ, as a recipe of one's own may have it.
        """
        grids = ["x".join(map(str, each.shape[:1:-1])) for each in features]
        if len(set(grids)) > 1:
            said = ", ".join(map(" ".join, zip(self.branches(), grids, strict=True)))
            raise InputError(f"the branches end in different grids, {said}: choose another backbone or shrink_3d")
        if heard_3d is not None:
            features = [features[0] * heard_3d[:, None, None, None], *features[1:]]
        together = torch.cat(features, dim=1)
        return self.conv_final(together if self.cfam is None else self.cfam(together))  # type: ignore[no-any-return]

    def branches(self) -> dict[str, Backbone]:
        """The branches by name, in the order of `features`."""
        names = ("backbone_3d", "backbone_2d", "backbone_extra")
        return {name: branch for name in names if (branch := getattr(self, name)) is not None}

    def fed(self) -> tuple[Branch, ...]:
        """What each branch is fed, see `ModelSpec.branches`."""
        return tuple(
            (name, branch.modality, "key frame" if name == "backbone_2d" else "clip")
            for name, branch in self.branches().items()
        )

    def _shrunk(self, clips: Tensor) -> Tensor:
        factor = self.config.shrink_3d
        return clips if factor == 1 else F.avg_pool3d(clips, (1, factor, factor))
