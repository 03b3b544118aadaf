"""Every command that writes files, with small inputs, and whether what it left is the old file or a whole new one."""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from tests.hostile.failing_calls import Ended
from tests.hostile.onnx_files import SPEC, file
from yowo_deploy.errors import ModelFileError
from yowo_deploy.model_files.checksum import SAFETENSORS_MARK, ZIP_MARK, has_checksum
from yowo_deploy.model_files.onnx_reader import checked_file

OLD = b"old"
MODEL, FILM, DATA, CVAT, CROOKED, CHECKPOINT = (
    "model.onnx", "film", "given.json", "given.xml", "crooked.json", "trained.pt"
)  # fmt: skip
TRAINING = "training.json"
_TUBE = {"video": "film", "class": "walk", "person": 0, "frames": [0, 1, 2], "boxes": [[1, 1, 9, 9]] * 3}
_OUTSIDE = {**_TUBE, "boxes": [[1, 1, 9, 9], [1, 1, 9, 40], [1, 1, 9, 9]]}
_VIDEO = {"name": "film", "path": FILM, "fps": 25.0, "frames": 6, "size": [16, 16]}
_TASK = """<annotations><version>1.1</version><meta><task><name>film</name><size>6</size><source>film</source></task>
</meta><track id="0" label="walk"><box frame="0" keyframe="1" outside="0" xtl="1" ytl="1" xbr="9" ybr="9"/>
<box frame="5" keyframe="1" outside="0" xtl="2" ytl="1" xbr="9" ybr="9"/></track></annotations>"""


@dataclass(frozen=True)
class Writer:
    """A command and the files that it writes.

    Attributes:
        outputs: below the folder that it runs in; those in `replaced` are there before.
        again: added to the arguments of a second start.
        same: outputs that are those of an undisturbed run after that start, byte for byte.
    """

    name: str
    arguments: tuple[str, ...]
    outputs: tuple[str, ...]
    replaced: bool = True
    again: tuple[str, ...] = ()
    same: tuple[str, ...] = ()

    def faults(self, folder: Path, ended: Ended) -> list[str]:
        """What a run did wrong, of which a call was made to fail."""
        return ended.faults(folder) + self.files(folder, ended.code == 0)

    def after_signal(self, folder: Path, ended: Ended, sent: int) -> list[str]:
        """What a run did wrong to which a signal was sent, before anything starts again.

        Temporary files of a killed one are the next one's to remove. Before its handler is there, SIGTERM kills too.
        """
        if ended.code == -signal.SIGKILL:
            return self.files(folder, False)
        found = [] if ended.code in (0, 128 + sent, -sent) else [f"exit code {ended.code}"]
        found += [f"traceback: {ended.said[-1500:]}"] * ("Traceback" in ended.said)
        return found + ended.strays(folder, str(ended.process)) + self.files(folder, ended.code == 0)

    def after_restart(self, folder: Path, ended: Ended, undisturbed: Path) -> list[str]:
        """What is wrong after the next start, to which nothing happened."""
        found = [] if ended.code == 0 else [f"the next start ends with {ended.code}: {ended.said.strip()[-300:]}"]
        found += [
            f"other {name} than undisturbed" for name in self.same if not _equal(folder / name, undisturbed / name)
        ]
        if self.name.startswith("train") and ended.code == 0:
            found += [f"{name} does not end" for name, over in _ends(folder, undisturbed).items() if not over]
        return found + self.faults(folder, ended)

    def files(self, folder: Path, ended_well: bool) -> list[str]:
        """Outputs that are neither the old file nor a whole new one."""
        found = []
        for name in self.outputs:
            path = folder / name
            if path.is_file() and not (path.read_bytes() == OLD and self.replaced) and not _is_whole(path):
                found.append(f"half of {name}")
            if self.replaced and not path.exists():
                found.append(f"lost {name}")
            if ended_well and not (path.is_file() and path.read_bytes() != OLD):
                found.append(f"no {name} at exit code 0")
        return found


def prepared(folder: Path, writer: Writer, trained: Path | None = None) -> Path:
    """A folder with what the commands read, and old files of the names that they write.

    Args:
        trained: checkpoint that `export` reads.
    """
    (folder / FILM).mkdir(parents=True)
    for number in range(6):
        picture = np.random.default_rng(number).integers(0, 255, (16, 16, 3), np.uint8)
        cv2.imwrite(str(folder / FILM / f"{number + 1:03}.png"), picture)
    (folder / MODEL).write_bytes(file())
    data = {"format": "yowo-deploy data", "version": 1, "classes": list(SPEC.labels), "videos": [_VIDEO]}
    splits = [{"train": [], "test": ["film"]}]
    (folder / DATA).write_text(json.dumps({**data, "tubes": [_TUBE], "splits": splits}))
    (folder / CVAT).write_text(_TASK)
    if trained is not None:
        shutil.copy(trained, folder / CHECKPOINT)
    for name in writer.outputs if writer.replaced else ():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(OLD)
    (folder / CROOKED).write_text(json.dumps({**data, "tubes": [_OUTSIDE], "splits": splits}))
    names = [f"film{number}" for number in range(4)]
    more = {"videos": [{**_VIDEO, "name": name} for name in names], "tubes": [{**_TUBE, "video": n} for n in names]}
    (folder / TRAINING).write_text(json.dumps({**data, **more, "splits": [{"train": names, "test": []}]}))
    return folder


