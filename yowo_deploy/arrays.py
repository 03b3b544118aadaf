"""Array types by element: frames, float32 tensors, what a model takes, int64 indices."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]  # (H, W, 3) BGR
Float = NDArray[np.float32]
Planes = NDArray[Any]  # of a frame or a clip as a model takes them: float32 or uint8, the spec's `input_type`
Int = NDArray[np.int64]
