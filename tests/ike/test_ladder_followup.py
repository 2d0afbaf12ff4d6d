"""Additional key exchanges of a CREATE_CHILD_SA as message ladders: each round in both roles, whatever the wire does (RFC 9370).

CREATE_CHILD_SA -->, <-- CREATE_CHILD_SA: link
IKE_FOLLOWUP_KE: link -->, <-- IKE_FOLLOWUP_KE: link, until the last one, which has none
"""

import hashlib
import hmac

import pytest

from ipsec_dp.ike import dh
from ipsec_dp.ike.actions import Kind
from ipsec_dp.ike.peer import Life
from ipsec_dp.ike.proposal import parse_esp, parse_ike
from ipsec_dp.ike.v2 import followup
from ipsec_dp.ike.v2.message import parse_message
from ipsec_dp.ike.v2.wire import ExchangeType

from .ladder import OTHER, Ladder, packet, peer, proxy_id
from .test_ladder_rekey import done, rekey, whole

ONE = "aes128gcm16-prfsha256-x25519-ke1_mlkem768"
TWO = "aes256-sha384-ecp384-ke1_mlkem1024-ke3_x25519"
OPTIONAL = f"{ONE}-ke1_none"
WITHOUT = "aes128gcm16-prfsha256-x25519"
ESP_ONE = "aes128gcm16-x25519-ke1_mlkem768"
ESP_TWO = "aes256-sha256-ecp256-ke1_mlkem1024-ke2_x25519"
KINDS = [pytest.param(False, id="CHILD_SA"), pytest.param(True, id="IKE SA")]


def peers_of(ike=ONE, esp=ESP_ONE, b=None, **changes):
    """`b`: what B has otherwise."""
    common = {"ike_proposals": parse_ike([ike]), "esp_proposals": parse_esp([esp])} | changes
    return {"a": [peer("a", **common)], "b": [peer("b", **(common | (b or {})))]}


def ladder_of(ike=ONE, esp=ESP_ONE, seed=0, b=None, **changes):
    return Ladder(**peers_of(ike, esp, b, **changes), seed=seed).up()


def sent(ladder, exchange):
    """Different requests of an exchange that crossed the wire."""
    headers = [parse_message(delivery.data[0]).header for delivery, _ in ladder.wire.log]
    return {(one.spi_i, one.from_initiator, one.message_id) for one in headers if one.exchange == exchange and not one.is_response}


def rounds(ladder):
    return len(sent(ladder, ExchangeType.IKE_FOLLOWUP_KE))


def ike_proposal(ladder):
    (proposal,) = {site.ups[0].proposal for site in ladder.sites.values()}
    return proposal


def series(ladder):
    return [one for site in ladder.sites.values() for session in site.core.sessions() for one in session.series.values()]


def ends(ladder):
    """The SPIs of the IKE SA, and those on which each side receives packets now."""
    return ladder.a.ups[0].spi_i, ladder.a.sends_to(), ladder.b.sends_to()


def made_anew(ladder, before, *, ike):
    """`before`: the `ends` then. What was rekeyed is another, and the rest is as it was."""
    now = ends(ladder)
    assert (now[0] != before[0]) == ike
    assert (now[1:] != before[1:]) != ike
    assert not series(ladder)


def suites(ladder):
    return {
        str(child.suite)
        for site in ladder.sites.values()
        for session in site.core.sessions()
        for child in session.children.values()
        if child.sending
    }


# --- rounds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", ["a", "b"])
@pytest.mark.parametrize("ike", KINDS)
@pytest.mark.parametrize(("words", "count"), [((ONE, ESP_ONE), 1), ((TWO, ESP_TWO), 2)])
def test_each_additional_key_exchange_of_a_rekey_is_a_round(words, count, ike, site):
    ladder = ladder_of(*words)
    before = ends(ladder)
    rekey(ladder, site, ike=ike)
    done(ladder)
    assert rounds(ladder) == count
    made_anew(ladder, before, ike=ike)
    assert ike_proposal(ladder).count("-ke") == count
    assert {text.count("-ke") for text in suites(ladder)} == {0 if ike else count}  # IKE_AUTH's has none of its own
    for one in ladder.sites.values():
        assert one.kinds().count(Kind.IKE_REKEYED if ike else Kind.CHILD_REKEYED) == 1
        assert {Kind.IKE_DOWN, Kind.CHILD_DOWN, Kind.WARNING}.isdisjoint(one.kinds())


@pytest.mark.parametrize("ike", KINDS)
def test_nothing_is_made_before_the_last_round_is_answered(ike):
    ladder = ladder_of(TWO, ESP_TWO)
    rekey(ladder, "a", ike=ike)
    for _ in range(2):  # CREATE_CHILD_SA, IKE_FOLLOWUP_KE, each with its answer
        for receiver in ("b", "a"):
            while ladder.deliver(receiver):
                whole(ladder)
            assert [len(site.sad.inbound) for site in ladder.sites.values()] == [1, 1]
            assert [len(site.core.sessions()) for site in ladder.sites.values()] == [1, 1]
    assert len(series(ladder)) == 1
    while ladder.deliver("b"):
        whole(ladder)
    assert len(ladder.b.core.sessions() if ike else ladder.b.sad.inbound) == 2
    done(ladder)


