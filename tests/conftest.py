"""What every test may ask for: the project's folder, and real data that lives outside it."""

from __future__ import annotations

import fcntl
import importlib
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.browser import Browser, open_browser

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def _take_share_of_processors() -> None:
    """Give this worker of pytest-xdist its share of the processors, and so its children and their thread pools.

    Otherwise each worker starts a thread for every processor, in every library, and half of the time goes into threads
    that spin while another worker has the processor. Before numpy is imported, whose pools are sized then.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1 and hasattr(os, "sched_setaffinity"):
        processors = sorted(os.sched_getaffinity(0))
        number = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
        os.sched_setaffinity(0, processors[number::workers] or processors)


_take_share_of_processors()

ROOT = Path(__file__).resolve().parent.parent

# Neither how long an example takes, nor how long it takes to draw one, is a property of what is tested.
settings.register_profile("any load", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any load")


# Minutes in all. Begun last, they would leave one worker without work.
LONGEST = ("test_plan_precision", "test_release", "test_backbones", "test_bisect_bounds", "test_own_data")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests first."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The folder of setup.cfg."""
    return ROOT


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real videos and annotations: `YOWO_DATA`, or `../shared/data`. Skips without them."""
    return _folder_outside("YOWO_DATA", ROOT.parent / "shared" / "data")


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """What the release really computes: `YOWO_REFERENCE`, or `../shared/reference`. Skips without it."""
    return _folder_outside("YOWO_REFERENCE", ROOT.parent / "shared" / "reference")


@pytest.fixture
def default_interrupts() -> Iterator[None]:
    """SIGINT as in a terminal, here and in child processes: shells start background jobs with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def _every_file_is_known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Model files that tests make are opened without a trial, and nothing is written into the tester's home.

    No camera measures which engine is the fastest, which takes seconds and may choose another one each time.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        patch.setattr("yowo_deploy.backends.loader.is_accepted", lambda sha256: True)
        patch.setattr("yowo_deploy.detection.settings.Settings.measures", lambda settings, live: bool(settings.tune))
        yield


MadeOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """Gives `made_once(name, make)`: a folder that `make` fills, once for all workers of the session; the others wait.

    Tests only read what is in it. Where `make` raises, the next one who needs the folder tries again.
    """
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made_once"
    root.mkdir(exist_ok=True)

    def made(name: str, make: Callable[[Path], object]) -> Path:
        folder, complete = root / name, root / f"{name}.complete"
        with (root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not complete.exists():
                folder.mkdir(parents=True, exist_ok=True)
                make(folder)
                complete.touch()
        return folder

    return made


@pytest.fixture(scope="session")
def _chromium(made_once: MadeOnce) -> Iterator[Browser]:
    opened = open_browser(made_once)
    yield opened
    opened.close()


@pytest.fixture
def browser(_chromium: Browser) -> Iterator[Browser]:
    """Chromium, for the tests marked so; its page is left afterwards, which would go on drawing beside other tests."""
    yield _chromium
    _chromium.leave()


@dataclass(frozen=True)
class Release:
    """A checkpoint in the release's layout, weights made by rule, and what the release's own code answered with them.

    Attributes:
        backbone_3d: its name.
        file: named as the release names them, by data set and clip length.
        length: of clips.
        clips: (1, 3, T, 224, 224), the input of all that was expected.
        expected: "out", "feat2d" and "feat3d".
    """

    backbone_3d: str
    file: Path
    length: int
    clips: NDArray[np.float32]
    expected: dict[str, NDArray[np.float32]]


@pytest.fixture(scope="session", params=["resnext101_ucf24_16f", "mobilenetv2_1x_jhmdb21_8f"])
def release(request: pytest.FixtureRequest, reference_dir: Path, made_once: MadeOnce) -> Release:
    """ResNeXt-101 for UCF101-24 at T = 16, 485 MB, and MobileNetV2 for J-HMDB-21 at T = 8."""
    import numpy as np
    import torch

    folder, official = reference_dir / "official", _official(reference_dir)
    backbone, dataset, frames = request.param.rsplit("_", 2)
    length, classes = int(frames.removesuffix("f")), int(re.sub(r"\D", "", dataset))
    name = f"yowo_{dataset}_{frames}_best.pth"

    def save(made: Path) -> None:
        weights = official.state_dict(folder / f"{backbone}.keys.txt", classes)
        state = {key: torch.from_numpy(value) for key, value in weights.items()}
        torch.save({"epoch": 5, "state_dict": state, "score": 0.8}, made / name)

    path = made_once(f"release-{request.param}", save) / name
    with np.load(folder / f"{request.param}.npz") as stored:
        expected = {name: stored[name] for name in ("out", "feat2d", "feat3d")}
    return Release(backbone, path, length, official.clip(length), expected)


def _official(reference_dir: Path) -> ModuleType:
    """`official_checkpoint.py`, which makes the weights that the expected arrays were computed with."""
    sys.path.insert(0, str(reference_dir))
    try:
        return importlib.import_module("official_checkpoint")
    finally:
        sys.path.remove(str(reference_dir))


def _folder_outside(variable: str, default: Path) -> Path:
    named = os.environ.get(variable)
    folder = Path(named) if named else default
    if folder.is_dir():
        return folder
    if named:  # A misspelt folder must not pass for a green run.
        pytest.fail(f"{variable}={named} is not a folder: correct it or unset it")
    pytest.skip(f"no {variable} set and no folder {os.path.relpath(default, ROOT)} beside the project")
