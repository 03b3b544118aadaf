"""YOWO itself: two backbones, their fusion, one output layer. Returns raw tensors; decoding is `yowo_deploy.decode`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from yowo_deploy.errors import InputError
from yowo_deploy.spec import AttentionSign
from yowo_training.backbones import BACKBONES_2D, BACKBONES_3D
from yowo_training.cfam import Cfam


@dataclass(frozen=True)
class YowoConfig:
    """The shape of a network; with a `ModelSpec` it says all that a checkpoint must.

    Attributes:
        backbone_2d: sees the key frame; a name of `BACKBONES_2D`, or None.
        backbone_3d: sees the clip; a name of `BACKBONES_3D`, or None.
        outputs: A * (5 + C).
        width: channels inside CFAM.
        attention_sign: see `GramAttention`.
        shrink_3d: the 3-D branch sees frames shrunk by this whole factor.
    """

    backbone_2d: str | None
    backbone_3d: str | None
    outputs: int
    width: int = 1024
    attention_sign: AttentionSign = "paper"
    shrink_3d: int = 1

    def __post_init__(self) -> None:
        for name, zoo in ((self.backbone_2d, BACKBONES_2D), (self.backbone_3d, BACKBONES_3D)):
            if name is not None and name not in zoo:
                raise InputError(f"backbone {name!r} is not known, expected one of {', '.join(zoo)}")
        if self.backbone_2d is None and self.backbone_3d is None:
            raise InputError("a model needs a 2-D or a 3-D backbone, both are None")


class Yowo(nn.Module):
    """(B, 3, T, H, W), key frame last, to (B, A * (5 + C), H/32, W/32)."""

    def __init__(self, config: YowoConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone_2d = BACKBONES_2D[config.backbone_2d]() if config.backbone_2d else None
        self.backbone_3d = BACKBONES_3D[config.backbone_3d]() if config.backbone_3d else None
        branches = [branch for branch in (self.backbone_3d, self.backbone_2d) if branch is not None]
        channels = sum(branch.out_channels for branch in branches)
        self.cfam = Cfam(channels, config.width, config.width, config.attention_sign)
        self.conv_final = nn.Conv2d(config.width, config.outputs, 1, bias=False)

    def forward(self, clips: Tensor, heard_3d: Tensor | None = None) -> Tensor:
        return self.conv_final(self.cfam(torch.cat(self.features(clips, heard_3d), dim=1)))  # type: ignore[no-any-return]

    def features(self, clips: Tensor, heard_3d: Tensor | None = None) -> list[Tensor]:
        """What the branches see, 3-D first as in the release: (B, C, H/32, W/32) each.

        Args:
            heard_3d: (B,) 1 or 0 for each clip, in training: where 0, the 3-D features are zeros. With none heard the
                3-D branch is not run at all.
        """
        found = []
        if self.backbone_2d is not None:
            found.append(self.backbone_2d(clips[:, :, -1]))
        if self.backbone_3d is not None and (heard_3d is None or heard_3d.any()):
            features_3d = self.backbone_3d(self._shrunk(clips)).mean(dim=2)
            found.insert(0, features_3d if heard_3d is None else features_3d * heard_3d[:, None, None, None])
        elif self.backbone_3d is not None:
            found.insert(0, found[0].new_zeros(len(clips), self.backbone_3d.out_channels, *found[0].shape[2:]))
        return found

    def _shrunk(self, clips: Tensor) -> Tensor:
        factor = self.config.shrink_3d
        return clips if factor == 1 else F.avg_pool3d(clips, (1, factor, factor))
