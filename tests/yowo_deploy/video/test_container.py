"""Frames are counted as they are shown, rates follow from times, and only a file that lacks frames is refused."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.yowo_deploy.video.made_files import cut, encode, jittered_ms, with_number, without_default_duration
from yowo_deploy.errors import VideoError
from yowo_deploy.video import container
from yowo_deploy.video.container import HEAD, is_cut, is_video_head, mean_fps, mov_times, read_packets
from yowo_deploy.video.reader import VideoReader
from yowo_deploy.video.writer import VideoWriter

EVEN_MS = list(range(0, 1600, 40))  # 40 frames in 1.6 s
UNEVEN_MS = jittered_ms(60)
FASTSTART = {"movflags": "faststart"}
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov"}


def length_s(times_ms: list[int]) -> float:
    """From the first frame to the end of the last, which lasts as long as most."""
    return (times_ms[-1] - times_ms[0] + float(np.median(np.diff(times_ms)))) / 1000


def copied(source: Path, target: Path) -> Path:
    """As `detect -o` copies a video: frame by frame, at its rate."""
    with VideoReader(source) as reader, VideoWriter(target, reader.fps, reader.size_wh) as writer:
        for frame in reader:
            writer.write(frame)
    return target


MAKERS: dict[str, Callable[[Path, list[int]], Path]] = {
    "webm": lambda path, times: encode(path, times, "libvpx", **{"deadline": "realtime", "cpu-used": "16"}),
    "chrome.webm": lambda path, times: without_default_duration(encode(path, times, "libvpx", deadline="realtime")),
    "reference.webm": lambda path, times: encode(path, times, "libvpx", **{"auto-alt-ref": "1", "lag-in-frames": "16"}),
    "mkv": encode,
    "mp4": encode,
    "phone.mp4": lambda path, times: encode(path, times, rate=90),
    "fragmented.mp4": lambda path, times: encode(path, times, container=FRAGMENTED, g="10"),
    "mov": encode,
    "flv": lambda path, times: encode(path, times, "flv"),
    "ts": encode,
}


@pytest.mark.parametrize("times_ms", [EVEN_MS, UNEVEN_MS, [*EVEN_MS, *(ms + 9000 for ms in EVEN_MS)]])
@pytest.mark.parametrize("kind", MAKERS)
def test_every_frame_comes_at_a_rate_that_keeps_the_length(kind: str, times_ms: list[int], tmp_path: Path) -> None:
    """The times are those that were written; a length differs by at most 0.1 s, as issue 21 asks."""
    path = MAKERS[kind](tmp_path / f"film.{kind}", times_ms)
    with VideoReader(path) as reader:
        found = sum(1 for _ in reader)
        assert found == reader.frames_declared == len(times_ms)
        assert found / reader.fps == pytest.approx(length_s(times_ms), abs=0.1)
    written = read_packets(copied(path, tmp_path / "copy.webm"))
    assert written.frames == len(times_ms)
    assert written.seconds == pytest.approx(length_s(times_ms), abs=0.1)


def test_a_slow_rate_keeps_the_length_of_the_last_frame(tmp_path: Path) -> None:
    """The length of the last frame is the last entry of the sample table, ISO 14496-12, 8.6.1.2: here one second."""
    path = encode(tmp_path / "lapse.mp4", [2000 * number for number in range(10)], rate=1)
    with VideoReader(path) as reader:
        assert mov_times(path).media_s in (19, 20, 21)
        assert 10 / reader.fps == pytest.approx(mov_times(path).media_s)


def test_the_last_frame_of_an_avi_without_a_time_is_no_sign_of_damage(tmp_path: Path) -> None:
    """AVI has no presentation times; of frames that are reordered the last one leaves the decoder without any."""
    path = encode(tmp_path / "film.avi", EVEN_MS, "mpeg4", bf="2")
    capture: Any = importlib.import_module("cv2").VideoCapture(str(path))
    times = []
    while capture.grab():
        times.append(capture.get(0))
    assert times[-1] == 0  # or this test tests nothing
    with VideoReader(path) as reader:
        assert sum(1 for _ in reader) == 40
        assert reader.timestamp_s == pytest.approx(1.6, abs=0.05)
    with VideoReader(path) as reader:
        assert (np.diff(reader.times_ms()) > 0).all()


@pytest.mark.parametrize(("first_ms", "shown_ms"), [(0, 800), (0, 1600), (400, 800), (800, 800), (200, 1400)])
def test_what_an_edit_list_hides_is_not_missed(first_ms: int, shown_ms: int, tmp_path: Path) -> None:
    """An entry of an edit list is the length in ticks of the movie, then the first time in ticks of the media
    (ISO 14496-12, 8.6.6); with a key frame every second the frames before the first are decoded and hidden."""
    path = encode(tmp_path / "film.mp4", EVEN_MS, bf="0", g="5", x264opts="no-scenecut")
    ticks = _media_ticks(path)
    with_number(path, b"elst", 8, shown_ms, "big")
    with_number(path, b"elst", 12, round(Fraction(first_ms, 1000) * ticks), "big")
    assert mov_times(path).shown_s == shown_ms / 1000
    with VideoReader(path) as reader:
        found = sum(1 for _ in reader)
        assert found == pytest.approx(shown_ms / 40, abs=1)
        assert found == pytest.approx(reader.frames_declared, abs=1)
        assert found / reader.fps == pytest.approx(shown_ms / 1000, abs=0.1)


def _media_ticks(path: Path) -> int:
    content = path.read_bytes()
    at = content.index(b"mdhd") + 4 + 12
    return int.from_bytes(content[at : at + 4], "big")


@pytest.mark.parametrize("kind", ["film.webm", "film.mkv", "film.mp4", "fragmented.mp4"])
def test_sound_may_last_longer_than_the_picture(kind: str, tmp_path: Path) -> None:
    container = FRAGMENTED if kind == "fragmented.mp4" else {}
    codec = "libvpx" if kind == "film.webm" else "libx264"
    path = encode(tmp_path / kind, EVEN_MS, codec, sound_s=4, container=container)
    with VideoReader(path) as reader:
        assert sum(1 for _ in reader) == reader.frames_declared == 40
        assert reader.fps == pytest.approx(25)


@pytest.mark.parametrize("declared", [0, 3, 39, 5000])
def test_a_wrong_count_in_an_avi_is_no_sign_of_damage(declared: int, tmp_path: Path) -> None:
    """Frames stand in dwTotalFrames of avih and in dwLength of the stream's strh (AVI RIFF File Reference)."""
    path = encode(tmp_path / "film.avi", EVEN_MS, "mjpeg")
    with_number(with_number(path, b"avih", 4 + 16, declared), b"strh", 4 + 32, declared)
    with VideoReader(path) as reader:
        assert sum(1 for _ in reader) == reader.frames_declared == 40


