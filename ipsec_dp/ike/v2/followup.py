"""IKE_FOLLOWUP_KE in both roles: the additional key exchanges of a CREATE_CHILD_SA, one a round (RFC 9370 §2.2.4).

What CREATE_CHILD_SA agreed on is made after the last round, of all shared secrets; before, nothing is there but a series. Ours is
the task itself, which goes on (`SerialTask`); the peer's wait in `Context.series`, each for PATIENCE seconds and for one link, good
for one round of one method on this IKE SA. Where both sides rekey the same, the nonces of the two CREATE_CHILD_SA exchanges
decide before either series begins, and whoever has lost begins none.
"""

from __future__ import annotations

from abc import ABC
from math import inf
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike import dh, negotiation, proposal, suites
from ipsec_dp.ike.authenticated import PEER_LIMITS
from ipsec_dp.ike.errors import IkeSyntaxError
from ipsec_dp.ike.v2.context import Task
from ipsec_dp.ike.v2.deadlines import reprieve, retry_child
from ipsec_dp.ike.v2.exchanges import Priority
from ipsec_dp.ike.v2.payloads import KeyExchangePayload, Notify, SecurityAssociation
from ipsec_dp.ike.v2.sa import ChildState
from ipsec_dp.ike.v2.series import Series, TheirSeries
from ipsec_dp.ike.v2.wire import ExchangeType, NotifyType

if TYPE_CHECKING:
    from ipsec_dp.ike.environment import Rng
    from ipsec_dp.ike.proposal import Proposal
    from ipsec_dp.ike.suites import EspSuite, IkeSuite
    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.message import Message
    from ipsec_dp.ike.v2.payloads import Payload
    from ipsec_dp.ike.v2.sa import Child, ReceivedMessage
    from ipsec_dp.ipsec.transforms import Group

PATIENCE: Final = 30.0  # seconds that a link is good for
LINK: Final = 16  # octets: none is guessed, and none comes twice


def methods_of(suite: IkeSuite | EspSuite) -> list[Group]:
    """What a suite has to come after its first key exchange."""
    return [one.method for one in suite.additional if one.method is not None]


def esp_suite(offered: tuple[Proposal, ...], message: Message) -> EspSuite | None:
    """What the peer chose; None: it is looked at, and refused, with all the rest."""
    sa = message.get(SecurityAssociation)
    try:
        return None if sa is None else suites.esp_suite(negotiation.accept(offered, sa.proposals))
    except proposal.ProposalError:
        return None


# --- as initiator ----------------------------------------------------------------------------------------------------


class OurSeries(Series):
    """`answer`: that to CREATE_CHILD_SA, which says what is made in the end. IkeSyntaxError, and `secret` is wiped: it does not say
    how to go on."""

    def __init__(self, suite: IkeSuite | EspSuite, secret: bytearray, answer: Message) -> None:
        super().__init__(methods_of(suite), [secret])
        self.answer = answer
        try:
            self.link = self._link_in(answer)
        except IkeSyntaxError:
            self.wipe()
            raise
        self.key: dh.KeyExchange | None = None

    @classmethod
    def going_on(
        cls, further: list[Group], secrets: list[bytearray], answer: Message, link: bytes, key: dh.KeyExchange | None
    ) -> OurSeries:
        """One that has begun elsewhere. `key`: of the round whose answer is awaited."""
        series = cls.__new__(cls)
        Series.__init__(series, further, secrets)
        series.answer, series.link, series.key = answer, link, key
        return series

    def ask(self, rng: Rng) -> list[Payload]:
        """The payloads of the next round's request."""
        self.key = dh.initiate(self.further[0], rng)
        return [KeyExchangePayload(self.key.group.id, self.key.public), Notify(NotifyType.ADDITIONAL_KEY_EXCHANGE, self.link)]

    def take(self, message: Message) -> bool:
        """The answer to it; True: that was the last one. Raises IkeError for one that cannot be used."""
        ke = message.get(KeyExchangePayload)
        if ke is None or self.key is None:
            raise IkeSyntaxError("an answer to IKE_FOLLOWUP_KE without KE")
        if ke.group != self.key.group.id:
            raise dh.KeyExchangeError(f"the peer answers {self.key.group.keyword} with group {ke.group}")
        self.secrets.append(self.key.shared_secret(ke.data))
        del self.further[0]
        if self.further:
            self.link = self._link_in(message)
        return not self.further

    def _link_in(self, message: Message) -> bytes:
        notify = message.notify(NotifyType.ADDITIONAL_KEY_EXCHANGE)
        if notify is None or not notify.data:
            method = self.further[0].keyword
            raise IkeSyntaxError(f"{method} is still to come, and the answer has no ADDITIONAL_KEY_EXCHANGE (RFC 9370 §2.2.4)")
        return notify.data


