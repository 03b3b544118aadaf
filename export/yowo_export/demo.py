"""Train, export, compare, measure and detect on synthetic videos: the whole trip as one call."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from yowo_deploy.arrays import Frame
from yowo_deploy.backends.loader import open_model
from yowo_deploy.benchmark.timing import Timing, bench_models, ratio_interval
from yowo_deploy.datasets import Dataset
from yowo_deploy.datasets.registry import open_dataset
from yowo_deploy.datasets.synthetic.generator import make_synthetic
from yowo_deploy.datasets.synthetic.stick_figures import REVERSED
from yowo_deploy.detector import Detector
from yowo_deploy.evaluation import Evaluation, evaluate
from yowo_deploy.files import refuse_existing, write_text
from yowo_deploy.preprocess.frames import resize
from yowo_deploy.reporter import Reporter
from yowo_deploy.result import Result
from yowo_deploy.sinks import VideoSink
from yowo_deploy.video.reader import VideoReader
from yowo_deploy.visuals.draw import contact_sheet
from yowo_deploy.visuals.html_report import Figure, Paragraph, Section, Table, Video, html_report
from yowo_deploy.visuals.image_io import write_picture
from yowo_export.parity.prove import Proof, Wanted, prove
from yowo_export.pipeline import export
from yowo_training import train
from yowo_training.recipes import find_recipe

RECIPE = "yowo-tiny"
# As many on every machine: sums of other parts round otherwise, and after some steps it is another network.
TRAINING_THREADS = 2
BENCH_S = 8.0
SHOWN_SIZE, SHOWN_FPS = (480, 360), 12.0
REPORT, VIDEO, SHEET = "report.html", "detections.webm", "contact_sheet.png"
MADE = ("data", "yowo", "2d", "yowo.onnx", "2d.onnx", VIDEO, SHEET, REPORT)

TableText = tuple[str, tuple[str, ...], Sequence[tuple[str, ...]]]  # title, headers, rows


@dataclasses.dataclass(frozen=True)
class Story:
    """The measured figures of a demo.

    Attributes:
        labels: of the classes.
        exported, checkpoint, flat: evaluations of the ONNX file, its checkpoint, and the 2-D branch alone.
        parity: of checkpoint and ONNX file.
        timings: of both on each backend.
        sheet: the last frame of some test videos.
        seconds: that all of it took.
        report: the HTML page that shows it.
    """

    labels: tuple[str, ...]
    exported: Evaluation
    checkpoint: Evaluation
    flat: Evaluation
    parity: Proof
    timings: list[Timing]
    sheet: Frame
    seconds: float
    report: Path

    def tables(self) -> tuple[TableText, TableText, TableText]:
        """Accuracy, parity and speed."""
        return _accuracy_table(self), _parity_table(self), _speed_table(self)


def demo(folder: str | os.PathLike[str], overwrite: bool = False, reporter: Reporter | None = None) -> Story:
    """Make videos, train with and without the 3-D branch, export, compare, measure and detect: `yowo-deploy demo`.

    Args:
        folder: for everything it makes, see `MADE`.
        overwrite: replace what an earlier demo made there.
        reporter: receives messages and progress; by default they are logged.

    Raises:
        OutputError: the folder holds one of these names, or cannot be written.
    """
    start, folder, reporter = perf_counter(), Path(folder), reporter or Reporter()
    for name in MADE:
        refuse_existing(folder / name, overwrite)
    data = folder / "data"
    reporter.message("making videos of people who sit, stand, wave, walk and raise and lower their arms")
    make_synthetic(data)
    dataset = open_dataset("synthetic", data)
    recipe = find_recipe(RECIPE)
    only_2d = dataclasses.replace(recipe, name=f"{RECIPE}-2d", backbone_3d=None, epochs=recipe.epochs // 2)
    run = partial(train, "synthetic", data=data, held_out=0.0, overwrite=overwrite, reporter=reporter)
    with _training_threads():
        both, flat = run(folder / "yowo", recipe=recipe), run(folder / "2d", recipe=only_2d)
    onnx, flat_onnx = (
        export(model, folder / name, overwrite=overwrite, reporter=reporter)
        for model, name in ((both, "yowo.onnx"), (flat, "2d.onnx"))
    )
    exported, checkpoint, flat_figures = (
        evaluate(model, "synthetic", data, reporter=reporter) for model in (onnx, both, flat_onnx)
    )
    proof = prove(both, onnx, Wanted(data, clips=32))
    timings, sheet = _bench(both, onnx, reporter), _pictures(onnx, dataset, folder)
    seconds = perf_counter() - start
    figures = exported, checkpoint, flat_figures, proof, timings, sheet, seconds
    story = Story(dataset.labels, *figures, folder / REPORT)
    write_text(story.report, _page(story))
    return story


@contextmanager
def _training_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(TRAINING_THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(before)  # the engines are measured with all cores


def _bench(checkpoint: Path, onnx: Path, reporter: Reporter) -> list[Timing]:
    with ExitStack() as stack:
        chosen = ((checkpoint, "pytorch"), (onnx, "onnxruntime"), (onnx, "openvino"))
        models = [stack.enter_context(open_model(path, backend)) for path, backend in chosen]
        update = stack.enter_context(reporter.progress("measuring", 1.0))
        return bench_models(models, seconds=BENCH_S, on_round=update)


def _pictures(model: Path, dataset: Dataset, folder: Path) -> Frame:
    """Write one annotated video of twelve test videos in a row, and a sheet with the last frame of each."""
    frames, captions = [], []
    with Detector.open(model) as detector, VideoSink(folder / VIDEO, SHOWN_FPS, SHOWN_SIZE) as sink:
        for video in dataset.videos("test")[:12]:
            detector.reset()
            with VideoReader(video.path) as reader:
                for result in detector.stream(reader):
                    shown = _enlarged(result)
                    sink.write(shown.frame, shown)
            frames.append(shown.plot())
            captions.append(", ".join(dataset.labels[tube.class_id] for tube in video.tubes))
    sheet = contact_sheet(frames, columns=3, captions=captions, cell_width=SHOWN_SIZE[0])
    write_picture(folder / SHEET, sheet)
    return sheet


def _enlarged(result: Result) -> Result:
    """The result on a frame of the size that is shown."""
    (height, width), (shown_width, shown_height) = result.orig_shape, SHOWN_SIZE
    scale = (shown_width / width, shown_height / height) * 2
    boxes = dataclasses.replace(result.detections, xyxy=result.detections.xyxy * np.array(scale, np.float32))
    return dataclasses.replace(result, frame=resize(result.frame, SHOWN_SIZE, "bicubic"), detections=boxes)


def _accuracy_table(story: Story) -> TableText:
    headers = ("frame-mAP@0.5 %, unseen videos", "2-D only", "2-D + 3-D", "difference")
    rows = [
        _accuracy_row(label, float(flat), float(both))
        for label, flat, both in zip(
            story.labels, story.flat.frame_map.per_class, story.exported.frame_map.per_class, strict=True
        )
    ]
    rows.append(_accuracy_row("mean", story.flat.frame_map.mean, story.exported.frame_map.mean))
    rows.append(_accuracy_row("right class, of the people found", story.flat.accuracy, story.exported.accuracy))
    return "Does it see which way time runs?", headers, rows


def _accuracy_row(label: str, flat: float, both: float) -> tuple[str, ...]:
    return label, f"{100 * flat:.1f}", f"{100 * both:.1f}", f"{100 * (both - flat):+.1f}"


def _parity_table(story: Story) -> TableText:
    verdict = "passed" if story.parity.passed else "FAILED"
    found = story.parity.difference
    rows = found.rows(story.parity.limits) if found else []
    on_checkpoint, on_onnx = (100 * e.frame_map.mean for e in (story.checkpoint, story.exported))
    rows.append(("frame-mAP %, PyTorch and ONNX", f"{on_checkpoint:.3f} and {on_onnx:.3f}", ""))
    return f"Is the exported file the same model? {verdict}", ("what", "found", "limit"), rows


def _speed_table(story: Story) -> TableText:
    rows = []
    for timing in story.timings:
        ratio, low, high = ratio_interval(story.timings[0], timing)
        spread = "" if timing is story.timings[0] else f"{low:.2f} to {high:.2f}"
        milliseconds = (f"{timing.percentile_ms(percent):.2f}" for percent in (50, 95))
        rows.append((timing.name, *milliseconds, f"{timing.clips_per_s:.0f}", f"{ratio:.2f}", spread))
    headers = ("backend", "p50 ms", "p95 ms", "clips/s", "times PyTorch", "95 % interval")
    return "How fast is it? One clip a call, backends in turn", headers, rows


def _page(story: Story) -> str:
    def section(table: TableText, text: str) -> Section:
        title, headers, rows = table
        return Section(title, [Paragraph(text), Table(headers, rows)])

    accuracy, parity, speed = story.tables()
    pairs = " and ".join(f"{first} / {second}" for second, first in REVERSED.items())
    return html_report(
        "yowo-deploy demo",
        [
            section(
                accuracy,
                f"The pairs {pairs} differ only in the order of their frames. A network that sees one frame cannot "
                "tell them apart; one that sees the clip can.",
            ),
            section(
                parity,
                "The checkpoint in PyTorch and the ONNX file in OpenVINO, on the same clips of unseen videos.",
            ),
            section(
                speed,
                "Measured in one run, one call of each backend in turn, on the machine that made this page.",
            ),
            Section(
                "What it sees",
                [
                    Video(VIDEO, "Twelve unseen videos, boxes and labels by the ONNX file."),
                    Figure(story.sheet, "The last frame of each; below it, what really happens there."),
                ],
            ),
        ],
        f"Videos made, model trained, exported, compared, measured and run in {story.seconds / 60:.1f} minutes.",
    )
