"""What the tests of a gateway's parts put beside the part that they look at: an SAD and an IKE core that hold what they are
given, and lists of what was called."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from ipsec_dp.config import load
from ipsec_dp.databases.sad_records import ChildSa, SaRecord
from ipsec_dp.dataplane import (
    NO_LIMITS,
    ArenaInfo,
    Counters,
    Direction,
    DropExample,
    Encapsulation,
    Endpoint,
    OuterPath,
    SaFlag,
    SaHandle,
    SaInfo,
    TunnelTraffic,
)
from ipsec_dp.ike import actions as act
from ipsec_dp.ike.interface import Counters as IkeCounters
from ipsec_dp.ike.interface import IkeStatus
from ipsec_dp.ike.post_quantum import NOTHING, PostQuantum
from ipsec_dp.ipsec.suites import parse_suite
from ipsec_dp.rig.plane import selectors_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from ipsec_dp.config import Config

TEXT = """
[gateway]
name = "a"
[[tunnel]]
name = "by-hand"
remote = "192.0.2.2"
interface = "ipsec0"
  [[tunnel.proxy_id]]
  local = "10.1.0.0/16"
  remote = "10.2.0.0/16"
  [tunnel.manual_unsafe]
  suite = "aes128gcm16"
  spi_in = 0x1001
  spi_out = 0x2001
  key_in_file = "in.key"
  key_out_file = "out.key"
[[tunnel]]
name = "up"
remote = "192.0.2.3"
interface = "ipsec1"
  [[tunnel.proxy_id]]
  local = "10.1.0.0/16"
  remote = "10.3.0.0/16"
  [tunnel.auth]
  psk_file = "all.psk"
  [tunnel.monitor]
  target = "10.3.0.9"
[[tunnel]]
name = "waiting"
remote = "any"
interface = "ipsec1"
start = "respond"
  [[tunnel.proxy_id]]
  local = "10.1.0.0/16"
  remote = "10.4.0.0/16"
  [tunnel.auth]
  psk_file = "all.psk"
  remote_id = "waiting.example"