class SerialTask(Task, ABC):
    """A CREATE_CHILD_SA of ours, which goes on as IKE_FOLLOWUP_KE where additional key exchanges were agreed on."""

    exchange = ExchangeType.CREATE_CHILD_SA
    series: OurSeries | None = None
    began_again = False

    def begin(self, suite: IkeSuite | EspSuite, secret: bytearray, answer: Message) -> OurSeries:
        """`answer` is the one to CREATE_CHILD_SA. IkeSyntaxError: it does not say how to go on."""
        self.series = OurSeries(suite, secret, answer)
        return self.series

    def go_on(self, context: Context, now: float) -> None:
        """The next round, at once; unless what it is for is over."""
        if context.withdrawn or any(context.queue.waiting(Priority.DELETE_IKE)):
            self.dropped(context)
            return
        self.exchange = ExchangeType.IKE_FOLLOWUP_KE
        context.request(self, now)

    def leave_off(self) -> None:
        """The series, if there is one, is over: what comes next is another CREATE_CHILD_SA."""
        if self.series is not None:
            self.series.wipe()
            self.series = None
        self.exchange = ExchangeType.CREATE_CHILD_SA

    def may_begin_again(self, notify: Notify | None) -> bool:
        """True when the peer has lost the state of a series (STATE_NOT_FOUND), once: another one may begin."""
        if self.began_again or notify is None or notify.notify_type != NotifyType.STATE_NOT_FOUND:
            return False
        self.began_again = True
        return True


# --- as responder ----------------------------------------------------------------------------------------------------


def awaited(context: Context, child: Child | None = None) -> TheirSeries | None:
    """The peer's series that is to replace `child`, None: the IKE SA."""
    found = (one for one in context.series.values() if (one.of_ike if child is None else one.rekeys is child))
    return next(found, None)


def lowest_nonce(context: Context, child: Child | None = None) -> bytes | None:
    """Of the peer's series that is to replace `child`, or the IKE SA; None: there is none."""
    theirs = awaited(context, child)
    return None if theirs is None else theirs.lowest_nonce


def goes_no_further(context: Context, child: Child | None = None) -> None:
    """Ours stands where both rekey the same, so the peer begins no round of its series."""
    theirs = awaited(context, child)
    if theirs is not None:
        give_up(context, theirs)


def has_room(context: Context) -> bool:
    """False when so many of the peer's series are open that it may not begin another."""
    return len(context.series) < PEER_LIMITS.series


def begin(context: Context, series: TheirSeries, now: float) -> Payload:
    """The peer's CREATE_CHILD_SA is agreed on: the link for its first round. One that it had begun for the same is over."""
    former = awaited(context, series.rekeys) if series.of_ike or series.rekeys is not None else None
    if former is not None:
        give_up(context, former)
    if series.of_ike or series.rekeys is not None:
        reprieve(series.rekeys or context.deadlines, now)  # what it replaces is good for as long as a rekey takes
    return _linked(context, series, now)


def _linked(context: Context, series: TheirSeries, now: float) -> Payload:
    series.link, series.until = context.host.environment.rng(LINK), now + PATIENCE
    context.series[series.link] = series
    return Notify(NotifyType.ADDITIONAL_KEY_EXCHANGE, series.link)


def answer(context: Context, received: ReceivedMessage) -> list[Payload]:
    """A round of the peer's. A link that is not the one of a series here moves nothing."""
    message = received.message
    notify, ke = message.notify(NotifyType.ADDITIONAL_KEY_EXCHANGE), message.get(KeyExchangePayload)
    series = None if notify is None else context.series.get(notify.data)
    if series is None or ke is None or ke.group != series.further[0].id or received.now >= series.until:
        context.host.count("out_of_window")
        return [Notify(NotifyType.STATE_NOT_FOUND)]
    if context.withdrawn:
        give_up(context, series)
        return [Notify(NotifyType.TEMPORARY_FAILURE)]
    public, secret = dh.respond(series.further[0], ke.data, context.host.environment.rng)
    payloads: list[Payload] = [KeyExchangePayload(ke.group, public)]
    series.secrets.append(secret)
    del series.further[0], context.series[series.link]
    if series.further:
        return [*payloads, _linked(context, series, received.now)]
    refused = series.purpose.finish(context, tuple(series.secrets), received)
    if refused:
        give_up(context, series)
        return refused
    series.wipe()
    return payloads


def give_up(context: Context, series: TheirSeries) -> None:
    """It ends before its last round, and leaves nothing."""
    context.series.pop(series.link, None)
    series.wipe()
    series.purpose.release(context)
    context.host.count("unfinished")


def give_up_all(context: Context) -> None:
    """The IKE SA ends, or another is in its place."""
    for series in list(context.series.values()):
        give_up(context, series)


def next_due(context: Context) -> float:
    """When the first of the peer's series is given up."""
    return min((series.until for series in context.series.values()), default=inf)


def due(context: Context, now: float) -> None:
    """Series that the peer has not gone on with. What one was to replace is ours to rekey again, in a while."""
    for series in [one for one in context.series.values() if now >= one.until]:
        give_up(context, series)
        rng, child = context.host.environment.rng, series.rekeys
        if child is not None and child.state is ChildState.UP and child.soft == inf:
            retry_child(child, now, rng)
        elif series.of_ike and context.deadlines.soft == inf:
            context.deadlines.retry_rekey(now, rng)
