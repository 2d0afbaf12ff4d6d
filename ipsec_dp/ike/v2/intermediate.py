"""IKE_INTERMEDIATE in both roles: the additional key exchanges of an IKE SA, one a round (RFC 9242, RFC 9370 §2.2.2).

Nobody has proven anything yet. Each round is protected by the keys of the one before, and AUTH covers all of them (`int_auth`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.ike import dh
from ipsec_dp.ike.actions import Cause
from ipsec_dp.ike.errors import IkeSyntaxError
from ipsec_dp.ike.v2 import ike_auth, int_auth, keymat, ppk_auth, ppk_round, refusals
from ipsec_dp.ike.v2.context import Task
from ipsec_dp.ike.v2.message import Header
from ipsec_dp.ike.v2.payloads import KeyExchangePayload
from ipsec_dp.ike.v2.peer_proof import keys_of
from ipsec_dp.ike.v2.sa import State
from ipsec_dp.ike.v2.sending import request_header
from ipsec_dp.ike.v2.wire import ExchangeType, Flag

if TYPE_CHECKING:
    from ipsec_dp.ike.errors import IkeError
    from ipsec_dp.ike.suites import IkeSuite
    from ipsec_dp.ike.traffic_selectors import ProxyId
    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.message import Message
    from ipsec_dp.ike.v2.payloads import Payload
    from ipsec_dp.ike.v2.sa import ReceivedMessage
    from ipsec_dp.ipsec.transforms import Group


def agreed(context: Context, suite: IkeSuite) -> None:
    """IKE_SA_INIT has chosen `suite`: these rounds are to come."""
    context.handshake.further = [one.method for one in suite.additional if one.method is not None]
    context.sa.post_quantum = context.sa.post_quantum.with_exchange(suite.group)


def proceed(context: Context, pairs: tuple[ProxyId, ...], packet: ProxyId | None, now: float) -> None:
    """As initiator: the next round, or IKE_AUTH after the last one."""
    if not context.handshake.further and not context.handshake.ppk.in_round:
        why = ppk_auth.unmet(context, context.peer)
        if why is not None:
            context.end(Cause.AUTHENTICATION, why, now, again=True)
            return
        context.enter(State.AUTH_SENT)
        context.request(ike_auth.IkeAuth(pairs, packet), now)
        return
    if context.state is not State.INTERMEDIATE_SENT:
        context.enter(State.INTERMEDIATE_SENT)
    context.request(Intermediate(context, pairs, packet), now)


class Intermediate(Task):
    """Our request of one round. `pairs`, `packet`: what IKE_AUTH is to ask for."""

    exchange = ExchangeType.IKE_INTERMEDIATE

    def __init__(self, context: Context, pairs: tuple[ProxyId, ...], packet: ProxyId | None) -> None:
        self.pairs, self.packet = pairs, packet
        method = next(iter(context.handshake.further), None)
        self.key = None if method is None else dh.initiate(method, context.host.environment.rng)

    def build(self, context: Context, now: float) -> list[Payload]:
        del now
        payloads: list[Payload] = [] if self.key is None else [KeyExchangePayload(self.key.group.id, self.key.public)]
        payloads += ppk_round.offers(context) if ppk_round.is_due(context) else []
        header = request_header(context, self.exchange, context.window.next_id)
        _cover(context, int_auth.sent(header, payloads), from_initiator=True)
        return payloads

    def answered(self, context: Context, received: ReceivedMessage) -> None:
        message = received.message
        if errors := refusals.errors_in(message):
            self.refused(context, None, f"the peer refuses: {refusals.in_words(errors)}", received.now)
            return
        secret = self._secret(message)
        ppk, is_last = None, ppk_round.is_due(context)
        if is_last:
            ppk = ppk_round.answer(context, message)
        _cover(context, int_auth.came(message), from_initiator=False)
        _next_keys(context, secret)
        if is_last:
            ppk_round.over(context, ppk)
        proceed(context, self.pairs, self.packet, received.now)

    def _secret(self, message: Message) -> bytearray | None:
        """That of the round; None: it is about a PPK alone."""
        if self.key is None:
            return None
        ke = message.get(KeyExchangePayload)
        if ke is None or ke.group != self.key.group.id:
            raise dh.KeyExchangeError(f"the peer answers {self.key.group.keyword} with group {None if ke is None else ke.group}")
        return self.key.shared_secret(ke.data)

    def unusable(self, context: Context, error: IkeError, now: float) -> None:
        """Nothing is up that the peer could be told to delete."""
        what = "PPK" if self.key is None else self.key.group.keyword
        text = f"the peer's answer to {self.name} ({what}) cannot be used: {error}"
        context.end(Cause.KEY_EXCHANGE, text, now, again=True)


def answer(context: Context, received: ReceivedMessage) -> list[Payload] | None:
    """The peer's request of the next round. None: strangers have had as many as they may, so it is to ask again."""
    message, method = received.message, next(iter(context.handshake.further), None)
    if not context.host.further.take(received.path.remote.address, received.now):
        return None
    payloads, secret = _respond(context, message, method)
    ppk, is_last = None, ppk_round.is_due(context)
    if is_last:
        ppk = ppk_round.chosen(context, message)
        payloads += ppk_round.said(ppk)
    header = message.header
    flags = context.sa.request_flags | Flag.RESPONSE
    reply = Header(context.sa.spi_i, context.sa.spi_r, header.exchange, flags, header.message_id)
    _cover(context, int_auth.came(message), from_initiator=True)
    _cover(context, int_auth.sent(reply, payloads), from_initiator=False)
    context.defer(lambda: _next_keys(context, secret))  # the reply is still protected by those that its request had
    if is_last:
        context.defer(lambda: ppk_round.over(context, ppk))
    if is_last or (len(context.handshake.further) == 1 and not context.handshake.ppk.in_round):
        context.enter(State.INIT_ANSWERED)
    return payloads


