"""Checkpoints: ours round trip, the release's load, everything else is one clear error and nothing is run."""

from __future__ import annotations

import json
import os
import pickle
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import safetensors.torch
import torch

from yowo_deploy.errors import InputError, ModelFileError, SpecError, YowoError
from yowo_deploy.model_files.checksum import SAFETENSORS_MARK, ZIP_MARK, has_checksum
from yowo_deploy.spec import METADATA_KEY, ModelSpec
from yowo_training.checkpoints.checkpoint import is_checked, load_checkpoint, save_checkpoint, write_tensors
from yowo_training.checkpoints.onnx_weights import load_network
from yowo_training.models.yowo import Yowo, YowoConfig

if TYPE_CHECKING:
    from tests.conftest import Release

SPEC = ModelSpec(labels=("run", "sit"), anchors=((1.0, 2.0), (2.0, 3.0)), clip_length=4, input_size=(64, 64))


@pytest.fixture
def model() -> Yowo:
    torch.manual_seed(0)
    return Yowo(YowoConfig("tiny2d", "tiny3d", SPEC.output_channels, width=16)).eval()


def test_what_is_saved_is_loaded(tmp_path: Path, model: Yowo) -> None:
    written = save_checkpoint(tmp_path / "a.pt", model, SPEC, {"step": 3})
    loaded = load_checkpoint(tmp_path / "a.pt")
    assert loaded.spec == written and written.weights_sha256
    assert loaded.model.config == model.config and not loaded.model.training
    clips = torch.randn(1, 3, 4, 64, 64)
    assert torch.equal(loaded.model(clips), model(clips))


_AT_EVERY_EVENT = """
import gc, pathlib, sys, torch
from yowo_training.checkpoints.checkpoint import write_tensors

def traced(frame, kind, _):
    global left, where
    name = frame.f_code.co_filename
    if not name.endswith(("serialization.py", "checkpoint.py", "files.py", "contextlib.py")):
        return None
    left -= 1
    if left == -1:
        where = f"{pathlib.Path(name).name}:{frame.f_lineno} {kind}"
        print(event, where, flush=True)
        raise SystemExit(143)
    return traced

path, content, event, left = pathlib.Path(sys.argv[1]), {"a": torch.zeros(3)}, 0, -1
gc.freeze()
while left < 0:
    path.write_text("old")
    left = event
    try:
        sys.settrace(traced)
        write_tensors(path, content)
    except SystemExit:
        pass
    finally:
        sys.settrace(None)
    gc.collect()
    event += 1
print("ended")
"""


def test_whatever_line_of_a_save_a_signal_comes_at_the_process_is_not_aborted(tmp_path: Path) -> None:
    code = [sys.executable, "-c", _AT_EVERY_EVENT, tmp_path / "a.pt"]
    done = subprocess.run(code, capture_output=True, text=True)
    *at, last = done.stdout.splitlines()
    assert done.returncode == 0 and last == "ended", (done.returncode, last, done.stderr[-500:])
    assert any("serialization.py" in event for event in at)


def test_safetensors_hold_the_same(tmp_path: Path, model: Yowo) -> None:
    pickled, plain = tmp_path / "c.pt", tmp_path / "c.safetensors"
    written = save_checkpoint(pickled, model, SPEC, {"map": 0.5})
    assert save_checkpoint(plain, model, SPEC, {"map": 0.5}) == written
    one, other = load_checkpoint(pickled), load_checkpoint(plain)
    assert one.spec == other.spec and one.model.config == other.model.config
    assert all(torch.equal(value, other.model.state_dict()[key]) for key, value in one.model.state_dict().items())
    damaged = bytearray(plain.read_bytes())
    damaged[-3] ^= 4
    plain.write_bytes(damaged)
    with pytest.raises(ModelFileError, match="damaged"):
        load_checkpoint(plain)
    plain.write_bytes(damaged[:40])
    with pytest.raises(ModelFileError, match="damaged"):
        load_checkpoint(plain)


