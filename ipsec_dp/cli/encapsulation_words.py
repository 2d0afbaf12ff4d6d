"""How a tunnel's ESP travels, why so, and what that costs: for `status` and `top`, `encapsulation_checks` for `doctor`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from ipsec_dp.keying.status import COSTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.config import Tunnel
    from ipsec_dp.gateway.status import TunnelStatus

SHORT: Final = {  # what is said of `encapsulation` and its `encapsulation_why`
    ("udp", "configured"): "configured",
    ("udp", "peer"): "peer",
    ("esp", "peer"): "peer",
    ("esp", "fallback"): "fallback",
}
BECAUSE: Final = {  # of IP protocol 50, by `encapsulation_why`
    "configured": 'encapsulation = "esp" is written here',
    "peer": 'the peer does not detect NATs (RFC 7296 §2.23, RFC 3947), so it cannot be asked for UDP; or "esp" is written there',
    "shared": 'another tunnel to a peer at the same address has encapsulation = "esp"',
    "fallback": "UDP does not get through",
}
PASSES: Final = {  # by what is configured: how ESP goes, and what firewalls on the way have to let through
    "auto": "ESP in UDP where the peer can, IP protocol 50 where UDP does not get through: let UDP ports 500 and 4500 pass",
    "udp": "ESP in UDP: let UDP ports 500 and 4500 pass",
    "esp": "IP protocol 50: let UDP port 500 and IP protocol 50 (ESP) pass",
}


def outside(tunnel: TunnelStatus) -> str:
    """ "ESP", "UDP (configured)", "UDP (NAT remote)"; a dash while there is no IKE SA."""
    nat = f"NAT {tunnel.nat}" if tunnel.nat not in (None, "none") else ""
    if tunnel.encapsulation is None:
        return nat or "-"
    short = SHORT.get((tunnel.encapsulation, tunnel.encapsulation_why or ""))
    why = [*([short] if short else []), *([nat] if nat else [])]
    return tunnel.encapsulation.upper() + (f" ({', '.join(why)})" if why else "")


def slower(tunnel: TunnelStatus) -> str:
    """Why the ESP of a tunnel does not go the fast way, and what that costs; nothing where it does, or nobody knows why."""
    because = BECAUSE.get(tunnel.encapsulation_why or "") if tunnel.encapsulation == "esp" else None
    return "" if because is None else f"ESP goes as IP protocol 50, {COSTS}: {because}"


def firewalls(tunnels: Iterable[Tunnel]) -> dict[str, str]:
    """By what is configured for some tunnel with IKE: for how many, how their ESP goes, and what firewalls have to let pass."""
    counted = Counter[str](tunnel.encapsulation for tunnel in tunnels if tunnel.manual is None)
    return {
        each: f"{counted[each]} tunnel{'s' * (counted[each] > 1)}: {passes}" for each, passes in PASSES.items() if counted[each]
    }
