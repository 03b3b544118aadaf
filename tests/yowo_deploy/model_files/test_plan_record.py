"""A plan says what it is, to anyone, and is refused when it is not what was built or not for this machine."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import re
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from yowo_deploy.errors import InputError, ModelFileError, SpecError
from yowo_deploy.files import sha256_of
from yowo_deploy.model_files import plan_record
from yowo_deploy.model_files.plan_record import (
    MARK,
    MAX_NAME,
    Machine,
    PlanFile,
    check_hash,
    check_plan,
    is_plan,
    read_plan,
    read_verified,
    to_name,
    write_plan,
)
from yowo_deploy.spec import ModelSpec

ANCHORS = ((1.0, 2.0),)
PLAN = PlanFile(ModelSpec(("run", "sit"), ANCHORS), "tensorrt", "11.4.0.5", "8.9", "a" * 64, (1, 8, 16))


def plan_of(labels: tuple[str, ...]) -> PlanFile:
    return dataclasses.replace(PLAN, spec=ModelSpec(labels, ANCHORS))


def bytes_around(name: str, tag: bytes = b"ftrt") -> bytes:
    """The outside of a plan: a tag, the length of the file where TensorRT-RTX has it, the name, weights."""
    after = name.encode() + bytes(range(256)) * 8
    return tag + b"\0" * 12 + (1000 + len(after)).to_bytes(8, "little") + b"\0" * 976 + after


def write(path: Path, plan: PlanFile = PLAN, tag: bytes = b"ftrt") -> Path:
    name, beside = to_name(plan)
    write_plan(path, bytes_around(name, tag), beside)
    return path


@settings(max_examples=50, deadline=None)
@given(labels=st.lists(st.text(st.characters(categories=["L", "N", "P"]), min_size=1), min_size=1, unique=True))
@example(labels=[f"class {number}, with a name of fifty characters, or so" for number in range(60)])
@example(labels=[hashlib.sha256(bytes([number % 256, number // 256])).hexdigest() for number in range(400)])
def test_what_is_written_comes_back(labels: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    plan = plan_of(tuple(labels))
    assert len(to_name(plan)[0]) <= MAX_NAME and to_name(plan)[0].isascii()
    assert read_plan(write(tmp_path_factory.mktemp("plan") / "a.plan", plan)) == plan


@pytest.mark.parametrize(
    ("classes", "beside"),
    [(21, False), (80, False), (400, True)],  # the 80 classes of AVA are shorter than these
)
def test_only_a_spec_that_fits_no_name_lies_beside_the_plan(classes: int, beside: bool, tmp_path: Path) -> None:
    plan = plan_of(tuple(hashlib.sha256(bytes([n % 256, n // 256])).hexdigest()[:24] for n in range(classes)))
    assert to_name(plan)[0].startswith("yowo-plan/1 json ")
    write(tmp_path / "a.plan", plan)
    expected = {"a.plan", "a.plan.sha256"} | ({"a.plan.json"} if beside else set())
    assert {path.name for path in tmp_path.iterdir()} == expected


@pytest.mark.parametrize("classes", [2, 150])
def test_a_compressed_record_of_an_older_version_is_read(classes: int, tmp_path: Path) -> None:
    plan = plan_of(tuple(f"number {number} of many" for number in range(classes)))
    packed = base64.b64encode(zlib.compress(json.dumps(dataclasses.asdict(plan)).encode(), 9)).decode()
    (tmp_path / "a.plan").write_bytes(bytes_around(plan_record._sealed("zlib", packed)))
    assert read_plan(tmp_path / "a.plan") == plan


def test_a_spec_beside_the_plan_must_be_there_and_the_right_one(tmp_path: Path) -> None:
    plan = plan_of(tuple(hashlib.sha256(bytes([n % 256, n // 256])).hexdigest() for n in range(300)))
    path = write(tmp_path / "a.plan", plan)
    (tmp_path / "a.plan.json").write_text(plan_of(("other",)).spec.to_json())
    with pytest.raises(SpecError, match=r"is not the spec that .* was built with"):
        read_plan(path)
    (tmp_path / "a.plan.json").unlink()
    with pytest.raises(SpecError, match=r"a\.plan\.json, which is not beside it: copy both"):
        read_plan(path)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("labels", [("run", "sit"), tuple(f"a long name of a class, number {n}" for n in range(90))])
def test_one_wrong_bit_in_the_record_is_found(
    labels: tuple[str, ...], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    name = to_name(plan_of(labels))[0]
    content = bytearray(bytes_around(name))
    bit = data.draw(st.integers(8 * 1000, 8 * (1000 + len(name)) - 1))
    content[bit // 8] ^= 1 << bit % 8
    path = tmp_path_factory.mktemp("plan") / "a.plan"
    path.write_bytes(content)
    with pytest.raises(ModelFileError):
        read_plan(path)


@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True), tag=st.sampled_from([b"ftrt", b"vtrt"]))
def test_a_plan_cut_short_is_never_loaded(share: float, tag: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = write(tmp_path_factory.mktemp("plan") / "a.plan", tag=tag)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"cut off|not a TensorRT plan|is empty|not what was built"):
        read_plan(path)
        read_verified(path)


def test_a_cut_is_told_by_the_length_where_the_plan_says_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.plan", tag=b"vtrt")
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    with pytest.raises(ModelFileError, match=rf"holds {len(content) - 100:,} bytes of {len(content):,}: it is cut off"):
        read_plan(path)


@pytest.mark.parametrize(
    ("content", "plan", "expected"),
    [
        (b"\x08\x08\x12\x07pytorch" + b"weights" * 99, False, "is not a TensorRT plan: `yowo-deploy build` writes one"),
        (b"PK\x03\x04", False, "is not a TensorRT plan"),
        (b"t", False, "is not a TensorRT plan"),
        (b"ftrt" + b"\0" * 5000, True, "without our record.*build it from its ONNX file"),
        (b"ptrt" + b"\0" * 5000, True, "without our record"),
        (b"ftrt" + MARK, True, "is damaged or cut off"),
        (b"other tag" + MARK + b"json 2 xxxxxxxx {}", True, "is damaged or cut off"),
    ],
)
def test_what_is_no_plan_of_ours_is_refused(content: bytes, plan: bool, expected: str, tmp_path: Path) -> None:
    (tmp_path / "a.plan").write_bytes(content)
    assert is_plan(tmp_path / "a.plan") is plan
    with pytest.raises(ModelFileError, match=expected):
        read_plan(tmp_path / "a.plan")


def sealed(values: Any) -> str:
    return plan_record._sealed("json", json.dumps(values))


def values_of(**changes: Any) -> dict[str, Any]:
    return dataclasses.asdict(PLAN) | changes


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (sealed([]), "cannot be read"),
        (sealed({}), "cannot be read.*upgrade yowo-deploy or rebuild"),
        (sealed(values_of(later="field")), "cannot be read.*later"),
        (sealed(values_of(batch=3)), "cannot be read"),
        (sealed(values_of(batch=[2, 1, 3])), "does not describe a plan"),
        (sealed(values_of(batch=["1", "2", "3"])), "does not describe a plan"),
        (sealed(values_of(version="11")), "does not describe a plan"),
        (sealed(values_of(version="11.4.0\x1b[2J")), "does not describe a plan"),
        (sealed(values_of(compute_capability=89)), "does not describe a plan"),
        (sealed(values_of(flavour="openvino")), "does not describe a plan"),
        (sealed(values_of(onnx_sha256="../../x")), "does not describe a plan"),
        (sealed(values_of(tf32="no")), "does not describe a plan"),
        (sealed(values_of(spec=None)), "spec is a NoneType"),
        (plan_record._sealed("json", "[" * 4000), "cannot be read"),
        (plan_record._sealed("zlib", "!not base64!"), "cannot be (unpacked|read)"),
        (plan_record._sealed("zlib", base64.b64encode(b"not deflated").decode()), "cannot be unpacked"),
        (plan_record._sealed("zlib", base64.b64encode(zlib.compress(b"[" * 2_900_000, 9)).decode()), "cannot be read"),
    ],
)
def test_a_record_that_is_whole_but_wrong_is_refused(record: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "a.plan").write_bytes(bytes_around(record))
    with pytest.raises(InputError, match=expected) as refused:
        read_plan(tmp_path / "a.plan")
    assert "\x1b" not in str(refused.value)


def test_a_plan_is_loaded_with_its_hash_or_with_trust(tmp_path: Path) -> None:
    path = write(tmp_path / "a.plan")
    content = path.read_bytes()
    assert read_verified(path) == content and check_hash(path, sha256_of(path))
    path.write_bytes(content[:-1] + b"!")
    with pytest.raises(ModelFileError, match=r"not what was built.*a\.plan\.sha256 says .*copy both again, or rebuild"):
        read_verified(path)
    assert read_verified(path, trust=True) == content[:-1] + b"!"
    (tmp_path / "a.plan.sha256").write_bytes(b"\xff\n")
    with pytest.raises(ModelFileError, match="not what was built"):
        read_verified(path)
    (tmp_path / "a.plan.sha256").unlink()
    with pytest.raises(ModelFileError, match=r"no recorded hash.*copy a\.plan\.sha256 along, or .*--trust"):
        read_verified(path)
    assert not check_hash(path, sha256_of(path)) and read_verified(path, trust=True)


def test_what_is_no_file_beside_a_plan_is_not_read(tmp_path: Path) -> None:
    """A pipe would be waited for, and a device may have no end."""
    path = write(tmp_path / "a.plan")
    hashed = tmp_path / "a.plan.sha256"
    hashed.unlink()
    for make in (os.mkfifo, Path.mkdir, lambda place: place.symlink_to("/dev/zero")):
        make(hashed)
        assert not check_hash(path, sha256_of(path))
        with pytest.raises(ModelFileError, match="no recorded hash"):
            read_verified(path)
        hashed.rmdir() if hashed.is_dir() else hashed.unlink()


def test_a_record_is_found_wherever_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also across the pieces in which a plan is read, and not behind the bytes that are searched."""
    content = write(tmp_path / "a.plan").read_bytes()
    at = content.index(plan_record.MARK)
    monkeypatch.setattr(plan_record, "_PIECE", 16)
    for zeros in range(40):
        monkeypatch.setattr(plan_record, "_SEARCHED", at + zeros + len(plan_record.MARK))
        (tmp_path / "a.plan").write_bytes(content[:at] + b"\0" * zeros + content[at:])
        assert read_plan(tmp_path / "a.plan") == PLAN
    monkeypatch.setattr(plan_record, "_SEARCHED", at + zeros + len(plan_record.MARK) - 1)
    with pytest.raises(ModelFileError, match="without our record"):
        read_plan(tmp_path / "a.plan")


