"""Sources give every frame once, in order, with its time, or say what became of it; and they always close."""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.local_camera import LocalCamera, LocalFiles, LocalRtsp, number_in, numbered
from tests.waiting import NEVER_S, stands_in, wait_until
from yowo_deploy.errors import InputError, VideoError, YowoError
from yowo_deploy.video import sources
from yowo_deploy.video.cameras import Captured
from yowo_deploy.video.reader import VideoReader
from yowo_deploy.video.sources import Policy, Source, find_sources, open_source
from yowo_deploy.video.timed_frame import TimedFrame
from yowo_deploy.video.writer import VideoWriter

FRAME = np.zeros((4, 4, 3), np.uint8)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """`close` waits for the thread that reads, however long a busy machine takes to end it."""
    monkeypatch.setattr(sources, "CLOSE_S", NEVER_S)


class Made:
    """A feed of given frames."""

    def __init__(self, captured: list[Captured], live: bool = False, failure: Exception | None = None) -> None:
        self.name, self.live, self.fps, self.size_wh, self.frames_declared = "made", live, 25.0, (4, 4), 0
        self.reconnects, self.closed, self.stopped = 0, 0, threading.Event()
        self.done = threading.Event()
        self._captured, self._failure = captured, failure

    def frames(self) -> Iterator[Captured]:
        yield from self._captured
        self.done.set()
        if self._failure:
            raise self._failure

    def stop(self) -> None:
        self.stopped.set()

    def close(self) -> None:
        self.closed += 1


class Stuck(Made):
    """Gives one frame; the next read does not return before it is allowed to."""

    def __init__(self) -> None:
        super().__init__([])
        self.stuck, self.released = threading.Event(), threading.Event()

    def frames(self) -> Iterator[Captured]:
        yield Captured(FRAME, 0.0)
        self.stuck.set()
        self.released.wait()
        yield Captured(FRAME, 1.0)


class Unreleased(Made):
    """Whose capture cannot be released."""

    def close(self) -> None:
        super().close()
        raise VideoError("the capture cannot be released")


def made(count: int, suspect: dict[int, str] | None = None) -> list[Captured]:
    return [Captured(FRAME, number / 25, (suspect or {}).get(number)) for number in range(count)]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 20),
    st.integers(1, 5),
    st.sampled_from(["wait", "drop-oldest"]),
    st.dictionaries(st.integers(0, 19), st.sampled_from(["black", "repeated"])),
    st.booleans(),
)
def test_every_frame_is_given_or_accounted_for(
    count: int, depth: int, policy: Policy, suspect: dict[int, str], give_suspect: bool
) -> None:
    feed = Made(made(count, suspect))
    wanted = [number for number in range(count) if give_suspect or number not in suspect]
    with Source(feed, policy, depth, give_suspect) as source:
        if policy == "wait":
            found = [timed.index for timed in source]
            assert found == wanted
        else:
            first = [timed.index for timed in [source._next()] if timed is not None]
            assert feed.done.wait()  # everything was captured while the reader was busy with one frame
            found = first + [timed.index for timed in source]
            rest = [number for number in wanted if number > max(first, default=-1)]
            assert found == first + rest[len(rest) - min(depth, len(rest)) :]
        counts = source.counts
    assert source.counts == counts
    assert (counts.captured, counts.given, counts.waiting) == (count, len(found), 0)
    assert sum(counts.suspect.values()) == count - len(wanted)
    assert sum(counts.dropped.values()) == len(wanted) - len(found)
    assert set(counts.dropped) <= {"overtaken"}
    assert feed.closed == 1


@pytest.mark.parametrize("failure", [None, VideoError("the file breaks off")])
def test_a_release_that_fails_ends_the_source(failure: Exception | None) -> None:
    """After its frames, and behind what failed before."""
    found = list[int]()
    with (
        Source(Unreleased(made(3), failure=failure), "wait") as source,
        pytest.raises(VideoError, match="breaks off" if failure else "cannot be released"),
    ):
        found.extend(timed.index for timed in source)
    assert found == [0, 1, 2]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-5, 20), min_size=1, max_size=30))
def test_timestamps_rise_whatever_the_file_says(times: list[int]) -> None:
    seconds = [0.125 * time for time in times]  # whose differences are exact
    with Source(Made([Captured(FRAME, second) for second in seconds]), "wait") as source:
        found = [timed.timestamp for timed in source]
    assert found[0] == 0
    assert all(before < now for before, now in pairwise(found))
    if all(before < now for before, now in pairwise(seconds)):
        assert found == [second - seconds[0] for second in seconds]


