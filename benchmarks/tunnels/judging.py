"""When a run proves nothing: a peer that did not work as hard as it could was not measured.

How much a peer carries says nothing of that. Machines differ fourfold in what the plain path carries, and in other ways in what
system calls and wake-ups cost. But a peer whose processes idle while a stream waits was kept from working by something else.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.tunnels.names import USERSPACE_PEERS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.tunnels.statistics import Rounds

CORES_NEEDED = 0.7  # of all processes of a peer together, while its `tcp_1` was measured
JUDGED_BY = "tcp_1"


class Judged(NamedTuple):
    """A peer: what it used in each round (None: not known), and which of its rounds are void, by their place in the list."""

    peer: str
    cores: tuple[float | None, ...]
    void: tuple[int, ...]

    @property
    def sound(self) -> bool:
        """Most of its rounds stand."""
        return 2 * len(self.void) < len(self.cores)

    def reason(self) -> str:
        """Why its rounds are void; of a peer that has such."""
        known = [self.cores[at] for at in self.void]
        used = [cores for cores in known if cores is not None]
        if not used:
            return f"{self.peer}: what its processes used was not measured"
        rounds = "1 round" if len(self.cores) == 1 else f"{len(self.void)} of {len(self.cores)} rounds"
        several = f"a median of {statistics.median(used):.2f}" if len(used) > 1 else f"{used[0]:.2f}"
        less = f"{several} of a core in {rounds} of {JUDGED_BY}, less than {CORES_NEEDED:g}"
        return f"{self.peer} used {less}: it did not work as hard as it can"


def judge(rounds: Rounds, cores: Mapping[str, Sequence[float | None]]) -> list[Judged]:
    """Every userspace peer whose `tcp_1` was measured. `cores` has a value for each of its values, in their order."""
    found = []
    for peer, values in rounds.get(JUDGED_BY, {}).items():
        if peer in USERSPACE_PEERS and values:
            known = cores.get(peer, ())
            used = tuple(known[at] if at < len(known) else None for at in range(len(values)))
            void = tuple(at for at, one in enumerate(used) if one is None or one < CORES_NEEDED)
            found.append(Judged(peer, used, void))
    return found


def sound_rounds(rounds: Rounds, judged: Sequence[Judged]) -> dict[str, dict[str, list[float]]]:
    """The same without the void values of `tcp_1`. A peer that has no others keeps them; the run is void then."""
    kept = {measure: {name: list(values) for name, values in row.items()} for measure, row in rounds.items()}
    for peer, _, void in judged:
        values = kept[JUDGED_BY][peer]
        kept[JUDGED_BY][peer] = [value for at, value in enumerate(values) if at not in void] or values
    return kept


def void_reasons(judged: Sequence[Judged]) -> list[str]:
    """Why a run proves nothing; empty when it does prove something."""
    return [one.reason() for one in judged if not one.sound]
