"""Gateways of a rig that refuse on purpose, and are late: what the other side makes of it, and that nothing was done of it."""

from __future__ import annotations

import pytest

from ipsec_dp.rig import RigError, impair
from ipsec_dp.rig.packets import udp
from ipsec_dp.rig.wireshark import IKE_TABLE, IKEV1_TABLE
from tests.unit.rig_sites import sites, spis_of

HELLO, BACK = udp("10.1.0.5", "10.2.0.5", b"hello"), udp("10.2.0.5", "10.1.0.5", b"back")


def told(gateway):
    return "\n".join(map(str, gateway.events()))


def test_whoever_refuses_a_rekey_has_not_made_the_sa_that_it_refuses():
    with sites() as (a, b):
        before = b.sas()
        with impair.refuse(b, "TEMPORARY_FAILURE") as refused:
            a.rekey()
            a.clock.advance(0.5)
            assert refused.hits == 1
            assert [sa.spi_in for sa in b.sas()] == [before[0].spi_in], "nor is it on its way"
            assert len(b.keylog().splitlines()) == 2, "no key of another was made"
        assert "CHILD_SA rekeyed" not in told(b)
        a.wait("CHILD_SA rekeyed", timeout=300)
        b.wait("CHILD_SA rekeyed")


def test_whoever_takes_no_further_sa_gets_it_on_another_ike_sa():
    with sites() as (a, b):
        before = spis_of(a)
        with impair.refuse(b, "NO_ADDITIONAL_SAS", times=100) as refused:
            a.rekey()
            a.clock.advance(60)
        assert refused.hits == 1
        assert "NO_ADDITIONAL_SAS" in told(a)
        assert spis_of(a)[0] != before[0]
        assert len(a.sas()) == len(b.sas()) == 1


@pytest.mark.parametrize("notify", ["TEMPORARY_FAILURE", "NO_PROPOSAL_CHOSEN", "CHILD_SA_NOT_FOUND", "INVALID_KE_PAYLOAD"])
def test_after_each_refusal_of_a_rekey_packets_go_on_or_come_again(notify):
    with sites() as (a, b):
        data = (31).to_bytes(2) if notify == "INVALID_KE_PAYLOAD" else b""
        refused = impair.refuse(b, notify, data=data)
        a.rekey()
        a.clock.advance(120)
        assert refused.hits == 1
        assert len(a.sas()) == len(b.sas()) == 1, "one that was not found is gone on both sides"
        a.inject(HELLO)
        b.wait("packet")
        assert a.sas()[0].spi_out == b.sas()[0].spi_in


def test_a_refused_rekey_of_the_ike_sa_leaves_one_ike_sa_on_both_sides():
    with sites() as (a, b):
        before = spis_of(a)
        with impair.refuse(b, "TEMPORARY_FAILURE") as refused:
            a.rekey(ike=True)
            a.clock.advance(0.5)
        assert refused.hits == 1
        assert len(b.keylog("ikev2_decryption_table").splitlines()) == 1, "no other IKE SA has keys"
        assert spis_of(a) == before
        a.wait("IKE SA rekeyed", timeout=300)


def test_the_first_child_sa_is_refused_and_the_ike_sa_is_up():
    """RFC 7296 §1.2."""
    with sites(up=False) as (a, b):
        with impair.refuse(b, "TS_UNACCEPTABLE", "IKE_AUTH") as refused:
            b.wait("IKE SA up")
            assert b.tunnel().ike is not None
            a.wait("IKE SA up")
            assert refused.hits == 1
            assert (a.sas(), b.sas(), b.keylog()) == ((), (), "")
        assert "TS_UNACCEPTABLE" in told(a)
        a.wait("up", timeout=300)


def test_whoever_refuses_to_authenticate_has_no_ike_sa():
    with sites(up=False) as (a, b):
        refused = impair.refuse(b, "AUTHENTICATION_FAILED", "IKE_AUTH")
        a.wait("IKE SA failed")
        assert refused.hits == 1
        assert (b.tunnel().ike, "IKE SA up" in told(b)) == (None, False)
        assert "AUTHENTICATION_FAILED" in told(a) or "refused us" in told(a)
        a.wait("up", timeout=300)


def test_the_first_message_is_refused_and_nothing_is_kept_of_it():
    with sites(up=False) as (a, b):
        refused = impair.refuse(b, "NO_PROPOSAL_CHOSEN", "IKE_SA_INIT", times=100)
        a.clock.advance(60)
        assert refused.hits >= 1
        assert b.keylog("ikev2_decryption_table") == ""
        assert a.sas() == ()
        refused.end()
        a.wait("up", timeout=300)


