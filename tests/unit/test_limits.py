"""Every number of ike/, keying/ and gateway/ has an owner: what bounds strangers stands in `ike.strangers.Limits` alone.

A number that is new is asked whose it is: of strangers it belongs into that table (and into docs/security.md), else here.
"""

from __future__ import annotations

import ast
from pathlib import Path

from ipsec_dp.ike.strangers import LIMITS

PACKAGE = Path(__file__).resolve().parents[2] / "ipsec_dp"
ROOMS = ("ike", "keying", "gateway")

STANDARD = "a code, a size or a format that a standard, the kernel or the library gives"
OURS = "what we do by ourselves, and when"
PEER = "what a peer may do that has proven who it is"
FILES = "what the administrator's own files and commands may hold"
SHOWN = "how much of a text a person is shown"

OWNERS = {
    "gateway/absence.py": {OURS: "GAP_S"},
    "gateway/composition.py": {OURS: "HOLD_OCTETS"},
    "gateway/control.py": {
        FILES: "PIECE_OCTETS REQUEST_MAX LINE_MAX ANSWER_MAX ACCEPTED_MAX CLIENTS_MAX READERS_MAX IDLE_TIMEOUT_S "
        "REQUEST_TIMEOUT_S LAST_ANSWER_S",
        OURS: "LIST_LONG",
    },
    "gateway/control_place.py": {STANDARD: "PATH_OCTETS_MAX", FILES: "BACKLOG"},
    "gateway/daemon.py": {OURS: "DESCRIPTORS SWITCH_S YOUNG"},
    "gateway/drop_examples.py": {SHOWN: "SHOWN_MOST", STANDARD: "NS_PER_S", OURS: "LOOK_S OVER_S AGAIN_S"},
    "gateway/event_stream.py": {FILES: "QUEUE_MOST KEPT_MOST FOLLOWERS_MAX"},
    "gateway/events.py": {OURS: "ACQUIRE_AGAIN_S"},
    "gateway/explanation.py": {STANDARD: "SCHEMA"},
    "gateway/exposition.py": {OURS: "TUNNELS_MAX CHUNK"},
    "gateway/bring_up.py": {OURS: "BETWEEN_S MANY STILL_S"},
    "gateway/gateway.py": {OURS: "PROGRESS_FROM"},
    "gateway/log_journal.py": {OURS: "SEND_S AGAIN_S"},
    "gateway/log_writer.py": {FILES: "QUEUE_MOST", OURS: "FOLD_S FOLD_FREE FOLD_KEYS CLOSE_S"},
    "gateway/housekeeping.py": {OURS: "RESCAN_S RECLAIM_S"},
    "gateway/ike_counts.py": {OURS: "WANTED_S"},
    "gateway/inspection.py": {STANDARD: "NS_PER_S"},
    "gateway/management.py": {OURS: "ANY_CLIENT_PORT PEERS_ASKED"},
    "gateway/live_capture.py": {OURS: "LOOK_S LAST_S", STANDARD: "NS_PER_S SNAP_MAX"},
    "gateway/messages.py": {STANDARD: "SCHEMA", FILES: "CONFIRM_MAX_S"},
    "gateway/notices.py": {OURS: "QUIET_S"},
    "gateway/privileges.py": {OURS: "TRIAL_S", STANDARD: "LOOP_DESCRIPTORS"},
    "gateway/readings.py": {OURS: "READING_S"},
    "gateway/reload.py": {OURS: "CLOSE_S"},
    "gateway/root_grants.py": {FILES: "CONFIGURATIONS_MAX"},
    "gateway/root_helper.py": {OURS: "CHANNELS_MAX"},
    "gateway/root_messages.py": {FILES: "ANSWER_OCTETS_MAX", STANDARD: "REQUEST_OCTETS_MAX"},
    "gateway/root_requests.py": {FILES: "ANSWER_S"},
    "gateway/second_line.py": {OURS: "LASTS_S"},
    "gateway/service_reports.py": {OURS: "STATUS_S STATUS_SHARE BEATS"},
    "gateway/status.py": {STANDARD: "SCHEMA"},
    "gateway/stream_event.py": {STANDARD: "SCHEMA"},
    "gateway/stopped.py": {SHOWN: "NAMED_MOST"},
    "gateway/trial_answer.py": {STANDARD: "SCHEMA"},
    "gateway/upgrade/answer.py": {OURS: "ATTEMPTS"},
    "gateway/upgrade/executable.py": {OURS: "ANSWER_S", STANDARD: "LINKS_MAX _SCRIPT_OCTETS"},
    "gateway/upgrade/giving.py": {OURS: "READY_S SEND_S CATCH_UP_S IDLE_S GOES_ON_S GOES_ON_EACH_S PIECE_S CHANGING_S GIVE_UP_S"},
    "gateway/upgrade/launch.py": {OURS: "END_S"},
    "gateway/upgrade/messages.py": {OURS: "MODEL", SHOWN: "TEXT_MAX"},
    "gateway/upgrade/configuration.py": {SHOWN: "NAMED_MOST"},
    "gateway/upgrade/sas.py": {OURS: "EXPORT_S", STANDARD: "NS_PER_S"},
    "gateway/upgrade/settling.py": {OURS: "STEP_S"},
    "gateway/upgrade/stream.py": {OURS: "FORM BODY_MAX DESCRIPTORS_MAX KIND_MAX ALIVE_S _AT_ONCE _PIECE", STANDARD: "_DIGEST"},
    "gateway/upgrade/taking.py": {
        OURS: "OFFER_S STATE_S IKE_S IKE_EACH_S SAY_S GONE_S",
        STANDARD: "NS_PER_MS",
        SHOWN: "NAMED_MOST",
    },
    "gateway/upgrade/waiting.py": {STANDARD: "NS_PER_S"},
    "gateway/verbs.py": {SHOWN: "NAMED_MOST COMPARED", FILES: "NAME_MOST"},
    "ike/actions.py": {STANDARD: "IKE_PORT NATT_PORT"},
    "ike/auth.py": {FILES: "STRONG_PSK _MAX_SECRET_FILE"},
    "ike/authenticated.py": {PEER: "KEPT TOLD"},
    "ike/certificate_rules.py": {STANDARD: "MIN_RSA_BITS"},
    "ike/certificates.py": {FILES: "MAX_FILE"},
    "ike/carried/damaged.py": {OURS: "NOWHERE"},
    "ike/carried/pieces.py": {OURS: "AT_ONCE"},
    "ike/carried/values.py": {OURS: "_SUITES _SELECTORS"},
    "ike/carried/envelope.py": {OURS: "_VERSION _LENGTH _DIGEST"},
    "ike/carried/model/__init__.py": {OURS: "MODEL"},
    "ike/core.py": {STANDARD: "_VERSION _IKEV1"},
    "ike/dh.py": {STANDARD: "_MODP_EXPONENT _X25519 _SPARE"},
    "ike/kem.py": {STANDARD: "_SEED"},
    "ike/identity.py": {OURS: "SHORT"},
    "ike/lifetimes.py": {
        OURS: "REKEY_TIME GRACE SWITCH_LOOK HINT_PATIENCE RETRY RETRY_LONGEST",
        PEER: "MOVE_EVERY ELSEWHERE_EVERY UNPROVEN",
    },
    "ike/later.py": {OURS: "AT_ONCE"},
    "ike/manager.py": {OURS: "LATEST"},
    "ike/modp.py": {STANDARD: "GENERATOR"},
    "ike/pieces.py": {STANDARD: "_UDP_HEADER _NON_ESP_MARKER"},
    "ike/silence.py": {OURS: "LONG HALF_OPEN_TOLD"},
    "ike/nat.py": {STANDARD: "NO_PORT"},
    "ike/peer.py": {OURS: "NAT_KEEPALIVE DEFAULT_DATAGRAM"},
    "ike/payload.py": {STANDARD: "SPI_OCTETS HEADER_OCTETS GENERIC_OCTETS UDP_MOST"},
    "ike/ppk.py": {STANDARD: "FIXED CONFIRMATION"},
    "ike/negotiation.py": {SHOWN: "_ODDITIES"},
    "ike/proposal.py": {SHOWN: "_SHOWN", STANDARD: "FIRST_SPI"},
    "ike/selector_index.py": {OURS: "FEW", STANDARD: "VERSION_SHIFT"},
    "ike/strangers.py": {OURS: "_SECRET"},
    "ike/survey.py": {OURS: "PAUSE PATIENCE TIMES DATAGRAMS_MOST"},
    "ike/timer_queue.py": {OURS: "STALE_LEAST"},
    "ike/traffic_selectors.py": {STANDARD: "ANY_PROTOCOL MAX_PORT", SHOWN: "_SHOWN"},
    "ike/retransmission.py": {OURS: "FIRST_WAIT BACK_OFF LONGEST_WAIT TRIES FAIL_OVER_TRIES TOLD_AFTER NO_UDP_AFTER"},
    "ike/v1/fragment.py": {STANDARD: "FRAGMENT_FIELDS LENGTH_AT _IDENTIFIERS"},
    "ike/v1/informational.py": {STANDARD: "_NUMBER"},
    "ike/v1/ipsec_sas.py": {OURS: "OVERLAP AFTER_MESSAGE_3 DELETES UNDER_WAY", STANDARD: "MOST_OCTETS"},
    "ike/v1/keymat.py": {STANDARD: "BLOCK"},
    "ike/v1/manager.py": {OURS: "LATEST"},
    "ike/v1/offers.py": {STANDARD: "MOST_TRANSFORMS DEFAULT_LIFE KILOBYTE", SHOWN: "_SHOWN _COMPARED"},
    "ike/v1/payloads.py": {STANDARD: "_MOST_HASH _LAST_FRAGMENT"},
    "ike/v1/peerings.py": {OURS: "LEAVE YOUNG WAIT"},
    "ike/v1/proxy.py": {SHOWN: "_SHOWN"},
    "ike/v1/proof.py": {STANDARD: "_CR_HEADER"},
    "ike/v1/quick_mode.py": {OURS: "REMEMBERED", PEER: "RESERVED_OF_PAIR"},
    "ike/v1/receiving.py": {PEER: "SEEN_MOST PRICE PRICE_OF_PFS"},
    "ike/v1/registry.py": {STANDARD: "AES_CBC_PHASE1"},
    "ike/v1/sa.py": {OURS: "NONCE"},
    "ike/v1/sa_payload.py": {STANDARD: "_MOST_SPI _NUMBER"},
    "ike/v1/survey.py": {OURS: "SUITES_MOST"},
    "ike/v1/transaction.py": {STANDARD: "_HEAD"},
    "ike/v1/upkeep.py": {OURS: "PROOF_LOOK LOOK_AGAIN ALIVE"},
    "ike/v1/words.py": {SHOWN: "SHOWN"},
    "ike/v1/wire.py": {
        STANDARD: "VERSION ESP_SPI DOI_IPSEC SITUATION_IDENTITY_ONLY KEY_IKE BASIC X509_SIGNATURE FIRST_STATUS MOST_PADDING"
    },
    "ike/v2/downgrades.py": {PEER: "REMEMBERED"},
    "ike/v2/child.py": {OURS: "MAX_OFFERED"},
    "ike/v2/child_create.py": {PEER: "MAX_ROUNDS"},
    "ike/v2/child_table.py": {OURS: "DUE_AT_ONCE"},
    "ike/v2/exchanges.py": {
        OURS: "REKEY_MESSAGE_ID",
        STANDARD: "LAST_MESSAGE_ID",
    },
    "ike/v2/expiry.py": {OURS: "KEEP"},
    "ike/v2/first_request.py": {STANDARD: "_SHA1"},
    "ike/v2/followup.py": {PEER: "PATIENCE", OURS: "LINK"},
    "ike/v2/fragment.py": {STANDARD: "_FRAGMENT_FIELDS"},
    "ike/v2/ike_rekey.py": {PEER: "MAX_ROUNDS AWAIT_DELETE"},
    "ike/v2/keymat.py": {STANDARD: "_MAX_BLOCKS"},
    "ike/v2/lengths.py": {OURS: "REMEMBERED_S REMEMBERED"},
    "ike/v2/message.py": {STANDARD: "_EXCHANGE _FIRST_PAYLOAD _FLAGS"},
    "ike/v2/payloads.py": {STANDARD: "CERT_X509_SIGNATURE _EAP_HEADER"},
    "ike/v2/probe.py": {STANDARD: "PADDING_NOTIFY NOTIFY_OCTETS"},
    "ike/v2/prices.py": {PEER: "FRAGMENT OTHER SELECTOR SELECTOR_AND_PROXY_ID SPI"},
    "ike/v2/proof.py": {OURS: "LOOK AHEAD TRY SOON"},
    "ike/v2/protect.py": {STANDARD: "_CHACHA20"},
    "ike/v2/replacement.py": {PEER: "PATIENCE DOUBLED LEFT_AFTER"},
    "ike/v2/resources.py": {STANDARD: "FIRST", OURS: "SOON LOOK WATCH IDLE", PEER: "LENIENT"},
    "ike/v2/sa.py": {OURS: "NONCE_OCTETS"},
    "ike/v2/sa_payload.py": {STANDARD: "_LAST _MORE_PROPOSALS _MORE_TRANSFORMS", OURS: "REMEMBERED REMEMBERED_OCTETS _BUILT"},
    "ike/v2/session.py": {PEER: "LINGER"},
    "ike/v2/shorter.py": {OURS: "FROM"},
    "ike/v2/survey.py": {SHOWN: "VENDORS_MOST"},
    "ike/v2/tolerance.py": {SHOWN: "SHOWN NOTED", PEER: "COMPLAINTS_A_MINUTE"},
    "ike/v2/trace.py": {SHOWN: "SHOWN", OURS: "REMEMBERED"},
    "ike/v2/ts.py": {STANDARD: "TS_IPV4_ADDR_RANGE TS_IPV6_ADDR_RANGE _HEAD"},
    "ike/v2/sk_iv.py": {OURS: "EPOCH_BITS COUNTER_BITS FIRST_OF_NEXT"},
    "ike/v2/wire.py": {
        STANDARD: "FIRST_STATUS_NOTIFY CRITICAL MAJOR_VERSION KEY_LENGTH_ATTRIBUTE ATTRIBUTE_TV "
        "ESP_SPI CA_HASH MIN_NONCE MAX_NONCE MAX_COOKIE",
        OURS: "MAX_SELECTORS",
    },
    "ike/trial.py": {OURS: "PAIRS_TRIED FIRST_WAIT", SHOWN: "TOLD_MOST"},
    "ike/version_choice.py": {OURS: "APART PATIENCE"},
    "ike/wanted.py": {OURS: "SOON AGAIN_EVERY ASKED", PEER: "THEIR_TURN PATIENCE MAX_DELAYS", SHOWN: "SHOWN"},
    "keying/calls.py": {OURS: "TICK_S CALLS_AT_ONCE CALL_FRESH_S ADDRESSES_KEPT"},
    "keying/child_installer.py": {STANDARD: "NS_PER_S"},
    "keying/ike_trace.py": {OURS: "LINES_A_SECOND"},
    "keying/ike_trials.py": {OURS: "REMOTES_MOST"},
    "keying/encapsulations.py": {OURS: "ANEW_S SOON_S"},
    "keying/initiation.py": {OURS: "BACKOFF_FIRST_S BACKOFF_MAX_S JITTER SOON_S"},
    "keying/key_log.py": {OURS: "RECENT AGAIN_S"},
    "keying/manual.py": {OURS: "SOFT_PART"},
    "keying/trial_attempt.py": {SHOWN: "LINES_MOST"},
}


