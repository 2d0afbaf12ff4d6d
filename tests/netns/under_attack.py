"""A gateway that strangers attack, its genuine peer, and what is measured of it meanwhile.

hostA eth0 -- lan gwA wan == wan gwB net == strangers (198.18.0.0/15)
                                 lan -- eth0 hostB
"""

from __future__ import annotations

import os
import re
import secrets
import threading
import time
from bisect import bisect_right
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from ipsec_dp.rig import netns
from ipsec_dp.rig.process import GatewayProcess
from tests.ike.pki import CA, OpenSsl
from tests.netns.strangers import FIRST, Strangers, admit, net_of
from tests.netns.traffic import until

if TYPE_CHECKING:
    from ipsec_dp.rig.netns import Lab, Namespace, TwoSites

A, B = netns.GW_A_OUTER[0], netns.GW_B_OUTER[0]
FULL = (pytest.mark.measure, pytest.mark.slow, pytest.mark.timeout(400))
STATUS_MOST_S = 0.2
SOON = '  rekey_after = "1s"\n  lifetime = "4s"'  # gwB rekeys what it has made after 1.00 to 1.15 s, what gwA has made after 2.8 s


# ---- who is attacked -------------------------------------------------------------------------------------------------------------


@dataclass
class Attacked:
    """gwB, its peer gwA, and the strangers' namespace."""

    sites: TwoSites
    strangers: Namespace
    a: GatewayProcess
    b: GatewayProcess
    directory: Path
    psk: str

    @classmethod
    def started(cls, lab: Lab, sites: TwoSites, directory: Path, running: list[GatewayProcess], **tunnels: Any) -> Attacked:
        """Brings both up, with the `tunnels` of `text_of`; they are added to `running`."""
        psk = secrets.token_hex(32)
        (directory / "all.psk").touch(mode=0o600)
        (directory / "all.psk").write_text(psk)
        pki = OpenSsl(directory)
        pki.certificate("root", "/CN=root", extensions=CA)
        pki.certificate("hub", "/CN=hub", "root")
        for side, site in (("a", sites.gw_a), ("b", sites.gw_b)):
            path = directory / f"gw{side.upper()}.toml"
            path.write_text(text_of(side, **tunnels))
            running.append(GatewayProcess(site, path))
            running[-1].start()
        for gateway in running:
            gateway.wait_up(60.0)
        return cls(sites, admit(lab, sites), running[0], running[1], directory, psk)

    def begin(self, act: str, **arguments: object) -> Strangers:
        return Strangers.begin(self.strangers, act, **arguments)


def text_of(
    side: str, *, any_remote: bool = False, tunnels: int = 0, proxy_ids: int = 1, peers: int = 0, rekeys: bool = False
) -> str:
    """A configuration. gwB has the tunnel "hub" for gwA, by its address or `any_remote`; w0, w1, … that take anybody, the even ones
    by shared keys, the odd ones by certificates and DNs, the first with so many `proxy_ids`; and so many `peers`, which have the
    addresses of the first strangers."""
    at_a = side == "a"
    here, there = (A, B) if at_a else (B, A)
    nets = (netns.SITE_A_NETS[0], netns.SITE_B_NETS[0])
    local, remote = nets if at_a else nets[::-1]
    text = (
        f'[gateway]\nname = "gw{side.upper()}"\n[[tunnel]]\nname = "hub"\nlocal = "{here}"\ninterface = "ipsec0"\n'
        f'remote = "{"any" if any_remote and not at_a else there}"\nstart = "{"on-demand" if at_a else "respond"}"\n'
        f'[[tunnel.proxy_id]]\nlocal = "{local}"\nremote = "{remote}"\n'
        f'[tunnel.auth]\nlocal_id = "gw{side}.example"\nremote_id = "gw{"ba"[side == "b"]}.example"\npsk_file = "all.psk"\n'
        + (f"[tunnel.esp]\n{SOON}\n" if rekeys and not at_a else "")
    )
    for number in range(0 if at_a else tunnels):
        secret = (
            'psk_file = "all.psk"' if number % 2 == 0 else 'certificate = "hub.crt"\nprivate_key = "hub.key"\nca = ["root.crt"]'
        )
        name = f"w{number}.example" if number % 2 == 0 else f"C=DE, O=Organisation, OU=Unit, CN=w{number}"
        text += f'[[tunnel]]\nname = "w{number}"\nlocal = "{B}"\nremote = "any"\ninterface = "ipsec0"\nstart = "respond"\n'
        text += f'[[tunnel.proxy_id]]\nlocal = "{netns.SITE_B_NETS[0]}"\nremote = "{net_of(number)}"\n'
        for more in range(proxy_ids - 1 if number == 0 else 0):
            text += f'[[tunnel.proxy_id]]\nlocal = "{netns.SITE_B_NETS[0]}"\nremote = "172.{16 + more // 250}.{more % 250}.0/24"\n'
        identity = "hub.example" if number % 2 == 0 else "CN=hub"
        text += f'[tunnel.auth]\nlocal_id = "{identity}"\nremote_id = "{name}"\n{secret}\n'
    for number in range(0 if at_a else peers):
        text += f'[[tunnel]]\nname = "p{number}"\nlocal = "{B}"\nremote = "{IPv4Address(FIRST) + number}"\ninterface = "ipsec0"\n'
        text += f'start = "respond"\n[[tunnel.proxy_id]]\nlocal = "{netns.SITE_B_NETS[0]}"\nremote = "10.32.{number}.0/24"\n'
        text += f'[tunnel.auth]\nlocal_id = "hub.example"\nremote_id = "p{number}.example"\npsk_file = "all.psk"\n'
    return text


