"""`version = "2-preferred"` while time goes on: phase 1 is renewed, the configuration changes, the peer calls."""

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from ipsec_dp.ike.actions import Kind
from ipsec_dp.ike.effect import Effect
from ipsec_dp.ike.peer import Life
from tests.ike import ladder as v2

from .gateways import peer
from .preferring import LONG, Falling, fallen, pinned, preferring

# --- phase 1 is renewed ------------------------------------------------------------------------------------------------


def sends(gateways: Falling) -> bool:
    return all(site.sad.sending for site in gateways.sites.values())


def assert_never_silent(gateways: Falling, seconds: float) -> None:
    gaps: list[float] = []

    def look() -> None:
        if not sends(gateways):
            gaps.append(gateways.clock())

    gateways.run(seconds, look)
    assert gaps == []


LIFE = Life(400.0)


def test_while_the_peer_has_nothing_newer_phase_1_is_renewed_by_main_mode_after_ikev2_was_tried():
    gateways = Falling(a=[preferring("a", ike_life=LIFE)], b=[peer("b", ike_life=LIFE)])
    gateways.call_until(gateways.up_by, LONG)
    tried = len(gateways.wire.log)
    assert_never_silent(gateways, 1200.0)
    assert gateways.up_by() == [1]
    later = [version_of for delivery, _ in gateways.wire.log[tried:] if (version_of := delivery.data[0][17] >> 4)]
    assert later.count(2) >= 2 * 4, "each renewal is tried by IKEv2 too"
    assert sum("IKEv2 was tried in vain" in text for text in gateways.said(Kind.NOTE)) >= 2
    assert gateways.a.core.latest("to-b", gateways.clock())[-1].state == "up"
    assert gateways.fallback is not None


def test_a_peer_that_has_been_given_ikev2_is_met_by_that_at_the_next_renewal_without_a_gap():
    gateways = Falling(a=[preferring("a", ike_life=LIFE)], b=[peer("b", ike_life=LIFE)])
    gateways.call_until(gateways.up_by, LONG)
    b = gateways.b
    b.do(b.core.reconfigure([preferring("b", ike_life=LIFE)], {"to-a": Effect.IN_PLACE}, gateways.clock()))
    gateways.settle()
    if not gateways.up_by():
        gateways.call_until(gateways.up_by, LONG)
    gateways.run(450)
    assert gateways.up_by("a") == gateways.up_by("b") == [2]
    gateways.check()
    assert gateways.fallback is None
    assert gateways.a.core.environment.pins.holds("to-b")


def test_the_change_to_ikev2_leaves_no_gap():
    gateways = Falling(a=[preferring("a", ike_life=LIFE)], b=[preferring("b", ike_life=LIFE)])
    gateways.drop_ikev2()
    gateways.call_until(gateways.up_by, LONG)
    assert gateways.up_by() == [1]
    gateways.passes = lambda _: True
    assert_never_silent(gateways, 450)
    assert gateways.up_by("a") == gateways.up_by("b") == [2]
    gateways.check()
    for site in gateways.sites.values():
        assert len(site.sad.inbound) == 1, "nothing is left of IKEv1"
        assert site.core.counters().sessions == 1


def test_a_renewal_by_the_peer_is_followed_by_ikev2_too():
    gateways = called(preferring("a", ike_life=LIFE), [peer("b", ike_life=LIFE)])
    assert gateways.calls == []
    assert_never_silent(gateways, 450)
    assert gateways.versions == [2]
    assert gateways.up_by("a") == gateways.up_by("b") == [1]


def test_an_operator_renews_phase_1_by_ikev2_too():
    gateways: Any = Falling(b=[preferring("b")])
    gateways.drop_ikev2()
    gateways.call_until(gateways.up_by, LONG)
    gateways.passes = lambda _: True
    gateways.a.do(gateways.a.core.rekey("to-b", gateways.clock(), ike=True))
    gateways.settle()
    assert gateways.up_by("a") == gateways.up_by("b") == [2]


def test_a_life_too_short_for_both_does_not_wait_for_ikev2():
    life = Life(12.0, 4.0)
    gateways = Falling(a=[preferring("a", ike_life=life)], b=[peer("b", ike_life=life)])
    gateways.call_until(gateways.up_by, LONG)
    assert_never_silent(gateways, 60.0)
    assert gateways.up_by() == [1]


def test_what_has_fallen_is_tried_by_ikev2_once_before_the_next_call_by_ikev1():
    gateways = fallen()
    gateways.calls.clear()
    gateways.b.do(gateways.b.core.leave("to-a", gateways.clock()))
    gateways.settle()
    gateways.run(40)
    gateways.call_until(gateways.up_by, LONG)
    assert gateways.versions == [2, 1]
    assert gateways.up_by() == [1]


