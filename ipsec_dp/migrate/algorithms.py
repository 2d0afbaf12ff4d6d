"""Proposals in others' words, made into ours (strongSwan's). What is not here is left out, never weakened.

Where the last algorithm of a kind goes, the whole proposal does: without its group an ESP proposal would have no forward secrecy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ipsec_dp.ike.proposal import Proposal, ProposalError, parse_esp, parse_ike
from ipsec_dp.ipsec.transforms import AdditionalKeyExchange, Encryption, Group, Integrity, Prf, by_keyword

LEGACY: Final = "RFC 8247 says SHOULD NOT to a group of the source"
_SIZES: Final = (256, 192, 128)
_LISTED: Final = 64  # proposals in one list

# Kinds of words that are not known here, by how they begin.
_KINDS: Final = (
    ("additional key exchange", re.compile(r"ke[1-7]_\w+")),
    ("group", re.compile(r"(modp|ecp|dh|group|curve|x448|ntru|newhope|mlkem|kyber|frodo|bike|hqc)\w*")),
    ("prf", re.compile(r"prf\w+")),
    ("integrity", re.compile(r"(md5|sha|hmac_|aesxcbc|aes_xcbc|aescmac|aes_cmac|camelliaxcbc)\w*")),
    ("encryption", re.compile(r"(3des|des|aes|camellia|chacha|blowfish|twofish|serpent|cast|idea|null|rc|sm4|seed)\w*")),
)
_CLASSES: Final = (
    ("additional key exchange", AdditionalKeyExchange),
    ("group", Group),
    ("prf", Prf),
    ("integrity", Integrity),
    ("encryption", Encryption),
)

# What strongSwan proposes where nothing is written (its `default`), as far as the algorithms are here.
_STRONGSWAN_PRFS: Final = "prfsha256-prfsha384-prfsha512"
_STRONGSWAN_GROUPS: Final = "ecp256-ecp384-ecp521-x25519-modp3072-modp4096-modp2048"
STRONGSWAN_IKE: Final = (
    f"aes128-aes192-aes256-sha256-sha384-sha512-sha1-{_STRONGSWAN_PRFS}-prfsha1-{_STRONGSWAN_GROUPS}",
    f"aes128gcm16-aes192gcm16-aes256gcm16-chacha20poly1305-{_STRONGSWAN_PRFS}-prfsha1-{_STRONGSWAN_GROUPS}",
)
STRONGSWAN_ESP: Final = ("aes128gcm16-aes192gcm16-aes256gcm16-noesn", "aes128-aes192-aes256-sha256-sha384-sha512-sha1-noesn")

_LIBRESWAN_GROUPS: Final = ("modp2048", "modp3072", "modp4096", "ecp256", "ecp384", "ecp521", "x25519")
_LIBRESWAN_HASHES: Final = ("sha512", "sha256")
LIBRESWAN_IKE: Final = (
    f"aes256gcm16-aes128gcm16-prfsha512-prfsha256-{'-'.join(_LIBRESWAN_GROUPS)}",
    f"chacha20poly1305-prfsha512-prfsha256-{'-'.join(_LIBRESWAN_GROUPS)}",
    f"aes256-aes128-sha512-sha256-{'-'.join(_LIBRESWAN_GROUPS)}",
)
LIBRESWAN_ESP_WORDS: Final = ("aes_gcm256+aes_gcm128", "chacha20_poly1305", "aes256+aes128-sha2_512+sha2_256")

# Words that name several algorithms, or are written otherwise.
_STRONGSWAN_WORDS: Final = {"aes": ("aes128",), "sha2": ("sha256",), "null": ()}
_LIBRESWAN_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "aes": ("aes256", "aes128"),
    "aes_cbc": ("aes256", "aes128"),
    "aes_gcm": ("aes256gcm16", "aes128gcm16"),
    "aes_gcm_c": ("aes256gcm16", "aes128gcm16"),
    "aes_gcm_16": ("aes256gcm16", "aes128gcm16"),
    "chacha20_poly1305": ("chacha20poly1305",),
    **{f"{name}{bits}": (f"aes{bits}",) for bits in _SIZES for name in ("aes", "aes_", "aes_cbc", "aes_cbc_")},
    **{
        f"{name}{bits}": (f"aes{bits}gcm16",)
        for bits in _SIZES
        for name in ("aes_gcm", "aes_gcm_", "aes_gcm_c", "aes_gcm_c_", "aes_gcm_16_", "aes_gcm16_")
    },
    "sha": ("sha1",),
    "hmac_sha1": ("sha1",),
    "sha2": ("sha256",),
    **{f"{name}{bits}": (f"sha{bits}",) for bits in (256, 384, 512) for name in ("sha", "sha2_", "hmac_sha2_")},
    "dh2": ("modp1024",),
    "dh5": ("modp1536",),
    "dh14": ("modp2048",),
    "dh15": ("modp3072",),
    "dh16": ("modp4096",),
    **{f"{name}{bits}": (f"ecp{bits}",) for bits in (256, 384, 521) for name in ("ecp_", "ecp")},
    "dh19": ("ecp256",),
    "dh20": ("ecp384",),
    "dh21": ("ecp521",),
    "dh31": ("x25519",),
    "curve25519": ("x25519",),
    "null": (),
    "none": (),
}
PANOS_ENCRYPTION: Final = {
    "aes-128-cbc": ("aes128",),
    "aes-192-cbc": ("aes192",),
    "aes-256-cbc": ("aes256",),
    "aes-128-gcm": ("aes128gcm16",),
    "aes-256-gcm": ("aes256gcm16",),
}
PANOS_HASHES: Final = {"sha1": ("sha1",), "sha256": ("sha256",), "sha384": ("sha384",), "sha512": ("sha512",), "non-auth": ()}
PANOS_GROUPS: Final = {
    "group2": ("modp1024",),
    "group5": ("modp1536",),
    "group14": ("modp2048",),
    "group15": ("modp3072",),
    "group16": ("modp4096",),
    "group19": ("ecp256",),
    "group20": ("ecp384",),
    "group21": ("ecp521",),
}


@dataclass(frozen=True, slots=True)
class Translated:
    """Proposals as our file has them. `lost`: what went, with why. `legacy`: a group of them needs `legacy = true`."""

    proposals: tuple[str, ...]
    lost: tuple[str, ...] = ()
    legacy: bool = False
    named_default: bool = False  # the source asked for its product's default


def kind_of(word: str) -> str:
    """What an algorithm is, ours or another's: "group"; empty where nobody can say."""
    algorithm = by_keyword(word)
    if algorithm is not None:
        return next(kind for kind, made in _CLASSES if isinstance(algorithm, made))
    return next((kind for kind, form in _KINDS if form.fullmatch(word.lower())), "")


