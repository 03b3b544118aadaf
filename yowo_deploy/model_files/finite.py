"""Find weights that are NaN or infinite by their bits."""

from __future__ import annotations

import numpy as np

from yowo_deploy.model_files.protobuf import Buffer

_PIECE = 1 << 16  # bytes: numpy is slow where values are not aligned, and a copy of all of them takes new pages


def is_finite(values: Buffer, exponent: int) -> bool:
    """Whether all of these floats are numbers.

    Args:
        values: little-endian.
        exponent: the bits that all floats which are none have, of 16 or 32; below the sign.
    """
    size = 2 if exponent < 1 << 16 else 4
    for start in range(0, len(values), _PIECE):
        piece = bytes(values[start : start + _PIECE])
        largest, largest_below_zero = (int(np.frombuffer(piece, f"<{kind}{size}").max()) for kind in "iu")
        if largest >= exponent or largest_below_zero >= exponent + (1 << 8 * size - 1):
            return False
    return True
