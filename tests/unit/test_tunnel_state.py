"""The state of a tunnel, of what was asked for: one table."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from ipsec_dp.ike.interface import ChildStatus
from ipsec_dp.ike.traffic_selectors import ProxyId, TrafficSelector
from ipsec_dp.ike.wanted import Lack
from ipsec_dp.keying.tunnel_state import tunnel_state
from tests.unit.gateway_doubles import ike_sa

if TYPE_CHECKING:
    from ipsec_dp.ike.interface import IkeStatus

NOW = 1000.0
CHILD = (ChildStatus(1, 0xC1, 0xC2, "aes256gcm16", True, (), 1.0, 2.0),)
NETS = ProxyId(TrafficSelector.from_prefix("10.1.0.0/24"), TrafficSelector.from_prefix("10.2.0.0/24"))
OTHER = ProxyId(TrafficSelector.from_prefix("10.1.1.0/24"), TrafficSelector.from_prefix("10.2.1.0/24"))
REFUSED = Lack(NETS, "the peer refuses it", True, NOW + 7.2)
ASKED = Lack(NETS, "", False, NOW)
LATER = f"{NETS}: the peer refuses it; again in 7 s"
RESTS = Lack(NETS, "the peer refuses it", True, float("inf"))


def sa(*lacking: Lack, children: tuple[ChildStatus, ...] = (), state: str = "up") -> IkeStatus:
    return ike_sa("192.0.2.2", state=state, children=children, lacking=lacking)


def intent(state: str = "failed", refusal: str | None = None, error: str | None = "did not answer") -> Any:
    return SimpleNamespace(state=state, text=f"text of {state}", last_error=error, refusal=refusal, waits_for="waiting for traffic")


@pytest.mark.parametrize(
    ("sas", "state", "text", "error"),
    [
        ([sa(children=CHILD)], "up", "up", None),
        ([sa(children=CHILD, state="rekeying")], "rekeying", "rekeying", None),
        ([sa(REFUSED, children=CHILD)], "partial", f"lacks {LATER}", f"{NETS}: the peer refuses it"),
        ([sa(RESTS, children=CHILD)], "partial", f"lacks {NETS}: the peer refuses it; asked for again with the next packet", ...),
        ([sa(ASKED, children=CHILD)], "partial", f"lacks {NETS}: asked for", None),
        ([sa(ASKED._replace(proxy_id=OTHER), REFUSED, children=CHILD)], "partial", f"lacks {LATER}, {OTHER}: asked for", ...),
        ([sa(REFUSED)], "failed", f"the IKE SA is up, without a CHILD_SA: {LATER}", ...),
        ([sa(ASKED)], "negotiating", f"the IKE SA is up; asked for {NETS}: asked for", None),
        ([sa()], "waiting", "the IKE SA is up, without a CHILD_SA; waiting for traffic", None),
        # authenticated anew: what the first one has does not lack, and what both lack does
        ([sa(children=CHILD), sa(ASKED)], "up", "up", None),
        ([sa(REFUSED, children=CHILD), sa(ASKED)], "partial", f"lacks {NETS}: asked for", None),
        # an IKE SA that is under way, one that is about to end, and none
        ([sa(state="negotiating")], "negotiating", "negotiating", None),
        ([sa(state="closing")], "failed", "text of failed", None),
        ([], "failed", "text of failed", None),
    ],
)  # fmt: skip
def test_the_table(sas, state, text, error):
    found = tunnel_state(sas, intent(error=None), NOW)
    assert (found.state, found.text) == (state, text)
    if error is not ...:
        assert found.error == error


@pytest.mark.parametrize(
    ("sas", "state"),
    [
        ([sa(state="negotiating")], "negotiating"),
        ([sa(children=CHILD)], "up"),
        ([sa(REFUSED, children=CHILD)], "partial"),
        ([sa(REFUSED)], "failed"),
        ([sa(ASKED)], "negotiating"),
    ],
)
def test_what_is_waited_for_in_vain_is_what_is_wrong_while_that_is_so(sas, state):
    """In every state, whatever went wrong before."""
    silent = [one._replace(silence="192.0.2.2:500 has not answered") for one in sas]
    found = tunnel_state(silent, intent(), NOW)
    assert (found.state, found.error) == (state, "192.0.2.2:500 has not answered")
    assert tunnel_state(sas, intent(), NOW).error != found.error
    assert tunnel_state([*sas, sa(state="negotiating")._replace(silence="the new one")], intent(), NOW).error == "the new one"


def test_a_refusal_here_or_there_is_a_failure_while_there_is_no_child_sa():
    """In both roles: what the peer asked for had nothing in common with what is configured."""
    found = tunnel_state([sa()], intent(refusal="no proxy ID fits"), NOW)
    assert (found.state, found.error) == ("failed", "no proxy ID fits")
    assert tunnel_state([sa(children=CHILD)], intent(refusal="no proxy ID fits"), NOW).state == "up"


def test_of_many_that_lack_the_first_are_named():
    many = [Lack(NETS, "", False, NOW)] * 50
    found = tunnel_state([sa(*many, children=CHILD)], cast("Any", intent()), NOW)
    assert found.text.endswith("and 47 more")
