"""`ipsec-dp up` as a process in a network namespace, and configurations for the two gateways of `netns.two_sites`.

For demonstrations, benchmarks and tests that want the whole program rather than its parts.
"""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ipsec_dp.errors import ControlError, NoDaemonError
from ipsec_dp.gateway import control
from ipsec_dp.ipsec.suites import parse_suite
from ipsec_dp.rig import netns

if TYPE_CHECKING:
    from ipsec_dp.rig.netns import Namespace, TwoSites

UP_SECONDS = 40.0  # on a machine with other things to do; otherwise it takes two
DOWN_SECONDS = 20.0
POLL_S = 0.05


class GatewayProcessError(Exception):
    """A gateway did not come up or go down as asked; the text holds what it logged."""


@dataclass
class GatewayProcess:
    """One gateway. Its log goes beside its configuration, as NAME.log. `program` is how `ipsec-dp` is started."""

    namespace: Namespace
    config: Path
    program: tuple[str, ...] = (sys.executable, "-P", "-m", "ipsec_dp")
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def control(self) -> Path:
        return self.config.with_suffix(".sock")

    @property
    def log(self) -> Path:
        return self.config.with_suffix(".log")

    def start(self) -> None:
        """Starts it and returns at once."""
        with self.log.open("ab") as log:
            self.process = self.namespace.spawn(
                *self.program, "up", str(self.config), "--control", str(self.control), stdout=log, stderr=log
            )

    def wait_up(self, seconds: float = UP_SECONDS) -> dict[str, Any]:
        """Its first status. GatewayProcessError when it ended, or took longer."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                raise GatewayProcessError(f"{self.namespace.label}: the gateway did not start:\n{self.text()}")
            with contextlib.suppress(NoDaemonError, ControlError):
                return self.status()
            time.sleep(POLL_S)
        raise GatewayProcessError(f"{self.namespace.label}: the gateway is not up after {seconds:g} s:\n{self.text()}")

    def status(self) -> dict[str, Any]:
        """The answer to `status`. NoDaemonError, ControlError."""
        answer: dict[str, Any] = control.request(self.control, {"verb": "status"})
        return answer

    def ask(self, verb: str, **arguments: object) -> Any:
        """The answer to any verb. NoDaemonError, ControlError."""
        return control.request(self.control, {"verb": verb, **arguments})

    def wait_negotiated(self, seconds: float = UP_SECONDS) -> dict[str, Any]:
        """The status once every tunnel is up. GatewayProcessError when that takes longer."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            status = self.status()
            if all(tunnel["state"] == "up" and tunnel["children"] for tunnel in status["tunnels"]):
                return status
            time.sleep(POLL_S)
        raise GatewayProcessError(f"{self.namespace.label}: not every tunnel is up after {seconds:g} s:\n{self.text()}")

    def down(self) -> int:
        """Asks it to stop and returns its exit status. GatewayProcessError when it takes longer than DOWN_SECONDS."""
        control.request(self.control, {"verb": "down"}, DOWN_SECONDS)
        return self.wait(DOWN_SECONDS)

    def wait(self, seconds: float) -> int:
        """The exit status of a gateway that is to end by itself."""
        if self.process is None:
            raise GatewayProcessError(f"{self.namespace.label}: the gateway was never started")
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired as late:
            raise GatewayProcessError(f"{self.namespace.label}: the gateway has not ended after {seconds:g} s") from late

    def terminate(self) -> int:
        """Ends it as a service manager does, by SIGTERM; its exit status."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
        return self.wait(DOWN_SECONDS)

    def kill(self) -> None:
        """kill -9, as the kernel does when memory runs out."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def text(self) -> str:
        """What it logged."""
        return self.log.read_text() if self.log.exists() else ""


@dataclass(frozen=True, kw_only=True)
class SitePair(ABC):
    """Two gateways with one tunnel between them: what `write_pair` turns into files. Pairs of values have site A's first."""

    encapsulation: str = "udp"
    outer: tuple[str, str] = (netns.GW_A_OUTER[0], netns.GW_B_OUTER[0])
    proxy_ids: tuple[tuple[str, str], ...] = tuple(zip(netns.SITE_A_NETS, netns.SITE_B_NETS, strict=True))
    gateway: str = ""  # further lines of [gateway]
    tunnel: str = ""  # further lines of [[tunnel]]
    tables: str = ""  # further tables at the end, the same on both sides

    @abstractmethod
    def keys(self, directory: Path) -> tuple[str, str]:
        """Writes what the keys come from into `directory`; the tables of each side that say so."""


