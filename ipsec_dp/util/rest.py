"""How long a loop rests after its work, in times of what the work took: so it gets only a part of its thread."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipsec_dp.util.clock import Clock

MOST_S = 60.0  # the clock goes on while the host is suspended, also in the middle of work


class Rest:
    """Of one loop: `times` what its last work took, `least_s` at least and MOST_S at the most. What it waits for is no work."""

    def __init__(self, clock: Clock, times: float, least_s: float = 0.0) -> None:
        self._clock, self._times, self._least_s = clock, times, least_s
        self._took = 0.0

    @property
    def seconds(self) -> float:
        """The next one."""
        return max(self._least_s, min(MOST_S, self._times * self._took))

    @contextmanager
    def work(self) -> Iterator[None]:
        """What is done inside counts."""
        began = self._clock.now()
        try:
            yield
        finally:
            self._took = max(0.0, self._clock.now() - began)
