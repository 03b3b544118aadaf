"""A server with the small network, and frames for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from tests.yowo_deploy.serving.calls import Running
from yowo_deploy.arrays import Frame
from yowo_deploy.backends.base import Backend
from yowo_deploy.serving import app
from yowo_deploy.spec import ModelSpec


@pytest.fixture
def running(spec: ModelSpec, numpy_backend: Callable[[ModelSpec], Backend]) -> Iterator[Running]:
    """A server for the small network, every detection above 0.02 shown."""
    with Running(app(numpy_backend(spec), confidence=0.02, max_sequences=8)) as server:
        yield server


@pytest.fixture(scope="session")
def frames() -> list[Frame]:
    """Noise, so that the small network finds something."""
    numbers = np.random.default_rng(0)
    return [numbers.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(12)]
