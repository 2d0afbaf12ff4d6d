"""Additional key exchanges as message ladders: every round in both roles, whatever the wire does (RFC 9242, RFC 9370)."""

from dataclasses import replace

import pytest

from ipsec_dp.ike.actions import Kind, Send
from ipsec_dp.ike.identity import Identity
from ipsec_dp.ike.proposal import DEFAULT_IKE, ProtocolId, parse_ike
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v2.message import Header, build_message, parse_message
from ipsec_dp.ike.v2.payloads import Delete, KeyExchangePayload, Nonce, Notify, SecurityAssociation
from ipsec_dp.ike.v2.protect import seal_message
from ipsec_dp.ike.v2.sa import State
from ipsec_dp.ike.v2.wire import ExchangeType, Flag, NotifyType
from ipsec_dp.ipsec.transforms import ADDITIONAL_KEY_EXCHANGES

from .ladder import IKE, OTHER, Ladder, peer

pytestmark = pytest.mark.filterwarnings("ignore:Diffie-Hellman over finite fields")

ONE = "aes128gcm16-prfsha256-x25519-ke1_mlkem768"
THREE = "aes256-sha384-ecp384-ke1_mlkem1024-ke2_x25519-ke3_mlkem768"
OPTIONAL = f"{ONE}-ke1_none"
WITHOUT = "aes128gcm16-prfsha256-x25519"
SEVEN = f"{WITHOUT}-ke1_mlkem768-ke2_mlkem1024-ke3_ecp256-ke4_ecp384-ke5_ecp521-ke6_modp2048-ke7_x25519"
MLKEM768 = 36


def ladder_of(a=ONE, b=None, seed=0, **changes):
    words = {"a": a, "b": b or a}
    peers = {site: [peer(site, ike_proposals=parse_ike([words[site]]), **changes)] for site in words}
    return Ladder(**peers, seed=seed)


def agreed(ladder):
    (proposal,) = {site.status[0].proposal for site in ladder.sites.values()}
    return proposal


def rounds(ladder):
    """Different IKE_INTERMEDIATE requests that crossed the wire."""
    sent = [parse_message(delivery.data[0]).header for delivery, _ in ladder.wire.log]
    return len({one.message_id for one in sent if one.exchange == ExchangeType.IKE_INTERMEDIATE})


# --- rounds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["a", "b"])
@pytest.mark.parametrize(("words", "count"), [(WITHOUT, 0), (ONE, 1), (THREE, 3), (SEVEN, 7)])
def test_each_additional_key_exchange_is_a_round(words, count, first):
    ladder = ladder_of(words).up(first)
    assert rounds(ladder) == count
    assert [word for word in agreed(ladder).split("-") if word.startswith("ke")] == words.split("-")[-count:] * bool(count)
    assert all(not site.core.sessions()[0].handshake.further for site in ladder.sites.values())


@pytest.mark.parametrize(
    ("ours", "theirs", "found"),
    [
        (OPTIONAL, ONE, ONE),
        (ONE, OPTIONAL, ONE),
        (OPTIONAL, OPTIONAL, ONE),
        (OPTIONAL, WITHOUT, WITHOUT),
        (WITHOUT, OPTIONAL, WITHOUT),
        (ONE, WITHOUT, None),
        (WITHOUT, ONE, None),
    ],
)
def test_an_exchange_is_left_out_only_where_both_may(ours, theirs, found):
    ladder = ladder_of(ours, theirs)
    ladder.initiate("a")
    ladder.settle()
    if found is None:
        assert not ladder.a.ups
        assert not ladder.b.ups
    else:
        ladder.check()
        assert agreed(ladder) == found


def test_a_second_proposal_without_is_taken_by_a_peer_that_has_none():
    ladder = Ladder(a=[peer("a", ike_proposals=parse_ike([ONE, WITHOUT]))], b=[peer("b", ike_proposals=IKE)]).up()
    assert agreed(ladder) == WITHOUT
    ladder = Ladder(a=[peer("a", ike_proposals=IKE)], b=[peer("b", ike_proposals=parse_ike([ONE, WITHOUT]))]).up()
    assert agreed(ladder) == WITHOUT


def test_ml_kem_512_is_named_where_nothing_is_in_common():
    ladder = ladder_of(ONE, WITHOUT)
    theirs = parse_ike([ONE])[0]
    weak = tuple(replace(t, id=35) if t.type == ADDITIONAL_KEY_EXCHANGES.start else t for t in theirs.transforms)
    ladder.a.core.set_peers([peer("a", ike_proposals=(replace(theirs, transforms=weak),))])
    ladder.initiate("a")
    ladder.deliver("b")
    assert "ke1_mlkem512 is not spoken here" in ladder.b.events[-1].text