def two_proxy_ids(**changes):
    """An IKE SA with the CHILD_SA of the first pair alone; the second one is configured, and asked for by `ask`."""
    mine = (proxy_id("10.1.0.0/24", "10.2.0.0/24"), proxy_id("10.1.1.0/24", "10.2.1.0/24"))
    theirs = tuple(type(one)(one.remote, one.local) for one in mine)
    common = {"ike_proposals": parse_ike([ONE]), "esp_proposals": parse_esp([ESP_TWO])} | changes
    ladder = Ladder(a=[peer("a", proxy_ids=mine, **common)], b=[peer("b", proxy_ids=theirs[:1], **common)])
    ladder.initiate("a", asks=packet("10.1.0.5", "10.2.0.5"))
    ladder.settle()
    for session in ladder.b.core.sessions("to-a"):
        session.settle_on(peer("b", proxy_ids=theirs, **common))
    return ladder


def ask(ladder):
    ladder.a.do(ladder.a.core.acquire("to-b", packet("10.1.1.5", "10.2.1.5"), ladder.clock()))


def test_a_further_child_sa_has_its_rounds_too():
    ladder = two_proxy_ids()
    ask(ladder)
    ladder.settle()
    ladder.check()
    assert rounds(ladder) == 2
    assert len(ladder.a.sad.sending) == len(ladder.b.sad.sending) == 2
    assert ESP_TWO in suites(ladder)


@pytest.mark.parametrize("ike", KINDS)
def test_rekeys_go_on_for_hours(ike):
    lives = {"ike_life": Life(3600.0), "child_life": Life(600.0)}
    ladder = ladder_of(TWO, ESP_TWO, **lives)
    ladder.run(4 * 3600)
    ladder.check()
    for one in ladder.sites.values():
        assert one.kinds().count(Kind.IKE_REKEYED if ike else Kind.CHILD_REKEYED) >= (4 if ike else 24)
        assert {Kind.IKE_DOWN, Kind.CHILD_DOWN}.isdisjoint(one.kinds())
    assert not series(ladder)


# --- the wire --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", ["a", "b"])
@pytest.mark.parametrize("ike", KINDS)
@pytest.mark.parametrize("fault", ["drop", "double", "delay"])
def test_a_fault_at_any_datagram_of_any_round_changes_nothing_in_the_end(fault, ike, site):
    for sender in ("a", "b"):
        for number in range(1, 6):
            ladder = ladder_of(TWO, ESP_TWO, seed=number)
            before = ends(ladder)
            getattr(ladder.wire, fault)(sender, OTHER[sender], ladder.wire.sent(sender, OTHER[sender]) + number)
            rekey(ladder, site, ike=ike)
            done(ladder)
            assert rounds(ladder) == 2
            made_anew(ladder, before, ike=ike)


@pytest.mark.parametrize("ike", KINDS)
def test_a_lossy_wire_only_takes_longer(ike):
    ladder = ladder_of(TWO, ESP_TWO)
    before = ends(ladder)
    for sender in ("a", "b"):
        ladder.wire.drop(sender, OTHER[sender], *range(9, 200, 4))
    rekey(ladder, "a", ike=ike)
    ladder.run(200)
    ladder.check()
    made_anew(ladder, before, ike=ike)


@pytest.mark.parametrize("ike", KINDS)
def test_every_datagram_twice_makes_each_key_exchange_once(ike):
    ladder = ladder_of(TWO, ESP_TWO)
    for sender in ("a", "b"):
        ladder.wire.double(sender, OTHER[sender], *range(1, 300))
    rekey(ladder, "a", ike=ike)
    done(ladder)
    assert rounds(ladder) == 2
    assert all(site.core.counters().unfinished == 0 for site in ladder.sites.values())


def test_a_series_that_is_not_gone_on_with_is_over_after_a_while_and_counted():
    """The initiator is cut off; what it began leaves nothing, neither an SPI nor a secret."""
    ladder = ladder_of()
    ladder.wire.drop("a", "b", *range(ladder.wire.sent("a", "b") + 2, 100))
    rekey(ladder, "a")
    ladder.settle()
    (one,) = series(ladder)
    assert all(any(secret) for secret in one.secrets)
    ladder.run(followup.PATIENCE - 1)
    assert series(ladder) == [one]
    ladder.run(2)
    assert not series(ladder)
    assert not any(any(secret) for secret in one.secrets)
    assert not ladder.b.sad.reserved
    assert ladder.b.core.counters().unfinished == 1


