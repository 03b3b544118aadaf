"""Activation maps of each branch over the key frame (paper, Figure 4)."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import torch

from yowo_deploy.arrays import Float, Frame
from yowo_deploy.errors import InputError
from yowo_deploy.postprocess.decode import detect
from yowo_deploy.preprocess.clip_buffer import ClipBuffer
from yowo_deploy.preprocess.frames import preprocess
from yowo_deploy.visuals.draw import contact_sheet, draw
from yowo_training.checkpoints.checkpoint import Checkpoint
from yowo_training.models.yowo import Yowo

HEAT = 0.5  # opacity of the activations over the frame


def explain(checkpoint: Checkpoint, frames: Iterable[Frame], key: int, confidence: float | None = None) -> Frame:
    """A picture of one frame with its detections, and of the activations of each branch.

    Args:
        frames: (H, W, 3) uint8 BGR, of a video from its first frame on.
        key: number of the frame to explain, from 0.
        confidence: of the boxes shown; the spec's threshold by default.

    Returns:
        The frame with its boxes and one frame per branch, side by side.

    Raises:
        InputError: the video has no such frame.
    """
    spec, buffer = checkpoint.spec, ClipBuffer(checkpoint.spec)
    for index, frame in enumerate(frames):
        clip = buffer.push(preprocess(frame, spec))
        if index == key:
            break
    else:
        raise InputError(f"the video has no frame {key}; frames count from 0")
    clips = torch.from_numpy(clip[None].copy())
    with torch.inference_mode():
        raw = checkpoint.model(clips)[0].numpy()
    size_wh = frame.shape[1], frame.shape[0]
    pictures, captions = [draw(frame, detect(raw, spec, size_wh, confidence), spec.labels)], [f"frame {key}"]
    for name, activation in activation_maps(checkpoint.model, clips).items():
        pictures.append(_heated(frame, activation))
        captions.append(name)
    return contact_sheet(pictures, columns=len(pictures), captions=captions)


def activation_maps(model: Yowo, clips: torch.Tensor) -> dict[str, Float]:
    """The mean magnitude of each branch's features over the first clip, scaled to 0..1: (H/32, W/32) by branch."""
    captions = {"backbone_3d": "3-D branch", "backbone_2d": "2-D branch", "backbone_extra": "flow branch"}
    names = [captions[name] for name in model.branches()]
    maps = {}
    with torch.inference_mode():
        for name, features in zip(names, model.features(clips), strict=True):
            strength = features[0].abs().mean(dim=0).numpy()
            span = float(np.ptp(strength))
            maps[name] = np.asarray((strength - strength.min()) / (span or 1), np.float32)
    return maps


def _heated(frame: Frame, activation: Float) -> Frame:
    """The frame in grey under the activations in colour, dark blue for none to yellow for the strongest."""
    large = cv2.resize(activation, (frame.shape[1], frame.shape[0]), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    colours = cv2.applyColorMap((255 * large).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    grey = cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    return np.asarray(cv2.addWeighted(colours, HEAT, grey, 1 - HEAT, 0), np.uint8)