@dataclass(frozen=True, kw_only=True)
class ManualPair(SitePair):
    """Manual keys, new ones each time."""

    suite: str = "aes128gcm16-esn"

    def keys(self, directory: Path) -> tuple[str, str]:
        names = ("a-to-b.key", "b-to-a.key")
        for name in names:
            _write_secret(directory / name, secrets.token_hex(parse_suite(self.suite).keymat_octets))
        spis = (0x1001, 0x1002)
        first, second = (
            f'  [tunnel.manual_unsafe]\n  suite = "{self.suite}"\n'
            f"  spi_in = {spis[1 - side]:#x}\n  spi_out = {spis[side]:#x}\n"
            f'  key_in_file = "{names[1 - side]}"\n  key_out_file = "{names[side]}"\n'
            for side in (0, 1)
        )
        return first, second


@dataclass(frozen=True, kw_only=True)
class IkePair(SitePair):
    """IKEv2 with a pre-shared key, a new one each time. Site A calls at once, site B waits to be called."""

    encapsulation: str = "auto"
    start: tuple[str, str] = ("start", "respond")
    identities: tuple[str, str] = ("gw-a.example", "gw-b.example")
    ike: tuple[str, str] = ("", "")  # lines of [tunnel.ike]
    esp: tuple[str, str] = ("", "")  # lines of [tunnel.esp]

    def keys(self, directory: Path) -> tuple[str, str]:
        _write_secret(directory / "tunnel.psk", secrets.token_hex(32))
        first, second = (
            f'  [tunnel.auth]\n  local_id = "{self.identities[side]}"\n  remote_id = "{self.identities[1 - side]}"\n'
            f'  psk_file = "tunnel.psk"\n'
            f"  [tunnel.ike]\n{self.ike[side]}\n  [tunnel.esp]\n{self.esp[side]}\n"
            for side in (0, 1)
        )
        return first, second


def _write_secret(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


class GatewayPair:
    """Both gateways of `netns.two_sites`, as `pair` says; configurations, keys, logs and sockets are in `directory`.

    A context manager: up when entered, ended when left.
    """

    def __init__(self, sites: TwoSites, directory: Path, pair: SitePair) -> None:
        files = write_pair(directory, pair)
        self.a, self.b = GatewayProcess(sites.gw_a, files[0]), GatewayProcess(sites.gw_b, files[1])

    def start(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Brings both up, together; their first status. GatewayProcessError."""
        self.a.start()
        self.b.start()
        return self.a.wait_up(), self.b.wait_up()

    def stop(self) -> tuple[int, int]:
        """Ends both by SIGTERM; their exit statuses."""
        for gateway in (self.a, self.b):
            if gateway.process is not None and gateway.process.poll() is None:
                gateway.process.terminate()
        return self.a.wait(DOWN_SECONDS), self.b.wait(DOWN_SECONDS)

    def __enter__(self) -> Self:
        try:
            self.start()
        except GatewayProcessError:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def write_pair(directory: Path, pair: SitePair, names: tuple[str, str] = ("gwA", "gwB")) -> tuple[Path, Path]:
    """Writes both configurations and their secrets (mode 0600) into `directory`; the two configuration files."""
    keys = pair.keys(directory)
    files = []
    for side, name in enumerate(names):
        other = 1 - side
        start = f'start = "{pair.start[side]}"\n' if isinstance(pair, IkePair) else ""
        proxy_ids = "".join(
            f'  [[tunnel.proxy_id]]\n  local = "{proxy_id[side]}"\n  remote = "{proxy_id[other]}"\n' for proxy_id in pair.proxy_ids
        )
        file = directory / f"{name}.toml"
        file.write_text(
            f'[gateway]\nname = "{name}"\n{pair.gateway}\n'
            f'[[tunnel]]\nname = "{"ab"[side]}-to-{"ab"[other]}"\n'
            f'local = "{pair.outer[side]}"\nremote = "{pair.outer[other]}"\ninterface = "ipsec0"\n'
            f'encapsulation = "{pair.encapsulation}"\n{start}{pair.tunnel}\n{proxy_ids}{keys[side]}{pair.tables}'
        )
        files.append(file)
    return files[0], files[1]
