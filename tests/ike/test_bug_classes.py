"""Each class of bug that IKE implementations were exploited through, each kind of bad input, and the tests that stand for it."""

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from ipsec_dp.databases.sad_events import IkeDatagram
from ipsec_dp.dataplane import Endpoint
from ipsec_dp.ike.v2.message import Header, Message, build_message
from ipsec_dp.ike.v2.wire import ExchangeType, Flag
from ipsec_dp.keying.ike_driver import IkeDriver
from ipsec_dp.util.clock import SystemClock
from ipsec_dp.util.conditions import Conditions

from .ladder import Ladder

ATTACKS = {
    "rekey of an SA that was never authenticated": (
        "test_session_attacks.test_rekey_of_an_sa_that_was_never_authenticated",
        "test_session_attacks.test_delete_of_an_ike_sa_that_was_never_authenticated",
        "test_ladder_life.test_before_authentication_only_intermediate_and_then_auth_has_a_row",
        "test_ladder_intermediate.test_before_authentication_no_other_exchange_moves_anything",
    ),
    "unchecked DH or KE public value": (
        "test_session_attacks.test_public_values_that_must_not_be_used",
        "test_dh.test_modp_values_of_small_order_or_beyond_the_prime_are_refused",
        "test_dh.test_points_off_the_curve_or_of_the_wrong_form_are_refused",
        "test_dh.test_curve25519_points_of_low_order_are_refused",
    ),
    "identity length unchecked": (
        "test_session_attacks.test_an_identity_of_a_length_that_cannot_be",
        "test_identity.test_octets_that_their_type_forbids_are_refused",
    ),
    "fragment reassembly bounds": (
        "test_fragment.test_memory_stays_bounded_whatever_an_authenticated_peer_sends",
        "test_fragment.test_what_is_not_whole_is_bounded",
        "test_fragment.test_a_fragment_whose_icv_fails_is_never_collected",
        "test_message.test_fragment_numbers_out_of_bounds_are_refused",
    ),
    "malformed TS payload": (
        "test_session_attacks.test_selectors_that_only_have_types_nobody_knows",
        "test_session_attacks.test_a_flood_of_selectors_installs_no_more_than_is_configured",
        "test_payloads.test_bad_input",
    ),
    "invalid SPI or protocol in a rekey notify echoed back": (
        "test_session_attacks.test_an_spi_in_a_rekey_notify_that_is_not_ours",
        "test_session_attacks.test_a_rekey_notify_without_an_spi_or_with_that_of_ah",
    ),
    "duplicate DELETE, use after delete": (
        "test_session_attacks.test_duplicate_delete_and_use_after_delete",
        "test_payloads.test_duplicate_spis_in_one_delete_count_once",
        "test_payloads.test_a_delete_of_thousands_is_refused",
    ),
    "a log line that dereferences absent state": (
        "test_session_attacks.test_after_the_ike_sa_is_deleted_nothing_more_is_done_on_it",
        "test_bug_classes.test_a_message_with_spis_nobody_has_is_counted_and_nothing_else",
    ),
    "lax PKCS#1 v1.5": ("test_auth.test_lax_pkcs1_encodings_are_refused",),
    "cross-version Bleichenbacher oracle, offline PSK attack in aggressive mode": (
        "test_message.test_ikev1_is_told_apart_and_not_answered",
        "test_ladder_init.test_ikev1_is_counted_and_told_at_most_once_a_minute",
        "test_certificates.test_nothing_in_the_ike_core_can_open_a_socket_read_a_clock_or_decrypt_with_rsa",
    ),
    "IKEv1: delete without authentication, message IDs used again, IV chaining, hash over too little, amplification": (
        "v1/test_ikev1_threats.test_a_delete_without_authentication_does_nothing",
        "v1/test_ikev1_threats.test_a_hash_covers_all_that_follows_it",
        "v1/test_ikev1_threats.test_a_recorded_message_does_nothing_a_second_time",
        "v1/test_ikev1_threats.test_a_message_that_fails_leaves_the_ivs_as_they_are",
        "v1/test_ikev1_threats.test_nothing_of_phase_2_happens_before_phase_1_is_done",
        "v1/test_ikev1_threats.test_there_is_no_decryption_by_rsa",
        "v1/test_ikev1_main_mode.test_what_is_not_authenticated_gets_one_answer_of_one_datagram_at_the_most",
        "v1/test_ikev1_main_mode.test_of_one_network_there_are_so_many_and_the_oldest_goes",
    ),
    "IKEv1's aggressive mode: offline guess, amplification, key exchanges for strangers": (
        "v1/test_ikev1_aggressive_threats.test_whoever_listens_can_try_secrets_offline",
        "v1/test_ikev1_aggressive_threats.test_message_2_is_never_sent_again_unasked",
        "v1/test_ikev1_aggressive_threats.test_a_duplicate_of_message_1_gets_the_stored_reply_and_few_of_them",
        "v1/test_ikev1_aggressive_threats.test_key_exchanges_for_strangers_are_rationed",
        "v1/test_ikev1_aggressive_threats.test_a_flood_in_one_peers_name_leaves_others_their_own",
        "v1/test_ikev1_aggressive.test_what_is_owed_encryption_is_not_taken_in_clear",
        "v1/test_ikev1_aggressive_threats.test_a_tunnel_in_main_mode_computes_nothing_for_it",
    ),
    "fetching a URL that an unauthenticated certificate names": (
        "test_session_attacks.test_a_certificate_by_url_is_never_fetched_and_never_taken",
        "test_certificates.test_nothing_in_the_ike_core_can_open_a_socket_read_a_clock_or_decrypt_with_rsa",
    ),
    "memory growth from half-open or crafted exchanges": (
        "test_ladder_init.test_memory_for_strangers_is_bounded",
        "test_session_attacks.test_memory_growth_from_crafted_exchanges",
    ),
    "zero-length key material from an unexpected transform": (
        "test_session_attacks.test_keys_of_no_length_from_an_unexpected_transform",
        "test_proposal.test_zero_length_key_material_from_an_unexpected_transform_is_impossible",
    ),
}
BAD_INPUT = {
    "malformed": (
        "test_message.test_arbitrary_octets_raise_only_the_syntax_error",
        "test_session_attacks.test_no_alteration_of_a_datagram_changes_or_breaks_anything",
    ),
    "truncated": ("test_message.test_every_truncation_is_refused",),
    "replayed": (
        "test_ladder_faults.test_every_datagram_twice_changes_nothing",
        "test_ladder_faults.test_a_duplicate_request_gets_the_stored_reply_and_does_nothing_else",
        "test_session_attacks.test_a_reflected_message_is_not_the_peers",
    ),
    "out of the window": ("test_ladder_faults.test_a_message_out_of_the_window_is_counted_and_nothing_else",),
    "of a wrong SPI": ("test_bug_classes.test_a_message_with_spis_nobody_has_is_counted_and_nothing_else",),
    "unauthenticated or mis-keyed": (
        "test_session_attacks.test_a_message_whose_icv_does_not_hold_is_not_answered_and_changes_nothing",
    ),
    "unauthenticated notifies tear no SA down": (
        "test_ladder_init.test_a_forged_refusal_is_a_hint_and_the_genuine_answer_still_counts",
        "test_ladder_init.test_unauthenticated_messages_are_no_life",
    ),
    "nothing is raised past the driver": (
        "test_bug_classes.test_a_datagram_that_makes_the_core_fail_costs_that_datagram_alone",
        "test_session_attacks.test_no_request_of_an_authenticated_peer_raises_or_leaks",
        "test_certificates.test_a_certificate_that_the_library_cannot_hold_is_refused_like_any_other",
    ),
    "secrets missing, unreadable or world-readable": (
        "test_auth.test_a_secret_file_open_to_everybody_is_refused",
        "test_auth.test_a_missing_special_huge_or_binary_secret_file_is_refused",
        "test_certificates.test_a_private_key_open_to_everybody_or_encrypted_is_refused",
    ),
    "certificates expired or not matching their key": (
        "test_certificates.test_our_own_certificate_is_checked_for_time_and_identity",
        "test_certificates.test_a_key_that_is_not_the_certificates_is_refused",
    ),
}
HERE = Path(__file__).parent


