"""What a tunnel that is to speak IKEv1 cannot have, told by name; IKEv1 is loaded for such a tunnel alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.config import model
from ipsec_dp.config.check import tunnel_place
from ipsec_dp.ike.proposal import DEFAULT_ESP, DEFAULT_IKE
from ipsec_dp.ike.traffic_selectors import proxy_id_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipsec_dp.config import tables
    from ipsec_dp.config.findings import Findings, Place
    from ipsec_dp.config.named_files import NamedFiles

AGGRESSIVE_OCTETS = 32  # of a shared key: as many as make guessing hopeless, whatever they are made of


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


def check_ikev1(tunnel: model.Tunnel, table: tables.Tunnel, place: Place, named_files: NamedFiles) -> None:
    """Everything that IKEv1 has not, or cannot say."""
    _check_mode(tunnel, table, place)
    if tunnel.ike.version == 2 or tunnel.manual is not None:
        return
    from ipsec_dp.ike.v1.registry import refusals_phase1, refusals_phase2

    for sentence in refusals_phase1(tunnel.ike.proposals):
        place.error("ike.proposals", sentence, 'write e.g. "aes256-sha256-modp2048", or version = "2"')
    for sentence in refusals_phase2(tunnel.esp.proposals):
        place.error("esp.proposals", sentence, 'write e.g. "aes256gcm16" or "aes256-sha256-modp2048", or version = "2"')
    check_proxy_ids(tunnel, place)
    check_auth(tunnel, place, named_files)
    if not table.remote or table.remote == "any":
        place.warn(
            "ike.version",
            'IKEv1 with remote = "any" chooses a shared key before it knows the peer\'s identity',
            "use certificates, or one shared key for all who may come from anywhere",
        )


def aggressive_risk(tunnel: model.Tunnel) -> str | None:
    """What a tunnel gives away by the mode of its phase 1; None: nothing."""
    if tunnel.ike.mode != "aggressive":
        return None
    clear = "aggressive mode says in clear who both sides are"
    guess = ", and whoever begins it, or listens, can try offline which shared key it was: no secret that a person thought of holds"
    return clear + (guess if isinstance(tunnel.auth, model.PskAuth) else "")


def _check_mode(tunnel: model.Tunnel, table: tables.Tunnel, place: Place) -> None:
    """Aggressive mode computes, and proves who we are, for whoever asks from the peer's address: there must be one."""
    risk = aggressive_risk(tunnel)
    if risk is None:
        return
    if table.ike.version != "1":
        wrong = f'aggressive mode is IKEv1\'s, and version is "{table.ike.version}"'
        place.error("ike.mode", wrong, 'write version = "1", or leave mode out')
        return
    place.warn("ike.mode", risk, 'write mode = "main" where the peer takes it, else certificates instead of a shared key')
    if not tunnel.remotes or any(isinstance(remote, str) for remote in tunnel.remotes):
        wrong = "aggressive mode answers nobody but configured addresses, and remote has others than addresses"
        place.error("ike.mode", wrong, 'write the addresses of the peer as remote, or mode = "main"')
    auth = tunnel.auth
    if isinstance(auth, model.PskAuth) and 0 < auth.octets < AGGRESSIVE_OCTETS:
        holds = f"{auth.psk_file} holds {auth.octets} octets, {AGGRESSIVE_OCTETS} are the least"
        wrong = f"{holds} where aggressive mode lets a secret be guessed offline"
        place.error("auth.psk_file", wrong, 'take e.g.: openssl rand -base64 32, or write mode = "main"')


def check_proxy_ids(tunnel: model.Tunnel, place: Place) -> None:
    """Whether IKEv1 can say them."""
    from ipsec_dp.ike.v1.proxy import is_expressible

    for number, selector in enumerate(tunnel.proxy_ids, 1):
        if not is_expressible(proxy_id_of(selector)):
            wrong = "IKEv1 can say any port or one, and no ICMP types, ranges of ports or later fragments alone"
            place.error(f"proxy_id #{number}", wrong, 'leave it out, write one port, or version = "2"')


def check_auth(tunnel: model.Tunnel, place: Place, named_files: NamedFiles) -> None:
    """Whether both sides can prove by IKEv1 who they are."""
    auth = tunnel.auth
    if auth is None:
        return
    if auth.unique == "keep":
        wrong = '"keep" would refuse the renewal of phase 1, which in IKEv1 is another main mode of the same two identities'
        place.error("auth.unique", wrong, 'write "replace" or "never", or version = "2"')
    if isinstance(auth, model.CertificateAuth):
        from ipsec_dp.ike.v1.proof import method_of_octets

        public = named_files.private_key(auth.private_key).public
        if public and method_of_octets(public) is None:  # one that cannot be read is told where the key is looked at
            wrong = "IKEv1 has signatures by RSA, and by ECDSA with P-256, P-384 or P-521, and no others"
            place.error("auth.private_key", wrong, 'use such a key and certificate, or version = "2"')


def check_secrets(tunnels: Sequence[model.Tunnel], findings: Findings) -> None:
    """Main mode chooses the secret by the peer's address alone: two tunnels to one address cannot have two of them. Aggressive mode
    chooses it by the identity."""
    found: dict[object, model.Tunnel] = {}
    for tunnel in tunnels:
        speaks = tunnel.ike.version == 1 or tunnel.ike.prefers_ikev2
        if not speaks or tunnel.ike.mode == "aggressive" or not isinstance(tunnel.auth, model.PskAuth):
            continue
        for where in tunnel.remotes or (None,):
            other = found.setdefault((tunnel.local, where), tunnel)
            if isinstance(other.auth, model.PskAuth) and other.auth.material != tunnel.auth.material:
                wrong = f'is another secret than that of tunnel "{other.name}", and IKEv1 chooses it by the peer\'s address'
                findings.at(tunnel_place(tunnel.name)).error(
                    "auth.psk_file", wrong, 'write the same secret, use certificates, or version = "2"'
                )
                break
