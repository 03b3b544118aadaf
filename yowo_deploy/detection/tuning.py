"""Choose engine, form and number of parallel calls for a model on this processor by a short measured trial."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from yowo_deploy.backends.accepted import list_path
from yowo_deploy.backends.loader import ONNX_ENGINES, is_checkpoint, on_cpu, open_model
from yowo_deploy.benchmark.timing import Timing, bench_calls, ratio_interval
from yowo_deploy.detector import Detector, DetectorOptions
from yowo_deploy.diagnostics.system_info import processor_in_words
from yowo_deploy.errors import OutputError, YowoError, foreign
from yowo_deploy.files import existing_file, sha256_of, write_text
from yowo_deploy.model_files.default import model_path
from yowo_deploy.model_files.onnx_reader import read_onnx_file
from yowo_deploy.model_files.plan_record import is_plan
from yowo_deploy.model_files.streaming_form import FORM_KEY
from yowo_deploy.version import __version__

SECONDS = 5.0  # of a trial
FRAMES = 4  # of a call in it: so many that two calls at once are at work most of the time
SIZE_WH = (320, 240)
MOST = 256  # choices that are kept, the newest


@dataclass(frozen=True)
class Choice:
    """How a model is opened.

    Attributes:
        backend: an engine for ONNX files.
        clips: whole clips, in place of frames of a streaming form.
        parallel: calls at once.
    """

    backend: str
    clips: bool
    parallel: int

    def options(self, shown: DetectorOptions) -> dict[str, Any]:
        """Of `open_model`."""
        return {"backend": self.backend, "parallel": self.parallel, "streaming": shown.streams(self.clips)}

    def __str__(self) -> str:
        form = "whole clips" if self.clips else "frame by frame"
        return f"{self.backend}, {form}, {self.parallel} call{'s' if self.parallel > 1 else ''} at once"


def tuned(
    model: str | os.PathLike[str],
    shown: DetectorOptions,
    clips: bool,
    parallel: int,
    options: Mapping[str, Any],
    measure: bool,
    tell: Callable[[str], None],
) -> Choice | None:
    """The fastest choice with the same answers for one video after the other, as a trial on this processor found it.

    What is done without a trial stays unless another choice is faster beyond the noise.

    Args:
        clips, parallel: what is done without a trial, see `open_model`.
        options: of `open_model`, but those that are chosen.
        measure: make a trial of `SECONDS` where none is recorded, and record it.
        tell: receives a line.

    Returns:
        None where there is nothing to choose, or no trial is recorded.

    Raises:
        YowoError: the model cannot be opened as usual.
    """
    path = existing_file(model_path(model), "model")
    backend = options.get("backend")
    engines = [backend] if backend else [name for name, (_, library, _) in ONNX_ENGINES.items() if find_spec(library)]
    if (
        not on_cpu(options.get("device"))
        or is_checkpoint(path)
        or is_plan(path)
        or not set(engines) <= set(ONNX_ENGINES)
    ):
        return None
    key = _key(path, shown, clips, parallel, options)
    known = _recorded().get(key)
    if known is not None:
        tell(f"as the trial on this processor found: {known}")
    if known is not None or not measure or not engines:
        return known
    found = candidates(path, shown, clips, parallel, engines)
    if len(found) > 1:
        tell(f"a trial of {SECONDS:g} s finds what is fastest here; it is made once, and --no-tune leaves it out")
    best, ratio = (found[0], 1.0) if len(found) == 1 else _measured(path, found, shown, options)
    tell(f"fastest of {len(found)} on {processor_in_words()}: {best}, {ratio:.2f} times the usual rate")
    _record(key, best)
    return best


def candidates(path: Path, shown: DetectorOptions, clips: bool, parallel: int, engines: Sequence[str]) -> list[Choice]:
    """What an ONNX file can be run by with the same answers; first what is done without a trial."""
    file = read_onnx_file(path)
    carried = FORM_KEY in file.metadata and shown.streams(clips) is not None
    frames_alone = file.spec.streaming or (carried and (file.batch or 1) > 1)
    calls = [] if frames_alone else sorted({1, parallel})
    found = [Choice(engine, True, each) for engine in engines for each in calls]
    found += [Choice(engine, False, 1) for engine in engines] if carried or frames_alone else []
    in_clips = not frames_alone and (not carried or (engines[0] == "onnxruntime" and parallel > 1))
    usual = Choice(engines[0], in_clips, parallel if in_clips else 1)
    return [usual, *(each for each in found if each != usual)]


def _measured(
    path: Path, found: list[Choice], shown: DetectorOptions, options: Mapping[str, Any]
) -> tuple[Choice, float]:
    """The fastest, and how many times as fast as the first it is; the first unless that is beyond the noise."""
    frames = list(np.random.default_rng(0).integers(0, 256, (FRAMES, *SIZE_WH[::-1], 3), np.uint8))
    plain = replace(shown, classes=None)
    with ExitStack() as stack:
        opened: dict[Choice, Detector] = {}
        for choice in found:
            try:
                backend = open_model(path, **{**options, **choice.options(plain)})
                opened[choice] = stack.enter_context(plain.detector(backend))
            except YowoError:  # an engine that cannot take the file or an option, or is broken, is none to choose
                if choice == found[0]:
                    raise
        table = bench_calls([partial(_run, each, frames) for each in opened.values()], SECONDS, warmup=2)
    timings = [Timing(str(choice), column, FRAMES) for choice, column in zip(opened, table.T, strict=True)]
    ratios = {choice: ratio_interval(timings[0], each) for choice, each in zip(opened, timings, strict=True)}
    best = max(ratios, key=lambda choice: ratios[choice][0])
    ratio, low, _ = ratios[best]
    return (best, ratio) if low > 1 else (found[0], 1.0)


def _run(detector: Detector, frames: list[Any]) -> None:
    for _ in detector.stream(frames):
        pass


def _key(path: Path, shown: DetectorOptions, clips: bool, parallel: int, options: Mapping[str, Any]) -> str:
    """Of everything that a choice depends on."""
    facts = {
        "model": sha256_of(path),
        "processor": processor_in_words(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "versions": [__version__, *map(_version, ONNX_ENGINES)],
        "wished": [shown.every, clips, parallel],
        "options": [str(options.get(name)) for name in ("backend", "precision", "threads")],
    }
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _version(wheel: str) -> str:
    try:
        return version(wheel)
    except PackageNotFoundError:
        return ""


def _place() -> Path | None:
    known = list_path()
    return known and known.with_name("tuned.json")


def _recorded() -> dict[str, Choice]:
    """By key; nothing of a file that is damaged."""
    path, choices = _place(), dict[str, Choice]()
    with suppress(YowoError), foreign(str(path)):
        if path is not None and path.stat().st_size <= 512 * MOST:
            found = json.loads(path.read_text(encoding="utf-8"))
            choices = {str(key): Choice(str(one), bool(two), int(three)) for key, (one, two, three) in found.items()}
    return {key: each for key, each in choices.items() if each.backend in ONNX_ENGINES and 1 <= each.parallel <= 64}


def _record(key: str, choice: Choice) -> None:
    path = _place()
    if path is None:
        return
    kept = list({**_recorded(), key: choice}.items())[-MOST:]
    with suppress(OutputError):
        write_text(path, json.dumps({each: [one.backend, one.clips, one.parallel] for each, one in kept}))
