"""Fuzz target: no message of somebody who has proven nothing costs more than the ceiling of `benchmarks.strangers`.

An own small evolution, since libFuzzer looks for ways through the code and not for time. Three searches share what they find: for
the most calls of functions (which is the same in every run), for processor time, and for memory that stays held. What is above the
ceiling is measured again several times; if it holds, it goes to build/fuzz/ and makes the exit status non-zero. The costliest of
each kind are in tests/fuzz/corpora/cost/, from where the next run begins; FUZZ_KEEP=1 writes them there.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
import time
import tracemalloc
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from benchmarks.strangers import CEILING_OCTETS, CEILING_S
from benchmarks.strangers_hub import KINDS, Hub
from benchmarks.strangers_messages import answer_to, request, sealed, signed
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.wire import Flag
from tests.fuzz.cost_genes import CARRIERS, EXCHANGES, Genome, genome, key_of, payloads, varied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipsec_dp.ike.actions import Path as Way

CORPUS = Path(__file__).parent / "corpora" / "cost"
FINDINGS = Path("build/fuzz")
TUNNELS = 20
MESSAGES_OF_A_HUB = 200
KEPT = 12  # of each search and way
AGAIN = 9  # measurements, whose median counts, of what is above the ceiling
FRAGMENT_LEAST = 600  # octets


class Measure:
    """Of messages, each to a hub of its kind of tunnels that has seen only a few others."""

    def __init__(self) -> None:
        self._hubs: dict[str, tuple[Hub, int]] = {}

    def _hub(self, kind: str) -> Hub:
        hub, used = self._hubs.get(kind, (None, MESSAGES_OF_A_HUB))
        if hub is None or used >= MESSAGES_OF_A_HUB:
            hub, used = Hub(TUNNELS, kind), 0
        self._hubs[kind] = hub, used + 1
        return hub

    def of(self, one: Genome, kind: str, count: Callable[[Hub, bytes, Way], float]) -> float:
        """The dearest of the datagrams that a genome makes; 0 for what cannot be built."""
        hub = self._hub(kind)
        try:
            datagrams, way = built(hub, one)
        except (ValueError, RuntimeError, OverflowError, StopIteration):
            return 0.0
        hub.now += 0.1
        return max((count(hub, datagram, way) for datagram in datagrams), default=0.0)


def built(hub: Hub, one: Genome) -> tuple[list[bytes], Way]:
    """The datagrams of a genome. ValueError for what has no octets."""
    made, carrier = payloads(one), one["carrier"]
    if carrier == "init":
        datagrams, way = [request(hub, *made)], hub.path()
    elif carrier == "answer to init":
        datagram, way = answer_to(hub, *made)
        datagrams = [datagram]
    else:
        session, way = hub.half_open() if carrier == "auth" else hub.called("w0" if one["flip"] % 2 else "w1")
        key = next((key_of(gene) for gene in one["genes"] if gene["payload"] == "CERT"), None)
        if key is not None and any(isinstance(payload, p.Authentication) and payload.method == 0 for payload in made):
            made = signed(session, made, key)
        flags = session.sa.request_flags | (0 if carrier == "auth" else Flag.RESPONSE)
        room = max(one["room"], FRAGMENT_LEAST)
        datagrams = list(sealed(hub, session, made, room, flags=flags, exchange=EXCHANGES[one["exchange"] % len(EXCHANGES)]))
    if one["flip"] > 28 and carrier.endswith("init"):
        at = one["flip"] % len(datagrams[0])
        datagrams[0] = datagrams[0][:at] + bytes([datagrams[0][at] ^ 0x80]) + datagrams[0][at + 1 :]
    return [datagram for datagram in datagrams if len(datagram) <= 65_000], way


def calls(hub: Hub, datagram: bytes, way: Way) -> float:
    """Functions called, of Python and of C."""
    found = 0

    def heard(_frame: object, event: str, _argument: object) -> None:
        nonlocal found
        found += event in ("call", "c_call")

    sys.setprofile(heard)
    try:
        hub.core.receive(datagram, way, hub.now)
    finally:
        sys.setprofile(None)
    return float(found)


def seconds(hub: Hub, datagram: bytes, way: Way) -> float:
    began = time.thread_time()
    hub.core.receive(datagram, way, hub.now)
    return time.thread_time() - began


def octets(hub: Hub, datagram: bytes, way: Way) -> float:
    """Held when it was handled."""
    tracemalloc.start()
    hub.core.receive(bytes(bytearray(datagram)), way, hub.now)  # a copy, so that it counts where it is kept
    gc.collect(1)
    if tracemalloc.get_traced_memory()[0] > CEILING_OCTETS:
        gc.collect()  # which empties the interpreter's free lists too: what lies there is held by nobody
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return float(held)


SEARCHES: dict[str, tuple[Callable[[Hub, bytes, Way], float], float]] = {
    "calls": (calls, float("inf")),
    "seconds": (seconds, CEILING_S),
    "octets": (octets, float(CEILING_OCTETS)),
}


class Search:
    """One of `SEARCHES`: the costliest messages so far, by kind of tunnels and way of the message."""

    def __init__(self, name: str, measure: Measure, rng: Random) -> None:
        self.name, self._measure, self._rng = name, measure, rng
        self.best: dict[tuple[str, str], list[tuple[float, Genome]]] = {}

    def consider(self, one: Genome, kind: str) -> None:
        count, ceiling = SEARCHES[self.name]
        score = self._measure.of(one, kind, count)
        if score > ceiling or (self.name == "seconds" and score > self.worst[0]):  # another program's turn is no finding
            score = statistics.median(self._measure.of(one, kind, count) for _ in range(AGAIN))
        best = self.best.setdefault((kind, one["carrier"]), [])
        if len(best) == KEPT and score <= best[-1][0]:
            return
        best.append((score, one))
        best.sort(key=lambda each: -each[0])
        del best[KEPT:]

    @property
    def worst(self) -> tuple[float, str, Genome]:
        found = [(best[0][0], kind, best[0][1]) for (kind, _), best in self.best.items()]
        return max(found, key=lambda each: each[0], default=(0.0, "", {}))

    def kept(self) -> Iterator[Genome]:
        for best in self.best.values():
            yield best[0][1]


def corpus() -> list[Genome]:
    return [json.loads(path.read_text()) for path in sorted(CORPUS.glob("*.json"))]


def evolve(until: float, rng: Random) -> tuple[list[Search], int]:
    """Looks until `until`, of time.monotonic; what was found, and how many messages were looked at."""
    measure = Measure()
    searches = [Search(name, measure, rng) for name in SEARCHES]
    everyone = corpus() + [genome(rng) for _ in range(4 * len(CARRIERS))]
    for one in everyone:
        for kind in KINDS:
            for search in searches:
                search.consider(one, kind)
    looked = len(everyone) * len(KINDS) * len(searches)
    kinds = tuple(KINDS)
    while time.monotonic() < until:
        search = rng.choices(searches, (4, 4, 1))[0]
        pool = [each for of in rng.choice(searches).best.values() for _, each in of]
        one, other = rng.choice(pool), rng.choice(pool)
        search.consider(varied(rng, one, other) if rng.random() < 0.95 else genome(rng), rng.choice(kinds))
        looked += 1
    return searches, looked


def main() -> int:
    """The exit status."""
    rng = Random(int(os.environ.get("FUZZ_SEED", "0")) or None)
    searches, looked = evolve(time.monotonic() + float(os.environ.get("FUZZ_SECONDS", "60")), rng)
    status = 0
    FINDINGS.mkdir(parents=True, exist_ok=True)
    print(f"{looked} messages")
    for search in searches:
        score, kind, one = search.worst
        ceiling = SEARCHES[search.name][1]
        print(f"most {search.name}: {score:.6g} (ceiling {ceiling:g}) beside tunnels of kind {kind!r}: {json.dumps(one)}")
        if score > ceiling:
            (FINDINGS / f"cost-{search.name}.json").write_text(json.dumps(one))
            status = 1
        if os.environ.get("FUZZ_KEEP"):
            CORPUS.mkdir(parents=True, exist_ok=True)
            for (of, carrier), best in search.best.items():
                name = f"{search.name}-{of}-{carrier}".replace(" ", "-")
                (CORPUS / f"{name}.json").write_text(json.dumps(best[0][1]) + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
