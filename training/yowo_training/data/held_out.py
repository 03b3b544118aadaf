"""Split training recordings into those to train on and those to choose the best checkpoint on."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from yowo_deploy.datasets.base import AnnotatedVideo

LEAST_HELD_OUT = 5  # recordings: on fewer, chance chooses


def hold_out(videos: Sequence[AnnotatedVideo], share: float) -> tuple[list[AnnotatedVideo], list[AnnotatedVideo]]:
    """Training and validation videos; each recording is in one of the two, always the same.

    Unless `share` is 0, at least five recordings or a fifth of them are held out. None where that would leave
    nothing to train on.
    """
    groups = sorted({video.group for video in videos}, key=lambda group: (_place(group), group))
    least = min(LEAST_HELD_OUT, len(groups) // 5) if share else 0
    held = {group for number, group in enumerate(groups) if number < least or _place(group) < 1000 * share}
    held = held if len(held) < len(groups) else set()
    return [v for v in videos if v.group not in held], [v for v in videos if v.group in held]


def _place(group: str) -> int:
    return zlib.crc32(group.encode()) % 1000
