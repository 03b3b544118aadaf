"""Say what INT8 gains on this processor."""

from __future__ import annotations

from pathlib import Path

from yowo_deploy.backends.loader import open_model
from yowo_deploy.benchmark.timing import bench_models, ratio_interval
from yowo_deploy.diagnostics.system_info import instructions, processor_in_words

SECONDS = 8.0


def measured_gain(float32: Path, int8: Path, engine: str) -> str:
    """In a line, how fast an INT8 file is beside the float32 file that it was made of; both in turn for `SECONDS`.

    It warns where INT8 is slower beyond the noise.
    """
    with open_model(float32, engine) as first, open_model(int8, engine) as second:
        before, after = bench_models([first, second], SECONDS, warmup=2)
    ratio, low, high = ratio_interval(before, after)
    found = f"INT8 is {ratio:.2f} [{low:.2f}, {high:.2f}] times as fast as float32 on {engine}, {processor_in_words()}"
    return f"{found}: slower, so take float32 on this processor" if high < 1 else found


def expected_gain() -> str:
    """In a line, what this processor lets expect of INT8."""
    if {"VNNI", "AMX"} & set(instructions()):
        return f"INT8 has instructions of its own on {processor_in_words()}; --tune measures what it gains"
    return f"INT8 gains less without VNNI or AMX, and may lose: {processor_in_words()}; --tune measures it"