def is_aead(word: str) -> bool:
    algorithm = by_keyword(word)
    return isinstance(algorithm, Encryption) and algorithm.is_aead


def _reduced(words: Sequence[str], known: Mapping[str, tuple[str, ...]], sequence_numbers: bool) -> tuple[list[str], list[str]]:
    """Our words for these, and those that have none."""
    made: list[str] = []
    lost: list[str] = []
    for word in words:
        ours = known.get(word.lower())
        if ours is None and sequence_numbers and word.lower() in ("esn", "noesn"):
            ours = (word.lower(),)
        if ours is None and by_keyword(word) is not None:
            ours = (word.lower(),)
        if ours is None:
            lost.append(word)
        else:
            made += (each for each in ours if each not in made)
    return made, lost


def _why_lost(made: Sequence[str], lost: Sequence[str]) -> str | None:
    """Why nothing of a proposal can stay when `lost` goes; None: the rest may."""
    left = {kind_of(word) for word in made}
    for word in lost:
        kind = kind_of(word)
        if not kind:
            return f'"{word}" is not known here'
        if kind not in left:
            return f'"{word}" is not here, and no other {kind} is beside it'
    return None


def _taken(text: str, parse: Callable[..., tuple[Proposal, ...]]) -> tuple[bool, str]:
    """Whether our parser takes a proposal only with `legacy`; and why not at all, empty where it does."""
    for legacy in (False, True):
        try:
            parse((text,), legacy=legacy)
        except ProposalError as error:
            why = str(error)
        else:
            return legacy, ""
    return False, why


def translate(
    texts: Iterable[Sequence[str]], known: Mapping[str, tuple[str, ...]], parse: Callable[..., tuple[Proposal, ...]]
) -> Translated:
    """Each of `texts` is the words of one proposal."""
    found: list[str] = []
    lost: list[str] = []
    weak = False
    for words in list(texts)[:_LISTED]:
        made, gone = _reduced(words, known, parse is parse_esp)
        written = "-".join(words)
        why = _why_lost(made, gone)
        text = "-".join(made)
        if why is None:
            legacy, why = _taken(text, parse)
            weak = weak or (legacy and not why)
        if why:
            lost.append(f"proposal {written}: {why}")
            continue
        lost += (f'"{word}" of {written}: not here' for word in gone)
        found.append(text)
    return Translated(tuple(dict.fromkeys(found)), tuple(lost), weak)


