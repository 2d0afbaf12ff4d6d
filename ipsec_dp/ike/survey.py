"""Asking a gateway what it answers, a question at a time, slowly: what a survey of any version of IKE has in common.

Pure. An interview is a generator that yields questions and gets the datagram that came for each, or None for silence; `Survey` asks
them one after the other, at most one datagram in PAUSE seconds and DATAGRAMS_MOST in all, each question again where nothing comes.
Whatever comes may be anybody's: it is read by the parsers of the version, within their limits, and authenticates nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

PAUSE: Final = 0.35  # seconds between two datagrams
PATIENCE: Final = 1.5  # seconds for an answer, before the question is asked again or given up
TIMES: Final = 2  # that a question is asked
DATAGRAMS_MOST: Final = 80  # in one survey


@dataclass(frozen=True, slots=True)
class Question:
    """`natt`: to port 4500, behind a non-ESP marker. `fits`: whether a datagram is for it, by its SPI or cookie."""

    datagram: bytes = field(repr=False)
    fits: Callable[[bytes], bool]
    natt: bool = False


Interview = Generator[Question, bytes | None, None]


class Survey:
    """Of one gateway. `next` gives what is to be sent now, `receive` takes what came; `over` when nothing is left to ask."""

    def __init__(self, interviews: Sequence[Interview]) -> None:
        self._interviews = list(interviews)
        self._question: Question | None = None
        self._asked = 0  # times
        self._due = -inf  # the next datagram may leave, or the answer is late
        self._not_before = -inf
        self.sent = 0
        self._go_on(None, begins=True)

    @property
    def over(self) -> bool:
        return self._question is None

    def next_timeout(self) -> float:
        """When `next` is to be called; inf: never."""
        return inf if self.over else max(self._due, self._not_before)

    def next(self, now: float) -> Question | None:
        """The question that is to leave now; None: none yet."""
        if self._question is None or now < self.next_timeout():
            return None
        if self._asked == TIMES:
            self._go_on(None)
            return self.next(now)
        if self.sent == DATAGRAMS_MOST:
            self.end()
            return None
        self._asked += 1
        self.sent += 1
        self._due, self._not_before = now + PATIENCE, now + PAUSE
        return self._question

    def receive(self, datagram: bytes, *, natt: bool) -> bool:
        """Whether it was for the question that is asked."""
        question = self._question
        if question is None or not self._asked or question.natt is not natt or not question.fits(datagram):
            return False
        self._go_on(datagram)
        return True

    def end(self) -> None:
        """Nothing more is asked."""
        for interview in self._interviews:
            interview.close()
        self._interviews, self._question = [], None

    def _go_on(self, answer: bytes | None, *, begins: bool = False) -> None:
        """To the next question, be it of the next interview."""
        self._question, self._asked, self._due = None, 0, -inf
        while self._interviews and self._question is None:
            try:
                self._question = next(self._interviews[0]) if begins else self._interviews[0].send(answer)
            except StopIteration:
                self._interviews.pop(0)
                begins = True
