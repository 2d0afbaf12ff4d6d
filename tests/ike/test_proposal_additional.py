"""Proposals with additional key exchanges (RFC 9370): words, choices, what a rekey may offer."""

from dataclasses import replace

import pytest

from ipsec_dp.ike import kem
from ipsec_dp.ike.negotiation import accept, explain_mismatch, keeping, no_weaker, select, with_spi
from ipsec_dp.ike.proposal import ProposalError, parse_esp, parse_ike, text
from ipsec_dp.ike.suites import esp_suite, ike_suite
from ipsec_dp.ipsec.transforms import Transform

from .test_proposal import adding

GROUP = "aes128gcm16-prfsha256-x25519"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (f"{GROUP}-ke1_mlkem768", f"{GROUP}-ke1_mlkem768"),
        (f"{GROUP}-ke7_none-ke7_MLKEM1024-ke1_ecp384", f"{GROUP}-ke1_ecp384-ke7_none/ke7_mlkem1024"),
        (f"{GROUP}-ke1_mlkem1024-ke1_mlkem768-ke1_none", f"{GROUP}-ke1_mlkem1024/ke1_mlkem768/ke1_none"),
        (f"{GROUP}-ke1_x25519", f"{GROUP}-ke1_x25519"),
    ],
)
def test_additional_key_exchanges_are_strongswans_words(written, read):
    assert text(parse_ike([written])) == read


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        (f"{GROUP}-ke1_mlkem512", "of ML-KEM there are mlkem768 and mlkem1024"),
        ("aes128gcm16-prfsha256-mlkem512", "of ML-KEM there are mlkem768 and mlkem1024"),
        (f"{GROUP}-ke8_mlkem768", "not known"),
        (f"{GROUP}-ke1_none", "has ke1_none without a ke1_ that may be left out"),
        (f"{GROUP}-ke1_mlkem768-ke2_mlkem768", "has ke1_mlkem768 and ke2_mlkem768: each method counts once"),
        (f"{GROUP}-ke1_modp1024", "only admitted with legacy"),
        ("aes128gcm16-prfsha256-ke1_mlkem768", "names no key exchange"),
    ],
)
def test_additional_key_exchanges_that_cannot_be_are_refused_by_name(written, complaint):
    with pytest.raises(ProposalError, match=complaint):
        parse_ike([written])


def test_a_child_sa_has_them_after_a_group():
    assert text(parse_esp(["aes128gcm16-x25519-ke2_mlkem768-ke2_none"])) == "aes128gcm16-x25519-noesn-ke2_mlkem768/ke2_none"
    with pytest.raises(ProposalError, match="ke1_mlkem768 without a group that comes first"):
        parse_esp(["aes128gcm16-ke1_mlkem768"])


def test_ml_kem_may_be_the_first_key_exchange():
    assert text(parse_ike(["aes128gcm16-prfsha256-mlkem768-ke1_mlkem768"])) == "aes128gcm16-prfsha256-mlkem768-ke1_mlkem768"


ESP_GROUP = "aes128gcm16-x25519"


@pytest.mark.parametrize(
    ("ours", "theirs", "chosen"),
    [
        ("-ke1_mlkem768", "-ke1_mlkem768", "-ke1_mlkem768"),
        ("-ke1_mlkem768-ke1_none", "-ke1_none-ke1_mlkem1024", ""),
        ("-ke1_mlkem768-ke1_none", "", ""),
        ("", "-ke1_mlkem768-ke1_none", ""),
        ("-ke1_mlkem768", "", None),
        ("", "-ke1_mlkem768", None),
        ("-ke1_mlkem768-ke2_ecp256-ke2_none", "-ke1_mlkem768", "-ke1_mlkem768"),
    ],
)
def test_what_is_chosen_of_esp_proposals_is_what_the_initiator_accepts(ours, theirs, chosen):
    mine, offered = parse_esp([ESP_GROUP + ours]), parse_esp([ESP_GROUP + theirs])
    found = select(mine, with_spi(offered, b"\1\2\3\4"))
    assert (None if found is None else str(esp_suite(found))) == (None if chosen is None else ESP_GROUP + chosen)
    if found is not None:
        accept(with_spi(offered, b"\1\2\3\4"), [found])


