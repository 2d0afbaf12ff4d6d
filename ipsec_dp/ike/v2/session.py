"""One IKE SA as a pure state machine: datagrams, `now` and commands go in, actions come out (RFC 7296).

The flow of a received message is `receiving`, what it may do is the table in `transitions`, what each exchange does is in the
module of its name. The flow of our own requests is `enqueue`, `send_next`, `Task.build`, `sending`, the wire, `Task.answered`.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.actions import NO_SPI, Action, Cause, Kind, Path
from ipsec_dp.ike.errors import IkeError
from ipsec_dp.ike.peer_table import Candidates
from ipsec_dp.ike.v2 import (
    acquire,
    delete,
    first_message,
    followup,
    half_open,
    hints,
    reauth,
    receiving,
    shorter,
    silence,
    timers,
    transitions,
)
from ipsec_dp.ike.v2.context import Context, Task
from ipsec_dp.ike.v2.errors import IntegrityError
from ipsec_dp.ike.v2.exchanges import Shape
from ipsec_dp.ike.v2.ike_init import IkeSaInit
from ipsec_dp.ike.v2.liveness import silence_text
from ipsec_dp.ike.v2.message import Message
from ipsec_dp.ike.v2.sa import CARRYING, HALF_OPEN, IkeSa, ReceivedMessage, State, nonzero_spi
from ipsec_dp.ike.v2.sending import request_header, seal, transmit
from ipsec_dp.ike.v2.wire import ExchangeType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.traffic_selectors import ProxyId
    from ipsec_dp.ike.v2.context import IkeHost
    from ipsec_dp.ike.v2.exchanges import OutstandingRequest

LINGER: Final = 30.0  # seconds in which a duplicate of the last request is still answered


class IkeSession(Context):
    """One IKE SA: what is done to it from outside, and the machine that its handlers' context leaves things to."""

    _state = State.NEW

    @property
    def state(self) -> State:
        return self._state

    def enter(self, state: State) -> None:
        if (self._state, state) not in transitions.PAIRS:
            raise RuntimeError(f"no IKE SA goes from {self._state} to {state}")
        self._state = state

    # ---- what is done to it

    def initiate(self, now: float, pairs: Iterable[ProxyId] = (), packet: ProxyId | None = None) -> list[Action]:
        self.enter(State.INIT_SENT)
        self.request(IkeSaInit(self, tuple(pairs) or self.peer.proxy_ids, packet), now)
        return self.take()

    def receive(self, datagram: bytes, message: Message, path: Path, now: float) -> list[Action]:
        """A message for this SA, `message` being what was parsed from `datagram`. Never raises for what is in it."""
        begins = self.state is State.NEW
        try:
            receiving.receive(self, ReceivedMessage(message, datagram, path, now))
        except IntegrityError:
            self.host.count("unauthenticated")
            hints.unopened(self, message, path)
        except IkeError as error:
            self.host.count("malformed")
            if begins:
                first_message.unacceptable(self, error, path)
        self.send_next(now)
        return self.take()

    def unusable(self, text: str, path: Path) -> list[Action]:
        """Something came for this SA that is no message of IKEv2."""
        hints.note(self, text, path)
        return self.take()

    def unsent(self, datagram: bytes, why: str) -> list[Action]:
        """This host did not let it leave."""
        silence.unsent(self, datagram, why)
        return self.take()

    def timer(self, now: float) -> list[Action]:
        """Retransmissions, lifetimes, liveness, whatever is due."""
        outstanding = self.window.outstanding
        self.exchange = "" if outstanding is None else outstanding.task.name
        if outstanding is not None and now >= outstanding.deadline:
            self._retransmit(outstanding, now)
        if now >= self.deadlines.close_at:
            self._expired(now)
        if now >= self.deadlines.tell_at:
            half_open.due(self, now)
        if self.state in CARRYING and not self.succession.handed_over:
            timers.due(self, now)
        self.send_next(now)
        return self.take()

    def check_liveness(self, now: float) -> list[Action]:
        """Asks the peer now."""
        timers.check_liveness(self, now)
        self.send_next(now)
        return self.take()

    def next_timeout(self) -> float:
        """When `timer` wants to be called; inf: never."""
        first = min(self.window.deadline, self.deadlines.close_at, self.deadlines.tell_at)
        if self.state in CARRYING and not self.succession.handed_over:
            return min(first, timers.next_due(self))
        return first

    def forget(self, now: float) -> list[Action]:
        """A twin of this machine has the same keys: not one message more may leave under them."""
        self.succession.after = None
        if self.alive:
            text = "this virtual machine was cloned or restored, and its keys are another's too"
            self.end(Cause.CLONED, text, now, again=True, quiet=self.state in HALF_OPEN)
        self.release()
        return self.take()

    def release(self) -> None:
        """Not even a repeat of the last request is answered any more."""
        if self.state is State.LINGERING:
            self._close()

    def close(self, now: float) -> list[Action]:
        """End it with one DELETE, of which nobody waits for the answer."""
        if self.state in CARRYING:
            replaced = self.task
            self.request(delete.IkeDelete(Cause.LOCAL, ""), now)
            if replaced is not None and replaced.spi_in is not None:
                replaced.dropped(self)
        if self.alive:
            self.end(Cause.LOCAL, "closed here", now)
        return self.take()

    # ---- our requests

    def send_next(self, now: float) -> None:
        acquire.look(self, now)
        while self.window.outstanding is None and self.state in transitions.MAY_REQUEST:
            task = acquire.next_wanted(self, now) if self.queue.empty else self.queue.pop()
            if task is None:
                break
            if task.exchange in transitions.MAY_REQUEST[self.state]:
                self.request(task, now)
            else:
                task.dropped(self)
        if self.succession.before is not None and self.window.outstanding is None:
            reauth.finish(self, now)

    def request(self, task: Task, now: float) -> None:
        shorter.try_longer(self, now)
        payloads = task.build(self, now)
        if payloads is None:
            return
        if self.window.exhausted:
            task.dropped(self)
            self.end(Cause.LIFETIME, "no message ID is left", now, again=True)
            return
        sealed = seal(self, request_header(self, task.exchange, self.window.next_id), payloads, whole=task.whole)
        if task.exchange == ExchangeType.IKE_SA_INIT:
            self.handshake.messages = (sealed.datagrams[0], b"")
        self.window.sent(task, sealed, now)
        transmit(self, sealed.datagrams, self.path, whole=task.whole)

    def request_again(self, task: Task, now: float) -> None:
        self.window.next_id = 0
        self.request(task, now)

    def _retransmit(self, outstanding: OutstandingRequest[Task], now: float) -> None:
        """Once more; then what the task has instead of it; then it is given up."""
        task = outstanding.task
        if outstanding.again(now):
            self.host.retransmitted(self.peer.tunnel)
            transmit(self, outstanding.datagrams, self.path, whole=task.whole)
            transmit(self, shorter.request(self, outstanding), self.path)
            silence.tell(self, now)
        elif (payloads := task.instead()) is not None:
            outstanding.restart(seal(self, request_header(self, task.exchange, outstanding.message_id), payloads), now)
            transmit(self, outstanding.datagrams, self.path)
        else:
            self._unanswered(task, now)

    # ---- its end

    def end(self, cause: Cause, text: str, now: float, *, again: bool = False, linger: bool = False, quiet: bool = False) -> None:
        task, quiet = self.task, quiet or self.state is State.PROVISIONAL
        self.window.outstanding = None
        if task is not None:
            task.dropped(self)  # a rekey by the peer may take everything over here
        quiet = self.withdrawn or (not self.succession.handed_over and delete.hand_over(self, now)) or quiet
        reauth.ended(self, cause, now)
        followup.give_up_all(self)
        if not quiet and not self.succession.handed_over:
            kind = Kind.IKE_DOWN if self.authenticated else Kind.IKE_FAILED
            self.report(kind, text, cause=cause, again=again)
        for waiting in self.queue.take_all():
            waiting.dropped(self)
        if not self.succession.handed_over:
            for child in list(self.children.values()):
                delete.forget(self, child)
        if linger:
            self.window.wipe()
            self.sa.wipe(keep_incoming=True)
            self.enter(State.LINGERING)
            self.deadlines.close_at, self.deadlines.tell_at = now + LINGER, inf
        else:
            self._close()

    def _close(self) -> None:
        self.window.wipe()
        self.sa.wipe()
        self.enter(State.CLOSED)
        self.deadlines.close_at = self.deadlines.tell_at = inf

    def _unanswered(self, task: Task, now: float) -> None:
        if self.state is State.EXPIRED and not self.succession.handed_over:  # whether the peer is there another IKE SA shows
            self.window.outstanding = None
            task.dropped(self)
            if not self.succession.handed_over:
                return
        if self.state is State.DELETING or self.succession.handed_over:
            self.end(Cause.TIMEOUT, "the peer did not answer the DELETE", now)
            return
        sent = self.window.outstanding is not None and self.window.outstanding.kept_back is None
        self.handshake.unspoken = sent and self.state is State.INIT_SENT and not self.handshake.spoken
        hint = next((hint for hint in reversed(self.handshake.hints) if hint.cause is not None), None)
        if hint is not None and self.state is State.INIT_SENT:
            self.end(hint.cause or Cause.REFUSED, f"{hint} (not authenticated)", now, again=True)
            return
        cause = Cause.LIVENESS if task.shape is Shape.ANY and self.state is State.ESTABLISHED else Cause.TIMEOUT
        text = silence.kept_back(self) or hints.instead_of_silence(self, task) or silence_text(self, task)
        self.end(cause, text, now, again=True)

    def _expired(self, now: float) -> None:
        if self.state in HALF_OPEN:
            self.end(Cause.TIMEOUT, "the initiator did not authenticate in time", now, quiet=True)
        elif self.state is State.LINGERING:
            self._close()
        else:
            self.end(Cause.TIMEOUT, "the peer did not delete an IKE SA that was rekeyed", now, quiet=True)


def initiator(host: IkeHost, peer: Peer, path: Path, now: float) -> IkeSession:
    """A session that is going to call `peer`."""
    return IkeSession(host, Candidates((peer,)), IkeSa(initiator=True, spi_i=nonzero_spi(host.environment.rng)), path, now)


def responder(host: IkeHost, candidates: Candidates, spi_i: bytes, path: Path, now: float) -> IkeSession:
    """A session for an IKE_SA_INIT request of somebody who may be one of `candidates`; it comes to life by `receive`."""
    return IkeSession(host, candidates, IkeSa(initiator=False, spi_i=spi_i, spi_r=NO_SPI), path, now)
