"""A tunnel's life in short, for a wire with faults: up, a renewal of its keys, one of its IKE SA, another of its keys by the other
side. What has come of it is each version's own to say."""

from typing import Any

from .ladder import OTHER

SENDERS = ("a", "b")
FAULTS: dict[str, tuple[str, dict[str, float]]] = {"drop": ("drop", {}), "double": ("double", {}), "delay": ("delay", {})}
LATE: dict[str, tuple[str, dict[str, float]]] = {"late": ("delay", {"by": 3})}


def live(ladder: Any, first: str, *, crossing: bool, between: float, after: float) -> None:
    """`crossing`: both sides renew at the same time; `between`, `after`: seconds behind each step, and at the end."""
    who, other = ladder.sites[first], ladder.sites[OTHER[first]]
    ladder.initiate(first)
    ladder.run(between)
    for ike in (False, True, False):
        who.do(who.core.rekey(who.tunnel, ladder.clock(), ike=ike))
        if crossing:
            other.do(other.core.rekey(other.tunnel, ladder.clock(), ike=ike))
        ladder.run(between)
        who, other = other, who
    ladder.run(after)


def with_fault(make: Any, fault: tuple[str, dict[str, float]], length: int) -> Any:
    """For each of the first `length` datagrams of each side: its sender and number, and a new ladder with the fault there."""
    name, how = fault
    for sender in SENDERS:
        for number in range(1, length + 1):
            ladder = make(seed=number)
            getattr(ladder.wire, name)(sender, OTHER[sender], number, **how)
            yield sender, number, ladder


def lossy(ladder: Any, start: int) -> Any:
    """Every third datagram is lost in both directions, from `start` on."""
    for sender in SENDERS:
        ladder.wire.drop(sender, OTHER[sender], *range(start, 200, 3))
    return ladder
