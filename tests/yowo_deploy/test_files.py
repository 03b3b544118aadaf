"""Files are whole or absent, whatever happens while they are written."""

from __future__ import annotations

import errno
import gc
import gzip
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.waiting import wait_until
from yowo_deploy import files
from yowo_deploy.arrays import Frame
from yowo_deploy.errors import InputError, OutputError, VideoError
from yowo_deploy.files import (
    atomic_write,
    existing_file,
    native_path,
    read_within,
    sha256_of,
    visible_files,
    write_text,
)
from yowo_deploy.result import Result
from yowo_deploy.sinks import VideoSink
from yowo_deploy.sinks.base import Sinks
from yowo_deploy.video import writer


@settings(max_examples=30, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_text_comes_back_as_it_was_written(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("text") / "a.txt"
    write_text(file, text)
    assert file.read_bytes() == text.encode()


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError(errno.ENOSPC, "disk full")])
@pytest.mark.parametrize("before", [None, "old"])
def test_a_block_that_fails_changes_nothing(error: BaseException, before: str | None, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    if before is not None:
        file.write_text(before)
    expected = OutputError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected), atomic_write(file) as temporary:
        temporary.write_text("half")
        raise error
    assert [(left.name, left.read_text()) for left in tmp_path.iterdir()] == ([("a.txt", before)] if before else [])


def test_a_full_disk_is_named_with_the_space_that_is_left(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"a\.txt: disk full \(\d+ MB free there\)"), atomic_write(tmp_path / "a.txt"):
        raise OSError(errno.ENOSPC, "disk full")


def test_the_temporary_file_lies_beside_the_target_under_its_suffix(tmp_path: Path) -> None:
    file = tmp_path / "new" / "folder" / "film.webm"
    with atomic_write(file) as temporary:
        assert temporary.parent == file.parent
        assert temporary.suffix == ".webm"
        temporary.write_bytes(b"all")
        assert not file.exists()
    assert file.read_bytes() == b"all"
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_the_file_has_the_permissions_of_any_new_file(umask: int, tmp_path: Path) -> None:
    old = os.umask(umask)
    try:
        write_text(tmp_path / "a.txt", "x")
        assert os.umask(umask) == umask
    finally:
        os.umask(old)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o666 & ~umask


def test_the_bytes_are_on_the_disk_before_the_name_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda file: (steps.append(f"fsync {os.fstat(file).st_size}"), fsync(file)))
    monkeypatch.setattr(Path, "replace", lambda old, new: (steps.append("rename"), replace(old, new)))
    write_text(tmp_path / "a.txt", "hello")
    assert steps == ["fsync 5", "rename"]


