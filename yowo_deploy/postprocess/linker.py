"""Link detections into tubes online, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.arrays import Float, Int
from yowo_deploy.boxes import Detections, Tube, iou_matrix
from yowo_deploy.errors import InputError


class OnlineLinker:
    """Follows people while the video runs: every frame's detections in, the tubes that are alive out.

    A person keeps one id, whatever the class of the moment; the tube's class is that of the best mean score. Causal:
    what is pushed later changes nothing that was said. A copied or pickled linker goes on as the original would.

    Args:
        patience: pushes without a box after which a tube ends.
        min_iou: a box that overlaps a tube's last one by less is not its next one. Among those that are left, scores
            decide (equation 12 without the overlap, for the class that links them best): with the overlap in the sum,
            video-mAP@0.5 on the J-HMDB-21 detections was 53 instead of 60.
        memory: frames that a tube remembers at least; older ones count in its scores alone.
        max_gap: frames that were never pushed, in a row, after which every tube ends: nobody knows who went on.

    Attributes:
        tracker_id: (N,) person id of each detection that was pushed last.
    """

    def __init__(
        self, patience: int = 5, min_iou: float = 0.2, memory: int = 1000, alpha: float = 0.5, max_gap: int = 50
    ) -> None:
        if patience < 0 or memory < 1:
            raise InputError(f"patience {patience} and memory {memory}: expected at least 0 and 1 frames")
        self._patience, self._min_iou, self._memory, self._alpha = patience, min_iou, memory, alpha
        self._max_gap = max_gap
        self._alive: list[_Person] = []
        self._ended: list[Tube] = []
        self._frame, self._pushes, self._next_id = -1, 0, 0
        self.tracker_id: Int = np.zeros(0, np.int64)

    def push(self, detections: Detections, frame: int | None = None) -> list[Tube]:
        """Take the next frame's detections; returns the tubes that have a box in it, oldest first.

        Args:
            frame: its number, larger than the one before; by default the next one. In frames that are left out a tube
                has boxes on a straight line.

        Raises:
            InputError: the number is not larger.
        """
        return [person.tube() for person in sorted(self._follow(detections, frame), key=lambda each: each.tracker_id)]

    def follow(self, detections: Detections, frame: int | None = None) -> None:
        """As `push`, but nothing is told of tubes until they end: a frame costs the same however long they are."""
        self._follow(detections, frame)

    def _follow(self, detections: Detections, frame: int | None) -> list[_Person]:
        """Take the next frame's detections; who has them."""
        number = self._frame + 1 if frame is None else frame
        if number <= self._frame:
            raise InputError(f"frame {number} comes after frame {self._frame}: begin a new video with a new linker")
        if number - self._frame - 1 > self._max_gap:
            self._end(self._alive)
        self._frame = number
        self._pushes += 1
        going_on = self._matched(detections)
        seen = []
        for row in range(len(detections)):
            person = going_on.get(row) or self._welcome(detections.scores.shape[1])
            person.append(self._frame, detections.xyxy[row], detections.scores[row])
            person.last_push = self._pushes
            seen.append(person)
        self.tracker_id = np.array([person.tracker_id for person in seen], np.int64)
        self._end([person for person in self._alive if self._pushes - person.last_push > self._patience])
        return seen

    def finished(self) -> list[Tube]:
        """The tubes that have ended since this was last asked; they are forgotten then."""
        ended, self._ended = self._ended, []
        return ended

    def close(self) -> list[Tube]:
        """End every tube, then `finished`."""
        self._end(self._alive)
        return self.finished()

    def _welcome(self, classes: int) -> _Person:
        person = _Person(self._next_id, self._memory, classes)
        self._next_id += 1
        self._alive.append(person)
        return person

    def _end(self, over: Sequence[_Person]) -> None:
        self._ended += [person.tube() for person in over]
        self._alive = [person for person in self._alive if person not in over]

    def _matched(self, detections: Detections) -> dict[int, _Person]:
        """The person who goes on with a row, where there is one; the strongest links first."""
        if not self._alive or not len(detections):
            return {}
        overlap = iou_matrix(np.stack([person.last_xyxy for person in self._alive]), detections.xyxy)
        before, now = np.stack([person.mean for person in self._alive])[:, None], detections.scores[None]
        strength = (before + now + self._alpha * before * now).max(axis=2) + 1e-3 * overlap  # which decides a tie
        people, rows = np.nonzero(overlap >= self._min_iou)
        going_on: dict[int, _Person] = {}
        busy: set[int] = set()
        for pair in np.argsort(-strength[people, rows], kind="stable"):
            who, row = int(people[pair]), int(rows[pair])
            if who not in busy and row not in going_on:
                going_on[row] = self._alive[who]
                busy.add(who)
        return going_on


class _Person:
    """What is remembered of one track, in arrays that are written once: what was given out stays as it was."""

    def __init__(self, tracker_id: int, memory: int, classes: int) -> None:
        self.tracker_id, self._memory = tracker_id, memory
        self._rows = np.empty((16, 5 + classes))  # frame, corners, scores
        self._used, self._life, self._sum = 0, 0, np.zeros(classes)
        self.last_push = 0

    @property
    def last_xyxy(self) -> NDArray[np.float64]:
        return self._rows[self._used - 1, 1:5]

    @property
    def mean(self) -> NDArray[np.float64]:
        """Of each class's scores, over the whole life."""
        return self._sum / self._life

    def append(self, frame: int, xyxy: Float, scores: Float) -> None:
        """The next box; frames between it and the last are filled on a straight line."""
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
            rows[:, 0].astype(np.int64),
            rows[:, 1:5].astype(np.float32),
            float(mean[best]),
            rows[:, 5 + best].astype(np.float32),
            self.tracker_id,
            mean.astype(np.float32),
        )
