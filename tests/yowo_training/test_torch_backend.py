"""The checkpoint behind the same protocol as every engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from yowo_deploy.errors import InputError, ModelFileError
from yowo_deploy.spec import ModelSpec
from yowo_training.checkpoints.checkpoint import Checkpoint, save_checkpoint
from yowo_training.models.yowo import Yowo, YowoConfig
from yowo_training.torch_backend import TorchBackend, device_of

SPEC = ModelSpec(labels=("run", "sit"), anchors=((1.0, 2.0),), clip_length=4, input_size=(64, 64))


@pytest.fixture
def model() -> Yowo:
    torch.manual_seed(0)
    return Yowo(YowoConfig("tiny2d", "tiny3d", SPEC.output_channels, width=16)).eval()


def test_it_answers_what_the_network_answers(tmp_path: Path, model: Yowo) -> None:
    save_checkpoint(tmp_path / "a.pt", model, SPEC, {})
    clips = np.random.default_rng(0).standard_normal((2, *SPEC.clip_shape), np.float32)
    with TorchBackend(tmp_path / "a.pt") as backend, torch.no_grad():
        np.testing.assert_array_equal(backend.infer(clips), model(torch.from_numpy(clips)).numpy())


def test_an_answer_stays_when_the_next_one_comes(model: Yowo) -> None:
    backend = TorchBackend.of(Checkpoint(model, SPEC))
    clips = np.random.default_rng(0).standard_normal((2, 1, *SPEC.clip_shape), np.float32)
    first = backend.infer(clips[0])
    kept = first.copy()
    backend.infer(clips[1])
    np.testing.assert_array_equal(first, kept)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device, so asking for one is no error")
def test_a_device_that_is_not_there_is_an_error(tmp_path: Path, model: Yowo) -> None:
    save_checkpoint(tmp_path / "a.pt", model, SPEC, {})
    with pytest.raises(InputError, match="CUDA"):
        TorchBackend(tmp_path / "a.pt", device="cuda")


def test_clips_of_another_shape_are_refused(model: Yowo) -> None:
    with pytest.raises(InputError, match="expected"):
        TorchBackend.of(Checkpoint(model, SPEC)).infer(np.zeros((1, 3, 5, 64, 64), np.float32))


def test_what_torch_raises_is_one_line_of_ours(model: Yowo) -> None:
    backend = TorchBackend.of(Checkpoint(model, SPEC))
    model.conv_final.weight = torch.nn.Parameter(torch.ones(1, 2, 3, 3))
    with pytest.raises(ModelFileError, match=r"^pytorch cannot run yowo on cpu in fp32: Given groups=1, .*channels"):
        backend.infer(np.zeros((1, *SPEC.clip_shape), np.float32))


def test_auto_is_a_device_that_works() -> None:
    device = device_of("auto")
    assert torch.ones(1, device=device).item() == 1 and (device.type == "cuda" or not torch.cuda.is_available())
    with pytest.raises(InputError, match="'cuda:99' does not exist"):
        device_of("99")
