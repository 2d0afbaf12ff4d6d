"""What is offered, chosen and accepted in both phases; what IKEv1 has no number for; why nothing was chosen."""

from dataclasses import replace

import pytest

from ipsec_dp.ike.peer import Life
from ipsec_dp.ike.proposal import ProposalError, parse_esp, parse_ike
from ipsec_dp.ike.v1 import offers, registry
from ipsec_dp.ike.v1.sa_payload import SaAttribute, SaPayload, SaTransform
from ipsec_dp.ike.v1.wire import EncapsulationMode, Method, Phase1, Phase2

LIFE = Life(3600.0, octets=1024 * 5000)
PSK, TUNNEL, UDP = Method.SHARED_KEY, EncapsulationMode.TUNNEL, EncapsulationMode.UDP_TUNNEL


def phase1(*texts):
    return registry.suites_phase1(parse_ike(texts, legacy=True))


def phase2(*texts):
    return registry.suites_phase2(parse_esp(texts))


def offer1(*texts, method=PSK):
    return offers.phase1_offer(phase1(*texts), method, LIFE)


def offer2(*texts, mode=TUNNEL):
    return offers.phase2_offer(phase2(*texts), b"\0\0\x10\1", mode, LIFE)


def altered(sa, change, place=0):
    """The offer with one transform's attributes as `change` has them."""
    (proposal,) = sa.proposals
    transforms = list(proposal.transforms)
    transforms[place] = replace(transforms[place], attributes=tuple(change(transforms[place].attributes)))
    return SaPayload((replace(proposal, transforms=tuple(transforms)),))


def test_phase_1_has_a_transform_for_each_set_of_algorithms():
    sa = offer1("aes256-aes128-sha256-ecp256-modp2048")
    (proposal,) = sa.proposals
    assert (proposal.protocol, proposal.spi, len(proposal.transforms)) == (1, b"", 4)
    numbers = proposal.transforms[0].numbers()
    assert numbers == {
        Phase1.ENCRYPTION: (7,),
        Phase1.KEY_LENGTH: (256,),
        Phase1.HASH: (4,),
        Phase1.AUTHENTICATION: (1,),
        Phase1.GROUP: (19,),
        Phase1.LIFE_TYPE: (1,),
        Phase1.LIFE_DURATION: (3600,),
    }


def test_the_responder_sends_the_transform_back_as_it_came():
    offered = offer1("aes128-sha1-modp1024", "aes256-sha256-ecp256")
    choice = offers.phase1_select(phase1("aes256-sha256-ecp256"), PSK, offered)
    assert choice is not None
    assert choice.proposal.transforms == (offered.proposals[0].transforms[1],)
    assert (str(choice.suite), choice.life) == ("aes256-sha256-prfsha256-ecp256", offers.SaLife(3600))
    assert offers.phase1_accept(phase1("aes256-sha256-ecp256"), PSK, SaPayload((choice.proposal,))).suite == choice.suite


def test_our_order_of_preference_comes_first():
    ours = phase1("aes256-sha256-ecp256", "aes128-sha256-ecp256")
    choice = offers.phase1_select(ours, PSK, offer1("aes128-sha256-ecp256", "aes256-sha256-ecp256"))
    assert choice is not None
    assert choice.suite == ours[0]


def test_another_way_to_authenticate_is_not_chosen():
    ours = phase1("aes256-sha256-ecp256")
    assert offers.phase1_select(ours, Method.RSA, offer1("aes256-sha256-ecp256")) is None
    text = offers.phase1_mismatch(ours, Method.RSA, offer1("aes256-sha256-ecp256"))
    assert text.endswith("differs: authentication (ours rsa, peer's psk)")


