"""Long-term features: a mean over the right frames, the same file back, and no mixing of checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from yowo_deploy.errors import InputError, ModelFileError
from yowo_deploy.preprocess.frames import preprocess
from yowo_deploy.spec import ModelSpec
from yowo_training.checkpoints.checkpoint import Checkpoint
from yowo_training.feature_bank import AROUND, CLIP, FeatureBank, long_term, make_bank
from yowo_training.models.yowo import Yowo, YowoConfig

SPEC = ModelSpec(
    labels=("run", "sit"), anchors=((1.0, 2.0),), clip_length=8, input_size=(64, 64), weights_sha256="a" * 64
)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    model = Yowo(YowoConfig("tiny2d", "tiny3d", outputs=SPEC.output_channels, width=16))
    return Checkpoint(model.eval(), SPEC)


def frames(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(count)]


@pytest.mark.parametrize("key", range(0, 200, 7))
def test_the_mean_is_over_the_eight_clips_in_whose_middle_the_key_frame_stands(key: int) -> None:
    count = 25
    bank = FeatureBank(np.arange(count, dtype=np.float32)[:, None, None, None], np.zeros((0, 3, 4, 4), np.float32), "")
    # By construction: the 64 frames whose middle is nearest to the key frame, in whole clips, where there are any.
    starts = np.arange(-AROUND, count + AROUND)
    first = min(starts, key=lambda start: abs(CLIP * (start + AROUND / 2) - (key + 0.5)))
    inside = [number for number in range(first, first + AROUND) if 0 <= number < count]
    assert bank.around(key).item() == pytest.approx(np.mean(inside))


def test_a_bank_holds_what_the_3d_branch_sees_in_clips_of_eight_frames(checkpoint: Checkpoint) -> None:
    video = frames(19)
    bank = make_bank(checkpoint, video)
    clip = np.stack([preprocess(frame, SPEC) for frame in [*video[16:], *video[-1:] * 5]], axis=1)
    with torch.no_grad():
        expected = checkpoint.model.features(torch.from_numpy(clip[None]))[0][0]
    assert len(bank.features) == 3
    np.testing.assert_allclose(bank.features[2], expected, atol=1e-5)


NETWORKS = {
    "both branches": YowoConfig("tiny2d", "tiny3d", SPEC.output_channels, 16),
    "without the 2-D one": YowoConfig(None, "tiny3d", SPEC.output_channels, fusion="concat"),
    "with the third one": YowoConfig("tiny2d", "tiny3d", SPEC.output_channels, 16, backbone_extra="tiny3d"),
    "frames shrunk": YowoConfig("tiny2d", "tiny3d_s16", SPEC.output_channels, 16, shrink_3d=2),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_in_a_video_of_one_clip_long_and_short_term_are_the_same(name: str) -> None:
    checkpoint, video = Checkpoint(Yowo(NETWORKS[name]).eval(), SPEC), frames(8)
    clip = np.stack([preprocess(frame, SPEC) for frame in video], axis=1)[None]
    look = long_term(checkpoint, make_bank(checkpoint, video))
    with torch.no_grad():
        expected = checkpoint.model(torch.from_numpy(clip)).numpy()
    np.testing.assert_allclose(look(clip, 7), expected, atol=1e-5)


def test_a_bank_comes_back_from_its_file_and_only_to_its_checkpoint(checkpoint: Checkpoint, tmp_path: Path) -> None:
    bank = make_bank(checkpoint, frames(12))
    bank.save(tmp_path / "a.npz")
    back = FeatureBank.load(tmp_path / "a.npz", checkpoint)
    np.testing.assert_allclose(back.features, bank.features, rtol=2**-10, atol=1e-6)  # half precision
    other = Checkpoint(checkpoint.model, SPEC.replace(weights_sha256="b" * 64))
    with pytest.raises(InputError, match="another checkpoint"):
        FeatureBank.load(tmp_path / "a.npz", other)
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 nothing")
    with (tmp_path / "array.npz").open("wb") as stream:
        np.save(stream, bank.features)
    (tmp_path / "deep.npz").write_bytes(b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 0xFFFF)  # MemoryError of its parser
    for name in ("a.npz", "array.npz", "deep.npz"):
        with pytest.raises(ModelFileError, match="not a feature bank"):
            FeatureBank.load(tmp_path / name, checkpoint)
    with pytest.raises(InputError, match="not found"):
        FeatureBank.load(tmp_path / "b.npz", checkpoint)


def test_a_bank_answers_for_its_own_video_alone(checkpoint: Checkpoint, tmp_path: Path) -> None:
    rng, video = np.random.default_rng(2), frames(12)
    make_bank(checkpoint, video).save(tmp_path / "a.npz")
    look = long_term(checkpoint, FeatureBank.load(tmp_path / "a.npz", checkpoint))

    def seen(picture: np.ndarray, key: int) -> np.ndarray:
        return look(np.repeat(preprocess(picture, SPEC)[None, :, None], 8, axis=2), key)

    for key in (0, 5, 11):
        decoded_elsewhere = np.clip(video[key].astype(int) + rng.integers(-2, 3, video[key].shape), 0, 255)
        assert np.isfinite(seen(decoded_elsewhere.astype(np.uint8), key)).all()
    for picture, key in ((video[3], 4), (video[11], 12), (np.zeros_like(video[0]), 0)):
        with pytest.raises(InputError, match=f"has no frame {key}: it was made from another video"):
            seen(picture, key)


def test_what_cannot_be_kept_is_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(InputError, match="no frame"):
        make_bank(checkpoint, [])
    flat = Checkpoint(Yowo(YowoConfig("tiny2d", None, outputs=SPEC.output_channels, width=16)).eval(), SPEC)
    with pytest.raises(InputError, match="no 3-D branch"):
        make_bank(flat, frames(1))


@pytest.mark.parametrize("shape", [(), (5,), (0, 64, 2, 3), (1, 3, 2, 3), (1, 64, 1, 1), (1, 1, 64, 2, 3)])
def test_a_bank_of_another_shape_is_refused(shape: tuple[int, ...], checkpoint: Checkpoint, tmp_path: Path) -> None:
    """As one made with the same weights for another input size."""
    made_by, small = checkpoint.spec.weights_sha256, np.zeros((1, 3, 4, 4), np.float16)
    np.savez(tmp_path / "a.npz", features=np.zeros(shape, np.float16), small=small, weights_sha256=made_by)
    with pytest.raises(InputError, match="make it again"):
        FeatureBank.load(tmp_path / "a.npz", checkpoint)


def test_a_bank_that_unpacks_to_far_more_than_its_size_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", features=np.zeros(40_000_000, np.uint8))
    with pytest.raises(ModelFileError, match="unpacks to 38 MiB"):
        FeatureBank.load(tmp_path / "a.npz", checkpoint)
