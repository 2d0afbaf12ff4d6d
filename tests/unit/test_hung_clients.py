"""Whatever a client of a socket does or leaves undone, the event loop turns on: IKE waits for none of them 10 ms.

A gateway of thousands of tunnels answers at its control socket and serves its metrics, and each client is as bad as it can be, as
many at once as there may be.
"""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import tempfile
from contextlib import ExitStack, suppress
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from ipsec_dp.config.model import MetricsListen
from ipsec_dp.gateway import control
from ipsec_dp.gateway.control import ControlServer
from ipsec_dp.gateway.explain import explain
from ipsec_dp.gateway.exposition import page
from ipsec_dp.gateway.ike_counts import IkeCounts
from ipsec_dp.gateway.question import question_of
from ipsec_dp.host.descriptors import make_room
from ipsec_dp.rig import Gateway
from ipsec_dp.services.metrics_server import SCRAPERS_MAX, MetricsServer
from ipsec_dp.util.clock import SystemClock
from ipsec_dp.util.conditions import Conditions
from tests.unit.loop_gaps import Gaps
from tests.unit.test_metrics_server import GET, LOCALHOST, free_port

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

pytestmark = pytest.mark.measure

TUNNELS = [2_000, pytest.param(10_000, marks=pytest.mark.slow)]
BAR_S = 0.010
LASTS_S = 0.2
STATUS = b'{"verb": "status"}\n'
FOLLOW = b'{"verb": "follow"}\n'


def many(count: int) -> str:
    rows = "".join(
        f'[[tunnel]]\nname = "t{n}"\nlocal = "192.0.2.1"\nremote = "192.0.2.2"\nstart = "respond"\n'
        f'  [[tunnel.proxy_id]]\n  local = "10.{n // 250}.{n % 250}.0/24"\n  remote = "10.{100 + n // 250}.{n % 250}.0/24"\n'
        f'  [tunnel.auth]\n  local_id = "a{n}.example"\n  remote_id = "b{n}.example"\n  psk_file = "s.psk"\n'
        for n in range(count)
    )
    return f'[gateway]\nname = "a"\n{rows}'


@pytest.fixture(scope="module", params=TUNNELS)
def gateway(request: pytest.FixtureRequest) -> Iterator[Gateway]:
    with Gateway(many(request.param)) as made:
        make_room()
        gc.collect()
        gc.freeze()  # as a gateway does that is up
        yield made
        gc.unfreeze()


