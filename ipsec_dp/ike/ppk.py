"""Post-quantum preshared keys: how they are named on the wire, and mixed into keys (RFC 8784, RFC 9867)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from cryptography.hazmat.primitives.constant_time import bytes_eq

from ipsec_dp.ike.prf import prf

if TYPE_CHECKING:
    from ipsec_dp.ike.auth import PreSharedKey
    from ipsec_dp.ipsec.transforms import Prf

PpkUse = Literal["required", "if-offered"]

FIXED: Final = 2  # PPK_ID_FIXED: octets that both sides have configured (RFC 8784 §5.1)
CONFIRMATION: Final = 8  # octets of it that are sent (RFC 9867 §3.1.1)


@dataclass(frozen=True, slots=True)
class Ppk:
    """One PPK and what it is called."""

    id: bytes
    key: PreSharedKey

    def same_as(self, other: Ppk) -> bool:
        """Compared in constant time."""
        return self.id == other.id and self.key.same_as(other.key)

    def identity(self) -> bytes:
        """Data of PPK_IDENTITY (RFC 8784 §5.1)."""
        return bytes([FIXED]) + self.id

    def confirmation(self, algorithm: Prf, ends: bytes) -> bytes:
        """The first octets of prf(PPK, Ni | Nr | SPIi | SPIr), `ends` being these four (RFC 9867 §3.1.1)."""
        return prf(algorithm, self.key.octets(), ends)[:CONFIRMATION]

    def is_confirmed(self, algorithm: Prf, ends: bytes, received: bytes) -> bool:
        """Whether whoever sent `received` has this PPK; compared in constant time."""
        return bytes_eq(self.confirmation(algorithm, ends), received)

    def __repr__(self) -> str:
        return f"<Ppk {self.text}>"

    @property
    def text(self) -> str:
        """Its name for people."""
        return ppk_text(self.id)


@dataclass(slots=True)
class PpkAgreement:
    """Of one IKE SA that begins: how a PPK is to be used, or was."""

    in_auth: bool = False  # in IKE_AUTH (RFC 8784)
    in_round: bool = False  # in the last IKE_INTERMEDIATE, which is still to come (RFC 9867)
    tried: bool = False  # that one is over, whether a PPK came of it or not
    used: Ppk | None = None


def ppk_id(text: str) -> bytes:
    """The octets of an identity as a person writes it: "0x" and hexadecimal digits, or text as UTF-8. ValueError for no octets."""
    octets = bytes.fromhex(text[2:]) if text.startswith("0x") else text.encode()
    if not octets:
        raise ValueError("a PPK's identity has one octet at the least (RFC 8784 §5.1)")
    return octets


def ppk_text(octets: bytes) -> str:
    """As `ppk_id` reads it."""
    text = octets.decode(errors="replace")
    return text if text.isascii() and text.isprintable() and not text.startswith("0x") else f"0x{octets.hex()}"


def parse_identity(data: bytes) -> bytes | None:
    """The identity in a PPK_IDENTITY; None: of a kind that nobody here knows, or none."""
    return data[1:] if len(data) > 1 and data[0] == FIXED else None


def parse_identity_key(data: bytes) -> tuple[bytes, bytes] | None:
    """Identity and confirmation in a PPK_IDENTITY_KEY (RFC 9867 §3.1.1); None as in `parse_identity`."""
    identity = parse_identity(data[:-CONFIRMATION])
    return None if identity is None else (identity, data[-CONFIRMATION:])
