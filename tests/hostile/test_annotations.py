"""Hand-made files of every reader but those of models: each is read, or refused with one line; none takes memory."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile.annotation_files import Case, cases

MEMORY = 512 << 20  # bytes above start
CASES = cases()


def read(kind: str, folder: Path, first: Path) -> None:
    """What an import, a training run or a command does with such a file."""
    from yowo_deploy.benchmark.compare import read_record
    from yowo_deploy.datasets.box_files import read_table
    from yowo_deploy.datasets.data_json import read_annotations
    from yowo_deploy.datasets.formats.box_rows import Options
    from yowo_deploy.datasets.importer import import_annotations
    from yowo_deploy.spec import ModelSpec
    from yowo_deploy.video.reader import open_video

    match kind:
        case "data":
            read_annotations(first)
        case "table":
            read_table(first, truth=True)
        case "record":
            read_record(first)
        case "spec":
            ModelSpec.from_json(first.read_text(encoding="utf-8", errors="replace"))
        case "picture" | "video":
            with open_video(folder if kind == "picture" else first) as reader:
                print(reader.fps, reader.frames_declared, sum(1 for _ in reader), file=sys.stderr)
        case _:
            import_annotations(folder if kind == "ava" else first, kind, Options(fps=25.0))


def refusal(case: Case, folder: Path) -> str:
    """The error's line; "" where there is none. Anything but an error of ours gets out."""
    from yowo_deploy.errors import InputError

    kind, _, files, _ = case
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    try:
        read(kind, folder, folder / next(iter(files)))
    except InputError as error:
        return str(error)
    return ""


def answer(folder: Path) -> None:
    """Read every case in this process, within `MEMORY`, and print what became of it, a line each."""
    import cv2  # noqa: F401  # before the limit: what is above start counts
    import defusedxml.ElementTree  # noqa: F401

    import yowo_deploy.datasets.importer
    import yowo_deploy.video.reader  # noqa: F401

    start = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (start + MEMORY, -1))
    for number, (name, case) in enumerate(CASES.items()):
        try:
            said = refusal(case, folder / str(number))
        except BaseException as error:
            said = f"{type(error).__name__} gets out: {error}"[:2000]
        print(json.dumps([name, said]), flush=True)


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each case was answered, by a process of its own; a case that ends it has no answer."""
    code = "from tests.hostile.test_annotations import *; answer(Path(sys.argv[1]))"
    folder = tmp_path_factory.mktemp("cases")
    ended = subprocess.run([sys.executable, "-c", code, folder], stdout=-1, text=True)
    assert ended.returncode == 0
    return dict(map(json.loads, ended.stdout.splitlines()))


@pytest.mark.parametrize("name", CASES)
def test_a_file_made_by_hand_gets_its_verdict(name: str, said: dict[str, str]) -> None:
    verdict = CASES[name][-1]
    found = said[name]
    assert "gets out" not in found and "not enough memory" not in found and "MemoryError" not in found, found
    assert re.search(verdict, found) if found or not verdict.startswith("|") else True, found
    assert verdict or not found, found
    assert found.isprintable() and len(found) < 500 and "canary" not in found


def test_the_corpus_is_large_and_holds_both_verdicts(said: dict[str, str]) -> None:
    assert len(CASES) > 300
    assert sum(not each for each in said.values()) > 20
