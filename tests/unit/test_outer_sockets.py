"""The outer sockets: opened once for an address, shared by the workers, and which socket a message of IKE leaves by."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ipsec_dp.dataplane import Df, Encapsulation, Endpoint, Punt, PuntKind, SaFlag, SaHandle
from ipsec_dp.host import HostError, sockets
from ipsec_dp.host.sockets import OuterSockets
from ipsec_dp.network.outer_sockets import MESSAGES_AT_ONCE, SocketLinks

LOCAL = ip_address("127.0.0.1")
UDP, ESP = Encapsulation.UDP, Encapsulation.ESP


class Plane:
    """Notes what is attached, in order."""

    def __init__(self, workers: int = 1) -> None:
        self.workers, self.sa_slots = workers, 256
        self.calls: list[tuple[Any, ...]] = []
        self.waiting = select.epoll()
        self._links: dict[tuple[Any, ...], int] = {}

    def attach_link(self, encapsulation: Any, local: Any, receive: int, df: Any, other: int, worker: int, *, on: Any) -> int:
        assert on is None, "nobody else has them"
        assert df is Df.SET, "what receives sends with DF set"
        self.calls.append(("attach", encapsulation, worker, receive, other))
        return self._links.setdefault((encapsulation, local), len(self._links))

    def detach_link(self, link: int, worker: int) -> None:
        self.calls.append(("detach", link, worker))

    def ike_sent(self, local: Any, remote: Any, message: bytes) -> None:
        del remote
        self.calls.append(("sent", local.port, message))

    def keepalive_sent(self, local: Any, remote: Any) -> None:
        self.calls.append(("keepalive", local.port, remote))

    def attach_ike(self, local: Any, descriptor: int) -> int:
        self.ike = socket.socket(fileno=os.dup(descriptor))
        self.waiting.register(self.ike, select.EPOLLIN)
        self.calls.append(("attach ike", local.port))
        return 7

    def detach_ike(self, number: int) -> None:
        self.calls.append(("detach ike", number))
        self.ike.close()

    def ike_descriptor(self) -> int:
        return self.waiting.fileno()

    def read_ike(self) -> Punt | None:
        try:
            message, (address, port) = self.ike.recvfrom(65535)
        except BlockingIOError:
            return None
        sender = Endpoint(ip_address(address), port)
        return Punt(PuntKind.IKE, 7, 0, SaHandle(0), 0, SaFlag(0), 0, 0, 0, None, sender, message)

    def reclaim(self) -> int:
        return 0

    def receive_off_link(self, link: int, worker: int) -> None:
        self.calls.append(("receive off", link, worker))


def bound() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 0))
    made.setblocking(False)
    return made


class Kernel:
    """Plain sockets on loopback in place of the marked ones, which take privileges."""

    def __init__(self, shared: bool = True) -> None:
        self.shared = shared
        self.pairs: list[OuterSockets] = []
        self.ike: list[socket.socket] = []
        self.whole: list[bool] = []
        self.buffers: list[int] = []  # of each pair, as it was asked for

    def udp_pair(self, local: Any, port: int = 4500, *, buffer: int, steering: Any) -> OuterSockets:
        count = steering.workers if self.shared else 1
        self.buffers.append(buffer)
        self.pairs.append(OuterSockets(local, port, tuple(bound() for _ in range(count)), bound()))
        return self.pairs[-1]

    def esp_pair(self, local: Any, *, buffer: int, steering: Any) -> OuterSockets:
        return self.udp_pair(local, 0, buffer=buffer, steering=steering)

    def ike_socket(self, local: Any, *, buffer: int) -> socket.socket:
        del local, buffer
        self.ike.append(bound())
        return self.ike[-1]

    @contextlib.contextmanager
    def unfragmented(self, target: Any, version: int) -> Any:
        assert (target, version) == (self.ike[0], 4)
        self.whole.append(True)
        yield

    def place(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("udp_pair", "esp_pair", "ike_socket", "unfragmented"):
            monkeypatch.setattr(sockets, name, getattr(self, name))


@pytest.fixture
def kernel(monkeypatch):
    made = Kernel()
    made.place(monkeypatch)
    return made


@pytest.fixture
def peer():
    with bound() as made:
        yield made


def links_of(plane: Plane) -> SocketLinks:
    return SocketLinks(cast("Any", plane))


def end(made: socket.socket) -> Endpoint:
    return Endpoint(LOCAL, made.getsockname()[1])


# ---- links


def test_an_address_is_opened_once_for_each_encapsulation(kernel):
    plane = Plane()
    links = links_of(plane)
    numbers = [links.link(Endpoint(LOCAL, port), kind) for kind, port in ((UDP, 4500), (ESP, 0), (UDP, 4500), (ESP, 0))]
    assert numbers == [0, 1, 0, 1]
    assert [pair.port for pair in kernel.pairs] == [4500, 0]
    links.close()


def test_each_worker_reads_a_socket_of_its_own_and_all_send_by_the_same_other(kernel):
    plane = Plane(workers=3)
    links = links_of(plane)
    links.link(Endpoint(LOCAL, 4500), UDP)
    (pair,) = kernel.pairs
    assert plane.calls == [("attach", UDP, worker, pair.receivers[worker].fileno(), pair.other.fileno()) for worker in range(3)]
    links.close()


def test_where_the_kernel_does_not_share_one_worker_reads_for_all(kernel):
    kernel.shared = False
    plane = Plane(workers=3)
    links = links_of(plane)
    links.link(Endpoint(LOCAL, 4500), UDP)
    assert {call[3] for call in plane.calls if call[0] == "attach"} == {kernel.pairs[0].receive.fileno()}
    assert [call for call in plane.calls if call[0] == "receive off"] == [("receive off", 0, 1), ("receive off", 0, 2)]
    links.close()


def test_workers_let_go_before_the_sockets_close(kernel, monkeypatch):
    plane = Plane(workers=2)
    links = links_of(plane)
    monkeypatch.setattr(OuterSockets, "close", lambda _: plane.calls.append(("closed",)))
    links.link(Endpoint(LOCAL, 4500), UDP)
    links.close()
    assert plane.calls[-3:] == [("detach", 0, 1), ("detach", 0, 0), ("closed",)]


# ---- buffers


def test_buffers_are_as_asked_for_and_follow_another_configuration(kernel):
    plane = Plane()
    links = SocketLinks(cast("Any", plane), 1 << 17)
    none_is_open = links.buffers
    assert none_is_open is None
    links.link(Endpoint(LOCAL, 4500), UDP)
    assert kernel.buffers == [1 << 17]
    links.reconfigure(cast("Any", SimpleNamespace(socket_buffer=1 << 16)))
    assert links.buffers == (1 << 16, 1 << 16)
    links.link(Endpoint(LOCAL, 0), ESP)
    assert kernel.buffers == [1 << 17, 1 << 16]
    links.close()


def test_what_the_kernel_did_not_give_is_told(kernel):
    links = links_of(Plane())
    links.link(Endpoint(LOCAL, 4500), UDP)
    small = socket.SO_RCVBUF, 1 << 12
    kernel.pairs[0].receive.setsockopt(socket.SOL_SOCKET, *small)
    received, sent = links.buffers or (0, 0)
    assert received == 1 << 12
    assert sent > received
    links.close()


# ---- IKE


def test_both_ports_are_opened_once_and_what_comes_to_port_500_is_passed_on_with_its_ends(kernel, peer):
    async def life() -> list[Any]:
        links, heard = links_of(Plane()), asyncio.Event()
        received: list[Any] = []

        def receive(*what: Any) -> None:
            received.append(what)
            heard.set()

        for _ in range(2):
            links.listen_ike(LOCAL, receive)
        assert (len(kernel.pairs), len(kernel.ike)) == (1, 1)
        ours = kernel.ike[0]
        peer.sendto(b"hello", ours.getsockname())
        await asyncio.wait_for(heard.wait(), 5)
        expected = [(b"hello", end(ours), end(peer))]
        assert received == expected
        links.close()
        return received

    asyncio.run(life())


def test_a_flood_leaves_the_loop_to_others_in_between(kernel, peer):
    async def life() -> None:
        links, batches = links_of(Plane()), []
        received: list[bytes] = []
        links.listen_ike(LOCAL, lambda message, *_: received.append(message))
        for number in range(MESSAGES_AT_ONCE + 3):
            peer.sendto(str(number).encode(), kernel.ike[0].getsockname())
        while len(received) < MESSAGES_AT_ONCE + 3:
            await asyncio.sleep(0)
            batches.append(len(received))
        assert MESSAGES_AT_ONCE in batches
        links.close()

    asyncio.run(asyncio.wait_for(life(), 10))


@pytest.mark.parametrize(
    ("natt", "whole", "sender", "message"),
    [
        (False, False, "ike", b"IKE"),
        (False, True, "ike", b"IKE"),
        (True, False, "other", bytes(4) + b"IKE"),
        (True, True, "receive", bytes(4) + b"IKE"),
    ],
)
def test_a_message_leaves_by_the_port_that_it_belongs_to(kernel, peer, natt, whole, sender, message):
    async def life() -> None:
        plane = Plane()
        links = links_of(plane)
        links.listen_ike(LOCAL, lambda *_: None)
        links.send_ike(LOCAL, end(peer), b"IKE", natt=natt, whole=whole)
        assert plane.calls[-1] == ("sent", 4500 if natt else 500, b"IKE"), "known again, should it come back"
        pair = kernel.pairs[0]
        by = {"ike": kernel.ike[0], "other": pair.other, "receive": pair.receive}[sender]
        assert peer.recvfrom(100) == (message, by.getsockname())
        assert kernel.whole == ([True] if whole and not natt else []), "DF for this message alone"
        links.close()

    asyncio.run(life())


def test_a_keepalive_is_one_octet_from_the_port_whose_mapping_it_keeps(kernel, peer):
    plane = Plane()
    links = links_of(plane)
    links.link(Endpoint(LOCAL, 4500), UDP)
    links.send_keepalive(LOCAL, end(peer))
    assert plane.calls[-1] == ("keepalive", 4500, end(peer)), "a capture sees it"
    assert peer.recvfrom(100) == (b"\xff", kernel.pairs[0].other.getsockname())
    links.close()


def test_what_the_host_refuses_to_send_is_lost_as_on_the_way(kernel, peer, caplog):
    links = links_of(Plane())
    links.link(Endpoint(LOCAL, 4500), UDP)
    with caplog.at_level("DEBUG", "ipsec_dp"):
        links.send_ike(LOCAL, end(peer), bytes(70000), natt=True)  # more than a datagram holds
    assert "sending 70004 octets to 127.0.0.1 port" in caplog.text
    links.close()


@pytest.mark.parametrize(
    ("address", "port", "said"),
    [("255.255.255.255", 9, "EACCES: a route or rule that says prohibit"), ("127.0.0.1", 0, "EINVAL: a route or rule that says")],
)
@pytest.mark.parametrize("natt", [False, True])
def test_why_the_host_refuses_is_said(kernel, peer, address, port, said, natt):
    async def life() -> None:
        links = links_of(Plane())
        links.listen_ike(LOCAL, lambda *_: None)
        refused = links.send_ike(LOCAL, Endpoint(ip_address(address), port), b"IKE", natt=natt)
        assert refused is not None
        assert refused.startswith(said)
        assert links.send_ike(LOCAL, end(peer), b"IKE", natt=natt) is None
        assert links.send_ike(LOCAL, end(peer), bytes(70000), natt=natt) is None, "because of its length"
        links.close()

    asyncio.run(life())


# ---- sockets that do their work no longer


def test_one_that_is_broken_is_opened_anew_in_its_place(kernel, monkeypatch):
    plane = Plane(workers=2)
    links = links_of(plane)
    link = links.link(Endpoint(LOCAL, 4500), UDP)
    (before,) = kernel.pairs
    what = "UDP port 4500 of 127.0.0.1"
    monkeypatch.setattr(sockets, "trouble", lambda made: "lost its mark" if before.other in made else None)
    assert links.broken() == {what: "lost its mark"}
    plane.calls.clear()
    links.reopen(what)
    assert links.broken() == {}
    (_, after) = kernel.pairs
    assert [call[:2] for call in plane.calls[:2]] == [("detach", link), ("detach", link)]
    assert [call[3] for call in plane.calls[2:]] == [each.fileno() for each in after.receivers]
    assert before.other.fileno() == -1
    assert links.link(Endpoint(LOCAL, 4500), UDP) == link
    links.close()
    assert after.other.fileno() == -1


def test_one_that_cannot_be_opened_stays_broken_until_it_can(kernel, monkeypatch):
    links = links_of(Plane())
    links.link(Endpoint(LOCAL, 4500), UDP)
    good = sockets.udp_pair

    def refused(*_: Any, **__: Any) -> Any:
        raise HostError("taken by another program")

    monkeypatch.setattr(sockets, "trouble", lambda made: None if made else "is closed")
    monkeypatch.setattr(sockets, "udp_pair", refused)
    (what,) = ["UDP port 4500 of 127.0.0.1"]
    with pytest.raises(HostError, match="taken by another program"):
        links.reopen(what)
    assert links.broken() == {what: "is closed"}
    monkeypatch.setattr(sockets, "udp_pair", good)
    links.reopen(what)
    assert links.broken() == {}
    links.close()


def test_the_port_of_ike_is_read_again_after_it_was_opened_anew(kernel, peer):
    async def life() -> None:
        heard = asyncio.Event()
        links = links_of(Plane())
        links.listen_ike(LOCAL, lambda *_: heard.set())
        links.reopen("UDP port 500 of 127.0.0.1")
        peer.sendto(b"anew", kernel.ike[-1].getsockname())
        async with asyncio.timeout(5):
            await heard.wait()
        links.close()

    asyncio.run(life())


def test_sockets_without_the_mark_or_closed_are_in_trouble():
    with bound() as unmarked:
        assert sockets.trouble([unmarked]) == "lost its mark, without which its packets enter the tunnel"
    assert sockets.trouble([unmarked]) == "works no longer: Bad file descriptor"
    assert sockets.trouble([]) == "is closed"
