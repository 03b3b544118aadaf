"""The long-term feature bank: 3-D features of a whole video (paper, section 3.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from yowo_deploy.arrays import Float, Frame
from yowo_deploy.errors import InputError, ModelFileError, foreign
from yowo_deploy.files import atomic_write, existing_file
from yowo_deploy.preprocess.frames import preprocess
from yowo_training.checkpoints.checkpoint import Checkpoint
from yowo_training.data.arrays_file import read_arrays

CLIP = 8  # frames of a clip; clips do not overlap
AROUND = 8  # clips averaged around the key frame: 64 frames
BATCH = 4  # clips per call
SMALL = 4  # cells per side of the thumbnails that identify the video of a bank
GREY_LEVELS = 3  # tolerance of a cell between two decoders


@dataclass(frozen=True)
class FeatureBank:
    """3-D features of the clips of one video, in order.

    Attributes:
        features: (M, C, H/32, W/32), of frames 0 to 7, 8 to 15, and so on; the last clip repeats the last frame.
        small: (N, 3, 4, 4), a thumbnail of every frame of the video.
        weights_sha256: of the network that computed them.
    """

    features: Float
    small: Float
    weights_sha256: str

    def around(self, key: int) -> Float:
        """(C, H/32, W/32): the mean over the eight clips around a frame; over fewer at the ends of the video."""
        middle = key // CLIP
        first = max(0, middle - AROUND // 2 + (key % CLIP >= CLIP // 2))
        found = self.features[first : max(0, middle + AROUND // 2 + (key % CLIP >= CLIP // 2))]
        return np.asarray((found if len(found) else self.features[-1:]).mean(axis=0), np.float32)

    def refuse_another_video(self, clip: Float, key: int, std: tuple[float, float, float]) -> None:
        """Raise an InputError unless a frame matches the thumbnail of that number.

        Args:
            clip: (1, 3, T, H, W), whose last frame is compared.
            std: of the spec.
        """
        if key < len(self.small):
            levels = np.abs(_small(clip[0, :, -1]) - self.small[key]) * np.reshape(std, (3, 1, 1)) * 255
            if levels.max() <= GREY_LEVELS:
                return
        raise InputError(
            f"the feature bank has no frame {key}: it was made from another video, or from a part of this one"
        )

    def save(self, path: Path) -> None:
        """Write as .npz, in half precision."""
        with atomic_write(path) as temporary, temporary.open("wb") as stream:
            half = {"features": self.features.astype(np.float16), "small": self.small.astype(np.float16)}
            np.savez(stream, **half, weights_sha256=self.weights_sha256)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path, checkpoint: Checkpoint) -> FeatureBank:
        """Read what `save` wrote.

        Raises:
            InputError: no such file, or it was made with another checkpoint or for another input size.
            ModelFileError: it is not a feature bank, or damaged.
        """
        file = existing_file(path, "feature bank")
        complaint = f"{file} is not a feature bank, or is damaged, make it with `features`"
        *arrays, by = read_arrays(file, complaint, ModelFileError, "features", "small", "weights_sha256")
        with foreign(complaint, ModelFileError):
            (features, small), made_by = (array.astype(np.float32) for array in arrays), str(by)
        if made_by != checkpoint.spec.weights_sha256:
            raise InputError(f"{file} was made with another checkpoint: make it again with `yowo-deploy features`")
        branch, (columns, rows) = checkpoint.model.backbone_3d, checkpoint.spec.grid_size
        expected = getattr(branch, "out_channels", None), rows, columns
        if not len(features.shape) == 4 or not len(features) or features.shape[1:] != expected:
            raise InputError(
                f"{file} holds features of {features.shape}, expected clips of {expected}: make it again with "
                "`yowo-deploy features` and this checkpoint"
            )
        return cls(features, small, made_by)


def make_bank(checkpoint: Checkpoint, frames: Iterable[Frame]) -> FeatureBank:
    """Compute the feature bank of a video.

    Raises:
        InputError: the network has no 3-D branch, or there is no frame.
    """
    if checkpoint.model.backbone_3d is None:
        raise InputError("this model has no 3-D branch, so it has no feature bank")
    small: list[Float] = []
    clips, seen = _clips(checkpoint, frames, small), []
    with torch.inference_mode():
        while batch := list(islice(clips, BATCH)):
            seen.append(checkpoint.model.features(torch.from_numpy(np.stack(batch)), "backbone_2d")[0].numpy())
    if not seen:
        raise InputError("the video holds no frame, so it has no feature bank")
    return FeatureBank(np.concatenate(seen), np.stack(small), checkpoint.spec.weights_sha256)


def long_term(checkpoint: Checkpoint, bank: FeatureBank) -> Callable[[Float, int], Float]:
    """A function from a clip, (1, 3, T, H, W), and the number of its key frame in the video to the raw output.

    The bank's mean around the key frame replaces the clip's 3-D features. The function raises an InputError for a frame
    that the bank's video does not have.
    """
    model = checkpoint.model

    def look(clip: Float, key: int) -> Float:
        bank.refuse_another_video(clip, key, checkpoint.spec.std)
        around = torch.from_numpy(bank.around(key))[None]
        with torch.inference_mode():
            others = model.features(torch.from_numpy(clip), "backbone_3d")
            return np.asarray(model.fused([around, *others]).numpy(), np.float32)

    return look


def _clips(checkpoint: Checkpoint, frames: Iterable[Frame], small: list[Float]) -> Iterator[Float]:
    """(3, 8, H, W) each, the last one padded with its last frame; appends a thumbnail of every frame to `small`."""
    planes = (preprocess(frame, checkpoint.spec) for frame in frames)
    while clip := list(islice(planes, CLIP)):
        small += map(_small, clip)
        yield np.stack(clip + clip[-1:] * (CLIP - len(clip)), axis=1)


def _small(planes: Float) -> Float:
    """(3, H, W) to the means of 4 x 4 cells, (3, 4, 4)."""
    cells: Float = F.adaptive_avg_pool2d(torch.from_numpy(planes), SMALL).numpy()
    return cells