def test_the_hash_file_is_one_of_sha256sum(tmp_path: Path) -> None:
    path = write(tmp_path / "a.plan")
    assert (tmp_path / "a.plan.sha256").read_text() == f"{hashlib.sha256(path.read_bytes()).hexdigest()}  a.plan\n"


RTX = dataclasses.replace(PLAN, flavour="tensorrt-rtx", version="1.7.1.116", compute_capability="")
COMPATIBLE = dataclasses.replace(PLAN, version_compatible=True)
TEN = dataclasses.replace(COMPATIBLE, version="10.13.3.9")


@pytest.mark.parametrize(
    ("plan", "here"),
    [
        (PLAN, Machine("tensorrt", "11.4.0.5", "8.9")),
        (PLAN, Machine("tensorrt", "11.4.0", "8.9")),
        (COMPATIBLE, Machine("tensorrt", "11.4.0", "8.9")),
        (COMPATIBLE, Machine("tensorrt", "11.10.0", "8.9")),
        (TEN, Machine("tensorrt", "11.0.0", "8.9")),
        *((RTX, Machine("tensorrt-rtx", "1.7.1.116", gpu)) for gpu in ("8.0", "8.6", "8.9", "12.0", "12.1", "13.0")),
    ],
)
def test_a_plan_for_this_machine_passes(plan: PlanFile, here: Machine) -> None:
    check_plan(Path("yowo.plan"), plan, here)


