"""Of state that is not taken, or one IKE SA of it, no copy of a key is left, wherever it is found out."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from ipsec_dp.ike.actions import InstallInbound, InstallOutbound
from ipsec_dp.ike.carried import ike_keys, ikev1_import, ikev2_import
from ipsec_dp.ike.carried.carry import export_ike
from ipsec_dp.ike.carried.part import CarriedStateError
from ipsec_dp.ike.v1.keymat import Skeyids
from ipsec_dp.ike.v2.keymat import IkeKeys
from ipsec_dp.ike.v2.series import Series, TheirSeries
from tests.ike.carried.carrying import as_core, exported, refused, taken, up
from tests.ike.carried.crowds import crowd, keys
from tests.ike.carried.test_bad_state import SECRET, changed_model, child_delete, our_rekey, series
from tests.ike.carried.test_carry import example_site
from tests.ike.ladder import Ladder, peer
from tests.ike.v1.gateways import Gateways
from tests.ike.v1.gateways import peer as peer_v1


def with_a_request_that_has_no_message(plain):
    outstanding = {"message_id": 1, "task": our_rekey(), "sealed": {"content": our_rekey()["series"]["answer"]}}
    plain["ikev2"]["sas"][0]["window"].update(outstanding=outstanding | {"attempt": 0, "deadline": 0.0, "began": 0.0})


LEFT_OUT = {
    "a state": lambda plain: plain["ikev2"]["sas"][0].update(state="asleep"),
    "two of one SPI": lambda plain: plain["ikev2"]["sas"][1].update(spi_i=plain["ikev2"]["sas"][0]["spi_i"]),
    "a path": lambda plain: plain["ikev2"]["sas"][0]["path"][0].__setitem__(1, 1 << 16),
    "an IV": lambda plain: plain["ikev2"]["sas"][0].update(sk_iv={"type": "exact", "next": 1 << 50}),
    "a series beside the peer's": lambda plain: plain["ikev2"]["sas"][0].update(
        series=[series(plain), series(plain, link=b"2", further=["rot13"])]
    ),
    "a task beside ours": lambda plain: plain["ikev2"]["sas"][0].update(queue=[our_rekey(), child_delete(0)]),
    "no message of a series": with_a_request_that_has_no_message,
}
LEFT_OUT_V1 = {
    "two of one cookie": lambda sessions: sessions.append(sessions[0]),
    "a path": lambda sessions: sessions[0]["path"][0].__setitem__(1, 1 << 16),
    "a key": lambda sessions: sessions[0]["keys"].update(cipher=b"k"),
    "an exchange": lambda sessions: sessions[0].update(exchange=0),
}


@pytest.fixture
def keys_made(monkeypatch):
    """Everything with keys that is made: what of it still has some, by its kind."""
    made = list[Any]()

    def note(kind):
        init = kind.__init__

        def noted(self, *arguments, **named):
            init(self, *arguments, **named)
            made.append(self)

        monkeypatch.setattr(kind, "__init__", noted)

    for kind in (IkeKeys, Skeyids, Series, TheirSeries, InstallInbound, InstallOutbound):
        note(kind)
    return lambda: [type(one) for one in made if any(any(key) for key in octets_of(one))]


def octets_of(one):
    values = [getattr(one, each.name) for each in fields(one)]
    return [key for value in values for key in (value if isinstance(value, list) else [value]) if isinstance(key, bytearray)]


@pytest.mark.parametrize("change", LEFT_OUT.values(), ids=LEFT_OUT)
def test_no_key_is_left_of_an_ike_sa_that_is_left_out(change, keys_made):
    site = crowd(2)
    octets = export_ike(as_core(site.core), site.clock(), keys).octets
    before = len(keys_made())
    _, imported = taken(site, changed_model(octets, change))
    assert len(imported.left_out) == 1
    assert keys_made()[before:] == [IkeKeys], "those of the sound one"


def test_no_key_is_left_that_repeats_of_the_last_request_would_be_checked_with(monkeypatch):
    site, given = crowd(2), list[Any]()
    octets = export_ike(as_core(site.core), site.clock(), keys).octets

    def too_short(plain):
        sa = plain["ikev2"]["sas"][0]
        del sa["keys"]
        sa.update(kept={"encryption": SECRET[:5], "integrity": SECRET})

    def failing(_suite, *kept):
        given.extend(kept)
        raise ValueError

    monkeypatch.setattr(ike_keys, "protection", failing)
    _, imported = taken(site, changed_model(octets, too_short))
    assert len(imported.left_out) == 1
    assert len(given) == 2
    assert not any(map(any, given))


@pytest.mark.parametrize("change", LEFT_OUT_V1.values(), ids=LEFT_OUT_V1)
def test_no_key_is_left_of_an_isakmp_sa_that_is_left_out(change, keys_made):
    site = up(Gateways, peer_v1).a
    octets = exported(site).octets
    before = len(keys_made())
    _, imported = taken(site, changed_model(octets, lambda plain: change(plain["ikev1"]["peerings"][0]["sessions"])))
    assert imported.left_out
    assert keys_made()[before:] == []


@pytest.mark.parametrize(("make", "of"), [(Ladder, peer), (Gateways, peer_v1)], ids=["IKEv2", "IKEv1"])
def test_no_key_is_left_of_state_that_is_not_admitted(make, of, keys_made):
    site = up(make, of).a
    octets = exported(site).octets
    before = len(keys_made())

    def never(_serials):
        raise CarriedStateError("never")

    assert refused(site, octets, never) == "never"
    assert keys_made()[before:] == []


@pytest.mark.parametrize("module", [ikev2_import, ikev1_import], ids=["IKEv2", "IKEv1"])
def test_what_cannot_be_installed_is_found_before_anything_is_the_cores(module, monkeypatch, keys_made):
    """Whatever is wrong with it: the second pair of SAs, when the keys of the first one are there."""
    installed, selector_pairs = list[Any](), module.selector_pairs

    def failing(pairs):
        if installed:
            raise ValueError
        installed.append(pairs)
        return selector_pairs(pairs)

    monkeypatch.setattr(module, "selector_pairs", failing)

    def twice(plain):
        of_one = plain["ikev2"]["tables"][0]["children"] if module is ikev2_import else plain["ikev1"]["peerings"][0]["sas"]
        of_one.append(of_one[0] | {"number": 70})

    site = example_site()
    octets = changed_model(exported(site).octets, twice)
    before = len(keys_made())
    assert refused(site, octets)
    assert installed
    assert keys_made()[before:] == []
