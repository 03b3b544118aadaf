"""Atomic writes, checked reads, hashes of files."""

from __future__ import annotations

import atexit
import contextlib
import errno
import fnmatch
import gzip
import hashlib
import io
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path

from yowo_deploy.errors import InputError, OutputError, foreign

try:
    import fcntl
except ImportError:  # Windows, where nothing is swept
    fcntl = None  # type: ignore[assignment]

MAX_BYTES = 256 << 20  # of a file of text. Of parsed JSON or XML a byte costs ten: ten times UCF101-24's boxes fit
# Unpacked from an archive: so much of any, and so many times its size. Annotations shrink to a tenth or a thirtieth.
UNPACKED, RATIO = 16 << 20, 100

_TEMPORARY = re.compile(r"(?:\..*\.)?yowo-(\d{1,9})-\w{8}(?:\..{0,15})?")
_SWEPT: set[Path] = set()
_OURS: set[Path] = set()  # temporary files and folders of this process, from before they are there until they are gone


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; renamed over it when the block ends well, removed when it does not.

    The temporary file keeps the suffix of `path`, because video and model writers choose their format by it. Of the
    rest of the name it keeps what leaves room and what native code can open. What killed processes left in the folder
    is removed first.

    Raises:
        OutputError: the folder cannot be made or written, or the disk is full.
    """
    target, temporary, handle = Path(path), None, -1
    try:
        try:
            if target.exists() and not target.is_file():  # renaming would put a file in the place of a device
                raise OutputError(f"cannot write {target}: it is a {_kind(target)}; give the name of a file")
            make_folders(target.parent)
            sweep(target.parent)
            stem = target.stem.encode("ascii", "ignore").decode()[:40]
            # Named before it is there: SIGTERM may raise behind the call that makes it.
            temporary = Path(os.path.abspath(target.parent), f".{stem}.{_mark()}{target.suffix[:16]}")
            _OURS.add(temporary)
            handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        except OSError as error:
            raise OutputError(f"cannot write {target}: {error.strerror}; choose another output path") from error
        _lock(handle)
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(target)
    except OSError as error:
        if error.filename not in (None, str(temporary)):
            raise  # not about this file: the block was reading or writing another one
        raise OutputError(f"cannot write {target}: {error.strerror or error} ({_free(target.parent)})") from error
    finally:
        with contextlib.suppress(OSError):  # the error of the block says more
            if temporary is not None:
                temporary.unlink(missing_ok=True)
                _OURS.discard(temporary)
        with contextlib.suppress(OSError):
            os.close(handle)


@contextlib.contextmanager
def work_folder() -> Iterator[Path]:
    """A folder for files that nothing outside the block needs, in the system's folder for those; removed behind it.

    What killed processes left there is removed first.

    Raises:
        OutputError: it cannot be made.
    """
    folder, handle = None, -1
    try:
        try:
            place = Path(tempfile.gettempdir())
            sweep(place)
            folder = place / _mark()
            _OURS.add(folder)
            folder.mkdir(0o700)
        except OSError as error:
            raise OutputError(f"cannot make a temporary folder: {error.strerror}; set TMPDIR to another") from error
        handle = os.open(folder, os.O_RDONLY)
        _lock(handle)
        yield folder
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
            _OURS.discard(folder)
        with contextlib.suppress(OSError):
            os.close(handle)


@atexit.register
def remove_left() -> None:
    """Remove the temporary files and folders that this process made and did not come to remove.

    What a signal raises can come between any two calls: behind the entry of a context manager and before whatever
    would leave it, or in the middle of leaving it.
    """
    while _OURS:
        path = _OURS.pop()
        if f"yowo-{os.getpid()}-" in path.name:  # a fork has its parent's list too
            shutil.rmtree(path, ignore_errors=True)
            with contextlib.suppress(OSError):
                path.unlink()


def _mark() -> str:
    """The part of a temporary name that says whose it is, and is no other's."""
    return f"yowo-{os.getpid()}-{secrets.token_hex(4)}"


