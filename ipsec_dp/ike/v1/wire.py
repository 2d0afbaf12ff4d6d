"""The wire format of ISAKMP in numbers: the registries of RFC 2407, RFC 2408 and RFC 2409, sizes, and limits. No logic."""

from enum import IntEnum, IntFlag
from typing import Final

from ipsec_dp.ike.payload import GENERIC_OCTETS, HEADER_OCTETS, SPI_OCTETS

VERSION: Final = 0x10  # major 1, minor 0
HEADER: Final = HEADER_OCTETS
GENERIC_HEADER: Final = GENERIC_OCTETS
COOKIE: Final = SPI_OCTETS
ESP_SPI: Final = 4
DOI_IPSEC: Final = 1
SITUATION_IDENTITY_ONLY: Final = 1
KEY_IKE: Final = 1  # the one transform of phase 1 (RFC 2407 §4.4.2.1)
BASIC: Final = 0x8000  # of an attribute's type: its value has two octets, and no length stands before it (RFC 2408 §3.3)
MIN_NONCE, MAX_NONCE = 8, 256  # RFC 2409 §5
X509_SIGNATURE: Final = 4  # RFC 2408 §3.9
FIRST_STATUS: Final = 16384  # below it a notification reports an error
MOST_PADDING: Final = 255  # octets behind the last payload of an encrypted message


class ExchangeMode(IntEnum):
    """Exchange types (RFC 2408 §3.1, RFC 2409 appendix A). Those that are not here get no answer."""

    MAIN = 2
    AGGRESSIVE = 4
    INFORMATIONAL = 5
    TRANSACTION = 6  # XAUTH and mode config: refused
    QUICK = 32


class HeaderFlag(IntFlag):
    """RFC 2408 §3.1. The commit bit is passed over: nobody waits here for a CONNECTED."""

    ENCRYPTED = 1
    COMMIT = 2
    AUTHENTICATION_ONLY = 4


class PayloadKind(IntEnum):
    """Next payload (RFC 2408 §3.1, RFC 3947 §3.2); of a private range what all makers use."""

    NONE = 0
    SA = 1
    PROPOSAL = 2
    TRANSFORM = 3
    KE = 4
    ID = 5
    CERT = 6
    CR = 7
    HASH = 8
    SIG = 9
    NONCE = 10
    NOTIFICATION = 11
    DELETE = 12
    VENDOR_ID = 13
    CONFIG = 14
    NAT_D = 20
    NAT_OA = 21
    NAT_D_DRAFT = 130  # draft-ietf-ipsec-nat-t-ike-02, -03
    FRAGMENT = 132


class Protocol(IntEnum):
    """RFC 2407 §4.4.1."""

    ISAKMP = 1
    ESP = 3


class Phase1(IntEnum):
    """Attributes of a phase-1 transform (RFC 2409 appendix A)."""

    ENCRYPTION = 1
    HASH = 2
    AUTHENTICATION = 3
    GROUP = 4
    LIFE_TYPE = 11
    LIFE_DURATION = 12
    KEY_LENGTH = 14


class Phase2(IntEnum):
    """Attributes of an ESP transform (RFC 2407 §4.5, RFC 4304)."""

    LIFE_TYPE = 1
    LIFE_DURATION = 2
    GROUP = 3
    ENCAPSULATION = 4
    AUTHENTICATION = 5
    KEY_LENGTH = 6
    ESN = 11


class Method(IntEnum):
    """Authentication methods (RFC 2409 appendix A, RFC 4754)."""

    SHARED_KEY = 1
    RSA = 3
    ECDSA_P256 = 9
    ECDSA_P384 = 10
    ECDSA_P521 = 11


class EncapsulationMode(IntEnum):
    """RFC 2407 §4.5, RFC 3947 §5.1; 61443 is UDP_TUNNEL in the drafts before it."""

    TUNNEL = 1
    UDP_TUNNEL = 3
    UDP_TUNNEL_DRAFT = 61443


class LifeType(IntEnum):
    """Of both phases."""

    SECONDS = 1
    KILOBYTES = 2


class ProxyIdType(IntEnum):
    """Identification types of networks (RFC 2407 §4.6.2); those of hosts and people are `identity.IdType`."""

    IPV4 = 1
    IPV4_SUBNET = 4
    IPV6 = 5
    IPV6_SUBNET = 6
    IPV4_RANGE = 7
    IPV6_RANGE = 8


class NotifyCode(IntEnum):
    """RFC 2408 §3.14.1, RFC 2407 §4.6.3, RFC 3706 §5.3."""

    DOI_NOT_SUPPORTED = 2
    INVALID_COOKIE = 4
    INVALID_EXCHANGE_TYPE = 7
    INVALID_PAYLOAD_TYPE = 1
    PAYLOAD_MALFORMED = 16
    NO_PROPOSAL_CHOSEN = 14
    INVALID_KEY_INFORMATION = 17
    INVALID_ID_INFORMATION = 18
    INVALID_HASH_INFORMATION = 23
    AUTHENTICATION_FAILED = 24
    INVALID_SIGNATURE = 25
    UNSUPPORTED_EXCHANGE_TYPE = 29
    CONNECTED = 16384
    RESPONDER_LIFETIME = 24576
    REPLAY_STATUS = 24577
    INITIAL_CONTACT = 24578
    R_U_THERE = 36136
    R_U_THERE_ACK = 36137


def notify_text(code: int) -> str:
    """A notification's type in words."""
    return NotifyCode(code).name.replace("_", "-") if code in list(NotifyCode) else f"notification {code}"
