"""Every command that writes files, with small inputs, and whether what it left is the old file or a whole new one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from tests.hostile.failing_calls import Ended
from tests.hostile.onnx_files import SPEC, file

OLD = b"old"
MODEL, FILM, DATA, CVAT = "model.onnx", "film", "given.json", "given.xml"
_TUBE = {"video": "film", "class": "walk", "person": 0, "frames": [0, 1, 2], "boxes": [[1, 1, 9, 9]] * 3}
_VIDEO = {"name": "film", "path": FILM, "fps": 25.0, "frames": 6, "size": [16, 16]}
_TASK = """<annotations><version>1.1</version><meta><task><name>film</name><size>6</size><source>film</source></task>
</meta><track id="0" label="walk"><box frame="0" keyframe="1" outside="0" xtl="1" ytl="1" xbr="9" ybr="9"/>
<box frame="5" keyframe="1" outside="0" xtl="2" ytl="1" xbr="9" ybr="9"/></track></annotations>"""


@dataclass(frozen=True)
class Writer:
    """A command and the files that it writes.

    Attributes:
        outputs: below the folder that it runs in; those in `replaced` are there before.
    """

    name: str
    arguments: tuple[str, ...]
    outputs: tuple[str, ...]
    replaced: bool = True

    def faults(self, folder: Path, ended: Ended) -> list[str]:
        """What a run did wrong, of which a call was made to fail."""
        found = ended.faults(folder)
        for name in self.outputs:
            path = folder / name
            if path.is_file() and not (path.read_bytes() == OLD and self.replaced) and not _is_whole(path):
                found.append(f"half of {name}")
            if self.replaced and not path.exists():
                found.append(f"lost {name}")
            if ended.code == 0 and not (path.is_file() and path.read_bytes() != OLD):
                found.append(f"no {name} at exit code 0")
        return found


def prepared(folder: Path, writer: Writer) -> Path:
    """A folder with what the commands read, and old files of the names that they write."""
    (folder / FILM).mkdir(parents=True)
    for number in range(6):
        picture = np.random.default_rng(number).integers(0, 255, (16, 16, 3), np.uint8)
        cv2.imwrite(str(folder / FILM / f"{number + 1:03}.png"), picture)
    (folder / MODEL).write_bytes(file())
    data = {"format": "yowo-deploy data", "version": 1, "classes": list(SPEC.labels), "videos": [_VIDEO]}
    splits = [{"train": [], "test": ["film"]}]
    (folder / DATA).write_text(json.dumps({**data, "tubes": [_TUBE], "splits": splits}))
    (folder / CVAT).write_text(_TASK)
    for name in writer.outputs if writer.replaced else ():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(OLD)
    return folder


def _json_lines(content: bytes) -> bool:
    return content.endswith(b"\n") and all(isinstance(json.loads(line), dict) for line in content.splitlines())


_WHOLE: dict[str, Callable[[bytes], object]] = {
    ".json": json.loads,
    ".jsonl": lambda content: not content or _json_lines(content),
    ".png": lambda content: content.endswith(b"IEND\xaeB`\x82"),
    ".webm": lambda content: content.startswith(b"\x1aE\xdf\xa3") and len(content) > 500,
    ".xml": lambda content: content.rstrip().endswith(b"</annotations>"),
    ".txt": lambda content: b"\0" not in content,  # appended to: a torn line is dropped when it is read
}


def _is_whole(path: Path) -> bool:
    try:
        return bool(_WHOLE[path.suffix](path.read_bytes()))
    except ValueError:
        return False


_SINKS = {
    "-o": "out/film.webm", "--json": "out/film.jsonl", "--events": "out/events.jsonl", "--tubes": "out/tubes.json",
    "--timeline": "out/film.png", "--save-json": "out/data.json",
}  # fmt: skip
_RUN = ("detect", FILM, "--model", MODEL, "--backend", "onnxruntime", "--conf", "0", "--overwrite", "-q")
WRITERS = (
    *(Writer(f"detect {option}", (*_RUN, option, name), (name,)) for option, name in _SINKS.items()),
    Writer("detect, all", (*_RUN, *(each for pair in _SINKS.items() for each in pair)), tuple(_SINKS.values())),
    Writer("detect, run folder", _RUN[:4], ("runs/detect/film/detections.jsonl",), replaced=False),
    Writer("data import", ("data", "import", CVAT, "-o", "data.json", "--overwrite"), ("data.json",)),
    Writer("data export cvat", ("data", "export", DATA, "--to", "cvat", "-o", "out"), ("out/film.xml",), False),
    Writer("data export mot", ("data", "export", DATA, "--to", "mot", "-o", "out"), ("out/film/gt/gt.txt",), False),
    Writer("data preview", ("data", "preview", DATA, "-o", "sheet.png", "--overwrite"), ("sheet.png",)),
    Writer(
        "evaluate --save",
        ("evaluate", MODEL, DATA, "--backend", "onnxruntime", "--save", "found.txt"),
        ("found.txt",),
        replaced=False,
    ),
    Writer("bench --json", ("bench", "--engine", MODEL, "--seconds", "0.05", "--no-stages", "--no-peak", "--json"), ()),
)