@pytest.mark.parametrize(
    ("plan", "here", "expected"),
    [
        (
            PLAN,
            Machine("tensorrt", "11.6.0", "9.0"),
            "yowo.plan is fp32, built for SM 8.9 with tensorrt 11.4.0.5; this is SM 9.0 with tensorrt 11.6.0: rebuild "
            "with `yowo-deploy build yowo.onnx -o yowo.plan --target tensorrt --batch 1:8:16`",
        ),
        (PLAN, Machine("tensorrt", "11.4.0.5", "9.0"), "built for SM 8.9 with .*this is SM 9.0"),
        (PLAN, Machine("tensorrt", "11.4.1", "8.9"), "with tensorrt 11.4.0.5; .* with tensorrt 11.4.1"),
        (COMPATIBLE, Machine("tensorrt", "11.3.9", "8.9"), "--version-compatible`"),
        (COMPATIBLE, Machine("tensorrt", "11.4.0", "8.6"), "SM 8.6"),
        (COMPATIBLE, Machine("tensorrt", "12.0.0", "8.9"), "tensorrt 12.0.0"),
        (TEN, Machine("tensorrt", "12.0.0", "8.9"), "tensorrt 12.0.0"),
        (PLAN, Machine("tensorrt-rtx", "11.4.0", "8.9"), "with tensorrt-rtx 11.4.0.*--target tensorrt-rtx"),
        (RTX, Machine("tensorrt", "1.7.1", "8.9"), "RTX GPUs from SM 8.0 on with tensorrt-rtx.*--target tensorrt "),
        (RTX, Machine("tensorrt-rtx", "1.7.1", "9.0"), "this is SM 9.0.*--target tensorrt "),
        (RTX, Machine("tensorrt-rtx", "1.7.1", "7.5"), "--target tensorrt "),
        (RTX, Machine("tensorrt-rtx", "1.7.1", "10.0"), "--target tensorrt "),
        (RTX, Machine("tensorrt-rtx", "1.7.2", "8.9"), "--target tensorrt-rtx"),
        (
            dataclasses.replace(PLAN, tf32=False, workspace=1 << 30),
            Machine("tensorrt", "11.4.1", "8.9"),
            "--workspace 1073741824 --no-tf32`",
        ),
    ],
)
def test_a_plan_for_another_machine_is_refused_with_the_command_that_rebuilds_it(
    plan: PlanFile, here: Machine, expected: str
) -> None:
    with pytest.raises(ModelFileError, match=expected) as refused:
        check_plan(Path("yowo.plan"), plan, here)
    assert "\n" not in str(refused.value)


def test_the_command_that_rebuilds_can_be_pasted() -> None:
    with pytest.raises(ModelFileError, match=re.escape("build '/my models/a.onnx' -o '/my models/a.plan' --target")):
        check_plan(Path("/my models/a.plan"), PLAN, Machine("tensorrt", "11.6.0", "9.0"))
