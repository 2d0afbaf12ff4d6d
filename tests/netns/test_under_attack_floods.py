"""A gateway under floods of the dearest messages that strangers can send: nobody waits for it.

    hostA eth0 -- lan gwA wan == wan gwB net == strangers (198.18.0.0/15)
                                     lan -- eth0 hostB

gwB is attacked; gwA is its genuine peer. Each bar has a short form, and a full one that measures and prints its figures.
"""

from __future__ import annotations

import pytest

from ipsec_dp.ipsec.transforms import GROUPS
from tests.netns.traffic import until
from tests.netns.under_attack import FULL, STATUS_MOST_S, StatusDelays, hub, printed, rekey_pauses
from tests.netns.used import busy_s

REKEY_S = 1.15
LATE_S = 0.5

UNFIT = [f"IKE_SA_INIT, {group.keyword}{how}" for group in GROUPS for how in ("", ", unfit value")]
FLOODS: dict[str, tuple[str, dict[str, object], int]] = {  # what strangers do, and beside how many tunnels
    "selectors": ("auth_flood", {"kind": "255 × 255 selectors"}, 2),
    "proposals": ("init_flood", {"kinds": ["IKE_SA_INIT, 60 proposals, none fits"]}, 1000),
    "DN": ("auth_flood", {"kind": "a DN of 900 octets"}, 2000),
    "RSA": ("auth_flood", {"kind": "six certificates, RSA of 16384 bits"}, 2),
    "constraints": ("auth_flood", {"kind": "six certificates, constraints"}, 2),
    "another peer's certificates": ("auth_flood", {"kind": "another peer's certificates"}, 2),
    "KE values": ("init_flood", {"kinds": UNFIT}, 2),
}
RATE = 100.0


@pytest.mark.alone("how late others are served is judged")
@pytest.mark.parametrize(
    ("flood", "tunnels", "seconds"),
    [
        pytest.param("selectors", 2, 2.0, id="short"),
        *(pytest.param(name, tunnels, 20.0, id=name, marks=FULL) for name, (_, _, tunnels) in FLOODS.items()),
    ],
)
def test_a_flood_of_dear_messages_makes_neither_status_nor_a_rekey_late(attacked, flood, tunnels, seconds, record_property):
    """A6: a few kilobytes held everything up for seconds."""
    gateways = attacked(tunnels=tunnels, proxy_ids=50, rekeys=True)
    act, arguments, _ = FLOODS[flood]
    pem = {"pem": str(gateways.directory)} if act == "auth_flood" else {}
    with StatusDelays(gateways.b) as quiet:
        until(lambda: len(quiet.taken) >= 5, "status without a flood")
    before, since = busy_s(gateways.b), len(gateways.b.text())
    with StatusDelays(gateways.b) as delays:
        sent = gateways.begin(act, rate=RATE, seconds=seconds, **arguments, **pem).end(seconds + 60.0)
    busy, pauses = busy_s(gateways.b) - before, rekey_pauses(gateways.b, since)
    text = (
        f"{flood} beside {tunnels} tunnels: {sent['sent']} sent, {sent['answered']} answered; {delays}, {1000 * quiet.longest:.0f}"
    )
    text += f" before; {len(pauses)} rekeys, {max(pauses, default=0):.2f} s from one to the next at most"
    printed(record_property, f"{text}; processor time {busy:.1f} s")
    assert sent["sent"] >= RATE * seconds / 4, "as many as the machine has time for"
    assert delays.longest <= STATUS_MOST_S
    assert max(pauses, default=0.0) <= REKEY_S + LATE_S
    assert len(pauses) >= (seconds - 4.0) / (REKEY_S + LATE_S)
    assert hub(gateways.a)["state"] in ("up", "rekeying")
