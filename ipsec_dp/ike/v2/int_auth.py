"""IntAuth: what AUTH covers of IKE_INTERMEDIATE messages, as if none of them had been divided (RFC 9242 §3.3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ipsec_dp.ike.octets import Writer
from ipsec_dp.ike.payload import build_chain
from ipsec_dp.ike.prf import prf
from ipsec_dp.ike.v2.message import build_header
from ipsec_dp.ike.v2.wire import IKE_HEADER, PAYLOAD_HEADER, PayloadType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.ike.octets import Buffer
    from ipsec_dp.ike.v2.message import Header, Message
    from ipsec_dp.ike.v2.payloads import Payload
    from ipsec_dp.ipsec.transforms import Prf


@dataclass(slots=True)
class IntAuth:
    """Of both directions, up to the last round."""

    of_initiator: bytes = b""
    of_responder: bytes = b""

    def add(self, algorithm: Prf, sk_p: Buffer, octets: bytes, *, from_initiator: bool) -> None:
        """One message more. `sk_p`: the sender's, of the keys that protected it; `octets`: by `sent` or `came`."""
        if from_initiator:
            self.of_initiator = prf(algorithm, sk_p, self.of_initiator, octets)
        else:
            self.of_responder = prf(algorithm, sk_p, self.of_responder, octets)

    def over(self, message_id: int) -> bytes:
        """What both sides' AUTH has at its end, `message_id` being that of the IKE_AUTH request; empty without a round."""
        if not self.of_initiator:
            return b""
        return self.of_initiator + self.of_responder + message_id.to_bytes(4, "big")


def sent(header: Header, payloads: Iterable[Payload]) -> bytes:
    """Of a message of ours."""
    writer = Writer()
    first = build_chain(writer, payloads)
    return _covered(header, first, writer.take())


def came(message: Message) -> bytes:
    """Of one that was opened: its octets as they came, whatever was passed over in them."""
    first, octets = message.inner or (PayloadType.NONE, b"")
    return _covered(message.header, first, octets)


def _covered(header: Header, first: int, plaintext: bytes) -> bytes:
    """A | P: from the IKE header to the header of SK, with lengths as if nothing but `plaintext` were in it, and that."""
    octets = PAYLOAD_HEADER + len(plaintext)
    return build_header(header, PayloadType.SK, IKE_HEADER + octets) + bytes([first, 0]) + octets.to_bytes(2, "big") + plaintext
