"""Official checkpoints in the forms that people save them in: read, or refused with what they are."""

from __future__ import annotations

import argparse
import io
import json
import logging
import sys
import zipfile
from collections import OrderedDict, defaultdict, deque
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from yowo_deploy.datasets import class_names
from yowo_deploy.errors import InputError, ModelFileError, YowoError
from yowo_training.checkpoints import archive
from yowo_training.checkpoints.checkpoint import load_checkpoint
from yowo_training.models.yowo import Yowo, YowoConfig

State = Mapping[str, Tensor]
NAME = "yowo_ucf24_16f_best.pth"


def official(outputs: int = 145) -> dict[str, Tensor]:
    """Weights under official names, of the smallest network."""
    torch.manual_seed(0)
    model = Yowo(YowoConfig("tiny2d", "tiny3d", outputs, width=8, attention_sign="release"))
    state = {key.replace("cfam.attention.", "cfam.sc."): value for key, value in model.state_dict().items()}
    return OrderedDict((f"module.{key}", value) for key, value in state.items())


BASE = official()


def under(prefix: str, state: State = BASE) -> dict[str, Tensor]:
    return OrderedDict((prefix + key.removeprefix("module."), value) for key, value in state.items())


def typed(*kinds: torch.dtype) -> dict[str, Tensor]:
    """The weights in these types in turn."""
    turns = enumerate(BASE.items())
    return {key: v.to(kinds[turn % len(kinds)]) if v.is_floating_point() else v for turn, (key, v) in turns}


def shared() -> dict[str, Tensor]:
    """The weights as views of one storage."""
    flat, at, views = torch.cat([value.reshape(-1).float() for value in BASE.values()]), 0, {}
    for key, value in BASE.items():
        views[key] = flat[at : at + value.numel()].reshape(value.shape)
        at += value.numel()
    return views


def shifted() -> dict[str, Tensor]:
    """Weights that are others."""
    return {key: value + 1 for key, value in BASE.items()}


class EasyDict(dict[str, Any]):
    """As the package easydict has it: its entries are attributes as well."""

    __module__ = "easydict"

    def __init__(self, **values: Any) -> None:
        super().__init__(values)
        self.__dict__.update(values)


sys.modules["easydict"] = ModuleType("easydict")
sys.modules["easydict"].EasyDict = EasyDict  # type: ignore[attr-defined]
ZERO = torch.zeros(1, dtype=torch.float64)
ADAM = torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))])
READ: dict[str, Any] = {
    "official": {"epoch": 5, "state_dict": BASE, "optimizer": {}, "score": 0.8},
    "bare": under(""),
    "bare with a number": under("") | {"epoch": 5},
    "under model": {"model": under(""), "epoch": 5},
    "under net": {"net": {"state_dict": BASE}},
    "compiled inside": {"state_dict": under("module._orig_mod.")},
    "compiled outside": {"state_dict": under("_orig_mod.module.")},
    "compiled": {"state_dict": under("_orig_mod.")},
    "a branch compiled": {"state_dict": {k.replace("3d.", "3d._orig_mod."): v for k, v in BASE.items()}},
    "twice parallel": {"state_dict": under("module.module.")},
    "counted by thop": {"state_dict": BASE | {"module.total_ops": ZERO, "module.backbone_2d.total_params": ZERO}},
    "averaged by torch": {"state_dict": {"n_averaged": torch.tensor(3)} | dict(BASE)},
    "of Lightning": {"state_dict": under("model.") | {"loss.weight": torch.ones(3)}, "hyper_parameters": {"lr": 0.1}},
    "numbers of numpy": {"state_dict": BASE, "epoch": np.int64(5), "score": np.float64(0.8), "best": np.bool_(True)},
    "arrays of numpy": {"state_dict": {key: value.numpy() for key, value in BASE.items()}, "ap": np.eye(3)[:, ::2].T},
    "arguments": {"state_dict": BASE, "args": argparse.Namespace(lr=1e-4, folder=Path("/data"))},
    "a scheduler": {"state_dict": BASE, "scheduler": torch.optim.lr_scheduler.StepLR(ADAM, 3)},
    "half precision": {"state_dict": typed(torch.float16)},
    "bfloat16": {"state_dict": typed(torch.bfloat16)},
    "mixed precision": {"state_dict": typed(torch.float16, torch.float64, torch.float32)},
    "parameters": {"state_dict": {k: torch.nn.Parameter(v, False) for k, v in BASE.items()}},
    "not contiguous": {"state_dict": {k: v.mT.contiguous().mT if v.ndim > 1 else v for k, v in BASE.items()}},
    "views of one storage": {"state_dict": shared()},
    "counters of another kind": {"state_dict": {k: torch.ones(2) if "num_b" in k else v for k, v in BASE.items()}},
    "a history in a defaultdict": {"state_dict": BASE, "history": defaultdict(list, {"loss": [0.5]})},
    "a history of numbers": {"state_dict": BASE, "best": defaultdict(float, {"ap": 0.5})},
    "texts of numpy": {"state_dict": BASE, "classes": np.array(["a", "bc"]), "name": np.str_("yowo")},
    "a dict with attributes": {"state_dict": BASE, "cfg": EasyDict(lr=0.1)},
    "moments by name before it": {"optimizer": {"exp_avg": shifted()}, "state_dict": BASE},
    "without counters": {"state_dict": {k: v for k, v in BASE.items() if "num_batches" not in k}},
}  # fmt: skip


