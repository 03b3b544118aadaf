"""Link detections into tubes while the video runs, with class scores averaged along each tube."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.arrays import Float, Int
from yowo_deploy.boxes import Detections, Tube, iou_matrix
from yowo_deploy.errors import InputError

# Share of the box before, a frame later. On the test videos of J-HMDB-21 it halved the boxes that miss the truth by
# little: frame-mAP 54.6 without, 55.0 with 0.3, 55.2 with 0.5.
BOX_INERTIA = 0.5
MAX_GAP = 50  # frames
TUBE_DECAY = 0.97  # a frame; between 0.9 and 1 nothing changes but how fast labels follow


class OnlineLinker:
    """Follows people while the video runs: every frame's detections in, the tubes that are shown out.

    A person keeps one id, whatever the class of the moment. Causal: later frames change nothing that was given out.
    A copied or pickled linker goes on as the original would.

    Class scores are averaged along the tube: the score of a class is objectness times the mean of the class's
    probabilities so far, weighted by objectness and by `decay` to the power of their age in frames. Boxes move half
    way from where they were shown last to where they are found (`BOX_INERTIA`). With `decay` 0 every frame stands
    alone. On split 1 of J-HMDB-21 both raise the shipped model's frame-mAP (docs/detect.md).

    Boxes have hysteresis: a person appears, and gets an id, when a score exceeds `appear`, and is then shown while the
    objectness of its box exceeds `keep`. Objectness tells people from background better than scores do, which are low
    where the class is uncertain. Without `keep` every box has to exceed `appear` itself. People who have not appeared
    yet are followed without being shown.

    Args:
        patience: pushes without a box after which a tube ends.
        min_iou: a box that overlaps a tube's last one by less is not its next one. Among those that are left, scores
            decide (equation 12 without the overlap, for the class that links them best): with the overlap in the sum,
            video-mAP@0.5 on the J-HMDB-21 detections was 53 instead of 60.
        memory: frames that a tube remembers at least; older ones count only in its scores.
        alpha: weight of the product of two scores in the link strength (equation 12).
        max_gap: frames that were never pushed, in a row, after which every tube ends.
        min_frames: pushes with a shown box; tubes with fewer are not among those that end.
        decay: weight of a probability one frame older, 0 to 1.
        appear: score that a box must exceed for a person to appear; every box exceeds the default.
        keep: objectness that the box of a shown person must exceed; None: see above.

    Attributes:
        shown: the detections that are shown of the last push, best first, with averaged scores and `tracker_id`.

    Raises:
        InputError: patience is negative, memory less than one frame, or decay outside 0 to 1.
    """

    def __init__(
        self,
        patience: int = 5,
        min_iou: float = 0.2,
        memory: int = 1000,
        alpha: float = 0.5,
        max_gap: int = MAX_GAP,
        min_frames: int = 1,
        decay: float = 0.0,
        appear: float = -1.0,
        keep: float | None = None,
    ) -> None:
        if patience < 0 or memory < 1:
            raise InputError(f"patience {patience} and memory {memory}: expected at least 0 and 1 frames")
        if not 0 <= decay <= 1:
            raise InputError(f"decay is {decay}, expected 0 to 1")
        self._patience, self._min_iou, self._memory, self._alpha = patience, min_iou, memory, alpha
        self._max_gap, self._min_frames = max_gap, min_frames
        self._decay, self._appear, self._keep = decay, appear, keep
        self._alive: list[_Person] = []
        self._ended: list[Tube] = []
        self._frame, self._pushes, self._next_id = -1, 0, 0
        self.shown = replace(Detections.empty(0), tracker_id=np.zeros(0, np.int64))

    @property
    def tracker_id(self) -> Int:
        """(N,) person id of each detection that is shown of the last push."""
        assert self.shown.tracker_id is not None
        return self.shown.tracker_id

    def push(self, detections: Detections, frame: int | None = None) -> list[Tube]:
        """Take the next frame's detections; returns the tubes that have a box in it, oldest first.

        Args:
            detections: all whose objectness exceeds `keep`.
            frame: its number, larger than the one before; by default the next one. In frames that are left out a tube
                has boxes on a straight line.

        Raises:
            InputError: the number is not larger.
        """
        return [person.tube() for person in sorted(self._follow(detections, frame), key=lambda each: each.tracker_id)]

    def follow(self, detections: Detections, frame: int | None = None) -> None:
        """As `push`, but builds tubes only when they end: the cost of a frame does not grow with their length."""
        self._follow(detections, frame)

    def _follow(self, detections: Detections, frame: int | None) -> list[_Person]:
        """Take the next frame's detections; who is shown in it."""
        number = self._frame + 1 if frame is None else frame
        if number <= self._frame:
            raise InputError(f"frame {number} comes after frame {self._frame}: begin a new video with a new linker")
        if number - self._frame - 1 > self._max_gap:
            self._end(self._alive)
        self._frame = number
        self._pushes += 1
        matched = self._matched(detections)
        people = [matched.get(row) or self._new(detections.scores.shape[1]) for row in range(len(detections))]
        objectness = detections.confidence if detections.objectness is None else detections.objectness
        averaged = self._averaged(detections, objectness, people)
        shown: list[tuple[int, _Person]] = []
        order = np.argsort(-averaged.confidence, kind="stable") if self._decay else range(len(averaged))
        for row in map(int, order):
            person, appears = people[row], bool(averaged.confidence[row] > self._appear)
            person.see(detections.xyxy[row], detections.scores[row], self._pushes)
            if person.tracker_id < 0 and appears:
                person.tracker_id = self._next_id
                self._next_id += 1
            if appears if self._keep is None else person.tracker_id >= 0 and objectness[row] > self._keep:
                person.append(number, averaged.xyxy[row], averaged.scores[row])
                shown.append((row, person))
        ids = np.array([person.tracker_id for _, person in shown], np.int64)
        self.shown = replace(averaged[[row for row, _ in shown]], tracker_id=ids)
        self._end([person for person in self._alive if self._pushes - person.last_push > self._patience])
        return [person for _, person in shown]

    def finished(self) -> list[Tube]:
        """The tubes that ended since the last call; they are forgotten then."""
        ended, self._ended = self._ended, []
        return ended

    def close(self) -> list[Tube]:
        """End every tube; returns `finished()`."""
        self._end(self._alive)
        return self.finished()

    def _new(self, classes: int) -> _Person:
        person = _Person(self._memory, classes)
        self._alive.append(person)
        return person

    def _end(self, over: Sequence[_Person]) -> None:
        gone = set(map(id, over))
        self._ended += [person.tube() for person in over if person.tracker_id >= 0 and person.shown >= self._min_frames]
        self._alive = [person for person in self._alive if id(person) not in gone]

    def _averaged(self, detections: Detections, objectness: Float, people: Sequence[_Person]) -> Detections:
        """The detections with the scores of their people's tubes, in the same order."""
        if not self._decay:
            return detections
        scores, xyxy = np.empty_like(detections.scores), np.empty_like(detections.xyxy)
        for row, person in enumerate(people):
            frames = self._frame - person.last_frame
            person.average(detections.scores[row], float(objectness[row]), self._decay**frames)
            person.move(detections.xyxy[row], BOX_INERTIA**frames)
            person.last_frame = self._frame
            scores[row], xyxy[row] = objectness[row] * person.probabilities, person.box
        classes = scores.argmax(axis=1) if len(scores) else detections.class_id
        return replace(detections, xyxy=xyxy, confidence=scores.max(axis=1, initial=0), class_id=classes, scores=scores)

    def _matched(self, detections: Detections) -> dict[int, _Person]:
        """The person who goes on with a row, where there is one; the strongest links first."""
        if not self._alive or not len(detections):
            return {}
        overlap = iou_matrix(np.stack([person.last_xyxy for person in self._alive]), detections.xyxy)
        before, now = np.stack([person.mean for person in self._alive])[:, None], detections.scores[None]
        strength = (before + now + self._alpha * before * now).max(axis=2) + 1e-3 * overlap  # which decides a tie
        people, rows = np.nonzero(overlap >= self._min_iou)
        matched: dict[int, _Person] = {}
        busy: set[int] = set()
        for pair in np.argsort(-strength[people, rows], kind="stable"):
            who, row = int(people[pair]), int(rows[pair])
            if who not in busy and row not in matched:
                matched[row] = self._alive[who]
                busy.add(who)
        return matched


