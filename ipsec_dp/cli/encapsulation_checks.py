"""What `ipsec-dp doctor` says of how ESP travels: as configured, and in the gateways that run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipsec_dp.cli.asking import ask, read
from ipsec_dp.cli.checks import Check
from ipsec_dp.cli.encapsulation_words import BECAUSE, firewalls
from ipsec_dp.cli.route_checks import configurations
from ipsec_dp.config.model import control_socket
from ipsec_dp.errors import IpsecDpError
from ipsec_dp.gateway.messages import StatusRequest
from ipsec_dp.gateway.status import GatewayStatus
from ipsec_dp.host import claim
from ipsec_dp.keying.status import COSTS
from ipsec_dp.util.text import named

if TYPE_CHECKING:
    from ipsec_dp.cli.checks import Host

NAMED: Final = 5  # tunnels
WAITS_S: Final = 5.0
REMEDIES: Final = {
    "peer": "turn NAT traversal on at the peer",
    "shared": "write the same encapsulation in both tunnels",
    "fallback": "let all of UDP port 4500 pass, there and back, then: ipsec-dp reload",
}


def encapsulations(host: Host) -> list[Check]:
    """How ESP is to travel by the configurations, and how it does in the gateways that run here and let themselves be asked."""
    tunnels = [tunnel for config in configurations(host) for tunnel in config.tunnels]
    found = [Check("encapsulation", "ok", text, COSTS if each == "esp" else "") for each, text in firewalls(tunnels).items()]
    return found + [each for name in claim.names(host.read("proc/thread-self/net/unix")) for each in _running(name)]


def _running(gateway: str) -> list[Check]:
    """Those tunnels of a gateway that could go faster."""
    try:
        answer = read(ask(control_socket(gateway), StatusRequest(), WAITS_S), GatewayStatus)
    except (IpsecDpError, OSError):
        return []
    slow: dict[str, list[str]] = {}
    for tunnel in answer.tunnels:
        if tunnel.encapsulation == "esp" and tunnel.encapsulation_why in REMEDIES:
            slow.setdefault(tunnel.encapsulation_why, []).append(tunnel.name)
    return [
        Check(
            "encapsulation", "warn", f"{gateway}: IP protocol 50: {named(names, NAMED)}", f"{BECAUSE[why]}; {COSTS}", REMEDIES[why]
        )
        for why, names in slow.items()
    ]