@pytest.mark.parametrize("ike", KINDS)
def test_a_peer_that_has_lost_the_state_is_asked_once_more_from_the_beginning(ike):
    """STATE_NOT_FOUND."""
    ladder = ladder_of(TWO, ESP_TWO)
    before = ends(ladder)
    rekey(ladder, "a", ike=ike)
    while ladder.deliver("b"):  # CREATE_CHILD_SA
        pass
    (session,) = ladder.b.core.sessions()
    followup.give_up_all(session)
    ladder.b.do(session.take())
    done(ladder)
    assert len(sent(ladder, ExchangeType.CREATE_CHILD_SA)) == 2
    assert rounds(ladder) == 3
    made_anew(ladder, before, ike=ike)
    assert Kind.WARNING not in ladder.a.kinds()


# --- keys ------------------------------------------------------------------------------------------------------------


def prf_plus(name, key, seed, octets):
    stream = block = b""
    while len(stream) < octets:
        block = hmac.digest(key, block + seed + bytes([len(stream) // hashlib.new(name).digest_size + 1]), name)
        stream += block
    return stream[:octets]


@pytest.fixture
def secrets(monkeypatch):
    """The shared secrets that a responder computes, in their order."""
    found, respond = [], dh.respond

    def noting(group, public, rng):
        value, secret = respond(group, public, rng)
        found.append(bytes(secret))
        return value, secret

    monkeypatch.setattr(dh, "respond", noting)
    return found


def begun(ladder, secrets, *, ike):
    """A has asked for a rekey and B has agreed; SK_d of the IKE SA so far, and the series."""
    del secrets[:]
    rekey(ladder, "a", ike=ike)
    while ladder.deliver("b"):
        pass
    (one,) = series(ladder)
    (session,) = ladder.b.core.sessions()
    return bytes(session.sa.keys.sk_d), one


def test_the_keys_of_a_child_sa_are_those_of_all_shared_secrets(secrets):
    """KEYMAT = prf+(SK_d, SK(0) | Ni | Nr | SK(1) | SK(2)): encryption and integrity of the initiator, then of the responder."""
    ladder = ladder_of(TWO, ESP_TWO)
    sk_d, one = begun(ladder, secrets, ike=False)
    (old,) = ladder.b.sad.inbound
    done(ladder)
    first, *further = secrets
    assert [len(secret) for secret in secrets] == [32, 32, 32]
    keymat = prf_plus("sha384", sk_d, first + b"".join(one.nonces) + b"".join(further), 2 * (32 + 32))
    (new,) = ladder.b.sad.inbound
    assert new != old
    assert (bytes(ladder.b.sad.inbound[new].keymat), bytes(ladder.b.sad.outbound[new].keymat)) == (keymat[:64], keymat[64:])


def test_the_keys_of_an_ike_sa_are_those_of_all_shared_secrets(secrets):
    """SKEYSEED = prf(SK_d, SK(0) | Ni | Nr | SK(1) | SK(2)), then as ever."""
    ladder = ladder_of(TWO, ESP_TWO)
    sk_d, one = begun(ladder, secrets, ike=True)
    done(ladder)
    first, *further = secrets
    assert [len(secret) for secret in secrets] == [48, 32, 32]
    seed = hmac.digest(sk_d, first + b"".join(one.nonces) + b"".join(further), "sha384")
    (session,) = ladder.b.core.sessions()
    stream = prf_plus("sha384", seed, b"".join(one.nonces) + session.sa.spi_i + session.sa.spi_r, 3 * 48 + 2 * 48 + 2 * 32)
    assert (bytes(session.sa.keys.sk_d), bytes(session.sa.keys.sk_pr)) == (stream[:48], stream[-48:])


# --- what is kept ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", ["a", "b"])
def test_a_rekey_never_leaves_out_what_the_ike_sa_has_though_it_may_be_left_out(site):
    """Nor does one of a CHILD_SA; the other side would take less."""
    ladder = ladder_of(OPTIONAL, f"{ESP_ONE}-ke1_none")
    rekey(ladder, site)
    done(ladder)
    assert suites(ladder) == {ESP_ONE}
    other = ladder.sites[OTHER[site]]
    weak = peers_of(WITHOUT, "aes128gcm16-x25519")[OTHER[site]][0]
    for session in other.core.sessions():
        session.settle_on(weak)
    before = ends(ladder)
    for ike in (False, True):
        rekey(ladder, site, ike=ike)
        rekey(ladder, OTHER[site], ike=ike)
        ladder.settle()
    assert ends(ladder) == before
    assert suites(ladder) == {ESP_ONE}
    assert ike_proposal(ladder) == ONE


def test_where_the_exchange_was_left_out_a_rekey_offers_none():
    ladder = ladder_of(OPTIONAL, ESP_ONE, b={"ike_proposals": parse_ike([WITHOUT])})
    rekey(ladder, "a", ike=True)
    done(ladder)
    assert ike_proposal(ladder) == WITHOUT
    assert rounds(ladder) == 0


def test_fragments_or_none_makes_no_difference():
    """ML-KEM-1024 needs more than a datagram; where the peer takes no fragments, the message is one."""
    ladder = ladder_of(TWO, ESP_TWO)
    for site in ladder.sites.values():
        for session in site.core.sessions():
            session.abilities.fragmentation = False
    before = ends(ladder)
    rekey(ladder, "a")
    done(ladder)
    made_anew(ladder, before, ike=False)
