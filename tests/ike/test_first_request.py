"""How long IKE_SA_INIT is, by the message that really leaves; what every path carries, and what not."""

import pytest

from ipsec_dp.ike.proposal import CLASSIC_IKE, DEFAULT_IKE, parse_ike
from ipsec_dp.ike.v2 import first_request
from ipsec_dp.ike.v2.groups import groups_of

from .ladder import Ladder, peer

EVERY_PATH = 1280  # octets (RFC 8200 §5)
IPV6_UDP = 40 + 8
KEM = "aes256gcm16-prfsha384-mlkem{}"


@pytest.mark.parametrize("words", [DEFAULT_IKE, CLASSIC_IKE, (KEM.format(768),), (KEM.format(1024), "aes128-sha256-ecp256")])
def test_the_octets_told_are_those_of_the_message(words):
    proposals = parse_ike(words)
    ladder = Ladder(a=[peer("a", ike_proposals=proposals)], b=[peer("b", ike_proposals=proposals)]).up()
    assert first_request.octets(proposals, groups_of(proposals)[0]) == len(ladder.wire.log[0][0].data[0])


@pytest.mark.parametrize("words", [DEFAULT_IKE, CLASSIC_IKE], ids=["defaults", "without ML-KEM"])
def test_it_fits_every_path_though_ml_kem_goes_first(words):
    proposals = parse_ike(words)
    assert first_request.octets(proposals, groups_of(proposals)[0]) + IPV6_UDP <= EVERY_PATH


@pytest.mark.parametrize("site", ["a", "b"])
def test_a_peer_without_ml_kem_takes_what_comes_next(site):
    both = {"a": parse_ike(DEFAULT_IKE), "b": parse_ike(DEFAULT_IKE)}
    both[site] = parse_ike(CLASSIC_IKE)
    for first in ("a", "b"):
        ladder = Ladder(**{name: [peer(name, ike_proposals=proposals)] for name, proposals in both.items()}).up(first)
        assert ladder.a.status[0].proposal == "aes256gcm16-prfsha384-x25519"


@pytest.mark.parametrize("first", ["a", "b"])
@pytest.mark.parametrize(("octets", "length"), [(768, 1376), (1024, 1760)])
def test_ml_kem_may_be_the_first_and_only_key_exchange(octets, length, first):
    words = parse_ike([KEM.format(octets)])
    ladder = Ladder(a=[peer("a", ike_proposals=words)], b=[peer("b", ike_proposals=words)]).up(first)
    assert ladder.a.status[0].proposal == KEM.format(octets)
    assert len(ladder.wire.log[0][0].data[0]) == length
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock(), ike=True))
    ladder.run(5)
    ladder.check()


def test_a_responder_that_wants_ml_kem_first_gets_it():
    """INVALID_KE_PAYLOAD names it."""
    ours, theirs = parse_ike(["aes128gcm16-prfsha256-x25519-mlkem768"]), parse_ike(["aes128gcm16-prfsha256-mlkem768"])
    ladder = Ladder(a=[peer("a", ike_proposals=ours)], b=[peer("b", ike_proposals=theirs)]).up()
    assert ladder.a.status[0].proposal == "aes128gcm16-prfsha256-mlkem768"
