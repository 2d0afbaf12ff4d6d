"""What is odd about a peer's proposals, in words: what an RFC forbids and some send all the same, and what has no name.

Only for people: what is odd is never chosen, however it is explained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipsec_dp.ipsec import iana
from ipsec_dp.ipsec.transforms import ADDITIONAL_KEY_EXCHANGES, KEMS, NONE, Transform, TransformType, transform_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_AES_BITS: Final = (128, 192, 256)
_SALT_BITS: Final = (24, 32)  # of CCM and of GCM
_IKE, _AH, _ESP = 1, 2, 3  # security protocol identifiers (RFC 7296 §3.3.1)


def of(proposals: Iterable[tuple[int, Sequence[Transform]]]) -> list[str]:
    """Each once, those of transforms first; empty when there is nothing odd. `proposals`: protocol and transforms of each."""
    proposals = tuple(proposals)
    transforms = dict.fromkeys(transform for _, of_one in proposals for transform in of_one)
    found = dict.fromkeys(text for transform in transforms if (text := _of_transform(transform)) is not None)
    found |= dict.fromkeys(text for protocol, of_one in proposals for text in _of_proposal(protocol, of_one))
    return list(found)


# ---- transforms


def _of_transform(transform: Transform) -> str | None:
    for holds, text in _RULES:
        if holds(transform):
            plain = transform_text(Transform(transform.type, transform.id))
            right = _right_length(transform) or _octets(transform)
            return text.format(name=plain, bits=transform.key_length, right=right)
    return None


def _cipher(transform: Transform) -> str | None:
    """Its name, of an encryption that has one."""
    return iana.ENCRYPTIONS.get(transform.id) if transform.type == TransformType.ENCR else None


def _has_lengths(transform: Transform) -> bool:
    return "{}" in (_cipher(transform) or "")


def _is_aes(transform: Transform) -> bool:
    return (_cipher(transform) or "").startswith("aes{}")


def _octets(transform: Transform) -> int:
    return (transform.key_length or 0) * 8


def _right_length(transform: Transform) -> int:
    """Of a Key Length that counts the salt too; 0: it is no such."""
    return next((bits for bits in _AES_BITS for salt in _SALT_BITS if transform.key_length == bits + salt), 0)


def _is_private(transform: Transform) -> bool:
    typed = transform.type in (*(t for t in TransformType if t != TransformType.ESN), *ADDITIONAL_KEY_EXCHANGES)
    return typed and transform.id >= iana.PRIVATE_TRANSFORMS


def _is_fixed(transform: Transform) -> bool:
    known = transform.id in iana.TRANSFORMS.get(transform.type, {})
    return known and not _has_lengths(transform)


def _mlkem(transform: Transform) -> bool:
    """Of a key exchange, first or additional."""
    typed = transform.type in (TransformType.KE, *ADDITIONAL_KEY_EXCHANGES)
    return typed and iana.KEY_EXCHANGES.get(transform.id, "").startswith("mlkem")


_Holds = tuple["Callable[[Transform], bool]", str]
_RULES: Final[tuple[_Holds, ...]] = (  # the first that holds
    (lambda t: bool(t.unknown), "{name} with an attribute other than Key Length: no RFC knows one (RFC 7296 §3.3.5)"),
    (_is_private, "{name} is a number for private use: what it means its maker alone knows"),
    (
        lambda t: _mlkem(t) and t.id not in {method.id for method in KEMS},
        "{name} is not spoken here: of ML-KEM the library has mlkem768 and mlkem1024, so let the peer offer one of these",
    ),
    (
        lambda t: _is_fixed(t) and t.key_length is not None,
        "{name} with Key Length {bits}: RFC 7296 §3.3.5 forbids it; some appliances send it",
    ),
    (lambda t: _has_lengths(t) and t.key_length is None, "{name} without a Key Length: RFC 7296 §3.3.5 demands one"),
    (
        lambda t: _is_aes(t) and _octets(t) in _AES_BITS,
        "{name} with Key Length {bits}: it counts bits (RFC 7296 §3.3.5), {right} is meant",
    ),
    (
        lambda t: _is_aes(t) and t.id in iana.AEAD and _right_length(t) > 0,
        "{name} with Key Length {bits}: it leaves out the salt (RFC 4106 §8.4), {right} is meant",
    ),
    (
        lambda t: _is_aes(t) and t.key_length is not None and t.key_length not in _AES_BITS,
        "{name} with Key Length {bits}: AES has keys of 128, 192 and 256 bits",
    ),
)


# ---- proposals


def _of_proposal(protocol: int, transforms: Sequence[Transform]) -> list[str]:
    ids = {kind: [t.id for t in transforms if t.type == kind] for kind in {t.type for t in transforms}}
    ciphers = ids.get(TransformType.ENCR, [])
    aead = [number in iana.AEAD for number in ciphers]
    integrity = any(number != NONE for number in ids.get(TransformType.INTEG, []))
    wrong = {
        "AEAD and other ciphers in one proposal: RFC 7296 §3.3 wants one for each kind": any(aead) and not all(aead),
        "an AEAD cipher beside an integrity algorithm: it has its own (RFC 5282 §8)": bool(aead) and all(aead) and integrity,
        "a cipher without an integrity algorithm protects nothing from change": bool(aead) and not any(aead) and not integrity,
        "an IKE proposal without a PRF (RFC 7296 §3.3.3)": protocol == _IKE and TransformType.PRF not in ids,
        "an IKE proposal without a key exchange (RFC 7296 §3.3.3)": protocol == _IKE and TransformType.KE not in ids,
        "AH is not spoken here: ask for ESP": protocol == _AH,
        "an ESP proposal with a PRF (RFC 7296 §3.3.3)": protocol == _ESP and TransformType.PRF in ids,
    }
    return [text for text, holds in wrong.items() if holds]
