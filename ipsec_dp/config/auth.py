"""How a tunnel's keys come about: by IKE with a secret or certificates, or by hand. One of both, and the files it needs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ipsec_dp.config import model, tables
from ipsec_dp.config.certificate_auth import resolve_certificate
from ipsec_dp.config.post_quantum import resolve_ppks
from ipsec_dp.config.quantities import parse_identity
from ipsec_dp.ipsec.suites import parse_suite

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ipsec_dp.config.findings import Place
    from ipsec_dp.config.named_files import NamedFiles
    from ipsec_dp.ipsec.addresses import Address

# RFC 7296 §2.15 asks for a secret with as much randomness as the strongest key negotiated; below this nobody has that.
PSK_OCTETS_SHORT = 16
_SPI_MIN, _SPI_MAX = 0x100, 0xFFFFFFFF


def resolve_auth(
    table: tables.Tunnel,
    given: Mapping[str, Any],
    ends: tuple[Address | None, tuple[Address | str, ...]],
    place: Place,
    named_files: NamedFiles,
) -> model.PskAuth | model.CertificateAuth | None:
    """The tunnel's [tunnel.auth]; None under manual keys or when something is wrong. `ends`: its local address and its remotes."""
    local, remotes = ends
    if "manual_unsafe" in given:
        for key in ("auth", "ike"):
            if key in given:
                place.error(key, "stands beside manual_unsafe", "keys come from IKE or by hand: take one of both tables out")
        return None
    auth = table.auth
    below = place.below("auth")
    if auth is None:
        if "auth" not in given:
            place.error(
                "auth", "is missing", "write [tunnel.auth] with psk_file or certificate (or, for rigs, [tunnel.manual_unsafe])"
            )
        return None
    local_id, remote_id = _identities(auth, table, remotes, below)
    if auth.psk_file is not None:
        for key in ("certificate", "private_key", "ca", "crl"):
            if getattr(auth, key):
                below.error(key, "stands beside psk_file", "authenticate by a secret or by certificates: take one of both out")
        psk_file = named_files.base / auth.psk_file
        octets, material = _check_psk(psk_file, below, named_files)
        return model.PskAuth(
            local_id=local_id,
            remote_id=remote_id,
            psk_file=psk_file,
            unique=auth.unique,
            ppks=resolve_ppks(auth, below, named_files),
            ppk=auth.ppk or "required",
            octets=octets,
            material=material,
        )
    certified = resolve_certificate(auth, local, (local_id, remote_id), below, named_files)
    ppks = resolve_ppks(auth, below, named_files)
    return None if certified is None else replace(certified, ppks=ppks, ppk=auth.ppk or "required")


def _identities(
    auth: tables.Auth, table: tables.Tunnel, remotes: tuple[Address | str, ...], below: Place
) -> tuple[str | None, str | None]:
    local_id = below.optional("local_id", parse_identity, auth.local_id)
    if auth.remote_id is not None:
        return local_id, below.optional("remote_id", parse_identity, auth.remote_id)
    if table.remote == "any":
        below.error("remote_id", 'is missing, and remote is "any"', "say who may come, e.g. an FQDN, an e-mail or a DN")
    names = [remote for remote in remotes if isinstance(remote, str)]
    if names and len(remotes) > 1:
        below.error("remote_id", "is missing, and remote lists DNS names", "say who the peer is, whichever address it has")
    return local_id, names[0] if names else None


def _check_psk(path: Path, below: Place, named_files: NamedFiles) -> tuple[int, bytes]:
    """Octets and fingerprint of a secret; 0 and nothing when there is none that can be read."""
    found = named_files.secret(path)
    if found.unread is not None:
        below.error("psk_file", *found.unread)
    elif found.empty:
        below.error("psk_file", f"{path} is empty", "write a random secret, e.g. from: openssl rand -base64 32")
    elif found.wrong is not None:
        right = "see [tunnel.auth] in docs/configuration.md for what a secret may look like"
        below.error("psk_file", f"{path}: {found.wrong}", right)
    else:
        for wrong, right in found.remarks:
            below.warn("psk_file", f"{path} {wrong}", right)
        if found.octets < PSK_OCTETS_SHORT:
            short = f"{path} holds {found.octets} octets, few enough to guess"
            below.warn("psk_file", short, "take e.g.: openssl rand -base64 32")
    return found.octets, found.fingerprint


def resolve_manual(
    table: tables.Tunnel, given: Mapping[str, Any], remotes: tuple[Address | str, ...], place: Place, named_files: NamedFiles
) -> model.ManualSa | None:
    """The tunnel's [tunnel.manual_unsafe]; None without one or when its suite is none."""
    manual = table.manual_unsafe
    if manual is None:
        return None
    below = place.below("manual_unsafe")
    place.warn(
        "manual_unsafe", "keys are set by hand and never replaced", "use it for rigs and benchmarks only, [tunnel.auth] otherwise"
    )
    _check_fit(table, given, remotes, place)
    for key, spi in (("spi_in", manual.spi_in), ("spi_out", manual.spi_out)):
        if spi is not None and not _SPI_MIN <= spi <= _SPI_MAX:
            below.error(key, f"{spi:#x} is no SPI of an SA", "write 0x100 to 0xffffffff (RFC 4303 §2.1)")
    suite = below.optional("suite", parse_suite, manual.suite)
    if (
        suite is None
        or manual.spi_in is None
        or manual.spi_out is None
        or manual.key_in_file is None
        or manual.key_out_file is None
    ):
        return None
    files_ = named_files.base / manual.key_in_file, named_files.base / manual.key_out_file
    prints = [named_files.key(file, suite.keymat_octets).file for file in files_]
    return model.ManualSa(
        suite=suite,
        spi_in=manual.spi_in,
        spi_out=manual.spi_out,
        key_in_file=files_[0],
        key_out_file=files_[1],
        material=b"".join(prints) if all(prints) else b"",  # what is wrong is told by `check.check_manual`
    )


def _check_fit(table: tables.Tunnel, given: Mapping[str, Any], remotes: tuple[Address | str, ...], place: Place) -> None:
    """What only a negotiation can do has no place in a manual tunnel."""
    if table.remote == "any" or len(remotes) > 1:
        place.error("remote", "manual keys belong to one peer", "write its address")
    for name in (remote for remote in remotes if isinstance(remote, str)):
        place.error("remote", f"{name} is a name, and manual keys belong to one address", "write the address")
    esp = given.get("esp")
    for key in ("proposals", "lifetime", "idle_timeout"):
        if isinstance(esp, dict) and key in esp:
            place.warn(f"esp.{key}", "has no meaning under manual keys", "leave it out")
    if table.encapsulation == "auto":
        place.warn("encapsulation", "no negotiation finds a NAT: IP protocol 50 is used", 'write "udp" or "esp"')