def _respond(context: Context, message: Message, method: Group | None) -> tuple[list[Payload], bytearray | None]:
    """Our half of the key exchange, and the secret; none where the round is about a PPK alone."""
    if method is None:
        return [], None
    ke = message.get(KeyExchangePayload)
    if ke is None or ke.group != method.id:
        raise IkeSyntaxError(f"IKE_INTERMEDIATE with group {None if ke is None else ke.group}, {method.keyword} is next")
    try:
        public, secret = dh.respond(method, ke.data, context.host.environment.rng)
    except dh.KeyExchangeError as error:
        raise IkeSyntaxError(str(error)) from None
    return [KeyExchangePayload(method.id, public)], secret


def _cover(context: Context, octets: bytes, *, from_initiator: bool) -> None:
    keys, suite, _ = keys_of(context)
    sk_p = keys.sk_pi if from_initiator else keys.sk_pr
    context.handshake.int_auth.add(suite.prf, sk_p, octets, from_initiator=from_initiator)


def _next_keys(context: Context, secret: bytearray | None) -> None:
    """SKEYSEED(n) = prf(SK_d(n-1), SK(n) | Ni | Nr), and everything from it (RFC 9370 §2.2.2). The round is over."""
    if secret is None:
        return
    keys, suite, _ = keys_of(context)
    nonces = context.handshake.nonces
    seed = keymat.next_skeyseed(suite.prf, keys.sk_d, *nonces, (secret,))
    context.sa.install(suite, keymat.ike_keys(suite, seed, *nonces, context.sa.spi_i, context.sa.spi_r))
    context.host.environment.interference.keyed(context.sa)
    keys.wipe()
    if context.sa.initiator:
        context.host.environment.keys.ike(context.sa)
    for used in (seed, secret):
        used[:] = bytes(len(used))
    context.sa.post_quantum = context.sa.post_quantum.with_exchange(context.handshake.further.pop(0))
