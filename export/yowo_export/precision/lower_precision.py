"""Convert an ONNX file to a lower precision on clips of the user's videos, with a report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from yowo_deploy.diagnostics.system_info import provenance
from yowo_deploy.errors import InputError, OutputError
from yowo_deploy.files import refuse_overwriting, write_text
from yowo_deploy.model_files.onnx_reader import read_spec
from yowo_deploy.reporter import Reporter
from yowo_deploy.visuals.image_io import PAGES, check_suffix
from yowo_export.precision.convert import Lower, Outcome, Wish, damage_report, lower_model
from yowo_export.precision.int8 import Target
from yowo_export.precision.ranges import Method
from yowo_export.sample_clips import made_up_clips, take_clips

SYNTHETIC_CLIPS = 16  # to check half precision on where no video is given


@dataclass(frozen=True)
class LowerPrecision:
    """A precision below float32, and the videos that it is calibrated and checked on.

        LowerPrecision("int8", ["videos"], max_drop=1, report="int8.html")

    Attributes:
        precision: "fp16", "bf16" or "int8"; layers that overflow or matter stay in higher precision.
        calibration: videos, folders with videos, or data.json, like those to come; "int8" needs some.
        clips: clips taken of them.
        method: how INT8 ranges are derived from the observed values.
        max_drop: percent of detection scores that INT8 may cost on the clips; None is no limit.
        report: HTML page that ranks the blocks by the accuracy each costs.

    Raises:
        InputError: INT8 without calibration, or a limit for another precision.
    """

    precision: Lower
    calibration: Sequence[str | os.PathLike[str]] = ()
    clips: int = 128
    method: Method = "percentile"
    max_drop: float | None = None
    report: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        if self.precision == "int8" and not self.calibration:
            raise InputError("INT8 needs videos like those it will see: give some with --calibration")
        if self.precision != "int8" and self.max_drop is not None:
            raise InputError("--max-drop is only for --int8: leave it out, 16 bits may cost 1 % of the raw outputs")

    def refuse_outputs(self, source: Path, output: Path) -> None:
        """Raise an OutputError when the model would replace what it is calibrated on, or the report one of the models.

        Also for a report that is named as no page: it could replace a video.
        """
        for each in self.calibration:
            refuse_overwriting(each, output)
        if self.report is None:
            return
        refuse_overwriting(source, self.report)
        if os.path.realpath(self.report) == os.path.realpath(output):
            raise OutputError(f"{self.report} is the model that is written: give another name for the report")
        check_suffix(self.report, *PAGES)

    def convert(
        self, source: Path, output: Path, target: Target, fused: bool, streaming: bool, reporter: Reporter
    ) -> Outcome:
        """Write a float32 ONNX file in this precision.

        Args:
            source, output: the float32 file, and the file to write.
            target, fused, streaming: see `Wish`.
            reporter: receives messages and progress.

        Raises:
            YowoError: see `lower_model`; or a video cannot be read.
        """
        spec = read_spec(source)
        if self.calibration:
            with reporter.progress("reading clips", 1.0) as update:
                clips = take_clips([Path(each) for each in self.calibration], spec, self.clips, update)
            skipped = f"; {clips.skipped} files could not be read and were left out" if clips.skipped else ""
            reporter.message(f"{len(clips)} clips of {clips.videos} videos{skipped}")
        else:
            clips = made_up_clips(spec, SYNTHETIC_CLIPS)
            reporter.message("no --calibration: values are checked on synthetic frames")
        wish = Wish(self.precision, target, self.method, fused, self.max_drop, self.report is not None, streaming)
        found = lower_model(source, output, clips, wish, reporter=reporter)
        kept = f"; kept in higher precision: {', '.join(found.kept)}" if found.kept else ""
        reporter.message(
            f"{self.precision}: {found.damage.score_lost:.2f} % of the scores of {found.detections} detections lost, "
            f"raw outputs differ by {found.damage.raw:.1e}{kept}"
        )
        return found

    def write_report(self, found: Outcome, source: Path, output: Path) -> None:
        """Write the report, if one is wanted.

        Args:
            found: the outcome of `convert`.
            source, output: the model given and the file made of it, whose hashes it shows.

        Raises:
            OutputError: it cannot be written.
        """
        if self.report is not None:
            made_of = provenance({"source": source, "result": output})
            write_text(self.report, damage_report(f"{output.name} in {self.precision}", found, made_of))
