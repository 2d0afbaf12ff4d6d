"""What a task does again and again goes on whatever becomes of one round; what went wrong is a condition until one goes well."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from ipsec_dp.errors import IpsecDpError
from ipsec_dp.util.faults import UnexpectedError, explained

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from ipsec_dp.util.clock import Clock
    from ipsec_dp.util.conditions import Conditions

SOURCE = "loops"  # of conditions
AGAIN_S = 1.0  # after a round that broke off


class Rounds:
    """Of one task; `what` begins what is said about it ("host changes")."""

    def __init__(self, what: str, conditions: Conditions, clock: Clock) -> None:
        self._what, self._conditions, self._clock = what, conditions, clock

    async def run(self, turn: Callable[[], Awaitable[None]]) -> None:
        """Never ends by itself. A round that breaks off is told, and the next one begins after AGAIN_S."""
        while True:
            whole = False
            with self.told("round"):
                await turn()
                whole = True
            if not whole:
                await self._clock.sleep(AGAIN_S)

    @contextmanager
    def told(self, part: str = "") -> Iterator[None]:
        """What is refused or goes wrong inside ends here, as a condition that lasts until this `part` goes well."""
        key = f"{self._what} {part}"
        try:
            with explained(self._what):
                yield
        except UnexpectedError as error:
            self._conditions.begin(SOURCE, key, str(error))
        except IpsecDpError as error:
            self._conditions.begin(SOURCE, key, f"{self._what}: {error}")
        else:
            self._conditions.end(SOURCE, key)
