"""`/metrics` over HTTP: what is answered, what a client may do or leave undone, and where it cannot be served."""

from __future__ import annotations

import asyncio
import re
import socket
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from ipsec_dp.config.model import MetricsListen
from ipsec_dp.errors import IpsecDpError
from ipsec_dp.gateway.exposition import TUNNELS_MAX
from ipsec_dp.gateway.readings import READING_S
from ipsec_dp.services import metrics_server
from ipsec_dp.services.metrics_server import AGAIN_S, PAGE_S, REQUEST_MAX, SCRAPERS_MAX, MetricsServer
from ipsec_dp.util.conditions import Conditions
from tests.doubles.clock import FakeClock, settle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).resolve().parents[2]
LOCALHOST = "127.0.0.1"
SECONDS = 0.6  # that clients have here
GET = b"GET /metrics HTTP/1.1\r\nHost: gateway\r\n\r\n"
LARGE = [b"x" * (1 << 16)] * 512  # more than sockets hold


class Serving:
    """A server on a port of its own. `made`: how often the page was."""

    def __init__(self, page: list[bytes], port: int, fails: str = "") -> None:
        self.clock, self.port, self.made, self.page, self.fails = FakeClock(), port, 0, page, fails
        self.conditions = Conditions(self.clock)
        self.loaded: list[str] = []
        self.server = MetricsServer(self._make, lambda: self.loaded.append("loaded"), self.conditions, self.clock, seconds=SECONDS)

    async def _make(self) -> list[bytes]:
        self.made += 1
        await asyncio.sleep(0)
        if self.fails:
            raise IpsecDpError(self.fails)
        return self.page

    async def apply(self, port: int | None) -> None:
        at = None if port is None else MetricsListen(address=ip_address(LOCALHOST), port=port)
        await self.server.apply(cast("Any", _Config(at)))


class _Config:
    def __init__(self, metrics: MetricsListen | None) -> None:
        self.metrics = metrics


def free_port() -> int:
    with socket.socket() as found:
        found.bind((LOCALHOST, 0))
        return int(found.getsockname()[1])


@asynccontextmanager
async def serving(page: list[bytes] | None = None, **options: Any) -> AsyncIterator[Serving]:
    made = Serving([b"ipsec_dp_up 1\n"] if page is None else page, free_port(), **options)
    await made.apply(made.port)
    try:
        yield made
    finally:
        await made.server.close()


async def asked(port: int, request: bytes = GET) -> bytes:
    """The whole answer, until the gateway closes."""
    reader, writer = await asyncio.open_connection(LOCALHOST, port)
    writer.write(request)
    try:
        return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("request_line", "status", "body"),
    [
        (b"GET /metrics HTTP/1.1", b"200 OK", b"ipsec_dp_up 1\n"),
        (b"GET /metrics?a=b HTTP/1.0", b"200 OK", b"ipsec_dp_up 1\n"),
        (b"HEAD /metrics HTTP/1.1", b"200 OK", b""),
        (b"GET / HTTP/1.1", b"404 Not Found", b"metrics are at /metrics\n"),
        (b"POST /metrics HTTP/1.1", b"405 Method Not Allowed", b"this page is only read\n"),
        (b"GET /metrics", b"400 Bad Request", None),
        (b"\xff\x00 \r \n", b"400 Bad Request", None),
        (b"GET /" + b"a" * REQUEST_MAX + b" HTTP/1.1", b"400 Bad Request", None),
    ],
)
def test_a_request_is_answered_once_and_the_connection_closed(request_line, status, body):
    async def run() -> bytes:
        async with serving() as it:
            return await asked(it.port, request_line + b"\r\n\r\n")

    head, _, rest = asyncio.run(run()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status + b"\r\n")
    assert b"Connection: close" in head
    if body is not None:
        assert rest == body
    if status == b"200 OK":
        assert b"Content-Type: text/plain; version=0.0.4" in head
        assert b"Content-Length: 14" in head


def test_whoever_asks_within_a_second_is_given_the_same_page():
    async def run() -> list[int]:
        async with serving() as it:
            await asyncio.gather(*(asked(it.port) for _ in range(8)))
            counts = [it.made]
            await it.clock.advance(PAGE_S)
            await asked(it.port)
            return [*counts, it.made]

    assert asyncio.run(run()) == [1, 2]


def test_clients_that_ask_nothing_are_let_go_and_no_more_are_served_at_a_time():
    async def run() -> None:
        async with serving() as it:
            hung = [await asyncio.open_connection(LOCALHOST, it.port) for _ in range(SCRAPERS_MAX)]
            hung[0][1].write(b"GET /metr")
            await settle()
            assert not await served(it.port), "one too many"
            for reader, writer in hung:
                with suppress(ConnectionError):
                    assert await asyncio.wait_for(reader.read(), 20 * SECONDS) == b""
                writer.close()
            assert (await asked(it.port)).endswith(b"ipsec_dp_up 1\n")

    asyncio.run(run())


