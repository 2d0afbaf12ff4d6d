"""What swanctl.conf and strongSwan's ipsec.conf have in common: identities, times, proposals with strongSwan's defaults."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ipsec_dp.config.quantities import parse_address, parse_identity, parse_remote
from ipsec_dp.errors import BadValueError
from ipsec_dp.ike.certificates import CertificateError, load_certificates
from ipsec_dp.ike.distinguished_names import text_of
from ipsec_dp.ike.proposal import parse_esp, parse_ike
from ipsec_dp.migrate import algorithms, reasons
from ipsec_dp.migrate.algorithms import Translated
from ipsec_dp.migrate.secrets_of import ANYBODY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ipsec_dp.ike.proposal import Proposal
    from ipsec_dp.migrate.draft import FileDraft, SourceText, TunnelDraft

DEFAULT: Final = "strongSwan's default"
WINDOWS: Final = tuple(2**bits for bits in range(6, 14))  # that [tunnel.esp] replay_window takes
FROM_ELSEWHERE: Final = ("%fromcert", "%none", "%null", "%defaultroute")  # the certificate or the address says it
_TIME: Final = re.compile(r"([0-9]{1,9})\s*([smhd]?)")
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_PREFIXES: Final = {"@#": "keyid:0x", "@@": "email:", "@~": "dn:0x", "ipv4:": "", "ipv6:": "", "userfqdn:": "email:"}


def seconds_of(value: SourceText, draft: FileDraft, default: int) -> int:
    """A time as strongSwan and Libreswan write it. One that is none is a remark, and the default stands."""
    match = _TIME.fullmatch(value.text.strip())
    if match is None:
        draft.left_out(value.at, value.text, f"is no time; {default}s stands")
        return default
    return int(match[1]) * _SECONDS[match[2]]


def duration(seconds: int) -> str:
    """A time as our file has it."""
    for unit in ("h", "m"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{seconds // _SECONDS[unit]}{unit}"
    return f"{seconds}s"


def put_lifetime(tunnel: TunnelDraft, table: str, rekey: int, lifetime: int, comment: str = "") -> None:
    """When new keys are made, and when the old ones end at the latest."""
    if rekey <= 0 and lifetime <= 0:
        tunnel.withhold(f"{table}: the source never makes new keys; here every key has an end: write {table}.lifetime")
        return
    tunnel.put(f"{table}.lifetime", duration(lifetime or rekey), comment)
    if 0 < rekey < (lifetime or rekey):
        tunnel.put(f"{table}.rekey_after", duration(rekey), comment)


def identity(text: str) -> str:
    """An identity in our words; `BadValueError` for a pattern, or what is none."""
    stripped = text.strip()
    for prefix, ours in _PREFIXES.items():
        if stripped.lower().startswith(prefix):
            rest = stripped[len(prefix) :]
            return str(parse_identity(rest if not ours else ours + rest))
    if stripped.startswith("@[") and stripped.endswith("]"):
        return str(parse_identity(f"keyid:{stripped[2:-1]}"))
    if stripped.startswith("%"):  # who it is does not have to stand in the certificate
        stripped = stripped[1:] if stripped.lower() not in ANYBODY else stripped
    return str(parse_identity(stripped))


def put_identity(tunnel: TunnelDraft, draft: FileDraft, key: str, value: SourceText | None) -> None:
    """`auth.local_id` or `auth.remote_id`; a pattern withholds the tunnel, since nobody fits one here."""
    if value is None or value.text.strip().lower() in (*ANYBODY, *FROM_ELSEWHERE, ""):
        return
    try:
        tunnel.put(f"auth.{key}", identity(value.text))
    except BadValueError as error:
        draft.left_out(value.at, value.text, f"{error.wrong}; {error.right}")
        tunnel.withhold(f"line {value.at.line}: auth.{key}: {error.wrong}")


def put_subject(tunnel: TunnelDraft, key: str, certificate: Path) -> None:
    """Who a side is that names nothing but its certificate: its subject."""
    if f"auth.{key}" in tunnel.settings:
        return
    try:
        subject = load_certificates(certificate)[0].subject.public_bytes()
    except (CertificateError, OSError, ValueError):
        return  # `check` says what is wrong with the file
    tunnel.put(f"auth.{key}", str(parse_identity(text_of(subject))), "the subject of the certificate")


def put_remote(tunnel: TunnelDraft, draft: FileDraft, values: Sequence[str], at: SourceText) -> None:
    """`remote`: addresses and names in turn, or "any"; ranges are nobody's address."""
    found: list[str] = []
    for text in values:
        word = text.strip()
        if word.lower() in ANYBODY:
            found = ["any"]
            break
        try:
            found.append(str(parse_remote(word)))
        except BadValueError as error:
            draft.left_out(at.at, word, f"{error.wrong}; {error.right}")
            tunnel.withhold(f"line {at.at.line}: remote: {error.wrong}")
    tunnel.put("remote", (found[0] if len(found) == 1 else tuple(found)) if found else "any")
    if found == ["any"] and len(values) > 1:
        draft.note(at.at, ", ".join(values), 'remote = "any" is who may call; the other addresses are not called')


