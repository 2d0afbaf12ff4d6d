"""What message 1 of aggressive mode costs, which anybody may send in a peer's name: no more than any message of a stranger may."""

import gc
import time
import tracemalloc
from ipaddress import ip_address
from statistics import median

import pytest

from benchmarks.strangers import CEILING_OCTETS, CEILING_S
from ipsec_dp.ike.actions import Send
from ipsec_dp.ike.identity import Identity
from ipsec_dp.ike.proposal import parse_ike
from tests.ike.ladder import ADDRESSES

from .gateways import Gateways, aggressive

pytestmark = [pytest.mark.measure, pytest.mark.filterwarnings("ignore:Diffie-Hellman over finite fields")]
EACH = 9


@pytest.mark.parametrize("group", ["ecp256", "modp4096"])
@pytest.mark.parametrize("tunnels", [1, 100])
def test_message_1_costs(group, tunnels):
    suites = {"ike_proposals": parse_ike([f"aes256-sha256-{group}"])}
    here = [
        aggressive("b", tunnel=f"w{number}", remote_id=Identity.from_text(f"w{number}.example"), **suites)
        for number in range(1, tunnels)
    ]
    gateways = Gateways([aggressive("a", **suites)], [*here, aggressive("b", **suites)])
    assert all(ip_address(ADDRESSES["a"]) in one.remotes for one in here)
    gateways.initiate("a")
    (first, _), path, core = gateways.taken("b"), gateways.path("b"), gateways.b.core
    gc.collect()
    gc.freeze()  # what all the other tests made is not looked through for each message
    try:
        seconds, octets = costs(core, path, first, gateways.clock())
    finally:
        gc.unfreeze()
    assert median(seconds) <= CEILING_S
    assert median(octets) <= CEILING_OCTETS


def costs(core, path, first, now):
    """Seconds of some messages, then octets that stay held of as many others."""
    seconds, octets = [], []
    for number in range(2 * EACH):
        now += 1.0
        datagram = number.to_bytes(7, "big") + b"x" + first[8:]
        measured = number >= EACH
        if measured:
            gc.collect()
            tracemalloc.start()
        began = time.process_time()
        actions = core.receive(datagram, path, now)
        spent = time.process_time() - began
        assert [type(one) for one in actions] == [Send]
        del actions
        if measured:
            gc.collect()
            octets.append(tracemalloc.get_traced_memory()[0])
            tracemalloc.stop()
        else:
            seconds.append(spent)
    return seconds, octets