def test_what_is_fatal_ends_both_sides():
    """RFC 7296 §2.21.3."""
    with sites() as (a, b):
        with impair.refuse(b, "INVALID_SYNTAX", "CREATE_CHILD_SA"):
            a.rekey()
            b.wait("IKE SA down")
        a.wait("up", timeout=300)
        b.wait("up", timeout=300)


def test_a_refusal_that_is_late_is_awaited_and_repeated_requests_change_nothing():
    with sites() as (a, b):
        with impair.refuse(b, "TEMPORARY_FAILURE", after=3.0) as refused:
            asked = a.clock.now()
            a.rekey()
            a.wait("CHILD_SA rekeyed", timeout=300)
            assert a.clock.now() - asked > 3.0
        assert refused.hits == 1, "what is asked again gets the same answer"
        assert a.tunnel().retransmissions >= 1


def test_messages_are_met_by_the_notify_that_is_protected_in_them():
    with sites() as (a, b):
        wire = a.network.wire
        late = impair.delay(wire, impair.nth(impair.carrying(a, "REKEY_SA"), 1), 1.5)
        other = impair.drop(wire, impair.carrying(b, "REKEY_SA"))
        asked = a.clock.now()
        a.rekey()
        b.wait("CHILD_SA rekeyed")
        assert (late.hits, other.hits) == (1, 0)
        assert a.clock.now() - asked > 0.9, "the repeat was not late"
        b.rekey()
        b.clock.advance(2)
        assert other.hits >= 1
        other.end()
        b.wait("CHILD_SA rekeyed", timeout=120)
        with pytest.raises(RigError, match="no notify 'REKEY'"):
            impair.carrying(a, "REKEY")


@pytest.mark.parametrize(
    ("refuse", "wrong"),
    [
        (lambda b: impair.refuse(b, "REKEY_SA"), "no notify 'REKEY_SA' of an error"),
        (lambda b: impair.refuse(b, "NO_ADDITIONAL_SAS", "CREATE_CHILD"), "no exchange 'CREATE_CHILD'"),
        (lambda b: impair.refuse(b, "NO_ADDITIONAL_SAS", after=-1), "before he was asked"),
    ],
)
def test_a_refusal_that_cannot_be_is_refused(refuse, wrong):
    with sites(up=False) as (_, b), pytest.raises(RigError, match=wrong):
        refuse(b)


IKEV1 = '  [tunnel.ike]\n  version = "1"\n{}'


@pytest.mark.parametrize(("mode", "exchange"), [("", "MAIN"), ('  mode = "aggressive"\n', "AGGRESSIVE")])
def test_message_1_of_ikev1_is_refused_and_the_next_attempt_is_answered(mode, exchange):
    with sites(up=False, start="respond", tables=IKEV1.format(mode)) as (a, b):
        with pytest.raises(RigError, match="IKEv1"):
            impair.refuse(b, "TS_UNACCEPTABLE", exchange)
        with pytest.raises(RigError, match="of IKEv2"):
            impair.refuse(b, "NO_PROPOSAL_CHOSEN", exchange, after=1.0)
        with impair.refuse(b, "NO_PROPOSAL_CHOSEN", exchange, times=100) as refused:
            a.initiate()
            a.wait("IKE SA failed", 60.0)
        assert refused.hits >= 1
        assert b.sas() == ()
        a.initiate()
        a.wait("up", 60.0)


def test_a_quick_mode_is_refused_and_counted_where_it_was_called():
    """By an authenticated peer: whoever is unproven moves no count."""
    with sites(up=False, start="respond", tables=IKEV1.format("")) as (a, b):
        with impair.refuse(b, "INVALID_ID_INFORMATION", "QUICK") as refused:
            a.initiate()
            b.wait("CHILD_SA failed", 60.0)
            a.wait("CHILD_SA failed", 60.0)
        assert refused.hits == 1
        assert (b.tunnel().attempts, b.tunnel().failures) == (0, 1)
        assert (a.tunnel().attempts, a.tunnel().failures) == (1, 0), "its call was answered"
        a.initiate()
        a.wait("CHILD_SA up", 60.0)
        assert b.tunnel().failures == 1


def test_keys_of_an_isakmp_sa_are_both_sides():
    with sites(tables=IKEV1.format("")) as (a, b):
        lines = a.keylog(IKEV1_TABLE).splitlines()
        assert lines == b.keylog(IKEV1_TABLE).splitlines() == a.network.keylog(IKEV1_TABLE).splitlines()
        (line,) = lines
        cookie, key = line.split(",")
        ike = a.tunnel().ike
        assert ike is not None
        assert cookie == ike.spi_i
        assert len(key) == 64
        assert a.keylog(IKE_TABLE) == ""
        with pytest.raises(RigError, match="ikev1_decryption_table"):
            a.keylog("another")
