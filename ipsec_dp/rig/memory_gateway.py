"""A whole gateway in memory: the real configuration, IKE core, SAD, policy and C core; only its host and its clock are doubles.

    wire = Wire(loss=0.1)
    with Gateway(SITE_A, wire=wire) as a, Gateway(SITE_B, wire=wire) as b:
        a.wait("up")
        a.inject(udp("10.1.0.5", "10.2.0.5", b"hello"))
        b.wait("packet")

No root, no socket, no thread, and no time but the clock's, which passes in `wait` and `advance` alone.
"""

from __future__ import annotations

import tempfile
from ipaddress import ip_address
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ipsec_dp.errors import ConfigError, IpsecDpError
from ipsec_dp.gateway.messages import ExplainRequest, ReloadRefusal, ReloadRequest
from ipsec_dp.rig.configs import loaded, negotiated_tunnel, tunnel_of
from ipsec_dp.rig.goals import STATES, Goals
from ipsec_dp.rig.loop import RigError
from ipsec_dp.rig.medium import Medium
from ipsec_dp.rig.memory_site import START_S, MemorySite
from ipsec_dp.rig.surface import WAIT_S
from ipsec_dp.rig.wireshark import ESP_TABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ipsec_dp.config import Config, Tunnel
    from ipsec_dp.dataplane import DataPlane
    from ipsec_dp.gateway.composition import Engine
    from ipsec_dp.gateway.explanation import ExplainAnswer
    from ipsec_dp.gateway.messages import ReloadResult
    from ipsec_dp.gateway.status import ChildSaStatus, GatewayStatus, TunnelStatus
    from ipsec_dp.ike.actions import Kind
    from ipsec_dp.ipsec.addresses import Address
    from ipsec_dp.rig.clock import Clock
    from ipsec_dp.rig.configs import Written
    from ipsec_dp.rig.memory_host import MemoryHost
    from ipsec_dp.rig.netns import Namespace
    from ipsec_dp.rig.netns_gateway import NetnsGateway
    from ipsec_dp.rig.surface import RigEvent, RigGateway
    from ipsec_dp.rig.wires import Wire