def test_a_process_killed_in_the_block_leaves_the_old_file(tmp_path: Path, project_root: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("old")
    code = (
        "import os, signal, sys\n"
        "from yowo_deploy.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(file)], cwd=project_root, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert file.read_text() == "old"
    write_text(file, "new")
    assert file.read_text() == "new"


KILLED = (
    "import os, signal, sys\n"
    "from yowo_deploy.files import atomic_write, work_folder\n"
    "with work_folder() as folder, atomic_write(sys.argv[1]) as temporary:\n"
    "    (folder / 'deep').write_text('x')\n"
    "    print(temporary, folder, flush=True)\n"
    "    os.kill(os.getpid(), signal.SIGKILL) if len(sys.argv) == 2 else sys.stdin.read()\n"
)


def run_killed(file: Path, project_root: Path) -> list[Path]:
    """What a killed process leaves behind."""
    environment = {**os.environ, "TMPDIR": str(file.parent)}
    code = [sys.executable, "-c", KILLED, str(file)]
    return [*map(Path, subprocess.run(code, cwd=project_root, env=environment, stdout=-1, text=True).stdout.split())]


@pytest.fixture
def unswept(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new process."""
    monkeypatch.setattr(files, "_SWEPT", set())


@pytest.mark.usefixtures("unswept")
def test_what_a_killed_process_left_is_swept_by_the_next(tmp_path: Path, project_root: Path) -> None:
    left = run_killed(tmp_path / "film.webm", project_root)
    assert len(left) == 2 and all(path.exists() for path in left)
    others = [".film.webm", ".film.yowo-x-abcdefgh.webm", "film.yowo-1-abcdefgh.webm", ".film.abcdefgh.webm"]
    for name in others:
        (tmp_path / name).touch()
    write_text(tmp_path / "a.txt", "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*others, "a.txt"])


@pytest.mark.usefixtures("unswept")
def test_what_a_living_process_writes_is_not_swept(
    tmp_path: Path, project_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by its number, nor, where numbers come again as in containers, by its lock."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    code = [sys.executable, "-c", KILLED, str(tmp_path / "film.webm"), "waits"]
    with subprocess.Popen(code, cwd=project_root, env=environment, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        there = [*map(Path, process.stdout.readline().split())]
        write_text(tmp_path / "a.txt", "x")
        assert all(path.exists() for path in there)
        monkeypatch.setattr(files, "_SWEPT", set())
        monkeypatch.setattr(os, "kill", lambda *_: (_ for _ in ()).throw(ProcessLookupError))
        write_text(tmp_path / "a.txt", "x")
        assert len(there) == 2 and all(path.exists() for path in there)
        process.communicate()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "film.webm"]


@pytest.mark.usefixtures("unswept")
def test_what_an_earlier_process_of_the_same_number_left_is_swept(tmp_path: Path) -> None:
    stray = tmp_path / f".film.yowo-{os.getpid()}-abcdefgh.webm"
    stray.touch()
    write_text(tmp_path / "a.txt", "x")
    assert not stray.exists()


@pytest.mark.usefixtures("unswept")
def test_what_a_process_left_is_swept_though_its_number_is_anothers_by_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container that was started again, where numbers are small; or though nothing has waited for it yet."""
    if not Path("/proc/self/stat").is_file():
        pytest.skip("a process is looked up in /proc")
    strays = []
    with subprocess.Popen(["sleep", "3600"]) as alive, subprocess.Popen(["true"]) as ended:
        wait_until(lambda: Path(f"/proc/{ended.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
        for process, age_s in ((alive, 0), (alive, 3600), (ended, 0)):
            strays.append(tmp_path / f".{process.pid}.yowo-{process.pid}-{age_s:08}.webm")
            strays[-1].touch()
            os.utime(strays[-1], (strays[-1].stat().st_mtime - age_s,) * 2)
        write_text(tmp_path / "a.txt", "x")
        assert [path.exists() for path in strays] == [True, False, False]
        monkeypatch.setattr(files, "_SWEPT", set())
        monkeypatch.setattr(os, "sysconf", lambda name: (_ for _ in ()).throw(ValueError))  # no such table
        strays[1].touch()
        write_text(tmp_path / "a.txt", "x")
        assert strays[1].exists()
        alive.kill()


@pytest.mark.parametrize("call", ["close", "fsync", "unlink", "chmod", "replace"])
def test_a_call_that_fails_leaves_nothing(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old file or the new one is whole, and nothing stands beside it; what cannot be removed is swept later."""
    write_text(tmp_path / "a.txt", "old")
    owner = Path if call in ("unlink", "chmod", "replace") else os

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch, suppress(OutputError):
        patch.setattr(owner, call, fail)
        write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() in ("old", "new")
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(("make", "kind"), [(os.mkfifo, "pipe"), (None, "device"), ("socket", "socket")])
def test_pipes_devices_and_sockets_are_called_what_they_are(make: object, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x" if make else Path("/dev/zero")
    if callable(make):
        make(path)
    elif make:
        socket.socket(socket.AF_UNIX).bind(str(path))
    for read in (lambda: existing_file(path, "video"), lambda: read_within(path)):
        with pytest.raises(InputError, match=f"is a {kind}, expected a"):
            read()
    if make:  # not of /dev/zero: code without the check would replace it
        with pytest.raises(OutputError, match=f"it is a {kind}; give the name of a file"):
            write_text(path, "a file in its place")
        assert not path.is_file()


@pytest.mark.parametrize("name", ["file/a.txt", "folder", "x" * 300, "file/deeper/a.txt"])
def test_a_place_that_cannot_be_written_is_an_output_error(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="cannot write.*file is not a folder" if "file/" in name else "cannot write"):
        write_text(tmp_path / name, "x")
    assert sorted(left.name for left in tmp_path.iterdir()) == ["file", "folder"]
    assert not list((tmp_path / "folder").iterdir())


def test_a_folder_that_goes_away_meanwhile_is_an_output_error(tmp_path: Path) -> None:
    folder = tmp_path / "going"
    with pytest.raises(OutputError, match="cannot write"), atomic_write(folder / "a.txt"):
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("absent", "video not found"), (".", "is a folder, expected a video file"), ("empty", "is empty")],
)
def test_what_is_no_file_with_content_is_refused(name: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(InputError, match=expected):
        existing_file(tmp_path / name, "video")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n",
            "is a pointer of Git LFS, .*git lfs pull",
        ),
        (b"\n<!DOCTYPE html>\n<html>", "is a web page, expected a model file"),
        (b"<HTML lang='en'>", "is a web page, expected a model file"),
    ],
)
def test_what_stands_in_the_place_of_a_file_is_named(content: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(InputError, match=expected):
        existing_file(tmp_path / "a.pt", "model")


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a"
    file.write_text("x")
    assert existing_file(file, "video") == file
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root, who runs tests in containers, may read all
    with pytest.raises(InputError, match="no permission"):
        existing_file(file, "video")


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_the_hash_is_that_of_all_bytes(size: int, tmp_path: Path) -> None:
    content = bytes(range(251)) * (size // 251 + 1)
    (tmp_path / "a").write_bytes(content[:size])
    assert sha256_of(tmp_path / "a") == hashlib.sha256(content[:size]).hexdigest()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_no_more_is_read_than_may_be(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(pack(b"x" * 4096))
    assert read_within(tmp_path / "data", 4096) == b"x" * 4096
    with pytest.raises(InputError, match="data holds more than 0 MiB"):
        read_within(tmp_path / "data", 4095)


def test_a_bomb_of_gzip_takes_no_more_memory_than_may_be_read(tmp_path: Path) -> None:
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(b"\0" * (64 << 20)))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="holds more than 1 MiB"):
            read_within(tmp_path / "bomb.gz", 1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 6 << 20  # 1 MiB that was read, a piece of 1 MiB, and copies
    finally:
        tracemalloc.stop()


def test_a_small_archive_gives_no_large_text(tmp_path: Path) -> None:
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(b"\0" * (64 << 20)))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"bomb\.gz holds more than 22 MiB"):
            read_within(tmp_path / "bomb.gz")
        assert tracemalloc.get_traced_memory()[1] < 32 << 20  # held once
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "content", [b"\x1f\x8b", gzip.compress(b"x" * 99, mtime=0)[:-9], b"\x1f\x8b\x08\x00" + b"?" * 40]
)
def test_damaged_gzip_is_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(content)
    with pytest.raises(InputError, match="data cannot be read"):
        read_within(tmp_path / "data")


LONGEST = ("a" * 251 + ".txt", "ü" * 125 + ".txt", "a." + "b" * 253)


@pytest.mark.parametrize("name", [*LONGEST, os.fsdecode(b"caf\xe9.txt")])
def test_the_longest_and_oddest_names_are_written(name: str, tmp_path: Path) -> None:
    """255 bytes are the most that Linux takes (limits.h, NAME_MAX)."""
    write_text(tmp_path / name, "there")
    assert os.listdir(tmp_path) == [name]
    assert (tmp_path / name).read_text(encoding="utf-8") == "there"


@pytest.mark.parametrize("name", [b"caf\xe9.mp4", b"\xff\xfe/film.mp4", "走路.mp4".encode(), b"plain.mp4"])
def test_native_code_gets_a_name_in_utf_8(name: bytes, tmp_path: Path) -> None:
    file = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name)))
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"content")
    with native_path(file) as native:
        assert Path(native.encode().decode()).read_bytes() == b"content"
        assert native.endswith(".mp4")
    assert file.read_bytes() == b"content"
    with native_path(file) as native, open(native, "wb") as stream:
        stream.write(b"other")
    assert file.read_bytes() == b"other"


def test_files_are_found_behind_links_and_not_in_hidden_places(tmp_path: Path) -> None:
    """Finder's archives keep `__MACOSX/._NAME` for each file, and its drives `._NAME` beside it (AppleDouble)."""
    root, other = tmp_path / "root", tmp_path / "other"
    for name in ("root/b/2.xml", "root/a.xml", "root/b.xml", "root/c.txt", "other/3.xml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in ("root/._a.xml", "root/.git/4.xml", "root/__MACOSX/5.xml", "root/b/.DS_Store.xml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (root / "link").symlink_to(other)
    (other / "circle").symlink_to(root)
    (root / "gone.xml").symlink_to(tmp_path / "nothing")
    found = [file.relative_to(root).as_posix() for file in visible_files(root, "*.xml")]
    assert found == ["a.xml", "b/2.xml", "b.xml", "link/3.xml"]
    assert [file.name for file in visible_files(tmp_path / "root" / "__MACOSX")] == ["5.xml"]  # asked for by name


def _stopped_at(event: int, call: Callable[[], object]) -> bool:
    """Call it and raise what SIGTERM raises at that event of Python's in this package or in context managers.

    Whether there was such an event.
    """
    left = event

    def traced(frame: FrameType, kind: str, _: object) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.endswith(("contextlib.py", "files.py", "video.py", "writer.py", "base.py")):
            return None
        left -= 1
        if left == -1:
            raise SystemExit(143)
        return traced

    try:
        sys.settrace(traced)
        call()
    except SystemExit:
        pass
    finally:
        sys.settrace(None)
    return left < 0


def _written(path: Path, error: BaseException | None) -> None:
    with suppress(ZeroDivisionError), atomic_write(path) as temporary:
        temporary.write_text("new")
        if error is not None:
            raise error


def _sunk(path: Path, frame: Result | None) -> None:
    """As `detect` does."""
    with suppress(VideoError), Sinks() as sinks:
        sinks.add("video", VideoSink(path, 25, (64, 48)))
        if frame is not None:
            sinks.write(frame.frame, frame)


@pytest.mark.parametrize("error", [None, ZeroDivisionError()])
def test_whatever_call_a_signal_comes_behind_no_temporary_file_outlives_the_process(
    error: BaseException | None, tmp_path: Path
) -> None:
    file, event, goes_on, stray = tmp_path / "a.txt", 0, True, 0
    gc.freeze()  # what is there already need not be looked through each time
    while goes_on:
        file.write_text("old")
        goes_on = _stopped_at(event, lambda: _written(file, error))
        gc.collect()
        stray += len(list(tmp_path.iterdir())) > 1
        files.remove_left()
        [left] = tmp_path.iterdir()
        assert left.read_text() in (("old", "new") if error is None else ("old",)), event
        event += 1
    gc.unfreeze()
    assert event > 60 and stray > 0  # it was not for nothing


class _Bytes:
    """An encoder that is quick."""

    def __init__(self, path: Path, *_: object) -> None:
        self._stream = path.open("wb", buffering=0)

    def write(self, frame_bgr: Frame) -> None:
        self._stream.write(frame_bgr.tobytes())

    def close(self) -> None:
        self._stream.close()


@pytest.mark.parametrize("frames", [False, True])
def test_no_sink_keeps_its_file_whatever_call_a_signal_comes_behind(
    frames: bool, made_up: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(writer._ENCODERS, ".webm", _Bytes)
    event, goes_on, frame = 0, True, made_up(0) if frames else None
    gc.freeze()
    while goes_on:
        goes_on = _stopped_at(event, lambda: _sunk(tmp_path / "a.webm", frame))
        gc.collect()
        files.remove_left()
        assert {each.name for each in tmp_path.iterdir()} <= {"a.webm"}, event
        event += 1
    gc.unfreeze()
    assert event > 200


def test_a_sink_that_was_made_and_lost_is_freed_with_its_file(tmp_path: Path) -> None:
    VideoSink(tmp_path / "a.webm", 25, (64, 48))
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_an_encoder_makes_its_file_at_once_and_not_when_the_first_frame_comes(
    made_up: Callable[..., Result], tmp_path: Path
) -> None:
    opened = writer.VideoWriter(tmp_path / "a.webm", 25, (64, 48))
    [temporary] = tmp_path.iterdir()
    temporary.unlink()
    opened.write(made_up(0).frame)
    with suppress(OutputError):
        opened.__exit__(None, None, None)
    assert not list(tmp_path.iterdir())


def test_a_fork_leaves_the_files_of_its_parent(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a.txt") as temporary:
        child = os.fork()
        if child == 0:
            files.remove_left()
            os._exit(0)
        os.waitpid(child, 0)
        assert temporary.exists()
        temporary.write_text("new")
    assert not files._OURS


def test_the_end_of_a_process_removes_what_no_block_removed(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from yowo_deploy import files\n"
        "left = [Path(sys.argv[1], files._mark()) for _ in range(2)]; files._OURS.update(left)\n"
        "left[0].touch(); left[1].mkdir(); (left[1] / 'x').touch(); sys.exit(143)"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path]).returncode == 143
    assert not list(tmp_path.iterdir())


def test_folders_are_made_as_deep_as_names_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,500 levels: a recursion of Python ends at 1,000."""
    monkeypatch.chdir(tmp_path)
    deep = Path(*["a"] * 1500)
    write_text(deep / "file.txt", "x")
    assert (deep / "file.txt").read_text() == "x"
    (deep / "file.txt").unlink()
    for _ in range(1500):  # shutil.rmtree calls itself, too
        deep.rmdir()
        deep = deep.parent


@pytest.mark.parametrize("name", ["gt.txt", "GT.TXT", "Gt.Txt"])
def test_a_pattern_fits_names_in_capitals(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    assert list(visible_files(tmp_path, "gt.txt")) == [tmp_path / name]


def test_a_folder_that_another_process_makes_meanwhile_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As workers of an archive do, whose parts lie in the same new folders."""
    folder, looked = tmp_path / "parts" / "79", []
    exists = Path.exists

    def made_by_another(place: Path, **options: bool) -> bool:
        looked.append(place)
        place.mkdir(exist_ok=True)
        return exists(place, **options)

    monkeypatch.setattr(Path, "exists", made_by_another)
    files.make_folders(folder)
    assert folder.is_dir() and looked == [folder.parent, folder]
