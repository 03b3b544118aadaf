"""A branch over the optical flow of the clip (paper, section 4.3), which the network computes itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from yowo_deploy.errors import InputError
from yowo_training.models.backbones.base import Backbone
from yowo_training.models.backbones.motion import SCALES, flow_fields

CHANNELS = 2 * len(SCALES)


class FlowBranch(Backbone):
    """(B, 3, T, H, W) to what a 3-D backbone makes of the clip's flow.

    Computed in the network, flow is no second input: files, engines, sources and C++ take clips and frames as ever.
    """

    modality = "flow"

    def __init__(self, network: Backbone) -> None:
        super().__init__()
        self.out_channels = network.out_channels
        self.norm = nn.BatchNorm3d(CHANNELS)
        self.network = with_input_channels(network, CHANNELS)

    def forward(self, clips: Tensor) -> Tensor:
        return self.network(self.norm(flow(clips)))


def of_flow(backbone: Backbone) -> Backbone:
    """The branch in which a 3-D backbone reads flow; itself where it computes flow already.

    Raises:
        InputError: it has no 3-D convolution whose channels could be changed.
    """
    return backbone if backbone.modality == "flow" else FlowBranch(backbone)


def flow(clips: Tensor) -> Tensor:
    """(B, 3, T, H, W) to (B, CHANNELS, T, H, W): by scale the steps to the right and down since the frame before.

    The first frame has none before it: its flow is zero. The flow of the whole frame, the camera's, is taken away.
    """
    after = clips.mean(dim=1)
    before = torch.cat([after[:, :1], after[:, :-1]], dim=1)
    fields = flow_fields(before, after)
    return torch.cat([field.reshape(-1, 2, clips.shape[2], *clips.shape[3:]) for field in fields], dim=1)


def with_input_channels(backbone: Backbone, channels: int) -> Backbone:
    """The same backbone with a new first convolution for that many channels.

    Raises:
        InputError: the backbone has no 3-D convolution.
    """
    for parent in backbone.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv3d):
                kernel, stride, padding = child.kernel_size, child.stride, child.padding
                fresh = nn.Conv3d(channels, child.out_channels, kernel, stride, padding, bias=False)  # type: ignore[arg-type]
                setattr(parent, name, fresh)
                return backbone
    raise InputError("this backbone has no 3-D convolution to widen")
