"""What selectors with ports mean for datagrams in fragments, of which only the first shows ports (RFC 4301 §7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.config.check import tunnel_place

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ipsec_dp.config import model
    from ipsec_dp.config.findings import Findings
    from ipsec_dp.ipsec.selectors import SelectorPair

TCP = 6  # cuts its stream to what passes
WHAT_IS_LOST = "hosts' datagrams that arrive in fragments do not pass, since later ones show no ports"
UNLESS = "where the peer agrees to NON_FIRST_FRAGMENTS_ALSO they do (strongSwan and Libreswan do not); what arrives whole passes"


def check_fragments(policies: Sequence[tuple[int, model.Policy]], tunnels: Sequence[model.Tunnel], findings: Findings) -> None:
    """One line where selectors of protected traffic ask for ports of what may come in fragments."""
    places = [(tunnel_place(tunnel.name), "proxy_id", tunnel.selectors) for tunnel in tunnels]
    places += [(f"policy #{number}", "", policy.selectors) for number, policy in policies if policy.tunnel is not None]
    asking = [(where, key) for where, key, selectors in places if _ask_ports(selectors)]
    if asking:
        more = f" (and {len(asking) - 1} more)" if len(asking) > 1 else ""
        findings.at(asking[0][0]).warn(asking[0][1], f"asks for ports{more}: {WHAT_IS_LOST}", UNLESS)


def _ask_ports(selectors: Iterable[SelectorPair]) -> bool:
    return any(selector.asks_ports and selector.protocol.single != TCP for selector in selectors)
