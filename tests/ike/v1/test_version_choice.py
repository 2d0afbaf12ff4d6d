"""`version = "2-preferred"`: IKEv1 after two whole attempts by IKEv2 that came to nothing, and never once the peer has shown who it
is by IKEv2."""

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from ipsec_dp.errors import IpsecDpError
from ipsec_dp.ike.actions import Cause, Event, Kind, Origin
from ipsec_dp.ike.core import IkeVersions
from ipsec_dp.ike.environment import RememberedPins
from ipsec_dp.ike.v2.message import Header, Message, build_message
from ipsec_dp.ike.v2.payloads import Notify
from ipsec_dp.ike.v2.wire import ExchangeType, Flag, NotifyType
from ipsec_dp.ike.version_choice import APART, Call, VersionChoice
from tests.ike import ladder as v2

from .gateways import Gateways, peer
from .preferring import LONG, Falling, fallen, pinned, preferring

# --- the way down ------------------------------------------------------------------------------------------------------


def test_a_peer_that_has_ikev1_alone_is_met_by_that_after_two_whole_attempts():
    gateways = fallen()
    assert gateways.up_by() == [1]
    assert gateways.versions[-1] == 1
    assert set(gateways.versions[:-1]) == {2}
    begun = [at for at, number in gateways.calls if number == 2]
    assert begun[-1] - begun[0] >= APART, "the second attempt that counts"
    assert gateways.calls[-1][0] > begun[-1] + 10.0, "and it was a whole one"
    assert "did not answer IKEv2" in str(gateways.fallback)


def test_attempts_less_than_thirty_seconds_apart_do_not_count():
    gateways = Falling(b=[peer("b")])
    gateways.call()
    gateways.run(APART - 2.0)
    gateways.call()
    gateways.run(APART)
    gateways.call()
    gateways.run(5)
    assert gateways.versions == [2, 2, 2]
    gateways.run(APART)
    assert gateways.versions == [2, 2, 2, 1]
    assert gateways.calls[2][0] - gateways.calls[0][0] >= APART


def test_where_main_mode_is_not_answered_either_it_begins_again_with_ikev2():
    gateways = Falling(b=[peer("b")])
    gateways.passes = lambda _: False
    gateways.call_until(lambda: gateways.versions.count(1) == 2, LONG, 15.0)
    first = gateways.versions.index(1)
    assert first >= 2
    assert gateways.versions[first + 1 : first + 3] == [2, 2], "twice again"
    assert gateways.a.ups == []
    assert gateways.fallback is None


MAJOR = NotifyType.INVALID_MAJOR_VERSION


def by_ikev2(*kinds: int):
    """Answers an IKE_SA_INIT request with these notifies."""

    def answer(datagram: bytes) -> bytes | None:
        if datagram[17] != 0x20 or datagram[18] != ExchangeType.IKE_SA_INIT:
            return None
        header = Header(datagram[:8], bytes(8), ExchangeType.IKE_SA_INIT, Flag.RESPONSE, 0)
        return build_message(Message(header, tuple(Notify(kind, b"c" * 8 if kind == NotifyType.COOKIE else b"") for kind in kinds)))

    return answer


def by_ikev1(datagram: bytes) -> bytes | None:
    """An informational exchange of IKEv1, of 28 octets and a notification that says INVALID-MAJOR-VERSION."""
    if datagram[17] != 0x20:
        return None
    notification = bytes([0, 0, 0, 12, 0, 0, 0, 1, 1, 0, 0, 5])
    return (
        datagram[:8] + b"theirspi" + bytes([11, 0x10, 5, 0]) + bytes(4) + (28 + len(notification)).to_bytes(4, "big") + notification
    )


@pytest.mark.parametrize("refuses", [by_ikev2(MAJOR), by_ikev2(NotifyType.NO_PROPOSAL_CHOSEN), by_ikev1])
def test_a_version_that_is_refused_counts_as_one_that_is_not_answered(refuses):
    gateways = Falling(b=[peer("b")])
    gateways.answers = refuses
    gateways.call_until(gateways.up_by, LONG)
    assert gateways.up_by() == [1]
    begun = [at for at, number in gateways.calls if number == 2]
    assert begun[-1] - begun[0] >= APART


def test_an_answer_by_ikev1_is_told_and_leads_to_no_message_of_ikev1():
    gateways = Falling(b=[peer("b")])
    gateways.answers = by_ikev1
    gateways.call()
    gateways.settle()
    assert any("it is IKEv1" in text for text in gateways.said(Kind.HINT))
    gateways.run(APART - 5.0)
    assert gateways.main_modes() == 0


@pytest.mark.parametrize(
    "kinds",
    [(NotifyType.INVALID_SYNTAX,), (NotifyType.COOKIE,), (MAJOR, NotifyType.INVALID_SYNTAX), (14, NotifyType.INVALID_KE_PAYLOAD)],
)
def test_any_other_answer_by_ikev2_counts_for_ikev2(kinds):
    """It speaks that, as it seems: what is wrong there is not the version."""
    gateways = Falling(b=[peer("b")])
    gateways.answers = by_ikev2(*kinds)
    gateways.call_until(gateways.main_modes, LONG)
    assert gateways.main_modes() == 0
    assert len(gateways.versions) > 4


def test_what_this_host_refuses_to_send_was_no_attempt():
    gateways = Falling(b=[peer("b")])
    end = gateways.clock() + 200.0
    while gateways.clock() < end:
        if not gateways.a.status:
            gateways.call()
        while (delivery := gateways.wire.take("b")) is not None:
            gateways.note(delivery.data[0])
            gateways.a.do(gateways.a.core.unsent(delivery.data[0], "the network is unreachable", gateways.clock()))
        gateways.run(0.5)
    assert set(gateways.versions) == {2}
    assert len(gateways.versions) > 4


