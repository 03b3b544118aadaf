"""Hand-made and mutated checkpoints: each is refused with one line of ours, or read."""

from __future__ import annotations

import io
import random
import re
import zipfile
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tests.hostile.checkpoint_files import checkpoint_files, safetensors_files  # noqa: E402
from yowo_deploy.errors import InputError, YowoError  # noqa: E402
from yowo_deploy.spec import METADATA_KEY, ModelSpec  # noqa: E402
from yowo_training.checkpoints.archive import checked_content  # noqa: E402
from yowo_training.checkpoints.checkpoint import (  # noqa: E402
    load_checkpoint,
    read_tensors,
    save_checkpoint,
    weights_hash,
)
from yowo_training.checkpoints.weight_tables import refuse_views  # noqa: E402
from yowo_training.models.yowo import Yowo, YowoConfig  # noqa: E402

FILES, SAFETENSORS_FILES = checkpoint_files(), safetensors_files()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a checkpoint of ours."""
    spec = ModelSpec(labels=("a",), anchors=((1.0, 2.0),), clip_length=4, input_size=(64, 64))
    path = tmp_path_factory.mktemp("good") / "c.pt"
    save_checkpoint(path, Yowo(YowoConfig("tiny2d", None, spec.output_channels, width=8)), spec, {"step": 1})
    return path.read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_a_file_made_by_hand_is_refused(name: str, tmp_path: Path) -> None:
    content, verdict = FILES[name]
    path = tmp_path / "c.pt"
    path.write_bytes(content if isinstance(content, bytes) else content())
    with pytest.raises(InputError) as refused:
        load_checkpoint(path)
    said = str(refused.value)
    assert re.search(verdict, said) and "\n" not in said and len(said) < 450


@pytest.mark.parametrize("name", SAFETENSORS_FILES)
def test_a_header_that_lies_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    path.write_bytes(SAFETENSORS_FILES[name])
    with pytest.raises(InputError) as refused:
        load_checkpoint(path)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 500


def test_every_bit_of_the_directory_is_noticed(good: bytes, tmp_path: Path) -> None:
    path, start = tmp_path / "c.pt", good.index(b"PK\x01\x02")
    generator = random.Random(22)
    for at in generator.sample(range(8 * start, 8 * len(good)), 150):
        spoiled = bytearray(good)
        spoiled[at // 8] ^= 1 << at % 8
        path.write_bytes(spoiled)
        with pytest.raises(YowoError, match=r"is damaged|cannot be read"):
            load_checkpoint(path)


def old_file(content: dict[str, object]) -> bytes:
    """What torch.save writes, as older versions of ours and other projects left it: without a checksum."""
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def test_every_bit_of_an_older_file_is_noticed(tmp_path: Path) -> None:
    whole = old_file({"a": torch.arange(40.0), "b": [1, "two"], "c": {"d": torch.zeros(3)}})
    path, start = tmp_path / "c.pt", whole.index(b"PK\x01\x02")
    path.write_bytes(whole)
    assert not checked_content(path).checked
    generator = random.Random(22)  # of 6,000 bits of the directory; all of them were tried once
    places = [(8 * start, 8 * len(whole), 1_200), (0, 8 * start, 300)]
    for at in (at for first, end, count in places for at in generator.sample(range(first, end), count)):
        spoiled = bytearray(whole)
        spoiled[at // 8] ^= 1 << at % 8
        path.write_bytes(spoiled)
        with pytest.raises(YowoError, match=r"c\.pt "):
            checked_content(path)


def test_an_older_file_packed_anew_is_read(tmp_path: Path) -> None:
    """By Python's zipfile, which aligns nothing and streams nothing."""
    made, path = io.BytesIO(), tmp_path / "c.pt"
    with zipfile.ZipFile(io.BytesIO(old_file({"a": torch.arange(3.0)}))) as old, zipfile.ZipFile(made, "w") as new:
        for each in old.infolist():
            new.writestr(zipfile.ZipInfo(each.filename), old.read(each))
    path.write_bytes(made.getvalue())
    assert read_tensors(path)["a"].tolist() == [0, 1, 2]


def test_strides_of_sides_of_one_are_put_right(tmp_path: Path) -> None:
    odd = torch.ones(7).as_strided((1,), (149,))
    table = refuse_views(tmp_path / "c.pt", {"a": odd, "b": torch.ones(2, 3).t()})
    assert {name: value.stride() for name, value in table.items()} == {"a": (1,), "b": (2, 1)}
    assert weights_hash({"a": odd}) == weights_hash({"a": torch.ones(1)})


def test_mutants_are_read_or_refused(good: bytes, tmp_path: Path) -> None:
    path, generator = tmp_path / "c.pt", random.Random(23)
    end = good.index(b"PK\x03\x04", 4)  # the pickle is the first member: what stands there breaks in more ways
    for _ in range(200):
        spoiled = bytearray(good)
        for _ in range(generator.randint(1, 3)):
            at = generator.randrange(generator.choice((end, len(spoiled))))
            piece = generator.randbytes(generator.randint(0, 8))
            spoiled[at : at + generator.choice((0, len(piece)))] = piece
        path.write_bytes(spoiled)
        try:
            load_checkpoint(path)
        except YowoError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    "change",
    [
        {"outputs": 10**12}, {"outputs": 0}, {"outputs": True}, {"outputs": 1.5}, {"width": -1}, {"width": 10**9},
        {"shrink_3d": 0}, {"backbone_2d": 7}, {"fusion": "other"}, {"attention_sign": None}, {"backbone_extra": "odd"},
    ],
    ids=str,
)  # fmt: skip
def test_a_number_of_the_network_has_its_range(change: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(change)).partition("_2d")[0].partition("_extra")[0]):
        YowoConfig(**({"backbone_2d": "tiny2d", "backbone_3d": None, "outputs": 6} | change))  # type: ignore[arg-type]


_CHANGES = {
    "not finite numbers": lambda value: torch.full_like(value, float("nan")),
    "not finite": lambda value: value.double() + 1e300,  # infinite in the network's arithmetic
    "torch.int8, expected": lambda value: (100 * value).to(torch.int8),
    "torch.bool, expected": lambda value: value > 0,
}


@pytest.mark.parametrize("said", _CHANGES)
def test_weights_that_no_network_can_have_are_refused(said: str, tmp_path: Path) -> None:
    """Each with the right hash: numbers that are not finite, and whole ones without the scales that belong to them."""
    spec = ModelSpec(labels=("a",), anchors=((1.0, 2.0),), clip_length=4, input_size=(64, 64))
    model = Yowo(YowoConfig("tiny2d", None, spec.output_channels, width=8))
    weights = {key: _CHANGES[said](of) if of.is_floating_point() else of for key, of in model.state_dict().items()}
    save_checkpoint(tmp_path / "c.pt", model, spec, {})
    content = torch.load(tmp_path / "c.pt", weights_only=True)
    noted = ModelSpec.from_json(content[METADATA_KEY]).replace(weights_sha256=weights_hash(weights)).to_json()
    torch.save({**content, METADATA_KEY: noted, "weights": weights}, tmp_path / "c.pt")
    with pytest.raises(InputError, match=said):
        load_checkpoint(tmp_path / "c.pt")
