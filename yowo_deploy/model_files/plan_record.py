"""The record in a TensorRT plan: its spec, its builder and its target, read from the bytes without TensorRT or a GPU.

A plan of ours is a plain plan. The name of its network, which TensorRT stores as it is and other tools show as the
name of the engine, is our record:

    yowo-plan/1 FORM LENGTH CRC PAYLOAD

PAYLOAD is one JSON object, the fields of `PlanFile`. FORM is `json`; in older plans also `zlib` (deflated, then
base64), which C++ refuses. LENGTH counts the bytes of PAYLOAD, CRC is their CRC-32 in hexadecimal. A spec that is too
long for a name, which that of AVA's 80 classes is not, lies beside the plan in PLAN.json, and its sha256 stands in the
record.

Loading a plan runs what is in it, and no file can hold its own hash: PLAN.sha256 lies beside every plan, one line that
`sha256sum --check` reads too. It tells a plan that was damaged, cut short or exchanged. It cannot tell one whose maker
wrote that line as well: load plans of people whom you trust.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import re
import shlex
import zlib
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from yowo_deploy.errors import ModelFileError, SpecError, foreign
from yowo_deploy.files import atomic_write, existing_file
from yowo_deploy.json_text import strict_json
from yowo_deploy.model_files.checksum import refuse_another
from yowo_deploy.spec import MAX_JSON, ModelSpec

Flavour = Literal["tensorrt", "tensorrt-rtx"]
FLAVOURS: tuple[Flavour, ...] = ("tensorrt", "tensorrt-rtx")

MAX_NAME = 4095  # bytes in the name of a network (DEPLOYMENT_FACTS, "TensorRT")
MARK = b"yowo-plan/1 "
_HEADER = re.compile(rb"(json|zlib) (\d{1,4}) ([0-9a-f]{8}) ")
_HEAD = 1 << 16  # bytes; TensorRT-RTX 1.7 has the name at 1,108
_SEARCHED = 1 << 27  # a version-compatible plan may hold a runtime of many megabytes before its network
_PIECE = 1 << 20  # bytes read at once
_LONGEST = 10_032  # of form, length, checksum and payload
_MAX_PAYLOAD = 1 << 22  # what 4 kB can be inflated to, and no more

# Without other targets TensorRT-RTX builds for these and for all newer ones (its manual, "CPU-Only AOT").
_RTX_GPUS = ((8, 0), (8, 6), (8, 9))
_RTX_NEWER = (12, 0)


@dataclass(frozen=True)
class PlanFile:
    """What was built, from what, and for whom.

    Attributes:
        spec: of the model; its `precision` is that of the graph, and so of the plan.
        flavour: the library that built it and that alone can load it.
        version: of that library.
        compute_capability: of the GPU that it was built on, as "8.9"; "" from TensorRT-RTX, whose plans fit many.
        onnx_sha256: of the ONNX file.
        batch: the smallest, usual and largest number of clips in a call.
        workspace: bytes that one layer may use at most; 0 for the library's own limit.
        tf32: whether float32 products may be rounded to TF32.
        version_compatible: whether newer versions of the library can load it.
        golden: what preprocessing makes of the golden frame, see `golden`; "" in a plan of an older file.
        macs: multiply-adds for one clip, as the ONNX file counts them; 0 where it does not.
    """

    spec: ModelSpec
    flavour: Flavour
    version: str
    compute_capability: str
    onnx_sha256: str
    batch: tuple[int, int, int]
    workspace: int = 0
    tf32: bool = True
    version_compatible: bool = False
    golden: str = ""
    macs: int = 0

    def __post_init__(self) -> None:
        texts = (
            (self.flavour, "|".join(FLAVOURS)),
            (self.version, r"\d{1,9}\.\d{1,9}\.\d{1,9}(?!\d)[\w.+]*"),
            (self.compute_capability, r"(\d{1,9}\.\d{1,9})?"),
            (self.onnx_sha256, "[0-9a-f]{64}"),
            (self.golden, r"[][\d., -]{0,2002}"),
        )
        sound = all(isinstance(text, str) and re.fullmatch(form, text, re.ASCII) for text, form in texts)
        sound = sound and len(self.batch) == 3 and all(type(n) is int for n in (*self.batch, self.workspace, self.macs))
        sound = sound and 1 <= self.batch[0] <= self.batch[1] <= self.batch[2] < 1 << 31
        sound = sound and min(self.workspace, self.macs) >= 0 and max(self.workspace, self.macs) < 1 << 53
        if not sound or {type(self.tf32), type(self.version_compatible)} != {bool}:
            found = {name: value for name, value in vars(self).items() if name != "spec"}
            raise ModelFileError(f"{found} does not describe a plan: upgrade yowo-deploy, or rebuild")


@dataclass(frozen=True)
class Machine:
    """What a plan is to run on: the library that is installed, and the GPU."""

    flavour: Flavour
    version: str
    compute_capability: str


def is_plan(path: Path) -> bool:
    """Whether a file is a TensorRT plan, ours or not: by the tag that it begins with, or by our record."""
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    return head[1:4] == b"trt" or MARK in head  # TensorRT-RTX 1.7 writes "vtrt"; the tags of others end alike


def read_plan(path: str | os.PathLike[str]) -> PlanFile:
    """What a plan says about itself. Nothing of it is run, and its hash is not verified.

    Raises:
        ModelFileError: it is no plan, is damaged or cut short, or another tool built it.
        SpecError: its spec lies beside it and is not there, or is another one.
    """
    file = existing_file(path, "plan")
    with foreign(f"the record in {file} cannot be read, upgrade yowo-deploy or rebuild", ModelFileError):
        values = strict_json(_payload(file))
        spec = values.pop("spec")
        spec = _spec_beside(file, spec) if isinstance(spec, str) else ModelSpec.from_dict(spec)
        return PlanFile(spec=spec, batch=tuple(values.pop("batch")), **values)


def to_name(plan: PlanFile) -> tuple[str, str]:
    """The record of a plan as the name of its network, and the text of PLAN.json ("" where none is needed)."""
    values, beside = dataclasses.asdict(plan), ""
    name = _sealed("json", json.dumps(values))
    if len(name) > MAX_NAME:
        beside = plan.spec.to_json()
        name = _sealed("json", json.dumps(values | {"spec": hashlib.sha256(beside.encode()).hexdigest()}))
    return name, beside


def write_plan(path: Path, content: bytes | memoryview, beside: str) -> None:
    """Write a plan and what lies beside it: all of them are on the disk before the first has its name.

    Args:
        content: the plan as TensorRT gave it.
        beside: text of the JSON record; "" for none.

    Raises:
        OutputError: they cannot be written.
    """
    with ExitStack() as stack:
        if beside:
            stack.enter_context(atomic_write(_beside(path, "json"))).write_text(beside, encoding="utf-8")
        hashed, temporary = (stack.enter_context(atomic_write(name)) for name in (_beside(path, "sha256"), path))
        temporary.write_bytes(content)
        hashed.write_text(f"{hashlib.sha256(content).hexdigest()}  {path.name}\n", encoding="utf-8")


def read_verified(path: Path, trust: bool = False, sha256: str | None = None) -> bytes:
    """The content of a plan that may be loaded.

    Args:
        trust: take it without a recorded hash, and against one.
        sha256: that it must have all the same; None for any.

    Raises:
        ModelFileError: its hash differs from the recorded one, or none is recorded.
    """
    content = path.read_bytes()
    refuse_another(path, content, sha256)
    if not trust and not check_hash(path, hashlib.sha256(content).hexdigest()):
        raise ModelFileError(
            f"{path} has no recorded hash, and loading a plan runs what is in it: copy {path.name}.sha256 along, or "
            "load it with --trust if you know who built it"
        )
    return content


def check_hash(path: Path, sha256: str) -> bool:
    """Whether a hash is recorded beside a plan; if so, it is this one.

    Raises:
        ModelFileError: another one is recorded.
    """
    beside = _beside(path, "sha256")
    if not beside.is_file():  # a pipe would never end
        return False
    try:
        with beside.open("rb") as stream:
            recorded = stream.read(_HEAD).decode(errors="replace").split()
    except OSError:
        return False
    if not recorded or recorded[0] != sha256:
        said = recorded[0][:12] if recorded else "nothing"
        raise ModelFileError(
            f"{path} is not what was built: its sha256 is {sha256[:12]}..., {path.name}.sha256 says {said}...: "
            "copy both again, or rebuild"
        )
    return True


def check_plan(path: Path, plan: PlanFile, here: Machine) -> None:
    """Refuse a plan that this machine cannot load, before anything of it is loaded.

    A plan of TensorRT wants the very GPU architecture and version that it was built with; built version-compatible,
    also a newer minor version, and 11 for 10. A plan of TensorRT-RTX wants the very version, on any of its GPUs.

    Args:
        plan: what the file says of itself.
        here: this machine's GPU and TensorRT.

    Raises:
        ModelFileError: with what it was built for, what this machine is, and the command that rebuilds it.
    """
    built, now = _numbers(plan.version), _numbers(here.version)
    right_version = built == now
    if plan.flavour == "tensorrt":
        right_gpu = plan.compute_capability == here.compute_capability
        same_line = built[0] == now[0] or (built[0], now[0]) == (10, 11)
        right_version |= plan.version_compatible and same_line and built <= now
        target, origin = here.flavour, f"SM {plan.compute_capability}"
    else:
        gpu = _numbers(here.compute_capability)
        right_gpu = gpu in _RTX_GPUS or gpu >= _RTX_NEWER
        target, origin = here.flavour if right_gpu else "tensorrt", "RTX GPUs from SM 8.0 on"
    if plan.flavour == here.flavour and right_version and right_gpu:
        return
    command = _command(path, plan, target)
    raise ModelFileError(
        f"{path} is {plan.spec.precision}, built for {origin} with {plan.flavour} {plan.version}; this is "
        f"SM {here.compute_capability} with {here.flavour} {here.version}: rebuild with `{command}`"
    )


def _command(path: Path, plan: PlanFile, target: Flavour) -> str:
    words = ["yowo-deploy", "build", str(path.with_suffix(".onnx")), "-o", str(path), "--target", target]
    words += ["--batch", ":".join(map(str, plan.batch))]
    words += ["--workspace", str(plan.workspace)] if plan.workspace else []
    words += [] if plan.tf32 else ["--no-tf32"]
    words += ["--version-compatible"] if plan.version_compatible and target == "tensorrt" else []
    return shlex.join(words)


def _numbers(version: str) -> tuple[int, ...]:
    """Major, minor and patch: builds of one patch level read each other's plans."""
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}.{suffix}")


