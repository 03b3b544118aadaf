"""Video files as other programs write them, for the tests of containers: by PyAV, which the tests skip without."""

from __future__ import annotations

import random
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

WIDTH, HEIGHT = 96, 64


def jittered_ms(count: int, steps: Sequence[int] = (16, 17, 33, 34, 50, 100)) -> list[int]:
    """Times of frames that last unequally."""
    rng, times = random.Random(0), [0]
    while len(times) < count:
        times.append(times[-1] + rng.choice(steps))
    return times


def encode(
    path: Path,
    times_ms: Sequence[int],
    codec: str = "libx264",
    rate: int = 25,
    sound_s: int = 0,
    container: dict[str, str] | None = None,
    **options: str,
) -> Path:
    """A film of one frame at each time, with as many seconds of silence as asked for."""
    av: Any = pytest.importorskip("av")
    with av.open(str(path), "w", options=container or {}) as opened:
        stream = opened.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        if codec not in ("mpeg4", "mjpeg", "mpeg2video"):  # whose frames have a rate, and no times
            stream.codec_context.time_base = Fraction(1, 1000)
        if codec == "mjpeg":
            stream.pix_fmt = "yuvj420p"
        if sound_s:
            _add_silence(av, opened, sound_s)
        for number, ms in enumerate(times_ms):
            frame = av.VideoFrame.from_ndarray(_picture(number), format="bgr24").reformat(format=stream.pix_fmt)
            base = stream.codec_context.time_base or Fraction(1, rate)
            frame.pts, frame.time_base = round(Fraction(ms, 1000) / base), base
            opened.mux(stream.encode(frame))
        opened.mux(stream.encode())
    return path


def _add_silence(av: Any, opened: Any, seconds: int) -> None:
    stream = opened.add_stream("libopus", rate=48000)
    for number in range(50 * seconds):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 2 * 960), np.int16), format="s16", layout="stereo")
        frame.sample_rate, frame.pts = 48000, 960 * number
        opened.mux(stream.encode(frame))
    opened.mux(stream.encode())


def _picture(number: int) -> Any:
    image = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    image[16:48, (3 * number) % 64 : (3 * number) % 64 + 24] = 200
    return image


def without_default_duration(webm: Path) -> Path:
    """As Chrome's MediaRecorder writes: a Void element in place of DefaultDuration, 0x23E383 (RFC 9559)."""
    content = bytearray(webm.read_bytes())
    at = content.find(b"\x23\xe3\x83")
    if at >= 0:
        size = 4 + (content[at + 3] & 0x7F)
        content[at : at + size] = bytes([0xEC, 0x80 | (size - 2)]) + bytes(size - 2)
        webm.write_bytes(content)
    return webm


def with_number(path: Path, mark: bytes, offset: int, value: int, order: Any = "little") -> Path:
    """Four bytes at `offset` behind the end of `mark` replaced by a number."""
    content = bytearray(path.read_bytes())
    at = content.index(mark) + len(mark) + offset
    content[at : at + 4] = value.to_bytes(4, order)
    path.write_bytes(content)
    return path


def cut(path: Path, share: float) -> Path:
    """The beginning of a file alone."""
    shorter = path.with_name(f"cut{path.suffix}")
    shorter.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    return shorter
