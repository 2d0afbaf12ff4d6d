"""Fuzz target: identities, certificates, CRLs and signatures of a peer raise nothing but `IkeError`, and none is believed.

The first octet says what the others are. Seeds are a chain, a CRL and signatures that `openssl` made.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["ipsec_dp.ike"]):
    from cryptography.hazmat.primitives.serialization import Encoding

    from ipsec_dp.ike import auth
    from ipsec_dp.ike.certificates import Revocation, Trust, load_certificates, load_crl, load_private_key, verify
    from ipsec_dp.ike.errors import IkeError
    from ipsec_dp.ike.identity import Identity, canonical_name, explain_mismatch
    from ipsec_dp.ike.v2.cert_payloads import from_payloads
    from ipsec_dp.ike.v2.payloads import Certificate

from tests.fuzz import target
from tests.ike.pki import CA, OpenSsl

SIGNED = b"what was signed"
NAME = "fuzz.example"
EXPECTED = Identity.from_text(NAME)
AT = datetime(2027, 1, 1, tzinfo=UTC)
PLACE = Path(tempfile.mkdtemp(prefix="ipsec-dp-fuzz-"))


def made() -> OpenSsl:
    """An authority, a certificate of each kind of key below it, a CRL."""
    tools = OpenSsl(PLACE)
    tools.certificate("ca", "/O=fuzz/CN=ca", extensions=CA)
    for kind in ("ec", "rsa", "ed25519"):
        tools.certificate(kind, f"/O=fuzz/CN={kind}", "ca", f"subjectAltName=DNS:{NAME},IP:192.0.2.1,email:a@{NAME}", kind)
    tools.crl("ca", "ca", revoked=("rsa",))
    return tools


def der(name: str) -> bytes:
    return load_certificates(PLACE / f"{name}.crt")[0].public_bytes(Encoding.DER)


TOOLS = made()
AUTHORITY = load_certificates(PLACE / "ca.crt")
TRUST = Trust(AUTHORITY, (load_crl(PLACE / "ca.crl"),), Revocation.IF_PRESENT)
KEYS = [load_private_key(PLACE / f"{kind}.key") for kind in ("ec", "rsa", "ed25519")]
GENUINE = {kind: der(kind) for kind in ("ec", "rsa", "ed25519")}
SIGNATURES = {
    (number, signature.method, signature.data)
    for number, key in enumerate(KEYS)
    for hashes in (frozenset({2, 5}), None)
    if hashes is not None or number < 2
    for signature in (auth.sign(key, SIGNED, hashes),)
}


def certificate(data: bytes) -> None:
    """Certificates of up to 65,535 octets each, the peer's own first."""
    several: list[Certificate] = []
    while len(data) > 2 and len(several) < 3:
        length = int.from_bytes(data[:2], "big")
        several.append(Certificate(4, data[2 : 2 + length] or b"x"))
        data = data[2 + length :]
    verify(from_payloads(several), EXPECTED, TRUST, AT)
    assert several[0].data in GENUINE.values(), "a certificate that our authority did not make"


def revocations(data: bytes) -> None:
    file = PLACE / "fuzz.crl"
    file.write_bytes(data)
    crl = load_crl(file)
    trust = Trust(AUTHORITY, (crl,), Revocation.STRICT)
    verify(from_payloads([Certificate(4, GENUINE["ec"])]), EXPECTED, trust, AT)


def signature(data: bytes) -> None:
    if len(data) < 3:
        return
    number, received = data[0] % len(KEYS), auth.Proof(data[1], data[2:])
    auth.verify(KEYS[number].public_key(), SIGNED, received)
    assert (number, received.method) in {known[:2] for known in SIGNATURES}, "a signature that nobody made"


def hashes(data: bytes) -> None:
    assert len(auth.parse_hash_algorithms(data)) <= len(data) // 2


def identity(data: bytes) -> None:
    if len(data) < 2:
        return
    received = Identity.from_wire(data[0], data[1:])
    assert str(received).isprintable()
    assert explain_mismatch(EXPECTED, received).isprintable()
    received.matches(EXPECTED)
    assert Identity.from_text(received.text()).matches(received), "printed as another"
    if received.type == 9:
        canonical_name(received.data)


def words(data: bytes) -> None:
    read = Identity.from_text(data.decode(errors="replace"))
    assert Identity.from_text(read.text()).matches(read), "printed as another"


READINGS: tuple[Callable[[bytes], None], ...] = (certificate, revocations, signature, hashes, identity, words)


def receive(data: bytes) -> None:
    if data:
        with contextlib.suppress(IkeError):
            READINGS[data[0] % len(READINGS)](data[1:])


def seeds() -> Iterator[bytes]:
    for octets in GENUINE.values():
        yield b"\0" + len(octets).to_bytes(2, "big") + octets
    yield b"\1" + (PLACE / "ca.crl").read_bytes()
    for number, method, data in SIGNATURES:
        yield bytes([2, number, method]) + data
    yield b"\3\0\1\0\2"
    for text in (NAME, "192.0.2.1", "2001:db8::1", f"a@{NAME}", "C=DE, O=fuzz, CN=x", "keyid:6b6579"):
        known = Identity.from_text(text)
        yield bytes([4, known.type]) + known.data
        yield b"\5" + text.encode()


if __name__ == "__main__":
    target.run("ike_proof", receive, seeds())
