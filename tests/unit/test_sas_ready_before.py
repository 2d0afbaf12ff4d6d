"""The SAs of a gateway are ready in another process before they come, follow what changes meanwhile, and end where IKE has none."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import Any, cast
from unittest import mock

import msgspec
import pytest

from ipsec_dp.databases.carried_sas import ELSEWHERE, CarriedSad, KeysElsewhere, records_of
from ipsec_dp.databases.sad_shape import StandingSad, ToldSad
from ipsec_dp.dataplane import Direction, SaParams
from ipsec_dp.dataplane.carried import CarriedFlows, EndpointValue
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.gateway.upgrade import sas
from ipsec_dp.gateway.upgrade.messages import GivenSas
from ipsec_dp.ike import actions as act
from ipsec_dp.ipsec.spi import spi_text
from ipsec_dp.keying.child_installer import IkeChildren
from ipsec_dp.rig.plane import OUTER, PlaneRig, keymat, selector
from tests.unit.sites import spi_of, to_b
from tests.unit.successors import over_the_wire
from tests.unit.test_child_installer import ELSEWHERE as NEW_PATH
from tests.unit.test_child_installer import NUMBER, SELECTORS, SUITE, UNLIMITED, Site

OTHERS = 5  # the tunnel's number in the successor


class Both:
    """A gateway with one tunnel, and its successor, which has another number for it."""

    def __init__(self, before, after):
        self.before, self.after = Site(before), after
        after.protect(SELECTORS, tunnel=OTHERS)
        self.told = ToldSad(before.sad, {NUMBER: "to-b"})
        self.standing = StandingSad(after.sad, {"to-b": OTHERS}, {"to-b": 0}, lambda _local, _encapsulation: after.link)
        self.children = IkeChildren(
            after.sad, lambda *_: after.link, {"to-b": OTHERS}, {"to-b": 0}, self.before.outer_header, self.keyed
        )

    def keyed(self, params):
        pytest.fail(f"{params} was made before, and its key told")

    def tell(self):
        return self.standing.take(over_the_wire(self.told.news()))

    def stop(self, *, one_by_one=False, **changes):
        """The SAs come; what is to be negotiated anew."""
        sad = self.before.sad
        shape = self.told.news()
        carried = {"sas": sad.export()} if one_by_one else {"records": sad.export_all()}
        values: dict[str, Any] = {"shape": shape, "expected": [], "counters": [], "flows": CarriedFlows(0, b""), **carried}
        given = over_the_wire(GivenSas(stopped=0, **values | changes))
        self.after.plane.pause_receiving()
        try:
            return sas.imported(self.after.sad, self.standing, given)
        finally:
            self.after.plane.resume_receiving()

    def sent(self):
        self.after.push(to_b())
        self.after.step()
        return self.after.sent()

    def adopt(self, number):
        """IKE says which SAs it has."""
        common: dict[str, Any] = {"suite": SUITE, "selectors": SELECTORS, "limits": UNLIMITED, "path": NEW_PATH, "udp": True}
        self.children.install_inbound(
            act.InstallInbound("to-b", number, 0x1000 + number, keymat=bytearray(ELSEWHERE), replay_window=64, **common)
        )
        self.children.install_outbound(act.InstallOutbound("to-b", number, 0x2000 + number, keymat=bytearray(ELSEWHERE), **common))
        self.children.switch(act.SwitchOutbound("to-b", number))

    def spis(self):
        return sorted(record.spi for record in self.after.sad.records.values())


@pytest.fixture
def both():
    with PlaneRig("a", OUTER[4]["a"]) as before, PlaneRig("a", OUTER[4]["a"], clock=before.clock) as after:
        yield Both(before, after)


@pytest.mark.parametrize("one_by_one", [False, True], ids=["records", "values"])
def test_they_wait_and_then_go_on_from_where_they_were(both, one_by_one):
    both.before.up(1)
    (first,) = both.before.sent()
    both.after.clock.advance(7)
    assert both.tell() == []
    assert {one.installed for one in both.after.sad.records.values()} == {both.before.gateway.clock.seconds - 7}
    assert (both.sent(), both.after.drops) == ([], {"retired": 1})
    (second,) = both.before.sent()
    assert both.stop(one_by_one=one_by_one) == []
    (third,) = both.sent()
    assert [int.from_bytes(each.data[4:8]) for each in (first, second, third)] == [1, 2, 3]
    assert both.before.sent() == [], "its source is retired"


def test_selectors_that_come_again_are_made_once(both):
    both.before.up(1)
    both.tell()
    (inbound,) = (one for one in both.after.sad.records.values() if one.direction is Direction.INBOUND)
    (child,) = both.after.sad.children.values()
    assert inbound.selectors is child.selectors


def test_what_changed_since_is_told(both):
    """A rekey in its place, a CHILD_SA with other selectors behind it, one that ended, a peer that moved."""
    both.before.up(1)
    both.before.up(9, selectors=(selector("10.1.0.0/16", "10.2.8.0/24"),))
    both.tell()
    both.before.up(2, replaces=1)
    both.before.children.remove(1)
    both.before.children.remove(9)
    both.before.up(3, selectors=(selector("10.1.0.0/16", "10.2.9.0/24"),))
    both.before.children.move(act.MovePath("to-b", (2,), NEW_PATH))
    assert both.stop() == []
    (datagram,) = both.sent()
    assert (spi_of(datagram), str(datagram.remote.address)) == (0x2002, "198.51.100.7")
    assert both.spis() == [0x1002, 0x1003, 0x2002, 0x2003]
    assert [child.selectors for child in both.after.sad.children.values()] == [SELECTORS, (selector("10.1.0.0/16", "10.2.9.0/24"),)]


def test_nothing_new_is_nothing_to_say(both):
    both.before.up(1)
    both.tell()
    news = both.told.news()
    assert (news.gone, news.sas, news.ended, news.children) == ([], [], [], [])


def test_an_sa_of_a_tunnel_that_is_gone_is_nobodys(both):
    both.before.up(1)
    told = ToldSad(both.before.sad, {})
    assert (told.news().sas, told.news().children) == ([], [])


def test_what_cannot_be_made_is_said_and_the_rest_is(both):
    both.before.up(1)
    shape = both.told.news()
    broken = msgspec.structs.replace(shape.sas[0], suite="rot13")
    assert len(both.standing.take(msgspec.structs.replace(shape, sas=[broken, *shape.sas[1:]]))) == 1
    assert both.spis() == [0x2001]


# ---- what does not come


def beyond_its_end(sad, handle):
    """All SAs as values, this one with a number that there is not without ESN."""
    carried = sad.export()
    return CarriedSad(
        tuple(
            msgspec.structs.replace(each, sa=msgspec.structs.replace(each.sa, sequence=2**32)) if each.handle == handle else each
            for each in carried.sas
        )
    )


def test_where_what_changed_cannot_be_made_so_every_sa_ends_and_that_is_said(both, monkeypatch):
    both.before.up(1)
    both.tell()
    monkeypatch.setattr(both.standing, "take", mock.Mock(side_effect=DataPlaneError(errno.ENOMEM, "no memory")))
    (why,) = both.stop()
    assert "no memory" in why.why
    assert both.spis() == []


@pytest.mark.parametrize("changes", [{"records": None}, {"records": None, "sas": CarriedSad(())}])
def test_where_no_key_comes_nothing_waits_for_one(both, changes):
    both.before.up(1)
    both.tell()
    left_out = both.stop(**changes)
    assert (both.after.sad.records, both.sent()) == ({}, [])
    assert len(left_out) == (changes.get("sas") is None)


def test_one_that_had_left_already_is_named_and_gone(both):
    both.before.up(1)
    both.tell()
    receiver = next(h for h, one in both.before.sad.records.items() if one.direction is Direction.INBOUND)
    both.before.gateway.plane.export_sa(receiver, SUITE)
    assert len(both.stop()) == 1
    assert both.spis() == [0x2001]


@pytest.mark.parametrize("one_by_one", [False, True], ids=["records", "values"])
def test_one_that_the_core_refuses_ends_alone_and_is_named(both, one_by_one, monkeypatch):
    """Its sender has used more numbers than there are: whatever it would seal with might have been used."""
    both.before.up(1, selectors=(selector("10.1.0.0/16", "10.2.9.0/24"),))
    both.before.up(2)
    both.tell()
    broken = next(one for one in both.before.sad.records.values() if one.spi == 0x2001)
    beyond = beyond_its_end(both.before.sad, broken.handle)
    monkeypatch.setattr(both.before.sad, "export", lambda: beyond)
    monkeypatch.setattr(both.before.sad, "export_all", lambda: records_of(beyond))
    (left_out,) = both.stop(one_by_one=one_by_one)
    assert left_out.why == "the SA 0x00002001: Invalid argument"
    assert both.spis() == [0x1001, 0x1002, 0x2002]
    assert len(both.sent()) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"keymat": bytearray(b"k" * 4096)},
        {"sequence": -1},
        {"octets": 2**64},
        {"peer": EndpointValue(b"\xcb", 4500, 0)},
        {"words": b""},
        {"direction": 7, "model": 99},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_value_that_cannot_be_is_left_out_alone_and_all_are_wiped(both, wrong):
    both.before.up(1)
    carried = both.before.sad.export()
    broken = msgspec.structs.replace(carried.sas[0].sa, **wrong)
    changed = CarriedSad((msgspec.structs.replace(carried.sas[0], sa=broken), *carried.sas[1:]))
    others = over_the_wire(CarriedSad(carried.sas[1:]))
    records = records_of(changed)
    assert [spi for spi, _ in records.left_out] == [broken.spi]
    assert not any(any(each.sa.keymat) for each in changed.sas)
    assert (records.handles, records.records) == ([each.handle for each in others.sas], records_of(others).records)


def test_a_value_that_cannot_be_ends_its_sa_alone(both, monkeypatch):
    both.before.up(1)
    both.before.up(2, selectors=(selector("10.1.0.0/16", "10.2.9.0/24"),))
    both.tell()
    carried = both.before.sad.export()
    first, *others = carried.sas
    broken = msgspec.structs.replace(first, sa=msgspec.structs.replace(first.sa, sequence=-1))
    monkeypatch.setattr(both.before.sad, "export", lambda: CarriedSad((broken, *others)))
    (left_out,) = both.stop(one_by_one=True)
    assert spi_text(first.sa.spi) in left_out.why
    assert both.spis() == sorted(each.sa.spi for each in others)


@pytest.mark.parametrize("error", [ValueError("no"), OverflowError("no"), DataPlaneError(22, "no")])
def test_whatever_is_wrong_with_all_of_them_ends_them_and_nothing_else(both, error, monkeypatch):
    both.before.up(1)
    both.tell()

    def fails(*_arguments):
        raise error

    monkeypatch.setattr(both.after.sad, "import_all", fails)
    (left_out,) = both.stop()
    assert left_out.why.startswith("all SAs: ")
    assert both.spis() == []


def test_a_value_is_the_record_that_it_would_have_been(both):
    both.before.up(1)
    both.before.sent()
    carried = both.before.sad.export()
    as_it_was = over_the_wire(carried)
    records = records_of(carried)
    assert bytes(keymat(SUITE, "out 1")) in records.records
    assert not any(each.sa.keymat for each in carried.sas if any(each.sa.keymat))
    assert records_of(as_it_was).records == records.records


# ---- IKE comes after them


def carried_over(both, *numbers):
    for number in numbers:
        both.before.up(number, selectors=SELECTORS if number == 1 else (selector("10.1.0.0/16", f"10.2.{number}.0/24"),))
    both.tell()
    assert both.stop() == []


def test_ike_finds_its_sas_there_and_they_forward_meanwhile(both):
    carried_over(both, 1)
    assert len(both.sent()) == 1
    with both.after.sad.adopting() as unowned:
        both.adopt(1)
    assert both.after.sad.end_unowned(unowned, ()) == []
    (child,) = both.children.of("to-b")
    assert child.child in both.after.sad.children.values()
    assert [both.children.named(handle) for handle in (child.inbound, child.outbound)] == [("to-b", 1)] * 2
    assert len(both.sent()) == 1


def test_it_says_where_they_send(both):
    """As it did when they were installed by its state."""
    carried_over(both, 1)
    with both.after.sad.adopting():
        both.adopt(1)
    assert str(both.sent()[0].remote.address) == "198.51.100.7"


def test_what_ike_has_not_ends(both):
    """Nobody would rekey it, delete it, or see that its peer has gone."""
    carried_over(both, 1, 2)
    with both.after.sad.adopting() as unowned:
        both.adopt(1)
    assert sorted(both.after.sad.end_unowned(unowned, ())) == [0x1002, 0x2002]
    assert both.spis() == [0x1001, 0x2001]
    assert [child.selectors for child in both.after.sad.children.values()] == [SELECTORS]


def test_where_ike_did_not_come_none_stays(both):
    carried_over(both, 1)
    with both.after.sad.adopting() as unowned:
        pass
    assert sorted(both.after.sad.end_unowned(unowned, ())) == [0x1001, 0x2001]
    assert (both.after.sad.children, both.sent()) == ({}, [])


def test_but_those_whose_keys_are_set_by_hand(both):
    carried_over(both, 1)
    with both.after.sad.adopting() as unowned:
        pass
    assert both.after.sad.end_unowned(unowned, {OTHERS}) == []
    assert len(both.sent()) == 1


def test_what_ike_has_and_did_not_come_is_refused(both):
    """Its CHILD_SA is deleted and negotiated anew: without its state the key would begin anew with numbers that were used."""
    carried_over(both, 1)
    with both.after.sad.adopting() as unowned:
        both.adopt(1)
        for number in (1, 3):
            with pytest.raises(DataPlaneError, match="came along"):
                both.adopt(number)
    assert unowned.rest == []


def test_a_key_elsewhere_is_none(both):
    """Outside of an upgrade nothing is installed with it."""
    with pytest.raises(DataPlaneError):
        both.after.sad.install(
            SaParams(direction=Direction.INBOUND, spi=0x1001, suite=SUITE, keymat=ELSEWHERE, tunnel=OTHERS, interface=0)
        )
    keys = KeysElsewhere([(0x1001, 0x2001, cast("Any", None))])
    assert (keys(0x1001), keys(0x1002)) == ((ELSEWHERE, ELSEWHERE), (ELSEWHERE, b""))


def test_what_was_named_to_a_peer_is_expected_at_once(both):
    spi = both.before.sad.allocate_spi(0x5A000000)
    peer = replace(both.before.gateway.endpoint, port=4501)
    assert both.before.sad.expect_spi(spi, peer)
    given = GivenSas(
        stopped=0,
        shape=both.told.news(),
        expected=[(spi, EndpointValue.of(peer))],
        counters=[],
        flows=CarriedFlows(0, b""),
    )
    sas.expect(both.after.sad, over_the_wire(given))
    assert both.after.sad.expected == {spi: peer}
    both.after.sad.claim_spi(spi)  # the IKE state names it too
    both.after.sad.release_spi(spi)
    assert both.after.sad.expected == {}
