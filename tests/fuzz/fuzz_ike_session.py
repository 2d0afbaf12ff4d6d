"""Fuzz target: what an authenticated peer (or one that only holds the keys of IKE_SA_INIT) sends raises nothing and leaks nothing.

An input is a state, then messages: direction, exchange, flags, message identifier and the octets inside the protection, sealed with
the right keys. Afterwards time passes and both ends must still be able to talk, or to end.
"""

import copy
import random
from collections.abc import Iterator

import atheris

with atheris.instrument_imports(include=["ipsec_dp.ike"]):
    from ipsec_dp.ike import dh
    from ipsec_dp.ike.auth import PreSharedKey
    from ipsec_dp.ike.environment import Activity
    from ipsec_dp.ike.negotiation import with_spi
    from ipsec_dp.ike.octets import Writer
    from ipsec_dp.ike.payload import build_chain
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.ppk import Ppk
    from ipsec_dp.ike.proposal import parse_esp, parse_ike
    from ipsec_dp.ike.suites import IkeSuite
    from ipsec_dp.ike.traffic_selectors import ANY
    from ipsec_dp.ike.v2 import payloads as p
    from ipsec_dp.ike.v2 import protect, resources
    from ipsec_dp.ike.v2.child_table import ChildTable
    from ipsec_dp.ike.v2.message import Header
    from ipsec_dp.ike.v2.protect import seal_payload
    from ipsec_dp.ike.v2.wire import Flag, NotifyType
    from tests.ike.ladder import Ladder, Site, peer

from tests.fuzz import target

EXCHANGES = (35, 36, 37, 34, 38, 0, 43, 44)
MESSAGES_MAX = 6
CHILDREN_MAX = 100
FRONT = 5  # octets before what a message holds: direction and flags, exchange, identifier, first payload, length
SECONDS = 3.0


def half_open() -> Ladder:
    """B has answered IKE_SA_INIT, A has asked for IKE_AUTH and waits."""
    ladder = Ladder()
    ladder.initiate("a")
    ladder.deliver("b")
    ladder.deliver("a")
    return ladder


def up() -> Ladder:
    return Ladder().up()


def with_ppks(*, further: bool) -> Ladder:
    """Both have a PPK. A has asked for the last IKE_INTERMEDIATE, which has it (RFC 9867); or for IKE_AUTH after that."""
    ppks = (Ppk(b"one", PreSharedKey(bytes(range(32)))),)
    ladder = Ladder(a=[peer("a", ppks=ppks)], b=[peer("b", ppks=ppks)])
    ladder.initiate("a")
    for _ in range(1 if further else 2):
        ladder.deliver("b")
        ladder.deliver("a")
    return ladder


def rekeying(*, ike: bool) -> Ladder:
    """A has asked for new keys, and B has not heard of it."""
    ladder = up()
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock(), ike=ike))
    return ladder


def in_a_series(*, ike: bool) -> Ladder:
    """B has answered A's CREATE_CHILD_SA, and A's first IKE_FOLLOWUP_KE is under way."""
    words = {"ike_proposals": parse_ike(["aes128gcm16-prfsha256-x25519-ke1_ecp256"])}
    words["esp_proposals"] = parse_esp(["aes128gcm16-x25519-ke1_ecp256-ke2_x25519"])
    ladder = Ladder(a=[peer("a", **words)], b=[peer("b", **words)]).up()
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock(), ike=ike))
    ladder.deliver("b")
    ladder.deliver("a")
    return ladder


def with_workers() -> Ladder:
    """Each side has two, and A has asked for a second CHILD_SA like the first."""
    ladder = Ladder(a=[peer("a", resources=2)], b=[peer("b", resources=2)]).up()
    ladder.clock.advance(2 * resources.SOON)
    for child in ladder.a.sad.inbound:
        ladder.a.activity[child] = Activity(ladder.clock(), ladder.clock())
    ladder.a.do(ladder.a.core.timer(ladder.clock()))
    return ladder


def _itself(of: object, memo: object) -> object:
    """For `deepcopy`: ciphers and private keys never change."""
    del memo
    return of


def _table(of: ChildTable, memo: dict[int, object]) -> ChildTable:
    """For `deepcopy`: a child that leads to its table is not whole when that is made; whoever holds the table is copied too."""
    memo[id(of)] = made = ChildTable.__new__(ChildTable)
    vars(made).update(copy.deepcopy(vars(of), memo))
    for number, child in of.items():
        dict.__setitem__(made, number, copy.deepcopy(child, memo))
    made.holder = copy.deepcopy(of.holder, memo)
    return made


setattr(ChildTable, "__deepcopy__", _table)  # noqa: B010 - no type has it

# Made once and copied for each input, which is many times faster than the handshakes.
for unchanging in (protect._Aead, dh.KeyExchange, Peer, IkeSuite):
    setattr(unchanging, "__deepcopy__", _itself)  # noqa: B010 - no type has it
STATES = (
    up(),
    half_open(),
    rekeying(ike=False),
    rekeying(ike=True),
    in_a_series(ike=False),
    in_a_series(ike=True),
    with_ppks(further=True),
    with_ppks(further=False),
    with_workers(),
)