def test_what_is_left_when_a_source_is_closed_is_counted() -> None:
    feed = Made(made(20))
    with Source(feed, "wait", depth=3) as source:
        assert next(iter(source)) == (FRAME, 0, 0.0)
        assert isinstance(source, Source)
    counts = source.counts
    assert counts.given == 1 and counts.waiting == 0 and counts.captured == 1 + counts.dropped["closed"]
    assert list(source) == []
    assert feed.closed == 1 and feed.stopped.is_set()


def test_closing_before_reading_releases_the_feed() -> None:
    feed = Made(made(3))
    source = Source(feed, "wait")
    source.close()
    source.close()
    assert feed.closed >= 1 and list(source) == [] and source.counts.captured == 0


def test_a_read_that_does_not_return_does_not_hang_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "CLOSE_S", 0.1)
    feed = Stuck()
    source = Source(feed, "wait")
    found: list[TimedFrame] = []
    reader = threading.Thread(target=lambda: found.extend(source))
    reader.start()
    feed.stuck.wait()
    wait_until(lambda: source.counts.given == 1 and stands_in(reader, "_next"))
    source.close()
    reader.join()
    assert len(found) == 1
    assert feed.closed == 0  # not from here: releasing beside a read crashes
    feed.released.set()
    assert source._thread is not None
    source._thread.join()
    assert feed.closed == 1 and source.counts.dropped == {"closed": 1}


def test_an_error_comes_after_the_frames_before_it_and_once() -> None:
    with Source(Made(made(3), failure=VideoError("breaks off")), "wait") as source:
        seen = []
        with pytest.raises(VideoError, match="breaks off"):
            for timed in source:
                seen.append(timed.index)
        assert seen == [0, 1, 2] and list(source) == []


def test_large_frames_wait_in_smaller_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_WAITING_BYTES", 2 * FRAME.nbytes)
    feed = Made(made(20))
    with Source(feed, "drop-oldest", depth=8) as source:
        next(iter(source))
        assert feed.done.wait()
        assert [timed.index for timed in source] in ([19], [18, 19])


@pytest.mark.parametrize(("policy", "depth"), [("newest", None), ("wait", 0)])
def test_an_unknown_policy_is_refused(policy: Policy, depth: int | None) -> None:
    with pytest.raises(InputError, match=r"policy 'newest' is not known|depth is 0"):
        Source(Made([]), policy, depth)


def test_counts_are_said_in_a_line() -> None:
    with Source(Made(made(5, {1: "black"})), "wait") as source:
        assert len(list(source)) == 4
    assert str(source.counts) == "5 frames captured, 4 given, 1 suspect (black)"


@pytest.fixture
def webm(tmp_path: Path) -> Path:
    """Twenty numbered frames."""
    path = tmp_path / "film.webm"
    with VideoWriter(path, 25, (128, 48)) as writer:
        for number in range(20):
            writer.write(numbered(number))
    return path


def test_a_file_is_given_whole(webm: Path) -> None:
    with open_source(webm) as source:
        assert (source.live, source.policy, source.fps, source.size_wh, source.frames_declared) == (
            False,
            "wait",
            25,
            (128, 48),
            20,
        )
        found = list(source)
    assert [number_in(timed.image) for timed in found] == [timed.index for timed in found] == list(range(20))
    assert [timed.timestamp for timed in found] == [pytest.approx(number / 25) for number in range(20)]


def test_a_variable_frame_rate_keeps_its_times(tmp_path: Path) -> None:
    times_ms = [1000, 1040, 1050, 1550, 1551, 3000]
    (tmp_path / "film.mkv").write_bytes(encoded("matroska", times_ms))
    with open_source(tmp_path / "film.mkv") as source:
        found = [(number_in(timed.image), timed.timestamp) for timed in source]
    assert found == [(number, pytest.approx((ms - 1000) / 1000)) for number, ms in enumerate(times_ms)]


def encoded(container: str, times_ms: list[int]) -> bytes:
    """Numbered frames in H.264, a key frame every ten."""
    av = pytest.importorskip("av")
    written = io.BytesIO()
    with av.open(written, "w", format=container) as opened:
        stream = opened.add_stream("libx264", rate=25, options={"tune": "zerolatency", "g": "10"})
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.width, stream.height, stream.pix_fmt = 128, 48, "yuv420p"
        for number, ms in enumerate(times_ms):
            frame = av.VideoFrame.from_ndarray(numbered(number), format="bgr24")
            frame.pts = ms
            opened.mux(stream.encode(frame))
        opened.mux(stream.encode())
    return written.getvalue()


