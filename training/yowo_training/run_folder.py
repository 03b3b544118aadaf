"""The files of a training run for people: results.csv, plots, and sheets of clips and predictions."""

from __future__ import annotations

import csv
import io
import math
from importlib.util import find_spec
from pathlib import Path
from time import monotonic

import numpy as np

from yowo_deploy.arrays import Frame
from yowo_deploy.datasets.anchors import box_sizes
from yowo_deploy.datasets.base import AnnotatedVideo
from yowo_deploy.errors import foreign
from yowo_deploy.evaluation import detect_frames
from yowo_deploy.files import write_text
from yowo_deploy.video.reader import open_video
from yowo_deploy.visuals.draw import contact_sheet, draw
from yowo_deploy.visuals.image_io import write_picture
from yowo_training.checkpoints.checkpoint import load_checkpoint
from yowo_training.data.batch_preview import show_batch
from yowo_training.data.clip_sampler import batches
from yowo_training.torch_backend import TorchBackend
from yowo_training.trainer import Report, Run

MEASURED = ("seconds", "clips_per_s", "rate", "loss", "box_loss", "confidence_loss", "class_loss", "clip_loss")
COLUMNS = ("epoch", "step", *MEASURED, "frame_map", "recall", "accuracy")
# Between two writes of results.csv without a validation, as an epoch may be one step; and between two drawings of it,
# as a validation may be quicker than a plot.
WRITE_EVERY_S = 10.0
SHOWN = 8  # held-out videos on the sheet of predictions
USUAL_FPS = 25.0  # where the rate is unknown


