"""Errors of IKEv2 alone, and the notify that answers an error (RFC 7296 §2.21)."""

from __future__ import annotations

from ipsec_dp.ike.auth import AuthenticationError
from ipsec_dp.ike.errors import IkeError, IkeSyntaxError
from ipsec_dp.ike.proposal import ProposalError
from ipsec_dp.ike.v2.payloads import Notify
from ipsec_dp.ike.v2.wire import NotifyType


class InvalidMajorVersionError(IkeSyntaxError):
    """The peer speaks a newer major version (RFC 7296 §2.5)."""


class Ikev1MessageError(IkeSyntaxError):
    """An IKEv1 datagram: a peer configured for another protocol, counted and reported, never answered."""


class UnsupportedCriticalPayloadError(IkeSyntaxError):
    """A payload we do not know, with the critical bit set (RFC 7296 §2.5); the answer names its type."""

    def __init__(self, payload_type: int) -> None:
        super().__init__(f"payload type {payload_type} is critical and not supported")
        self.payload_type = payload_type


class IntegrityError(IkeError):
    """The ICV of a protected message does not hold. Such a message changes nothing and is not answered."""


def notify_of(error: IkeError) -> Notify | None:
    """What an answer to the peer carries, INVALID_SYNTAX where there is nothing better; None: not a word."""
    match error:
        case Ikev1MessageError():
            return None
        case UnsupportedCriticalPayloadError():
            return Notify(NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD, bytes([error.payload_type]))
        case InvalidMajorVersionError():
            return Notify(NotifyType.INVALID_MAJOR_VERSION)
        case AuthenticationError():
            return Notify(NotifyType.AUTHENTICATION_FAILED)
        case ProposalError():
            return Notify(NotifyType.NO_PROPOSAL_CHOSEN)
        case _:
            return Notify(NotifyType.INVALID_SYNTAX)