class Served:
    """The gateway's sockets in a loop of this test's, and clients of them."""

    def __init__(self, gateway: Gateway, directory: Path) -> None:
        self.gateway, self.path, self.port = gateway.site.gateway, directory / "a.sock", free_port()
        self.stack = ExitStack()
        clock = SystemClock()
        self.control = ControlServer(self.path, self.gateway.verbs.table)
        self.metrics = MetricsServer(self._page, lambda: None, Conditions(clock), clock)

    async def _page(self) -> list[bytes]:
        assert self.gateway.engine is not None
        return await page(self.gateway.config, self.gateway.engine.readings, IkeCounts(SystemClock()))

    async def start(self) -> None:
        await self.control.start()
        at = MetricsListen(address=ip_address(LOCALHOST), port=self.port)
        await self.metrics.apply(cast("Any", SimpleNamespace(metrics=at)))

    async def close(self) -> None:
        self.stack.close()
        await self.control.close()
        await self.metrics.close()

    async def asks(self, says: bytes, count: int = 1) -> None:
        """So many clients of the control socket that say this, and read nothing."""
        loop = asyncio.get_running_loop()
        for _ in range(count):
            client = self.stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            with suppress(OSError, TimeoutError):  # there is no room for more
                async with asyncio.timeout(LASTS_S):
                    await loop.sock_connect(client, str(self.path))
                    await loop.sock_sendall(client, says)

    async def scrapes(self, says: bytes, count: int = 1) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(count):
            client = self.stack.enter_context(socket.socket())
            client.setblocking(False)
            with suppress(OSError):
                await loop.sock_connect(client, (LOCALHOST, self.port))
                await loop.sock_sendall(client, says)

    async def explains(self, count: int) -> None:
        """As many as may ask for it at once, of a packet that the last tunnel holds, as far as the configuration decides."""
        last = self.gateway.config.tunnels[-1].selectors[0].remote.low
        ends = "10.1.1.1", str(last), None, None, None
        questions = [question_of(*ends, inbound=inbound, iif="") for inbound in (False, True)]
        await asyncio.gather(*(explain(self.gateway.config, each, None) for each in questions * (count // 2)))

    async def reads(self, says: bytes, count: int, *, metrics: bool = False) -> None:
        """So many at once that take the whole answer as it comes."""
        await asyncio.gather(*(self._reads(says, metrics=metrics) for _ in range(count)))

    async def _reads(self, says: bytes, *, metrics: bool) -> None:
        loop = asyncio.get_running_loop()
        client = self.stack.enter_context(socket.socket(socket.AF_INET if metrics else socket.AF_UNIX))
        client.setblocking(False)
        await loop.sock_connect(client, (LOCALHOST, self.port) if metrics else str(self.path))
        await loop.sock_sendall(client, says)
        room, last = bytearray(1 << 17), b""
        while metrics or last != b"\n":
            count = await loop.sock_recv_into(client, room)
            if count == 0:
                break
            last = bytes(room[count - 1 : count])


def asking(**fields: object) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def large(octets: int = control.REQUEST_MAX) -> bytes:
    """A request as long as may be, of as many things as that holds."""
    head = b'{"verb": "status", "x": ['
    return head + b"0," * ((octets - len(head) - 4) // 2) + b"0]}\n"


CLIENTS = control.CLIENTS_MAX
HUNG: dict[str, Callable[[Served], Awaitable[None]]] = {
    "silent": lambda it: it.asks(b"", CLIENTS),
    "half a request": lambda it: it.asks(STATUS[:7], CLIENTS),
    "the longest request": lambda it: it.asks(large(), CLIENTS),
    "a request without end": lambda it: it.asks(b"x" * (1 << 23), CLIENTS),
    "many requests at once": lambda it: it.asks(b'{"verb": "explain"}\n' * 3000, CLIENTS),
    "status is not read": lambda it: it.asks(STATUS, CLIENTS),
    "status of all is read by many": lambda it: it.reads(STATUS, 4),
    "follow is not read": lambda it: it.asks(FOLLOW, CLIENTS),
    "no such tunnel": lambda it: it.asks(asking(verb="status", name="t1O00"), CLIENTS),
    "no such tunnel, a long name": lambda it: it.asks(asking(verb="status", name="t1" * 20_000), CLIENTS),
    "policy explain": lambda it: it.explains(CLIENTS),
    "one connection after the other": lambda it: it.asks(b"", 20 * CLIENTS),
    "metrics: silent": lambda it: it.scrapes(b"", SCRAPERS_MAX),
    "metrics: half a request": lambda it: it.scrapes(GET[:9], SCRAPERS_MAX),
    "metrics: the page is not read": lambda it: it.scrapes(GET, SCRAPERS_MAX),
    "metrics: the page is read by many": lambda it: it.reads(GET, SCRAPERS_MAX, metrics=True),
    "metrics: one connection after the other": lambda it: it.scrapes(b"", 20 * SCRAPERS_MAX),
}


@pytest.mark.parametrize("how", HUNG)
def test_the_event_loop_is_held_for_less_than_10_ms(gateway, how):
    async def run(directory: str) -> Gaps:
        served = Served(gateway, Path(directory))
        await served.start()

        async def hang() -> None:
            await HUNG[how](served)
            await asyncio.sleep(LASTS_S)

        try:
            return await Gaps().beside(hang())
        finally:
            await served.close()

    with tempfile.TemporaryDirectory() as directory:
        gaps = asyncio.run(run(directory))
    print(f"{how}: {gaps.longest * 1e3:.1f} ms, then {[round(each * 1e3, 1) for each in gaps.seconds[-6:-1]]}")
    assert gaps.longest < BAR_S
