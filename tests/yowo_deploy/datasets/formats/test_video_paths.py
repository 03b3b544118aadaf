"""Addresses are taken apart as RFC 3986 has them, and as Label Studio writes its own; signatures go nowhere."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yowo_deploy.datasets.formats.box_rows import Footage, Options
from yowo_deploy.datasets.formats.video_paths import paths_in, stored_name
from yowo_deploy.errors import DatasetError

NAME = "院子 50%#1?&d=+[a]'é.mp4"  # what a file may be called, and an address has as syntax
NAMES = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/\\"), min_size=1, max_size=12)


@given(NAMES.filter(lambda name: name.strip(".") != ""))
def test_every_encoding_of_a_name_leads_to_it(name: str) -> None:
    path = f"videos/{name}.mp4"
    signed = "?X-Amz-Signature=00ff&X-Amz-Expires=3600"
    assert path in paths_in(f"/data/local-files/?d={quote(path)}")
    assert path == paths_in(f"s3://bucket/{quote(path)}")[0]
    assert path == paths_in(f"https://host:8080/{quote(path)}{signed}#t=1")[0]
    uri = base64.urlsafe_b64encode(f"gs://bucket/{quote(path)}".encode()).decode()
    assert path == paths_in(f"/tasks/1/resolve/?fileuri={uri}")[0]


@pytest.mark.parametrize("name", [NAME, "plain.mp4", "100%.mp4", "a%20b.mp4", "a#1.mp4", "what?.mp4", "x.mp4?y.mp4"])
def test_a_plain_name_is_taken_as_it_is(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert Footage(tmp_path, Options()).find(name) == tmp_path / name


@pytest.mark.parametrize(
    "address",
    [
        "https://user:secret@host/videos/yard.mp4?X-Amz-Signature=secret",
        "https://host/videos/yard.mp4?token=secret#secret",
        "/storage/videos/yard.mp4?X-Amz-Signature=secret",
        "https://host/data/?d=videos/yard.mp4",
    ],
)
def test_secrets_of_addresses_are_neither_stored_nor_shown(address: str, tmp_path: Path) -> None:
    footage = Footage(tmp_path, Options())
    assert footage.find(address).name == "yard.mp4" and "?" not in str(footage.find(address))
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "yard.mp4").write_bytes(b"x")
    with pytest.raises(DatasetError, match="may be") as caught:
        footage = Footage(tmp_path, Options())
        footage.find(address)
    assert "Signature" not in str(caught.value) and "token" not in str(caught.value)
    assert "user:secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("gs://bucket/cam#1/what?/yard.mp4", "cam#1/what?/yard.mp4"),
        ("s3://bucket/yard.mp4?versionId=1", "yard.mp4"),
        ("https://host/get?file=videos%2Fyard.mp4&token=secret", "videos/yard.mp4"),
        ("https://host/yard.mp4?poster=a.mp4", "yard.mp4"),
        ("https://host/get?token=secret", "get"),
    ],
)
def test_keys_of_buckets_and_queries_may_name_the_video(reference: str, expected: str) -> None:
    assert paths_in(reference)[0] == expected
    assert not any("secret" in path for path in paths_in(reference))


def test_uploads_are_found_under_the_name_that_they_had(tmp_path: Path) -> None:
    """Django's `get_valid_filename`: blanks become underscores, and all but letters, digits, `-_.` goes."""
    assert stored_name("yard cam (1), left.mp4") == "yard_cam_1_left.mp4"
    assert stored_name("e\u0301te\u0301.mp4") == "\u00e9t\u00e9.mp4"
    (tmp_path / "yard cam (1), left.mp4").write_bytes(b"x")
    found = Footage(tmp_path, Options()).find("/data/upload/3/0a1b2c3d-yard_cam_1_left.mp4")
    assert found == tmp_path / "yard cam (1), left.mp4"
    (tmp_path / "yard_cam_1_left.mp4").write_bytes(b"x")  # the very name goes before
    found = Footage(tmp_path, Options()).find("/data/upload/3/0a1b2c3d-yard_cam_1_left.mp4")
    assert found == tmp_path / "yard_cam_1_left.mp4"