def test_what_only_ike_auth_does_not_get_through_to_speaks_ikev2():
    gateways = Falling(b=[v2.peer("b")])
    gateways.passes = lambda datagram: datagram[18] != ExchangeType.IKE_AUTH
    gateways.call_until(gateways.main_modes, LONG)
    assert set(gateways.versions) == {2}


def test_every_address_has_its_turn():
    addresses = tuple(map(ip_address, ("192.0.2.2", "192.0.2.3", "192.0.2.4")))
    gateways = Falling(a=[preferring("a", remotes=addresses, places=3)], b=[peer("b")])
    gateways.passes = lambda _: False
    for number in range(16):
        gateways.call(addresses[number % 3])
        gateways.run(30.0)
    assert gateways.versions[:9] == [2] * 6 + [1] * 3
    assert gateways.versions[9:15] == [2] * 6


def test_a_second_address_that_is_never_called_leaves_the_attempt_half_done():
    addresses = tuple(map(ip_address, ("192.0.2.2", "192.0.2.3")))
    gateways = Falling(a=[preferring("a", remotes=addresses, places=2)], b=[peer("b")])
    gateways.call_until(gateways.main_modes, LONG)
    assert set(gateways.versions) == {2}


# --- both, and the way back --------------------------------------------------------------------------------------------


def test_a_peer_that_has_both_is_met_by_ikev2_and_pinned():
    gateways = pinned()
    assert (gateways.up_by("a"), gateways.up_by("b")) == ([2], [2])
    for site in gateways.sites.values():
        assert site.core.environment.pins.tunnels == {site.tunnel}
    assert gateways.fallback is None


def test_with_a_box_between_that_drops_ikev2_a_pinned_peer_is_never_met_by_ikev1():
    gateways = pinned()
    gateways.a.do(gateways.a.core.leave("to-b", gateways.clock()))
    gateways.drop_ikev2()
    gateways.call_until(gateways.main_modes, LONG)
    gateways.run(10)
    assert gateways.main_modes() == 0
    assert gateways.up_by() == []
    gateways.passes = lambda _: True
    gateways.call_until(gateways.up_by, 60)
    assert gateways.up_by() == [2]


def test_nor_after_a_restart():
    gateways = pinned()
    gateways.restart()
    gateways.drop_ikev2()
    gateways.call_until(gateways.main_modes, LONG)
    assert gateways.main_modes() == 0
    assert gateways.a.core.ikev1 is None, "it is not even loaded"
    assert not any("IKEv1" in event.text for event in gateways.a.events)


def test_a_box_that_drops_ikev2_from_the_first_message_on_does_make_it_fall():
    """Positive control: what holds above is the pin."""
    gateways: Any = Falling(b=[preferring("b")])
    gateways.drop_ikev2()
    gateways.call_until(gateways.up_by, LONG)
    assert gateways.up_by("a") == gateways.up_by("b") == [1]
    assert gateways.fallback is not None


def test_unpinned_by_a_person_it_may_fall_and_the_peer_may_call_by_ikev1():
    gateways = pinned()
    gateways.restart()
    gateways.a.core.unpin("to-b")
    gateways.drop_ikev2()
    gateways.b.do(gateways.b.core.leave("to-a", gateways.clock()))
    gateways.b.core.unpin("to-a")
    gateways.call_until(gateways.up_by, LONG)
    assert gateways.up_by() == [1]


def test_a_tunnel_of_one_version_has_nothing_to_unpin():
    gateways: Any = Gateways()
    with pytest.raises(IpsecDpError, match="2-preferred"):
        gateways.a.core.unpin("to-b")


def test_where_nobody_can_tell_it_is_pinned():
    class Unreadable(RememberedPins):
        def holds(self, tunnel: str) -> bool:
            del tunnel
            return True

    gateways: Any = Falling(b=[peer("b")])
    environment = replace(gateways.a.core.environment, pins=Unreadable())
    gateways.a.core = IkeVersions(environment, [preferring("a")])
    gateways.call_until(gateways.main_modes, LONG)
    assert set(gateways.versions) == {2}
    gateways.initiate("b")
    gateways.run(5)
    assert gateways.up_by("a") == []


# --- the table by itself -----------------------------------------------------------------------------------------------


def failed(*, unspoken: bool = True, cause: Cause = Cause.TIMEOUT) -> Event:
    return Event(Kind.IKE_FAILED, "to-b", bytes(8), bytes(8), "", "", cause, unspoken=unspoken, origin=Origin.OURS)


def after(*calls: tuple[float, Event]) -> int:
    """By which version the next call goes, after these to one address."""
    choice = VersionChoice(preferring("a"), pinned=False)
    call = Call(Gateways().path("a"))
    for at, event in calls:
        choice.call(call, at)
        choice.failed(event)
    return choice.call(call, 1000.0)


@pytest.mark.parametrize(
    ("calls", "version"),
    [
        ((), 2),
        (((0.0, failed()),), 2),
        (((0.0, failed()), (29.9, failed())), 2),
        (((0.0, failed()), (30.0, failed())), 1),
        (((0.0, failed()), (15.0, failed()), (30.0, failed())), 1),
        (((0.0, failed()), (15.0, failed(unspoken=False)), (30.0, failed())), 2),
        (((0.0, failed()), (30.0, failed(unspoken=False))), 2),
        (((0.0, failed()), (30.0, failed(cause=Cause.LOCAL))), 2),
        (((0.0, failed()), (30.0, failed()), (60.0, failed())), 2),
    ],
)
def test_calls_and_the_next_one(calls, version):
    assert after(*calls) == version