def hub(gateway: GatewayProcess) -> dict[str, Any]:
    (only,) = gateway.ask("status", name="hub")["tunnels"]
    return only


def took_up(attacked: Attacked, seconds: float = 20.0) -> float:
    """Seconds until the genuine peer, which calls now, is up."""
    began = time.monotonic()
    attacked.a.ask("initiate", name="hub")
    until(lambda: hub(attacked.a)["state"] == "up" and hub(attacked.a)["children"], "the genuine peer is up", seconds)
    return time.monotonic() - began


# ---- what is measured ------------------------------------------------------------------------------------------------------------


class Watched:
    """While the block runs, `look` is called again and again in a thread; `longest`: what it gave at most."""

    PAUSE_S = 0.02

    def __init__(self) -> None:
        self.taken: list[float] = []
        self._over = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def look(self) -> float:
        raise NotImplementedError

    @property
    def longest(self) -> float:
        return max(self.taken)

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                self.taken.append(self.look())
                time.sleep(self.PAUSE_S)
        except BaseException as error:  # noqa: BLE001 - raised when the block ends
            self._failed = error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(30)
        if self._failed is not None:
            raise self._failed


class StatusDelays(Watched):
    """Seconds from the question to the whole answer of `status`, without those in which the daemon or who asks had something to do
    and other programs had the processors; `wall`: with them, at most."""

    def __init__(self, gateway: GatewayProcess) -> None:
        super().__init__()
        self._gateway = gateway
        self.wall = 0.0

    def look(self) -> float:
        began, waited = time.monotonic(), waited_s(self._gateway) + own_waited_s()
        self._gateway.status()
        took = time.monotonic() - began
        self.wall = max(self.wall, took)
        return max(took - (waited_s(self._gateway) + own_waited_s() - waited), 0.0)

    def __str__(self) -> str:
        return (
            f"status {1000 * self.longest:.0f} ms ({1000 * self.wall:.0f} with other programs' turns) at most of {len(self.taken)}"
        )


def waited_s(gateway: GatewayProcess) -> float:
    """Seconds that the control plane's thread has waited for a processor so far."""
    assert gateway.process is not None
    pid = gateway.process.pid
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[1]) / 1e9


def own_waited_s() -> float:
    """The same of the thread that asks."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9


def told_at(gateway: GatewayProcess, since: int, what: str = "") -> list[float]:
    """By the times of its log, when a gateway told of something, in s after the first time; `since`: octets of the log before."""
    times = re.findall(rf"^\S+ \d\d:(\d\d):(\d\d),(\d+) \w+ {what}", gateway.text()[since:], re.MULTILINE)
    seconds = [60.0 * int(minute) + int(second) + int(ms) / 1000 for minute, second, ms in times]
    return [(at - seconds[0]) % 3600.0 for at in seconds]


def most_in_a_second(times: list[float]) -> int:
    """How many of these lie within one second, at most."""
    return max((bisect_right(times, begun + 1.0) - number for number, begun in enumerate(times)), default=0)


def rekey_pauses(gateway: GatewayProcess, since: int = 0) -> list[float]:
    """Seconds between one rekey of a CHILD_SA and the next, as the log has them; `since`: its octets before."""
    return [after - before for before, after in pairwise(told_at(gateway, since, r"CHILD_SA rekeyed \["))]


def printed(record_property: Any, text: str) -> None:
    load = f"{text}; load average {os.getloadavg()[0]:.1f}"
    record_property("figures", load)
    print(load)