def save(content: Any, folder: Path, name: str = NAME, **options: Any) -> Path:
    torch.save(content, folder / name, **options)
    return folder / name


def is_official(state: State) -> bool:
    """Whether these are the weights above, to the rounding of the lowest precision."""
    state = {f"module.{key.replace('cfam.attention.', 'cfam.sc.')}": value for key, value in state.items()}
    wanted = {key: value for key, value in BASE.items() if "num_batches" not in key}
    return all(torch.allclose(state[key], value, rtol=2**-7, atol=2**-7) for key, value in wanted.items())


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("form", READ)
def test_every_form_is_the_same_network(form: str, zipped: bool, tmp_path: Path) -> None:
    loaded = load_checkpoint(save(READ[form], tmp_path, _use_new_zipfile_serialization=zipped))
    assert is_official(loaded.model.state_dict()) and loaded.model.config.attention_sign == "release"
    assert all(value.dtype == torch.float32 for value in loaded.model.parameters())
    assert (loaded.spec.labels, loaded.spec.clip_length) == (class_names.UCF24, 16)


def test_a_bare_table_of_safetensors_is_read(tmp_path: Path) -> None:
    safetensors.torch.save_file(under(""), tmp_path / "yowo_ucf24_16f_.safetensors")
    assert is_official(load_checkpoint(tmp_path / "yowo_ucf24_16f_.safetensors").model.state_dict())


def test_averaged_weights_go_first_where_they_are_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = {key: value + 1 for key, value in BASE.items()}
    path = save({"state_dict": other, "model_ema": {"shadow": under("ema_model.")}}, tmp_path)
    assert is_official(load_checkpoint(path).model.state_dict())
    assert "weights taken from 'model_ema.shadow.ema_model' of 2 networks in it" in caplog.text
    no_norms = {key: value for key, value in other.items() if "running" not in key}
    path = save({"ema": no_norms, "state_dict": BASE}, tmp_path)
    assert is_official(load_checkpoint(path).model.state_dict())


class Own:
    """Of somebody's script."""


def without(word: str) -> dict[str, Tensor]:
    return {key: value for key, value in BASE.items() if word not in key}


