"""Export and import by themselves: who may still seal, what is refused, what is begun anew, what a reader of later years reads."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from ipsec_dp.ike import dh
from ipsec_dp.ike.actions import Kind
from ipsec_dp.ike.carried.carry import export_ike, import_ike
from ipsec_dp.ike.carried.envelope import HEAD, open_model, seal_model
from ipsec_dp.ike.carried.isakmp_model import Ikev1Part
from ipsec_dp.ike.carried.model import MODEL, Exact, Reserved
from ipsec_dp.ike.carried.part import CarriedStateError
from ipsec_dp.ike.carried.serials import LastExport
from ipsec_dp.ike.errors import RetiredKeyError
from ipsec_dp.ike.peer import Life
from ipsec_dp.ipsec.transforms import GROUPS, KEMS
from tests.ike.carried.carrying import EXAMPLES, admitted, as_core, carry, exported, refused, taken, up
from tests.ike.carried.test_as_if_nothing_had_happened import sealed_twice
from tests.ike.ladder import Ladder, peer
from tests.ike.v1.gateways import Gateways
from tests.ike.v1.gateways import peer as peer_v1

# ---- who may seal ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "of"), [(Ladder, peer), (Gateways, peer_v1)], ids=["IKEv2", "IKEv1"])
def test_an_export_retires_its_source(make, of):
    ladder = up(make, of)
    site, old = ladder.a, ladder.a.core
    exported(site)
    sessions = old.sessions("to-b") if make is Ladder else old.ikev1.sessions("to-b")
    keys = [getattr(one.sa.keys, name) for one in sessions for name in one.sa.keys.__dataclass_fields__]
    assert not any(map(any, keys)), "a key is left"
    with pytest.raises(RetiredKeyError):
        old.rekey("to-b", ladder.clock())


def test_a_source_that_goes_on_and_its_import_never_take_one_iv():
    ladder = up()
    site = ladder.a
    found = exported(site, stride=4)
    assert [one.sk_iv for one in open_model(found.octets).ikev2.sas] == [Reserved(begins=5, stride=4, serial=1)]
    other, _ = taken(site, found.octets, admitted(found))
    for core in (site.core, other):
        site.do(core.check_liveness("to-b", ladder.clock()) or core.rekey("to-b", ladder.clock()))
        site.do(core.terminate("to-b", ladder.clock()))
    wire = [(delivery.sender, *delivery.data) for delivery, _ in ladder.wire.log]
    assert len(wire) > 4
    assert sealed_twice(wire) == []


def test_a_source_that_has_used_its_stride_seals_no_more():
    ladder = up()
    exported(ladder.a, stride=1)
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock()))
    with pytest.raises(OverflowError):
        ladder.settle()


def test_of_two_reserved_exports_it_can_be_told_which_is_the_later_one():
    """They overlap. The number goes along, so that it rises whoever reserves."""
    ladder = up()
    found = [exported(ladder.a, stride=4).octets for _ in range(2)]
    ladder.a.core, _ = taken(ladder.a, found[-1][:], lambda _: None)
    found.append(exported(ladder.a, stride=4).octets)
    ladder.a.core, _ = taken(ladder.a, exported(ladder.a).octets)
    found.append(exported(ladder.a, stride=4).octets)
    assert [getattr(one.sk_iv, "serial", None) for octets in found for one in open_model(octets).ikev2.sas] == [1, 2, 3, 4]


def test_of_reserved_exports_the_last_one_alone_is_imported_and_once():
    ladder = up()
    last = LastExport()
    found = []
    for _ in range(2):
        found.append(exported(ladder.a, stride=4))
        last.note(found[-1].serials)
    for refused_now, octets in (("of the last", found[0].octets), (None, found[1].octets[:]), ("before", found[1].octets[:])):
        if refused_now is None:
            taken(ladder.a, octets, last.admit)
            continue
        assert refused_now in refused(ladder.a, octets, last.admit)
    exact = exported(ladder.a)
    last.note(exact.serials)
    assert "of the last" in refused(ladder.a, found[1].octets, last.admit)
    taken(ladder.a, exact.octets, last.admit)  # the control


def test_state_of_a_source_that_goes_on_is_not_imported_unjudged():
    ladder = up()
    assert "nobody says" in refused(ladder.a, exported(ladder.a, stride=4).octets)


def test_both_forms_are_data():
    ladder = up()
    assert isinstance(open_model(exported(ladder.a, stride=9).octets).ikev2.sas[0].sk_iv, Reserved)
    assert isinstance(open_model(exported(ladder.a).octets).ikev2.sas[0].sk_iv, Exact)


def test_of_ikev1_a_source_that_goes_on_carries_nothing_and_says_so():
    gateways = up(Gateways, peer_v1)
    found = exported(gateways.a, stride=1000)
    (left_out,) = found.left_out
    assert "IKEv1" in str(left_out)
    assert open_model(found.octets).ikev1 == Ikev1Part()
    gateways.a.do(gateways.a.core.rekey("to-b", gateways.clock()))
    gateways.run(30)
    gateways.check()


# ---- what goes on ----------------------------------------------------------------------------------------------------------------


def test_a_lifetime_goes_on_where_it_was():
    ladder = up(child_life=Life(3600.0), ike_life=Life(3000.0))
    ladder.run(1000)
    before = [(one.rekey_in_s, one.age_s, one.children) for one in ladder.a.status]
    carry(ladder.a, ladder.clock())
    assert [(one.rekey_in_s, one.age_s, one.children) for one in ladder.a.status] == before


def test_a_reply_is_repeated_in_the_octets_that_were_sent():
    ladder = up()
    ladder.wire.double("a", "b", ladder.wire.sent("a", "b") + 1)
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock()))
    ladder.deliver("b")
    carry(ladder.b, ladder.clock())
    installs = list(ladder.b.sad.log)
    ladder.deliver("b")
    one, other = [delivery.data[0] for delivery, _ in ladder.wire.log if delivery.sender == "b"][-2:]
    assert one == other
    assert ladder.b.sad.log == installs


def test_a_request_is_repeated_in_the_octets_that_were_sent_and_at_its_time():
    ladder = up()
    ladder.wire.cut("a", "b")
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock()))
    due = ladder.a.core.next_timeout()
    carry(ladder.a, ladder.clock())
    assert ladder.a.core.next_timeout() == due
    ladder.run(5)
    sent = [delivery.data[0] for delivery, _ in ladder.wire.log if delivery.data[0][18] == 36]
    assert len(sent) == 3
    assert len(set(sent)) == 1


def test_a_message_of_ikev1_that_came_long_ago_does_nothing_again():
    """Its message ID was used, and is for good."""
    gateways = up(Gateways, peer_v1)
    old = next(delivery.data[0] for delivery, _ in gateways.wire.log if delivery.data[0][18] == 32)
    gateways.run(90)
    carry(gateways.b, gateways.clock())
    before = list(gateways.b.sad.log)
    gateways.b.do(gateways.b.core.receive(old, gateways.path("b"), gateways.clock()))
    assert gateways.b.sad.log == before
    assert gateways.b.core.counters().out_of_window == 1


def test_what_was_counted_is_counted_on():
    ladder = up()
    ladder.b.do(ladder.b.core.receive(bytes(40), ladder.path("b"), ladder.clock()))
    before = ladder.b.core.counters()
    assert before.malformed
    carry(ladder.b, ladder.clock())
    assert ladder.b.core.counters() == before


@pytest.mark.parametrize("group", [*GROUPS, *KEMS], ids=lambda group: group.keyword)
def test_the_half_of_every_key_exchange_can_be_carried(group):
    """None of `cryptography`'s private keys keeps its octets back."""
    ours = dh.initiate(group, lambda octets: hashlib.shake_256(b"a").digest(octets))
    again = dh.again(group, ours.private_octets())
    assert again.public == ours.public
    public, secret = dh.respond(group, ours.public, lambda octets: hashlib.shake_256(b"b").digest(octets))
    assert again.shared_secret(public) == ours.shared_secret(public) == secret


