"""`ipsec-dp test NAME --file FILE`: a trial where no gateway runs, by sockets of its own on ports 500 and 4500."""

from __future__ import annotations

import select
import socket
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, Self

from ipsec_dp.config import load
from ipsec_dp.databases.pad import peer_of
from ipsec_dp.errors import ControlError
from ipsec_dp.gateway.trial_answer import answer_of, notes_on
from ipsec_dp.host import HostError, nft, probe, sockets
from ipsec_dp.ike.actions import Endpoint, Path
from ipsec_dp.ike.environment import Environment
from ipsec_dp.ike.proposal import FIRST_SPI
from ipsec_dp.keying.trial_attempt import Attempt, environment_on_trial, versions_to_try
from ipsec_dp.util.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path as FilePath

    from ipsec_dp.config import Config, Tunnel
    from ipsec_dp.gateway.trial_answer import TrialAnswer
    from ipsec_dp.ike.actions import Send
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ipsec.addresses import Address

NON_ESP_MARKER: Final = bytes(4)  # RFC 3948 §2.2
DATAGRAM: Final = 65535
REMOTES_MOST: Final = 3  # addresses that are tried, where none answers


def run(name: str, file: FilePath) -> TrialAnswer:
    """Raises ConfigError, HostError for what hinders even the attempt, ControlError for a tunnel that cannot be tested."""
    config = load(file)
    tunnel = _tunnel(config, name)
    peer = peer_of(tunnel)
    clock = SystemClock()
    environment = environment_on_trial(Environment(clock.random, lambda _tunnel: _spi(clock.random(4)), lambda _now: clock.utc()))
    attempts: list[Attempt] = []
    for address in _addresses(tunnel)[:REMOTES_MOST]:
        local = tunnel.local or source_towards(address)
        with LoneSockets(local) as links:
            for each in versions_to_try(peer, pinned=False):
                attempts.append(_try(environment, each, local, address, links, clock.now))
                if attempts[-1].answered:
                    return _answer(config, tunnel, attempts)
    return _answer(config, tunnel, attempts)


def _spi(octets: bytes) -> int:
    """One that ESP may have (RFC 4303 §2.1)."""
    return max(int.from_bytes(octets, "big"), FIRST_SPI)


def _answer(config: Config, tunnel: Tunnel, attempts: list[Attempt]) -> TrialAnswer:
    return answer_of(tunnel, attempts, notes_on(tunnel, config.warnings, hindrances()), datetime.now(UTC))


def _tunnel(config: Config, name: str) -> Tunnel:
    known = [tunnel.name for tunnel in config.tunnels if tunnel.auth is not None and tunnel.remotes]
    if name not in known:
        raise ControlError(f'no tunnel "{name}" that IKE can call; there are: {", ".join(known) or "none"}')
    return config.tunnel(name)


def hindrances(looks: Iterable[Callable[[], object]] = (nft.program, probe.tun_offloads)) -> list[str]:
    """What `up` would not start for on this host, in its own words."""
    found: list[str] = []
    for look in looks:
        try:
            look()
        except (HostError, OSError) as error:
            found.append(f"`up` would not start: {error}")
    return found


def _addresses(tunnel: Tunnel) -> list[Address]:
    found: list[Address] = []
    for remote in tunnel.remotes:
        found += resolved(remote) if isinstance(remote, str) else [remote]
    return found


def resolved(name: str) -> list[Address]:
    """Of a host, by DNS or as it is. Raises HostError."""
    try:
        rows = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise HostError(f"{name}: {error.strerror}") from error
    return list(dict.fromkeys(ip_address(str(row[4][0]).partition("%")[0]) for row in rows))


def source_towards(address: Address) -> Address:
    """Our address towards a peer, as the host's routing has it. Raises HostError."""
    with socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect((str(address), sockets.IKE_PORT))
        except OSError as error:
            raise HostError(f"no way to {address}: {error.strerror}") from error
        return ip_address(asking.getsockname()[0].partition("%")[0])


class LoneSockets:
    """Ports 500 and 4500 of one address, while no gateway has them. Raises HostError where somebody else does."""

    def __init__(self, local: Address) -> None:
        self.local = local
        self._sockets: dict[bool, socket.socket] = {}
        for natt, port in ((False, sockets.IKE_PORT), (True, sockets.NAT_PORT)):
            try:
                self._sockets[natt] = sockets.ike_socket(local, port)
            except HostError:
                self.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for each in self._sockets.values():
            each.close()

    def send(self, send: Send) -> str | None:
        """Why this host refuses; None: it does not."""
        target, natt = self._sockets[send.path.natt], send.path.natt
        remote = send.path.remote
        try:
            if send.whole:
                with sockets.unfragmented(target, self.local.version):
                    target.sendto(NON_ESP_MARKER * natt + send.datagram, (str(remote.address), remote.port))
            else:
                target.sendto(NON_ESP_MARKER * natt + send.datagram, (str(remote.address), remote.port))
        except OSError as error:
            return sockets.refusal(error.errno or 0)
        return None

    def receive(self, seconds: float) -> Iterable[tuple[bytes, Path]]:
        """What comes within that time, as it comes."""
        ready, _, _ = select.select(list(self._sockets.values()), [], [], max(seconds, 0.0))
        for natt, each in self._sockets.items():
            if each not in ready:
                continue
            datagram, sender = each.recvfrom(DATAGRAM)
            if natt and not datagram.startswith(NON_ESP_MARKER):
                continue
            ends = (Endpoint(self.local, each.getsockname()[1]), Endpoint(ip_address(sender[0].partition("%")[0]), sender[1]))
            yield datagram[len(NON_ESP_MARKER) * natt :], Path(*ends, natt)


def _try(
    environment: Environment, peer: Peer, local: Address, remote: Address, links: LoneSockets, now: Callable[[], float]
) -> Attempt:
    port = sockets.NAT_PORT if peer.natt_first else sockets.IKE_PORT
    attempt = Attempt(environment, peer, Path(Endpoint(local, port), Endpoint(remote, port), peer.natt_first), lambda _spi: None)
    try:
        _send(attempt, links, attempt.begin(now()), now)
        while not attempt.over:
            for datagram, path in links.receive(attempt.next_timeout() - now()):
                if attempt.knows(datagram):
                    _send(attempt, links, attempt.receive(datagram, path, now()), now)
            if attempt.next_timeout() <= now():
                _send(attempt, links, attempt.timer(now()), now)
    finally:
        if not attempt.over:  # Ctrl-C
            _send(attempt, links, attempt.abandon(now()), now)
    return attempt


def _send(attempt: Attempt, links: LoneSockets, sends: Iterable[Send], now: Callable[[], float]) -> None:
    waiting = list(sends)
    while waiting:
        send = waiting.pop(0)
        refused = links.send(send)
        if refused is not None:
            waiting += attempt.unsent(send.datagram, refused, now())
