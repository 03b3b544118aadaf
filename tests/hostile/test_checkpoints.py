"""Hand-made and mutated checkpoints: each is refused with one line of ours, or read."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tests.hostile.checkpoint_files import checkpoint_files  # noqa: E402
from yowo_deploy.errors import InputError, YowoError  # noqa: E402
from yowo_deploy.spec import ModelSpec  # noqa: E402
from yowo_training.checkpoints.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from yowo_training.models.yowo import Yowo, YowoConfig  # noqa: E402

FILES = checkpoint_files()


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
    path.write_bytes(content)
    with pytest.raises(InputError) as refused:
        load_checkpoint(path)
    said = str(refused.value)
    assert re.search(verdict, said) and "\n" not in said and len(said) < 450


def test_every_bit_of_the_directory_is_noticed(good: bytes, tmp_path: Path) -> None:
    path, start = tmp_path / "c.pt", good.index(b"PK\x01\x02")
    generator = random.Random(22)
    for at in generator.sample(range(8 * start, 8 * len(good)), 150):
        spoiled = bytearray(good)
        spoiled[at // 8] ^= 1 << at % 8
        path.write_bytes(spoiled)
        with pytest.raises(YowoError, match=r"is damaged|cannot be read"):
            load_checkpoint(path)


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
    with pytest.raises(InputError, match=next(iter(change)).removesuffix("_2d")):
        YowoConfig(**({"backbone_2d": "tiny2d", "backbone_3d": None, "outputs": 6} | change))  # type: ignore[arg-type]