# --- the wire --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["a", "b"])
@pytest.mark.parametrize("fault", ["drop", "double", "delay"])
def test_a_fault_at_any_datagram_of_any_round_changes_nothing_in_the_end(fault, first):
    for sender in ("a", "b"):
        for number in range(1, 7):
            ladder = ladder_of(THREE, seed=number)
            getattr(ladder.wire, fault)(sender, OTHER[sender], number)
            ladder.initiate(first)
            ladder.run(20)
            assert ladder.wire.sent(sender, OTHER[sender]) >= number
            ladder.check()
            assert rounds(ladder) == 3
            assert all(site.core.counters().sessions == 1 for site in ladder.sites.values())


@pytest.mark.parametrize("words", [ONE, THREE])
@pytest.mark.parametrize("first", ["a", "b"])
def test_a_lossy_wire_only_takes_longer(first, words):
    """Every fifth datagram is lost in both directions: of two fragments never the same one each time."""
    ladder = ladder_of(words)
    for sender in ("a", "b"):
        ladder.wire.drop(sender, OTHER[sender], *range(2, 200, 5))
    ladder.initiate(first)
    ladder.run(120)
    ladder.check()


def test_every_datagram_twice_makes_each_key_exchange_once():
    ladder = ladder_of(THREE)
    for sender in ("a", "b"):
        ladder.wire.double(sender, OTHER[sender], *range(1, 200))
    ladder.initiate("a")
    ladder.run(20)
    ladder.check()
    assert rounds(ladder) == 3
    assert [site.kinds().count(Kind.IKE_UP) for site in ladder.sites.values()] == [1, 1]


def test_a_request_of_the_round_before_gets_its_stored_answer_though_the_keys_are_others():
    ladder = ladder_of(ONE)
    ladder.wire.drop("b", "a", 2)
    ladder.initiate("a")
    ladder.settle()
    (responder,) = ladder.b.core.sessions()
    assert responder.state is State.INIT_ANSWERED
    reply = responder.window.reply
    ladder.clock.advance(2)
    ladder.a.do(ladder.a.core.timer(ladder.clock()))
    ladder.deliver("b")
    assert responder.window.reply is reply
    ladder.settle()
    ladder.check()


# --- what has a row before authentication ----------------------------------------------------------------------------


def to_intermediate_awaited():
    """A has sent the request of the first round, which is lost."""
    ladder = ladder_of(ONE, encapsulation="esp")  # on port 500 IKE_INTERMEDIATE is one datagram
    ladder.wire.drop("a", "b", 2)
    ladder.initiate("a")
    ladder.settle()
    return ladder, ladder.b


def to_init_answered():
    ladder = ladder_of(ONE, encapsulation="esp")  # on port 500 IKE_INTERMEDIATE is one datagram
    ladder.wire.drop("a", "b", 3)
    ladder.initiate("a")
    ladder.settle()
    return ladder, ladder.b


def to_intermediate_sent():
    """B has answered all that it got, and its answer is lost: both have the first keys."""
    ladder, _ = to_intermediate_awaited()
    return ladder, ladder.a


def to_auth_sent():
    ladder, _ = to_init_answered()
    return ladder, ladder.a


BEFORE = {
    State.INTERMEDIATE_AWAITED: (to_intermediate_awaited, ExchangeType.IKE_INTERMEDIATE),
    State.INIT_ANSWERED: (to_init_answered, ExchangeType.IKE_AUTH),
    State.INTERMEDIATE_SENT: (to_intermediate_sent, None),
    State.AUTH_SENT: (to_auth_sent, None),
}


@pytest.mark.parametrize("is_response", [False, True], ids=["request", "response"])
@pytest.mark.parametrize("exchange", ExchangeType)
@pytest.mark.parametrize("state", BEFORE)
def test_before_authentication_no_other_exchange_moves_anything(state, exchange, is_response):
    """Protected by the right keys, as anybody's who made the key exchange: only the next exchange of the table means something."""
    make, allowed = BEFORE[state]
    ladder, site = make()
    (session,) = site.core.sessions()
    (sender,) = ladder.sites[OTHER[site.name]].core.sessions()
    assert session.state is state
    if not is_response and exchange is allowed:
        return
    if is_response and session.task is not None and exchange is session.task.exchange:
        return
    outstanding = session.window.outstanding
    number = session.window.expected if not is_response else 0 if outstanding is None else outstanding.message_id
    flags = sender.sa.request_flags | (Flag.RESPONSE if is_response else 0)
    header = Header(sender.sa.spi_i, sender.sa.spi_r, exchange, flags, number)
    payloads = [SecurityAssociation(IKE), Nonce(bytes(32)), KeyExchangePayload(MLKEM768, bytes(1184)), Delete(ProtocolId.IKE)]
    assert sender.sa.outgoing is not None
    datagram = seal_message(sender.sa.outgoing, header, payloads, site.randbytes)
    keys, before = session.sa.keys, session.window.expected
    actions = site.core.receive(datagram, ladder.path(site.name), ladder.clock())
    assert not [action for action in actions if isinstance(action, Send)]
    assert (session.state, session.sa.keys, session.window.expected) == (state, keys, before)
    assert site.core.counters().sessions == 1
    ladder.run(20)
    ladder.check()


