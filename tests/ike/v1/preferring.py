"""A gateway that prefers IKEv2, who calls as a driver does, and a box on the way that lets some messages pass and no others."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ipsec_dp.ike.actions import Endpoint, Kind, Path
from ipsec_dp.ike.core import IkeVersions
from tests.ike import ladder as v2

from .gateways import ESP, IKE, Gateways, peer

LONG = 600.0  # seconds
PAUSE = 2.0  # seconds between the end of a call and the next one


def preferring(site: str, **changes: Any):
    """As `ladder.peer`, with `version = "2-preferred"`."""
    found = v2.peer(site, **({"fail_over": True} | changes))
    return replace(found, fallback=replace(found, version=1, named=False, ike_proposals=IKE, esp_proposals=ESP))


def version(datagram: bytes) -> int:
    return datagram[17] >> 4


class Falling(Gateways):
    """`a` prefers IKEv2. `passes`: which datagrams do; `answers`: what somebody on the way says to one of a's, if anything."""

    def __init__(self, a: Any = None, b: Any = None, **further: Any) -> None:
        self.of_a = a or [preferring("a")]
        super().__init__(self.of_a, b, **further)
        self.passes: Callable[[bytes], bool] = lambda _: True
        self.answers: Callable[[bytes], bytes | None] = lambda _: None
        self.calls: list[tuple[float, int]] = []  # when each of a's began, by which version
        self._seen: set[bytes] = set()

    def deliver(self, receiver: str) -> bool:
        delivery = self.wire.take(receiver)
        if delivery is None:
            return False
        datagram, path = delivery.data
        if receiver == "b":
            self.note(datagram)
        path = Path(path.remote, path.local, path.natt)
        reply = self.answers(datagram) if receiver == "b" else None
        if reply is not None:
            self.wire.send("b", "a", (reply, path))
        elif self.passes(datagram):
            site = self.sites[receiver]
            site.do(site.core.receive(datagram, path, self.clock()))
        return True

    def drop_ikev2(self):
        self.passes = lambda datagram: version(datagram) == 1

    def note(self, datagram: bytes) -> None:
        """Of a's: whether it is the first of a call."""
        if datagram[8:16] == bytes(8) and datagram[:8] not in self._seen:
            self._seen.add(datagram[:8])
            self.calls.append((self.clock(), version(datagram)))

    def call(self, remote: Any = None) -> None:
        """To b, or to another of its addresses; the first message is on its way."""
        path = self.path("a")
        if remote is not None:
            path = replace(path, remote=Endpoint(remote, path.remote.port))
        self.a.do(self.a.core.initiate(self.a.tunnel, path, self.clock()))

    def call_until(self, over: Callable[[], object], seconds: float, pause: float = PAUSE) -> None:
        """As a driver does: each time that nothing is up or under way, and a pause later."""
        end = self.clock() + seconds
        while not over() and self.clock() < end:
            if not self.a.status:
                self.call()
            self.run(pause)

    def restart(self) -> None:
        """The gateway `a` is another process, and has what lasts."""
        self.a.do(self.a.core.close(self.clock()))
        self.settle()
        self.a.core = IkeVersions(self.a.core.environment, self.of_a)  # type: ignore[assignment]

    @property
    def versions(self) -> list[int]:
        """By which each call was made."""
        return [number for _, number in self.calls]

    def up_by(self, site: str = "a") -> list[int]:
        """The versions of the IKE SAs that are up."""
        return [status.version for status in self.sites[site].ups]

    @property
    def fallback(self) -> str | None:
        return self.a.core.fallback(self.a.tunnel, self.clock())  # type: ignore[attr-defined]

    def main_modes(self) -> int:
        """Messages of IKEv1 that a has sent."""
        return sum(version(delivery.data[0]) == 1 for delivery, _ in self.wire.log if delivery.sender == "a")

    def said(self, kind: Kind) -> list[str]:
        return [event.text for event in self.a.events if event.kind is kind]


def fallen(**further: Any) -> Any:
    """The peer has IKEv1 alone, and is up by that."""
    gateways = Falling(b=[peer("b")], **further)
    gateways.call_until(gateways.up_by, LONG)
    gateways.check()
    return gateways


def pinned() -> Any:
    """The peer has both, and has authenticated with IKEv2."""
    gateways: Any = Falling(b=[preferring("b")])
    gateways.call()
    gateways.settle()
    gateways.check()
    return gateways