@pytest.mark.parametrize(
    "change",
    [
        lambda attributes: [*attributes, SaAttribute.of(Phase1.LIFE_TYPE, 1), SaAttribute.of(Phase1.LIFE_DURATION, 5)],
        lambda attributes: [*attributes, attributes[0]],
        lambda attributes: [one for one in attributes if one.type != Phase1.KEY_LENGTH],
        lambda attributes: [*attributes, SaAttribute.of(99, 1)],
        lambda attributes: [one for one in attributes if one.type != Phase1.LIFE_DURATION],
        lambda attributes: [*attributes[:-1], SaAttribute(Phase1.LIFE_DURATION, b"", False)],
        lambda attributes: [*attributes[:-1], SaAttribute.of(Phase1.LIFE_DURATION, 0)],
        lambda attributes: [*attributes[:-1], SaAttribute(Phase1.LIFE_DURATION, b"\1" + bytes(8), False)],
    ],
    ids=["two lives", "doubled", "no key length", "unknown", "life without duration", "empty", "life 0", "life 2**64"],
)
def test_a_transform_that_cannot_be_is_not_chosen(change):
    ours, good = phase1("aes256-sha256-ecp256"), offer1("aes256-sha256-ecp256")
    assert offers.phase1_select(ours, PSK, good) is not None
    assert offers.phase1_select(ours, PSK, altered(good, change)) is None
    with pytest.raises(ProposalError):
        offers.phase1_accept(ours, PSK, altered(good, change))


def test_an_initiator_takes_one_transform_of_its_own():
    ours = phase1("aes256-sha256-ecp256")
    for answer in (
        offer1("aes128-sha256-ecp256"),
        offer1("aes256-sha256-ecp256-modp2048"),
        offer1("aes256-sha256-ecp256", method=3),
    ):
        with pytest.raises(ProposalError):
            offers.phase1_accept(ours, PSK, answer)


@pytest.mark.parametrize(("proposals", "each"), [(1, 2), (2, 1), (2, 0), (1, 0)])
def test_an_answer_of_other_than_one_transform_is_counted_and_not_read(proposals, each):
    """Each of them would do by itself."""
    ours, good = phase1("aes256-sha256-ecp256"), offer1("aes256-sha256-ecp256").proposals[0]
    answer = SaPayload((replace(good, transforms=each * good.transforms),) * proposals)
    with pytest.raises(ProposalError, match=f"the peer chose {proposals * each} transforms in {proposals} proposals, where"):
        offers.phase1_accept(ours, PSK, answer)


def test_3des_and_md5_are_named():
    des = SaPayload(
        (
            replace(
                offer1("aes128-sha1-modp1024").proposals[0],
                transforms=(
                    SaTransform(1, 1, tuple(SaAttribute.of(kind, value) for kind, value in ((1, 5), (2, 1), (3, 1), (4, 2)))),
                ),
            ),
        )
    )
    text = offers.phase1_mismatch(phase1("aes256-sha256-ecp256"), PSK, des)
    assert "peer's: 3des-md5-modp1024-psk" in text
    assert "encryption (ours aes256, peer's 3des)" in text


def test_phase_2_has_one_spi_and_one_group():
    sa = offer2("aes256gcm16-aes128gcm16-ecp256", "aes256-sha256-modp2048")
    (proposal,) = sa.proposals
    assert (proposal.protocol, proposal.spi) == (3, b"\0\0\x10\1")
    assert [transform.id for transform in proposal.transforms] == [20, 20]
    assert {transform.numbers()[Phase2.GROUP] for transform in proposal.transforms} == {(19,)}
    assert proposal.transforms[0].numbers()[Phase2.LIFE_TYPE] == (1, 2)
    assert proposal.transforms[0].numbers()[Phase2.LIFE_DURATION] == (3600, 5000)


@pytest.mark.parametrize(
    "text", ["aes128gcm16", "aes256-sha256", "aes128-sha1-modp2048", "aes256-sha512-ecp384", "aes128gcm16-esn"]
)
def test_phase_2_is_understood_as_it_was_meant(text):
    choice = offers.phase2_select(phase2(text), UDP, offer2(text, mode=UDP))
    assert choice is not None
    assert (choice.suite, choice.life) == (phase2(text)[0], offers.SaLife(3600, 5000))
    assert offers.phase2_accept(phase2(text), UDP, SaPayload((choice.proposal,))).suite == choice.suite