def _lock(handle: int) -> None:
    """Hold a lock for as long as the process, or the handle, lives: only what is not locked is swept."""
    if fcntl is not None:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def sweep(folder: Path, again: bool = False) -> None:
    """Remove what killed processes of ours left in a folder; once for each folder, unless asked `again`."""
    if (folder in _SWEPT and not again) or fcntl is None:
        return
    _SWEPT.add(folder)
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = _TEMPORARY.fullmatch(entry.name)
            if found and not entry.is_symlink() and _is_dead(entry.path, int(found[1])):
                shutil.rmtree(entry.path, ignore_errors=True)
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)


def _is_dead(path: str, process: int) -> bool:
    """Whether the process that made a temporary file is gone, and nothing holds the file's lock."""
    try:
        if process != os.getpid() and _is_running(process, os.lstat(path).st_mtime):
            return False
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _is_running(process: int, since: float) -> bool:
    """Whether a process runs and may have written at that time: in containers above all, numbers come again.

    One that is dead and that nothing has waited for does not run.
    """
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        return True
    with contextlib.suppress(OSError, ValueError, IndexError, AttributeError):  # where there is no /proc
        state, *fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        up_s = int(fields[18]) / os.sysconf("SC_CLK_TCK")  # since the system began
        began = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + up_s
        return state not in "ZX" and began < since + 1
    return True


@contextlib.contextmanager
def native_path(path: str | os.PathLike[str]) -> Iterator[str]:
    """An absolute name of an existing file that native code can open inside the block: a link where a name is no UTF-8.

    OpenCV's bindings crash on the surrogates by which Python writes such names.
    """
    name = os.path.realpath(path)
    try:
        name.encode()
    except UnicodeEncodeError:
        with work_folder() as folder:
            link = Path(folder, "file" + Path(name).suffix.encode("ascii", "ignore").decode())
            link.symlink_to(name)
            yield str(link)
    else:
        yield name


def is_hidden(name: str) -> bool:
    """Whether a name is a dot file's, or the folder in which Finder's archives keep what macOS adds to each file."""
    return name.startswith(".") or name == "__MACOSX"


def one_level(pattern: str) -> str:
    """A pattern of names in one folder: to pathlib `**` are the folders below, or an error."""
    return re.sub(r"\*+", "*", pattern)


def visible_files(
    folder: str | os.PathLike[str], pattern: str = "*", *, inside: tuple[str, ...] = ()
) -> Iterator[Path]:
    """Files below a folder whose names, in lower case, fit a pattern; sorted, also behind links, but never in circles.

    Hidden files and folders are passed over: `._NAME` on drives that a Mac wrote holds its attributes, no content.

    Args:
        inside: real paths of the folders that hold this one.
    """
    real = os.path.realpath(folder)
    if real in inside:
        return
    found: list[os.DirEntry[str]] = []
    with contextlib.suppress(PermissionError), os.scandir(folder) as entries:
        found = sorted((entry for entry in entries if not is_hidden(entry.name)), key=lambda entry: entry.name)
    for entry in found:
        if entry.is_dir():
            yield from visible_files(entry.path, pattern, inside=(*inside, real))
        elif entry.is_file() and fnmatch.fnmatchcase(entry.name.lower(), pattern):
            yield Path(entry.path)


