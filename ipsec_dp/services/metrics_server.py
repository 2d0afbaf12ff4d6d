"""`/metrics` over HTTP: one page, for whoever connects, with a bound on everything that a client may do or leave undone.

Of a request only its first line counts (RFC 9112 §3). A client has few seconds to ask and few to read, its request few octets;
SCRAPERS_MAX are served at a time, and all that ask within PAGE_S are given the same page. A page is made in slices of time, so
neither its length nor a client holds IKE or packets up. That it cannot be served is a condition, and nothing else changes.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING, Final, Protocol

from ipsec_dp.errors import IpsecDpError
from ipsec_dp.util.faults import explained
from ipsec_dp.util.slices import in_slices, turn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ipsec_dp.config import Config
    from ipsec_dp.config.model import MetricsListen
    from ipsec_dp.util.clock import Clock, Timer
    from ipsec_dp.util.conditions import Conditions

REQUEST_MAX: Final = 8192  # octets
SCRAPERS_MAX: Final = 16  # at a time; the next one is turned away
CLIENT_S: Final = 5.0  # in which a request must be there, and in which its answer must be taken
PAGE_S: Final = 1.0  # for which a page is given to everybody
AGAIN_S: Final = 30.0  # between two attempts to listen
WRITING_S: Final = 0.002  # of a slice
BACKLOG: Final = 8  # connections that one turn of the event loop accepts at the most
SOURCE: Final = "metrics"  # of conditions
FORMAT: Final = "text/plain; version=0.0.4; charset=utf-8"
PLAIN: Final = "text/plain; charset=utf-8"
PATH: Final = "/metrics"


class Listening(Protocol):
    """What accepts connections (`asyncio.Server`)."""

    def close(self) -> None:
        """None is accepted any more."""


class StartListening(Protocol):
    """`asyncio.start_server`, as it is called here."""

    async def __call__(
        self,
        client: Callable[[asyncio.StreamReader, asyncio.StreamWriter], None],
        host: str,
        port: int,
        *,
        limit: int,
        backlog: int,
    ) -> Listening: ...


async def listen_here(
    client: Callable[[asyncio.StreamReader, asyncio.StreamWriter], None], host: str, port: int, *, limit: int, backlog: int
) -> Listening:
    """At an address of this host. OSError."""
    return await asyncio.start_server(client, host, port, limit=limit, backlog=backlog)


class MetricsServer:
    """A service: listens while the configuration has [metrics]. `page` makes the page, in pieces; `load` brings into memory what
    that needs, and is called in a thread before the first page."""

    name = "metrics"

    def __init__(
        self,
        page: Callable[[], Awaitable[Sequence[bytes]]],
        load: Callable[[], object],
        conditions: Conditions,
        clock: Clock,
        listen: StartListening = listen_here,
        seconds: float = CLIENT_S,
    ) -> None:
        self._make, self._load, self._conditions, self._clock, self._start = page, load, conditions, clock, listen
        self._seconds = seconds
        self._wanted: MetricsListen | None = None
        self._server: Listening | None = None
        self._taken: socket.socket | None = None  # at which another process listened
        self._again: Timer | None = None
        self._trying: asyncio.Task[None] | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._page: asyncio.Task[Sequence[bytes]] | None = None
        self._page_at = 0.0

    # ---- as a service

    async def apply(self, config: Config) -> None:
        """An address that cannot be had is a condition, and tried again."""
        if config.metrics == self._wanted and self._server is not None:
            return
        await self.close()
        self._wanted = config.metrics
        if self._wanted is None and self._taken is not None:
            self._taken.close()
            self._taken = None
        if self._wanted is not None:
            await asyncio.to_thread(self._load)
            await self._listen(self._wanted)

    async def close(self) -> None:
        self._wanted = None
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._server is not None:
            self._server.close()
            self._server = None
        ending = [*self._clients, *(task for task in (self._trying, self._page) if task is not None)]
        self._trying = self._page = None
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        self._conditions.become(SOURCE, {})

    # ---- from another process, and to one

    @property
    def descriptor(self) -> int | None:
        """Of the socket at which it listens; None: at none that could be handed over."""
        if not isinstance(self._server, asyncio.Server) or not self._server.sockets:
            return None
        return self._server.sockets[0].fileno()

    def leave(self) -> None:
        """Another process accepts from now on."""
        if self._server is not None:
            self._server.close()

    def take(self, listening: socket.socket) -> None:
        """The configuration that is applied next is served there."""
        self._taken = listening

    async def _listen(self, at: MetricsListen) -> None:
        taken, self._taken = self._taken, None
        if taken is not None:
            self._server = await asyncio.start_server(self._accept, sock=taken, limit=REQUEST_MAX, backlog=BACKLOG)
            return
        try:
            self._server = await self._start(self._accept, str(at.address), at.port, limit=REQUEST_MAX, backlog=BACKLOG)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            self._conditions.begin(
                SOURCE,
                "listen",
                f"metrics are not served at {at}: {why}; `ss -ltnp 'sport = :{at.port}'` shows who has the port: end that, or "
                f"write another listen in [metrics] and reload. It is tried again every {AGAIN_S:g} s",
            )
            self._again = self._clock.call_at(self._clock.now() + AGAIN_S, self._try_again, at)
        else:
            self._conditions.end(SOURCE, "listen")

    def _try_again(self, at: MetricsListen) -> None:
        self._again = None
        self._trying = asyncio.get_running_loop().create_task(self._listen(at))

    # ---- clients

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= SCRAPERS_MAX:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._client(reader, writer))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(0)  # or the last octets would wait for the client without an end
        try:
            async with asyncio.timeout(self._seconds):
                asked = await _request(reader)
            pieces = await self._answer(asked)
            await turn()  # all that asked for this page are told at once that it is there
            async with asyncio.timeout(self._seconds):
                async for piece in in_slices(pieces, WRITING_S):
                    writer.write(piece)
                    await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            writer.transport.abort()  # it went away, or is too slow
        else:
            writer.close()
        finally:
            if not writer.is_closing():
                writer.transport.abort()

    async def _answer(self, asked: tuple[str, str] | None) -> Sequence[bytes]:
        if asked is None:
            return _response("400 Bad Request", PLAIN, [b"a request is GET /metrics HTTP/1.1, 8192 octets at the most\n"])
        method, path = asked
        if method not in ("GET", "HEAD"):
            return _response("405 Method Not Allowed", PLAIN, [b"this page is only read\n"])
        if path != PATH:
            return _response("404 Not Found", PLAIN, [b"metrics are at /metrics\n"])
        try:
            page = await self._shared_page()
        except IpsecDpError as error:
            self._conditions.begin(SOURCE, "page", str(error))
            return _response("500 Internal Server Error", PLAIN, [b"the gateway's log and status say why\n"])
        self._conditions.end(SOURCE, "page")
        response = _response("200 OK", FORMAT, page)
        return response[:1] if method == "HEAD" else response

    async def _shared_page(self) -> Sequence[bytes]:
        """One that is being made, or was lately. Raises IpsecDpError."""
        page, now = self._page, self._clock.now()
        if page is None or (page.done() and now - self._page_at >= PAGE_S):
            self._page = page = asyncio.get_running_loop().create_task(self._new_page())
            self._page_at = now
        return await asyncio.shield(page)

    async def _new_page(self) -> Sequence[bytes]:
        with explained("the metrics could not be read"):
            return await self._make()


async def _request(reader: asyncio.StreamReader) -> tuple[str, str] | None:
    """Method and path of a request; None: it is none that is understood, or too long."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        return None
    words = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return None
    return words[0], words[1].partition("?")[0]


def _response(status: str, kind: str, body: Sequence[bytes]) -> list[bytes]:
    fields = {"Content-Type": kind, "Content-Length": sum(map(len, body)), "Cache-Control": "no-store", "Connection": "close"}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return [f"HTTP/1.1 {status}\r\n{head}\r\n".encode(), *body]