class Gateway:
    """`ipsec_dp.rig.surface.RigGateway` in memory, up when it is made. Close it, or use `with`.

    config: TOML text, a dictionary of its tables, or the name of a file. wire: one or several, which join it to the other gateways
    that are made with them; None: the wire of `network`. clock: None, that of its wire's network. network: None, the wire's. files:
    what the configuration's secrets and certificates hold, by name; a `psk_file` that is not among them is made from its name.
    addresses: the outer ones; None: each `local` of its tunnels. `site` is its inside. netns: a namespace, in which the daemon is
    started: what is made is a `NetnsGateway` then, which takes `files` alone.
    """

    def __new__(cls, config: Written, *, netns: Namespace | None = None, **options: Any) -> Gateway | NetnsGateway:  # type: ignore[misc]
        if netns is None:
            return super().__new__(cls)
        from ipsec_dp.rig.netns_gateway import NetnsGateway

        if options.keys() - {"files"}:
            raise RigError(
                f"{', '.join(sorted(options.keys() - {'files'}))}: of gateways in memory; in a namespace links join them"
            )
        return NetnsGateway(config, netns, **options)

    def __init__(
        self,
        config: Written,
        *,
        wire: Wire | Sequence[Wire] | None = None,
        clock: Clock | None = None,
        network: Medium | None = None,
        files: Mapping[str, str | bytes] | None = None,
        addresses: Iterable[str] | None = None,
        netns: Namespace | None = None,
    ) -> None:
        del netns  # then it is none of these
        wires: list[Wire] = [] if wire is None else list(wire) if isinstance(wire, list | tuple) else [wire]  # type: ignore[list-item]
        self._directory = tempfile.TemporaryDirectory(prefix="ipsec-dp-rig-")
        try:
            read = loaded(config, Path(self._directory.name), files or {})
            found = [ip_address(each) for each in addresses] if addresses is not None else _locals(read)
            if not found:
                raise RigError(f"gateway {read.name} has no outer address: write local = in a [[tunnel]], or give addresses=")
            self.network = _medium_of(wires, clock, network)
            self.site = MemorySite(self.network, read, wires or [self.network.wire], found)
            self.site.at_end = self._directory.cleanup
            self._goals = Goals(self.site)
            self.site.start()
        except BaseException:
            self._directory.cleanup()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """As `RigGateway`. A network that was made for it is closed with its last gateway."""
        try:
            self.site.close()
        finally:
            if self.network.owned and not self.network.gateways:
                self.network.close()

    @property
    def name(self) -> str:
        """As `RigGateway`."""
        return self.site.name

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self.site.gateway.config

    @property
    def clock(self) -> Clock:
        """The time of all gateways of its network."""
        return self.network.clock

    @property
    def host(self) -> MemoryHost:
        """The double of its host, which can be told that something happened to it."""
        return self.site.host

    @property
    def plane(self) -> DataPlane:
        """The C core."""
        self._engine()
        if self.site.plane is None:
            raise RigError(f"gateway {self.name} has no data plane")
        return self.site.plane

    # ---- verbs

    def initiate(self, tunnel: str | None = None) -> None:
        """As `RigGateway`."""
        self._ask(lambda engine, name: engine.ike.initiate(name), tunnel)

    def rekey(self, tunnel: str | None = None, *, ike: bool = False) -> None:
        """As `RigGateway`."""
        self._ask(lambda engine, name: engine.ike.rekey(name, ike=ike), tunnel)

    def terminate(self, tunnel: str | None = None) -> None:
        """As `RigGateway`."""
        self._ask(lambda engine, name: engine.ike.terminate(name), tunnel)

    def reload(self, config: Written | None = None, files: Mapping[str, str | bytes] | None = None) -> ReloadResult:
        """As `RigGateway`."""
        self._engine()
        self.site.touch(packets=True)
        path = self.config.path if config is None else loaded(config, Path(self._directory.name), files or {}).path
        result = self.network.loop.call(self.site.gateway.verbs.reload(ReloadRequest(file=str(path))), START_S)
        if isinstance(result, ReloadRefusal):
            raise ConfigError(result.findings)
        return result

    def inject(self, packet: bytes) -> None:
        """As `RigGateway`."""
        self._engine()
        version = packet[0] >> 4 if packet else 0
        if version not in (4, 6) or len(packet) < (20 if version == 4 else 40):
            raise RigError(f"{len(packet)} octets that begin with {packet[:1].hex() or 'nothing'} are no IP packet")
        destination = ip_address(packet[16:20] if version == 4 else packet[24:40])
        interface = self.site.leading(destination)
        if interface is None:
            raise RigError(f"no route of gateway {self.name} leads to {destination}: the packet would pass by every tunnel")
        self.host.push(interface, packet)

    def wait(self, event: str | Kind | Callable[[], bool], timeout: float = WAIT_S, tunnel: str | None = None) -> None:
        """As `RigGateway`."""
        self._engine()
        if timeout < 0:
            raise RigError(f"timeout={timeout:g}: time does not go back")
        if not isfinite(timeout):
            raise RigError(f"timeout={timeout:g}: it may never come; say how many seconds of the clock to wait at the most")
        of_state = isinstance(event, str) and event in STATES
        if tunnel is not None or of_state:
            tunnel = self._negotiated(tunnel)
        goal = self._goals.of(event, tunnel)
        try:
            reached = (self.network.run_asking if goal.asks else self.network.run)(goal.holds, timeout)
        except RigError as error:
            raise RigError(f"gateway {self.name} waits for {goal.text}, which cannot come: {error}") from error
        if not reached:
            why = f"{self.network.standstill()}\n{self.story()}"
            raise RigError(f"gateway {self.name} waited {timeout:g} s for {goal.text} in vain: {why}")

    # ---- questions

    def sas(self, tunnel: str | None = None) -> tuple[ChildSaStatus, ...]:
        """As `RigGateway`."""
        names = [each.name for each in self.config.tunnels] if tunnel is None else [self._tunnel(tunnel).name]
        return tuple(child for name in names for child in self.tunnel(name).children)

    def status(self) -> GatewayStatus:
        """As `RigGateway`."""
        return self.network.loop.call(self._engine().inspection.gateway(), START_S)

    def tunnel(self, tunnel: str | None = None) -> TunnelStatus:
        """As `RigGateway`."""
        inspection, name = self._engine().inspection, self._tunnel(tunnel).name

        async def first() -> TunnelStatus | None:
            return await anext(aiter(inspection.tunnels(name)), None)

        found = self.network.loop.call(first(), START_S)
        if found is None:
            raise RigError(f"tunnel {name!r} is gone")
        return found

    def counters(self) -> dict[str, int]:
        """As `RigGateway`."""
        status = self.status()
        traffic = {name: getattr(status.traffic, name) for name in status.traffic.__struct_fields__}
        return traffic | {reason: count for reason, count in status.drops.items() if count}

    def received(self) -> list[bytes]:
        """As `RigGateway`."""
        self._engine()
        got, self.site.inbox = self.site.inbox, []
        return got

    def explain(self, source: str, destination: str, protocol: str | int | None = None) -> ExplainAnswer:
        """As `RigGateway`."""
        self._engine()
        asked = ExplainRequest(source=source, destination=destination, protocol=protocol)
        return self.network.loop.call(self.site.gateway.verbs.explain(asked), START_S)

    def events(self) -> tuple[RigEvent, ...]:
        """As `RigGateway`."""
        return tuple(self.site.events)

    def keylog(self, table: str = ESP_TABLE) -> str:
        """As `RigGateway`; with IKE_TABLE the keys of its IKE SAs, with IKEV1_TABLE those of its ISAKMP SAs."""
        self._engine()
        return "".join(f"{line}\n" for line in self.site.key_lines(table))

    def capture(self) -> bytes:
        """As `RigGateway`."""
        self._engine()
        return self.network.capture(self.name)

    def story(self, last: int = 40) -> str:
        """The newest datagrams to and from it and its newest events, a line each, in the order of time."""
        mine = [sent for sent in self.network.log if self.name in (sent.passing.sender, sent.passing.receiver)]
        lines = [*((sent.passing.at, str(sent)) for sent in mine), *((event.at, str(event)) for event in self.site.events)]
        return "\n".join(line for _, line in sorted(lines, key=lambda each: each[0])[-last:])

    # ---- which of its tunnels

    def _engine(self) -> Engine:
        if self.site.closed:
            raise RigError(f"gateway {self.name} is closed")
        self.network.check()
        engine = self.site.gateway.engine
        if engine is None:
            raise RigError(f"gateway {self.name} is not up")
        return engine

    def _tunnel(self, name: str | None) -> Tunnel:
        return tunnel_of(self.config, name)

    def _negotiated(self, name: str | None) -> str:
        return negotiated_tunnel(self.config, name)

    def _ask(self, verb: Callable[[Engine, str], None], tunnel: str | None) -> None:
        engine, name = self._engine(), self._negotiated(tunnel)
        self.site.touch()

        async def ask() -> None:
            verb(engine, name)

        try:
            self.network.loop.call(ask(), START_S)
        except IpsecDpError as error:
            raise RigError(str(error)) from error


if TYPE_CHECKING:
    _of_the_surface: type[RigGateway] = Gateway  # what a gateway in a namespace is to have too


def _locals(config: Config) -> list[Address]:
    return list(dict.fromkeys(tunnel.local for tunnel in config.tunnels if tunnel.local is not None))


def _medium_of(wires: Sequence[Wire], clock: Clock | None, network: Medium | None) -> Medium:
    """That of the wires, or a new one, which ends with its last gateway."""
    found = {medium for wire in wires if (medium := Medium.of(wire)) is not None}
    found |= set() if network is None else {network}
    if len(found) > 1:
        raise RigError("these wires are in different networks: gateways of one network share them")
    if not found:
        made = Medium(clock=clock, wire=wires[0] if wires else None)
        made.owned = True
        return made
    (there,) = found
    if clock is not None and clock is not there.clock:
        raise RigError("gateways on one network go by one clock: give the same clock= to each, or to none but the first")
    return there
