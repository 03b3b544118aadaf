"""Figures of a model on videos: full marks for a model that knows the truth, and the right deductions for others."""

from __future__ import annotations

import csv
import math
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from yowo_deploy.arrays import Float, Frame
from yowo_deploy.backends.base import Engine
from yowo_deploy.boxes import Tube, xyxy_to_cxcywh
from yowo_deploy.datasets.base import AnnotatedVideo
from yowo_deploy.datasets.box_files import read_table
from yowo_deploy.datasets.registry import open_dataset
from yowo_deploy.datasets.synthetic.generator import make_synthetic
from yowo_deploy.detector import Detector
from yowo_deploy.errors import DatasetError, InputError, ModelFileError
from yowo_deploy.evaluation import detect_frames, evaluate, evaluate_videos
from yowo_deploy.metrics.ava_ap import ava_map
from yowo_deploy.metrics.ava_csv import AvaCsv
from yowo_deploy.metrics.detections_log import DetectionsFile
from yowo_deploy.metrics.matching import match
from yowo_deploy.preprocess.clip_buffer import ClipBuffer
from yowo_deploy.spec import ModelSpec
from yowo_deploy.video.reader import VideoReader

WIDTH, HEIGHT = 160, 80
FRAMES = 12
STEP = 20  # grey levels from one frame to the next, by which the knowing model tells them


def frame_of(number: int) -> Frame:
    return np.full((HEIGHT, WIDTH, 3), STEP * number, np.uint8)


def box_at(number: int) -> list[float]:
    """Where the person is: walks to the right, and never has its centre on the border of two cells."""
    return [12.0 + 5 * number, 8.0, 52.0 + 5 * number, 68.0]


def video_of(folder: Path, name: str, class_id: int, annotated: range) -> AnnotatedVideo:
    path = folder / f"{name}.avi"
    writer = cv2.VideoWriter(str(path), cv2.CAP_OPENCV_MJPEG, cv2.VideoWriter.fourcc(*"MJPG"), 25, (WIDTH, HEIGHT))
    for number in range(FRAMES):
        writer.write(frame_of(number))
    writer.release()
    tube = Tube(class_id, np.array(annotated, np.int64), np.array([box_at(number) for number in annotated], np.float32))
    return AnnotatedVideo(name, name, path, FRAMES, (tube,))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[AnnotatedVideo]:
    """One person each, walking in the first and sitting in the second."""
    folder = tmp_path_factory.mktemp("videos")
    return [video_of(folder, "walk", 0, range(2, 12)), video_of(folder, "sit", 1, range(0, 10, 3))]


class Knowing(Engine):
    """Reads the number of the key frame from its grey level, and answers with the box of that frame.

    Args:
        class_ids: what it takes every person for, each as likely as the other; none where it sees nobody.
    """

    name = "knowing"

    def __init__(self, spec: ModelSpec, *class_ids: int) -> None:
        self.spec, self._class_ids = spec, class_ids
        self.key_frames: list[int] = []

    def infer(self, clips: NDArray[np.float32]) -> Float:
        columns, rows = self.spec.grid_size
        anchors = len(self.spec.anchors)
        answer = np.full((len(clips), anchors, 5 + self.spec.classes, rows, columns), -20, np.float32)
        for clip, raw in zip(clips, answer, strict=True):
            self.key_frames.append(round(255 * float(clip[:, -1].mean()) / STEP))
            if self._class_ids:
                self._put(raw, box_at(self.key_frames[-1]))
        return answer.reshape(len(clips), -1, rows, columns)

    def _put(self, raw: Float, box: list[float]) -> None:
        """The inverse of decoding, into the cell of the box's centre."""
        columns, rows = self.spec.grid_size
        x, y, w, h = xyxy_to_cxcywh(np.array(box)) / (WIDTH, HEIGHT, WIDTH, HEIGHT) * (columns, rows, columns, rows)
        column, row = int(x), int(y)
        anchor_w, anchor_h = self.spec.anchors[0]
        offsets = [math.log((at - cell) / (1 - at + cell)) for at, cell in ((x, column), (y, row))]
        raw[0, :5, row, column] = [*offsets, math.log(w / anchor_w), math.log(h / anchor_h), 20]
        for class_id in self._class_ids:
            raw[0, 5 + class_id, row, column] = 20


