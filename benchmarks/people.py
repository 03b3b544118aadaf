"""How many people a model finds, whatever they do: `python -m benchmarks.people DATA [MODEL ...] [--every N]`.

DATA is the folder of UCF101-24, or a data.json, of which the test videos are judged as far as their files are there; in
a video without any box, every frame is judged: all boxes there are false.
A person is found where a box of any class overlaps the true one by an IoU of 0.5: in single frames above some scores,
and as `detect` shows people by the model's default. A false box overlaps no true one; it may still be on an unlabelled
person. The second table has the actions that are shown of the people found, and `--picture FILE.png` draws both.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from benchmarks.steadiness import shown
from yowo_deploy.arrays import Float, Int
from yowo_deploy.backends.base import Backend, Look
from yowo_deploy.backends.loader import open_model
from yowo_deploy.backends.long_term import bank_of, long_term_look
from yowo_deploy.boxes import Detections, iou_matrix
from yowo_deploy.datasets import AnnotatedVideo, open_dataset, split_present
from yowo_deploy.detector import DetectorOptions
from yowo_deploy.postprocess.decode import detect
from yowo_deploy.preprocess.clip_buffer import ClipBuffer
from yowo_deploy.preprocess.frames import preprocess
from yowo_deploy.spec import ModelSpec
from yowo_deploy.video.reader import open_video

SCORES = (0.25, 0.15, 0.1, 0.05)
DEFAULT = "default"
IOU = 0.5
WRITTEN = 7  # % of a bar from which a field has its name
NOT_JUDGED = "ignored"  # label of people who count neither as found nor as false boxes


@dataclass(frozen=True)
class Found:
    """Counts of one video: people, people found, false boxes, and frames."""

    people: int
    found: int
    false: int
    frames: int

    def __add__(self, other: Found) -> Found:
        """Both together."""
        return Found(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    @property
    def share(self) -> float:
        """People found, in %."""
        return 100 * self.found / max(1, self.people)


def count(boxes_xyxy: Float, truth_xyxy: Float, ignored_xyxy: Float) -> Found:
    """The counts of one frame; boxes on people who are not judged are not false."""
    overlap = iou_matrix(truth_xyxy, boxes_xyxy)
    alone = overlap.max(axis=0, initial=0) < IOU
    alone &= iou_matrix(boxes_xyxy, ignored_xyxy).max(axis=1, initial=0) < IOU
    return Found(len(truth_xyxy), int((overlap.max(axis=1, initial=0) >= IOU).sum()), int(alone.sum()), 1)


def judge(
    backend: Backend, video: AnnotatedVideo, ignored: int | None, every: int, features: Path | None = None
) -> tuple[dict[str, Found], Counter[str]]:
    """Counts of each N-th annotated frame by threshold, and by the model's default, which sees all frames.

    Args:
        ignored: class id of people who are not judged.
        features: folder of `yowo-deploy features`, for a checkpoint.

    Returns:
        These, and how often each action was shown, by default, of a person who was found.
    """
    spec = backend.spec
    look = long_term_look(backend, bank_of(features, video.path)) if features else None
    outputs, size_wh = raw_outputs(backend, video, look)
    by_default = shown(outputs, size_wh, spec, DetectorOptions())
    sums = dict.fromkeys([*map(str, SCORES), DEFAULT], Found(0, 0, 0, 0))
    named: Counter[str] = Counter()
    for frame in _judged(video)[::every].tolist():
        if frame < len(outputs):
            boxes, class_id = video.at(frame)
            truth, others = boxes[class_id != ignored], boxes[class_id == ignored]
            for name, found in detections(outputs[frame], by_default[frame], spec, size_wh).items():
                sums[name] += count(found.xyxy, truth, others)
            named.update(spec.labels[each] for each in actions(by_default[frame], truth))
    return sums, named


def _judged(video: AnnotatedVideo) -> Int:
    return video.annotated_frames() if video.tubes else np.arange(video.frames)


def actions(found: Detections, truth_xyxy: Float) -> list[int]:
    """The class shown of each true person who is found: that of the box that fits best."""
    overlap = iou_matrix(truth_xyxy, found.xyxy)
    if not overlap.size:
        return []
    return found.class_id[overlap.argmax(axis=1)[overlap.max(axis=1) >= IOU]].tolist()  # type: ignore[no-any-return]


def detections(
    raw: Float, by_default: Detections, spec: ModelSpec, size_wh: tuple[int, int]
) -> Mapping[str, Detections]:
    """What each threshold leaves of one output."""
    lowest = detect(raw, spec, size_wh, min(SCORES))
    return {str(score): lowest[lowest.confidence > score] for score in SCORES} | {DEFAULT: by_default}


def raw_outputs(
    backend: Backend, video: AnnotatedVideo, look: Look | None = None
) -> tuple[list[Float], tuple[int, int]]:
    """The network's output for every frame up to the last annotated one; the size that boxes are measured in.

    Args:
        look: in place of the backend's own, with a feature bank.
    """
    last, buffer, outputs = int(_judged(video)[-1]), ClipBuffer(backend.spec), []
    with open_video(video.path, allow_damaged=True) as reader:
        for frame, number in zip(reader, range(last + 1), strict=False):
            clip = buffer.push(preprocess(frame, backend.spec))[None]
            outputs.append((look(clip, number) if look else backend.infer(clip))[0])
        return outputs, video.size_wh or reader.size_wh


def table(rows: Sequence[tuple[str, Mapping[str, Found]]]) -> str:
    """Markdown: a row a video, and all together; in each cell people found in % and false boxes a frame."""
    names = [*map(str, SCORES), DEFAULT]
    lines = [f"| | people | {' | '.join(names)} |", "|---|---:|" + "---:|" * len(names)]
    total = {name: sum((sums[name] for _, sums in rows), Found(0, 0, 0, 0)) for name in names}
    for label, sums in [*rows, ("all", total)]:
        cells = (f"{sums[name].share:.0f} % ({sums[name].false / max(1, sums[name].frames):.2f})" for name in names)
        lines.append(f"| {label} | {sums[names[0]].people} | {' | '.join(cells)} |")
    return "\n".join(lines)


def named_table(rows: Sequence[tuple[str, Counter[str]]], most: int = 3) -> str:
    """Markdown: a row a video, with the actions shown most often and their share of the people found, in %."""
    lines = ["| | actions shown of the people found |", "|---|---|"]
    for label, named in rows:
        shares = (f"{action} {100 * times / named.total():.0f} %" for action, times in named.most_common(most))
        lines.append(f"| {label} | {', '.join(shares) or '-'} |")
    return "\n".join(lines)


def picture(rows: Sequence[tuple[str, Found, Counter[str]]], path: Path, most: int = 3) -> None:
    """A bar a video: people shown, by the actions shown of them; grey are those who are overlooked.

    Args:
        rows: name of the video, people by default, actions shown of those found.
        most: actions of a video that have a field of their own; the others share one.
    """
    labels = sorted({action for _, _, named in rows for action, _ in named.most_common(most)})
    colours = dict(zip(labels, colormaps["tab20"](range(len(labels))), strict=True))
    figure = Figure(figsize=(11, 1.2 + 0.5 * len(rows)), layout="constrained", dpi=110)
    axes = figure.subplots()
    for place, (_, found, named) in enumerate(rows):
        fields = [*named.most_common(most), ("others", named.total() - sum(dict(named.most_common(most)).values()))]
        left = 0.0
        for action, times in (*fields, ("overlooked", found.people - found.found)):
            width, colour = 100 * times / max(1, found.people), colours.get(action, "#bbbbbb")
            axes.barh(
                place,
                width,
                left=left,
                color="#eeeeee" if action == "overlooked" else colour,
                edgecolor="white",
                alpha=0.6,
            )
            if width >= WRITTEN:
                axes.text(left + width / 2, place, f"{action} {width:.0f}", ha="center", va="center", fontsize=8)
            left += width
    axes.set_yticks(range(len(rows)), [label for label, _, _ in rows], fontsize=9)
    axes.invert_yaxis()
    axes.set(
        xlabel="share of the people in the frames judged, %", xlim=(0, 100), title="Actions shown of the people found"
    )
    figure.savefig(path)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder of UCF101-24, or a data.json")
    parser.add_argument("models", nargs="*", default=["default"], help="model files; the shipped one by default")
    parser.add_argument("--picture", type=Path, help="PNG to draw, of the last model")
    parser.add_argument("--every", type=int, default=3, help="judge each N-th annotated frame")
    parser.add_argument("--features", type=Path, help="folder that `yowo-deploy features` wrote with this checkpoint")
    given = parser.parse_args()
    native = given.data.endswith((".json", ".json.gz"))
    dataset = open_dataset(given.data) if native else open_dataset("ucf24", Path(given.data))
    videos, _ = split_present(dataset.videos("test"))
    ignored = dataset.labels.index(NOT_JUDGED) if NOT_JUDGED in dataset.labels else None
    for model in given.models:
        with open_model(model) as backend:
            rows = [
                (video.name.rpartition("/")[2], *judge(backend, video, ignored, given.every, given.features))
                for video in videos
            ]
        print(f"{Path(model).name}: people found (false boxes a frame) above a score, and as shown by default\n")
        print(table([(label, sums) for label, sums, _ in rows]))
        print(f"\n{named_table([(label, named) for label, _, named in rows])}", flush=True)
        if given.picture:
            picture([(label, sums[DEFAULT], named) for label, sums, named in rows], given.picture)


if __name__ == "__main__":
    main()
