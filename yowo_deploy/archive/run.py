"""Run a model over an archive: hand out videos and their pieces, survive what fails, write the results."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Any

from yowo_deploy.archive.plan import Shard, Video, plan
from yowo_deploy.archive.progress import Progress
from yowo_deploy.archive.ray_actors import LOCAL, open_ray
from yowo_deploy.archive.segments import Segment
from yowo_deploy.archive.settings import SEGMENT_S, ArchiveSettings, Stamp
from yowo_deploy.archive.tables import has_parquet, write_tables
from yowo_deploy.archive.worker import ArchiveWorker, Cut, Done, Link
from yowo_deploy.backends.loader import admit, full_device, open_model
from yowo_deploy.detection.outputs import Outputs
from yowo_deploy.detector import DetectorOptions
from yowo_deploy.errors import InputError, foreign
from yowo_deploy.files import existing_file, sweep, writable_folder, write_text
from yowo_deploy.json_text import to_json
from yowo_deploy.keywords import checked_keywords_with
from yowo_deploy.model_files.default import DEFAULT, model_path
from yowo_deploy.model_files.plan_record import is_plan
from yowo_deploy.reporter import Reporter
from yowo_deploy.worker_pool import Outcome, Pool, ProcessPool

STALL_S = 300.0
CLUSTER_THREADS = 2  # of a worker on a cluster, whose nodes may have any number of cores
WAIT_S = 0.5  # between two looks at workers that are silent
FAILED, SUMMARY, RUN = "failed.jsonl", "summary.json", "run.json"


@dataclass(frozen=True)
class Failure:
    """A video that has no result.

    Attributes:
        source: its path.
        reason: one line.
    """

    source: str
    reason: str


@dataclass(frozen=True)
class ArchiveSummary:
    """The outcome of a run.

    Attributes:
        folder: where `tubes.parquet` and the others lie.
        videos: of the run.
        failed: those without a result.
        totals: over the others: "frames", "seconds", "detections", "tubes", "actions", "events".
        progress: at the end.
    """

    folder: Path
    videos: int
    failed: tuple[Failure, ...]
    totals: dict[str, Any]
    progress: Progress


@checked_keywords_with(open_model, "streaming")  # `clips` says it
def batch(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    model: str | os.PathLike[str] = DEFAULT,
    *,
    workers: int | None = None,
    ray: str | None = None,
    shard: Shard | str | None = None,
    resume: bool = False,
    confidence: float | None = None,
    iou: float | None = None,
    every: int = 1,
    classes: Iterable[str] = (),
    keep: float | None = None,
    tube_scores: bool | None = None,
    cuts: bool | None = None,
    whole_tubes: bool = False,
    outputs: Outputs = Outputs(),  # noqa: B008  # a frozen value
    allow_damaged: bool = False,
    clips: bool = False,
    segment_s: float = SEGMENT_S,
    stall_s: float = STALL_S,
    reporter: Reporter | None = None,
    on_progress: Callable[[Progress], object] | None = None,
    **options: Any,
) -> ArchiveSummary:
    """Run a model over many videos: `yowo-deploy batch` as one call.

        batch("videos/", "results/", workers=2).failed

    Results are to the bit those of a `Detector` that reads each video from its beginning to its end, whatever died on
    the way. If one video fails, the others continue.

    Args:
        sources: files, folders of videos, globs, and lists of them, see `plan`.
        output: folder of the results.
        model: ONNX file, plan or checkpoint; by default the model of the package.
        workers: processes or actors, each with an engine; by default two threads each, on Ray as many as fit.
        ray: address of a Ray cluster, "auto" for the one that this machine is part of, "local" for one of its own.
        shard: share of the videos, as "3/16".
        resume: continue in a folder with results: what is there is not done again, what failed is tried again.
        confidence, iou, every, keep, tube_scores, cuts: see `DetectorOptions`.
        classes: labels to keep, one or several with commas between in each text; all by default.
        whole_tubes: give each person the class probabilities of the whole tube, later frames included: not causal.
        outputs: thresholds and zones of events, see `Outputs`; its files are not written.
        allow_damaged: take what can be decoded of a broken video.
        clips: give the model whole clips, see `Detector.open`.
        segment_s: seconds of the pieces that long videos are cut into; they are up to twice as long.
        stall_s: seconds without a frame after which a worker is taken for hanging, and its video fails.
        reporter: receives messages, errors and progress; by default they are logged.
        on_progress: called now and then, and at the end.
        options: of `open_model`: backend, device, precision, threads, clip, cache, trust.

    Raises:
        InputError: no video, a list that cannot be read, or results of another model, threshold or version are there.
        OutputError: the folder cannot be written.
        YowoError: the model cannot be opened.
    """
    if not segment_s > 0 or not stall_s > 0:
        raise InputError(f"segments of {segment_s:g} s, a stall of {stall_s:g} s: expected more than 0")
    given = [sources] if isinstance(sources, (str, os.PathLike)) else sources
    share = Shard.parse(shard) if isinstance(shard, str) else shard
    shown = DetectorOptions(
        confidence, iou, every, tuple([classes] if isinstance(classes, str) else classes), keep, tube_scores, cuts
    )
    videos, folder = plan(given, share), writable_folder(output).resolve()
    target = folder if share is None else folder / "shards" / f"{share.number}-of-{share.count}"
    if not resume and (target / RUN).exists():
        raise InputError(f"{target} holds results already: continue them with --resume, or give another folder")
    sha256 = None
    if options.get("trust") is False:
        del options["trust"]
        sha256 = admit(model, **{name: value for name, value in options.items() if value is not None})
    settings = ArchiveSettings(
        folder,
        os.path.abspath(model_path(model)),
        shown,
        outputs,
        allow_damaged,
        clips,
        whole_tubes,
        segment_s,
        options,
        sha256,
    )
    run = _Run(settings, videos, reporter or Reporter(), on_progress or (lambda progress: None))
    with closing(_pool(settings, workers, ray, stall_s)) as pool:
        _claim(folder, target, pool.greeting)
        run.work(pool)
    return run.finish(target, pool)


def _pool(settings: ArchiveSettings, workers: int | None, ray: str | None, stall_s: float) -> Pool:
    cores, threads = os.cpu_count() or 1, settings.options.get("threads")
    here = workers or max(1, cores // 2)
    threads = threads or (max(1, cores // here) if ray in (None, LOCAL) else CLUSTER_THREADS)
    make = _Make(replace(settings, options={**settings.options, "threads": threads}))
    if ray is None:
        return ProcessPool(make, here, stall_s)
    device, model = settings.options.get("device"), existing_file(settings.model, "model")
    gpu = full_device(str(device)).startswith("cuda") or is_plan(model)
    return open_ray(make, here if ray == LOCAL else workers, ray, stall_s, threads, gpu)


@dataclass(frozen=True)
class _Make:
    """Makes a worker where it is to work."""

    settings: ArchiveSettings

    def __call__(self) -> ArchiveWorker:
        return ArchiveWorker(self.settings)


def _claim(folder: Path, target: Path, stamp: Stamp) -> None:
    """Say in a folder what its results are made with.

    Raises:
        InputError: it holds those of something else.
    """
    for place in {folder / RUN, target / RUN}:
        if place.is_file():
            with foreign(f"{place} is damaged, remove it or give another folder"):
                differ = stamp.differences(dict(json.loads(place.read_bytes())["detecting"]))
            if differ:
                raise InputError(f"{folder} holds results of another {', '.join(differ)}: give another folder")
        write_text(place, json.dumps({"v": 1, **vars(stamp)}, indent=1) + "\n")


@dataclass
class _Run:
    """The state of a run: what waits, what of each video is missing, what failed."""

    settings: ArchiveSettings
    videos: list[Video]
    reporter: Reporter
    on_progress: Callable[[Progress], object]
    _waiting: deque[Any] = field(default_factory=deque)
    _cut: dict[Video, tuple[tuple[Segment, ...], set[Segment]]] = field(default_factory=dict)
    _failed: dict[Video, str] = field(default_factory=dict)
    _done: dict[Video, Done] = field(default_factory=dict)
    _start: float = field(default_factory=monotonic)

    def work(self, pool: Pool) -> None:
        """Until every video is done or failed."""
        self._waiting = deque(self.videos)
        with self._shown(pool) as show:
            while self._waiting or pool.busy():
                while self._waiting and pool.idle():
                    task = self._waiting.popleft()
                    if _video_of(task) not in self._failed:
                        pool.submit(task)
                for outcome in pool.outcomes(WAIT_S):
                    self._take(outcome)
                show()

    def finish(self, target: Path, pool: Pool) -> ArchiveSummary:
        """Write the tables, the failures and the summary."""
        for room in (self.settings.folder / "parts", self.settings.folder / "videos"):
            for folder in room.glob("*"):
                sweep(folder, again=True)
        done = [video for video in self.videos if video in self._done]
        totals = write_tables(target, (self.settings.record(video) for video in done))
        if not has_parquet():
            self.reporter.message("tubes.parquet is not written: run `pip install 'yowo-deploy[archive]'`")
        failed = tuple(Failure(video.path, self._failed[video]) for video in self.videos if video in self._failed)
        write_text(target / FAILED, "".join(to_json(vars(each)) + "\n" for each in failed))
        stamp: Stamp = pool.greeting
        counts = {"v": 1, "videos": len(self.videos), "failed": len(failed), **totals}
        write_text(target / SUMMARY, json.dumps({**counts, "made_with": vars(stamp)}, indent=1) + "\n")
        progress = self._progress(pool)
        self.on_progress(progress)
        return ArchiveSummary(target, len(self.videos), failed, totals, progress)

    def _take(self, outcome: Outcome) -> None:
        video = _video_of(outcome.task)
        if outcome.reason:
            if video not in self._failed:
                self._failed[video] = outcome.reason
                named = "" if video.path in outcome.reason else f"{video.path}: "
                self.reporter.error(f"Error: {named}{outcome.reason}")
        elif isinstance(outcome.value, Done):
            self._done[video] = outcome.value
        elif isinstance(outcome.value, Cut):
            self._cut[video] = outcome.value.pieces, set(outcome.value.missing)
            self._waiting.extendleft(reversed(outcome.value.missing))
        elif video in self._cut:
            pieces, missing = self._cut[video]
            missing.discard(outcome.task)
            if not missing:
                del self._cut[video]
                self._waiting.appendleft(Link(pieces))

    @contextmanager
    def _shown(self, pool: Pool) -> Iterator[Callable[[], None]]:
        with self.reporter.progress(f"{len(self.videos)} videos", len(self.videos)) as update:

            def show() -> None:
                progress = self._progress(pool)
                self.on_progress(progress)
                update(progress.done + progress.failed + self._begun(), str(progress))

            yield show

    def _begun(self) -> float:
        """What of the videos that were cut is done, as a number of videos."""
        return sum(1 - len(missing) / len(pieces) for pieces, missing in self._cut.values())

    def _progress(self, pool: Pool) -> Progress:
        reused = sum(done.reused for done in self._done.values())
        counts = len(self.videos), len(self._done), len(self._failed), reused
        return Progress(*counts, sum(pool.done.values()), monotonic() - self._start, dict(pool.done))


def _video_of(task: Video | Segment | Link) -> Video:
    return task if isinstance(task, Video) else task.video
