"""PyTorch checkpoints as a backend."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from yowo_deploy.arrays import Float
from yowo_deploy.backends.base import Engine, Look, check_clips
from yowo_deploy.backends.loader import full_device
from yowo_deploy.benchmark.peak_model import ANSWER, SIDE, SPEC, gemm_weights
from yowo_deploy.errors import InputError, ModelFileError, foreign
from yowo_deploy.spec import ModelSpec, Precision
from yowo_training.checkpoints.checkpoint import Checkpoint, load_checkpoint
from yowo_training.feature_bank import FeatureBank, long_term
from yowo_training.models.flops import cost

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchBackend(Engine):
    """Eager PyTorch on a CPU or a CUDA device.

    Args:
        path: of a checkpoint.
        device: as PyTorch names it: "cpu", "cuda", "cuda:1".
        precision: "fp32", or "bf16" or "fp16" by autocast.
        threads: of the CPU, for the whole process.
        sha256: see `open_pinned`.

    Raises:
        InputError: the device is absent, or the precision is none of these.
    """

    name = "pytorch"

    def __init__(
        self,
        path: str | os.PathLike[str],
        device: str = "cpu",
        precision: Precision = "fp32",
        threads: int | None = None,
        clip: int | None = None,
        sha256: str | None = None,
    ) -> None:
        self._setup(load_checkpoint(path, clip, sha256=sha256), device, precision, threads)

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> TorchBackend:
        """A backend for a network in memory, on its current device."""
        backend = cls.__new__(cls)
        device = str(next(checkpoint.model.parameters()).device)
        backend._setup(checkpoint, device, "fp32", None)
        return backend

    def _setup(self, checkpoint: Checkpoint, device: str, precision: Precision, threads: int | None) -> None:
        self._checkpoint = checkpoint
        self._setup_model(checkpoint.model, checkpoint.spec, device, precision, threads)

    def _setup_model(
        self, model: nn.Module, spec: ModelSpec, device: str, precision: Precision, threads: int | None
    ) -> None:
        if precision not in DTYPES:
            raise InputError(f"PyTorch runs {', '.join(DTYPES)} here, not {precision}")
        self._door = partial(foreign, f"pytorch cannot run {spec.name} on {device} in {precision}", ModelFileError)
        self._device = device_of(device)
        if threads:
            torch.set_num_threads(threads)
        self.spec = spec
        self._precision, self._dtype = precision, DTYPES[precision]
        with self._door():
            self._model = model.to(self._device).eval()

    def infer(self, clips: NDArray[np.float32]) -> Float:
        """See `Backend.infer`."""
        return np.asarray(self._run(self._upload(clips)).cpu().numpy(), np.float32)

    def infer_in_stages(self, clips: NDArray[np.float32]) -> tuple[Float, dict[str, float]]:
        """See `Staged`."""
        start = perf_counter()
        if self._device.type == "cpu":
            return self.infer(clips), {"infer": perf_counter() - start}
        batch = self._upload(clips)
        torch.cuda.synchronize(self._device)
        copied = perf_counter()
        answer = self._run(batch)
        torch.cuda.synchronize(self._device)
        inferred = perf_counter()
        raw = np.asarray(answer.cpu().numpy(), np.float32)
        spent = {"copy in": copied - start, "infer": inferred - copied, "copy out": perf_counter() - inferred}
        return raw, spent

    def outputs(self, clips: NDArray[np.float32], names: Sequence[str]) -> dict[str, Float]:
        """See `Layered.outputs`."""
        found: dict[str, Float] = {}
        calls = Counter[str]()

        def keep(name: str, output: object) -> None:
            calls[name] += 1
            numbered = name if calls[name] == 1 else f"{name}#{calls[name]}"
            if numbered in wanted and isinstance(output, torch.Tensor):
                found[numbered] = np.array(output.float().cpu().numpy(), np.float32)  # copied: a ReLU may write into it

        wanted = set(names)
        self._watch(clips, keep, {name.partition("#")[0] for name in wanted})
        return found

    def first_odd(self, clips: NDArray[np.float32]) -> str:
        """The first module, in the order in which they finish, with a non-finite output; "" if there is none."""
        found: list[str] = []

        def look(name: str, output: object) -> None:
            if not found and isinstance(output, torch.Tensor) and not torch.isfinite(output).all():
                found.append(name or type(self._model).__name__)

        self._watch(clips, look, {name for name, _ in self._model.named_modules()})
        return found[0] if found else ""

    def _watch(self, clips: Float, look: Callable[[str, object], None], modules: Collection[str]) -> None:
        """Run clips and call `look` with the name and the output of each of the modules when it finishes."""
        hooks = [
            module.register_forward_hook(lambda module, inputs, output, name=name: look(name, output))
            for name, module in self._model.named_modules()
            if name in modules
        ]
        try:
            self.infer(clips)
        finally:
            for hook in hooks:
                hook.remove()

    def long_term(self, bank: str | os.PathLike[str]) -> Look:
        """See `LongTerm`.

        Raises:
            InputError: not in float32 on a CPU.
        """
        if self._device.type != "cpu" or self._dtype != torch.float32:
            raise InputError("--features runs in float32 on the CPU: leave out --device and --precision")
        return long_term(self._checkpoint, FeatureBank.load(Path(bank), self._checkpoint))

    @property
    def macs(self) -> int:
        """See `PeakMeasured`."""
        return cost(self._checkpoint.model, self.spec.clip_shape)["total"].macs

    def peak_model(self) -> TorchGemm:
        """See `PeakMeasured`."""
        return TorchGemm(str(self._device), self._precision)

    def _upload(self, clips: NDArray[np.float32]) -> torch.Tensor:
        checked = torch.from_numpy(check_clips(clips, self.spec))
        with self._door():
            return checked.to(self._device)

    def _run(self, batch: torch.Tensor) -> torch.Tensor:
        autocast = torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32)
        with self._door(), torch.inference_mode(), autocast:
            answer: torch.Tensor = self._model(batch)
            return answer.float()


class TorchGemm(TorchBackend):
    """The matrix products of `benchmark.peak_model` in PyTorch: the peak rate of arithmetic of this device."""

    def __init__(self, device: str = "cpu", precision: Precision = "fp32", threads: int | None = None) -> None:
        layers: list[nn.Module] = []
        *weights, last = gemm_weights()
        for weight in weights:
            layers += [_product(weight), nn.ReLU()]
        whole = nn.Sequential(
            nn.Flatten(0), nn.Unflatten(0, (-1, SIDE)), *layers, _Mean(), _product(last), nn.Unflatten(0, ANSWER)
        )
        self._setup_model(whole, SPEC, device, precision, threads)


class _Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(rows, columns) to (columns,)."""
        return x.mean(0)


def _product(weight: Float) -> nn.Linear:
    layer = nn.Linear(weight.shape[0], weight.shape[1], bias=False)
    layer.weight.data = torch.from_numpy(weight.T.copy())
    return layer


def device_of(name: str) -> torch.device:
    """The device of that name; "auto" is the GPU where one works, "1" is "cuda:1".

    Raises:
        InputError: it is none of these, or there is no such device.
    """
    name = ("cuda" if _gpu_works() else "cpu") if name == "auto" else full_device(name)
    kind, _, number = name.partition(":")
    if not ((kind == "cpu" and not number) or (kind == "cuda" and (not number or number.isdecimal()))):
        raise InputError(f"device {name!r} is not known, expected auto, cpu, cuda, cuda:N or N")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise InputError(f"device {name!r} does not exist, PyTorch sees {torch.cuda.device_count()} CUDA devices")
    return torch.device(name)


def _gpu_works() -> bool:
    """Whether PyTorch can compute on the first GPU; a driver or build that does not fit is found by trying."""
    try:
        return torch.cuda.is_available() and torch.ones(1, device="cuda").add(1).item() == 2
    except RuntimeError:
        return False
