"""Proposals: keywords, the responder's choice (RFC 7296 §2.7), the initiator's check of it, and the explanation of a mismatch."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsec_dp.ike.negotiation import accept, explain_mismatch, select, select_child, with_spi, without_key_exchange
from ipsec_dp.ike.proposal import DEFAULT_ESP, DEFAULT_IKE, Proposal, ProposalError, parse_esp, parse_ike, text
from ipsec_dp.ike.suites import esp_suite, ike_suite
from ipsec_dp.ipsec.transforms import Transform, TransformType, by_keyword

from . import strategies

SPI = b"\0\0\x10\x01"
NONE_KE, NONE_INTEG = Transform(4, 0), Transform(3, 0)


def pick(ours, offered, choose=select):
    """A choice that must exist."""
    proposal = choose(ours, offered)
    assert proposal is not None
    return proposal


def esp(*texts):
    return with_spi(parse_esp(texts), SPI)


def adding(proposals, *transforms):
    return tuple(replace(p, transforms=p.transforms + transforms) for p in proposals)


def removing(proposals, transform_type):
    return tuple(replace(p, transforms=tuple(t for t in p.transforms if t.type != transform_type)) for p in proposals)


# --- text ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("aes256gcm16-prfsha384-ecp384", "aes256gcm16-prfsha384-ecp384"),
        ("aes128-sha256-modp2048", "aes128-prfsha256-sha256-modp2048"),
        ("aes256gcm16-sha384-ecp384", "aes256gcm16-prfsha384-ecp384"),
        ("AES128GCM128-PRFSHA256-CURVE25519", "aes128gcm16-prfsha256-x25519"),
        ("aes128-aes256-sha1-sha256-modp2048", "aes128/aes256-prfsha1/prfsha256-sha1/sha256-modp2048"),
        (
            "aes128gcm16-aes128-sha256-prfsha256-x25519",
            "aes128gcm16-prfsha256-x25519, aes128-prfsha256-sha256-x25519",
        ),
    ],
)
def test_ike_keywords(written, read):
    assert text(parse_ike([written])) == read


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("aes256gcm16-esn", "aes256gcm16-esn"),
        ("aes128gcm16", "aes128gcm16-noesn"),
        ("aes128-sha256-ecp256", "aes128-sha256-ecp256-noesn"),
        ("chacha20poly1305-esn-noesn", "chacha20poly1305-esn/noesn"),
    ],
)
def test_esp_keywords(written, read):
    assert text(parse_esp([written])) == read


@pytest.mark.parametrize(
    ("parse", "written", "why"),
    [
        (parse_ike, "aes256gcm16-ecp384", "names no prf"),
        (parse_ike, "aes128-sha256", "names no key exchange"),
        (parse_ike, "prfsha256-ecp256", "names no encryption"),
        (parse_ike, "aes128-prfsha256-ecp256", "without integrity"),
        (parse_ike, "aes128-sha256-modp2048-esn", "'esn' is not known"),
        (parse_ike, "des-md5-modp768", "'des' is not known"),
        (parse_ike, "", "'' is not known"),
        (parse_esp, "aes128", "without integrity"),
        (parse_esp, "aes128gcm16-prfsha256", "'prfsha256' is not known"),
    ],
)
def test_a_text_that_cannot_be_used_is_refused_by_name(parse, written, why):
    with pytest.raises(ProposalError, match=why):
        parse([written])


@pytest.mark.parametrize("parse", [parse_ike, parse_esp])
@pytest.mark.parametrize("group", ["modp1024", "modp1536"])
def test_groups_2_and_5_need_legacy(parse, group):
    with pytest.raises(ProposalError, match="legacy = true"):
        parse([f"aes128-sha256-{group}"])
    assert group in text(parse([f"aes128-sha256-{group}"], legacy=True))


def test_the_defaults_parse_and_hold_no_sha1():
    assert "sha1" not in text(parse_ike(DEFAULT_IKE)) + text(parse_esp(DEFAULT_ESP))


def test_no_proposals_at_all_are_refused():
    with pytest.raises(ProposalError, match="no proposals"):
        parse_ike([])


# --- as responder ----------------------------------------------------------------------------------------------------


def chosen(ours, offered):
    proposal = select(parse_ike(ours), parse_ike(offered, legacy=True))
    return proposal and (proposal.number, str(ike_suite(proposal)))


A, B, C = "aes256gcm16-prfsha384-ecp384", "aes128-sha256-prfsha256-modp2048", "aes128gcm16-prfsha256-x25519"


@pytest.mark.parametrize(
    ("ours", "offered", "result"),
    [
        ([A], [A], (1, "aes256gcm16-prfsha384-ecp384")),
        ([A], [B, A], (2, "aes256gcm16-prfsha384-ecp384")),
        ([A, B], [B, A], (2, "aes256gcm16-prfsha384-ecp384")),  # our order decides
        ([B, A], [B, A], (1, "aes128-sha256-prfsha256-modp2048")),
        (
            ["aes256gcm16-aes128gcm16-prfsha256-x25519-ecp256"],
            ["aes128gcm16-prfsha256-ecp256-x25519"],
            (1, "aes128gcm16-prfsha256-x25519"),
        ),
        ([A], ["aes256gcm16-prfsha384-ecp256"], None),
        ([A], ["aes128gcm16-prfsha384-ecp384"], None),
        ([A], ["aes256-sha384-ecp384"], None),
        ([A], ["aes128-sha1-modp1024"], None),
    ],
)
def test_responders_choice(ours, offered, result):
    assert chosen(ours, offered) == result


def test_the_choice_carries_the_peers_spi_and_one_transform_of_each_type():
    proposal = select(parse_esp(["aes256gcm16-aes128gcm16-esn-noesn"]), esp("aes128gcm16-aes256gcm16-noesn-esn"))
    assert proposal == Proposal(1, 3, SPI, (Transform(1, 20, 256), Transform(5, 1)))


def test_an_aead_may_be_offered_with_integrity_none_but_with_no_real_one():
    ours = parse_ike([A])
    assert str(ike_suite(pick(ours, adding(ours, NONE_INTEG)))) == A
    assert select(ours, adding(ours, Transform(3, 12))) is None


def test_a_key_length_we_do_not_have_is_not_chosen():
    ours = parse_ike([A])
    for odd in (Transform(1, 20), Transform(1, 20, 512), Transform(1, 20, 256, ((0x8063, b"\0\x01"),))):
        offered = tuple(replace(p, transforms=(odd, *p.transforms[1:])) for p in ours)
        assert select(ours, offered) is None


def test_a_transform_type_we_do_not_know_makes_its_proposal_unacceptable():
    ours = parse_ike([A])
    assert select(ours, adding(ours, Transform(241, 1))) is None


def test_an_additional_key_exchange_can_be_declined_with_none():
    ours = parse_ike([A])
    optional = select(ours, adding(ours, Transform(6, 36), Transform(6, 0)))
    assert optional is not None
    assert Transform(6, 0) in optional.transforms
    assert select(ours, adding(ours, Transform(6, 36))) is None


def test_pfs_is_negotiated_only_where_both_want_it():
    with_group, without = parse_esp(["aes128gcm16-x25519"]), parse_esp(["aes128gcm16"])
    assert esp_suite(pick(with_group, esp("aes128gcm16-x25519"))).group == by_keyword("x25519")
    assert select(with_group, esp("aes128gcm16")) is None
    assert select(without, esp("aes128gcm16-x25519")) is None
    assert esp_suite(pick(without, adding(esp("aes128gcm16-x25519"), NONE_KE))).group is None


def test_ike_auth_ignores_the_key_exchange_of_either_side():
    ours = parse_esp(["aes128gcm16-x25519"])
    for offered in (esp("aes128gcm16"), esp("aes128gcm16-ecp256"), adding(esp("aes128gcm16"), NONE_KE)):
        assert str(esp_suite(pick(ours, offered, select_child))) == "aes128gcm16"
    assert text(without_key_exchange(parse_esp(["aes128gcm16-x25519", "aes128gcm16-ecp256"]))) == "aes128gcm16-noesn"


def test_left_out_esn_means_32_bit_sequence_numbers():
    offered = removing(esp("aes128gcm16"), TransformType.ESN)
    assert not esp_suite(pick(parse_esp(["aes128gcm16-noesn"]), offered)).esn
    assert select(parse_esp(["aes128gcm16-esn"]), offered) is None


def test_another_protocol_is_never_chosen():
    assert select(parse_esp(["aes128gcm16"]), tuple(replace(p, protocol=2) for p in esp("aes128gcm16"))) is None


# --- as initiator ----------------------------------------------------------------------------------------------------


def test_the_peers_choice_from_our_offer_is_accepted():
    offered = parse_ike([A, B])
    for answer in (pick(parse_ike([A]), offered), pick(parse_ike([B]), offered)):
        assert accept(offered, [answer]) == answer


ONE = parse_ike(["aes256gcm16-aes128gcm16-prfsha384-ecp384"])
GOOD = pick(parse_ike([A]), ONE)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("none", []),
        ("two", [GOOD, GOOD]),
        ("a number not offered", [replace(GOOD, number=2)]),
        ("another protocol", [replace(GOOD, protocol=3)]),
        ("an SPI where none was offered", [replace(GOOD, spi=bytes(8))]),
        ("our whole offer", list(ONE)),
        ("a cipher not offered", [replace(GOOD, transforms=(Transform(1, 20, 192), *GOOD.transforms[1:]))]),
        ("no cipher", removing([GOOD], TransformType.ENCR)),
        ("no prf", removing([GOOD], TransformType.PRF)),
        ("no key exchange", removing([GOOD], TransformType.KE)),
        ("key exchange none", adding(removing([GOOD], TransformType.KE), NONE_KE)),
        ("an integrity beside an AEAD", adding([GOOD], Transform(3, 12))),
        ("a type not offered", adding([GOOD], Transform(5, 0))),
        ("an additional key exchange", adding([GOOD], Transform(6, 36))),
    ],
)
def test_an_answer_that_was_not_offered_is_refused(name, answer):
    with pytest.raises(ProposalError):
        accept(ONE, answer)


def test_integrity_none_said_aloud_is_no_integrity():
    assert ike_suite(accept(ONE, adding([GOOD], NONE_INTEG))).integrity is None


@given(st.lists(strategies.transforms, max_size=6).map(tuple))
def test_zero_length_key_material_from_an_unexpected_transform_is_impossible(transforms):
    """Bug class: a transform nobody offered, with a key length nobody checked, ending in an empty key."""
    proposal = Proposal(1, 1, b"", transforms)
    for suite_of in (ike_suite, esp_suite):
        try:
            suite = suite_of(proposal)
        except ProposalError:
            continue
        assert suite.encryption.key > 0
        assert suite.encryption.is_aead != (suite.integrity is not None)


@pytest.mark.parametrize("suite_of", [ike_suite, esp_suite])
@pytest.mark.parametrize(
    "transforms",
    [
        (Transform(1, 11),),  # NULL encryption
        (Transform(1, 0),),
        (Transform(1, 20, 8),),
        (Transform(1, 20),),
        (Transform(1, 12, 128),),  # CBC without integrity
        (Transform(1, 12, 128), NONE_INTEG),
        (Transform(1, 20, 128), Transform(3, 12)),
        (Transform(1, 20, 128), Transform(1, 20, 256)),
        (Transform(9, 9),),
        (),
    ],
)
def test_a_suite_is_made_of_known_transforms_that_fit_together(suite_of, transforms):
    with pytest.raises(ProposalError):
        suite_of(Proposal(1, 1, b"", transforms))


# --- for people ------------------------------------------------------------------------------------------------------


def test_a_mismatch_prints_both_sides_and_names_what_differs_in_the_closest_pair():
    said = explain_mismatch(parse_ike([A]), parse_ike(["aes128-sha1-modp1024", "aes256gcm16-prfsha384-ecp256"], legacy=True))
    assert said == (
        "ours: aes256gcm16-prfsha384-ecp384; peer's: aes128-prfsha1-sha1-modp1024, aes256gcm16-prfsha384-ecp256; "
        "differs: key exchange (ours ecp384, peer's ecp256)"
    )


def test_a_mismatch_names_esn_and_missing_types():
    said = explain_mismatch(parse_esp(["aes128gcm16-esn"]), parse_esp(["aes128gcm16-x25519"]))
    assert said.endswith("differs: key exchange (ours none, peer's x25519); extended sequence numbers (ours esn, peer's noesn)")


def test_a_mismatch_against_thousands_of_transforms_stays_short():
    flood = tuple(Proposal(n, 1, b"", tuple(Transform(1, i) for i in range(255))) for n in range(1, 65))
    assert len(explain_mismatch(parse_ike([A]), flood)) < 2_000


def test_a_mismatch_without_a_common_protocol_says_so():
    assert explain_mismatch(parse_ike([A]), parse_esp(["aes128gcm16"])).endswith("no proposals for the same protocol")
    assert explain_mismatch(parse_ike([A]), ()).endswith("peer's: none; no proposals for the same protocol")
