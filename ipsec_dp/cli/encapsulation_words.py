"""How a tunnel's ESP travels, why so, and what that costs: for `status` and `top`, `encapsulation_checks` for `doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipsec_dp.keying.status import COSTS

if TYPE_CHECKING:
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