def pictures(folder: Path, count: int, stem: str = "frame", first: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    for number in range(first, first + count):
        cv2.imwrite(str(folder / f"{stem}{number}.png"), numbered(number))
    return folder


def test_pictures_are_given_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "frames", 12)
    pictures(folder, 3, stem="mask")
    with open_source(folder / "frame*.png") as source:
        found = [(number_in(timed.image), timed.timestamp) for timed in source]
    assert found == [(number, number / 25) for number in range(12)]
    with open_source(pictures(tmp_path / "alone", 3, first=7)) as source:
        assert [number_in(timed.image) for timed in source] == [7, 8, 9]


def test_a_text_may_mean_several_sources(tmp_path: Path, webm: Path) -> None:
    for name in ("b.webm", "a.webm"):
        (tmp_path / name).write_bytes(webm.read_bytes())
    folder = pictures(tmp_path / "frames", 2)
    files = [str(tmp_path / name) for name in ("a.webm", "b.webm", "film.webm")]
    assert find_sources(tmp_path) == find_sources(f"{tmp_path}/*.webm") == files
    for one in (str(folder), f"{folder}/*.png", files[0], "0", "rtsp://cam/*", f"{tmp_path}/absent.mp4"):
        assert find_sources(one) == [one]
    with open_source(f"{tmp_path}/f*.webm") as source:
        assert source.name == str(webm)
    with pytest.raises(InputError, match=r"matches 3 files, .* open each"):
        open_source(f"{tmp_path}/*.webm")


def test_videos_of_a_folder_go_before_the_pictures_beside_them(tmp_path: Path, webm: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    webm.rename(videos / "yard.webm")
    for number in range(2):
        assert cv2.imwrite(str(videos / f"yard_{number}.png"), np.zeros((48, 64, 3), np.uint8))
    assert find_sources(videos) == [str(videos / "yard.webm")]


def test_some_pictures_of_a_folder_are_called_as_they_were_asked_for(tmp_path: Path) -> None:
    for name in ("left1", "left2", "right1"):
        assert cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((48, 64, 3), np.uint8))
    with open_source(f"{tmp_path}/left*.png") as source:
        assert source.name == f"{tmp_path}/left*.png" and len(list(source)) == 2


def test_a_file_whose_name_is_a_pattern_is_that_file(tmp_path: Path, webm: Path) -> None:
    odd = tmp_path / "film[1]*.webm"
    webm.rename(odd)
    assert find_sources(odd) == [str(odd)]
    with open_source(odd) as source:
        assert len(list(source)) == 20


def test_two_stars_are_one(tmp_path: Path) -> None:
    """To pathlib they are all folders below, as of /, or an error."""
    file = tmp_path / "yard.webm"
    file.touch()
    for pattern in ("y**d.webm", "**.webm", "***"):
        assert find_sources(f"{tmp_path}/{pattern}") == [str(file)]


