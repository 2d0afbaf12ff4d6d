"""Every datagram of a script lost, doubled or delivered late: the gateways always end up agreeing."""

import pytest

from ipsec_dp.ike.actions import Kind
from tests.ike import fault_script
from tests.ike.fault_script import live, lossy, with_fault
from tests.ike.ladder import OTHER

from .gateways import Gateways, aggressive, peer

LENGTH = 12  # datagrams each side sends in the script
FAULTS = fault_script.FAULTS | fault_script.LATE
MODES = {"main": peer, "aggressive": aggressive}


@pytest.fixture(params=MODES)
def made(request):
    """Makes gateways that both speak one mode."""
    of_mode = MODES[request.param]

    def gateways(**changes):
        return Gateways([of_mode("a")], [of_mode("b")], **changes)

    return gateways


def script(gateways, first, *, crossing):
    live(gateways, first, crossing=crossing, between=60, after=200)


def converged(gateways):
    """One ISAKMP SA, and one pair of IPsec SAs that both send on; one more may wait for the hard limit where a DELETE was lost."""
    gateways.check()
    for site in gateways.sites.values():
        assert len(site.sad.sending) == 1
        assert len(site.sad.inbound) <= 3
        assert Kind.IKE_DOWN not in site.kinds()
        assert Kind.CHILD_DOWN not in site.kinds()
        assert Kind.IKE_FAILED not in site.kinds()


@pytest.mark.parametrize("crossing", [False, True], ids=["in turn", "crossing"])
@pytest.mark.parametrize("first", ["a", "b"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_any_place_changes_nothing_in_the_end(made, fault, first, crossing):
    for sender, number, gateways in with_fault(made, FAULTS[fault], LENGTH):
        script(gateways, first, crossing=crossing)
        assert gateways.wire.sent(sender, OTHER[sender]) >= min(number, 7)
        converged(gateways)


@pytest.mark.parametrize("fault", FAULTS)
def test_both_call_at_once_and_a_fault_at_any_place_changes_nothing_in_the_end(made, fault):
    for _, _, gateways in with_fault(made, FAULTS[fault], 8):
        gateways.initiate("a")
        gateways.initiate("b")
        gateways.run(200)
        gateways.check()
        for site in gateways.sites.values():
            assert len(site.sad.sending) == 1
            assert Kind.IKE_DOWN not in site.kinds()


@pytest.mark.parametrize("first", ["a", "b"])
def test_a_lossy_wire_only_takes_longer(made, first):
    gateways = lossy(made(), 3)
    script(gateways, first, crossing=True)
    converged(gateways)


@pytest.mark.parametrize("first", ["a", "b"])
def test_without_a_fault_nothing_is_left_over(made, first):
    gateways = made()
    script(gateways, first, crossing=False)
    converged(gateways)
    assert [len(site.sad.inbound) for site in gateways.sites.values()] == [1, 1]
    assert [site.core.counters().sessions for site in gateways.sites.values()] == [1, 1]
    assert gateways.faults() == {"a": {}, "b": {}}


def test_what_this_host_refuses_to_send_is_no_silence_of_the_peer():
    """As IKEv2's: after the second retransmission, and in the last text; no longer once it leaves."""
    why = "EPERM: its own packet filter"
    for mended in (False, True):
        gateways = Gateways()
        site, wire = gateways.a, gateways.wire

        def leave(sender, receiver, data, site=site, clock=gateways.clock):
            if sender == "a":
                site.do(site.core.unsent(data[0], why, clock()))

        send, wire.send = wire.send, leave  # type: ignore[method-assign]
        gateways.initiate("a")
        gateways.run(2.7)
        assert site.events == [], "the next attempt may leave"
        gateways.run(0.3)
        (told,) = site.events
        own = f"message 1 of main mode to 192.0.2.2:500 does not leave: this host itself refuses to send: {why}"
        assert (told.kind, told.text) == (Kind.WARNING, own)
        if mended:
            wire.send = send  # type: ignore[method-assign]
            gateways.run(20)
            gateways.check()
        else:
            gateways.run(200)
            (failed,) = (event for event in site.events if event.kind is Kind.IKE_FAILED)
            assert failed.text == told.text
