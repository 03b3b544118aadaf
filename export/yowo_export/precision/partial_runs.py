"""Run networks on clips by ONNX Runtime, and of a network only what a change of some nodes reaches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from yowo_deploy.arrays import Float
from yowo_deploy.errors import ModelFileError, foreign
from yowo_export.graph.builder import only_reader
from yowo_export.graph.onnx_file import onnx_bytes
from yowo_export.sample_clips import Clips

STORED_BYTES = 512 << 20  # of values, for all clips; what does not fit is computed again
_HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def answers(model: ir.Model, clips: Clips) -> Iterator[Float]:
    """(A * (5 + C), rows, columns) of a network for each clip, one after the other."""
    session = _session(model)
    for clip, _ in clips:
        yield _run(session, None, {"clips": clip[None]})[0][0]


class PartialRuns:
    """A network, and its values on clips where parts of it begin.

    Of a network in which few nodes are changed only these and what depends on them is computed. That differs from the
    whole by rounding alone: ONNX Runtime fuses other nodes.

    Args:
        network: nodes in order, values with types and shapes.
        changes: names of the nodes that may be changed together, by whatever the caller calls a change.
        clips, every: what it is run on: each `every`-th clip.
    """

    def __init__(
        self, network: onnx.ModelProto, changes: Mapping[str, Collection[str]], clips: Clips, every: int = 1
    ) -> None:
        self._network, self._nodes = network, list(network.graph.node)
        self._clips, self._picks = clips, range(0, len(clips), every)
        self._weights = {tensor.name: tensor for tensor in network.graph.initializer}
        self._infos = {each.name: each for each in (*network.graph.input, *network.graph.value_info)}
        self._writers = {value: at for at, node in enumerate(self._nodes) for value in node.output}
        self._readers = defaultdict[str, list[int]](list)
        for at, node in enumerate(self._nodes):
            for value in node.input:
                self._readers[value].append(at)
        self._reached = {name: self._reach(set(nodes)) for name, nodes in changes.items()}
        self._stored: list[dict[str, Float]] = []

    def store(self, unchanged: ir.Model) -> None:
        """Compute the values where parts begin, and hold the small ones.

        Args:
            unchanged: the network, where nothing is changed, as ONNX Runtime runs it.
        """
        values = {value.name: value for node in unchanged.graph for value in node.outputs}
        shown = {name: _as_read(values[name]) for name in sorted(self._begins()) if name in values}
        unchanged.graph.outputs.extend(value for value in shown.values() if not value.is_graph_output())
        session = _session(unchanged)
        for index in self._picks:
            names, clip = [value.name for value in shown.values()], self._clips.clip(index)[None]
            found = dict(zip(shown, _run(session, names, {"clips": clip}) if names else [], strict=True))
            if not self._stored:
                room = STORED_BYTES / len(self._picks)
                for name, value in sorted(found.items(), key=lambda pair: pair[1].nbytes):
                    room -= value.nbytes
                    if room < 0 or value.dtype != np.float32:
                        del shown[name], found[name]
            self._stored.append(found)

    def part(self, change: str) -> onnx.ModelProto:
        """The network from stored values to its outputs, with all nodes that the change reaches."""
        reached, found, begins = self._reached[change], set[int](), dict[str, None]()
        wanted = [value.name for value in self._network.graph.output]
        while wanted:
            value = wanted.pop()
            at = self._writers.get(value)
            if at is None or (at not in reached and value in self._stored[0]):
                if value and value not in self._weights:
                    begins[value] = None
            elif at not in found:
                found.add(at)
                wanted += self._nodes[at].input
        nodes = [self._nodes[at] for at in sorted(found)]
        read = dict.fromkeys(value for node in nodes for value in node.input)
        made = {value for node in nodes for value in node.output}
        graph = onnx.helper.make_graph(
            nodes,
            change or "network",
            [self._infos[value] for value in begins],
            self._network.graph.output,
            [self._weights[value] for value in read if value in self._weights],
            value_info=[info for name, info in self._infos.items() if name in made],
        )
        opsets, version = self._network.opset_import, self._network.ir_version
        return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=version)

    def answers(self, changed: ir.Model) -> Iterator[Float]:
        """As `answers`, of what was made of a part."""
        session, inputs = _session(changed), [str(value.name) for value in changed.graph.inputs]
        for index, stored in zip(self._picks, self._stored, strict=True):
            feeds = {name: stored[name] if name in stored else self._clips.clip(index)[None] for name in inputs}
            yield _run(session, None, feeds)[0][0]

    def _reach(self, names: set[str]) -> set[int]:
        """These nodes, those that read what they read, since a rounding stands before all of them, and all behind.

        Numbers that many nodes read, as the limits of a Clip, are no values that are rounded.
        """
        first = {at for at, node in enumerate(self._nodes) if node.name in names}
        read = {value for at in first for value in self._nodes[at].input if value}
        small = {name for name, tensor in self._weights.items() if len(tensor.dims) < 2}
        reached, values = first | {at for value in read - small for at in self._readers[value]}, set[str]()
        for at, node in enumerate(self._nodes):
            if at in reached or any(value in values for value in node.input):
                reached.add(at)
                values.update(node.output)
        return reached

    def _begins(self) -> set[str]:
        """Values where a part could begin: they depend on the clips, and not on the change."""
        alive, found = {value.name for value in self._network.graph.input}, set[str]()
        for node in self._nodes:
            if any(value in alive for value in node.input):
                alive.update(node.output)
        for reached in self._reached.values():
            read = {value for at in reached for value in self._nodes[at].input} & alive & self._infos.keys()
            found |= {value for value in read if self._writers.get(value, -1) not in reached | {-1}}
        return found


def _as_read(value: ir.Value) -> ir.Value:
    """What the readers of a value get: the rounded one where `fp16.rehearse` rounds it."""
    narrow = only_reader(value)
    if narrow is None or narrow.op_type != "Cast" or narrow.outputs[0].dtype not in _HALVES:
        return value
    wide = only_reader(narrow.outputs[0])
    return wide.outputs[0] if wide is not None and wide.op_type == "Cast" else value


def _session(model: ir.Model) -> Any:
    """A network of ours in memory, ready to run on the CPU."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    with foreign("onnxruntime cannot load the converted network", ModelFileError):
        return ort.InferenceSession(onnx_bytes(model), options, providers=["CPUExecutionProvider"], enable_fallback=0)


def _run(session: Any, names: list[str | None] | None, feeds: Mapping[str, Float]) -> list[Float]:
    with foreign("onnxruntime cannot run the converted network", ModelFileError):
        found: list[Float] = session.run(names, feeds)
    return found