class _Person:
    """One track, in arrays that are written once: what was given out stays as it was.

    Attributes:
        tracker_id: -1 while the person has not appeared.
        shown: pushes in which it was shown.
        last_xyxy, last_push, last_frame: of the newest detection, shown or not.
        probabilities: of each class, averaged along the tube.
        box: corners as they are shown.
    """

    def __init__(self, memory: int, classes: int) -> None:
        self.tracker_id, self.last_push, self.shown, self.last_xyxy = -1, 0, 0, np.zeros(4)
        self.last_frame, self._last_scores = 0, np.zeros(classes)
        self._weighted, self._weight = np.zeros(classes), 0.0  # decayed sums of class scores and of objectness
        self.probabilities = np.zeros(classes)
        self.box: Float = np.zeros(4, np.float32)
        self._memory = memory
        self._rows = np.empty((16, 5 + classes))  # frame, corners, scores; of frames where the person is shown
        self._used, self._life, self._sum = 0, 0, np.zeros(classes)

    @property
    def mean(self) -> NDArray[np.float64]:
        """Of each class's scores over all frames shown; before the first of them the newest scores."""
        return self._sum / self._life if self._life else self._last_scores

    def see(self, xyxy: Float, scores: Float, push: int) -> None:
        """Take the next detection, shown or not."""
        self.last_xyxy, self._last_scores, self.last_push = xyxy.astype(np.float64), scores.astype(np.float64), push

    def average(self, scores: Float, objectness: float, faded: float) -> None:
        """Take the next class scores; what was there counts `faded`."""
        self._weighted = faded * self._weighted + scores
        self._weight = faded * self._weight + objectness
        self.probabilities = self._weighted / self._weight if self._weight else self._weighted

    def move(self, xyxy: Float, inertia: float) -> None:
        """Take the next corners; the box that was there keeps a share of `inertia`."""
        # The first one exactly: a weighted sum of a box with itself may differ by its last bit.
        self.box = inertia * self.box + (1 - inertia) * xyxy if self.box.any() else xyxy.copy()

    def append(self, frame: int, xyxy: Float, scores: Float) -> None:
        """The next box; frames between it and the last are filled on a straight line."""
        self.shown += 1
        row = np.concatenate([[frame], xyxy, scores])
        before = self._rows[self._used - 1] if self._used else row
        steps = max(1, frame - int(before[0])) if self._used else 1
        for step in range(1, steps + 1):
            self._write(before + (row - before) * (step / steps))

    def _write(self, row: NDArray[np.float64]) -> None:
        if self._used == len(self._rows):
            kept = self._rows[max(0, self._used - self._memory) :]
            self._rows = np.concatenate([kept, np.empty_like(kept)])
            self._used = len(kept)
        self._rows[self._used] = row
        self._used += 1
        self._life += 1
        self._sum += row[5:]

    def tube(self) -> Tube:
        """What is remembered, as a tube of the class that suits it best."""
        rows, mean = self._rows[: self._used], self.mean
        best = int(mean.argmax())
        return Tube(
            best,
            np.rint(rows[:, 0]).astype(np.int64),  # interpolated: 49 * (1 / 49) is less than 1
            rows[:, 1:5].astype(np.float32),
            float(mean[best]),
            rows[:, 5 + best].astype(np.float32),
            self.tracker_id,
            mean.astype(np.float32),
        )
