"""What a peer may cost that has proven who it is: one that was taken over sends as fast as it can, and nobody else waits for it."""

import re
from pathlib import Path

import pytest

from ipsec_dp.ike.actions import Kind
from ipsec_dp.ike.authenticated import PEER_LIMITS, TOLD, Account, Accounts, Lines, PeerLimits
from ipsec_dp.ike.negotiation import with_spi
from ipsec_dp.ike.peer import Unique
from ipsec_dp.ike.proposal import ProtocolId, parse_esp
from ipsec_dp.ike.traffic_selectors import ProxyId, TrafficSelector
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.message import Header
from ipsec_dp.ike.v2.protect import seal_message
from ipsec_dp.ike.v2.wire import ExchangeType, Flag, NotifyType

from .ladder import Ladder, peer, proxy_id
from .test_session_attacks import Traitor, errors

CREATE, INFORMATIONAL = ExchangeType.CREATE_CHILD_SA, ExchangeType.INFORMATIONAL
NOW = 1000.0
ROOT = Path(__file__).resolve().parents[2]
PUBLIC = bytes([9]) + bytes(31)  # a value of x25519
MANY = tuple(TrafficSelector(4, (10 << 24) + n, (10 << 24) + n) for n in range(255))


def test_the_table_of_the_document_is_that_of_the_limits():
    text = (ROOT / "docs/security.md").read_text().partition("## What a peer may cost")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", text, re.MULTILINE)
    assert {name: float(value) for name, value in rows} == {
        name: float(getattr(PEER_LIMITS, name)) for name in PeerLimits.__slots__
    }


# ---- accounts


def test_an_account_is_overdrawn_until_what_was_spent_has_come_in():
    account = Account(50.0, 100.0)
    account.spend(100.0, NOW)
    assert not account.overdrawn(NOW), "the last one is served whole"
    account.spend(25.0, NOW)
    assert [account.overdrawn(NOW + after) for after in (0.0, 0.49, 0.51)] == [True, True, False]
    assert not account.overdrawn(NOW + 100.0)
    account.spend(101.0, NOW + 100.0)
    assert account.overdrawn(NOW + 100.0), "and never holds more than its most"
    assert account.overdrawn(NOW), "a clock that jumps back gives nothing away"


def test_an_account_is_the_identitys_and_widens_with_its_proxy_ids():
    accounts = Accounts()
    one = accounts.of("alice", 1)
    one.spend(PEER_LIMITS.work_at_once + PEER_LIMITS.work_of_proxy_id + 1.0, NOW)
    assert accounts.of("alice", 1) is one
    assert accounts.of("bob", 1) is not one
    assert one.overdrawn(NOW)
    assert not accounts.of("alice", 2).overdrawn(NOW)


def test_lines_about_a_tunnel_are_bounded_and_those_left_out_are_counted():
    lines = Lines()
    told = [lines.left_out("t", 1, NOW) for _ in range(1000)]
    written = [each for each in told if each is not None]
    assert len(written) == PEER_LIMITS.lines_at_once + PEER_LIMITS.lines_of_proxy_id + 1
    assert lines.left_out("other", 1, NOW) == 0
    assert lines.left_out("t", 1, NOW + 1.0) == 1000 - len(written)
    assert lines.left_out("t", 1, NOW + 1.0) == 0


# ---- what has to wait


def test_it_is_told_now_and_then_and_named():
    traitor = Traitor()
    account = traitor.ladder.b.core.sessions("to-a")[0].ends.account
    assert account is not None
    for _ in range(3):
        account.spend(10_000.0, traitor.ladder.clock())
        assert traitor.ask(INFORMATIONAL, number=traitor.number) is None
        traitor.ladder.clock.advance(TOLD / 2)
    told = [event.text for event in traitor.ladder.b.events if event.kind is Kind.WARNING]
    assert told == ["gwa.example asks for more than its share: its requests have to wait"] * 2
    assert traitor.ladder.b.core.counters().limited == 3


def test_what_had_to_wait_is_served_when_it_is_repeated():
    """It keeps its number: nothing was answered, and nothing is out of the window."""
    traitor = Traitor()
    account = traitor.ladder.b.core.sessions("to-a")[0].ends.account
    assert account is not None
    account.spend(300.0, traitor.ladder.clock())
    assert traitor.ask(INFORMATIONAL, number=traitor.number) is None
    traitor.ladder.clock.advance(2.0)
    assert traitor.ask(INFORMATIONAL) is not None


def test_whoever_calls_anew_has_the_account_that_he_had():
    ladder = Ladder().up()
    account = ladder.b.core.sessions("to-a")[0].ends.account
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock(), ike=True))
    ladder.settle()
    assert [one.ends.account for one in ladder.b.core.sessions("to-a")] == [account] * len(ladder.b.core.sessions("to-a"))
    ladder.a.do(ladder.a.core.terminate("to-b", ladder.clock()))
    ladder.run(100)
    assert ladder.b.core.empty
    ladder.up()
    assert ladder.b.core.sessions("to-a")[0].ends.account is account


