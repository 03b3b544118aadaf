"""MOTChallenge's rows in the layouts of other tools: results of trackers, exports without `seqinfo.ini`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from yowo_deploy.datasets.data_json import Annotations
from yowo_deploy.datasets.formats.box_rows import Options
from yowo_deploy.datasets.importer import import_annotations, recognise

Write = Callable[..., None]
ROWS = "1,1,1,1,8,8,0.9,-1,-1,-1\n3,1,1,1,8,8,0.9,-1,-1,-1\n"


def read(source: Path, **options: object) -> tuple[Annotations, list[str]]:
    assert recognise(source) == "mot"
    return import_annotations(source, "mot", Options(**options))  # type: ignore[arg-type]


def test_results_of_a_tracker_are_called_after_their_files(tmp_path: Path, write_video: Write) -> None:
    """ByteTrack's and TrackEval's layout: a `NAME.txt` for each sequence, in one folder."""
    for name in ("yard", "roof"):
        (tmp_path / f"{name}.txt").write_text(ROWS)
        write_video(tmp_path / "videos" / f"{name}.avi", frames=4)
    (tmp_path / "labels.txt").write_text("walk\n")
    found, _ = read(tmp_path)
    assert found.classes == ("walk",)
    assert {video.name: video.path.name for video in found.videos} == {"yard": "yard.avi", "roof": "roof.avi"}
    alone, notes = read(tmp_path / "yard.txt", videos=(tmp_path / "videos",))
    assert alone.videos[0].path.name == "yard.avi" and not any("does not name" in note for note in notes)


def test_rows_that_name_no_video_are_of_the_only_one_there(tmp_path: Path, write_video: Write) -> None:
    """CVAT exports `gt/gt.txt` and `gt/labels.txt` alone where pictures are not saved along."""
    (tmp_path / "gt").mkdir()
    (tmp_path / "gt" / "gt.txt").write_text(ROWS)
    write_video(tmp_path / "yard.avi", frames=4)
    found, notes = read(tmp_path)
    assert found.videos[0].path == tmp_path / "yard.avi" and found.videos[0].frames == 4
    assert any("does not name its video: the only one there is used, yard.avi" in note for note in notes)
    write_video(tmp_path / "roof.avi", frames=4)
    found, notes = read(tmp_path)
    assert not found.videos[0].path.is_file()
    assert any("and 2 are there: give --videos a folder with only its video, or rename" in note for note in notes)


def test_a_video_that_is_too_short_is_another(tmp_path: Path, write_video: Write) -> None:
    (tmp_path / "gt.txt").write_text(ROWS)
    write_video(tmp_path / "yard.avi", frames=2)
    found, notes = read(tmp_path)
    assert not found.videos[0].path.is_file()
    assert any("yard.avi, is another (64x48, 2 frames)" in note for note in notes)
