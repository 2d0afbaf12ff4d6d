"""What a person is told while a tunnel that prefers IKEv2 is up by IKEv1."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from ipsec_dp.cli.render import tunnel_table, view
from ipsec_dp.gateway.status import GatewayStatus, TunnelStatus
from ipsec_dp.ike import actions as act
from ipsec_dp.ike.effect import Effect
from ipsec_dp.keying.fallbacks import Fallbacks
from ipsec_dp.keying.status import IkeSaStatus
from ipsec_dp.util.conditions import Conditions
from tests.doubles.clock import FakeClock
from tests.doubles.config import tunnel
from tests.unit.ike_driver_site import AT_ONCE, Site, event

WHY = "it did not answer IKEv2"


def test_a_warning_that_lasts_as_long_as_it_does():
    conditions = Conditions(FakeClock())
    fallbacks = Fallbacks(conditions)
    fallbacks.look("to-b", WHY)
    fallbacks.look("to-b", WHY)
    fallbacks.look("to-c", None)
    (text,) = conditions.texts
    assert text.startswith(f'tunnel "to-b": its peer is met by IKEv1, a fallback: {WHY}; IKEv2 is tried anew')
    fallbacks.look("to-b", None)
    assert conditions.texts == []


def test_the_driver_looks_whenever_something_becomes_of_an_ike_sa(tmp_path):
    site = Site(tmp_path, tunnel("to-b", AT_ONCE))

    async def life():
        for kind, why, told in (
            (act.Kind.IKE_UP, WHY, 1),
            (act.Kind.IKE_REKEYED, WHY, 1),
            (act.Kind.IKE_UP, None, 0),
            (act.Kind.IKE_UP, WHY, 1),
            (act.Kind.IKE_DOWN, None, 0),
        ):
            site.core.answers["fallback"] = why
            site.hand(event(kind))
            assert len([text for text in site.conditions.texts if WHY in text]) == told

    site.run(life)


def test_it_ends_with_its_tunnel(tmp_path):
    site = Site(tmp_path, tunnel("to-b", AT_ONCE))

    async def life():
        site.core.answers["fallback"] = WHY
        site.hand(event(act.Kind.IKE_UP))
        await site.driver.reconfigure([], {}, {"to-b": Effect.RESTART})
        assert site.conditions.texts == []

    site.run(life)


def shown(**fields):
    ike = IkeSaStatus(role="initiator", proposal="aes256", **fields)
    return str(tunnel_table([TunnelStatus(name="to-b", state="up", ike=ike)]).rows)


def test_status_says_the_version_where_it_is_not_the_usual_one():
    assert "IKEv1" not in shown(version=2)
    assert "IKEv1 initiator" in shown(version=1)
    assert "IKEv1 (fallback) initiator" in shown(version=1, fallback=WHY)


@pytest.mark.parametrize(("pinned", "said"), [(True, "to-b: up; pinned to IKEv2"), (False, "to-b: up"), (None, "to-b: up")])
def test_status_says_that_a_tunnel_is_pinned(pinned, said):
    """For good, so also while it is down."""
    out = StringIO()
    status = TunnelStatus(name="to-b", state="up", state_text="up", pinned=pinned)
    Console(file=out, width=80).print(view(GatewayStatus(tunnels=(status,))))
    assert said in [line.rstrip() for line in out.getvalue().splitlines()]
