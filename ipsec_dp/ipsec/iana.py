"""Names, for people only, of the numbers that peers send: IANA "Internet Key Exchange Version 2 (IKEv2) Parameters", October 2025.

What this project speaks is in `transforms` and in `ike`; here is all that has a name, so that nobody looks up numbers.
A name in braces takes the Key Length: "aes{}ctr" is aes256ctr.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

ENCRYPTIONS: Final = {
    1: "des-iv64", 2: "des", 3: "3des", 4: "rc5-{}", 5: "idea", 6: "cast{}", 7: "blowfish{}", 8: "3idea", 9: "des-iv32",
    11: "null", 12: "aes{}", 13: "aes{}ctr", 14: "aes{}ccm8", 15: "aes{}ccm12", 16: "aes{}ccm16", 18: "aes{}gcm8",
    19: "aes{}gcm12", 20: "aes{}gcm16", 21: "aes{}gmac", 23: "camellia{}", 24: "camellia{}ctr", 25: "camellia{}ccm8",
    26: "camellia{}ccm12", 27: "camellia{}ccm16", 28: "chacha20poly1305", 29: "aes{}ccm8iiv", 30: "aes{}gcm16iiv",
    31: "chacha20poly1305iiv", 32: "kuznyechik-mgm-ktree", 33: "magma-mgm-ktree", 34: "kuznyechik-mgm-mac-ktree",
    35: "magma-mgm-mac-ktree",
}  # fmt: skip
AEAD: Final = frozenset({14, 15, 16, 18, 19, 20, 21, *range(25, 36)})  # encryptions with an integrity of their own
PRFS: Final = {
    1: "prfmd5", 2: "prfsha1", 3: "prftiger", 4: "prfaesxcbc", 5: "prfsha256", 6: "prfsha384", 7: "prfsha512", 8: "prfaescmac",
    9: "prfstreebog512",
}  # fmt: skip
INTEGRITIES: Final = {
    0: "none", 1: "md5", 2: "sha1", 3: "desmac", 4: "kpdkmd5", 5: "aesxcbc", 6: "md5_128", 7: "sha1_160", 8: "aescmac",
    9: "aes128gmac", 10: "aes192gmac", 11: "aes256gmac", 12: "sha256", 13: "sha384", 14: "sha512",
}  # fmt: skip
KEY_EXCHANGES: Final = {
    0: "none", 1: "modp768", 2: "modp1024", 5: "modp1536", 14: "modp2048", 15: "modp3072", 16: "modp4096", 17: "modp6144",
    18: "modp8192", 19: "ecp256", 20: "ecp384", 21: "ecp521", 22: "modp1024s160", 23: "modp2048s224", 24: "modp2048s256",
    25: "ecp192", 26: "ecp224", 27: "ecp224bp", 28: "ecp256bp", 29: "ecp384bp", 30: "ecp512bp", 31: "x25519", 32: "x448",
    33: "gost256", 34: "gost512", 35: "mlkem512", 36: "mlkem768", 37: "mlkem1024",
}  # fmt: skip
SEQUENCE_NUMBERS: Final = {0: "noesn", 1: "esn", 2: "unspecified-sequence-numbers"}
TRANSFORMS: Final[Mapping[int, Mapping[int, str]]] = {
    1: ENCRYPTIONS, 2: PRFS, 3: INTEGRITIES, 4: KEY_EXCHANGES, 5: SEQUENCE_NUMBERS,
    **dict.fromkeys(range(6, 13), KEY_EXCHANGES),
    13: {1: "kw-5649-128", 2: "kw-5649-192", 3: "kw-5649-256", 4: "kw-aria"},
}  # fmt: skip
PRIVATE_TRANSFORMS: Final = 1024  # from here on for private use, of the first four types
TRANSFORM_TYPES: Final = {
    1: "encryption", 2: "prf", 3: "integrity", 4: "key exchange", 5: "extended sequence numbers",
    **{number: f"additional key exchange {number - 5}" for number in range(6, 13)},
    13: "key wrap", 14: "group controller authentication",
}  # fmt: skip

EXCHANGES: Final = {
    2: "IKEv1 main mode", 4: "IKEv1 aggressive mode", 5: "IKEv1 informational", 6: "IKEv1 transaction", 32: "IKEv1 quick mode",
    33: "IKEv1 new group mode", 34: "IKE_SA_INIT", 35: "IKE_AUTH", 36: "CREATE_CHILD_SA", 37: "INFORMATIONAL",
    38: "IKE_SESSION_RESUME", 39: "GSA_AUTH", 40: "GSA_REGISTRATION", 41: "GSA_REKEY", 42: "GSA_INBAND_REKEY",
    43: "IKE_INTERMEDIATE", 44: "IKE_FOLLOWUP_KE",
}  # fmt: skip
PAYLOADS: Final = {
    33: "SA", 34: "KE", 35: "IDi", 36: "IDr", 37: "CERT", 38: "CERTREQ", 39: "AUTH", 40: "Nonce", 41: "N", 42: "D", 43: "V",
    44: "TSi", 45: "TSr", 46: "SK", 47: "CP", 48: "EAP", 49: "GSPM", 50: "IDg", 51: "GSA", 52: "KD", 53: "SKF", 54: "PS",
}  # fmt: skip
PROTOCOLS: Final = {
    1: "IKE", 2: "AH", 3: "ESP", 4: "FC_ESP_HEADER", 5: "FC_CT_AUTHENTICATION", 6: "GIKE_UPDATE", 7: "GIKE_REKEY",
}  # fmt: skip
IDENTITIES: Final = {
    1: "IPV4_ADDR", 2: "FQDN", 3: "RFC822_ADDR", 5: "IPV6_ADDR", 9: "DER_ASN1_DN", 10: "DER_ASN1_GN", 11: "KEY_ID", 12: "FC_NAME",
    13: "NULL",
}  # fmt: skip
AUTHENTICATIONS: Final = {
    1: "RSA signature", 2: "shared key", 3: "DSS signature", 9: "ECDSA with P-256", 10: "ECDSA with P-384", 11: "ECDSA with P-521",
    12: "generic secure password", 13: "none at all (NULL, RFC 7619)", 14: "digital signature",
}  # fmt: skip
ENCODINGS: Final = {
    1: "PKCS #7 certificate", 2: "PGP certificate", 3: "DNS signed key", 4: "X.509 certificate", 6: "Kerberos token", 7: "CRL",
    8: "ARL", 9: "SPKI certificate", 10: "X.509 attribute certificate", 11: "raw RSA key", 12: "hash and URL of a certificate",
    13: "hash and URL of a bundle", 14: "OCSP content", 15: "raw public key",
}  # fmt: skip
ERRORS: Final = {
    1: "UNSUPPORTED_CRITICAL_PAYLOAD", 4: "INVALID_IKE_SPI", 5: "INVALID_MAJOR_VERSION", 7: "INVALID_SYNTAX",
    9: "INVALID_MESSAGE_ID", 11: "INVALID_SPI", 14: "NO_PROPOSAL_CHOSEN", 17: "INVALID_KE_PAYLOAD", 24: "AUTHENTICATION_FAILED",
    34: "SINGLE_PAIR_REQUIRED", 35: "NO_ADDITIONAL_SAS", 36: "INTERNAL_ADDRESS_FAILURE", 37: "FAILED_CP_REQUIRED",
    38: "TS_UNACCEPTABLE", 39: "INVALID_SELECTORS", 40: "UNACCEPTABLE_ADDRESSES", 41: "UNEXPECTED_NAT_DETECTED",
    42: "USE_ASSIGNED_HoA", 43: "TEMPORARY_FAILURE", 44: "CHILD_SA_NOT_FOUND", 45: "INVALID_GROUP_ID", 46: "AUTHORIZATION_FAILED",
    47: "STATE_NOT_FOUND", 48: "TS_MAX_QUEUE", 49: "REGISTRATION_FAILED",
}  # fmt: skip
STATUSES: Final = {
    16384 + number: name
    for number, name in enumerate(
        "INITIAL_CONTACT SET_WINDOW_SIZE ADDITIONAL_TS_POSSIBLE IPCOMP_SUPPORTED NAT_DETECTION_SOURCE_IP "
        "NAT_DETECTION_DESTINATION_IP COOKIE USE_TRANSPORT_MODE HTTP_CERT_LOOKUP_SUPPORTED REKEY_SA ESP_TFC_PADDING_NOT_SUPPORTED "
        "NON_FIRST_FRAGMENTS_ALSO MOBIKE_SUPPORTED ADDITIONAL_IP4_ADDRESS ADDITIONAL_IP6_ADDRESS NO_ADDITIONAL_ADDRESSES "
        "UPDATE_SA_ADDRESSES COOKIE2 NO_NATS_ALLOWED AUTH_LIFETIME MULTIPLE_AUTH_SUPPORTED ANOTHER_AUTH_FOLLOWS REDIRECT_SUPPORTED "
        "REDIRECT REDIRECTED_FROM TICKET_LT_OPAQUE TICKET_REQUEST TICKET_ACK TICKET_NACK TICKET_OPAQUE LINK_ID USE_WESP_MODE "
        "ROHC_SUPPORTED EAP_ONLY_AUTHENTICATION CHILDLESS_IKEV2_SUPPORTED QUICK_CRASH_DETECTION IKEV2_MESSAGE_ID_SYNC_SUPPORTED "
        "IPSEC_REPLAY_COUNTER_SYNC_SUPPORTED IKEV2_MESSAGE_ID_SYNC IPSEC_REPLAY_COUNTER_SYNC SECURE_PASSWORD_METHODS PSK_PERSIST "
        "PSK_CONFIRM ERX_SUPPORTED IFOM_CAPABILITY GROUP_SENDER IKEV2_FRAGMENTATION_SUPPORTED SIGNATURE_HASH_ALGORITHMS "
        "CLONE_IKE_SA_SUPPORTED CLONE_IKE_SA PUZZLE USE_PPK PPK_IDENTITY NO_PPK_AUTH INTERMEDIATE_EXCHANGE_SUPPORTED IP4_ALLOWED "
        "IP6_ALLOWED ADDITIONAL_KEY_EXCHANGE USE_AGGFRAG SUPPORTED_AUTH_METHODS SA_RESOURCE_INFO USE_PPK_INT PPK_IDENTITY_KEY"
        "".split()
    )
}
_PRIVATE_ERROR, _FIRST_STATUS, _PRIVATE_STATUS = 8192, 16384, 40960  # RFC 7296 §3.10.1


def name(table: Mapping[int, str], what: str, number: int) -> str:
    """A number in words: "GSPM", or "payload type 99" (`what` it is) where it has no name."""
    return table.get(number, f"{what} {number}")


def notify_text(number: int) -> str:
    """A notify's type in words; of one without a name whether it reports an error, and whose number it is."""
    known = ERRORS.get(number) or STATUSES.get(number)
    if known is not None:
        return known
    private = number >= _PRIVATE_STATUS or _PRIVATE_ERROR <= number < _FIRST_STATUS
    kind = "error" if number < _FIRST_STATUS else "status"
    return f"notify {number} ({kind} for private use)" if private else f"notify {number} ({kind} that has no name)"
