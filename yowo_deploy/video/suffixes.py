"""Suffixes of the video and picture files that this project reads."""

from __future__ import annotations

import os

VIDEO_SUFFIXES: tuple[str, ...] = (
    ".avi",
    ".mp4",
    ".mkv",
    ".webm",
    ".mov",
    ".mpg",
    ".mpeg",
    ".m4v",
    ".mpg4",
    ".flv",
    ".ogv",
    ".ts",
)
VIDEO_SUFFIXES += (".mts", ".m2ts", ".3gp", ".3g2", ".wmv", ".asf", ".divx", ".vob", ".qt", ".m2v", ".f4v")
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def is_video(name: str | os.PathLike[str]) -> bool:
    """Whether a file's name ends as a video's, in upper or lower case."""
    return os.fspath(name).lower().endswith(VIDEO_SUFFIXES)


def is_picture(name: str | os.PathLike[str]) -> bool:
    """Whether a file's name ends as a picture's, in upper or lower case."""
    return os.fspath(name).lower().endswith(PICTURE_SUFFIXES)
