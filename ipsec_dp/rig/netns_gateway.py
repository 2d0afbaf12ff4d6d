"""The daemon in a network namespace, asked as a gateway in memory is: a test that is written for one runs on the other.

    with Lab() as lab:
        ...
        a = Gateway(SITE_A, netns=lab.namespace("a", forwarding=True))

The process is what `ipsec-dp up` is, on the kernel's interfaces, routes, sockets and nftables; all around it is the caller's:
addresses, links, the peer. `ipsec_dp.rig.NetnsNetwork` makes that too.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
import time
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import msgspec

from ipsec_dp.errors import ConfigError, ControlError, Finding, IpsecDpError, NoDaemonError
from ipsec_dp.gateway import control
from ipsec_dp.gateway.explanation import ExplainAnswer
from ipsec_dp.gateway.messages import ReloadResult
from ipsec_dp.gateway.status import GatewayStatus, TunnelStatus
from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.network.desired import routed_prefixes
from ipsec_dp.rig.capture import LINKTYPE_RAW, Writer
from ipsec_dp.rig.configs import loaded, negotiated_tunnel, tunnel_of
from ipsec_dp.rig.goals import STATES, Goals
from ipsec_dp.rig.loop import RigError
from ipsec_dp.rig.medium import described
from ipsec_dp.rig.netns_host import InnerHosts, OuterTap, datagram_of
from ipsec_dp.rig.process import GatewayProcess, GatewayProcessError
from ipsec_dp.rig.real_clock import NS_PER_S, RealClock
from ipsec_dp.rig.surface import WAIT_S, RigEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ipsec_dp.config import Tunnel
    from ipsec_dp.gateway.status import ChildSaStatus
    from ipsec_dp.rig.configs import Written
    from ipsec_dp.rig.memory_links import OuterDatagram
    from ipsec_dp.rig.netns import Namespace
    from ipsec_dp.rig.surface import RigGateway

RELOAD_S: Final = 60.0
LOOK_S: Final = 0.01  # between two looks of who waits
LOG_LINES: Final = 20  # of the daemon's log, that an error shows
PROGRAM: Final = (sys.executable, "-m", "ipsec_dp.rig.netns_daemon")


class Passed(NamedTuple):
    """An outer datagram. `at`: seconds of the clock; `left`: the gateway sent it."""

    at: float
    left: bool
    datagram: OuterDatagram


class RecordedProcess(GatewayProcess):
    """`ipsec_dp.rig.netns_daemon`, which records what it is told into `record`."""

    @property
    def record(self) -> Path:
        return self.config.with_suffix(".record")

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = self.namespace.spawn(
                *PROGRAM, str(self.config), str(self.control), str(self.record), stdout=log, stderr=log
            )


class Observed:
    """What a gateway's process tells of itself, as `Goals` looks at it. `name` is the gateway's."""

    def __init__(self, process: RecordedProcess, name: str) -> None:
        self._process, self._name = process, name
        self.hosts: InnerHosts | None = None
        self._inbox: list[bytes] = []
        self._events: list[RigEvent] = []
        self._keys: list[str] = []
        self._read = 0

    @property
    def inbox(self) -> list[bytes]:
        if self.hosts is not None:
            self._inbox += self.hosts.received()
        return self._inbox

    def take(self) -> list[bytes]:
        """The inbox, which is empty then."""
        got, self._inbox = self.inbox, []
        return got

    @property
    def events(self) -> list[RigEvent]:
        self.read()
        return self._events

    @property
    def keys(self) -> list[str]:
        self.read()
        return self._keys

    def read(self) -> None:
        """Brings events and keys up to date, for as long as the record is there."""
        if not self._process.record.exists():
            return
        with self._process.record.open("rb") as record:
            record.seek(self._read)
            for line in record:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                self._note(json.loads(line))

    def _note(self, row: dict[str, Any]) -> None:
        if "key" in row:
            self._keys.append(row["key"])
            return
        cause = None if row["cause"] is None else Cause(row["cause"])
        self._events.append(RigEvent(row["at"], self._name, Kind(row["kind"]), row["tunnel"], row["text"], cause, row["child"]))

    def state_of(self, tunnel: str) -> str | None:
        with contextlib.suppress(ControlError):
            rows = self._process.ask("status", name=tunnel)["tunnels"]
            return str(rows[0]["state"]) if rows else None
        return None


class NetnsGateway:
    """`ipsec_dp.rig.surface.RigGateway` in the namespace `netns`, up when it is made. Close it, or use `with`.

    config, files: as of a gateway in memory. The namespace has the outer addresses and reaches the peer; for packets of hosts
    behind the gateway it forwards. RigError with the daemon's log when it does not come up.
    """

    def __init__(self, config: Written, netns: Namespace, *, files: Mapping[str, str | bytes] | None = None) -> None:
        self.namespace = netns
        self._directory = tempfile.TemporaryDirectory(prefix="ipsec-dp-rig-")
        self._closed = False
        self.clock = RealClock()
        self._hosts: InnerHosts | None = None
        self._tap: OuterTap | None = None
        try:
            self.config = loaded(config, Path(self._directory.name), files or {})
            self.name = self.config.name
            self._process = RecordedProcess(netns, Path(self._directory.name, "daemon.toml"))
            self._process.config.write_text("")
            self._observed = Observed(self._process, self.name)
            self._goals = Goals(self._observed)
            self._begin()
        except BaseException:
            self._end()
            raise

    def _begin(self) -> None:
        local = [tunnel.local for tunnel in self.config.tunnels if tunnel.local is not None]
        self._tap = OuterTap(self.namespace, local)
        self._hosts = self._observed.hosts = InnerHosts(self.namespace)
        self._hosts.route(self.config)
        self._process.config = self.config.path
        self._process.start()
        try:
            self._process.wait_up()
        except GatewayProcessError as error:
            raise RigError(str(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """As `RigGateway`."""
        if not self._closed:
            self._end()
            self._closed = True

    def _end(self) -> None:
        try:
            if hasattr(self, "_process") and self._process.process is not None:
                self._process.terminate()
                self._observed.read()
                self._packets()
        finally:
            for part in (self._hosts, self._tap):
                if part is not None:
                    part.close()
            self._directory.cleanup()

    # ---- verbs

    def initiate(self, tunnel: str | None = None) -> None:
        """As `RigGateway`."""
        self._ask("initiate", name=self._negotiated(tunnel))

    def rekey(self, tunnel: str | None = None, *, ike: bool = False) -> None:
        """As `RigGateway`."""
        self._ask("rekey", name=self._negotiated(tunnel), ike=ike)

    def terminate(self, tunnel: str | None = None) -> None:
        """As `RigGateway`."""
        self._ask("terminate", name=self._negotiated(tunnel))

    def reload(self, config: Written | None = None, files: Mapping[str, str | bytes] | None = None) -> ReloadResult:
        """As `RigGateway`."""
        self._check()
        directory = Path(self._directory.name)
        read = loaded(self.config.path if config is None else config, directory, (files or {}) if config is not None else {})
        answer = self._ask("reload", RELOAD_S, file=str(read.path))
        if not answer["applied"]:
            raise ConfigError(msgspec.convert(answer["findings"], tuple[Finding, ...]))
        self.config = read
        if self._hosts is not None:
            self._hosts.route(read)
        return msgspec.convert(answer, ReloadResult)

    def inject(self, packet: bytes) -> None:
        """As `RigGateway`. A host behind the gateway sends it, and the kernel routes it."""
        self._check()
        version = packet[0] >> 4 if packet else 0
        if version not in (4, 6) or len(packet) < (20 if version == 4 else 40):
            raise RigError(f"{len(packet)} octets that begin with {packet[:1].hex() or 'nothing'} are no IP packet")
        destination = ip_address(packet[16:20] if version == 4 else packet[24:40])
        if not any(destination in prefix for prefix in routed_prefixes(self.config)):
            raise RigError(f"no route of gateway {self.name} leads to {destination}: the packet would pass by every tunnel")
        if self._hosts is not None:
            self._hosts.send(packet)

    def wait(self, event: str | Kind | Callable[[], bool], timeout: float = WAIT_S, tunnel: str | None = None) -> None:
        """As `RigGateway`. It really takes that time."""
        self._check()
        if timeout < 0:
            raise RigError(f"timeout={timeout:g}: time does not go back")
        if tunnel is not None or (isinstance(event, str) and event in STATES):
            tunnel = self._negotiated(tunnel)
        goal = self._goals.of(event, tunnel)
        end = self.clock.now() + timeout
        while not goal.holds():
            self._check()
            if self.clock.now() >= end:
                raise RigError(
                    f"gateway {self.name} waited {timeout:g} s for {goal.text} in vain: {self._states()}\n{self.story()}"
                )
            time.sleep(LOOK_S)

    # ---- questions

    def sas(self, tunnel: str | None = None) -> tuple[ChildSaStatus, ...]:
        """As `RigGateway`."""
        if tunnel is None:
            answer = msgspec.convert(self._ask("status"), GatewayStatus)
            return tuple(child for each in answer.tunnels for child in each.children)
        return self.tunnel(tunnel).children

    def status(self) -> GatewayStatus:
        """As `RigGateway`."""
        return msgspec.convert(self._ask("status") | {"tunnels": ()}, GatewayStatus)

    def tunnel(self, tunnel: str | None = None) -> TunnelStatus:
        """As `RigGateway`."""
        name = self._tunnel(tunnel).name
        found = self._ask("status", name=name)["tunnels"]
        if not found:
            raise RigError(f"tunnel {name!r} is gone")
        return msgspec.convert(found[0], TunnelStatus)

    def counters(self) -> dict[str, int]:
        """As `RigGateway`."""
        status = self.status()
        traffic = {name: getattr(status.traffic, name) for name in status.traffic.__struct_fields__}
        return traffic | {reason: count for reason, count in status.drops.items() if count}

    def received(self) -> list[bytes]:
        """As `RigGateway`: those that the kernel forwarded to a host behind the gateway."""
        self._check()
        return self._observed.take()

    def explain(self, source: str, destination: str, protocol: str | int | None = None) -> ExplainAnswer:
        """As `RigGateway`."""
        answer = self._ask("explain", source=source, destination=destination, protocol=protocol)
        return msgspec.convert(answer, ExplainAnswer)

    def events(self) -> tuple[RigEvent, ...]:
        """As `RigGateway`."""
        return tuple(self._observed.events)

    def keylog(self) -> str:
        """As `RigGateway`."""
        self._check_open()
        return "".join(f"{line}\n" for line in self._observed.keys)

    def capture(self) -> bytes:
        """As `RigGateway`."""
        self._check_open()
        file = io.BytesIO()
        writer = Writer(file, LINKTYPE_RAW)
        for at, _, packet in self._packets():
            writer.write(at, packet)
        return file.getvalue()

    def log(self) -> str:
        """What the daemon logged."""
        self._check_open()
        return self._process.text()

    def story(self, last: int = 40) -> str:
        """The newest datagrams to and from it and its newest events, a line each, in the order of time."""
        lines = [(event.at, str(event)) for event in self._observed.events]
        for each in self.passed():
            text = f"{described(each.datagram)}, {each.datagram.octets} octets"
            lines.append((each.at, f"{each.at:12.3f}  {self.name} {'->' if each.left else '<-'} {text}"))
        return "\n".join(line for _, line in sorted(lines, key=lambda each: each[0])[-last:])

    def passed(self) -> list[Passed]:
        """Its outer datagrams so far, but for later fragments."""
        behind = time.time_ns() - time.monotonic_ns()
        found = ((at, left, datagram_of(packet)) for at, left, packet in self._packets())
        return [Passed((at - behind) / NS_PER_S, left, datagram) for at, left, datagram in found if datagram is not None]

    def _packets(self) -> Sequence[tuple[int, bool, bytes]]:
        if self._tap is None:
            return ()
        if not self._closed:
            self._tap.read()
        return self._tap.log

    # ---- the process, and which of its tunnels

    def _check_open(self) -> None:
        if self._closed:
            raise RigError(f"gateway {self.name} is closed")

    def _check(self) -> None:
        self._check_open()
        process = self._process.process
        if process is None or process.poll() is not None:
            log = "\n".join(self._process.text().splitlines()[-LOG_LINES:])
            raise RigError(f"gateway {self.name} is not up: its process has ended; its log:\n{log}")

    def _ask(self, verb: str, timeout: float = control.REQUEST_TIMEOUT_S, **arguments: object) -> Any:
        self._check()
        try:
            return control.request(self._process.control, {"verb": verb, **arguments}, timeout)
        except NoDaemonError as error:
            self._check()
            raise RigError(f"gateway {self.name}: {error}") from error
        except IpsecDpError as error:
            raise RigError(str(error)) from error

    def _states(self) -> str:
        states = (f'tunnel "{each.name}" {self._observed.state_of(each.name)}' for each in self.config.tunnels)
        return f"{self.name}: {', '.join(states) or 'no tunnel'}"

    def _tunnel(self, name: str | None) -> Tunnel:
        self._check_open()
        return tunnel_of(self.config, name)

    def _negotiated(self, name: str | None) -> str:
        self._check_open()
        return negotiated_tunnel(self.config, name)


if TYPE_CHECKING:
    _of_the_surface: type[RigGateway] = NetnsGateway