def test_the_clip_length_can_be_chosen(tmp_path: Path, model: Yowo) -> None:
    save_checkpoint(tmp_path / "a.pt", model, SPEC, {})
    assert load_checkpoint(tmp_path / "a.pt", clip=16).spec.clip_length == 16
    with pytest.raises(SpecError, match="clip_length"):
        load_checkpoint(tmp_path / "a.pt", clip=0)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_every_flipped_bit_is_noticed(suffix: str, tmp_path: Path, model: Yowo) -> None:
    path = tmp_path / f"a{suffix}"
    save_checkpoint(path, model, SPEC, {})
    assert is_checked(path)
    whole = path.read_bytes()
    mark, at = (ZIP_MARK, None) if suffix == ".pt" else (SAFETENSORS_MARK, 8)
    near = {*range(300), *range(len(whole) - 300, len(whole))}  # heads, and where the checksum stands
    for place in near | set(random.Random(0).sample(range(len(whole)), 400)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        with pytest.raises(ModelFileError, match="damaged"):
            has_checksum(path, damaged, mark, at)
        if place % 40 == 0:
            path.write_bytes(damaged)
            with pytest.raises(ModelFileError, match=r"damaged|is not an ONNX file"):
                load_network(path)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_checkpoint_of_an_older_version_is_read_and_its_weights_verified(
    suffix: str, tmp_path: Path, model: Yowo
) -> None:
    path = tmp_path / f"a{suffix}"
    spec = save_checkpoint(path, model, SPEC, {})
    weights = model.state_dict()
    noted = {METADATA_KEY: spec.to_json()}
    if suffix == ".pt":
        torch.save(noted | {"config": vars(model.config), "weights": weights}, path)
    else:
        safetensors.torch.save_file(weights, path, noted | {"config": json.dumps(vars(model.config))})
    assert load_checkpoint(path).spec == spec and not is_checked(path)
    content = bytearray(path.read_bytes())
    weight = model.conv_final.weight.detach().numpy().tobytes()
    content[content.index(weight) + 1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="is damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, model: Yowo, share: float) -> None:
    path = tmp_path / "a.pt"
    save_checkpoint(path, model, SPEC, {})
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelFileError):
        load_checkpoint(path)


class Evil:
    """Unpickling it would write a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path: Path, legacy: bool) -> None:
    touched = tmp_path / "touched"
    torch.save({"state_dict": Evil(touched)}, tmp_path / "e.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ModelFileError, match="no code in it was run"):
        load_checkpoint(tmp_path / "e.pth")
    assert not touched.exists()
    pickle.loads(pickle.dumps(Evil(touched)))  # it is a real trap
    assert touched.exists()


def _bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 50_000_000)


def _huge_view(path: Path) -> None:
    torch.save({"state_dict": {"conv_final.weight": torch.zeros(1).expand(1 << 20, 1 << 20)}}, path)


BAD: list[tuple[str, Callable[[Path], object], str]] = [
    ("text", lambda path: path.write_text("hello"), "cannot be read"),
    ("zip bomb", _bomb, "unpacks to"),
    ("huge view of one number", _huge_view, "claims to hold"),
    ("a list", lambda path: torch.save([1], path), "holds a list"),
    ("no weights", lambda path: torch.save({"epoch": 1}, path), "expected a checkpoint"),
    (
        "another network",
        lambda path: torch.save({"state_dict": {"fc.weight": torch.zeros(2)}}, path),
        "another network",
    ),
    ("weights are text", lambda path: torch.save({"state_dict": {"a": "b"}}, path), "named tensors"),
    ("newer spec", lambda path: torch.save({METADATA_KEY: '{"format_version": 99}'}, path), "upgrade"),
]


@pytest.mark.parametrize(("what", "write", "message"), BAD, ids=[row[0] for row in BAD])
def test_bad_files_are_one_clear_error(
    tmp_path: Path, what: str, write: Callable[[Path], object], message: str
) -> None:
    write(tmp_path / "bad.pth")
    with pytest.raises(YowoError, match=message):
        load_checkpoint(tmp_path / "bad.pth")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not found"):
        load_checkpoint(tmp_path / "none.pth")


@pytest.mark.slow
def test_a_release_checkpoint_answers_as_the_release_did(release: Release) -> None:
    loaded = load_checkpoint(release.file)
    assert loaded.spec.clip_length == release.length
    assert loaded.spec.output_channels == release.expected["out"].shape[1]
    assert loaded.spec.attention_sign == "release"
    assert loaded.model.config.backbone_3d == release.backbone_3d
    assert loaded.model.config.backbone_2d == "darknet19"
    clips = torch.from_numpy(release.clips)
    with torch.inference_mode():
        features_3d, features_2d = loaded.model.features(clips)
        raw = loaded.model(clips)
    # The limit; 1.6e-5 was seen.
    for found, name in ((raw, "out"), (features_2d, "feat2d"), (features_3d[:, :, None], "feat3d")):
        np.testing.assert_allclose(found.numpy(), release.expected[name], atol=2e-4)


@pytest.mark.parametrize(
    ("behind", "raised"),
    [(OSError(28, "disk full"), YowoError), (SystemExit(143), SystemExit), (KeyError(), RuntimeError)],
)
def test_a_failed_save_raises_what_stands_behind_it_where_that_is_of_the_system(
    behind: BaseException, raised: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch hides what its stream raised behind an error of its own; an error handled around the save is not that."""

    def save(content: object, stream: object) -> None:
        try:
            raise behind
        except BaseException:
            raise RuntimeError("unexpected pos") from None

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(raised):
        write_tensors(tmp_path / "a.pt", {})
    assert not list(tmp_path.iterdir())
