"""Two gateways that speak IKEv1, on the wire of `tests.ike.ladder`: main mode and quick mode as message ladders."""

from collections.abc import Callable
from typing import Any

from ipsec_dp.ike import actions as act
from ipsec_dp.ike.core import IkeVersions
from ipsec_dp.ike.environment import NO_TRACE
from ipsec_dp.ike.peer import Liveness
from ipsec_dp.ike.proposal import parse_esp, parse_ike
from tests.ike import ladder as v2

IKE = parse_ike(["aes256-sha256-ecp256"])
ESP = parse_esp(["aes128gcm16"])
THREE = tuple(v2.proxy_id(f"10.1.{number}.0/24", f"10.2.{number}.0/24") for number in range(3))
MIRRORED = tuple(pair._replace(local=pair.remote, remote=pair.local) for pair in THREE)
NAMES = {2: "main", 4: "aggressive", 5: "info", 32: "quick"}


def peer(site: str, **changes: Any):
    """As `ladder.peer`, by IKEv1."""
    return v2.peer(site, **({"version": 1, "ike_proposals": IKE, "esp_proposals": ESP, "liveness": Liveness(0.0)} | changes))


def aggressive(site: str, **changes: Any):
    """The same in aggressive mode."""
    return peer(site, **({"mode": "aggressive"} | changes))


class Gateways(v2.Ladder):
    """Both with the whole core, as a gateway has it."""

    def __init__(self, a: Any = None, b: Any = None, seed: Any = 0, epoch: Any = v2.EPOCH, trace: Any = NO_TRACE) -> None:
        super().__init__(a or [peer("a")], b or [peer("b")], seed, epoch, trace)
        self.loses: Callable[[], bool] = lambda: False
        for site, peers in ((self.a, a or [peer("a")]), (self.b, b or [peer("b")])):
            site.core = IkeVersions(site.core.environment, peers)  # type: ignore[assignment]

    def deliver(self, receiver: str) -> bool:
        """As a ladder does, but for what the wire loses at random."""
        if self.loses() and self.wire.take(receiver) is not None:
            return True
        return super().deliver(receiver)

    def start(self, site: str = "a"):
        """A main mode with one quick mode, begun by `site`, until nothing waits."""
        self.initiate(site)
        self.settle()
        return self

    def taken(self, receiver: str) -> tuple[bytes, Any]:
        """The datagram that waits for a gateway, and its path, instead of its delivery."""
        delivery = self.wire.take(receiver)
        assert delivery is not None
        return delivery.data

    def modes(self, sender: str | None = None):
        """Every message sent so far, as "ab main"."""
        return [
            f"{delivery.sender}{delivery.receiver} {NAMES.get(delivery.data[0][18], '?')}"
            for delivery, _ in self.wire.log
            if sender in (None, delivery.sender)
        ]

    def installs(self, site: str):
        return [name for name, _ in self.sites[site].sad.log]

    def faults(self):
        """What was counted of datagrams that led to nothing."""
        names = ("malformed", "unauthenticated", "out_of_window", "unknown_spi", "refused", "no_peer", "limited")
        return {
            site.name: {name: count for name in names if (count := getattr(site.core.counters(), name))}
            for site in self.sites.values()
        }


def texts(site: Any, kind: act.Kind) -> list[str]:
    """What the events of a kind say."""
    return [event.text for event in site.events if event.kind is kind]
