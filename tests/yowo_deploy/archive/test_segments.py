"""A video in pieces gives what it gives in one pass, to the bit, wherever it is cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yowo_deploy import Detector
from yowo_deploy.archive.linking import results_of
from yowo_deploy.archive.parts import Part, PiecesDiffer
from yowo_deploy.archive.plan import Video
from yowo_deploy.archive.segments import cut_places, detect_segment, segments_at
from yowo_deploy.boxes import Detections, Tube
from yowo_deploy.detector import DetectorOptions
from yowo_deploy.model_files.default import DEFAULT
from yowo_deploy.result import Result
from yowo_deploy.video.container import KeyFrames, read_key_frames
from yowo_deploy.video.sources import open_source

SHOWN = {"confidence": 0.3, "keep": 0.2, "tube_scores": True, "cuts": True}


def pieces_of(detector: Detector, path: Path, places: list[int]) -> list[Part]:
    segments = segments_at(Video(str(path), "0" * 24), read_key_frames(path), places, detector.lead_in_frames)
    assert [each.first for each in segments] == [0, *places]
    return [detect_segment(detector, each, False, {}, lambda seconds: None) for each in segments]


def in_one_pass(detector: Detector, path: Path) -> list[Result]:
    detector.reset(str(path))
    with open_source(path) as source:
        return list(detector.stream(source))


def values(results: list[Result]) -> Iterator[tuple[Any, ...]]:
    """Everything but pixels and durations."""
    for each in results:
        found = each.frame_index, each.timestamp, each.orig_shape, each.carried, each.best_score, each.source
        yield (*found, plain(each.detections), [plain(tube) for tube in (*each.tubes, None, *each.ended) if tube])


def plain(value: Detections | Tube) -> list[Any]:
    given = [getattr(value, field.name) for field in fields(value)]
    return [(each.dtype.str, each.tolist()) if isinstance(each, np.ndarray) else each for each in given]


def check(detector: Detector, options: DetectorOptions, path: Path, places: list[int], tmp_path: Path) -> None:
    whole = in_one_pass(detector, path)
    assert any(each.tubes for each in whole)
    files = []
    for number, part in enumerate(pieces_of(detector, path, places)):
        files.append(tmp_path / f"{number}.npz")
        part.write(files[-1])
    assert list(values(list(results_of(files, detector.spec, options, str(path))))) == list(values(whole))


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("every", [1, 3])
def test_cut_anywhere_the_results_are_those_of_one_pass(
    engine: str, every: int, model: Path, film: Callable[..., Path], tmp_path: Path
) -> None:
    pytest.importorskip(engine)
    path, options = film(tmp_path / "film.avi"), DetectorOptions(every=every, **SHOWN)
    with Detector.open(model, backend=engine, threads=1, every=every, **SHOWN) as detector:
        for places in ([1, 7, 15, 16, 39], [20]):
            check(detector, options, path, places, tmp_path)


def test_a_streaming_file_is_warmed_to_the_bit(film: Callable[..., Path], tmp_path: Path) -> None:
    """The model of the package: what its maps keep depends on fifteen frames, and no others."""
    pytest.importorskip("onnxruntime")
    path, options = film(tmp_path / "film.avi", 24), DetectorOptions(confidence=1e-5, keep=1e-5)
    with Detector.open(backend="onnxruntime", threads=1, confidence=1e-5, keep=1e-5) as detector:
        assert detector.spec.streaming and detector.lead_in_frames == 15
        check(detector, options, path, [16, 18], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("clips", [False, True])
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_real_clip_cut_at_many_places(engine: str, clips: bool, data_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip(engine)
    path = sorted((data_dir / "jhmdb21" / "videos").rglob("*.avi"))[450]
    with Detector.open(DEFAULT, backend=engine, threads=1, clips=clips) as detector:
        frames = len(read_key_frames(path).times_s)
        for places in ([1, 7, 15, 16, frames - 1], [frames // 2]):
            check(detector, DetectorOptions(), path, places, tmp_path)


def test_pieces_of_another_video_are_not_joined(model: Path, film: Callable[..., Path], tmp_path: Path) -> None:
    films = [film(tmp_path / f"{seed}.avi", seed=seed) for seed in (0, 1)]
    with Detector.open(model, backend="onnxruntime", threads=1) as detector:
        one, other = (pieces_of(detector, each, [10, 20]) for each in films)
        for parts in ([one[0], other[1], one[2]], one[::2], one[:2][::-1], one[1:]):
            with pytest.raises(PiecesDiffer):
                list(results_of(parts, detector.spec))


def test_videos_are_cut_at_key_frames_into_pieces_of_one_to_two_lengths() -> None:
    times = np.arange(3000) / 10  # 300 s, with a key frame every 8.1 s
    keys = np.arange(0, 3000, 81)
    places = cut_places(KeyFrames(times, keys), 60)
    lengths_s = np.diff(times[[0, *places, 2999]])
    assert set(places) <= set(keys.tolist()) and len(places) == 3 and (lengths_s >= 60).all() and lengths_s.max() < 120
    assert cut_places(KeyFrames(times[:1190], keys[keys < 1190]), 60) == []
    assert cut_places(KeyFrames(times, keys[:1]), 60) == []
