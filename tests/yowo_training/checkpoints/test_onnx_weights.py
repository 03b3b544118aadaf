"""An exported file becomes a checkpoint again, with the same answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from yowo_deploy.backends.ort import open_file
from yowo_deploy.errors import ModelFileError, YowoError
from yowo_deploy.model_files.default import DEFAULT, model_path
from yowo_deploy.model_files.onnx_reader import CONFIG_KEY
from yowo_deploy.spec import METADATA_KEY, ModelSpec
from yowo_export.exporter import export_onnx
from yowo_export.graph.onnx_file import write_onnx
from yowo_training.checkpoints.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from yowo_training.checkpoints.onnx_weights import checkpoint_from_onnx, load_network
from yowo_training.models.yowo import Yowo, YowoConfig

SPEC = ModelSpec(labels=("run", "sit"), anchors=((1.0, 2.0),), clip_length=4, input_size=(64, 64), name="no recipe")
LIMIT = 1e-5  # of the largest output: float32 sums in another order; 6e-7 was seen

NETWORKS = {
    "both branches": YowoConfig("tiny2d", "tiny3d", SPEC.output_channels, width=16),
    "concatenation": YowoConfig("tiny2d", "tiny3d", SPEC.output_channels, fusion="concat"),
    "one branch, the official sign": YowoConfig(None, "tiny3d", SPEC.output_channels, 16, "release"),
    "norms that stand in no sequence": YowoConfig("tiny2d", "resnet18", SPEC.output_channels, width=16),
    "ours": YowoConfig("efficientnet_lite0", "motion_lite0_p15", SPEC.output_channels, 16, shrink_3d=2),
}


def heard(config: YowoConfig) -> Yowo:
    """A network as after training: every norm has statistics, and attention takes part."""
    torch.manual_seed(0)
    model = Yowo(config).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    if model.cfam is not None:
        model.cfam.attention.gamma.data.fill_(0.8)
    return model


def largest_difference(model: Yowo, file: Path, spec: ModelSpec) -> float:
    clips = np.random.default_rng(0).random((2, *spec.clip_shape), np.float32)
    with open_file(file) as backend, torch.no_grad():
        expected, found = backend.infer(clips), model(torch.from_numpy(clips)).numpy()
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("half", [False, True], ids=["single", "half"])
def test_the_network_of_an_exported_file_answers_as_the_file(name: str, half: bool, tmp_path: Path) -> None:
    if half and name != "both branches":
        pytest.skip("the form of the weights does not depend on the network")
    export_onnx(Checkpoint(heard(NETWORKS[name]), SPEC), tmp_path / "m.onnx", half_weights=half)
    made = checkpoint_from_onnx(tmp_path / "m.onnx")
    expected = SPEC.replace(branches=made.model.fed())
    assert (made.spec, made.model.config, made.model.training) == (expected, NETWORKS[name], False)
    assert largest_difference(made.model, tmp_path / "m.onnx", SPEC) < LIMIT
    save_checkpoint(tmp_path / "m.safetensors", made.model, made.spec, {})
    again = load_network(tmp_path / "m.safetensors", clip=8)
    assert again.spec.clip_length == 8 == load_network(tmp_path / "m.onnx", clip=8).spec.clip_length
    assert largest_difference(again.model, tmp_path / "m.onnx", SPEC) < LIMIT
    made.model.conv_final.weight.data *= 1.001
    assert largest_difference(made.model, tmp_path / "m.onnx", SPEC) > LIMIT


@pytest.mark.parametrize("half", [False, True], ids=["single", "half"])
def test_there_may_be_more_outputs_than_channels_before_them(half: bool, tmp_path: Path) -> None:
    """As of AVA's 80 classes with the 256 channels of yowo-lite."""
    spec = SPEC.replace(labels=tuple(f"class {number}" for number in range(20)))
    config = YowoConfig("tiny2d", "tiny3d", spec.output_channels, width=16)
    export_onnx(Checkpoint(heard(config), spec), tmp_path / "m.onnx", half_weights=half)
    made = checkpoint_from_onnx(tmp_path / "m.onnx").model
    # In half precision the folded bias is rounded, which no bias of 16 channels can give to the bit.
    assert largest_difference(made, tmp_path / "m.onnx", spec) < (1e-3 if half else LIMIT)
    graph = ir.load(tmp_path / "m.onnx")
    [bias] = [each for name, each in graph.graph.initializers.items() if name.startswith("conv_final.bias")]
    assert bias.const_value is not None
    bias.const_value = ir.tensor(np.arange(spec.output_channels, dtype=bias.const_value.numpy().dtype), name=bias.name)
    write_onnx(graph, tmp_path / "other.onnx")
    with pytest.raises(ModelFileError, match=r"lacks weights of .*the bias of 25 outputs is not that of 16 channels"):
        checkpoint_from_onnx(tmp_path / "other.onnx")


