"""Rules of the security policy database (RFC 4301 §4.4.1), as the configuration states them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ipsec_dp.ipsec.selectors import SelectorPair

Action = Literal["protect", "bypass", "discard"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the policy database, in the order of decision.

    `interface` is the TUN interface the rule belongs to, None: every one. `tunnel` is set under protect. `policy` is the index of
    the [[policy]] it comes from, None: a proxy ID of its tunnel, whose index (or None: the tunnel has none) is `proxy_id`.
    """

    selector: SelectorPair
    action: Action
    interface: str | None
    tunnel: str | None
    policy: int | None = None
    proxy_id: int | None = None