@pytest.mark.parametrize("name", sorted({name for tests in (*ATTACKS.values(), *BAD_INPUT.values()) for name in tests}))
def test_each_named_test_is_there(name):
    module, _, function = name.partition(".")
    assert f"\ndef {function}(" in (HERE / f"{module}.py").read_text()


@pytest.mark.parametrize("flags", [0, Flag.INITIATOR, Flag.RESPONSE, Flag.INITIATOR | Flag.RESPONSE])
@pytest.mark.parametrize("exchange", list(ExchangeType))
def test_a_message_with_spis_nobody_has_is_counted_and_nothing_else(exchange, flags):
    """Of an SA that never was, and of one that has just gone; a request of IKE_SA_INIT cannot have a responder's SPI."""
    ladder = Ladder().up()
    spi_i, spi_r = ladder.b.status[0].spi_i, ladder.b.status[0].spi_r
    ladder.a.do(ladder.a.core.terminate("to-b", ladder.clock()))
    ladder.run(120)
    log, sent = list(ladder.b.sad.log), len(ladder.wire.log)
    for spis in ((b"\1" * 8, b"\2" * 8), (spi_i, spi_r)):
        datagram = build_message(Message(Header(spis[0], spis[1], exchange, flags, 2), ()))
        assert ladder.b.core.receive(datagram, ladder.path("b"), ladder.clock()) == []
    assert ladder.b.core.counters().sessions == 0
    assert (ladder.b.sad.log, len(ladder.wire.log)) == (log, sent)


class Failing:
    """A core with a fault in it."""

    def __init__(self):
        self.heard = []

    def set_peers(self, peers):
        pass

    def next_timeout(self):
        return None

    def knows(self, _message):
        return True

    def receive(self, message, path, now):
        del path, now
        self.heard.append(message)
        if message == b"bad":
            raise TypeError("a fault")
        return []


def test_a_datagram_that_makes_the_core_fail_costs_that_datagram_alone(caplog):
    core = Failing()
    parts: Any = {"core": core, "children": None, "links": None, "locate": None, "changed": None, "clock": SystemClock()}
    parts["conditions"] = Conditions(parts["clock"])
    driver = IkeDriver([], {}, **parts)
    local, remote = (Endpoint(ip_address(end), 4500) for end in ("192.0.2.2", "192.0.2.1"))
    for message in (b"bad", b"bad", b"good"):
        driver.datagram(IkeDatagram(0, local, remote, message))
    assert core.heard == [b"bad", b"bad", b"good"]
    assert caplog.text.count("could not be handled") == 1, "told once in a while, not as often as a stranger likes"