def test_phase_2_differs_in_encapsulation_and_pfs():
    ours = phase2("aes128gcm16")
    assert offers.phase2_select(ours, UDP, offer2("aes128gcm16")) is None
    assert offers.phase2_mismatch(ours, UDP, offer2("aes128gcm16")).endswith("encapsulation (ours udp-tunnel, peer's tunnel)")
    assert offers.phase2_select(ours, TUNNEL, offer2("aes128gcm16-ecp256")) is None
    assert offers.phase2_mismatch(ours, TUNNEL, offer2("aes128gcm16-ecp256")).endswith("PFS (ours none, peer's ecp256)")


def test_esp_with_ah_is_not_esp():
    (proposal,) = offer2("aes128gcm16").proposals
    assert offers.phase2_select(phase2("aes128gcm16"), TUNNEL, SaPayload((proposal, replace(proposal, protocol=2)))) is None
    assert offers.phase2_select(phase2("aes128gcm16"), TUNNEL, SaPayload((replace(proposal, protocol=2),))) is None
    other = replace(proposal, number=2)
    assert offers.phase2_select(phase2("aes128gcm16"), TUNNEL, SaPayload((replace(proposal, protocol=2), other))) is not None


def test_an_aead_with_a_hash_is_none():
    sa = altered(offer2("aes128gcm16"), lambda attributes: [*attributes, SaAttribute.of(Phase2.AUTHENTICATION, 5)])
    assert offers.phase2_select(phase2("aes128gcm16"), TUNNEL, sa) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("aes256gcm16-prfsha256-ecp256", '"aes256gcm16" in phase 1'),
        ("chacha20poly1305-prfsha256-ecp256", '"chacha20poly1305" in phase 1'),
        ("aes256-sha256-x25519", 'no number for "x25519"'),
        ("aes256-sha256-prfsha512-ecp256", 'one hash for all of phase 1, and "prfsha512"'),
    ],
)
def test_what_ikev1_has_not_is_said_by_name(text, said):
    (refusal,) = registry.refusals_phase1(parse_ike([text]))
    assert said in refusal
    assert registry.refusals_phase1(parse_ike(registry.DEFAULT_PHASE1)) == ()


def test_the_same_of_esp():
    assert registry.refusals_phase2(parse_esp(["chacha20poly1305-x25519"])) == (
        'IKEv1 has no number for "chacha20poly1305"',
        'IKEv1 has no number for "x25519"',
    )
    assert registry.refusals_phase2(parse_esp(registry.DEFAULT_PHASE2)) == ()


def test_xauth_is_named():
    ours, sa = phase1("aes256-sha256-ecp256"), offer1("aes256-sha256-ecp256", method=65001)
    said = offers.phase1_mismatch(ours, PSK, sa)
    assert f"differs: authentication (ours psk, peer's psk with XAUTH); {offers.WANTS_XAUTH}" in said
    both = replace(sa, proposals=(*sa.proposals, *offer1("aes128-sha256-ecp256").proposals), raw=b"")
    assert offers.WANTS_XAUTH not in offers.phase1_mismatch(ours, PSK, both), "it would do without"
    with pytest.raises(ProposalError, match=r"the peer chose what was not offered: .*psk with XAUTH; the peer wants XAUTH"):
        offers.phase1_accept(ours, PSK, sa)


def test_what_has_an_additional_key_exchange_is_nothing_of_ikev1():
    """Not even where it may fall to IKEv1; one that may be left out is."""
    written = "aes256-sha256-modp2048-ke1_mlkem768"
    (refusal,) = registry.refusals_phase1(parse_ike([written]))
    assert refusal == 'IKEv1 has no additional key exchange, "ke1_mlkem768" being one'
    assert registry.suites_phase1(parse_ike([written])) == ()
    assert registry.suites_phase1(parse_ike([f"{written}-ke1_none"])) == registry.suites_phase1(
        parse_ike(["aes256-sha256-modp2048"])
    )
    assert registry.refusals_phase2(parse_esp([written])) == (refusal,)
    assert registry.suites_phase2(parse_esp([written])) == ()
