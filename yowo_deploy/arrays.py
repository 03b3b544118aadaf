"""Array types by element: frames, float32 tensors, int64 indices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]  # (H, W, 3) BGR
Float = NDArray[np.float32]
Int = NDArray[np.int64]