def make_folders(folder: Path) -> None:
    """Make a folder and those above it, as deep as names go: pathlib's own calls itself for each level."""
    for each in reversed(list(takewhile(lambda place: not place.is_dir(), (folder, *folder.parents)))):
        if each.exists() and not each.is_dir():  # the system says only that it exists; another process may make it now
            raise NotADirectoryError(errno.ENOTDIR, f"{each} is not a folder", str(each))
        each.mkdir(exist_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def existing_file(path: str | os.PathLike[str], what: str) -> Path:
    """`path` if it is a readable file with something in it.

    Raises:
        InputError: it is missing, a folder, a pipe or a device, unreadable or empty; `what` names it in the message.
    """
    file, a_file = Path(path), f"{'an' if what[0].lower() in 'aeiou' else 'a'} {what}"
    try:
        found = file.exists()
    except OSError as error:  # a name that no file can have
        raise InputError(f"{what} cannot be read: {error.strerror}") from error
    if not found:
        raise InputError(f"{what} not found: {file}")
    if not file.is_file():
        raise InputError(f"{file} is a {_kind(file)}, expected {a_file} file")
    if not os.access(file, os.R_OK):
        raise InputError(f"{what} cannot be read: {file} (no permission)")
    if file.stat().st_size == 0:
        raise InputError(f"{file} is empty, expected {a_file} file")
    with file.open("rb") as stream:
        head = stream.read(64).lstrip().lower()
    if head.startswith(b"version https://git-lfs"):
        raise InputError(f"{file} is a pointer of Git LFS, expected the {what} itself: fetch it with `git lfs pull`")
    if head.startswith((b"<!doctype html", b"<html")):
        raise InputError(f"{file} is a web page, expected {a_file} file: download the file itself")
    return file


def _kind(file: Path) -> str:
    kind = stat.S_IFMT(file.stat().st_mode)
    return {stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}.get(kind, "device")


def read_within(path: str | os.PathLike[str], limit: int = MAX_BYTES) -> bytes:
    """What a file holds, unpacked if it is gzipped, if that is no more than `limit` bytes.

    Raises:
        InputError: it is more, or more than an archive of that size should hold, or cannot be read or unpacked.
    """
    file = Path(path)
    with foreign(f"{file} cannot be read"):
        if file.exists() and not file.is_file():  # a pipe would be waited for
            raise InputError(f"{file} is a {_kind(file)}, expected a file")
        with file.open("rb") as stream:
            is_gzip = stream.read(2) == b"\x1f\x8b"
            stream.seek(0)
            if is_gzip:
                limit = min(limit, UNPACKED + RATIO * os.fstat(stream.fileno()).st_size)
            with gzip.open(stream) if is_gzip else contextlib.nullcontext(stream) as content:
                packed = _at_most(content.read, limit + 1)
    if len(packed) > limit:
        raise InputError(f"{file} holds more than {limit >> 20} MiB, too large for an annotation file: split it")
    return packed


def _at_most(read: Callable[[int], bytes], count: int) -> bytes:
    """Piece by piece, for one `read(count)` takes as much memory beforehand; held once."""
    found = io.BytesIO()
    while found.tell() < count and (piece := read(min(1 << 20, count - found.tell()))):
        found.write(piece)
    return found.getvalue()


def lines_of(text: str) -> list[str]:
    """Lines of a text file: a name may have whatever else Unicode takes for the end of a line."""
    return re.split("\r\n|\r|\n", text)


def refuse_overwriting(source: str | os.PathLike[str], output: str | os.PathLike[str]) -> None:
    """Raise an OutputError when a result would replace the file that it is made from."""
    if os.path.exists(output) and os.path.exists(source) and os.path.samefile(source, output):
        raise OutputError(f"{output} is the input itself: give another name for the result")


def refuse_existing(path: str | os.PathLike[str], overwrite: bool) -> None:
    """Raise an OutputError if a file exists and is not to be overwritten."""
    if not overwrite and os.path.lexists(path):
        raise OutputError(f"{path} already exists: give another name, or --overwrite to replace it")


def writable_folder(path: str | os.PathLike[str]) -> Path:
    """`path` as a folder that can be written into, made if it is not there.

    Raises:
        OutputError: it cannot be made, is a file, or may not be written.
    """
    folder = Path(path)
    try:
        make_folders(folder)
    except OSError as error:
        raise OutputError(f"cannot write into {folder}: {error.strerror}; choose another folder") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write into {folder}: no permission; choose another folder")
    return folder


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _free(folder: Path) -> str:
    try:
        return f"{shutil.disk_usage(folder).free >> 20} MB free there"
    except OSError:
        return "its folder is gone"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