# ---- what is begun anew ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", ["a", "b"])
def test_a_half_open_ike_sa_is_not_carried_and_named(site):
    ladder = Ladder()
    ladder.initiate("a")
    ladder.deliver("b")
    who = ladder.sites[site]
    found = exported(who)
    (left_out,) = found.left_out
    assert left_out.tunnel == who.tunnel
    assert "begun anew" in str(left_out)
    core, imported = taken(who, found.octets)
    assert imported.left_out == found.left_out
    assert core.empty


def test_an_authentication_anew_that_was_under_way_begins_anew():
    ladder = up(reauth_s=100.0)
    ladder.wire.cut("a", "b")
    ladder.run(120, step=lambda: None)
    assert len(ladder.a.core.sessions()) == 2
    ladder.wire.mend("a", "b")
    carried = carry(ladder.a, ladder.clock())
    assert [one.tunnel for one in carried.left_out] == ["to-b"]
    ladder.run(30)
    assert Kind.IKE_REAUTHENTICATED in ladder.a.kinds()
    ladder.check()


def test_a_tunnel_that_is_there_no_longer_is_named():
    ladder = up()
    found = exported(ladder.a)
    ladder.a.peers = []
    core, imported = taken(ladder.a, found.octets)
    assert "no longer configured" in str(imported.left_out[0])
    assert imported.actions == []
    assert core.empty