def test_a_mismatch_of_esp_proposals_names_the_additional_key_exchange():
    told = explain_mismatch(parse_esp([f"{ESP_GROUP}-ke1_mlkem768"]), parse_esp([ESP_GROUP]))
    assert told.endswith("differs: additional key exchange 1 (ours ke1_mlkem768, peer's none)")


@pytest.mark.parametrize(
    ("configured", "offered"),
    [
        ([f"{GROUP}-ke1_mlkem768-ke1_none"], f"{GROUP}-ke1_mlkem768"),
        ([GROUP, f"{GROUP}-ke1_mlkem768"], f"{GROUP}-ke1_mlkem768"),
        ([f"{GROUP}-ke1_mlkem1024-ke1_none", GROUP], f"{GROUP}-ke1_mlkem1024"),
        ([GROUP], GROUP),
    ],
)
def test_what_takes_the_place_of_a_suite_with_additional_key_exchanges_has_some_where_there_are_any(configured, offered):
    suite = ike_suite(parse_ike([f"{GROUP}-ke1_mlkem768"])[0])
    assert text(no_weaker(suite, parse_ike(configured))) == offered
    assert text(no_weaker(replace(suite, additional=()), parse_ike(configured))) == text(parse_ike(configured))


def test_an_additional_key_exchange_that_was_left_out_is_not_offered_again():
    suite = ike_suite(parse_ike([GROUP])[0])
    assert text(keeping(suite, parse_ike([f"{GROUP}-ke1_mlkem768-ke1_none"]))) == GROUP
    assert keeping(suite, parse_ike([f"{GROUP}-ke1_mlkem768"])) == ()


@pytest.mark.parametrize(
    ("ours", "theirs", "chosen"),
    [
        ("-ke1_mlkem768", "-ke1_mlkem768", "-ke1_mlkem768"),
        ("-ke1_mlkem1024-ke1_mlkem768", "-ke1_mlkem768-ke1_mlkem1024", "-ke1_mlkem1024"),
        ("-ke1_mlkem768-ke1_none", "-ke1_none-ke1_mlkem1024", "-ke1_none"),
        ("-ke1_mlkem768-ke1_none", "", ""),
        ("", "-ke1_mlkem768-ke1_none", "-ke1_none"),
        ("-ke1_mlkem768", "", None),
        ("", "-ke1_mlkem768", None),
        ("-ke1_mlkem768", "-ke2_mlkem768", None),
        ("-ke1_mlkem768", "-ke1_mlkem1024", None),
    ],
)
def test_what_is_chosen_is_what_the_initiator_accepts(ours, theirs, chosen):
    mine, offered = parse_ike([GROUP + ours]), parse_ike([GROUP + theirs])
    found = select(mine, offered)
    assert (None if found is None else text([found])) == (None if chosen is None else GROUP + chosen)
    if found is not None:
        suite = ike_suite(accept(offered, [found]))
        assert str(suite) == GROUP + (chosen if chosen != "-ke1_none" else "")


def test_a_choice_that_leaves_out_what_must_be_there_is_not_accepted():
    offered = parse_ike([f"{GROUP}-ke1_mlkem768"])
    for answer in (parse_ike([GROUP]), adding(parse_ike([GROUP]), Transform(6, 0)), adding(parse_ike([GROUP]), Transform(6, 37))):
        with pytest.raises(ProposalError, match="chose no additional key exchange 1 of ours"):
            accept(offered, answer)


def test_a_method_that_is_chosen_twice_is_none():
    twice = adding(parse_ike([f"{GROUP}-ke1_mlkem768"]), Transform(7, 36))
    with pytest.raises(ProposalError, match="twice"):
        ike_suite(twice[0])
    assert ike_suite(adding(parse_ike([GROUP]), Transform(6, 31))[0]).additional[0].keyword == "ke1_x25519"


def test_a_host_whose_library_has_no_ml_kem_says_so(monkeypatch):
    monkeypatch.setattr(kem, "lack", lambda method: "no such" if method.ciphertext else None)
    with pytest.raises(ProposalError, match="'ke1_mlkem768' cannot be computed here: no such"):
        parse_ike([f"{GROUP}-ke1_mlkem768"])
    assert parse_ike([f"{GROUP}-ke1_ecp384"])