def put_local(tunnel: TunnelDraft, draft: FileDraft, value: SourceText) -> None:
    """`local`, where it is one address; else it follows the route to the peer."""
    words = [word.strip() for word in value.text.split(",") if word.strip()]
    if not words or any(word.lower() in ANYBODY or word.startswith("%") for word in words):
        return
    try:
        if len(words) > 1:
            raise BadValueError(f"{len(words)} addresses", "")
        tunnel.put("local", str(parse_address(words[0])))
    except BadValueError as error:
        draft.note(value.at, value.text, f"{error.wrong}: not taken, so our address follows the route to the peer")


def put_proposals(tunnel: TunnelDraft, draft: FileDraft, table: str, value: SourceText | None, *, adds: bool = False) -> None:
    """The proposals of [tunnel.ike] or [tunnel.esp]. `adds`: strongSwan's default follows (ipsec.conf without "!")."""
    parse: Callable[..., tuple[Proposal, ...]] = parse_ike if table == "ike" else parse_esp
    made = algorithms.of_strongswan("default" if value is None else value.text, parse)
    comment = DEFAULT if value is None or made.named_default else ""
    if value is not None and adds and not value.text.rstrip().endswith("!"):
        default = algorithms.of_strongswan("default", parse)
        made = Translated(tuple(dict.fromkeys((*made.proposals, *default.proposals))), made.lost, made.legacy)
        comment = "with strongSwan's default behind it, as it does without !"
    put_translated(tunnel, draft, table, made, value, comment)


def put_translated(
    tunnel: TunnelDraft, draft: FileDraft, table: str, made: Translated, value: SourceText | None, comment: str
) -> None:
    """Proposals with what of them was left out; none at all withholds the tunnel."""
    at = tunnel.origin if value is None else value.at
    for lost in made.lost:
        draft.left_out(at, f"{table}.proposals", lost)
    version = tunnel.settings.get("ike.version")
    proposals = made.proposals
    if version is not None and version.value == "1":
        proposals = algorithms.for_ikev1(proposals, ike=table == "ike")
    if not proposals:
        tunnel.withhold(f"line {at.line}: {table}.proposals: nothing of the source's is here")
        return
    tunnel.put(f"{table}.proposals", proposals, comment)
    if made.legacy:
        tunnel.put("legacy", True, algorithms.LEGACY)
        draft.note(at, f"{table}.proposals", f"legacy = true: {algorithms.LEGACY}")


def put_window(tunnel: TunnelDraft, draft: FileDraft, value: SourceText | None, default: int, whose: str) -> None:
    """`esp.replay_window`: the next larger one that there is."""
    text = str(default) if value is None else value.text.strip()
    at = tunnel.origin if value is None else value.at
    wanted = int(text) if text.isdecimal() and len(text) < 9 else default
    if wanted == 0:
        draft.left_out(at, "replay_window = 0", "the anti-replay window cannot be switched off")
    window = next((size for size in WINDOWS if size >= wanted), WINDOWS[-1])
    tunnel.put("esp.replay_window", window, f"{whose}: {default}" if value is None else "" if window == wanted else f"for {wanted}")


def authentication(ours: str, theirs: str) -> tuple[str, str]:
    """ "psk" or "certificate" from what both sides do in strongSwan's words, or "" and why there is none."""
    kinds = {_kind(ours), _kind(theirs)}
    for word in (ours, theirs):
        lower = word.lower()
        if lower.startswith("eap"):
            return "", reasons.EAP
        if "xauth" in lower:
            return "", reasons.XAUTH
    if len(kinds) > 1:
        return "", f"one side authenticates by {ours} and the other by {theirs}; here both do it by the same"
    kind = kinds.pop()
    return (kind, "") if kind else ("", f'authentication "{ours}" is not known here')


def _kind(word: str) -> str:
    lower = word.lower()
    if lower in ("psk", "secret"):
        return "psk"
    known = ("pubkey", "rsa", "ecdsa", "ed25519", "ed448", "rsasig", "ike:", "ecdsasig", "eddsa")
    return "certificate" if lower.startswith(known) or lower == "" else ""