class RunFolder:
    """Writes results.csv, and with matplotlib the plots, beside the checkpoints of a run.

    A row of results.csv is an epoch, counted from 1, or what a process did of it: `seconds` of the run at its end,
    `rate` and `clips_per_s` at its end, losses as means over its steps, and the figures of the validations in it.
    """

    def __init__(self, run: Run) -> None:
        self._run, self._plots = run, find_spec("matplotlib") is not None
        self._rows = [row for row in _read(run.output / "results.csv") if row["step"] <= run.progress.step]
        self._epoch: list[Report] = []
        self._written = self._drawn = monotonic()
        self._undrawn = bool(self._rows)  # of a killed process, which may not have drawn them

    def begin(self) -> None:
        """Write labels.png and train_batch0.png."""
        run = self._run
        if run.progress.step:
            return
        first = next(batches(run.sampled, run.spec, run.recipe, run.seed, cache=run.cache))
        write_picture(run.output / "train_batch0.png", show_batch(first, run.spec))
        if self._plots:
            from yowo_deploy.visuals.plots import data_plot

            videos = (*run.training, *run.held_out)
            counts = [np.bincount([t.class_id for v in side for t in v.tubes], minlength=run.spec.classes)
                      for side in (run.training, run.held_out)]  # fmt: skip
            lengths = [len(tube) / (video.fps or USUAL_FPS) for video in videos for tube in video.tubes]
            sizes, anchors = box_sizes(videos, run.spec.grid_size), np.array(run.spec.anchors)
            pairs = list(zip(*(side.tolist() for side in counts), strict=True))
            path = run.output / "labels.png"
            data_plot(run.spec.labels, pairs, lengths, sizes, anchors, path, ("train", "held out"))

    def add(self, report: Report) -> None:
        """Count one step; a validation writes everything that depends on it, results.png at times."""
        if self._epoch and report.epoch != self._epoch[0].epoch:
            self._rows.append(self._row())
            self._epoch = []
        self._epoch.append(report)
        self._undrawn |= report.frame_map is not None
        if report.frame_map is not None or monotonic() - self._written > WRITE_EVERY_S:
            self._write()
        if self._undrawn and monotonic() - self._drawn > WRITE_EVERY_S:
            self._draw()
        if report.frame_map is not None and report.frame_map == self._run.progress.best_map:
            self._plot_figures()

    def end(self) -> None:
        """Write what is left, and val_batch0_pred.png by best.pt, also if a run that is over was killed before it."""
        picture = self._run.output / "val_batch0_pred.png"
        if self._epoch:
            self._write()
        if self._epoch or (self._run.best.exists() and not picture.exists()):
            if self._undrawn:
                self._draw()
            write_picture(picture, self._predictions())

    def _all_rows(self) -> list[dict[str, float]]:
        return [*self._rows, self._row()] if self._epoch else self._rows

    def _row(self) -> dict[str, float]:
        last = self._epoch[-1]
        names = {name for report in self._epoch for name in report.parts}
        row = {"epoch": last.epoch + 1, "step": last.step, "seconds": last.seconds, "clips_per_s": last.clips_per_s}
        row |= {"rate": last.rate, "loss": float(np.mean([report.loss for report in self._epoch]))}
        for name in names:
            values = [report.parts[name] for report in self._epoch if name in report.parts]
            row[f"{name}_loss"] = float(np.mean(values))
        found = self._run.latest
        if found is not None and any(report.frame_map is not None for report in self._epoch):
            row |= {"frame_map": found.frame_map.mean, "recall": found.recall, "accuracy": found.accuracy}
        return row

    def _write(self) -> None:
        self._written = monotonic()
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" for k, v in row.items() if not math.isnan(v)} for row in self._all_rows())
        write_text(self._run.output / "results.csv", text.getvalue())

    def _draw(self) -> None:
        self._drawn, self._undrawn = monotonic(), False
        if self._plots:
            from yowo_deploy.visuals.plots import training_plot

            rows = self._all_rows()
            columns = {name: np.array([row.get(name, math.nan) for row in rows]) for name in COLUMNS}
            training_plot(columns, self._run.output / "results.png")

    def _plot_figures(self) -> None:
        found, output = self._run.chosen, self._run.output
        if found is None or not self._plots:
            return
        from yowo_deploy.visuals.plots import confusion_plot, precision_recall_plot

        precision_recall_plot(found.frame_map.curves, found.labels, output / "BoxPR_curve.png")
        if found.confusion is not None:
            confusion_plot(found.confusion, found.labels, output / "confusion_matrix.png")

    def _predictions(self) -> Frame:
        """The middle annotated frame of some held-out videos with what best.pt finds; the truth as caption."""
        backend = TorchBackend.of(load_checkpoint(self._run.best))
        videos = (self._run.held_out or self._run.training)[:SHOWN]
        pictures, captions = [], []
        for video in videos:
            annotated = video.annotated_frames()
            number = int(annotated[len(annotated) // 2])
            with open_video(video.path, allow_damaged=True) as reader:
                frame = next(reader.window(number, number), None)
            if frame is not None:
                pictures.append(self._predicted(backend, video, number, frame))
                captions.append(f"{video.name}: {', '.join(_truth(video, number, backend.spec.labels))}")
        return contact_sheet(pictures, columns=4, captions=captions, cell_width=320)

    def _predicted(self, backend: TorchBackend, video: AnnotatedVideo, number: int, frame: Frame) -> Frame:
        found = detect_frames(backend, video, {number})[number]
        shown = found[found.confidence > backend.spec.confidence_threshold]
        return draw(frame, shown, backend.spec.labels)


def _truth(video: AnnotatedVideo, number: int, labels: tuple[str, ...]) -> list[str]:
    return [labels[tube.class_id] for tube in video.tubes if number in tube.frames]


def _read(path: Path) -> list[dict[str, float]]:
    """The rows of an earlier results.csv; empty where there is none."""
    if not path.is_file():
        return []
    with foreign(f"{path} is damaged, remove it"), path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        rows = [{k: float(v) for k, v in row.items() if v} for row in reader]
        if "step" not in (reader.fieldnames or ["step"]) or not all(row["step"] >= 1 for row in rows):
            raise ValueError("a row has no step")
        return rows
