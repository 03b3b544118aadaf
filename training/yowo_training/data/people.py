"""Training on people whose actions are not known: their boxes are learnt, their classes are not."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from yowo_deploy.boxes import Tube
from yowo_deploy.datasets.base import AnnotatedVideo, Dataset, split_present
from yowo_training.loss import IGNORED, UNKNOWN

NOT_JUDGED = "ignored"  # label of people who may or may not be there: neither target nor background


def with_people(
    videos: Sequence[AnnotatedVideo], people: Dataset, held_out: Collection[AnnotatedVideo] = ()
) -> list[AnnotatedVideo]:
    """The videos with more people in them, then the other training videos of `people`.

    Whatever a person does there, the class is `UNKNOWN`; with the label "ignored" `IGNORED`. Videos of `people` without
    any box are empty scenes, in which everything is background.

    Args:
        people: with a video's own path for a video that is there already, and boxes in the same pixels.
        held_out: videos that are not trained on, whatever `people` has of them.

    Raises:
        DatasetError: `people` has no training videos, or their files are not there.
    """
    present, _ = split_present(people.videos("train"))
    masked = {video.path.resolve(): replace(video, tubes=_masked(video, people.labels)) for video in present}
    for video in held_out:
        masked.pop(video.path.resolve(), None)
    known = []
    for video in videos:
        more = masked.pop(video.path.resolve(), None)
        known.append(video if more is None else replace(video, tubes=(*video.tubes, *more.tubes)))
    return [*known, *masked.values()]


def _masked(video: AnnotatedVideo, labels: Sequence[str]) -> tuple[Tube, ...]:
    return tuple(
        replace(tube, class_id=IGNORED if labels[tube.class_id] == NOT_JUDGED else UNKNOWN) for tube in video.tubes
    )