def of_strongswan(text: str, parse: Callable[..., tuple[Proposal, ...]]) -> Translated:
    """A list as in swanctl.conf and strongSwan's ipsec.conf; "default" among it is strongSwan's own. Without "!" the latter
    adds its default, which is the caller's to do."""
    default = STRONGSWAN_IKE if parse is parse_ike else STRONGSWAN_ESP
    words: list[list[str]] = []
    named_default = False
    for one in text.rstrip("! ").split(","):
        if one.strip() == "default":
            named_default = True
            words += (each.split("-") for each in default)
        elif one.strip():
            words.append(one.strip().split("-"))
    made = translate(words, _STRONGSWAN_WORDS, parse)
    return Translated(made.proposals, made.lost, made.legacy, named_default)


def of_libreswan(text: str, parse: Callable[..., tuple[Proposal, ...]], groups: Sequence[str] = ()) -> Translated:
    """A list as in Libreswan's `ike`, `esp`, `phase2alg`. What a proposal does not name is Libreswan's default; of ESP,
    `groups` are those for forward secrecy where it names none."""
    made: list[list[str]] = []
    for one in text.split(","):
        words = [word for word in re.split(r"[-;+]", one.strip().lower()) if word]
        if words:
            made.append(_filled(words, groups, ike=parse is parse_ike))
    return translate(made, _LIBRESWAN_WORDS, parse)


def _filled(words: list[str], groups: Sequence[str], *, ike: bool) -> list[str]:
    ours, lost = _reduced(words, _LIBRESWAN_WORDS, sequence_numbers=False)
    kinds = {kind_of(word) for word in (*ours, *lost)}
    aead = any(is_aead(word) for word in ours)
    hashes = [word for word in ours if kind_of(word) == "integrity"]
    if ike and aead:
        prfs = [f"prf{word}" for word in hashes or ([] if "integrity" in kinds else _LIBRESWAN_HASHES)]
        named = [word for word in ours if kind_of(word) == "group"]
        words = [*(word for word in ours if word not in (*hashes, *named)), *prfs, *named, *lost]
    elif aead:
        words = [*(word for word in ours if word not in hashes), *lost]
    elif "integrity" not in kinds:
        words = [*ours, *_LIBRESWAN_HASHES, *lost]
    else:
        words = [*ours, *lost]
    if "group" not in kinds:
        words += _LIBRESWAN_GROUPS if ike else groups
    return words


def of_panos(
    encryption: Sequence[str], hashes: Sequence[str], groups: Sequence[str], parse: Callable[..., tuple[Proposal, ...]]
) -> Translated:
    """The lists of a crypto profile, each combined with each."""
    ike = parse is parse_ike
    known = PANOS_ENCRYPTION | PANOS_HASHES | PANOS_GROUPS
    aead = [word for word in encryption if is_aead(known.get(word, ("",))[0])]
    rows = []
    if aead:
        prfs = [f"prf{word}" for word in hashes if PANOS_HASHES.get(word)] if ike else []
        rows.append([*aead, *prfs, *groups])
    if len(aead) < len(encryption):
        rows.append([*(word for word in encryption if word not in aead), *(word for word in hashes if word != "non-auth"), *groups])
    return translate(rows, known, parse)


def groups_of(proposals: Iterable[str]) -> tuple[str, ...]:
    """Groups that proposals in our words name."""
    return tuple(dict.fromkeys(word for text in proposals for word in text.split("-") if kind_of(word) == "group"))


def for_ikev1(proposals: Iterable[str], *, ike: bool) -> tuple[str, ...]:
    """What IKEv1 has numbers for: no AEAD and one hash for everything in phase 1, no x25519, ChaCha20-Poly1305 or ESN anywhere."""
    found = []
    for text in proposals:
        words = [word for word in text.split("-") if word not in ("x25519", "curve25519", "chacha20poly1305", "esn")]
        words = [word for word in words if kind_of(word) not in ("prf", "additional key exchange") and not (ike and is_aead(word))]
        kinds = {kind_of(word) for word in words}
        if "encryption" in kinds and (not ike or kinds >= {"integrity", "group"}) and _still(text.split("-"), words):
            found.append("-".join(words))
    return tuple(dict.fromkeys(found))


def _still(before: Sequence[str], after: Sequence[str]) -> bool:
    """Whether a group is left where there was one: forward secrecy does not go."""
    return bool(groups_of(("-".join(after),))) or not groups_of(("-".join(before),))