def is_number(value: ast.expr | None, known: set[str]) -> bool:
    """A literal, or what is computed of literals and of numbers before it."""
    if isinstance(value, ast.BinOp):
        return is_number(value.left, known) and is_number(value.right, known)
    if isinstance(value, ast.UnaryOp):
        return is_number(value.operand, known)
    if isinstance(value, ast.Name):
        return value.id in known
    return isinstance(value, ast.Constant) and type(value.value) in (int, float)


def numbers(path: Path) -> set[str]:
    """Names of the numbers that a module has, outside of functions and classes."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and is_number(node.value, found):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and is_number(node.value, found):
            found.add(node.target.id)
    return found


def test_every_number_has_an_owner():
    found = {
        path.relative_to(PACKAGE).as_posix(): names
        for room in ROOMS
        for path in sorted((PACKAGE / room).rglob("*.py"))
        if (names := numbers(path))
    }
    assert found == {module: set(" ".join(owners.values()).split()) for module, owners in OWNERS.items()}


def test_each_limit_of_strangers_is_used_and_by_its_name():
    """A field that nobody reads bounds nothing."""
    text = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    assert [name for name in LIMITS.__slots__ if f"LIMITS.{name}" not in text and f"limits.{name}" not in text] == []


def test_the_data_plane_takes_its_limits_on_strangers_from_there():
    composed = (PACKAGE / "gateway" / "composition.py").read_text()
    assert "stranger_rate=LIMITS.datagrams_a_second" in composed
    assert "stranger_burst=LIMITS.datagrams_at_once" in composed