"""


def config_of(directory: Path, text: str = TEXT) -> Config:
    """The configuration that `text` says, with the secrets it names."""
    for name, content in (("in.key", "01" * 20), ("out.key", "02" * 20), ("all.psk", "correct horse battery staple")):
        (directory / name).touch(mode=0o600)
        (directory / name).write_text(content)
    (directory / "a.toml").write_text(text)
    return load(directory / "a.toml")


async def until(holds: Callable[[], bool]) -> None:
    """Lets the event loop go on until it holds; TimeoutError after 5 s."""
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0)


class Calls:
    """Stands for any object: notes the calls of its methods in a list that several may share, and answers what it was given."""

    def __init__(self, name: str, calls: list[Any] | None = None, **answers: Any) -> None:
        self._name, self._answers = name, answers
        self.calls: list[Any] = [] if calls is None else calls

    def __getattr__(self, method: str) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            self.calls.append((f"{self._name}.{method}", *arguments, *named.values()))
            answer = self._answers.get(method)
            return answer(*arguments, **named) if callable(answer) else answer

        return call


def path_to(remote: str, link: int = 0) -> OuterPath:
    local = Endpoint(ip_address("192.0.2.1"), 4500)
    return OuterPath(local, Endpoint(ip_address(remote), 4500), Encapsulation.UDP, link)


class MemorySad:
    """An SAD without a data plane: what is `add`ed is there, with the counters that a test gives."""

    def __init__(self) -> None:
        self.records: dict[SaHandle, SaRecord] = {}
        self.children: dict[int, list[ChildSa]] = {}
        self.infos: dict[SaHandle, SaInfo] = {}
        self.cleared: list[tuple[SaHandle, SaFlag]] = []
        self.asked: list[int] = []
        self.waiting = 0  # what `reclaim` says
        self.conditions: list[Any] = []

    def add(self, tunnel: int, spi_in: int | None, spi_out: int | None, **counters: Any) -> ChildSa:
        """A CHILD_SA of a tunnel; without an SPI it lacks the SA."""
        number = sum(map(len, self.children.values()))
        child = ChildSa(number, tunnel, selectors_of("a"))
        if spi_in is not None:
            child.inbound = self._install(Direction.INBOUND, tunnel, spi_in, counters)
        if spi_out is not None:
            child.outbound = self._install(Direction.OUTBOUND, tunnel, spi_out, counters)
        self.children.setdefault(tunnel, []).append(child)
        return child

    def _install(self, direction: Direction, tunnel: int, spi: int, counters: dict[str, Any]) -> SaHandle:
        handle = SaHandle(len(self.records) + 1)
        suite = parse_suite("aes256gcm16-esn")
        self.records[handle] = SaRecord(handle, direction, spi, tunnel, suite, selectors_of("a"), NO_LIMITS, 900.0)
        plain = SaInfo(spi, tunnel, direction, SaFlag(0), 0, 0, 0, 0, 0, 0, None, {})
        self.infos[handle] = plain._replace(**counters)
        return handle

    def children_of(self, tunnel: int) -> list[ChildSa]:
        return self.children.get(tunnel, [])

    def holds(self, child: ChildSa) -> bool:
        return child in self.children[child.tunnel]

    def remove_child(self, child: ChildSa) -> None:
        self.children[child.tunnel].remove(child)

    def read(self, handle: SaHandle) -> SaInfo:
        return self.infos[handle]

    def traffic(self, tunnel: int) -> TunnelTraffic:
        return TunnelTraffic(100 + tunnel, 200, 300, 400, {"icv": 5, "replay": 0})

    def acted(self, handle: SaHandle, flags: SaFlag) -> None:
        self.cleared.append((handle, flags))

    def acquired(self, tunnel: int) -> None:
        self.asked.append(tunnel)

    def reclaim(self) -> int:
        return self.waiting

    def rescan(self) -> Iterable[Any]:
        found, self.conditions = self.conditions, []
        return found


class MemoryPlane:
    """A data plane that counted the same each time."""

    provider, provider_reason, workers = "openssl", "IPSEC_DP_PROVIDER asks for it", 2

    def counters(self) -> Counters:
        return Counters({"icv": 7, "replay": 0}, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)

    def worker_counters(self) -> list[Counters]:
        return [self.counters(), replace(self.counters(), drops={"icv": 0, "replay": 0}, handed_over=0)]

    def arena(self) -> ArenaInfo:
        return ArenaInfo(1 << 20, 4096, True, True, False)

    def worker_octets(self, _worker: int) -> int:
        return 16 << 20

    def offloads(self) -> dict[str, bool]:
        return {"tun_tso": True, "udp_gro": False}

    def given_up(self) -> list[str]:
        return ["udp_gro"]

    def drop_examples(self, reason: str) -> list[DropExample]:
        ends = ip_address("192.0.2.3"), ip_address("192.0.2.1")
        if reason != "icv":
            return []
        return [DropExample(998_760_000_000, Direction.INBOUND, *ends, 17, 4500, 4500, 1, 1, 0xC0000001, True)]


class MemoryCore:
    """An IKE core that has these IKE SAs, by tunnel."""

    def __init__(self, **sas: tuple[IkeStatus, ...]) -> None:
        self.sas = sas

    def set_peers(self, _peers: object) -> None:
        pass

    def status(self, tunnel: str, _now: float) -> tuple[IkeStatus, ...]:
        return self.sas.get(tunnel, ())

    def latest(self, tunnel: str, now: float) -> tuple[IkeStatus, ...]:
        return self.status(tunnel, now)

    def fallback(self, _tunnel: str, _now: float) -> str | None:
        return None

    def pinned(self, tunnel: str) -> bool | None:
        return True if tunnel == "up" else None

    def retransmissions(self, tunnel: str) -> int:
        return len(tunnel)

    def counters(self) -> IkeCounters:
        return IkeCounters(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)

    def post_quantum(self, child: int) -> PostQuantum:
        children = [each for sas in self.sas.values() for sa in sas for each in sa.children]
        return next((each.post_quantum for each in children if each.child == child), NOTHING)

    def rekey_in(self, child: int, _now: float) -> float | None:
        children = [each for sas in self.sas.values() for sa in sas for each in sa.children]
        return next((each.rekey_in_s for each in children if each.child == child), None)


def ike_sa(remote: str, **fields: Any) -> IkeStatus:
    """One that is up."""
    path = act.Path(act.Endpoint(ip_address("192.0.2.1"), 4500), act.Endpoint(ip_address(remote), 4500), natt=True)
    made = IkeStatus(
        "up", bytes(range(8)), bytes(range(8, 16)), "initiator", "aes256gcm16-prfsha384-ecp384", path, "local", "b.example",
        61.26, 13961.04, (),
    )  # fmt: skip
    return made._replace(**({"carries": bool(fields.get("children"))} | fields))