NEGATIVE = {key: -value if "running_var" in key else value for key, value in BASE.items()}
TINY3D = {key.removeprefix("module.backbone_3d."): value for key, value in BASE.items() if "backbone_3d" in key}
REFUSED: list[tuple[str, Any, str]] = [
    ("a part missing", {"state_dict": without("bn_relu2")}, r"seems to be YOWO with tiny2d and tiny3d, but \d+ of its "
     r"\d+ tensors missing \(cfam\.conv_bn_relu2"),
    ("the head missing", {"state_dict": without("conv_final")}, r"seems to be YOWO, but conv_final\.weight is missing"),
    ("left over", {"state_dict": BASE | {"module.cfam.more.weight": ZERO}}, r"1 of .* left over \(cfam\.more"),
    ("another shape", {"state_dict": BASE | {"module.cfam.sc.gamma": torch.ones(2)}}, "1 of .* of another shape"),
    ("an optimizer's", {"optimizer": ADAM.state_dict(), "epoch": 5}, "the state of an optimizer and no weights"),
    ("a bare optimizer", ADAM.state_dict(), "the state of an optimizer and no weights"),
    ("a run of ours", {"arguments": {}, "progress": {}, "network": {}, "average": {}}, "the state of a run"),
    ("one branch", {"state_dict": TINY3D | {"fc.weight": ZERO}}, "weights of one branch, tiny3d: `train --weights-3d`"),
    ("another network", {"state_dict": {"fc.weight": ZERO}}, "another network: it has no conv_final.weight"),
    ("nothing", {"epoch": 1}, "holds 1 entries .* no table of named tensors"),
    ("an object", {"state_dict": BASE, "model": Own()}, r"\(.*test_release_format\.Own\): refused.*`model\.state"),
    ("three classes", {"state_dict": official(40)}, "has 3 classes, those of no official data set: .* --labels a,b,c"),
    ("no anchors", {"state_dict": official(43)}, "43 output channels, which 5 anchors do not divide"),
    ("sparse", {"state_dict": BASE | {"module.cfam.sc.gamma": torch.ones(1).to_sparse()}}, "expected plain numbers"),
    ("complex", {"state_dict": BASE | {"module.cfam.sc.gamma": torch.ones(1) + 1j}}, "expected plain numbers"),
    ("without values", {"state_dict": BASE | {"module.cfam.sc.gamma": torch.ones(1, device="meta")}}, "plain numbers"),
    ("variances below zero", {"state_dict": NEGATIVE}, "running_var holds variances below zero"),
    ("a deque", {"state_dict": BASE, "losses": deque([1.0])}, r"\(collections\.deque\): refused"),
    ("a generator of numpy", {"state_dict": BASE, "rng": np.random.default_rng(0)}, r"\(numpy\.random\."),
    ("ours without a spec", Yowo(YowoConfig("tiny2d", None, 145, width=8)).state_dict(), "without its spec"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "content", "said"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_is_not_read_is_named(what: str, content: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=said) as refused:
        load_checkpoint(save(content, tmp_path))
    assert len(str(refused.value)) < 500


def test_another_protocol_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="pickled by protocol 4, PyTorch's is 2"):
        load_checkpoint(save(READ["official"], tmp_path, pickle_protocol=4))


@pytest.mark.parametrize("code", ["O", "V8", "S3", "M8[s]"])
def test_arrays_of_anything_but_numbers_are_refused(code: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"more than tensors|cannot be read as a checkpoint"):
        load_checkpoint(save({"state_dict": BASE, "extra": np.zeros(2, code)}, tmp_path))


def test_weights_that_are_large_arrays_are_to_be_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save({"state_dict": {key: value.numpy() for key, value in BASE.items()}}, tmp_path)
    assert is_official(load_checkpoint(path).model.state_dict())
    monkeypatch.setattr(archive, "MAX_PICKLE", 1 << 16)
    with pytest.raises(ModelFileError, match=r"MiB that are no tensors, expected up to 0: .* save them as tensors"):
        load_checkpoint(path)


def test_classes_of_ones_own_are_named_by_the_user(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = save({"state_dict": official(40)}, tmp_path)
    loaded = load_checkpoint(path, labels=("a", "b", "c"))
    assert loaded.spec.labels == ("a", "b", "c") and loaded.spec.class_activation == "softmax"
    assert "anchors and preprocessing of UCF101-24 assumed (--anchors gives others)" in caplog.text
    anchors = ((1.0, 2.0), (3.0, 4.0), (5.0, 6.0), (7.0, 8.0))
    loaded = load_checkpoint(path, labels=[f"class {n}" for n in range(5)], anchors=anchors)  # 40 is 4 x (5 + 5) too
    assert loaded.spec.anchors == anchors and loaded.spec.classes == 5
    with pytest.raises(ModelFileError, match="has 3 classes, and 2 labels are given"):
        load_checkpoint(path, labels=("a", "b"))


def test_names_of_a_data_set_that_nothing_confirms_are_said_to_be_assumed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load_checkpoint(save(READ["official"], tmp_path))
    assert not caplog.records
    load_checkpoint(save(READ["official"], tmp_path, "mine_16f_.pth"))
    assert "24 classes, taken for those of UCF101-24 (--labels gives others)" in caplog.text
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    own = [f"class {n}" for n in range(24)]
    assert load_checkpoint(tmp_path / "mine_16f_.pth", labels=own).spec.labels == tuple(own)


@pytest.mark.parametrize("part", ["aux_head", "backbone_3d.fc", "backbone_2d.classifier.1"])
def test_a_part_that_is_none_of_the_network_is_left_out_and_said(
    part: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = save({"state_dict": BASE | {f"module.{part}.weight": ZERO, f"module.{part}.bias": ZERO}}, tmp_path)
    assert is_official(load_checkpoint(path).model.state_dict()) and f"{part} left out" in caplog.text


def test_a_clip_length_that_is_not_recorded_can_stay_open(tmp_path: Path) -> None:
    path = save(READ["official"], tmp_path, "ucf_best.pth")
    with pytest.raises(ModelFileError, match="give it, for example --clip 16"):
        load_checkpoint(path)
    assert not load_checkpoint(path, clip_needed=False).clip_known
    assert load_checkpoint(path, clip=8).clip_known and load_checkpoint(path, clip=8).spec.clip_length == 8
    assert load_checkpoint(path.rename(tmp_path / NAME), clip_needed=False).clip_known


def test_a_flipped_bit_of_an_official_zip_is_noticed(tmp_path: Path) -> None:
    path = save(READ["official"], tmp_path)
    content = bytearray(path.read_bytes())
    content[content.index(BASE["module.conv_final.weight"].numpy().tobytes()) + 3] ^= 16
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"is damaged in .*/data/\d+: copy it again"):
        load_checkpoint(path)


def test_inspect_tells_what_it_can_without_a_clip_length(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from yowo_deploy.cli import cli

    path = save({"state_dict": official(40)}, tmp_path, "mine.pth")
    called = ["inspect", str(path), "--labels", "a,b,c", "--anchors", "1,2 2,3 3,4 4,5 5,6"]
    told = json.loads(CliRunner().invoke(cli, [*called, "--json"]).stdout)
    assert (told["backbone_3d"], told["spec"]["labels"], told["spec"]["clip_length"]) == (
        "tiny3d",
        ["a", "b", "c"],
        None,
    )
    assert told["spec"]["anchors"][0] == [1.0, 2.0] and told["parameters"] > 0 and not told["parts"]
    assert "not recorded: give --clip" in CliRunner().invoke(cli, called).stdout
    with pytest.raises(InputError, match="anchors '1' are not understood"):
        CliRunner().invoke(cli, ["inspect", str(path), "--anchors", "1"], catch_exceptions=False)
    (tmp_path / "names.txt").write_text("x\ny\n\nz\n")
    told = json.loads(
        CliRunner().invoke(cli, ["inspect", str(path), "--labels", str(tmp_path / "names.txt"), "--json"]).stdout
    )
    assert told["spec"]["labels"] == ["x", "y", "z"]
    refused = CliRunner().invoke(cli, ["inspect", str(path)])
    assert isinstance(refused.exception, YowoError) and "has 3 classes" in str(refused.exception)


@pytest.mark.parametrize("turned", [False, True])
def test_two_copies_under_one_name_are_two_networks(
    turned: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With a wrapper's prefix and without: the first is taken, and that there are two is noted."""
    bare = {key.removeprefix("module."): value for key, value in shifted().items()}
    path = save({"state_dict": bare | dict(BASE) if turned else dict(BASE) | bare}, tmp_path)
    assert is_official(load_checkpoint(path).model.state_dict()) is not turned
    assert "weights taken from 'state_dict' of 2 networks in it" in caplog.text


def test_several_clip_lengths_in_a_name_are_not_chosen_from(tmp_path: Path) -> None:
    path = save(READ["official"], tmp_path, "exp_2f_yowo_ucf24_16f_best.pth")
    with pytest.raises(ModelFileError, match="has clip lengths 16 and 2 in its name: give it, for example --clip 16"):
        load_checkpoint(path)
    assert load_checkpoint(path, clip=8).spec.clip_length == 8
    assert load_checkpoint(path.rename(tmp_path / "ucf24_8f_run_8f_.pth")).spec.clip_length == 8


def test_archives_of_others_are_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "program.pt", "w") as archive:  # as torch.jit.save has it
        for name in ("p/data.pkl", "p/code/__torch__.py", "p/constants.pkl", "p/version"):
            archive.writestr(name, b"\x80\x02}.")
    with pytest.raises(ModelFileError, match=r"is a program .*save `model"):
        load_checkpoint(tmp_path / "program.pt")
    packed = io.BytesIO()
    torch.save(READ["official"], packed)
    with zipfile.ZipFile(tmp_path / "sent.zip", "w") as archive:
        archive.writestr("run/best.pth", packed.getvalue())
    with pytest.raises(ModelFileError, match=r"unpack it, run/best\.pth is in it"):
        load_checkpoint(tmp_path / "sent.zip")
