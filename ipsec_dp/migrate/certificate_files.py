"""Certificates, keys and authorities that lie in the other product's directories, and which of them belong together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ipsec_dp.ike.certificates import load_certificates, load_private_key
from ipsec_dp.ike.errors import IkeError
from ipsec_dp.migrate.source_files import listed
from ipsec_dp.migrate.strongswan import put_subject

if TYPE_CHECKING:
    from ipsec_dp.migrate.draft import FileDraft, TunnelDraft


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Directories of certificates, of keys, of authorities and their CRLs."""

    certificates: tuple[Path, ...]
    keys: tuple[Path, ...]
    authorities: tuple[Path, ...]
    crls: tuple[Path, ...]

    @classmethod
    def of_swanctl(cls, base: Path) -> CertificateFiles:
        base = base.absolute()
        return cls(
            (base / "x509",),
            tuple(base / name for name in ("private", "rsa", "ecdsa", "pkcs8")),
            (base / "x509ca",),
            (base / "x509crl",),
        )

    @classmethod
    def of_ipsec_d(cls, base: Path) -> CertificateFiles:
        base = base.absolute() / "ipsec.d"
        return cls((base / "certs",), (base / "private",), (base / "cacerts",), (base / "crls",))

    def certificate(self, name: str) -> Path:
        return _found(name, self.certificates)

    def authority(self, name: str) -> Path:
        return _found(name, self.authorities)

    def key_of(self, certificate: Path, named: str = "") -> Path:
        """The key file that belongs to a certificate: the one that is named, or that holds its key; else where it is to be."""
        if named:
            return _found(named, self.keys)
        public = _public_key(certificate)
        for path in listed(*self.keys):
            if public is not None and public == _of_private(path):
                return path
        return self.keys[0] / f"{certificate.stem}.key"


def _found(name: str, directories: tuple[Path, ...]) -> Path:
    """A file by name: absolute, or in the first of the directories that has it."""
    candidates = [directory / name for directory in directories]
    return next((path for path in candidates if path.is_file()), candidates[0])


def _public_key(certificate: Path) -> bytes | None:
    try:
        key = load_certificates(certificate)[0].public_key()
        return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (IkeError, OSError, ValueError, UnsupportedAlgorithm):
        return None


def _of_private(path: Path) -> bytes | None:
    try:
        return load_private_key(path).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (IkeError, OSError, ValueError, UnsupportedAlgorithm):
        return None


def put_certificates(
    tunnel: TunnelDraft, draft: FileDraft, beside: CertificateFiles, named: tuple[str, str, str], key: str = ""
) -> None:
    """[tunnel.auth] by certificates. `named`: ours, the peer's own, authorities, as the source has them (lists by comma)."""
    ours, theirs, authorities = ([one.strip() for one in text.split(",") if one.strip()] for text in named)
    if not ours:
        draft.left_out(tunnel.origin, f"{tunnel.name}: our certificate", "the source names none: to be filled in")
        tunnel.withhold("auth.certificate: the source names none")
    else:
        certificate = beside.certificate(ours[0])
        tunnel.put("auth.certificate", str(certificate))
        tunnel.put("auth.private_key", str(beside.key_of(certificate, key)))
        put_subject(tunnel, "local_id", certificate)
        for more in ours[1:]:
            draft.left_out(tunnel.origin, more, "a tunnel has one certificate of ours")
    pinned = [beside.certificate(name) for name in theirs]
    if len(pinned) == 1:
        put_subject(tunnel, "remote_id", pinned[0])
    trusted = pinned or [beside.authority(name) for name in authorities] or listed(*beside.authorities)
    if not trusted:
        draft.left_out(tunnel.origin, f"{tunnel.name}: authorities", f"none is in {beside.authorities[0]}: to be filled in")
        tunnel.withhold("auth.ca: the source has no authority")
        return
    tunnel.put("auth.ca", tuple(map(str, trusted)), "" if pinned or authorities else "every authority that the source trusts")
    crls = listed(*beside.crls)
    if crls and not pinned:
        tunnel.put("auth.crl", tuple(map(str, crls)))
