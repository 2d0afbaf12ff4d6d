"""What gateways cost that have nothing to do. What else a machine does adds to a measurement: of several looks the quietest tells
what a gateway needs. How often a thread wakes up is the same on any machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from tests.netns.used import run_s, waits

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipsec_dp.rig.process import GatewayProcess

LOOKS, LOOK_S = 5, 1.0
WORKER = "esp"  # how the names of the core's threads begin
WAKES_MAX = 5.0  # of all threads of one name, a second; 0 to 1.3 were seen
IKE_WAKES_MAX = 25.0  # of Python's, a second; 6 to 9 were seen


class Rest(NamedTuple):
    """The part of a core in the quietest look; how often in a second, over all looks, threads of each name woke up."""

    part: float
    wakes: dict[str, float]


def rest_of(gateways: Sequence[GatewayProcess]) -> list[Rest]:
    before, begun = [waits(gateway) for gateway in gateways], time.monotonic()
    parts = [min(each) for each in zip(*_looks(gateways), strict=True)]
    seconds = time.monotonic() - begun
    after = [waits(gateway) for gateway in gateways]
    rates = [{name: (now[name] - then.get(name, 0)) / seconds for name in now} for then, now in zip(before, after, strict=True)]
    return [Rest(*each) for each in zip(parts, rates, strict=True)]


def _looks(gateways: Sequence[GatewayProcess]) -> Iterator[list[float]]:
    for _ in range(LOOKS):
        before, begun = [run_s(gateway) for gateway in gateways], time.monotonic()
        time.sleep(LOOK_S)
        seconds = time.monotonic() - begun
        yield [(run_s(gateway) - start) / seconds for gateway, start in zip(gateways, before, strict=True)]


def assert_at_rest(gateways: Sequence[GatewayProcess], part_max: float) -> None:
    """`part_max`: of a core, for each gateway."""
    found = rest_of(gateways)
    assert all(rest.part < part_max for rest in found), found
    for rest in found:
        assert any(name.startswith(WORKER) for name in rest.wakes), "the control: the core has threads"
        assert all(rate < (WAKES_MAX if name.startswith(WORKER) else IKE_WAKES_MAX) for name, rate in rest.wakes.items()), found
