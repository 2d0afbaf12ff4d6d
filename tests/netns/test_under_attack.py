"""The tunnels of a gateway under attack as it was attacked: they come up, whatever strangers begin and leave.

    hostA eth0 -- lan gwA wan == wan gwB net == strangers (198.18.0.0/15)
                                     lan -- eth0 hostB

gwB is attacked; gwA is its genuine peer. Each bar has a short form, and a full one that measures and prints its figures.
"""

from __future__ import annotations

import re
import secrets
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from ipsec_dp.rig import netns
from ipsec_dp.rig.packets import udp
from ipsec_dp.rig.process import GatewayPair, GatewayProcess, IkePair
from tests.netns.strangers_calls import refused_request
from tests.netns.traffic import to_gateway_a, until
from tests.netns.under_attack import FULL, STATUS_MOST_S, A, B, StatusDelays, hub, printed, took_up

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipsec_dp.rig.netns import TwoSites

HOST_B = netns.HOST_B[0]
UP_MOST_S = 3.0
JUDGED = "how late others are served is judged"
HALF_OPEN_S = 30.0


# ---- A2: refused requests that bear the peer's address ---------------------------------------------------------------------------


@contextmanager
def forged_refusals(sites: TwoSites, pause_s: float) -> Iterator[list[int]]:
    """While the block runs, gwA gets a request from gwB's address that has no proposal in common with it; how many so far."""
    over, sent = threading.Event(), [0]

    def send() -> None:
        while not over.is_set():
            to_gateway_a(sites, udp(B, A, refused_request(secrets.token_bytes(8)), ports=(500, 500)))
            sent[0] += 1
            over.wait(pause_s)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    until(lambda: sent[0], "the first forged request")
    try:
        yield sent
    finally:
        over.set()
        thread.join(10)


def only(gateway: GatewayProcess) -> dict[str, Any]:
    (tunnel,) = gateway.status()["tunnels"]
    return tunnel


@pytest.mark.parametrize(
    ("pings", "pause_s"),
    [pytest.param(8, 0.1, id="short"), pytest.param(40, 1.0, id="full", marks=FULL), pytest.param(40, 0.01, id="fast", marks=FULL)],
)
@pytest.mark.parametrize("ended", [False, True], ids=["a tunnel that stays", "a tunnel for each ping"])
def test_refused_requests_from_the_peers_address_keep_no_tunnel_from_coming_up(
    sites, tmp_path, pings, pause_s, ended, record_property
):
    """A2: one each 10 s was counted as our own failure, and 40 of 40 pings were lost."""
    with GatewayPair(sites, tmp_path, IkePair(start=("on-demand", "respond"))) as gateways:
        received, errors = 0, set()
        with forged_refusals(sites, pause_s) as sent:
            until(lambda: sent[0] >= 3, "forged requests before the first packet")
            for count in [1] * pings if ended else [pings]:
                ping = sites.host_a.run(
                    *("ping", "-n", "-q", "-c", f"{count}", "-i", f"{pause_s}", "-W", "20", HOST_B), check=False, timeout=120.0
                )
                received += int(re.findall(r"(\d+) received", ping.stdout)[0])
                errors |= {only(gateways.a)["last_error"]} - {None}
                if ended:
                    gateways.a.ask("terminate", name="a-to-b")
                    until(lambda: only(gateways.a)["state"] == only(gateways.b)["state"] == "waiting", "both ended")
        printed(record_property, f"{received} of {pings} pings, {sent[0]} forged, last errors {errors or 'none'}")
        assert received == pings
        assert errors == set(), "a healthy tunnel shows nothing of it"


# ---- A3: half-open IKE SAs beside the genuine peer of a tunnel that takes anybody ------------------------------------------------


@pytest.mark.alone(JUDGED)
@pytest.mark.parametrize("count", [34, pytest.param(340, marks=FULL), pytest.param(3400, marks=FULL)], ids=["short", "340", "3400"])
def test_the_peer_of_a_tunnel_for_anybody_comes_up_beside_half_open_ones(attacked, count, record_property):
    """A3: 32 of them locked it for everybody."""
    gateways = attacked(any_remote=True, up=False)
    held = gateways.begin("half_open", count=count, addresses=count, seconds=HALF_OPEN_S - 5.0).end(60.0)
    seconds = took_up(gateways)
    printed(record_property, f"up in {seconds:.2f} s beside {held['held']} half-open, made in {held['seconds']:.1f} s")
    assert held["held"] == count
    assert seconds <= UP_MOST_S


@pytest.mark.parametrize(("count", "others"), [(10, 0), pytest.param(100, 340, marks=FULL)], ids=["short", "full"])
def test_genuine_peers_that_call_at_once_all_come_up(attacked, count, others, record_property):
    """A3: of forty, the first one always lost."""
    gateways = attacked(any_remote=True, tunnels=2 * count, up=False)
    if others:
        gateways.begin("half_open", count=others, addresses=others, seconds=20.0).end(60.0)
    came = gateways.begin("warriors", count=count, psk=gateways.psk, seconds=60.0).end(90.0)
    refused = [line for line in gateways.b.text().splitlines() if " ERROR " in line or "IKE SA failed" in line]
    printed(
        record_property, f"{came['up']} of {count} up in {came['seconds']:.2f} s beside {others} half-open, {came['sent']} sent"
    )
    assert (came["up"], came["failed"], refused) == (count, [], [])


# ---- A5: a full house, and its end -----------------------------------------------------------------------------------------------


@pytest.mark.alone(JUDGED)
@pytest.mark.parametrize(
    ("count", "addresses", "expiry"),
    [(300, 4, False), pytest.param(4000, 4, True, marks=FULL), pytest.param(4000, 4000, True, marks=FULL)],
    ids=["short", "four addresses", "four thousand addresses"],
)
def test_a_full_house_keeps_neither_the_peer_nor_status_waiting(attacked, count, addresses, expiry, record_property):
    """A5: the peer could not come up, and the expiry of four thousand blocked everything for ten seconds."""
    gateways = attacked(tunnels=2, up=False)
    with StatusDelays(gateways.b) as filling:
        held = gateways.begin("half_open", count=count, addresses=addresses, seconds=HALF_OPEN_S - 5.0).end(60.0)
        ended = time.monotonic() + HALF_OPEN_S
        seconds = took_up(gateways)
    text = f"{held['held']} of {count} half-open in {held['seconds']:.1f} s, peer up in {seconds:.2f} s"
    text += f", {filling}"
    longest = filling.longest
    if expiry:
        with StatusDelays(gateways.b) as expiring:
            until(lambda: time.monotonic() > ended, "all have expired", HALF_OPEN_S + 10.0)
        text += f", until they had expired {expiring}"
        longest = max(longest, expiring.longest)
    printed(record_property, text)
    assert seconds <= UP_MOST_S
    assert longest <= STATUS_MOST_S
    assert hub(gateways.a)["state"] == hub(gateways.b)["state"] == "up"
