"""What a message of somebody who has proven nothing costs a gateway's IKE, in processor time and in memory that stays held.

Every kind that reaches the control plane before AUTH has held, by IKEv2 and by IKEv1: requests and answers, each payload at its
largest, each group, fragments, certificates, selectors, identities; beside 1, 100 and 1,000 tunnels of each kind. In memory: no
socket, no clock but the processor's own.

    python -m benchmarks.strangers [--tunnels 1 100 1000] [--each 9]

The table has the worst first, the last line the worst of all; the exit status is 1 when one is above the ceiling.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
import tracemalloc
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.strangers_hub import KINDS
from benchmarks.strangers_isakmp import isakmp_kinds
from benchmarks.strangers_messages import kinds
from ipsec_dp.ike.actions import Report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from benchmarks.strangers_hub import Hub
    from benchmarks.strangers_messages import Kind
    from ipsec_dp.ike.actions import Path

CEILING_S, CEILING_OCTETS = 0.010, 16 * 1024


@dataclass(frozen=True)
class Cost:
    """Of one kind of message, beside so many tunnels of a kind: seconds of processor time, octets that stay held."""

    kind: str
    tunnels: int
    seconds: float
    octets: float
    beside: str = "any"


def _measured(hub: Hub, each: int, made: Callable[[], tuple[bytes, Path]]) -> tuple[float, float]:
    """Seconds and octets of one. `made` gives one message a call; what is measured is the gateway's part alone."""
    times, held = [], []
    for _ in range(each):
        datagram, path = made()
        hub.now += 0.1
        began = time.process_time()
        hub.core.receive(datagram, path, hub.now)
        times.append(time.process_time() - began)
    gc.collect()
    tracemalloc.start()
    for _ in range(each):
        datagram, path = made()
        hub.now += 0.1
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        hub.core.receive(bytes(bytearray(datagram)), path, hub.now)  # a copy, so that it counts where it is kept
        gc.collect()
        held.append(tracemalloc.get_traced_memory()[0] - before)
    tracemalloc.stop()
    return statistics.median(times), statistics.median(held)


def _check(hub: Hub, kind: Kind) -> None:
    """RuntimeError when the gateway says something else: then what is measured is not what it is called."""
    datagram, path = kind.make(hub)
    told = [one.event.text for one in hub.core.receive(datagram, path, hub.now) if isinstance(one, Report)]
    if kind.says and not any(kind.says in text for text in told):
        raise RuntimeError(f"{kind.name}: expected an event about {kind.says!r}, got {told}")


def costs(tunnels: int, each: int, beside: Iterable[str] = tuple(KINDS)) -> Iterator[Cost]:
    """Of every kind, beside so many tunnels of each kind in `beside`; `each`: messages of a kind, whose median counts."""
    try:
        for of in beside:
            every = (*kinds(), *isakmp_kinds())
            made = [make(tunnels, of) for make in {kind.hub for kind in every}]
            gc.collect()
            gc.freeze()  # what is there before, of whoever asks and of the tunnels, is not looked through for each message
            del made
            for kind in every:
                hub = kind.hub(max(tunnels, kind.tunnels), of)
                _check(hub, kind)
                yield Cost(kind.name, tunnels, *_measured(hub, each, partial(kind.make, hub)), of)
    finally:
        gc.unfreeze()


def table(found: Iterable[Cost]) -> list[str]:
    """Lines for people, the worst first."""
    rows = sorted(found, key=lambda one: max(one.seconds * CEILING_OCTETS, one.octets * CEILING_S), reverse=True)
    return [
        f"{one.kind:52} {one.tunnels:5} tunnels, {one.beside:18} {1000 * one.seconds:8.2f} ms {one.octets / 1024:8.1f} KiB"
        for one in rows
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.strangers", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tunnels", type=int, nargs="+", default=[1, 100, 1000])
    parser.add_argument("--each", type=int, default=9)
    parser.add_argument("--beside", nargs="+", choices=KINDS, default=list(KINDS), help="kinds of tunnels")
    asked = parser.parse_args(arguments)
    found: list[Cost] = []
    for tunnels in asked.tunnels:
        for cost in costs(tunnels, asked.each, asked.beside):
            found.append(cost)
            if sys.stderr.isatty():
                print(f"\r{len(found)} kinds measured: {cost.kind:60}", end="", file=sys.stderr)
    print("\n".join(table(found)))
    slowest, largest = max(found, key=lambda one: one.seconds), max(found, key=lambda one: one.octets)
    print(
        f"worst: {1000 * slowest.seconds:.2f} ms ({slowest.kind}, {slowest.tunnels} tunnels, {slowest.beside}), "
        f"{largest.octets / 1024:.1f} KiB ({largest.kind}); ceiling {1000 * CEILING_S:g} ms and {CEILING_OCTETS // 1024} KiB"
    )
    return int(slowest.seconds > CEILING_S or largest.octets > CEILING_OCTETS)


if __name__ == "__main__":
    sys.exit(main())
