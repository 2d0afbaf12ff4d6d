"""What a tunnel that is to speak IKEv1 cannot have, told by name; IKEv1 is loaded for such a tunnel alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from ipsec_dp.config import model
from ipsec_dp.config.check import tunnel_place
from ipsec_dp.ike import certificates
from ipsec_dp.ike.auth import SecretError
from ipsec_dp.ike.proposal import DEFAULT_ESP, DEFAULT_IKE, ProposalError, parse_esp, parse_ike
from ipsec_dp.ike.traffic_selectors import proxy_id_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ipsec_dp.config import tables
    from ipsec_dp.config.findings import Findings, Place
    from ipsec_dp.ike.proposal import Proposal

PREFERRED: Final = "2-preferred"
# Keys of [tunnel.ike] that nothing may fall behind, the value that says so, and why.
NOT_WITH_PREFERRED: Final[tuple[tuple[str, str, str], ...]] = ()


def phase1_texts(table: tables.Ike) -> tuple[str, ...]:
    """The proposals as written, or the version's own where none are."""
    if table.version != "1" or table.proposals != DEFAULT_IKE:
        return table.proposals
    from ipsec_dp.ike.v1.registry import DEFAULT_PHASE1

    return DEFAULT_PHASE1


def phase2_texts(table: tables.Esp, version: str) -> tuple[str, ...]:
    """The same for ESP."""
    if version != "1" or table.proposals != DEFAULT_ESP:
        return table.proposals
    from ipsec_dp.ike.v1.registry import DEFAULT_PHASE2

    return DEFAULT_PHASE2


def ikev1_phase1(table: tables.Ike, legacy: bool) -> tuple[Proposal, ...]:
    """What a tunnel offers that falls to IKEv1: its proposals, as far as that has numbers for them; empty where it may not fall, or
    one of them is none."""
    if table.version != PREFERRED:
        return ()
    return _parsed(parse_ike, phase1_texts(msgspec.structs.replace(table, version="1")), legacy)


def ikev1_phase2(table: tables.Esp, version: str, legacy: bool) -> tuple[Proposal, ...]:
    """The same for ESP."""
    return _parsed(parse_esp, phase2_texts(table, "1"), legacy) if version == PREFERRED else ()


def _parsed(parse: Callable[..., tuple[Proposal, ...]], texts: tuple[str, ...], legacy: bool) -> tuple[Proposal, ...]:
    try:
        return parse(texts, legacy=legacy)
    except ProposalError:
        return ()  # it is told where the proposals are looked at


def check_preferred(tunnel: model.Tunnel, table: tables.Tunnel, place: Place) -> None:
    """What a tunnel cannot have that may fall to IKEv1."""
    if table.ike.version != PREFERRED or tunnel.manual is not None:
        return
    from ipsec_dp.ike.v1.registry import suites_phase1, suites_phase2

    for key, refused, why in NOT_WITH_PREFERRED:
        if getattr(table.ike, key) == refused:
            place.error("ike.version", f'"{PREFERRED}" with {key} = "{refused}": {why}', 'write version = "2"')
    if not tunnel.remotes:
        wrong = f'"{PREFERRED}" takes IKEv1 from the addresses of its peer alone, and remote = "any" has none'
        place.error("ike.version", wrong, 'name the peer\'s address, or write version = "2"')
    for key, proposals, found, example in (
        ("ike.proposals", tunnel.ike.ikev1_proposals, suites_phase1(tunnel.ike.ikev1_proposals), "aes256-sha256-modp2048"),
        ("esp.proposals", tunnel.esp.ikev1_proposals, suites_phase2(tunnel.esp.ikev1_proposals), "aes256-sha256"),
    ):
        if proposals and not found:
            wrong = "IKEv1 has numbers for none of them, so that the tunnel could not fall to it"
            place.error(key, wrong, f'add e.g. "{example}", or write version = "2"')
    _check_proxy_ids(tunnel, place)
    _check_auth(tunnel, place)


def check_ikev1(tunnel: model.Tunnel, table: tables.Tunnel, given: Mapping[str, Any], place: Place) -> None:
    """Everything that IKEv1 has not, or cannot say."""
    check_preferred(tunnel, table, place)
    if tunnel.ike.version == 2 or tunnel.manual is not None:
        return
    from ipsec_dp.ike.v1.registry import refusals_phase1, refusals_phase2

    for sentence in refusals_phase1(tunnel.ike.proposals):
        place.error("ike.proposals", sentence, 'write e.g. "aes256-sha256-modp2048", or version = "2"')
    for sentence in refusals_phase2(tunnel.esp.proposals):
        place.error("esp.proposals", sentence, 'write e.g. "aes256gcm16" or "aes256-sha256-modp2048", or version = "2"')
    _check_proxy_ids(tunnel, place)
    _check_auth(tunnel, place)
    written = given.get("ike")
    if isinstance(written, dict) and "fragment_size" in written:
        place.warn("ike.fragment_size", "has no meaning in IKEv1, whose messages are not sent in fragments here", "leave it out")
    if not table.remote or table.remote == "any":
        place.warn(
            "ike.version",
            'IKEv1 with remote = "any" chooses a shared key before it knows the peer\'s identity',
            "use certificates, or one shared key for all who may come from anywhere",
        )


def _check_proxy_ids(tunnel: model.Tunnel, place: Place) -> None:
    from ipsec_dp.ike.v1.proxy import is_expressible

    for number, selector in enumerate(tunnel.proxy_ids, 1):
        if not is_expressible(proxy_id_of(selector)):
            wrong = "IKEv1 can say any port or one, and no ICMP types, ranges of ports or later fragments alone"
            place.error(f"proxy_id #{number}", wrong, 'leave it out, write one port, or version = "2"')


def _check_auth(tunnel: model.Tunnel, place: Place) -> None:
    auth = tunnel.auth
    if auth is None:
        return
    if auth.unique == "keep":
        wrong = '"keep" would refuse the renewal of phase 1, which in IKEv1 is another main mode of the same two identities'
        place.error("auth.unique", wrong, 'write "replace" or "never", or version = "2"')
    if isinstance(auth, model.CertificateAuth):
        from ipsec_dp.ike.v1.proof import method_of_key

        try:
            key = certificates.load_private_key(auth.private_key)
        except SecretError:
            return  # it is told where the key is looked at
        if method_of_key(key) is None:
            wrong = "IKEv1 has signatures by RSA, and by ECDSA with P-256, P-384 or P-521, and no others"
            place.error("auth.private_key", wrong, 'use such a key and certificate, or version = "2"')


def check_secrets(tunnels: Sequence[model.Tunnel], findings: Findings) -> None:
    """Main mode chooses the secret by the peer's address alone: two tunnels to one address cannot have two of them."""
    found: dict[object, model.Tunnel] = {}
    for tunnel in tunnels:
        if (tunnel.ike.version == 2 and not tunnel.ike.prefers_ikev2) or not isinstance(tunnel.auth, model.PskAuth):
            continue
        for where in tunnel.remotes or (None,):
            other = found.setdefault((tunnel.local, where), tunnel)
            if isinstance(other.auth, model.PskAuth) and other.auth.material != tunnel.auth.material:
                wrong = f'is another secret than that of tunnel "{other.name}", and IKEv1 chooses it by the peer\'s address'
                findings.at(tunnel_place(tunnel.name)).error(
                    "auth.psk_file", wrong, 'write the same secret, use certificates, or version = "2"'
                )
                break
