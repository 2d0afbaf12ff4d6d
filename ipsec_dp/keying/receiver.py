"""What arrives for IKE: whom it is for, the core or a negotiation on trial, and in which order."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ipsec_dp.ike import actions as act
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.keying.inbox import Inbox
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ipsec_dp import dataplane
    from ipsec_dp.databases.sad_events import IkeDatagram
    from ipsec_dp.ike.actions import Action
    from ipsec_dp.ike.environment import Trace
    from ipsec_dp.ike.interface import IkeCore
    from ipsec_dp.ipsec.addresses import Address
    from ipsec_dp.keying.ike_trials import IkeTrials
    from ipsec_dp.util.clock import Clock

log = logging.getLogger(__name__)


class Receiver:
    """Of one gateway. `refuses`: as `IkeDriver`; `carry_out` takes what the core says."""

    def __init__(
        self,
        core: IkeCore,
        trials: IkeTrials | None,
        clock: Clock,
        trace: Trace,
        *,
        refuses: Callable[[Address], bool],
        carry_out: Callable[[Iterable[Action]], None],
    ) -> None:
        self._core, self._trials, self._clock, self._trace = core, trials, clock, trace
        self._refuses, self._carry_out = refuses, carry_out
        self._inbox = Inbox(self._handle)
        self._fault_told = -LIMITS.event_seconds

    def received(self, message: bytes, local: dataplane.Endpoint, remote: dataplane.Endpoint) -> None:
        """A message that arrived on port 500."""
        self._receive(message, act.Path(_of_ike(local), _of_ike(remote)))

    def datagram(self, event: IkeDatagram) -> None:
        """A message that arrived on port 4500."""
        if event.local is None or event.remote is None:
            return
        self._receive(event.message, act.Path(_of_ike(event.local), _of_ike(event.remote), natt=True))

    @property
    def waiting(self) -> int:
        """How many messages of strangers wait for their turn."""
        return self._inbox.waiting

    def close(self) -> None:
        """Nothing that waits is handled any more."""
        self._inbox.close()

    def _receive(self, message: bytes, path: act.Path) -> None:
        if not self._refuses(path.remote.address):
            on_trial = self._trials is not None and self._trials.knows(message)
            self._inbox.put((message, path), ours=on_trial or self._core.knows(message))

    def _handle(self, received: tuple[bytes, act.Path]) -> None:
        """Whatever a stranger sends, it costs one datagram at the most: an exception here is a fault of ours."""
        message, path = received
        now = self._clock.now()
        self._trace.arrived(message, path)
        try:
            if self._trials is not None and self._trials.knows(message):
                self._trials.receive(message, path)
                return
            actions = self._core.receive(message, path, now)
        except Exception:  # whichever it is, the tunnels of everybody else go on
            if now - self._fault_told >= LIMITS.event_seconds:
                self._fault_told = now
                log.exception(
                    "a datagram from %s could not be handled; please report this", path.remote, extra=told("datagram_fault")
                )
            return
        finally:
            self._trace.handled()
        self._carry_out(actions)


def _of_ike(end: dataplane.Endpoint) -> act.Endpoint:
    return act.Endpoint(end.address, end.port, end.scope)