def test_a_stranger_uses_up_nothing_of_it():
    """With the right SPIs, number and address; and by sending again what the peer has sent."""
    traitor = Traitor()
    ladder = traitor.ladder
    genuine = seal_message(
        traitor.session.sa.outgoing,
        Header(traitor.session.sa.spi_i, traitor.session.sa.spi_r, INFORMATIONAL, Flag.INITIATOR, traitor.number),
        (),
        ladder.a.randbytes,
    )
    forged = genuine[:-1] + bytes([genuine[-1] ^ 1])
    for _ in range(5000):
        ladder.b.core.receive(forged, ladder.path("b"), ladder.clock())
    ladder.b.do(ladder.b.core.receive(genuine, ladder.path("b"), ladder.clock()))
    for _ in range(5000):
        ladder.b.core.receive(genuine, ladder.path("b"), ladder.clock())
    traitor.number += 1
    assert traitor.ask(INFORMATIONAL) is not None
    assert ladder.b.core.counters().limited == 0


# ---- how many


def test_child_sas_are_counted_over_all_ike_sas_of_an_identity():
    ladder = Ladder(b=[peer("b", unique=Unique.NEVER)]).up()
    first = Traitor(ladder)
    most = PEER_LIMITS.children + PEER_LIMITS.children_of_proxy_id
    for number in range(most - 3):
        assert errors(first.child((0x5000 + number).to_bytes(4, "big"))) == []
    ladder.clock.advance(100.0)
    session = ladder.a.core.sessions("to-b")[0]
    ladder.a.core.forget(ladder.clock())
    assert not session.alive
    ladder.a.core.gateway.first_contact = lambda _session: False
    ladder.initiate("a")
    ladder.settle()
    second = Traitor(ladder)
    second.session = next(one for one in ladder.a.core.sessions("to-b") if one.in_use)
    second.number = second.session.window.next_id
    assert errors(second.child(b"\0\0\x77\1")) == []
    assert errors(second.child(b"\0\0\x77\2")) == [NotifyType.NO_ADDITIONAL_SAS]


def test_ike_sas_of_one_identity_are_bounded_and_the_reason_is_named(monkeypatch):
    ladder = Ladder(b=[peer("b", unique=Unique.NEVER)])
    monkeypatch.setattr(ladder.a.core.gateway, "first_contact", lambda _session: False)
    for _ in range(PEER_LIMITS.ike_sas + 1):
        ladder.initiate("a")
        ladder.settle()
        ladder.a.core.forget(ladder.clock())
        ladder.clock.advance(10.0)
    up = [one for one in ladder.b.core.sessions("to-a") if one.in_use]
    assert len(up) == PEER_LIMITS.ike_sas
    (failed,) = [event for event in ladder.b.events if event.kind is Kind.IKE_FAILED]
    assert "gwa.example has as many IKE SAs as one identity may have" in failed.text


def test_rekeyed_child_sas_that_the_peer_does_not_delete_are_few():
    traitor = Traitor()
    kinds = []
    for number in range(3 * PEER_LIMITS.undeleted):
        newest = list(traitor.ladder.b.core.sessions("to-a")[0].children.values())[-1]
        rekey = p.Notify(NotifyType.REKEY_SA, b"", ProtocolId.ESP, newest.spi_out.to_bytes(4, "big"))
        kinds.append(errors(traitor.child((0x6000 + number).to_bytes(4, "big"), rekey)))
    assert kinds.count([]) == PEER_LIMITS.undeleted + 1
    assert kinds[-1] == [NotifyType.TEMPORARY_FAILURE]


# ---- what genuine peers do


def many_pairs(count):
    mine = tuple(proxy_id(f"10.{1 + (number >> 8)}.{number & 255}.0/24", "10.200.0.0/16") for number in range(count))
    return mine, tuple(ProxyId(one.remote, one.local) for one in mine)


@pytest.mark.parametrize("count", [300, 1000])
def test_as_many_child_sas_as_are_configured_come_up_in_one_burst(count):
    """One exchange each, one after the other, as strongSwan does; the clock stands still meanwhile."""
    mine, theirs = many_pairs(count)
    ladder = Ladder(a=[peer("a", proxy_ids=mine[:1])], b=[peer("b", proxy_ids=theirs)]).up()
    traitor = Traitor(ladder)
    for number, pair in enumerate(mine[1:]):
        answer = traitor.ask(
            CREATE,
            p.SecurityAssociation(with_spi(parse_esp(["aes128gcm16"]), (0x10_0000 + number).to_bytes(4, "big"))),
            p.Nonce(bytes(32)),
            p.TrafficSelectorsInitiator((pair.local,)),
            p.TrafficSelectorsResponder((pair.remote,)),
        )
        assert answer is not None
        assert errors(answer) == []
    assert len(ladder.b.sad.inbound) == count
    assert ladder.b.core.counters().limited == 0


def test_all_of_them_are_rekeyed_at_once_by_both_sides():
    mine, theirs = many_pairs(60)
    ladder = Ladder(a=[peer("a", proxy_ids=mine, start="start")], b=[peer("b", proxy_ids=theirs)])
    ladder.initiate("a")
    ladder.settle()
    for site in ladder.sites.values():
        site.do(site.core.rekey(site.tunnel, ladder.clock()))
    ladder.settle()
    ladder.run(60)
    ladder.check()
    for site in ladder.sites.values():
        assert site.core.counters().limited == 0
        assert Kind.CHILD_DOWN not in site.kinds()
