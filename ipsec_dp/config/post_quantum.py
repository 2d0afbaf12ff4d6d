"""Post-quantum preshared keys of a tunnel, and whether `post_quantum = "required"` can be had with what is configured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipsec_dp.config import model
from ipsec_dp.ike.post_quantum import assured
from ipsec_dp.ike.ppk import ppk_id
from ipsec_dp.ike.proposal import DEFAULT_IKE, ProposalError, default_ike, parse_ike
from ipsec_dp.ike.strangers import LIMITS

if TYPE_CHECKING:
    from pathlib import Path

    from ipsec_dp.config import tables
    from ipsec_dp.config.findings import Place
    from ipsec_dp.config.named_files import NamedFiles

PPK_OCTETS: Final = 32  # at the least: a quantum computer halves the bits (RFC 8784 §6), and RFC 9867 shows a digest to strangers
ID_OCTETS: Final = 255  # of an identity at the most
_SHORT: Final = (
    f"{PPK_OCTETS} are the least: whoever answers our call sees, before he has proven who he is, a digest by which he can try "
    "offline which PPK it was (RFC 9867)"
)


def resolve_ppks(auth: tables.Auth, below: Place, named_files: NamedFiles) -> tuple[model.Ppk, ...]:
    """All that a tunnel has, that of `ppk_id` first; without those that something is wrong with, which is reported."""
    if (auth.ppk_id is None) != (auth.ppk_file is None):
        missing = "ppk_file" if auth.ppk_file is None else "ppk_id"
        below.error(missing, "is missing", "ppk_id and ppk_file belong together")
        return ()
    if auth.ppk_id is None and (auth.other_ppk or auth.ppk is not None):
        key = "other_ppk" if auth.other_ppk else "ppk"
        below.error(key, "stands without ppk_id", "write ppk_id and ppk_file besides, or leave it out")
        return ()
    pairs = [(auth.ppk_id, auth.ppk_file, below)]
    pairs += [(one.ppk_id, one.ppk_file, below.below(f"other_ppk #{at}")) for at, one in enumerate(auth.other_ppk, 1)]
    found: dict[bytes, model.Ppk] = {}
    for name, file, place in pairs:
        if name is None or file is None:
            continue
        octets = _check_id(name, place)
        if octets in found:
            place.error("ppk_id", f"{name} is listed twice", "give each PPK a name of its own")
        elif octets is not None:
            path = named_files.base / file
            found[octets] = model.Ppk(id=name, file=path, material=_check_ppk(path, place, named_files))
    if len(found) > LIMITS.ppks:
        below.error("other_ppk", f"makes {len(found)} PPKs", f"a peer is offered {LIMITS.ppks} at the most")
    return tuple(found.values())


def _check_id(name: str, place: Place) -> bytes | None:
    try:
        octets = ppk_id(name)
    except ValueError:
        place.error("ppk_id", f"{name!r} is no name of a PPK", "write one, or its octets as 0x and hexadecimal digits")
        return None
    if len(octets) > ID_OCTETS:
        place.error("ppk_id", f"has {len(octets)} octets", f"write {ID_OCTETS} at the most")
        return None
    return octets


def _check_ppk(path: Path, place: Place, named_files: NamedFiles) -> bytes:
    """The fingerprint of a PPK."""
    found = named_files.secret(path)
    if found.unread is not None:
        place.error("ppk_file", *found.unread)
        return b""
    if found.wrong is not None:
        right = "write 32 octets or more, e.g. from: openssl rand -hex 32, with 0x before them"
        place.error("ppk_file", f"{path}: {found.wrong}", right)
        return found.fingerprint
    for wrong, right in found.remarks:
        place.warn("ppk_file", f"{path} {wrong}", right)
    if found.octets < PPK_OCTETS:
        short = f"{path} holds {found.octets} octets; {_SHORT}"
        place.error("ppk_file", short, "take e.g. 0x and the digits from: openssl rand -hex 32")
    return found.fingerprint


def offers(table: tables.Ike, texts: tuple[str, ...], legacy: bool) -> tuple[str, ...]:
    """The proposals of a tunnel: of the default ones those that this host can fulfil, and that fulfil what it demands, if there
    are any."""
    if table.version == "1" or table.proposals != DEFAULT_IKE:
        return texts
    texts = default_ike()
    return (tuple(text for text in texts if _assured(text, legacy)) if table.post_quantum == "required" else ()) or texts


def _assured(text: str, legacy: bool) -> bool:
    try:
        return all(map(assured, parse_ike((text,), legacy=legacy)))
    except ProposalError:
        return True  # it is told where the proposals are looked at


def check_post_quantum(tunnel: model.Tunnel, table: tables.Tunnel, place: Place) -> None:
    """Reports what cannot fulfil `post_quantum = "required"`, and PPKs where IKEv1 has none."""
    auth = tunnel.auth
    has_ppks = auth is not None and bool(auth.ppks)
    if table.ike.version == "1":
        if has_ppks:
            place.error("auth.ppk_id", "IKEv1 has no PPKs", 'leave it out, or write version = "2"')
        if table.ike.post_quantum == "required":
            wrong = '"required": IKEv1 has no key exchange that a quantum computer does not break'
            place.error("ike.post_quantum", wrong, 'leave it out, or write version = "2"')
        return
    if table.ike.post_quantum != "required" or tunnel.manual is not None or has_ppks:
        return
    for text in offers(table.ike, table.ike.proposals, tunnel.legacy):
        if not _assured(text, tunnel.legacy):
            wrong = f'"{text}" can be agreed on without ML-KEM, and post_quantum = "required" without a PPK (ppk_id)'
            right = "add ke1_mlkem768 without ke1_none, take it out, or give the tunnel a PPK that the peer has by RFC 9867"
            place.error("ike.proposals", wrong, right)
