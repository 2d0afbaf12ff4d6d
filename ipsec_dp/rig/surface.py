"""What every gateway of a rig can be asked, in memory or in a network namespace: a test written for one runs on the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ipsec_dp.gateway.explanation import ExplainAnswer
    from ipsec_dp.gateway.messages import ReloadResult
    from ipsec_dp.gateway.status import ChildSaStatus, GatewayStatus, TunnelStatus
    from ipsec_dp.ike.actions import Cause, Kind
    from ipsec_dp.rig.configs import Written

WAIT_S: Final = 60.0  # of the clock, for which `wait` waits where nothing else is said


@dataclass(frozen=True, slots=True)
class RigEvent:
    """Something that IKE told its gateway. `at`: seconds of the clock; `tunnel`: "" while none is known."""

    at: float
    gateway: str
    kind: Kind
    tunnel: str
    text: str
    cause: Cause | None = None
    child: int | None = None

    def __str__(self) -> str:
        return f"{self.at:12.3f}  {self.gateway}  {self.kind}{f' [{self.tunnel}]' if self.tunnel else ''}: {self.text}"


Awaited = "str | Kind | Callable[[], bool]"
"""What can be waited for: a state of a tunnel ("up", "down", …), the kind of an event, "packet", or anything that will hold."""


class RigGateway(Protocol):
    """One gateway. Everything raises RigError once it is closed.

    `tunnel` names one of its tunnels; None: the only one there is, or, where a question is asked, all of them.
    """

    @property
    def name(self) -> str:
        """`[gateway] name`."""

    def initiate(self, tunnel: str | None = None) -> None:
        """Calls the peer. RigError: only the peer can call, or no tunnel is called so."""

    def rekey(self, tunnel: str | None = None, *, ike: bool = False) -> None:
        """Asks for new keys, of all CHILD_SAs or of the IKE SA. RigError: there is none."""

    def terminate(self, tunnel: str | None = None) -> None:
        """Deletes the SAs, here and at the peer."""

    def reload(self, config: Written | None = None, files: Mapping[str, str | bytes] | None = None) -> ReloadResult:
        """Takes another configuration over, or reads the same one again. ConfigError with all that is wrong with it."""

    def wait(self, event: str | Kind | Callable[[], bool], timeout: float = WAIT_S, tunnel: str | None = None) -> None:
        """Lets time pass until `event`, at the most `timeout` seconds: a state of a tunnel, an event that has not been waited for
        yet, "packet" for `received`, or whatever holds. RigError: it does not come, or cannot."""

    def sas(self, tunnel: str | None = None) -> tuple[ChildSaStatus, ...]:
        """The CHILD_SAs, in the order in which they came."""

    def status(self) -> GatewayStatus:
        """All that `status --json` says but for the tunnels."""

    def tunnel(self, tunnel: str | None = None) -> TunnelStatus:
        """What `status --json` says of a tunnel."""

    def counters(self) -> dict[str, int]:
        """Packets, octets, IKE messages and drops since the start, by name; drops only where there are any."""

    def inject(self, packet: bytes) -> None:
        """The host sends an inner IP packet, which takes the route to its destination. RigError: none leads into a tunnel."""

    def received(self) -> list[bytes]:
        """The inner packets that the host got since the last call."""

    def explain(self, source: str, destination: str, protocol: str | int | None = None) -> ExplainAnswer:
        """What decides about a packet now."""

    def events(self) -> tuple[RigEvent, ...]:
        """All that IKE told since the start."""

    def keylog(self) -> str:
        """The keys that it had, a line each, as Wireshark's table of ESP SAs (`esp_sa`) has them."""

    def capture(self) -> bytes:
        """Its outer datagrams as a pcapng file of IP packets."""

    def close(self) -> None:
        """Ends it: peers are told. Nothing when it is closed."""
