"""Nodes are called what the network's modules are called, and nothing else of the exporter's notes stays."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import torch

from yowo_export.graph.module_names import BLOCK_KEY, OUTPUT_KEY, block_of, name_blocks
from yowo_training.checkpoints.checkpoint import Checkpoint


def test_every_convolution_is_of_a_module_of_the_network(checkpoint: Checkpoint, single: Path) -> None:
    modules = {name for name, _ in checkpoint.model.named_modules()}
    blocks = [block_of(node) for node in ir.load(single).graph if node.op_type == "Conv"]
    assert set(blocks) <= modules and "" not in blocks
    assert {"cfam.conv_bn_relu1", "conv_final"} <= set(blocks) and len(set(blocks)) > 5


def test_nothing_of_the_machine_that_exported_stays_in_the_file(single: Path) -> None:
    content = single.read_bytes()
    assert b"stack_trace" not in content and str(Path(__file__).parents[2]).encode() not in content
    kept = [set(node.metadata_props) for node in ir.load(single).graph]
    assert all(BLOCK_KEY in keys <= {BLOCK_KEY, OUTPUT_KEY} for keys in kept)


def test_a_node_with_weights_is_called_as_the_module_that_owns_them(checkpoint: Checkpoint, single: Path) -> None:
    modules = dict(checkpoint.model.named_modules())
    convolutions = [node for node in ir.load(single).graph if node.op_type == "Conv"]
    for node in convolutions:
        assert isinstance(modules[str(node.name)], (torch.nn.Conv2d, torch.nn.Conv3d)), node.name
    names = [node.name for node in ir.load(single).graph]
    assert len(set(names)) == len(names) and "cfam.attention/Softmax" in names


def test_what_a_module_returns_is_noted_at_the_node_that_puts_it_out(checkpoint: Checkpoint, single: Path) -> None:
    """With batch norms folded a convolution puts out what PyTorch's batch norm does."""
    noted = {str(node.name): node.metadata_props.get(OUTPUT_KEY) for node in ir.load(single).graph}
    assert noted["backbone_2d.features.0.0"] == "backbone_2d.features.0.1"
    assert noted["cfam.attention/Add"] == "cfam.attention" and noted["conv_final"] == "conv_final"
    assert noted["cfam.attention/Softmax"] is None


def test_a_second_time_changes_nothing(single: Path) -> None:
    model = ir.load(single)
    before = [block_of(node) for node in model.graph]
    assert not name_blocks(model) and [block_of(node) for node in model.graph] == before


def test_a_graph_without_notes_has_no_blocks() -> None:
    node = ir.node("Relu", [ir.Value(name="x")])
    model = ir.Model(ir.Graph([], [], nodes=[node], opset_imports={"": 20}), ir_version=10)
    assert name_blocks(model) and block_of(node) == ""