def test_biases_that_are_equal_are_stored_once_and_found_all_the_same(tmp_path: Path) -> None:
    model = Yowo(NETWORKS["both branches"]).eval()  # fresh: every folded bias is zero
    export_onnx(Checkpoint(model, SPEC), tmp_path / "m.onnx")
    assert largest_difference(checkpoint_from_onnx(tmp_path / "m.onnx").model, tmp_path / "m.onnx", SPEC) < LIMIT


def test_the_shipped_model_answers_as_its_file() -> None:
    made = checkpoint_from_onnx(DEFAULT)
    assert largest_difference(made.model, model_path(DEFAULT), made.spec) < LIMIT


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "m.onnx"
    export_onnx(Checkpoint(heard(NETWORKS["both branches"]), SPEC), path)
    return path


def other_config(**changes: object) -> str:
    return json.dumps(vars(NETWORKS["both branches"]) | changes)


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({METADATA_KEY: SPEC.replace(precision="int8").to_json()}, "is in int8: only the float32 file"),
        ({METADATA_KEY: SPEC.replace(streaming=True).to_json()}, "is a streaming file: only the float32 file"),
        ({CONFIG_KEY: None}, "does not record its network"),
        ({CONFIG_KEY: "{"}, "does not record its network"),
        ({CONFIG_KEY: "[]"}, "does not record its network"),
        ({CONFIG_KEY: other_config(width=-1)}, "does not record its network"),
        ({CONFIG_KEY: other_config(backbone_3d="resnet18")}, "lacks weights of no recipe: KeyError: 'backbone_3d"),
        ({CONFIG_KEY: other_config(width=17)}, "lacks weights of no recipe: The expanded size"),
    ],
)
def test_a_file_of_which_no_checkpoint_can_be_made_is_refused(
    metadata: dict[str, str | None], said: str, exported: Path, tmp_path: Path
) -> None:
    model = ir.load(exported)
    for key, value in metadata.items():
        model.metadata_props.pop(key)
        model.metadata_props.update({} if value is None else {key: value})
    write_onnx(model, tmp_path / "m.onnx")
    with pytest.raises(ModelFileError, match=said):
        checkpoint_from_onnx(tmp_path / "m.onnx")


def test_an_older_file_has_the_network_of_its_recipe_with_eight_pairs(tmp_path: Path) -> None:
    spec = SPEC.replace(name="yowo-lite")
    config = YowoConfig("efficientnet_lite0", "motion_lite0", spec.output_channels, shrink_3d=2, width=256)
    export_onnx(Checkpoint(heard(config), spec), tmp_path / "m.onnx")
    model = ir.load(tmp_path / "m.onnx")
    model.metadata_props.pop(CONFIG_KEY)
    write_onnx(model, tmp_path / "older.onnx")
    made = checkpoint_from_onnx(tmp_path / "older.onnx")
    assert made.model.config == config
    assert largest_difference(made.model, tmp_path / "older.onnx", spec) < LIMIT


def test_a_damaged_checkpoint_is_not_taken_for_an_onnx_file(tmp_path: Path) -> None:
    (tmp_path / "m.pth").write_text("hello")
    with pytest.raises(YowoError, match="cannot be read as a checkpoint"):
        load_network(tmp_path / "m.pth")
    with pytest.raises(YowoError, match="cannot be read as a checkpoint"):
        load_checkpoint(tmp_path / "m.pth")
