"""Negotiations on trial in a running gateway: by its ports, its names and its SPIs, beside its IKE SAs, which they do not touch."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from ipsec_dp.errors import IpsecDpError
from ipsec_dp.host import HostError
from ipsec_dp.host.sockets import IKE_PORT, NAT_PORT
from ipsec_dp.ike import actions as act
from ipsec_dp.keying.child_installer import outer_endpoint
from ipsec_dp.keying.trial_attempt import Attempt, environment_on_trial, versions_to_try

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from ipsec_dp.config import Tunnel
    from ipsec_dp.ike.environment import Environment
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ipsec.addresses import Address
    from ipsec_dp.network.host import OuterLinks
    from ipsec_dp.util.clock import Clock, Timer

log = logging.getLogger("ipsec_dp")

REMOTES_MOST: Final = 3  # addresses of a peer that are tried, where none answers


class IkeTrials:
    """One at a time. `environment` is the gateway's; `release` gets SPIs back that it gave."""

    def __init__(self, environment: Environment, links: OuterLinks, release: Callable[[int], None], clock: Clock) -> None:
        self._environment = environment_on_trial(environment)
        self._links, self._release, self._clock = links, release, clock
        self._busy = False
        self._attempt: Attempt | None = None
        self._done: asyncio.Future[None] | None = None
        self._timer: Timer | None = None

    async def run(
        self,
        tunnel: Tunnel,
        peer: Peer,
        locate: Callable[[Tunnel, Address | str, int], Awaitable[tuple[Address, Address]]],
        listen: Callable[[Address], None],
        *,
        pinned: bool,
    ) -> tuple[Attempt, ...]:
        """Tries the tunnel's addresses, each by the versions that it may speak, until one answers; all attempts, the last one last.
        Raises IpsecDpError when another trial is under way, HostError when there is no way to any address."""
        if self._busy:
            raise IpsecDpError("another tunnel is being tested; ask again when that is done")
        self._busy = True
        try:
            attempts: list[Attempt] = []
            no_way: HostError | None = None
            for remote in tunnel.remotes[:REMOTES_MOST]:
                try:
                    address, local = await locate(tunnel, remote, 0)
                    listen(local)
                except HostError as error:
                    no_way = no_way or error
                    continue
                for each in versions_to_try(peer, pinned=pinned):
                    port = NAT_PORT if each.natt_first else IKE_PORT
                    path = act.Path(act.Endpoint(local, port), act.Endpoint(address, port), each.natt_first)
                    attempts.append(await self._try(each, path))
                    if attempts[-1].answered:
                        return tuple(attempts)
            if no_way is not None and not attempts:
                raise no_way
            return tuple(attempts)
        finally:
            self._busy = False

    async def _try(self, peer: Peer, path: act.Path) -> Attempt:
        self._attempt = attempt = Attempt(self._environment, peer, path, self._release)
        self._done = asyncio.get_running_loop().create_future()
        try:
            self._send(attempt.begin(self._clock.now()))
            await self._done
        finally:
            self.close()
        return attempt

    # ---- what comes

    def knows(self, message: bytes) -> bool:
        """Whether a message is for the trial that is under way."""
        return self._attempt is not None and self._attempt.knows(message)

    def receive(self, message: bytes, path: act.Path) -> None:
        if self._attempt is not None:
            self._send(self._attempt.receive(message, path, self._clock.now()))

    def unreachable(self, message: bytes, path: act.Path, reason: str) -> None:
        if self._attempt is not None:
            self._send(self._attempt.unreachable(message, path, reason, self._clock.now()))

    def _due(self) -> None:
        self._timer = None
        if self._attempt is not None:
            self._send(self._attempt.timer(self._clock.now()))

    def close(self) -> None:
        """What is under way ends, with a word to the peer."""
        attempt, self._attempt = self._attempt, None
        if attempt is not None and not attempt.over:
            self._transmit(attempt, attempt.abandon(self._clock.now()))
        self._settle()

    def forget(self) -> None:
        """It ends without one: this machine's keys are another's too."""
        attempt, self._attempt = self._attempt, None
        if attempt is not None and not attempt.over:
            attempt.forget(self._clock.now())
        self._settle()

    # ---- what goes

    def _send(self, sends: Iterable[act.Send]) -> None:
        attempt = self._attempt
        if attempt is None:
            return
        self._transmit(attempt, sends)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if attempt.over:
            self._settle()
        else:
            self._timer = self._clock.call_at(attempt.next_timeout(), self._due)

    def _transmit(self, attempt: Attempt, sends: Iterable[act.Send]) -> None:
        waiting = list(sends)
        while waiting:
            send = waiting.pop(0)
            local, remote = send.path.local.address, outer_endpoint(send.path.remote)
            refused = self._links.send_ike(local, remote, send.datagram, natt=send.path.natt, whole=send.whole)
            if refused is not None:
                waiting += attempt.unsent(send.datagram, refused, self._clock.now())

    def _settle(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._done is not None and not self._done.done():
            self._done.set_result(None)
