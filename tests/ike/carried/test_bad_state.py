"""State that was cut, altered, or says what cannot be: it is refused with one sentence, and nothing of it stays."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ipsec_dp.ike.carried import carry as carry_module
from ipsec_dp.ike.carried import damaged
from ipsec_dp.ike.carried.carry import export_ike, import_ike
from ipsec_dp.ike.carried.envelope import HEAD, MAGIC, enveloped, open_model
from ipsec_dp.ike.carried.ikev2 import Ikev2Export
from ipsec_dp.ike.carried.model import MODEL
from ipsec_dp.ike.carried.part import CarriedStateError
from ipsec_dp.ike.version_choice import VersionChoice
from tests.ike.carried.carrying import EXAMPLES, as_core, check, exported, fresh, keys_of, refused, taken, up
from tests.ike.carried.crowds import crowd, keys, up_of
from tests.ike.carried.test_carry import example_site
from tests.ike.ladder import peer
from tests.ike.v1.gateways import Gateways
from tests.ike.v1.gateways import peer as peer_v1


def test_octets_that_were_cut_are_refused():
    ladder = up()
    octets = bytes(exported(ladder.a).octets)
    for end in {0, 1, len(MAGIC), 40, 54, 55, 56, len(octets) // 2, len(octets) - 1}:
        assert refused(ladder.a, octets[:end])
    assert "were cut" in refused(ladder.a, octets[:-1]) or "was cut" in refused(ladder.a, octets[:-1])
    assert "was cut" in refused(ladder.a, octets + b"x")


def test_octets_that_were_changed_are_refused():
    ladder = up()
    octets = bytes(exported(ladder.a).octets)
    for at in (*range(60), *range(60, len(octets), 97)):
        changed = bytearray(octets)
        changed[at] ^= 1
        assert refused(ladder.a, changed)


def test_a_newer_model_is_refused_by_its_number():
    ladder = up()
    why = f"the state is of model {MODEL + 1}, and this program reads up to model {MODEL}"
    assert refused(ladder.a, enveloped(b"whatever it is", MODEL + 1)) == why


SECRET = bytes(range(1, 33))


def series(plain, **changes):
    """Of the peer's, for another IKE SA."""
    ike = {"suite": plain["ikev2"]["sas"][0]["suite"], "spi": b"theirspi", "nonces": [b"", b""]}
    common = {"further": [], "secrets": [SECRET], "nonces": [b"", b""], "link": b"link", "until": 1e9, "spi": b"our spi."}
    return common | {"ike": ike} | changes


def our_rekey():
    """With the series that it has begun."""
    answer = {"header": bytes(16), "exchange": 36, "flags": 0, "message_id": 0, "first": 0, "octets": b""}
    return {"type": "ike-rekey", "series": {"further": [], "secrets": [SECRET], "answer": answer, "link": b"link"}}


def child_delete(spi, **named):
    return {"type": "child-delete", "spi": spi} | named


def prepared(plain, spi):
    """A CHILD_SA that is agreed on."""
    child = first_child(plain)
    both = {"local": child["ts_local"], "remote": child["ts_remote"], "pairs": child["pairs"]}
    return both | {"spis": [spi, 7], "chosen": [1, 3, b"", []], "suite": child["suite"]}


def changed_model(octets, change):
    """The same model, with something else in it."""
    plain = msgspec.msgpack.decode(msgspec.msgpack.encode(open_model(octets)))
    change(plain)
    return enveloped(msgspec.msgpack.encode(plain), MODEL)


def first_child(plain):
    return plain["ikev2"]["tables"][0]["children"][0]


def offering(spi):
    """A request for a CHILD_SA that names it."""
    offer = {"spi": spi, "proposals": [], "local": [], "remote": [], "pairs": [], "configured": []}
    return [{"type": "child-create", "pairs": [], "offer": offer}]


