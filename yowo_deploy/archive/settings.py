"""What an archive is run with, and the stamp that results of one kind share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from yowo_deploy.archive.plan import Video
from yowo_deploy.backends.loader import open_pinned
from yowo_deploy.closing import closed_on_error
from yowo_deploy.detection.outputs import Outputs
from yowo_deploy.detector import Detector, DetectorOptions, refuse_clips
from yowo_deploy.files import sha256_of
from yowo_deploy.model_files.default import model_path
from yowo_deploy.postprocess.class_filter import parse_classes
from yowo_deploy.spec import ModelSpec
from yowo_deploy.version import __version__

PACKAGE = Path(__file__).parent.parent
SEGMENT_S = 60.0
# What detections depend on; other rooms may change without making those that are stored another's.
DETECTING: tuple[str, ...] = ("archive", "backends", "model_files", "postprocess", "preprocess", "video")
DETECTING += ("boxes.py", "detector.py", "result_linker.py")
LIBRARIES = ("numpy", "opencv-python-headless", "onnxruntime", "openvino", "tensorrt", "torch")


@dataclass(frozen=True)
class ArchiveSettings:
    """What is the same for every video; see `batch` for the fields.

    Attributes:
        sha256: of the model, where it was tried; see `open_pinned`.
    """

    folder: Path
    model: str
    shown: DetectorOptions = field(default_factory=DetectorOptions)
    outputs: Outputs = field(default_factory=Outputs)
    allow_damaged: bool = False
    clips: bool = False
    whole_tubes: bool = False
    segment_s: float = SEGMENT_S
    options: Mapping[str, Any] = field(default_factory=dict)
    sha256: str | None = None

    def open_detector(self) -> Detector:
        """With the engine that this machine runs the model on.

        Raises:
            YowoError: it cannot be opened.
        """
        streaming = self.shown.streams(self.clips)
        with closed_on_error(open_pinned(self.model, self.sha256, streaming=streaming, **self.options)) as backend:
            refuse_clips(backend, self.clips)
            return self.shown_of(backend.spec).detector(backend)

    def shown_of(self, spec: ModelSpec) -> DetectorOptions:
        """With labels of the model in place of texts."""
        return replace(self.shown, classes=parse_classes(tuple(self.shown.classes or ()), spec.labels))

    def part(self, video: Video, number: int | None) -> Path:
        """The file of a piece of a video; None: of the whole."""
        name = "whole" if number is None else f"{number:05}"
        return self.folder / "parts" / video.key[:2] / f"{video.key}-{name}.npz"

    def record(self, video: Video) -> Path:
        """The file of what was linked of a video."""
        return self.folder / "videos" / video.key[:2] / f"{video.key}.json"

    def stamp(self, backend: str) -> Stamp:
        """Of the results of these settings on this machine."""
        shown = self.shown
        detecting = {
            "model": sha256_of(model_path(self.model)),
            "code": code_version(),
            "libraries": {name: found for name in LIBRARIES if (found := _version(name))},
            "backend": backend,
            "engine": {name: self.options.get(name) for name in ("device", "precision", "clip")},
            "clips": self.clips,
            "thresholds": {name: getattr(shown, name) for name in ("confidence", "iou", "every", "keep", "cuts")},
            "allow_damaged": self.allow_damaged,
            "segment_s": self.segment_s,
        }
        outputs = {name: getattr(self.outputs, name) for name in ("on", "off", "min_frames", "zone", "zone_anchor")}
        zones = sha256_of(self.outputs.zones) if self.outputs.zones else None
        linking = {"classes": shown.classes, "tube_scores": shown.tube_scores, "whole_tubes": self.whole_tubes}
        return Stamp(detecting, {**linking, **outputs, "zones": zones})


@dataclass(frozen=True)
class Stamp:
    """What detections depend on, and what is made of them depends on besides; as JSON has it."""

    detecting: Mapping[str, Any]
    linking: Mapping[str, Any]

    @property
    def of_parts(self) -> str:
        """A hash for stored detections."""
        return _digest(self.detecting)

    @property
    def of_records(self) -> str:
        """A hash for what was linked."""
        return _digest([self.detecting, self.linking])

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """Names of what detections depend on and that is not the same in another one's `detecting`."""
        mine = json.loads(json.dumps(self.detecting))
        return sorted(name for name in {*mine, *other} if mine.get(name) != other.get(name))


@cache
def code_version() -> str:
    """The version, and a hash of the code that detections depend on."""
    digest = hashlib.sha256()
    places = [PACKAGE / name for name in DETECTING]
    for file in sorted(file for place in places for file in ([place] if place.is_file() else place.rglob("*.py"))):
        digest.update(file.relative_to(PACKAGE).as_posix().encode() + file.read_bytes())
    return f"{__version__}+{digest.hexdigest()[:12]}"


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
