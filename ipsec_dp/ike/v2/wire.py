"""What is on the wire: the numbers of IKEv2, sizes, and limits on what a peer may send (RFC 7296 §3)."""

from enum import IntEnum
from typing import Final

from ipsec_dp.ike.payload import GENERIC_OCTETS, HEADER_OCTETS, SPI_OCTETS, UDP_MOST


class PayloadType(IntEnum):
    """Next Payload values (RFC 7296 §3.2; RFC 7383 §2.5 for SKF)."""

    NONE = 0
    SA = 33
    KE = 34
    ID_I = 35
    ID_R = 36
    CERT = 37
    CERTREQ = 38
    AUTH = 39
    NONCE = 40
    NOTIFY = 41
    DELETE = 42
    VENDOR_ID = 43
    TS_I = 44
    TS_R = 45
    SK = 46
    CP = 47
    EAP = 48
    SKF = 53


class ExchangeType(IntEnum):
    """RFC 7296 §3.1; RFC 9242 and RFC 9370 for the last two."""

    IKE_SA_INIT = 34
    IKE_AUTH = 35
    CREATE_CHILD_SA = 36
    INFORMATIONAL = 37
    IKE_INTERMEDIATE = 43
    IKE_FOLLOWUP_KE = 44


class Flag(IntEnum):
    """Header flag masks (RFC 7296 §3.1); the RFC counts bits from the left, these are the values of the octet."""

    INITIATOR = 0x08
    VERSION = 0x10
    RESPONSE = 0x20


class NotifyType(IntEnum):
    """Notify message types this project sends or acts on (RFC 7296 §3.10.1 and the RFC beside each later one)."""

    UNSUPPORTED_CRITICAL_PAYLOAD = 1
    INVALID_IKE_SPI = 4
    INVALID_MAJOR_VERSION = 5
    INVALID_SYNTAX = 7
    INVALID_MESSAGE_ID = 9
    INVALID_SPI = 11
    NO_PROPOSAL_CHOSEN = 14
    INVALID_KE_PAYLOAD = 17
    AUTHENTICATION_FAILED = 24
    SINGLE_PAIR_REQUIRED = 34
    NO_ADDITIONAL_SAS = 35
    INTERNAL_ADDRESS_FAILURE = 36
    FAILED_CP_REQUIRED = 37
    TS_UNACCEPTABLE = 38
    INVALID_SELECTORS = 39
    TEMPORARY_FAILURE = 43
    CHILD_SA_NOT_FOUND = 44
    STATE_NOT_FOUND = 47  # RFC 9370
    TS_MAX_QUEUE = 48  # RFC 9611
    INITIAL_CONTACT = 16384
    SET_WINDOW_SIZE = 16385
    ADDITIONAL_TS_POSSIBLE = 16386
    IPCOMP_SUPPORTED = 16387
    NAT_DETECTION_SOURCE_IP = 16388
    NAT_DETECTION_DESTINATION_IP = 16389
    COOKIE = 16390
    USE_TRANSPORT_MODE = 16391
    HTTP_CERT_LOOKUP_SUPPORTED = 16392
    REKEY_SA = 16393
    ESP_TFC_PADDING_NOT_SUPPORTED = 16394
    NON_FIRST_FRAGMENTS_ALSO = 16395
    MOBIKE_SUPPORTED = 16396  # RFC 4555
    CHILDLESS_IKEV2_SUPPORTED = 16418  # RFC 6023
    IKEV2_FRAGMENTATION_SUPPORTED = 16430  # RFC 7383
    SIGNATURE_HASH_ALGORITHMS = 16431  # RFC 7427
    USE_PPK = 16435  # RFC 8784
    PPK_IDENTITY = 16436  # RFC 8784
    NO_PPK_AUTH = 16437  # RFC 8784
    INTERMEDIATE_EXCHANGE_SUPPORTED = 16438  # RFC 9242
    ADDITIONAL_KEY_EXCHANGE = 16441  # RFC 9370
    SA_RESOURCE_INFO = 16444  # RFC 9611
    USE_PPK_INT = 16445  # RFC 9867
    PPK_IDENTITY_KEY = 16446  # RFC 9867


FIRST_STATUS_NOTIFY: Final = 16384  # RFC 7296 §3.10.1: below it a notify reports an error
CRITICAL: Final = 0x80  # the critical bit of the octet after Next Payload (RFC 7296 §3.2)
MAJOR_VERSION: Final = 2
KEY_LENGTH_ATTRIBUTE: Final = 14  # RFC 7296 §3.3.5
ATTRIBUTE_TV: Final = 0x8000  # attribute format bit: type/value, no length

# Sizes, octets.
IKE_HEADER: Final = HEADER_OCTETS
PAYLOAD_HEADER: Final = GENERIC_OCTETS
IKE_SPI: Final = SPI_OCTETS
ESP_SPI: Final = 4
CA_HASH: Final = 20  # RFC 7296 §3.7: SHA-1 of a CA's SubjectPublicKeyInfo

MAX_MESSAGE: Final = UDP_MOST
MIN_NONCE: Final = 16  # RFC 7296 §3.9
MAX_NONCE: Final = 256
MAX_COOKIE: Final = 64  # RFC 7296 §2.6
MAX_SELECTORS: Final = 64  # traffic selectors in an answer of ours