WRONG = {
    "a field that nobody knows": lambda plain: plain.update(field=1),
    "a suite that nobody knows": lambda plain: plain["ikev2"]["sas"][0].update(
        suite=["rot13", "", "prfsha256", "x25519", [], False]
    ),
    "a key that is too short": lambda plain: plain["ikev2"]["sas"][0]["keys"].update(sk_ei=b"k"),
    "no keys": lambda plain: plain["ikev2"]["sas"][0].pop("keys"),
    "a state that nobody knows": lambda plain: plain["ikev2"]["sas"][0].update(state="asleep"),
    "a state that is not carried": lambda plain: plain["ikev2"]["sas"][0].update(state="new"),
    "a time that nobody knows": lambda plain: plain["ikev2"]["sas"][0]["deadlines"].update(noon=1.0),
    "a key that is none": lambda plain: plain["ikev2"]["sas"][0]["keys"].update(sk_ei=7),
    "a field of an IKE SA that nobody knows": lambda plain: plain["ikev2"]["sas"][0].update(field=1),
    "a CHILD_SA that is none": lambda plain: plain["ikev2"]["tables"][0].update(children=[7]),
    "a suite of a CHILD_SA that nobody knows": lambda plain: plain["ikev2"]["tables"][0]["children"][0].update(
        suite=["rot13", "", "", "", [], False]
    ),
    "abilities that are none": lambda plain: plain["ikev2"]["abilities"][0].update(hashes=7),
    "wishes that are none": lambda plain: plain["ikev2"]["wanted"][0].update(asked=7),
    "an IKE SA that is not there": lambda plain: plain["ikev2"]["sas"][0].update(before=7),
    "an IKE SA before the first": lambda plain: plain["ikev2"]["sas"][0].update(after=-1),
    "a table that is not there": lambda plain: plain["ikev2"]["sas"][0].update(table=7),
    "a table before the first": lambda plain: plain["ikev2"]["sas"][0].update(table=-1),
    "a table of nobody": lambda plain: plain["ikev2"]["tables"][0].update(holder=7),
    "a table of one before the first": lambda plain: plain["ikev2"]["tables"][0].update(holder=-1),
    "abilities before the first": lambda plain: plain["ikev2"]["sas"][0].update(abilities=-1),
    "wishes before the first": lambda plain: plain["ikev2"]["sas"][0].update(wanted=-1),
    "one due before the first": lambda plain: plain["ikev2"].update(due=[-1]),
    "a rival before the first": lambda plain: plain["ikev2"]["sas"][0].update(queue=[{"type": "ike-rekey", "rival": -1}]),
    "a CHILD_SA twice": lambda plain: plain["ikev2"]["tables"][0]["children"].append(plain["ikev2"]["tables"][0]["children"][0]),
    "an IV without room": lambda plain: plain["ikev2"]["sas"][0].update(sk_iv={"type": "exact", "next": 1 << 50}),
    "an SPI of zeros": lambda plain: plain["ikev2"]["sas"][0].update(spi_i=bytes(8)),
    "a pair of two IP versions": lambda plain: first_child(plain)["pairs"][0].__setitem__(1, [bytes(16), bytes(16), 0, 0, 65535]),
    "an SPI of 33 bits": lambda plain: first_child(plain).update(spi_in=1 << 32),
    "an SPI of the peer's of 33 bits": lambda plain: first_child(plain).update(spi_out=1 << 32),
    "no SPI": lambda plain: first_child(plain).update(spi_in=0),
    "an offered SPI of 33 bits": lambda plain: plain["ikev2"]["sas"][0].update(queue=offering(1 << 32)),
    "an SPI of 33 bits that is set aside": lambda plain: plain["ikev2"]["sas"][0].update(
        series=[series(plain, ike=None, child=prepared(plain, 1 << 32))]
    ),
    "a DELETE of an SPI of 33 bits": lambda plain: plain["ikev2"]["sas"][0].update(
        queue=[{"type": "child-delete", "spi": 1 << 32}]
    ),
    "a scope of 33 bits": lambda plain: plain["ikev2"]["sas"][0]["path"][0].__setitem__(2, 1 << 32),
    "two series of one link": lambda plain: plain["ikev2"]["sas"][0].update(series=[series(plain)] * 2),
    "a field of an IKE SA that nobody knows, and no IKEv1": lambda plain: (
        plain["ikev2"]["sas"][0].update(field=1),
        plain.update(ikev1=None),
    ),
    "an instant that is none": lambda plain: plain.update(at=float("nan")),
}

OF_ALL = ("a field that nobody knows", "one due before the first", "an instant that is none")
OF_ONE = sorted(WRONG.keys() - {*OF_ALL})
# What belongs to no IKE SA alone, and what one of them says, which is left out then.


@pytest.mark.parametrize("change", [WRONG[what] for what in OF_ALL], ids=OF_ALL)
def test_a_model_that_says_what_cannot_be_leaves_nothing(change):
    ladder = up()
    octets = exported(ladder.a).octets
    assert refused(ladder.a, changed_model(octets, change))


@pytest.mark.parametrize("change", [WRONG[what] for what in OF_ONE], ids=OF_ONE)
def test_an_ike_sa_of_which_it_says_what_cannot_be_is_named_and_the_others_go_on(change):
    site = crowd(3)
    octets = changed_model(export_ike(as_core(site.core), site.clock(), keys).octets, change)
    core, imported = taken(site, octets)
    assert [one.tunnel for one in imported.left_out] == ["t0"]
    assert "cannot be" in imported.left_out[0].why
    assert {one.tunnel for one in imported.actions} == {"t1", "t2"}
    assert up_of(core, 3, site.clock()) == ["t1", "t2"]
    assert core.counters().sessions == 2