def _spec_beside(path: Path, sha256: str) -> ModelSpec:
    file = _beside(path, "json")
    if not file.exists():
        raise SpecError(f"the spec of {path} is stored in {file.name}, which is not beside it: copy both")
    with existing_file(file, "spec").open("rb") as stream:
        content = stream.read(MAX_JSON + 1)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise SpecError(f"{file} is not the spec that {path} was built with: copy both again, or rebuild")
    return ModelSpec.from_json(content.decode())


def _find_mark(stream: BinaryIO) -> int:
    """Where our record begins, or -1."""
    stream.seek(0)
    before, at = b"", 0
    while piece := stream.read(min(_PIECE, _SEARCHED - at)):
        if (found := (before + piece).find(MARK)) >= 0:
            return found + at - len(before)
        before, at = piece[1 - len(MARK) :], at + len(piece)
    return -1


def _sealed(form: str, payload: str) -> str:
    return f"{MARK.decode()}{form} {len(payload)} {zlib.crc32(payload.encode()):08x} {payload}"


def _payload(path: Path) -> bytes:
    """The JSON of the record in a plan."""
    if not is_plan(path):
        raise ModelFileError(f"{path} is not a TensorRT plan: `yowo-deploy build` writes one from an ONNX file")
    with path.open("rb") as stream:  # not mapped: a file that shrinks meanwhile would end the process
        size, head = os.fstat(stream.fileno()).st_size, stream.read(24)
        said = int.from_bytes(head[16:], "little")
        if head[:4] == b"vtrt" and said != size:  # what TensorRT-RTX checks first; other plans begin otherwise
            raise ModelFileError(f"{path} holds {size:,} bytes of {said:,}: it is cut off; copy it again, or rebuild")
        at = _find_mark(stream)
        if at < 0:
            raise ModelFileError(
                f"{path} is a TensorRT plan without our record, so labels and anchors are unknown: build it from its "
                "ONNX file with `yowo-deploy build`, or, if it was, it is cut off"
            )
        stream.seek(at + len(MARK))
        record = stream.read(_LONGEST)
    header = _HEADER.match(record)
    payload = record[header.end() : header.end() + int(header[2])] if header else b""
    if header is None or len(payload) != int(header[2]) or zlib.crc32(payload) != int(header[3], 16):
        raise ModelFileError(f"the record in {path} is damaged or cut off: copy the plan again, or rebuild it")
    if header[1] == b"json":
        return payload
    with foreign(f"the record in {path} cannot be unpacked, rebuild the plan", ModelFileError):
        return zlib.decompressobj().decompress(base64.b64decode(payload), _MAX_PAYLOAD)
