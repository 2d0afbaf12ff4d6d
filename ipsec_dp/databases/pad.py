"""The peer authorization database (RFC 4301 §4.4.3): who a tunnel's peer is, how it proves that, and what it may ask for."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Final, Self, TypeVar

from ipsec_dp.config import files
from ipsec_dp.config.file_keys import PUBLIC, SECRETS
from ipsec_dp.config.model import PskAuth
from ipsec_dp.ike.actions import NATT_PORT
from ipsec_dp.ike.auth import PreSharedKey, SecretError
from ipsec_dp.ike.certificates import Credential, Revocation, Trust, load_certificates, load_crl
from ipsec_dp.ike.identity import Identity
from ipsec_dp.ike.peer import Life, Liveness, Peer, SharedKeyAuth, SignatureAuth, Unique
from ipsec_dp.ike.ppk import Ppk, ppk_id
from ipsec_dp.ike.proposal import by_default
from ipsec_dp.ike.proxy_ids import ProxyIds
from ipsec_dp.ike.traffic_selectors import proxy_id_of
from ipsec_dp.ipsec.selectors import ANY_IPV4
from ipsec_dp.util.opening import Ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from cryptography.x509 import Certificate, CertificateRevocationList

    from ipsec_dp.config.model import CertificateAuth, Config, Tunnel
    from ipsec_dp.ipsec.addresses import Address
    from ipsec_dp.ipsec.selectors import SelectorPair

K = TypeVar("K")
V = TypeVar("V")
ALIKE_MOST: Final = 16_384  # CHILD_SAs of all tunnels together that there may be for several workers


class KeyFiles:
    """What files of keys hold, each read once however many tunnels name it. Nobody keeps it: it has secrets. A context manager,
    where `tunnels` are given, whose peers are made in this order."""

    def __init__(self, tunnels: Iterable[Tunnel] = ()) -> None:
        peers = tuple(tunnel for tunnel in tunnels if tunnel.auth is not None)
        self._secrets = Ahead(os.path.abspath(path) for tunnel in peers for path in SECRETS.of(tunnel))
        self._public = Ahead(os.path.abspath(path) for tunnel in peers for path in PUBLIC.of(tunnel))
        self._keys: dict[Path, PreSharedKey] = {}
        self._credentials: dict[tuple[Path, Path], Credential] = {}
        self._authorities: dict[Path, tuple[Certificate, ...]] = {}
        self._crls: dict[Path, CertificateRevocationList] = {}
        self._trusts: dict[object, Trust] = {}
        self._signatures: dict[object, SignatureAuth] = {}

    def shared_key(self, path: Path) -> PreSharedKey:
        """As `check` has read it. Raises SecretError, BadValueError."""
        if path not in self._keys:
            self._keys[path] = _shared_key(path, self._secrets)
        return self._keys[path]

    def signature_auth(self, auth: CertificateAuth, *, sha1: bool) -> SignatureAuth:
        """Raises SecretError, CertificateError."""
        read = auth.certificate, auth.private_key, auth.ca, auth.crl, auth.revocation, sha1
        if read not in self._signatures:
            credential = _once(self._credentials, (auth.certificate, auth.private_key), self._credential)
            self._signatures[read] = SignatureAuth(credential, self._trust(auth), sha1)
        return self._signatures[read]

    def _credential(self, named: tuple[Path, Path]) -> Credential:
        return Credential.from_files(*named, self._public, self._secrets)

    def _trust(self, auth: CertificateAuth) -> Trust:
        """The same for all that believe the same, as their authorities are, and CRLs, which may be large."""
        read = auth.ca, auth.crl, auth.revocation
        if read not in self._trusts:
            authorities = [_once(self._authorities, path, partial(load_certificates, ahead=self._public)) for path in auth.ca]
            crls = tuple(_once(self._crls, path, partial(load_crl, ahead=self._public)) for path in auth.crl)
            self._trusts[read] = Trust(tuple(chain.from_iterable(authorities)), crls, Revocation(auth.revocation))
        return self._trusts[read]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._secrets.close()
        self._public.close()


def resources_of(config: Config) -> int:
    """How many CHILD_SAs with the same selectors a tunnel may have: one for each worker (RFC 9611). Fewer where there are very many
    tunnels, so that SPIs are left to all."""
    return max(min(config.workers, ALIKE_MOST // max(len(config.tunnels), 1)), 1)


def peer_of(
    tunnel: Tunnel, remotes: tuple[Address, ...] | None = None, files_read: KeyFiles | None = None, resources: int = 1
) -> Peer:
    """The peer of a tunnel that has [tunnel.auth]; reads its key files, but for those of `files_read`. `remotes`: its addresses,
    those of DNS names among them. `resources`: as `resources_of` has it.

    Raises SecretError, CertificateError, IdentityError or BadValueError for what cannot be used, ValueError under
    manual keys.
    """
    if tunnel.auth is None:
        raise ValueError(f"tunnel {tunnel.name} has no [tunnel.auth]")
    addresses = tuple(remote for remote in tunnel.remotes if not isinstance(remote, str))
    known = KeyFiles() if files_read is None else files_read
    peer = Peer(
        tunnel=tunnel.name,
        auth=SharedKeyAuth(known.shared_key(tunnel.auth.psk_file))
        if isinstance(tunnel.auth, PskAuth)
        else known.signature_auth(tunnel.auth, sha1=tunnel.legacy),
        ike_proposals=tunnel.ike.proposals,
        esp_proposals=tunnel.esp.proposals,
        proxy_ids=ProxyIds(map(proxy_id_of, _selectors(tunnel, tunnel.ike.version))),
        version=tunnel.ike.version,
        mode=tunnel.ike.mode,
        local=tunnel.local,
        remotes=addresses if remotes is None else remotes,
        named=bool(tunnel.names),
        local_id=_identity(tunnel.auth.local_id),
        remote_id=_identity(tunnel.auth.remote_id),
        ike_life=Life(float(tunnel.ike.lifetime_s), tunnel.ike.rekey_after_s or None),
        child_life=Life(
            float(tunnel.esp.lifetime_s),
            tunnel.esp.rekey_after_s or None,
            octets=tunnel.esp.life_octets,
            packets=tunnel.esp.life_packets,
            idle_s=float(tunnel.esp.idle_timeout_s),
        ),
        liveness=Liveness(float(tunnel.ike.liveness.interval_s), tunnel.ike.liveness.retries, tunnel.ike.liveness.action),
        start=tunnel.start,
        encapsulation=tunnel.encapsulation,
        unique=Unique(tunnel.auth.unique),
        reauth_s=float(tunnel.ike.reauth_after_s),
        replay_window=tunnel.esp.replay_window,
        fail_over=len(tunnel.remotes) > 1 or bool(tunnel.names) or tunnel.ike.prefers_ikev2,
        places=len(tunnel.remotes),
        natt_first=tunnel.ike.port == NATT_PORT,
        datagram=tunnel.ike.fragment_size,
        ppks=tuple(Ppk(ppk_id(one.id), known.shared_key(one.file)) for one in tunnel.auth.ppks),
        ppk=tunnel.auth.ppk,
        post_quantum=tunnel.ike.post_quantum,
        by_default=by_default(tunnel.ike.proposals),
        resources=resources,
    )
    return replace(peer, fallback=_by_ikev1(tunnel, peer)) if tunnel.ike.prefers_ikev2 else peer


def _by_ikev1(tunnel: Tunnel, peer: Peer) -> Peer:
    """The same peer where its tunnel falls to IKEv1: it comes from addresses that are known, and from nowhere else."""
    return replace(
        peer,
        version=1,
        named=False,
        ppks=(),
        ike_proposals=tunnel.ike.ikev1_proposals,
        esp_proposals=tunnel.esp.ikev1_proposals,
        proxy_ids=ProxyIds(map(proxy_id_of, _selectors(tunnel, 1))),
    )


def _selectors(tunnel: Tunnel, version: int) -> tuple[SelectorPair, ...]:
    """Peers that speak IKEv1 take an unset proxy ID for 0.0.0.0/0 on both sides, and know no other."""
    return (ANY_IPV4,) if version == 1 and not tunnel.proxy_ids else tunnel.selectors


def _identity(text: str | None) -> Identity | None:
    return None if text is None else Identity.from_text(text)


def _shared_key(path: Path, ahead: Ahead) -> PreSharedKey:
    content = files.read_secret(path, ahead)
    try:
        return PreSharedKey.from_octets(content)
    except SecretError as error:
        raise SecretError(f"{path}: {error}") from None
    finally:
        files.wipe(content)


def _once(known: dict[K, V], key: K, load: Callable[[K], V]) -> V:
    if key not in known:
        known[key] = load(key)
    return known[key]