def test_those_that_belong_to_one_that_cannot_be_are_left_out_with_it():
    """Of two IKE SAs of which one is to take the place of the other none goes on by itself."""
    site = crowd(3)
    octets = export_ike(as_core(site.core), site.clock(), keys).octets

    def spoil(plain):
        plain["ikev2"]["sas"][0].update(state="asleep")
        plain["ikev2"]["sas"][2].update(before=0)

    core, imported = taken(site, changed_model(octets, spoil))
    assert {one.tunnel for one in imported.left_out} == {"t0", "t2"}
    assert up_of(core, 3, site.clock()) == ["t1"]


def test_a_child_sa_that_is_gone_and_cannot_be_leaves_the_others_that_are_gone():
    site = crowd(1)
    octets = export_ike(as_core(site.core), site.clock(), keys).octets

    def spoil(plain):
        child = first_child(plain)
        plain["ikev2"]["loose"] = [child | {"number": 70, "successor": 99}, child | {"number": 71, "successor": child["number"]}]
        plain["ikev2"]["sas"][0].update(queue=[child_delete(5, child=71)])

    core, imported = taken(site, changed_model(octets, spoil))
    assert imported.left_out == ()
    (session,) = core.sessions("t0")
    (task,) = session.queue.waiting()
    assert task.child.successor.number == 1


@pytest.mark.parametrize("other", [{"sas": []}, {"cookie_i": b"another."}], ids=["a cookie", "a number"])
def test_of_two_peers_of_ikev1_that_have_the_same_one_goes_on(other):
    site = up(Gateways, peer_v1).a

    def twice(plain):
        peerings = plain["ikev1"]["peerings"]
        (session,) = peerings[0]["sessions"]
        changed = {name: value for name, value in other.items() if name in session}
        peerings.append(peerings[0] | {name: other[name] for name in other.keys() - changed} | {"sessions": [session | changed]})

    core, imported = taken(site, changed_model(exported(site).octets, twice))
    assert [one.tunnel for one in imported.left_out] == ["to-b"]
    assert core.counters().sessions == 1


WRONG_V1 = {
    "a peering before the first": lambda plain: plain["ikev1"].update(due=[[-1, -1]]),
    "a peering that is not there": lambda plain: plain["ikev1"].update(due=[[1, 0]]),
    "an ISAKMP SA before the first": lambda plain: plain["ikev1"].update(due=[[0, -2]]),
    "an ISAKMP SA that is not there": lambda plain: plain["ikev1"].update(due=[[0, 1]]),
}


@pytest.mark.parametrize("change", WRONG_V1.values(), ids=WRONG_V1)
def test_a_model_that_says_what_cannot_be_leaves_nothing_of_ikev1(change):
    gateways = up(Gateways, peer_v1)
    octets = exported(gateways.a).octets
    assert refused(gateways.a, changed_model(octets, change))


@pytest.mark.parametrize(
    ("change", "gone", "left"),
    [
        (lambda plain: plain["ikev1"]["peerings"][0]["sessions"][0].update(cookie_i=b""), "old", "to-b"),
        (lambda plain: plain["ikev1"]["peerings"][0].update(field=1), "old", "to-b"),
        (lambda plain: plain["ikev2"]["sas"][0].update(state="asleep"), "to-b", "old"),
        (lambda plain: plain["ikev2"]["sas"][0].update(field=1), "to-b", "old"),
    ],
    ids=["a cookie", "a field of IKEv1", "a state", "a field of IKEv2"],
)
def test_what_cannot_be_of_one_version_leaves_the_other(change, gone, left):
    site = example_site()
    core, imported = taken(site, changed_model(exported(site).octets, change))
    assert [one.tunnel for one in imported.left_out] == [gone]
    assert [len(core.status(tunnel, site.clock())) for tunnel in (gone, left)] == [0, 1]


def test_no_key_of_a_model_that_is_refused_is_left(monkeypatch):
    """Nor of one that is taken, once it is."""
    ladder = up()
    octets = bytes(exported(ladder.a).octets)
    opened = noting(monkeypatch, carry_module, "open_model")
    refused(ladder.a, changed_model(octets, WRONG["one due before the first"]))
    taken(ladder.a, bytearray(octets))
    assert len(opened) == 2
    for model in opened:
        assert not any(keys_in(model.ikev2))