@pytest.mark.parametrize(
    "ke",
    [
        KeyExchangePayload(MLKEM768, bytes(1183)),
        KeyExchangePayload(MLKEM768, bytes([255]) * 1184),
        KeyExchangePayload(37, bytes(1568)),
        KeyExchangePayload(31, bytes([9]) + bytes(31)),
    ],
    ids=["too short", "coefficients out of range", "another method", "a group that was not agreed on"],
)
def test_a_value_that_cannot_be_ends_what_was_begun(ke):
    ladder, site = to_intermediate_awaited()
    (session,), (sender,) = site.core.sessions(), ladder.a.core.sessions()
    header = Header(sender.sa.spi_i, sender.sa.spi_r, ExchangeType.IKE_INTERMEDIATE, Flag.INITIATOR, 1)
    assert sender.sa.outgoing is not None
    site.do(site.core.receive(seal_message(sender.sa.outgoing, header, [ke], site.randbytes), ladder.path("b"), ladder.clock()))
    assert session.state is State.LINGERING
    assert session.sa.keys is None
    assert not site.ups


def test_a_datagram_that_was_altered_counts_for_nothing():
    ladder = ladder_of(ONE)
    for sender in ("a", "b"):
        ladder.wire.alter(sender, OTHER[sender], 2, lambda data: (data[0][:-1] + bytes([data[0][-1] ^ 1]), data[1]))
    ladder.initiate("a")
    ladder.settle()
    assert ladder.b.core.counters().unauthenticated == 1
    ladder.run(20)
    ladder.check()
    assert rounds(ladder) == 1


# --- a man in the middle ---------------------------------------------------------------------------------------------


def without_additional(payload):
    if not isinstance(payload, SecurityAssociation):
        return payload
    left = [tuple(t for t in one.transforms if t.type not in ADDITIONAL_KEY_EXCHANGES) for one in payload.proposals]
    kept = [replace(one, transforms=transforms) for one, transforms in zip(payload.proposals, left, strict=True)]
    return SecurityAssociation(tuple(kept))


def without_notify(payload):
    supported = isinstance(payload, Notify) and payload.notify_type == NotifyType.INTERMEDIATE_EXCHANGE_SUPPORTED
    return None if supported else payload


@pytest.mark.parametrize("sender", ["a", "b"])
@pytest.mark.parametrize("stripped", [without_additional, without_notify])
@pytest.mark.parametrize("post_quantum", ["preferred", "required"])
@pytest.mark.parametrize(
    "words", [(ONE,), (OPTIONAL,), (ONE, WITHOUT), DEFAULT_IKE], ids=["one", "optional", "a second without", "default"]
)
def test_whoever_strips_what_was_offered_or_chosen_gets_no_ike_sa(words, post_quantum, stripped, sender):
    def made():
        settings = {"ike_proposals": parse_ike(words), "post_quantum": post_quantum}
        return Ladder(a=[peer("a", **settings)], b=[peer("b", **settings)])

    assert "ke1_mlkem768" in agreed(made().up())
    ladder = made()

    def change(data):
        message = parse_message(data[0])
        payloads = tuple(one for payload in message.payloads if (one := stripped(payload)) is not None)
        assert payloads != message.payloads
        return build_message(replace(message, payloads=payloads)), data[1]

    ladder.wire.alter(sender, OTHER[sender], 1, change)
    ladder.initiate("a")
    ladder.settle()
    assert not ladder.a.ups
    assert not ladder.b.ups


def test_a_tunnel_that_demands_one_does_not_admit_an_ike_sa_agreed_for_another():
    """IKE_SA_INIT does not say for whom it is."""
    demanding = {"tunnel": "other", "ike_proposals": parse_ike([ONE]), "remotes": ()}
    peers = [peer("b", remotes=(), remote_id=Identity.from_text("else.example")), peer("b", **demanding)]
    ladder = Ladder(b=peers)
    ladder.initiate("a")
    ladder.settle()
    assert not ladder.b.ups
    assert "does not admit the IKE proposal" in ladder.b.events[-1].text
    ladder = Ladder(a=[peer("a", ike_proposals=parse_ike([ONE]))], b=peers)
    ladder.initiate("a")
    ladder.settle()
    assert ladder.a.status[0].proposal == ONE


# --- what strangers may have -----------------------------------------------------------------------------------------


def test_strangers_have_so_many_additional_key_exchanges_and_whoever_asks_again_gets_his():
    ladder = ladder_of(ONE)
    address = ladder.path("b").remote.address
    for _ in range(int(LIMITS.further_of_network_a_second)):
        assert ladder.b.core.gateway.further.take(address, ladder.clock())
    ladder.initiate("a")
    ladder.settle()
    assert ladder.b.core.counters().limited == 1
    (responder,) = ladder.b.core.sessions()
    assert responder.state is State.INTERMEDIATE_AWAITED
    ladder.run(5)
    ladder.check()


def test_a_repeated_first_request_gets_no_answer_of_a_later_round():
    ladder, site = to_init_answered()
    first = ladder.wire.log[0][0].data[0]
    assert not [one for one in site.core.receive(first, ladder.path("b"), ladder.clock()) if isinstance(one, Send)]