@pytest.mark.parametrize(
    ("text", "error", "expected"),
    [
        ("absent.mp4", InputError, "video not found"),
        ("absent*.mp4", InputError, "holds no file to read"),
        ("empty.mp4", InputError, "is empty"),
        ("text.mp4", VideoError, "is not a video"),
        ("99", VideoError, "webcam 99 cannot be opened"),
        ("9" * 20, InputError, "of 20 digits, expected 9 at most"),
        ("9" * 5000, InputError, "of 5000 digits, expected 9 at most"),
        ("concat:text.mp4|text.mp4", InputError, "video not found"),
        ("subfile,,start,0,end,9,,:text.mp4", InputError, "video not found"),
        ("file:///text.mp4", InputError, "file:// addresses are not supported"),
        ("tcp://127.0.0.1:9", InputError, "tcp:// addresses are not supported"),
        ("", InputError, "folder"),
    ],
)
def test_what_is_no_source_is_refused(
    text: str,
    error: type[YowoError],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("hello\n" * 100)
    with pytest.raises(error, match=expected):
        open_source(text)
    assert capfd.readouterr() == ("", "")


# Frames and seconds as the containers say; the second was filmed on its side.
@pytest.mark.parametrize(
    ("name", "frames", "seconds", "size_wh"),
    [
        ("decord_unordered.mov", 4, 3 / 32, (50, 50)),
        ("decord_video_90.mov", 3, 2 / 30, (320, 568)),
        ("intel_asl_walk.mkv", 89, 2.933, (640, 480)),
    ],
)
def test_real_files_are_given_whole(
    name: str, frames: int, seconds: float, size_wh: tuple[int, int], data_dir: Path
) -> None:
    with open_source(data_dir / "samples" / name) as source:
        found = list(source)
        assert source.size_wh == size_wh
    assert [timed.index for timed in found] == list(range(frames))
    assert found[-1].timestamp == pytest.approx(seconds, abs=1e-3)
    with VideoReader(data_dir / "samples" / name) as reader:
        assert all(np.array_equal(timed.image, frame) for timed, frame in zip(found, reader, strict=True))


def test_a_damaged_file_gives_its_frames_and_then_an_error(data_dir: Path) -> None:
    path, seen = data_dir / "samples" / "decord_corrupted.mp4", 0
    with open_source(path) as source, pytest.raises(VideoError, match="breaks off"):
        for _ in source:
            seen += 1
    with open_source(path, allow_damaged=True) as source:
        assert len(list(source)) == seen > 0


def test_a_picture_that_vanishes_is_an_error_in_its_place(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "frames", 9)
    with open_source(folder, depth=1) as source:
        frames = iter(source)
        (folder / "frame7.png").unlink()
        with pytest.raises(VideoError, match=r"frame7.png cannot be read"):
            for _ in range(9):
                next(frames)
        assert source.counts.given == 7


def test_a_camera_that_is_killed_and_started_again_loses_nothing_but_the_frames_between(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with LocalCamera(fps=200) as camera, open_source(camera.url, depth=99_999, timeout_s=NEVER_S) as source:
        assert (source.live, source.policy, source.frames_declared, source.size_wh) == (
            True,
            "drop-oldest",
            0,
            (128, 48),
        )
        seen, kills, times = [], 0, []
        for timed in source:
            seen.append(number_in(timed.image))
            times.append(timed.timestamp)
            if source.counts.reconnects == kills and len(seen) >= 30 * (kills + 1):
                if kills == 3:
                    break
                camera.kill()
                kills += 1
                threading.Timer(0.05, camera.start).start()
        assert source.counts.reconnects == 3
        assert source.counts.dropped == {} and [*source.counts.suspect] == []
        assert "s3cret" not in source.name
    jumps = [(before, now) for before, now in pairwise(seen) if now != before + 1]
    assert all(before < now for before, now in pairwise(seen))
    assert len(jumps) <= 3  # only where it was gone
    assert all(before < now for before, now in pairwise(times))
    assert "s3cret" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    "damage", [lambda whole: whole[: len(whole) // 2], lambda whole: b"\0" * len(whole), lambda whole: b""]
)
def test_a_camera_whose_first_pictures_are_damaged_is_waited_for(
    damage: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yowo_deploy.video.cameras.FIRST_FRAME_S", NEVER_S)
    with LocalCamera(fps=100) as camera:
        camera.damage = lambda number, whole: damage(whole) if number < 8 else whole
        with open_source(camera.url, timeout_s=NEVER_S) as source:
            first, second = (number_in(timed.image) for timed, _ in zip(source, range(2), strict=False))
    assert 8 <= first < second


def test_a_camera_that_falls_silent_is_connected_anew() -> None:
    with LocalCamera(fps=100) as camera, opened_in_time(camera.url, 0.5) as source:
        frames = iter(source)
        next(frames)
        camera.silent.set()
        before, seen = source.counts.reconnects, camera.accepted
        speaking = threading.Thread(target=lambda: (wait_until(lambda: camera.accepted > seen), camera.silent.clear()))
        speaking.start()  # to the next who connects
        for _ in frames:
            if source.counts.reconnects > before:
                break
        speaking.join()


def opened_in_time(url: str, timeout_s: float) -> Source:
    """A source with so short a time-out that a busy machine may need several tries to open it."""
    while True:
        with suppress(VideoError):
            return open_source(url, timeout_s=timeout_s)


def test_closing_ends_a_wait_for_a_camera_that_is_gone() -> None:
    with LocalCamera() as camera, open_source(camera.url, timeout_s=NEVER_S) as source:
        next(iter(source))
        camera.kill()
        assert source._thread is not None
        wait_until(lambda: stands_in(source._thread, "again"))
        source.close()
        source._thread.join()
        assert list(source) == []
    assert source.counts.waiting == 0


@pytest.mark.parametrize(
    ("greeting", "expected"),
    [
        (b"", "gives no video within"),
        (b"HTTP/1.0 404 Not Found\r\n\r\n", "gives no video within"),
        (b"HTTP/1.0 200 OK\r\n\r\n<html>no camera</html>", "gives no video within"),
        (None, "cannot be reached: Connection refused"),
    ],
)
def test_a_camera_that_is_not_there_is_an_error_without_its_password(greeting: bytes | None, expected: str) -> None:
    with LocalCamera(silent=True) as camera:
        if greeting is None:
            camera.kill()
        else:
            camera.greeting = greeting
        with pytest.raises(VideoError, match=expected) as refused:
            open_source(camera.url, timeout_s=0.8)
        assert "s3cret" not in str(refused.value)


def test_frames_that_a_slow_reader_misses_are_counted() -> None:
    with LocalCamera(fps=200) as camera, open_source(camera.url, timeout_s=NEVER_S) as source:
        found = []
        for timed in source:
            found.append((timed.index, number_in(timed.image)))
            if len(found) == 10:
                break
            wait_until(lambda timed=timed: source.counts.captured > timed.index + 5)  # of which two may wait
        first = found[0][1] - found[0][0]
        assert [number - index for index, number in found] == [first] * 10  # the gaps are where the frames are missing
    counts = source.counts
    assert counts.captured == 10 + sum(counts.dropped.values()) + sum(counts.suspect.values())
    assert counts.dropped["overtaken"] > 10


def test_black_and_repeated_frames_are_kept_back() -> None:
    def frozen(number: int) -> np.ndarray:
        return np.zeros((48, 128, 3), np.uint8) if number % 10 == 9 else numbered(number - (number % 10 == 4))

    with LocalCamera(fps=200, make=frozen) as camera, open_source(camera.url, timeout_s=NEVER_S) as source:
        found = [number_in(timed.image) for timed, _ in zip(source, range(60), strict=False)]
    assert all(number % 10 not in (4, 9) for number in found)
    assert source.counts.suspect["black"] >= 5 and source.counts.suspect["repeated"] >= 5


@pytest.mark.parametrize("cuts", [[], [0.5], [0.5, 0.7, 0.3]])
def test_a_file_behind_an_address_comes_whole_though_its_server_breaks_off(cuts: list[float], webm: Path) -> None:
    with LocalFiles(webm.read_bytes()) as server:
        server.cuts = list(cuts)
        with open_source(server.url, timeout_s=NEVER_S) as source:
            assert (source.live, source.policy, source.frames_declared) == (False, "wait", 20)
            assert [number_in(timed.image) for timed in source] == list(range(20))
        assert server.cuts == [] and (source.counts.reconnects > 0) == bool(cuts)


def test_a_damaged_file_behind_an_address_is_an_error(webm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalFiles(webm.read_bytes()) as server:
        server.cuts = [0.5] * 99
        with (
            open_source(server.url, timeout_s=NEVER_S) as source,
            pytest.raises(VideoError, match=r"breaks off: .* 20 are declared"),
        ):
            list(source)


def test_what_is_no_video_behind_an_address_is_refused_and_lists_lead_to_no_file(webm: Path) -> None:
    lists = [
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{webm}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile {webm}\n",
        f"ffconcat version 1.0\nfile 'file:{webm}'\n",
    ]
    picture = cv2.imencode(".png", numbered(1))[1].tobytes()  # FFmpeg would play it: of formats, too, there is a list
    for content in (*(text.encode() for text in lists), picture):
        with LocalFiles(content) as server:
            with pytest.raises(VideoError, match="gives no video"):
                open_source(server.url, timeout_s=NEVER_S)
            assert server.answers > 0


def test_a_stream_by_rtsp_is_read_and_found_again() -> None:
    with LocalRtsp(encoded("mpegts", [40 * number for number in range(60)])) as server:
        with open_source(server.url, policy="wait", timeout_s=NEVER_S) as source:
            assert source.live and source.name.startswith("rtsp://127.0.0.1:")
            found = [number_in(timed.image) for timed, _ in zip(source, range(100), strict=False)]
        assert source.counts.reconnects >= 1  # the reader may be ahead by one more
    again = found.index(0, 1)
    assert found[:again] == list(range(again)) and found[again:] == list(range(100 - again))
    assert again >= 58  # a stream that breaks off keeps its last frame back


def test_a_rate_is_never_absurd() -> None:
    with LocalCamera() as camera, open_source(camera.url, timeout_s=NEVER_S) as source:
        assert 0 < source.fps < 1000 and math.isfinite(source.fps)