def _equal(first: Path, second: Path) -> bool:
    return first.is_file() and second.is_file() and first.read_bytes() == second.read_bytes()


def _json_lines(content: bytes) -> bool:
    return content.endswith(b"\n") and all(isinstance(json.loads(line), dict) for line in content.splitlines())


def _ends(folder: Path, undisturbed: Path) -> dict[str, bool]:
    """Whether the files of a training run that have no bits to compare, for they hold times, reach the end of it."""
    run, other = folder / "run", undisturbed / "run"
    steps = [[int(row["step"]) for row in csv.DictReader((each / "results.csv").open())] for each in (run, other)]
    return {
        "results.csv": steps[0] == sorted(set(steps[0])) and steps[0][-1:] == steps[1][-1:],
        "args.json": json.loads((run / "args.json").read_text())["finished"],
        "val_batch0_pred.png": (run / "val_batch0_pred.png").exists(),
    }


_WHOLE: dict[str, Callable[[bytes], object]] = {
    ".json": json.loads,
    ".jsonl": lambda content: not content or _json_lines(content),
    ".png": lambda content: content.endswith(b"IEND\xaeB`\x82"),
    ".webm": lambda content: content.startswith(b"\x1aE\xdf\xa3") and len(content) > 500,
    ".xml": lambda content: content.rstrip().endswith(b"</annotations>"),
    ".csv": lambda content: list(csv.DictReader(io.StringIO(content.decode()))),
    ".pt": lambda content: has_checksum(Path("pt"), content, ZIP_MARK),
    ".safetensors": lambda content: has_checksum(Path("safetensors"), content, SAFETENSORS_MARK, 8),
    ".onnx": lambda content: checked_file(content, Path("onnx")),
    ".txt": lambda content: b"\0" not in content,  # appended to: a torn line is dropped when it is read
}


def _is_whole(path: Path) -> bool:
    try:
        return bool(_WHOLE[path.suffix](path.read_bytes()))
    except (ValueError, ModelFileError):
        return False


_SINKS = {
    "-o": "out/film.webm", "--json": "out/film.jsonl", "--events": "out/events.jsonl", "--tubes": "out/tubes.json",
    "--timeline": "out/film.png", "--save-json": "out/data.json",
}  # fmt: skip
_AGAIN = ("--overwrite",)
_RUN = ("detect", FILM, "--model", MODEL, "--backend", "onnxruntime", "--conf", "0", "--overwrite", "-q")
WRITERS = (
    *(Writer(f"detect {option}", (*_RUN, option, name), (name,)) for option, name in _SINKS.items()),
    Writer("detect, all", (*_RUN, *(each for pair in _SINKS.items() for each in pair)), tuple(_SINKS.values())),
    Writer("detect, run folder", _RUN[:4], ("runs/detect/film/detections.jsonl",), False, _AGAIN),
    Writer("data import", ("data", "import", CVAT, "-o", "data.json", "--overwrite"), ("data.json",)),
    Writer("data export cvat", ("data", "export", DATA, "--to", "cvat", "-o", "out"), ("out/film.xml",), False, _AGAIN),
    Writer(
        "data export mot", ("data", "export", DATA, "--to", "mot", "-o", "out"), ("out/film/gt/gt.txt",), False, _AGAIN
    ),
    Writer("data check --fix", ("data", "check", CROOKED, "--fix"), (CROOKED,)),
    Writer("data stats", ("data", "stats", DATA, "--plot", "plot.png"), ("plot.png",)),
    Writer("data preview", ("data", "preview", DATA, "-o", "sheet.png", "--overwrite"), ("sheet.png",)),
    Writer(
        "evaluate --save",
        ("evaluate", MODEL, DATA, "--backend", "onnxruntime", "--save", "found.txt"),
        ("found.txt",),
        replaced=False,
    ),
    Writer("bench --json", ("bench", "--engine", MODEL, "--seconds", "0.05", "--no-stages", "--no-peak", "--json"), ()),
)
_RUN_FILES = ("best.pt", "best.safetensors", "last.pt", "metrics.jsonl", "state.pt", "args.json", "results.csv")
_TRAIN = ("train", TRAINING, "--recipe", "yowo-tiny", "--size", "64", "--device", "cpu", "-o", "run")


def _training(name: str, *length: str) -> Writer:
    files = tuple(f"run/{each}" for each in _RUN_FILES)
    return Writer(name, (*_TRAIN, *length), files, False, ("--resume",), files[:4])


TRAINERS = (  # which need PyTorch
    _training("train", "--epochs", "2", "--batch", "2"),
    _training("train, one step", "--epochs", "1", "--batch", "4"),
    Writer("export", ("export", CHECKPOINT, "-o", "out.onnx", "--overwrite"), ("out.onnx",), same=("out.onnx",)),
)