def test_a_model_that_knows_the_truth_gets_full_marks(videos: list[AnnotatedVideo], spec: ModelSpec) -> None:
    found = evaluate_videos(Knowing(spec, 0), videos[:1])
    assert found.frame_map.per_class.tolist()[0] == 1
    assert np.isnan(found.frame_map.per_class[1:]).all()
    assert (found.frame_map.mean, found.recall, found.accuracy) == (1, 1, 1)
    assert (found.frames, found.frames_missing) == (10, 0)


def test_clips_that_wait_for_their_turn_stay_as_they_were(
    videos: list[AnnotatedVideo], spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are looked at when as many frames as may come after them have come."""
    came, model = threading.Condition(), Knowing(spec, 0)
    made, stayed, wanted = list[Float](), list[bool](), [0, 1, 4, 8, FRAMES - 1]
    model.parallel = 2
    latest = dict(zip(wanted, wanted[model.parallel :], strict=False))  # frames that come before the answer to others

    class Counting(ClipBuffer):
        def push(self, planes: Float) -> Float:
            with came:
                clip = super().push(planes)
                made.append(clip.copy())
                came.notify_all()
            return clip

    def look(clip: Float, index: int) -> Float:
        with came:
            came.wait_for(lambda: len(made) > latest.get(index, FRAMES - 1))
            stayed.append(np.array_equal(clip[0], made[index]))
            return model.infer(clip)

    monkeypatch.setattr("yowo_deploy.backends.frame_inference.ClipBuffer", Counting)
    detect_frames(model, videos[0], set(wanted), look)
    assert sorted(model.key_frames) == wanted and stayed == [True] * len(wanted)


def test_a_model_that_takes_all_for_one_class_is_right_about_that_class(
    videos: list[AnnotatedVideo], spec: ModelSpec
) -> None:
    found = evaluate_videos(Knowing(spec, 1), videos)
    # Ten walkers and four sitters, all found and all called sitters with the same score: the ten come first, being
    # ranked by video, so precision is 1/11, 2/12, 3/13, 4/14 at the four right ones; its envelope is 4/14.
    assert found.frame_map.per_class[:2] == pytest.approx([0, 4 / 14])
    assert found.frame_map.mean == pytest.approx(2 / 14)
    assert (found.recall, found.accuracy) == (1, pytest.approx(4 / 14))
    assert found.frames == 14


def test_a_model_that_cannot_decide_is_right_about_both_classes(videos: list[AnnotatedVideo], spec: ModelSpec) -> None:
    found = evaluate_videos(Knowing(spec, 0, 1), videos[1:])  # 0.5 for the right class, which is not its first
    assert found.frame_map.per_class[1] == 1
    assert found.accuracy == 0


def test_a_model_that_sees_nobody_gets_nothing(videos: list[AnnotatedVideo], spec: ModelSpec) -> None:
    found = evaluate_videos(Knowing(spec), videos)
    assert found.frame_map.per_class[:2].tolist() == [0, 0]
    assert (found.frame_map.mean, found.recall, found.frames) == (0, 0, 14)
    assert math.isnan(found.accuracy)


def test_only_what_is_judged_is_inferred(videos: list[AnnotatedVideo], spec: ModelSpec) -> None:
    backend = Knowing(spec, 0)
    assert evaluate_videos(backend, videos[:1], every=4).frames == 3
    assert backend.key_frames == [2, 6, 10]


def test_frames_beyond_the_end_count_as_not_found(tmp_path: Path, spec: ModelSpec) -> None:
    found = evaluate_videos(Knowing(spec, 0), [video_of(tmp_path, "long", 0, range(8, 16))])
    assert (found.frames, found.frames_missing) == (8, 4)
    assert (found.frame_map.mean, found.recall, found.accuracy) == (0.5, 0.5, 1)


def test_each_video_is_announced_when_it_is_done(videos: list[AnnotatedVideo], spec: ModelSpec) -> None:
    done: list[tuple[str, int]] = []
    backend = Knowing(spec, 0)
    evaluate_videos(backend, videos, on_video=lambda video: done.append((video.name, len(backend.key_frames))))
    assert done == [("walk", 10), ("sit", 10 + 4)]


@pytest.mark.parametrize("count", [0, 1])
def test_videos_without_a_label_cannot_be_evaluated(count: int, tmp_path: Path, spec: ModelSpec) -> None:
    unlabelled = [video_of(tmp_path, "bare", 0, range(0)) for _ in range(count)]
    with pytest.raises(DatasetError, match="no annotated frame"):
        evaluate_videos(Knowing(spec, 0), unlabelled)


def test_evaluation_sees_what_the_detector_sees(
    videos: list[AnnotatedVideo], spec: ModelSpec, numpy_backend: Callable[[ModelSpec], Any]
) -> None:
    backend = numpy_backend(spec)
    wanted = {0, 5, 11, 99}
    found = detect_frames(backend, videos[0], wanted, lambda clip, _: backend.infer(clip))
    assert set(found) == {0, 5, 11}
    with VideoReader(videos[0].path) as reader:
        results = list(Detector(backend, spec.evaluation_threshold).stream(reader))
    for number, detections in found.items():
        assert len(detections) > 0
        assert np.array_equal(detections.xyxy, results[number].detections.xyxy)
        assert np.array_equal(detections.scores, results[number].detections.scores)


def test_tubes_are_judged_when_every_frame_is(videos: list[AnnotatedVideo], spec: ModelSpec) -> None:
    found = evaluate_videos(Knowing(spec, 0), videos[:1]).video_map
    assert [figure.mean for figure in found.values()] == [1, 1, 1]
    assert evaluate_videos(Knowing(spec, 0), videos[:1], every=2).video_map == {}


def test_a_run_that_was_stopped_goes_on_from_its_file(
    videos: list[AnnotatedVideo], spec: ModelSpec, tmp_path: Path
) -> None:
    path = tmp_path / "detections.txt"
    whole = evaluate_videos(Knowing(spec, 0, 1), videos, kept=DetectionsFile(path, "a"))
    text = path.read_text()
    assert read_table(path, truth=False).videos == ("walk", "sit")
    cut = text[: text.index("sit_") + 30]  # the second video is torn in the middle of a line
    path.write_text(cut)
    backend = Knowing(spec, 0, 1)
    resumed = evaluate_videos(backend, videos, kept=DetectionsFile(path, "a"))
    assert len(backend.key_frames) == 4  # of the second video alone
    assert path.read_text() == text
    assert resumed.frame_map.per_class.tolist()[:2] == pytest.approx(whole.frame_map.per_class.tolist()[:2])
    assert (resumed.recall, resumed.accuracy, resumed.frames) == (whole.recall, whole.accuracy, whole.frames)


@pytest.mark.parametrize(
    ("place", "value"),
    [(0, "walk_99999"), (0, "walk_-5"), (0, "walk_" + "9" * 30), (1, "0"), (1, "99"), (1, "1.5"), (1, "1e300"),
     (1, "nan"), (2, "nan"), (2, "7"), (2, "-1"), (3, "nan"), (5, "inf")],
)  # fmt: skip
def test_what_no_model_can_have_found_is_refused(
    place: int, value: str, videos: list[AnnotatedVideo], spec: ModelSpec, tmp_path: Path
) -> None:
    path = tmp_path / "detections.txt"
    evaluate_videos(Knowing(spec, 0, 1), videos, kept=DetectionsFile(path, "a"))
    header, row, *rest = path.read_text().split("\n")
    columns = row.split()
    columns[place] = value
    path.write_text("\n".join([header, " ".join(columns), *rest]))
    with pytest.raises(InputError, match=r"damaged.*: remove"):
        evaluate_videos(Knowing(spec, 0, 1), videos, kept=DetectionsFile(path, "a"))


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_an_answer_that_is_not_finite_ends_the_run_and_keeps_the_videos_before(
    odd: float, videos: list[AnnotatedVideo], spec: ModelSpec, tmp_path: Path
) -> None:
    class Odd(Knowing):
        def infer(self, clips: NDArray[np.float32]) -> Float:
            raw = super().infer(clips)
            if len(self.key_frames) == 10 + 3:  # all ten of the first video, and 0, 3, 6 of the second
                raw.flat[-1] = odd
            return raw

    path = tmp_path / "detections.txt"
    with pytest.raises(ModelFileError, match=r"^sit, frame 6: .*NaN or infinity"):
        evaluate_videos(Odd(spec, 0), videos, kept=DetectionsFile(path, "a"))
    assert read_table(path, truth=False).videos == ("walk",)
    assert "nan" not in path.read_text() and "inf" not in path.read_text()
    backend = Knowing(spec, 0)
    assert evaluate_videos(backend, videos, kept=DetectionsFile(path, "a")).frames == 14
    assert len(backend.key_frames) == 4


def film_of(folder: Path, name: str, class_id: int, annotated: range) -> AnnotatedVideo:
    """A video whose boxes are shares of the picture, and whose frames AVA's files name by half seconds from 902."""
    video = in_picture_of((1, 1), video_of(folder, "film", class_id, annotated))
    judged = video.annotated_frames()
    return replace(video, name=name, judged=judged, judged_s=tuple((902 + judged / 2).tolist()))


def test_detections_by_the_rules_of_ava_are_kept_in_its_csv_and_go_on_from_there(
    spec: ModelSpec, tmp_path: Path
) -> None:
    films = [film_of(tmp_path, 'a,"b"', 0, range(2, 12, 3)), film_of(tmp_path, "c", 1, range(0, 10, 3))]
    path = tmp_path / "found.csv"
    whole = evaluate_videos(Knowing(spec, 0, 1), films, kept=AvaCsv(path, "a", films), rules="ava")
    text = path.read_text()
    table = read_table(path, truth=False)
    assert set(table.videos) == {'a,"b"', "c"} and {len(row) for row in csv.reader(text.splitlines())} == {8}
    assert text.splitlines()[0].startswith('"a,""b""",0903,') and ",904.500000," in text  # frames 2 and 5
    path.write_text(text[: text.index("\nc,") + 30])  # the second film is torn in the middle of a line
    beside = Path(f"{path}.done")
    beside.write_text("\n".join(beside.read_text().split("\n")[:2]) + "\n99 byt")
    backend = Knowing(spec, 0, 1)
    resumed = evaluate_videos(backend, films, kept=AvaCsv(path, "a", films), rules="ava")
    assert len(backend.key_frames) == 4  # of the second film alone
    assert (
        path.read_text() == text and resumed.frame_map.per_class.tolist()[:2] == whole.frame_map.per_class.tolist()[:2]
    )
    with pytest.raises(InputError, match="holds other detections"):
        AvaCsv(path, "b", films)
    beside.unlink()
    with pytest.raises(InputError, match="holds other detections"):
        AvaCsv(path, "a", films)


@pytest.mark.parametrize("torn", ["# done 0 frames missing in wa", "walk_00003 1 0.5 1 2", "walk_00003 1"])
def test_a_torn_last_line_counts_for_nothing(torn: str, tmp_path: Path) -> None:
    path = tmp_path / "detections.txt"
    DetectionsFile(path, "a")
    whole = path.read_text()
    path.write_text(whole + "walk_00002 1 0.5 1 2 3 4\n" + torn)
    assert DetectionsFile(path, "a").done == {} and path.read_text() == whole


def test_detections_of_another_model_are_not_mixed_in(tmp_path: Path) -> None:
    DetectionsFile(tmp_path / "detections.txt", "a")
    with pytest.raises(InputError, match="holds other detections"):
        DetectionsFile(tmp_path / "detections.txt", "b")


def in_picture_of(size_wh: tuple[int, int], video: AnnotatedVideo) -> AnnotatedVideo:
    """The same video, its boxes measured in a picture of another size."""
    scale = np.array(size_wh * 2, np.float32) / np.array((WIDTH, HEIGHT) * 2, np.float32)
    tubes = tuple(replace(tube, xyxy=tube.xyxy * scale) for tube in video.tubes)
    return replace(video, tubes=tubes, size_wh=size_wh)


@pytest.mark.parametrize("size_wh", [(320, 240), (1, 1)])
def test_boxes_measured_in_another_picture_get_the_same_marks(
    size_wh: tuple[int, int], videos: list[AnnotatedVideo], spec: ModelSpec
) -> None:
    measured = [in_picture_of(size_wh, video) for video in videos]
    assert evaluate_videos(Knowing(spec, 1), measured).frame_map.mean == pytest.approx(2 / 14)


def test_frames_to_be_judged_may_be_more_than_the_annotated_ones(videos: list[AnnotatedVideo], spec: ModelSpec) -> None:
    # Someone is found with full score in every one of the 12 frames, and was there in the last ten.
    found = evaluate_videos(Knowing(spec, 0), [replace(videos[0], judged=np.arange(FRAMES))])
    wanted = np.mean([max(k / (k + 2) for k in range(hit, 11)) for hit in range(1, 11)])
    assert (found.frames, found.frame_map.mean) == (12, pytest.approx(wanted))


def test_by_the_rules_of_ava_there_are_no_tubes(videos: list[AnnotatedVideo], spec: ModelSpec) -> None:
    found = evaluate_videos(Knowing(spec, 0), videos[:1], rules="ava")
    assert (found.frame_map.mean, found.video_map) == (1, {})


def test_a_person_with_many_labels_is_one_box_and_other_classes_do_not_count(
    videos: list[AnnotatedVideo], spec: ModelSpec
) -> None:
    [tube] = videos[0].tubes
    busy = replace(videos[0], tubes=(tube, replace(tube, class_id=2)))
    found = evaluate_videos(Knowing(spec, 0, 1), [busy], rules="ava")
    assert (found.recall, found.frames) == (1, 10) and math.isnan(found.accuracy)
    assert found.frame_map.per_class[0] == 1 and found.frame_map.per_class[2] == 0
    # Without class 0 among the judged, its detections are not there.
    assert evaluate_videos(Knowing(spec, 0), [busy], rules="ava", judged_classes=(2,)).frame_map.per_class[0] == 0


def test_what_is_kept_of_ava_gets_the_same_marks_from_score(
    spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video_of(tmp_path, "film", 0, range(0))
    rows = "film,0902,0.1,0.1,0.35,0.9,12,0\nfilm,0903,0.1,0.1,0.4,0.9,80,0\nfilm,0904\n"
    (tmp_path / "ava_val_v2.2.csv").write_text(rows)
    monkeypatch.setattr("yowo_deploy.datasets.ava._time_line", lambda path: (902.0, 2.0, FRAMES))
    backend = Knowing(replace(spec, labels=open_dataset("ava", tmp_path).labels), 11)
    monkeypatch.setattr("yowo_deploy.evaluation.open_model", lambda path, **options: backend)
    model = tmp_path / "made-up.onnx"
    model.write_bytes(b"int8")
    for run in (1, 2):
        found = evaluate(model, "ava", tmp_path, save=tmp_path / "found.csv")
        assert len(backend.key_frames) == 3 and found.frames == 3, run
    model.write_bytes(b"INT8")  # of the same network, with the same spec: calibrated on other clips
    with pytest.raises(InputError, match="holds other detections"):
        evaluate(model, "ava", tmp_path, save=tmp_path / "found.csv")
    files = read_table(tmp_path / "found.csv", False), read_table(tmp_path / "ava_val_v2.2.csv", True)
    matched = match(*files, 80, {*files[1].moments(), *files[1].bare})
    of_file = ava_map(matched.detections, matched.truth, 80).per_class
    assert of_file == pytest.approx(found.frame_map.per_class, nan_ok=True) and of_file[11] > 0


def test_a_data_set_is_evaluated_in_one_call(
    spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_synthetic(tmp_path, videos_train=1, videos_test=2)
    dataset = open_dataset("synthetic", tmp_path)
    backend = Knowing(replace(spec, labels=dataset.labels), 0)
    monkeypatch.setattr("yowo_deploy.evaluation.open_model", lambda path, **options: backend)
    found = evaluate("made-up.onnx", "synthetic", tmp_path, every=4)
    direct = evaluate_videos(backend, dataset.videos("test"), 4)
    assert found.frame_map.mean == direct.frame_map.mean and found.frames == direct.frames > 0
    assert (found.labels, found.videos, found.videos_absent) == (dataset.labels, 2, 0)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr("yowo_deploy.evaluation.open_model", lambda path, **options: Knowing(spec, 0))
    with pytest.raises(InputError, match="has 3 classes"):
        evaluate("made-up.onnx", "synthetic", tmp_path, parallel=1)
