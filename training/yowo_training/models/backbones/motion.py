"""A light temporal branch with ImageNet weights: optical flow inside the network, then EfficientNet-Lite0."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from yowo_training.models.backbones.base import Backbone
from yowo_training.models.backbones.efficientnet import EfficientNetLite0

PAIRS = 8  # of neighbouring frames, spread over the clip
ALL_PAIRS = 15  # of a clip of 16 frames
WINDOW = 7  # pixels over which motion is taken to be one
SCALES = (1, 2)
MAPS = 1 + 2 * len(SCALES)  # of a pair
STIFFNESS = 1e-3  # of the least squares: a flat patch does not move
LONGEST = 4.0  # pixels of the scale at hand; longer steps are beyond first derivatives


class MotionLite0(Backbone):
    """(B, 3, T, H, W) to (B, 1280, 1, H/16, W/16).

    What moved where between neighbouring frames is computed, not learnt: a few hundred videos teach no network optical
    flow from its beginnings. A network trained on pictures reads the flow fields as it would read a picture.

    Args:
        pairs: of neighbouring frames, spread over the clip.
    """

    out_channels = EfficientNetLite0.out_channels
    modality = "flow"

    def __init__(self, pairs: int = PAIRS) -> None:
        super().__init__()
        channels = pairs * MAPS
        self.pairs = pairs
        self.norm = nn.BatchNorm2d(channels)
        self.network = EfficientNetLite0(channels, last_stride=1)

    def forward(self, clips: Tensor) -> Tensor:
        # PyTorch pools in a third of the time in this layout, but adds up in another order than exported graphs.
        layout = torch.channels_last if self.training else torch.preserve_format
        return self.network(self.norm(motion(clips, self.pairs, layout))).unsqueeze(2)

    def load_imagenet(self) -> None:
        """As `EfficientNetLite0.load_imagenet`; each motion channel begins as the mean of the colours."""
        self.network.load_imagenet()


def motion(clips: Tensor, pairs: int = PAIRS, layout: torch.memory_format = torch.preserve_format) -> Tensor:
    """(B, 3, T, H, W) to (B, pairs * 5, H, W): of each pair the change of brightness and, by scale, the flow.

    The flow of the whole frame, which is the camera's, is taken away.

    Args:
        layout: in which it is computed and returned.
    """
    grey = clips.mean(dim=1)
    last = grey.shape[1] - 1
    if pairs == last:
        before, after = grey[:, :-1], grey[:, 1:]
    else:
        first = [round(place) for place in _places(pairs, last)]
        frames = (first, [min(i + 1, last) for i in first])
        # Not grey[:, first], which is exported as GatherND.
        before, after = (torch.cat([grey[:, i : i + 1] for i in each], dim=1) for each in frames)
    if layout != torch.preserve_format:
        before, after = before.contiguous(memory_format=layout), after.contiguous(memory_format=layout)
    return torch.cat([after - before, *flow_fields(before, after)], dim=1)


def _places(pairs: int, last: int) -> list[float]:
    """Where pairs begin in a clip that ends with the frame `last`."""
    return [i * max(0, last - 1) / (pairs - 1) for i in range(pairs)]


@torch.no_grad()
def with_more_pairs(given: MotionLite0, wanted: MotionLite0) -> None:
    """Fill a branch with the weights of one that reads fewer pairs of the same clips: with the same answers.

    Pairs that are new have weights of 0, and the statistics of the pair before.
    """
    places = torch.tensor([round(place) for place in _places(given.pairs, wanted.pairs)])
    before = torch.searchsorted(places, torch.arange(wanted.pairs), right=True) - 1
    is_new = (places[before] != torch.arange(wanted.pairs)).repeat(MAPS)
    channels = (before + torch.arange(MAPS)[:, None] * given.pairs).flatten()
    start = given.state_dict()
    for name, value in wanted.state_dict().items():
        if name == "network.stem.1.weight":
            value.copy_(start[name][:, channels].masked_fill(is_new[:, None, None], 0))
        else:
            value.copy_(start[name][channels] if name.startswith("norm.") and value.ndim else start[name])


def flow_fields(before: Tensor, after: Tensor) -> list[Tensor]:
    """Of each scale the flow of (B, N, H, W) to (B, N, H, W), as `lucas_kanade` gives it, without the frame's own."""
    found = []
    for scale in SCALES:
        flow = lucas_kanade(_shrunk(before, scale), _shrunk(after, scale))
        flow = flow - flow.mean(dim=(-2, -1), keepdim=True)
        found.append(flow if scale == 1 else F.interpolate(flow, scale_factor=float(scale), mode="bilinear"))
    return found


def lucas_kanade(before: Tensor, after: Tensor) -> Tensor:
    """(B, N, H, W) twice to (B, 2N, H, W): steps to the right, then steps down, in pixels.

    Least squares over a window (Lucas and Kanade, 1981), from first derivatives alone.
    """
    middle = (before + after) / 2
    right, down = _slope(middle, 3), _slope(middle, 2)
    change = after - before
    xx, yy = _window(right * right) + STIFFNESS, _window(down * down) + STIFFNESS
    xy, xt, yt = _window(right * down), _window(right * change), _window(down * change)
    determinant = xx * yy - xy * xy
    x, y = (xy * yt - yy * xt) / determinant, (xy * xt - xx * yt) / determinant
    return torch.cat([x, y], dim=1).clamp(-LONGEST, LONGEST)


def _slope(x: Tensor, axis: int) -> Tensor:
    """Central differences along an axis, zero at its ends."""
    size = x.shape[axis]
    inside = (x.narrow(axis, 2, size - 2) - x.narrow(axis, 0, size - 2)) / 2
    return F.pad(inside, (1, 1) if axis == 3 else (0, 0, 1, 1))


def _window(x: Tensor) -> Tensor:
    across = F.avg_pool2d(x, (1, WINDOW), 1, (0, WINDOW // 2))
    return F.avg_pool2d(across, (WINDOW, 1), 1, (WINDOW // 2, 0))


def _shrunk(x: Tensor, scale: int) -> Tensor:
    return x if scale == 1 else F.avg_pool2d(x, scale)
