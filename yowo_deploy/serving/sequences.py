"""Sequences of frames, each with a detector of its own, over one engine."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic

from yowo_deploy.arrays import Frame
from yowo_deploy.detector import Detector
from yowo_deploy.errors import InputError
from yowo_deploy.result import Result
from yowo_deploy.serving.refusal import Refusal

MAX_SEQUENCES = 32  # of the default model each holds 10 MB: its clip, twice
IDLE_S = 30.0
LONGEST_KEY = 128  # characters, as Triton has it

Key = int | str


class Sequences:
    """Frames in, results out: each sequence gives what a `Detector` alone gives for its frames.

    Threads may push at once; frames of one sequence wait for each other.

    Args:
        make: a new detector over the shared engine, which is not closed here.
        limit: sequences at once.
        idle_s: a sequence without a frame for longer is ended.
        clock: seconds that pass.

    Raises:
        InputError: no sequence, or no time.
    """

    def __init__(
        self,
        make: Callable[[], Detector],
        limit: int = MAX_SEQUENCES,
        idle_s: float = IDLE_S,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        if limit < 1 or not idle_s > 0:
            raise InputError(f"{limit} sequences, each for {idle_s:g} s: expected 1 or more, for more than 0 s")
        self._make, self._limit, self._idle_s, self._clock = make, limit, idle_s, clock
        self._live: dict[Key, _Sequence] = {}
        self._changed = threading.Lock()

    def __len__(self) -> int:
        """Live sequences."""
        return len(self._live)

    @property
    def open_tubes(self) -> int:
        """People in the newest frames of all sequences."""
        with self._changed:
            return sum(each.open_tubes for each in self._live.values())

    def push(self, key: Key, frame_bgr: Frame, start: bool = False, end: bool = False) -> Result:
        """The next frame of a sequence.

        Args:
            key: of the sequence, a number above 0 or a text; 7 and "7" are two.
            start: a new sequence begins; one of this key that is live ends without a word.
            end: it is the last one, and everything is freed, also if the frame is refused.

        Raises:
            Refusal: 400, no such sequence; 503, too many.
            InputError: see `Detector.push`. A sequence that begins with such a frame does not begin.
        """
        sequence = self._began(key) if start else self._known(key)
        try:
            with sequence.turn:
                result = sequence.detector.push(frame_bgr)
                sequence.open_tubes = len(result.tubes)
        except BaseException:
            self._done(key, sequence, end or start)
            raise
        self._done(key, sequence, end)
        return result

    def expire(self) -> int:
        """End the sequences that were idle for too long; how many."""
        with self._changed:
            latest = self._clock() - self._idle_s
            over = [key for key, each in self._live.items() if not each.at_work and each.last < latest]
            for key in over:
                del self._live[key]
            return len(over)

    def clear(self) -> None:
        """End all."""
        with self._changed:
            self._live.clear()

    def _began(self, key: Key) -> _Sequence:
        self.expire()
        with self._changed:
            if key not in self._live and len(self._live) >= self._limit:
                raise Refusal(503, f"{self._limit} sequences are live, and no more are taken: end one", "sequences")
            sequence = self._live[key] = _Sequence(self._make(), self._clock())
            sequence.at_work += 1
            return sequence

    def _known(self, key: Key) -> _Sequence:
        self.expire()
        with self._changed:
            sequence = self._live.get(key)
            if sequence is None:
                raise Refusal(
                    400, "no such sequence: begin it with sequence_start; after a while without a frame it is ended",
                    "unknown sequence",
                )  # fmt: skip
            sequence.at_work += 1
            return sequence

    def _done(self, key: Key, sequence: _Sequence, over: bool) -> None:
        with self._changed:
            sequence.at_work -= 1
            sequence.last = self._clock()
            if over and self._live.get(key) is sequence:
                del self._live[key]


class _Sequence:
    """One detector.

    Attributes:
        turn: held while a frame is at work.
        at_work: frames that are, or wait for their turn.
        last: when the last one was done.
    """

    def __init__(self, detector: Detector, now: float) -> None:
        self.detector, self.last = detector, now
        self.turn = threading.Lock()
        self.at_work = self.open_tubes = 0
