"""IKE of a gateway in pieces: all of it is in one of them, what names each other is in one, and each is its source's no more."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ipsec_dp.ike.carried import carry
from ipsec_dp.ike.carried.carry import IkeSource, import_ike
from ipsec_dp.ike.carried.envelope import open_model
from ipsec_dp.ike.carried.ikev2 import Ikev2Export
from ipsec_dp.ike.carried.model import LeftOut
from ipsec_dp.ike.carried.part import CarriedStateError
from ipsec_dp.ike.errors import RetiredKeyError
from ipsec_dp.ike.v2.child_create import ChildCreate
from ipsec_dp.ike.v2.delete import ChildDelete
from ipsec_dp.ike.v2.series import TheirSeries
from tests.ike.carried.carrying import as_core, fresh
from tests.ike.carried.crowds import crowd, keys, up_of
from tests.ike.carried.test_bad_state import noting
from tests.ike.carried.test_carry import example_site

COUNT = 7


def unknown(session):
    session.ends.identities = None


def retired(session):
    session.sa.outgoing.ivs.retire()


def odd(session):
    session.ends.certificates = (SimpleNamespace(public_bytes=lambda _: 1 / 0),)


def of_no_limits(session):
    (child,) = session.children.values()
    child.limits = SimpleNamespace()


def source_of(site):
    return IkeSource(as_core(site.core), site.clock(), keys)


@pytest.fixture(autouse=True)
def two_tunnels_each(monkeypatch):
    """And the last one alone."""
    monkeypatch.setattr(carry, "AT_ONCE", 4)


@pytest.fixture
def one_tunnel_each(monkeypatch):
    monkeypatch.setattr(carry, "AT_ONCE", 1)


def pieces(site):
    source = source_of(site)
    return source, source.pieces()


def test_all_of_them_together_are_all_there_was():
    site = crowd(COUNT)
    before = site.core.counters()
    source, some = pieces(site)
    assert [sorted(one.tunnels) for one in some] == [["t0", "t1"], ["t2", "t3"], ["t4", "t5"], ["t6"]]
    core = fresh(site)
    for exported in source.each(some):
        assert import_ike(as_core(core), exported.octets, site.clock()).left_out == ()
    assert up_of(core, COUNT, site.clock()) == [f"t{one}" for one in range(COUNT)]
    assert core.counters() == before
    assert core.gateway.next_child() == COUNT + 1


def test_a_piece_retires_what_is_in_it_and_nothing_else():
    site = crowd(3)
    source, some = pieces(site)
    next(source.each(some))
    with pytest.raises(RetiredKeyError):
        site.core.rekey("t0", site.clock())
    assert site.core.rekey("t2", site.clock())


def test_ike_sas_that_name_each_other_are_in_one_piece_whatever_their_tunnels():
    site = crowd(COUNT)
    (first,), (last,) = site.core.sessions("t0"), site.core.sessions("t6")
    first.succession.after, last.succession.before = last, first
    _, some = pieces(site)
    assert some[0].tunnels == {"t0", "t6"}
    assert sorted(tunnel for one in some for tunnel in one.tunnels) == [f"t{one}" for one in range(COUNT)]


@pytest.mark.usefixtures("one_tunnel_each")
def test_both_versions_are_in_pieces():
    site = example_site()
    _, some = pieces(site)
    assert [one.tunnels for one in some] == [{"to-b"}, {"old"}]


@pytest.mark.usefixtures("one_tunnel_each")
def test_what_belongs_to_no_ike_sa_is_in_the_first_piece_alone():
    site = example_site()
    site.core.receive(bytes(40), site.core.status("to-b", site.clock())[0].path, site.clock())
    source, some = pieces(site)
    first, second = (open_model(exported.octets) for exported in source.each(some))
    assert first.ikev2.counts["malformed"] == 1
    assert (second.ikev2.counts, second.ikev2.retransmissions, second.choices) == ({}, {}, [])


@pytest.mark.usefixtures("one_tunnel_each")
def test_what_ikev1_counted_comes_along_where_its_isakmp_sas_are_in_a_later_piece():
    site = example_site()
    ikev1 = site.core.ikev1
    ikev1.gateway.count("malformed")
    ikev1.gateway.retransmissions["old"] += 2
    before = ikev1.tallies()
    source, some = pieces(site)
    assert some[0].peerings == []
    core = fresh(site)
    for exported in source.each(some):
        import_ike(as_core(core), exported.octets, site.clock())
    assert core.ikev1.tallies() == before
    assert before[0]["malformed"] == 1


def asked_to_rekey(session, child):
    session.queue.add(ChildCreate((), rekeys=child))


def asked_to_delete(session, child):
    session.queue.add(ChildDelete(child.spi_in, child))


def in_a_series(session, child):
    session.series[b"link"] = TheirSeries([], [], (b"", b""), SimpleNamespace(), child, link=b"link")


@pytest.mark.parametrize("name", [asked_to_rekey, asked_to_delete, in_a_series])
def test_who_names_a_child_sa_is_in_one_piece_with_who_holds_it(name):
    """Another IKE SA that took its CHILD_SAs over, maybe of another tunnel, is linked to it no more."""
    site = crowd(COUNT)
    (first,), (last,) = site.core.sessions("t0"), site.core.sessions("t6")
    (child,) = last.children.values()
    name(first, child)
    _, some = pieces(site)
    assert some[0].tunnels == {"t0", "t6"}


def test_of_a_gateway_without_ike_sas_there_is_one_piece():
    site = crowd(0)
    source = source_of(site)
    assert [one.tunnels for one in source.pieces()] == [set()]


def test_a_piece_that_comes_twice_is_taken_once():
    """Its IKE SAs are there: those that come again would seal with their keys."""
    site = crowd(COUNT)
    source, some = pieces(site)
    core = fresh(site)
    for number, exported in enumerate(source.each(some)):
        again = exported.octets[:]
        import_ike(as_core(core), exported.octets, site.clock())
        sessions = core.sessions()
        imported = import_ike(as_core(core), again, site.clock())
        assert {one.tunnel for one in imported.left_out} == some[number].tunnels
        assert imported.actions == []
        assert core.sessions() == sessions


def test_a_piece_that_is_spoiled_leaves_the_others():
    site = crowd(COUNT)
    source, some = pieces(site)
    core = fresh(site)
    for number, exported in enumerate(source.each(some)):
        if number == 1:
            exported.octets[-1] ^= 1
            with pytest.raises(CarriedStateError, match="digest"):
                import_ike(as_core(core), exported.octets, site.clock())
            continue
        import_ike(as_core(core), exported.octets, site.clock())
    assert up_of(core, COUNT, site.clock()) == ["t0", "t1", "t4", "t5", "t6"]


def taken_of(site, monkeypatch):
    """The core that has taken all pieces, what each export left out and each import, and no key of the parts is left."""
    made = noting(monkeypatch, Ikev2Export, "part")
    source, some = pieces(site)
    core, exports, imports = fresh(site), list[LeftOut](), list[LeftOut]()
    for exported in source.each(some):
        exports += exported.left_out
        imports += import_ike(as_core(core), exported.octets, site.clock()).left_out
    for part in made:
        assert not any(key for one in part.sas if one.keys for key in one.keys.sk_d)
    return core, exports, imports


@pytest.mark.parametrize("spoil", [unknown, retired, odd, of_no_limits])
def test_an_ike_sa_that_cannot_be_exported_is_named_and_all_others_go_on(monkeypatch, spoil):
    site = crowd(COUNT)
    (spoiled,) = site.core.sessions("t2")
    spoil(spoiled)
    core, exports, imports = taken_of(site, monkeypatch)
    assert [one.tunnel for one in exports] == [one.tunnel for one in imports] == ["t2"]
    assert exports[0].spi_i == imports[0].spi_i == spoiled.sa.spi_i
    assert up_of(core, COUNT, site.clock()) == ["t0", "t1", "t3", "t4", "t5", "t6"]
    assert not any(spoiled.sa.keys.sk_d), "a key is left"
    with pytest.raises(RetiredKeyError):
        site.core.rekey("t2", site.clock())


def test_what_belongs_to_one_that_cannot_be_exported_is_left_out_with_it(monkeypatch):
    site = crowd(COUNT)
    (first,), (last,) = site.core.sessions("t0"), site.core.sessions("t6")
    first.succession.after, last.succession.before = last, first
    unknown(first)
    core, exports, imports = taken_of(site, monkeypatch)
    assert [one.tunnel for one in exports] == ["t0"]
    assert sorted(one.tunnel for one in imports) == ["t0", "t6"]
    assert up_of(core, COUNT, site.clock()) == ["t1", "t2", "t3", "t4", "t5"]


def test_a_piece_that_cannot_be_exported_has_its_tunnels_named_and_the_others_go_on(monkeypatch):
    """Whatever is raised."""
    site = crowd(COUNT)
    (spoiled,) = site.core.sessions("t2")
    del spoiled.abilities.notes.told
    core, exports, imports = taken_of(site, monkeypatch)
    assert [one.tunnel for one in exports] == [one.tunnel for one in imports] == ["t2", "t3"]
    assert up_of(core, COUNT, site.clock()) == ["t0", "t1", "t4", "t5", "t6"]
    for tunnel in ("t2", "t3"):
        (session,) = site.core.sessions(tunnel)
        assert not any(session.sa.keys.sk_d), "a key is left"


def test_an_isakmp_sa_that_cannot_be_exported_is_named_and_the_other_version_goes_on():
    site = example_site()
    (session,) = site.core.ikev1.sessions("old")
    session.proven.identities = None
    source, some = pieces(site)
    core, imports = fresh(site), list[LeftOut]()
    for exported in source.each(some):
        imports += import_ike(as_core(core), exported.octets, site.clock()).left_out
    assert [one.tunnel for one in imports] == ["old"]
    assert [len(core.status(tunnel, site.clock())) for tunnel in ("old", "to-b")] == [0, 1]
    assert session.sa.retired