def test_an_avi_that_repeats_frames_has_the_rate_of_those_it_holds(tmp_path: Path) -> None:
    """A repeated frame is an empty chunk, which is not shown; 20 frames in 1.6 s are 12.5 a second."""
    path = encode(tmp_path / "film.avi", EVEN_MS[::2], "mjpeg")
    with VideoReader(path) as reader:
        assert sum(1 for _ in reader) == reader.frames_declared == 20
        assert reader.fps == pytest.approx(12.5, rel=0.03)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.75])
@pytest.mark.parametrize("times_ms", [EVEN_MS, UNEVEN_MS])
@pytest.mark.parametrize("kind", ["webm", "chrome.webm", "mkv", "flv", "first.mp4", "phone.mp4", "avi"])
def test_a_file_whose_end_is_missing_is_refused(kind: str, times_ms: list[int], share: float, tmp_path: Path) -> None:
    makers = MAKERS | {
        "first.mp4": lambda path, times: encode(path, times, container=FASTSTART),
        "phone.mp4": lambda path, times: encode(path, times, container=FASTSTART, rate=90),
        "avi": lambda path, times: encode(path, [40 * number for number in range(len(times))], "mjpeg"),
    }
    path = cut(makers[kind](tmp_path / f"film.{kind}", times_ms), share)
    assert is_cut(path)
    with pytest.raises(VideoError, match=r"breaks off|no frame|cannot be decoded"):
        list(VideoReader(path))
    with suppress(VideoError), VideoReader(path, allow_damaged=True) as reader:  # which may not have its first frame
        assert 0 < len(list(reader)) < 0.95 * len(times_ms)