# --- the configuration changes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("effect", "versions"), [(Effect.IN_PLACE, [2, 1]), (Effect.RESTART, [2, 2])])
def test_what_is_known_of_a_peer_lasts_as_long_as_its_ike_sas(effect, versions):
    gateways = fallen()
    a = gateways.a
    a.do(a.core.reconfigure([preferring("a")], {"to-b": effect}, gateways.clock()))
    gateways.settle()
    assert bool(gateways.up_by()) is (effect is Effect.IN_PLACE)
    gateways.b.do(gateways.b.core.leave("to-a", gateways.clock()))
    gateways.run(40)
    gateways.calls.clear()
    gateways.call_until(lambda: len(gateways.calls) == 2, LONG)
    assert gateways.versions == versions


@pytest.mark.parametrize("effect", [Effect.IN_PLACE, Effect.RESTART])
def test_a_reload_takes_no_pin_away(effect):
    gateways = pinned()
    a = gateways.a
    a.do(a.core.reconfigure([preferring("a")], {"to-b": effect}, gateways.clock()))
    a.do(a.core.leave("to-b", gateways.clock()))
    gateways.drop_ikev2()
    gateways.call_until(gateways.main_modes, LONG)
    assert gateways.main_modes() == 0


def test_a_tunnel_that_may_no_longer_fall_ends_what_is_up_by_ikev1():
    gateways = fallen()
    a = gateways.a
    a.do(a.core.reconfigure([v2.peer("a")], {"to-b": Effect.RESTART}, gateways.clock()))
    gateways.settle()
    assert gateways.up_by() == []
    gateways.initiate("b")
    gateways.run(5)
    assert gateways.up_by() == []


def test_a_tunnel_that_is_gone_leaves_nothing():
    gateways = fallen()
    gateways.a.do(gateways.a.core.reconfigure([], {"to-b": Effect.RESTART}, gateways.clock()))
    gateways.settle()
    assert (gateways.a.core.ikev1.idle, gateways.a.core.counters().sessions) == (True, 0)


# --- called ------------------------------------------------------------------------------------------------------------


def called(a: Any, by: Any = None) -> Any:
    """b, which speaks IKEv1 alone, calls a."""
    gateways = Falling(a=[a], b=by or [peer("b")])
    gateways.initiate("b")
    gateways.settle()
    return gateways


def test_it_takes_ikev1_from_its_peers_address_and_says_so():
    gateways = called(preferring("a"))
    assert gateways.up_by() == [1]
    assert "calls by IKEv1" in str(gateways.fallback)


def test_by_its_name_only_from_where_that_is_known_to_be():
    assert called(preferring("a", named=True)).up_by() == [1]
    elsewhere = (ip_address("192.0.2.77"),)
    assert called(preferring("a", named=True, remotes=elsewhere)).up_by() == []
    assert called(preferring("a", named=True, remotes=())).up_by() == []
    assert called(replace(preferring("a"), fallback=None, named=True, remotes=()), [v2.peer("b")]).up_by() == [2], (
        "IKEv2 from anywhere"
    )


def test_a_name_that_is_resolved_later():
    gateways = called(preferring("a", named=True, remotes=()))
    assert gateways.up_by() == []
    gateways.a.core.set_peer(preferring("a", named=True))
    gateways.run(5)
    gateways.initiate("b")
    gateways.settle()
    assert gateways.up_by() == [1]


def test_once_the_peer_has_authenticated_with_ikev2_its_main_mode_is_not_answered():
    gateways = pinned()
    b = gateways.b
    b.do(b.core.reconfigure([peer("b")], {"to-a": Effect.RESTART}, gateways.clock()))
    gateways.run(10)
    sent = gateways.main_modes()
    gateways.initiate("b")
    gateways.run(5)
    assert gateways.main_modes() == sent == 0
    assert gateways.up_by() == []


def test_a_peer_that_calls_by_ikev2_ends_what_was_up_by_ikev1():
    gateways: Any = Falling(b=[preferring("b")])
    gateways.drop_ikev2()
    gateways.call_until(gateways.up_by, LONG)
    gateways.passes = lambda _: True
    b = gateways.b
    b.do(b.core.ikev2.initiate("to-a", gateways.path("b"), gateways.clock()))
    gateways.settle()
    assert gateways.up_by("a") == gateways.up_by("b") == [2]
    gateways.check()


def test_both_call_by_ikev2_while_a_box_lets_ikev1_alone_pass():
    gateways: Any = Falling(b=[preferring("b")])
    gateways.drop_ikev2()
    gateways.initiate("b")
    gateways.call_until(gateways.up_by, LONG)
    gateways.run(30)
    assert gateways.up_by("a") == gateways.up_by("b") == [1]
    gateways.check()