def session_of(site: Site):
    """The site's newest IKE SA, None when it has none."""
    return next(reversed(site.core.sessions()), None)


def messages(data: bytes) -> Iterator[tuple[int, int, int, int, bytes]]:
    at = 0
    for _ in range(MESSAGES_MAX):
        if len(data) < at + FRONT:
            return
        how, exchange, number, first, length = data[at : at + FRONT]
        at += FRONT
        yield how, EXCHANGES[exchange % len(EXCHANGES)], number, first, data[at : at + 4 * length]
        at += 4 * length


def say(ladder: Ladder, how: int, exchange: int, number: int, first: int, inner: bytes) -> None:
    """One message from A to B or the other way, sealed with the sender's keys where it has any."""
    names = ("a", "b") if how & 1 else ("b", "a")
    sender, receiver = (ladder.sites[name] for name in names)
    session, there = session_of(sender), session_of(receiver)
    if session is None or session.sa.outgoing is None or there is None:
        return
    response = how & 2 != 0
    due = there.window.next_id - 1 if response else there.window.expected
    message_id = number if how & 4 else max(due, 0)
    flags = session.sa.request_flags | (Flag.RESPONSE if response else 0)
    header = Header(session.sa.spi_i, session.sa.spi_r, exchange, flags, message_id)
    shell = p.EncryptedFragment(first, 1 + (number & 3), 1 + (number >> 2 & 3), b"") if how & 8 else p.Encrypted(first, b"")
    datagram = seal_payload(session.sa.outgoing, header, shell, inner, random.Random(0).randbytes)
    receiver.do(receiver.core.receive(datagram, ladder.path(receiver.name), ladder.clock()))


def receive(data: bytes) -> None:
    if not data:
        return
    ladder = copy.deepcopy(STATES[data[0] % len(STATES)])
    for message in messages(data[1:]):
        say(ladder, *message)
        if data[0] & 0x80:
            ladder.deliver("b") or ladder.deliver("a")
    ladder.settle()
    ladder.run(SECONDS)
    for site in ladder.sites.values():
        assert len(site.sad.inbound) < CHILDREN_MAX
        for event in site.events:
            assert str(event).isprintable(), event


def seeds() -> Iterator[bytes]:
    offer = p.SecurityAssociation(with_spi(parse_esp(["aes128gcm16"]), b"\0\0\x99\x99"))
    nonce, selectors = p.Nonce(bytes(32)), (p.TrafficSelectorsInitiator(ANY), p.TrafficSelectorsResponder(ANY))
    chains: tuple[tuple[int, tuple[p.Payload, ...]], ...] = (
        (1, (offer, nonce, *selectors)),
        (1, (p.Notify(NotifyType.REKEY_SA, b"", 3, b"\0\0\x10\0"), offer, nonce, *selectors)),
        (
            1,
            (
                p.Notify(NotifyType.REKEY_SA, b"", 3, b"\0\0\x10\0"),
                offer,
                nonce,
                p.KeyExchangePayload(31, b"\x09" * 32),
                *selectors,
            ),
        ),
        (1, (p.Notify(NotifyType.SA_RESOURCE_INFO), offer, nonce, *selectors)),
        (1, (p.Notify(NotifyType.SA_RESOURCE_INFO, bytes(4)), p.Notify(NotifyType.TS_MAX_QUEUE, b"x"), offer, nonce, *selectors)),
        (2, (p.Delete(3, (b"\0\0\x10\0",)),)),
        (2, (p.Delete(1),)),
        (2, ()),
        (2, (p.Notify(16388, bytes(20)), p.Notify(16389, bytes(20)))),
        (0, (p.IdentificationInitiator(2, b"gwa.example"), p.Authentication(2, bytes(32)), offer, *selectors)),
        (6, (p.Notify(NotifyType.PPK_IDENTITY_KEY, b"\2one" + bytes(8)), p.Notify(NotifyType.PPK_IDENTITY_KEY, b"\1"))),
        (6, (p.Notify(NotifyType.PPK_IDENTITY, b"\2one"),)),
        (
            0,
            (
                p.IdentificationInitiator(2, b"gwa.example"),
                p.Authentication(2, bytes(32)),
                p.Notify(NotifyType.PPK_IDENTITY, b"\2one"),
                p.Notify(NotifyType.NO_PPK_AUTH, bytes(32)),
                offer,
                *selectors,
            ),
        ),
        (1, (p.Notify(NotifyType.TEMPORARY_FAILURE),)),
        (1, (p.Notify(NotifyType.NO_PROPOSAL_CHOSEN),)),
        (2, (p.Notify(NotifyType.INVALID_SYNTAX),)),
        (2, (p.Notify(NotifyType.INVALID_SELECTORS, bytes(28), 3, b"\0\0\x10\0"), p.Delete(77, (bytes(8),)))),
    )
    for state in range(len(STATES)):
        for how in (1, 0, 2, 3):
            for exchange, chain in chains:
                writer = Writer()
                first = build_chain(writer, chain)
                inner = writer.take()
                inner += bytes(-len(inner) % 4)
                yield bytes([state, how, exchange, 0, first, len(inner) // 4]) + inner


if __name__ == "__main__":
    target.run("ike_session", receive, seeds(), longest=1024)