@pytest.mark.parametrize(
    ("frames", "seconds", "stated", "expected"),
    [
        (150, 5.25, 1000.0, 150 / 5.25),  # browsers
        (150, 6.03, 60.0, 150 / 6.03),
        (100, 3.337, 30000 / 1001, 30000 / 1001),  # rounded to milliseconds
        (10, 10.3, 1.0, 10 / 10.3),  # 0.3 s of a slow rate are no rounding
        (100, 0.0, 30.0, 30.0),
        (1, 5.0, 30.0, 30.0),
        (50, 2.0, 0.0, 25.0),
    ],
)
def test_a_stated_rate_counts_where_it_fits(frames: int, seconds: float, stated: float, expected: float) -> None:
    assert mean_fps(frames, seconds, stated) == pytest.approx(expected, rel=1e-6)


def test_a_camcorders_packets_of_192_bytes_are_a_video(tmp_path: Path) -> None:
    """AVCHD: MPEG-TS packets with four bytes of arrival time before each (ISO 13818-1 in BDAV packets)."""
    path = encode(tmp_path / "film.m2ts", EVEN_MS, container={"mpegts_m2ts_mode": "1"})
    path = path.rename(tmp_path / "00001.MTS")
    content = path.read_bytes()
    assert {content[4 + 192 * number] for number in range(len(content) // 192)} == {0x47}
    with VideoReader(path) as reader:
        assert sum(1 for _ in reader) == reader.frames_declared == 40


def shifted(source: Path, target: Path, ms: int) -> Path:
    """The packets of a film at other times, as `ffmpeg -ss ... -c copy` cuts: what is before 0 an edit list hides."""
    av: Any = pytest.importorskip("av")
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        stream = written.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(video=0):
            if packet.dts is not None:
                ticks = round(Fraction(ms, 1000) / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts + ticks, packet.dts + ticks, stream
                written.mux(packet)
    return target


@pytest.mark.parametrize("bf", ["0", "3"])
@pytest.mark.parametrize("ms", [-400, -500, -1300, 700])
@pytest.mark.parametrize("kind", ["mp4", "mov"])
def test_a_cut_without_encoding_keeps_rate_and_count(kind: str, ms: int, bf: str, tmp_path: Path) -> None:
    path = shifted(encode(tmp_path / "whole.mp4", EVEN_MS, bf=bf, g="10"), tmp_path / f"cut.{kind}", ms)
    with VideoReader(path) as reader:
        assert sum(1 for _ in reader) == reader.frames_declared == sum(each + ms >= 0 for each in EVEN_MS)
        assert reader.fps == 25


def test_recordings_put_together_have_the_rate_of_each(tmp_path: Path) -> None:
    """`cat a.ts b.ts` is a valid stream of MPEG, whose times begin anew (ISO 13818-1, 2.4.3.4)."""
    path = encode(tmp_path / "film.ts", EVEN_MS)
    path.write_bytes(3 * path.read_bytes())
    with VideoReader(path) as reader:
        assert sum(1 for _ in reader) == reader.frames_declared == 120
        assert reader.fps == pytest.approx(25)


@pytest.mark.parametrize("kind", ["mp4", "mkv", "avi"])
def test_the_rate_of_a_high_speed_camera_is_no_absurd_one(kind: str, tmp_path: Path) -> None:
    path = encode(tmp_path / f"film.{kind}", range(40), "mpeg4", rate=1000)
    with VideoReader(path) as reader:
        assert sum(1 for _ in reader) == reader.frames_declared == 40
        assert reader.fps == pytest.approx(1000, rel=0.03)


def test_a_wrong_duration_in_the_header_of_a_track_changes_no_rate(tmp_path: Path) -> None:
    path = encode(tmp_path / "film.mp4", EVEN_MS)
    for duration in (1, 10_000, 2**32 - 16):
        with_number(path, b"mdhd", 16, duration, "big")
        with VideoReader(path) as reader:
            assert (reader.fps, reader.frames_declared) == (25, 40)


@pytest.mark.parametrize("begin", [1, 100, 187])
@pytest.mark.parametrize("parity", [0, 16])
def test_a_recording_from_the_air_may_begin_within_a_packet(begin: int, parity: int, tmp_path: Path) -> None:
    content = encode(tmp_path / "film.ts", EVEN_MS).read_bytes()
    packets = [content[at : at + 188] + bytes(parity) for at in range(0, len(content), 188)]
    (tmp_path / "air.ts").write_bytes(b"".join(packets)[begin:])
    with VideoReader(tmp_path / "air.ts") as reader:
        assert sum(1 for _ in reader) == 40


@pytest.mark.parametrize("text", [b"#EXTM3U\n", b"v=0\n", b"ffconcat version 1.0\n", b"a\tb\n"])
def test_no_text_is_a_recording_from_the_air(text: bytes) -> None:
    for start in range(len(text), 188):
        head = bytearray(text + b"#" * (HEAD - len(text)))
        head[start::188] = b"G" * len(head[start::188])
        assert not is_video_head(bytes(head))


def av1(path: Path) -> Path:
    av: Any = pytest.importorskip("av")
    if "libsvtav1" not in av.codecs_available:
        pytest.skip("this PyAV cannot encode AV1")
    scheduling = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        return encode(path, EVEN_MS, "libsvtav1", preset="12", **{"svtav1-params": "log-level=0"})
    finally:  # run by root, SVT-AV1 gives the thread that calls it real-time priority: every later test had the machine
        os.sched_setscheduler(0, *scheduling)


@pytest.mark.parametrize("name", ["film.mp4", "film.webm", "film.mkv"])
def test_av1_is_read_by_pyav_or_names_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = av1(tmp_path / name)
    capfd.readouterr()
    with VideoReader(path) as reader:
        frames = list(reader)
        assert (len(frames), reader.frames_declared, reader.size_wh) == (40, 40, (96, 64))
        assert reader.fps == pytest.approx(25)
        assert reader.timestamp_s == pytest.approx(1.56, abs=0.002)
    assert [int(frame[32].argmax()) // 3 for frame in frames[:3]] != [0, 0, 0]
    with VideoReader(path) as reader:
        assert [np.array_equal(*pair) for pair in zip(reader.window(5, 7), frames[5:8], strict=True)] == [True] * 3
    monkeypatch.setitem(importlib.import_module("sys").modules, "av", None)  # as if PyAV were not installed
    with pytest.raises(VideoError, match=r"AV1 needs PyAV.*yowo-deploy\[video\]"):
        VideoReader(path)
    assert capfd.readouterr().err == ""


def test_a_file_of_sound_alone_is_not_called_damaged(tmp_path: Path) -> None:
    av: Any = pytest.importorskip("av")
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux([*stream.encode(frame), *stream.encode()])
    with pytest.raises(VideoError, match="holds no video, only audio"):
        VideoReader(path)


def test_pyav_gives_the_frames_and_times_of_opencv(tmp_path: Path) -> None:
    """Two decoders of one standard: H.264 is decoded to the bit, and colours are rounded."""
    pyav = importlib.import_module("yowo_deploy.video.pyav")
    path = encode(tmp_path / "film.mp4", UNEVEN_MS)
    capture = pyav.AvCapture(path)
    with VideoReader(path) as reader:
        for frame in reader:
            found, other = capture.read()
            assert found and np.abs(frame.astype(int) - other.astype(int)).max() <= 3
            assert capture.get(0) / 1000 == pytest.approx(reader.timestamp_s, abs=1e-3)
    assert not capture.grab()
    capture.release()


def test_pyav_turns_frames_as_opencv_does(data_dir: Path) -> None:
    pyav = importlib.import_module("yowo_deploy.video.pyav")
    path = data_dir / "samples" / "decord_video_90.mov"
    capture = pyav.AvCapture(path)
    with VideoReader(path) as reader:
        for frame in reader:
            _, other = capture.read()
            assert frame.shape == other.shape and np.abs(frame.astype(int) - other.astype(int)).mean() < 3
    capture.release()


@pytest.mark.parametrize("more", [0, 1])
def test_a_table_says_the_length_of_at_most_eight_million_frames(more: int) -> None:
    """Whatever the size of the file, which may have holes: eight bytes of a table would take 32 GB."""
    table = b"".join(number.to_bytes(4, "big") for number in (0, 1, container.MAX_FRAMES + more, 1))
    assert len(container._expanded(table, 1 << 40)) == (0 if more else container.MAX_FRAMES)
