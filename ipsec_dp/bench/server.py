"""`ipsec-dp bench server`: the far end of a path benchmark. Takes streams, counts datagrams, reports its CPU time.

One client at a time; others get an error that says so. It serves whoever can connect, so let it run only while you measure, and
bind it to an address inside the tunnel.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
import selectors
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import click

from ipsec_dp.bench.wire import (
    CHUNK,
    PORT,
    RECEIVE_BUFFER,
    RUN_OCTETS,
    SOL_UDP,
    TOKEN_OCTETS,
    UDP_GRO,
    VERSION,
    BenchError,
    Lines,
    busy_seconds,
)

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_S = 10.0  # for a first line, and for each send or receive of a stream
SILENCE_S = 120.0  # of a client, after which it is taken for gone
STREAMS_MAX = 64
STREAM_S_MAX = 600.0
POLL_S = 0.05
BACKLOG = 80


def segments(octets: int, control: list[tuple[int, int, bytes]]) -> int:
    """How many datagrams one receive call brought, by the size of each that UDP_GRO tells."""
    for level, kind, data in control:
        if (level, kind) == (SOL_UDP, UDP_GRO):
            size = int.from_bytes(data[:4], sys.byteorder)
            return -(-octets // size) if size else 1
    return 1


class Counter:
    """Datagrams of one run from one address, counted by a thread of its own until `close`."""

    def __init__(self, family: int, address: str, port: int) -> None:
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for option in (socket.SO_RCVBUF, getattr(socket, "SO_RCVBUFFORCE", 33)):
            with contextlib.suppress(OSError):  # more than the host allows needs CAP_NET_ADMIN
                self._socket.setsockopt(socket.SOL_SOCKET, option, RECEIVE_BUFFER)
        with contextlib.suppress(OSError):  # Linux before 5.0
            self._socket.setsockopt(SOL_UDP, UDP_GRO, 1)
        self._socket.bind((address, port))
        self._socket.settimeout(POLL_S)
        self._lock = threading.Lock()
        self._wanted: tuple[bytes, str] | None = None
        self._received = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def begin(self, run: bytes, source: str) -> None:
        """Counts what comes from `source` and begins with `run` (RUN_OCTETS), from 0 on."""
        with self._lock:
            self._wanted, self._received = (run, source), 0

    @property
    def received(self) -> int:
        with self._lock:
            return self._received

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        data = bytearray(1 << 16)
        while not self._ended.is_set():
            try:
                octets, control, _, peer = self._socket.recvmsg_into([data], socket.CMSG_SPACE(4))
            except (TimeoutError, ConnectionError):
                continue
            with self._lock:
                if self._wanted == (bytes(data[:RUN_OCTETS]), peer[0]):
                    self._received += segments(octets, control)


class Server:
    """Listens from the start on; `serve` answers until `stop`. OSError when the address or port cannot be had."""

    def __init__(self, address: str = "", port: int = PORT, report: Callable[[str], None] = lambda _text: None) -> None:
        family = socket.AF_INET6 if address == "" or ":" in address else socket.AF_INET
        self._listener = socket.create_server(
            (address, port), family=family, backlog=BACKLOG, dualstack_ipv6=family == socket.AF_INET6 and address == ""
        )
        self.port: int = self._listener.getsockname()[1]
        self._report = report
        try:
            self._counter = Counter(family, address or "::", self.port)
        except OSError:
            self._listener.close()
            raise
        self._client = threading.Lock()  # held while a client is served
        self._token: str | None = None
        self._source = ""
        self._streams = threading.BoundedSemaphore(STREAMS_MAX)
        self._stopping = threading.Event()

    def serve(self) -> None:
        """Answers clients until `stop`."""
        with selectors.DefaultSelector() as ready:
            ready.register(self._listener, selectors.EVENT_READ)
            while not self._stopping.is_set():
                if not ready.select(POLL_S):
                    continue
                connection, peer = self._listener.accept()
                if not self._streams.acquire(blocking=False):
                    connection.close()
                    continue
                threading.Thread(target=self._connected, args=(connection, str(peer[0])), daemon=True).start()
        self._listener.close()
        self._counter.close()

    def stop(self) -> None:
        """Ends `serve`."""
        self._stopping.set()

    def _connected(self, connection: socket.socket, source: str) -> None:
        try:
            with connection:
                connection.settimeout(PATIENCE_S)
                lines = Lines(connection)
                first = lines.receive() or {}
                if "hello" in first:
                    self._control(lines, first, source)
                elif self._token is not None and hmac.compare_digest(str(first.get("data")).encode(), self._token.encode()):
                    self._stream(lines, first)
        except (OSError, BenchError) as error:
            self._report(f"{source}: {error}")
        finally:
            self._streams.release()

    # ---- the control connection

    def _control(self, lines: Lines, first: dict[str, Any], source: str) -> None:
        if first["hello"] != VERSION:
            lines.send(error=f"this server speaks version {VERSION} of the protocol: use the same ipsec-dp on both sides")
            return
        if not self._client.acquire(blocking=False):
            lines.send(error="the server is busy with another client; try again later")
            return
        try:
            self._token, self._source = secrets.token_hex(TOKEN_OCTETS), source
            self._report(f"{source}: measures")
            lines.connection.settimeout(SILENCE_S)
            lines.send(token=self._token)
            while (asked := lines.receive()) is not None and not self._stopping.is_set():
                lines.send(**self._answer(asked))
            self._report(f"{source}: done")
        finally:
            self._token = None
            self._client.release()

    def _answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        match asked:
            case {"do": "count", "run": str(run)} if len(run) == 2 * RUN_OCTETS:
                try:
                    self._counter.begin(bytes.fromhex(run), self._source)
                except ValueError:
                    return {"error": "a run is 16 digits in hex"}
                return {}
            case {"do": "counted"}:
                return {"received": self._counter.received}
            case {"do": "cpu"}:
                return {"busy_s": busy_seconds()}
            case _:
                return {"error": "not known here: use the same ipsec-dp on both sides"}

    # ---- a stream

    def _stream(self, lines: Lines, asked: dict[str, Any]) -> None:
        """`way` "up": takes octets to the end and says how many; "down": sends for `seconds`."""
        connection = lines.connection
        if asked.get("way") == "down":
            seconds = asked.get("seconds")
            if isinstance(seconds, int | float) and 0 < seconds <= STREAM_S_MAX:
                source_octets(connection, seconds)
            return
        lines.send()
        octets, seconds = sink_octets(connection)
        lines.send(octets=octets, seconds=seconds)


def source_octets(connection: socket.socket, seconds: float, limit: float = float("inf")) -> int:
    """Sends for so long or so many octets, and ends the direction; how many octets were handed to TCP."""
    chunk, sent, end = memoryview(bytes(CHUNK)), 0, time.monotonic() + seconds
    while sent < limit and time.monotonic() < end:
        sent += connection.send(chunk)
    connection.shutdown(socket.SHUT_WR)
    return sent


def sink_octets(connection: socket.socket) -> tuple[int, float]:
    """Takes all to the end: octets, and seconds from the first of them to the last."""
    chunk, octets, begun, last = bytearray(CHUNK), 0, 0.0, 0.0
    while got := connection.recv_into(chunk):
        last = time.monotonic()
        begun = begun or last
        octets += got
    return octets, last - begun


def run(address: str, port: int) -> int:
    """Serves until interrupted; the exit status."""
    try:
        server = Server(address, port, report=click.echo)
    except OSError as error:
        raise BenchError(
            f"cannot listen at {address or 'any address'} port {port}: {error.strerror}; choose another --port"
        ) from error
    click.echo(f"listening at {address or 'any address'}, TCP and UDP port {server.port}; end with Ctrl-C")
    click.echo(f"on the other machine: ipsec-dp bench client ADDRESS{'' if server.port == PORT else f' --port {server.port}'}")
    try:
        server.serve()
    except KeyboardInterrupt:
        server.stop()
    return 0
