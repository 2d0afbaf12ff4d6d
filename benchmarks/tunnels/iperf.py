"""TCP throughput with iperf3, from host A to host B."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

from ipsec_dp.rig import netns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipsec_dp.rig.netns import TwoSites

TRIES = 40
RETRY_S = 0.05
PATIENCE_S = 60.0


class IperfError(Exception):
    """iperf3 did not measure what it was asked; the text holds its message."""


@contextlib.contextmanager
def _server(sites: TwoSites) -> Iterator[None]:
    server = sites.host_b.spawn("iperf3", "--server", "--one-off")
    try:
        yield
    finally:
        server.terminate()
        server.wait()


def _client(sites: TwoSites, to: str, options: tuple[str, ...], seconds: float) -> dict[str, Any]:
    """Runs the client once the server listens."""
    said = ""
    for _ in range(TRIES):
        command = ("iperf3", "--client", to, "--json", *options)
        done = sites.host_a.run(*command, timeout=seconds + PATIENCE_S, check=False)
        answer: dict[str, Any] = json.loads(done.stdout) if done.stdout.startswith("{") else {}
        if done.returncode == 0 and "error" not in answer:
            return answer
        said = str(answer.get("error", done.stderr)).strip()
        if "refused" not in said:
            break
        time.sleep(RETRY_S)
    raise IperfError(said)


def run(sites: TwoSites, *options: str, seconds: float = 0.0, to: str = netns.HOST_B[0]) -> dict[str, Any]:
    """iperf3's own report; `to` is an address of host B. IperfError, also when a connection took another congestion control."""
    with _server(sites):
        answer = _client(sites, to, options, seconds)["end"]
    for side in ("sender_tcp_congestion", "receiver_tcp_congestion"):
        if (used := answer.get(side, netns.CONGESTION_CONTROL)) != netns.CONGESTION_CONTROL:
            raise IperfError(f"{side} is {used}, not {netns.CONGESTION_CONTROL}")
    return dict(answer)


def gbit_s(sites: TwoSites, seconds: float, *options: str, to: str = netns.HOST_B[0]) -> float:
    """What arrived, in Gb/s; both directions together with --bidir."""
    answer = run(sites, "--time", f"{seconds:g}", *options, seconds=seconds, to=to)
    rows = (answer[name] for name in ("sum_received", "sum_received_bidir_reverse") if name in answer)
    return sum(float(row["bits_per_second"]) for row in rows) / 1e9