def test_no_key_is_left_of_one_version_where_the_other_cannot_be_read(monkeypatch):
    site = example_site()
    octets = exported(site).octets
    read = noting(monkeypatch, damaged, "_part")
    assert "form" in refused(site, changed_model(octets, lambda plain: plain["ikev1"].update(field=1)))
    (part,) = read
    assert keys_in(part)
    assert not any(keys_in(part))


# Numbers of CHILD_SAs are 1, 2, 3 in their tunnels' order.
NAMING = {
    "a request": lambda part: part["sas"][0].update(queue=[{"type": "child-create", "pairs": [], "rekeys": 3, "asked": True}]),
    "a DELETE": lambda part: part["sas"][0].update(queue=[{"type": "child-delete", "spi": 1, "child": 3}]),
    "a series": lambda part: part["sas"][0].update(
        series=[{"further": [], "secrets": [], "nonces": [b"", b""], "link": b"", "until": 0.0, "rekeys": 3}]
    ),
    "a CHILD_SA": lambda part: part["tables"][0]["children"][0].update(successor=3),
}


@pytest.mark.parametrize("change", NAMING.values(), ids=NAMING)
def test_who_names_a_child_sa_is_left_out_with_whoever_has_it(change):
    """Or a request of an IKE SA that is gone would stay on a CHILD_SA of another."""
    site = crowd(3)
    octets = export_ike(as_core(site.core), site.clock(), keys).octets

    def spoil(plain):
        change(plain["ikev2"])
        plain["ikev2"]["sas"][0].update(state="asleep")

    core, imported = taken(site, changed_model(octets, spoil))
    assert {one.tunnel for one in imported.left_out} == {"t0", "t2"}
    assert up_of(core, 3, site.clock()) == ["t1"]


def noting(monkeypatch, holder, name):
    """What the function gives, each time."""
    given, before = [], getattr(holder, name)

    def note(*arguments):
        given.append(before(*arguments))
        return given[-1]

    monkeypatch.setattr(holder, name, note)
    return given


def keys_in(part):
    """The octets of keys in what is carried of IKEv2, one behind the other."""
    keys, children = part.sas[0].keys, part.tables[0].children
    found = [getattr(keys, name) for name in keys.__struct_fields__]
    return b"".join(found + [key for child in children for key in (child.keymat_in, child.keymat_out)])


@pytest.mark.parametrize("failing", ["seal_model", "_choice_part", "CarriedIke"])
def test_no_key_is_left_of_an_export_that_fails_and_its_source_goes_on(monkeypatch, failing):
    ladder = up()
    parts = noting(monkeypatch, Ikev2Export, "part")

    def fail(*_arguments, **_named):
        raise MemoryError

    monkeypatch.setattr(carry_module, failing, fail)
    core = as_core(ladder.a.core)
    core.choices = {"to-b": VersionChoice(peer("a"), pinned=False)}
    with pytest.raises(MemoryError):
        export_ike(core, ladder.clock(), keys_of(ladder.a.sad))
    assert len(keys_in(parts[0])) == 176
    assert not any(keys_in(parts[0]))
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock()))
    ladder.settle()
    ladder.check()


STRANGE: tuple[Any, ...] = (-1, 1 << 63, "", "x", b"", bytes(40), None, float("nan"), [], {}, True)


def leaves(plain):
    """Where each value stands, and what holds it."""
    for key, value in list(plain.items() if isinstance(plain, dict) else enumerate(plain)):
        if isinstance(value, dict | list) and value:
            yield from leaves(value)
        else:
            yield plain, key


@pytest.mark.parametrize("strange", STRANGE, ids=repr)
def test_whatever_one_value_is_it_is_taken_or_refused(strange):
    """Of the example, each value by itself: nothing else is raised, and what is refused leaves nothing."""
    plain = msgspec.msgpack.decode(bytes.fromhex(EXAMPLES[-1].read_text())[HEAD:])
    site = Gateways([peer("a"), peer_v1("a", tunnel="old")], [peer("b")]).a
    for holder, key in leaves(plain):
        before, holder[key] = holder[key], strange
        site.core = fresh(site)
        try:
            import_ike(as_core(site.core), enveloped(msgspec.msgpack.encode(plain), MODEL), site.clock())
        except CarriedStateError:
            assert site.core.counters().sessions == 0
        holder[key] = before


def test_the_same_model_unchanged_is_taken():
    ladder = up()
    octets = exported(ladder.a).octets
    ladder.a.core, imported = taken(ladder.a, changed_model(octets, lambda _: None))
    check(ladder.a, imported)
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock()))
    ladder.settle()
    ladder.check()