def test_what_was_begun_with_many_has_to_be_over_first():
    ladder = up()
    core = as_core(ladder.a.core)
    core.unfinished = lambda: True
    with pytest.raises(CarriedStateError, match="at once"):
        export_ike(core, ladder.clock())
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock()))
    ladder.settle()
    ladder.check()


# ---- later readers ---------------------------------------------------------------------------------------------------------------


def test_there_is_an_example_of_every_version():
    assert [path.stem for path in EXAMPLES] == [f"model-{number}" for number in range(1, MODEL + 1)]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_a_model_of_that_version_is_read(path):
    """Made of test keys, as `example_site` does: an IKE SA of each version of IKE, of which one is being rekeyed."""
    site = Gateways([peer("a"), peer_v1("a", tunnel="old")], [peer("b")]).a
    octets = bytearray.fromhex(path.read_text())
    model = open_model(octets)
    assert (len(model.ikev2.sas), model.ikev1 is None or len(model.ikev1.peerings)) == (1, 1)
    imported = import_ike(as_core(site.core), octets, model.at)
    assert imported.left_out == ()
    assert [type(one).__name__ for one in imported.actions].count("InstallInbound") == 2
    states = {tunnel: [one.state for one in site.core.status(tunnel, model.at)] for tunnel in ("to-b", "old")}
    assert states == {"to-b": ["rekeying"], "old": ["up"]}


def test_the_example_of_this_version_has_the_fields_of_this_version():
    """Whoever adds a field makes it anew; whoever changes one makes another version."""
    octets = bytearray.fromhex(EXAMPLES[-1].read_text())
    assert open_model(seal_model(open_model(octets))) == open_model(octets)
    site = example_site()
    now = seal_model(open_model(exported(site).octets))
    assert set(fields_in(msgspec.msgpack.decode(now[HEAD:]))) == set(fields_in(msgspec.msgpack.decode(octets[HEAD:])))


def fields_in(plain, at=""):
    """Every field that is there, by its way."""
    if isinstance(plain, dict):
        for name, value in plain.items():
            yield from fields_in(value, f"{at}.{name}" if isinstance(name, str) else at)
    elif isinstance(plain, list):
        for value in plain:
            yield from fields_in(value, at)
    else:
        yield at


def example_site():
    """Two tunnels, one of each version, the first with a rekey under way."""
    gateways = Gateways([peer("a"), peer_v1("a", tunnel="old")], [peer("b"), peer_v1("b", tunnel="old")], seed="example")
    gateways.start()
    a, now = gateways.a, gateways.clock
    a.do(a.core.initiate("old", gateways.path("a"), now()))
    gateways.settle()
    gateways.run(10)
    a.do(a.core.rekey("to-b", now()))
    return a