async def served(port: int) -> bool:
    """Whether there is a place."""
    try:
        return (await asked(port, GET.replace(b"GET", b"HEAD"))).startswith(b"HTTP/1.1 200 ")
    except ConnectionError:
        return False


def test_clients_that_do_not_read_keep_nobody_waiting_and_are_let_go():
    async def run() -> None:
        async with serving(LARGE) as it:
            loop, slow = asyncio.get_running_loop(), [socket.socket() for _ in range(SCRAPERS_MAX)]
            for each in slow:
                each.setblocking(False)
            for each in slow[1:]:
                await loop.sock_connect(each, (LOCALHOST, it.port))
                await loop.sock_sendall(each, GET)
            assert await served(it.port), "the last place is free"
            await loop.sock_connect(slow[0], (LOCALHOST, it.port))
            await loop.sock_sendall(slow[0], GET)
            await settle()
            assert not await served(it.port)
            async with asyncio.timeout(20 * SECONDS):
                while not await served(it.port):
                    await settle()
            for each in slow:
                each.close()

    asyncio.run(run())


@pytest.mark.measure
def test_clients_that_hang_hold_the_event_loop_up_for_less_than_10_ms():
    async def run() -> list[float]:
        async with serving(LARGE) as it:
            loop, held = asyncio.get_running_loop(), list[float]()
            slow = [socket.socket() for _ in range(SCRAPERS_MAX)]
            for number, each in enumerate(slow):
                each.setblocking(False)
                await loop.sock_connect(each, (LOCALHOST, it.port))
                await loop.sock_sendall(each, GET if number % 2 else GET[:9])
            end = last = loop.time()
            while loop.time() < end + SECONDS * 2:  # until the last of them is gone
                await asyncio.sleep(0)
                held.append(loop.time() - last)
                last = loop.time()
            for each in slow:
                each.close()
            assert await served(it.port)
            return sorted(held)

    held = asyncio.run(run())
    assert held[len(held) * 999 // 1000] < 0.010


def test_an_address_in_use_is_one_explained_line_and_had_as_soon_as_it_is_free(caplog):
    async def run() -> None:
        with socket.socket() as other:
            other.bind((LOCALHOST, 0))
            other.listen()
            port = other.getsockname()[1]
            it = Serving([b"page"], port)
            await it.apply(port)
            (text,) = it.conditions.texts
            assert text.startswith(f"metrics are not served at 127.0.0.1:{port}: Address already in use; `ss -ltnp")
            await it.clock.advance(AGAIN_S)
            await settle()
            assert len(it.conditions.texts) == 1
        await it.clock.advance(AGAIN_S)
        await settle()
        assert it.conditions.texts == []
        assert (await asked(port)).endswith(b"page")
        await it.server.close()

    asyncio.run(run())
    assert len(caplog.records) == 1


def test_a_reload_moves_it_ends_it_and_leaves_it_alone():
    async def run() -> None:
        async with serving() as it:
            reader, writer = await asyncio.open_connection(LOCALHOST, it.port)
            await settle()
            await it.apply(it.port)
            writer.write(GET)
            assert (await reader.read()).endswith(b"ipsec_dp_up 1\n"), "who was connected stays so"
            writer.close()
            assert it.loaded == ["loaded"]
            other = free_port()
            await it.apply(other)
            with pytest.raises(ConnectionRefusedError):
                await asked(it.port)
            assert (await asked(other)).endswith(b"ipsec_dp_up 1\n")
            await it.apply(None)
            with pytest.raises(ConnectionRefusedError):
                await asked(other)

    asyncio.run(run())


def test_a_page_that_cannot_be_made_is_a_condition_until_it_can():
    async def run() -> None:
        async with serving(fails="the kernel says no") as it:
            answer = await asked(it.port)
            assert answer.startswith(b"HTTP/1.1 500 ")
            assert b"kernel" not in answer
            assert it.conditions.texts == ["the kernel says no"]
            it.fails = ""
            await it.clock.advance(PAGE_S)
            assert (await asked(it.port)).startswith(b"HTTP/1.1 200 ")
            assert it.conditions.texts == []

    asyncio.run(run())


def test_listen_is_written_as_it_is_read():
    at = MetricsListen(address=ip_address("::1"), port=9551)
    assert (str(at), str(replace(at, address=ip_address("127.0.0.1")))) == ("[::1]:9551", "127.0.0.1:9551")


def test_the_document_has_each_limit_of_a_client():
    text = (ROOT / "docs/security.md").read_text().partition("## Metrics")[2].partition("\n## ")[0]
    written = {name: float(value) for name, value in re.findall(r"^\| `([A-Z_]+)` \| ([0-9]+) \|", text, re.MULTILINE)}
    assert written == {name: getattr(metrics_server, name) for name in written}
    assert written.keys() == {"SCRAPERS_MAX", "CLIENT_S", "REQUEST_MAX", "PAGE_S", "BACKLOG"}
    assert f"slices of {READING_S * 1000:g} ms" in text
    assert f"the first {TUNNELS_MAX:,}" in text
