"""Fuzz target: IKE datagrams, outer and inner, may raise nothing but `IkeError`, and what parses builds again canonically.

`python -m tests.fuzz.fuzz_ike_message` from the top of the repository; `target` says for how long and where findings go.
"""

import contextlib
from collections.abc import Iterator

import atheris

with atheris.instrument_imports(include=["ipsec_dp.ike"]):
    from ipsec_dp.ike.environment import Rng
    from ipsec_dp.ike.errors import IkeError
    from ipsec_dp.ike.identity import Identity
    from ipsec_dp.ike.negotiation import explain_mismatch, select, with_spi
    from ipsec_dp.ike.octets import Buffer, Writer
    from ipsec_dp.ike.payload import build_chain
    from ipsec_dp.ike.proposal import parse_esp, parse_ike
    from ipsec_dp.ike.suites import ike_suite
    from ipsec_dp.ike.traffic_selectors import ANY, text
    from ipsec_dp.ike.v2 import keymat, protect
    from ipsec_dp.ike.v2 import payloads as p
    from ipsec_dp.ike.v2.errors import IntegrityError
    from ipsec_dp.ike.v2.fragment import Reassembler
    from ipsec_dp.ike.v2.message import Header, Message, build_message, parse_message
    from ipsec_dp.ike.v2.sk_iv import SkIvs
    from ipsec_dp.ike.v2.tolerance import passed_over
    from ipsec_dp.ike.v2.ts import narrow
    from ipsec_dp.ike.v2.wire import IKE_HEADER
    from ipsec_dp.ipsec.packet import selectors_of_packet
    from ipsec_dp.util.text import shown

from tests.fuzz import target

HEADER = Header(b"\1" * 8, b"\2" * 8, 35, 8, 1)
IKE, ESP = parse_ike(["aes128gcm16-aes256gcm16-prfsha256-x25519"]), parse_esp(["aes128gcm16-esn-noesn"])
SPI = b"\0\0\x10\1"
SEEDS: tuple[tuple[p.Payload, ...], ...] = (
    (
        p.SecurityAssociation(IKE),
        p.KeyExchangePayload(31, bytes(32)),
        p.Nonce(bytes(32)),
        p.Notify(16388, bytes(20)),
        p.VendorId(b"v"),
    ),
    (
        p.IdentificationInitiator(9, Identity.from_text("C=DE, CN=x").data),
        p.IdentificationResponder(2, b"gw.example"),
        p.Certificate(4, b"\x30\x00"),
        p.CertificateRequest(4, bytes(40)),
        p.Authentication(14, b"\x02\x30\x00x"),
        p.SecurityAssociation(with_spi(ESP, SPI)),
        p.TrafficSelectorsInitiator(ANY),
        p.TrafficSelectorsResponder(ANY),
    ),
    (p.Delete(77, (bytes(8),)), p.CertificateRequest(4, bytes(19)), p.Certificate(12, b"x"), p.Notify(50000, b"", 9, bytes(8))),
    (p.Delete(3, (SPI,)), p.Delete(1), p.Notify(16393, b"", 3, SPI), p.Configuration(1, ((1, b""),)), p.Eap(1, 1, b"\1")),
    (p.Encrypted(35, bytes(40)),),
    (p.EncryptedFragment(35, 1, 2, bytes(40)),),
)


class _Open:
    """A protection that takes everything: the fuzzer cannot make an ICV, and behind it lies most of the parser."""

    overhead, block, ivs = 0, 1, SkIvs()

    def seal(self, associated: bytes, plaintext: bytes, rng: Rng) -> bytes:  # noqa: ARG002
        return plaintext

    def open(self, associated: Buffer, data: Buffer) -> bytes:  # noqa: ARG002
        return bytes(data)


def one(data: bytes) -> None:
    message = parse_message(data)
    for payload in message.payloads:
        use(payload)
    assert shown(passed_over(message)) == passed_over(message)
    if all(getattr(payload, "selectors", True) for payload in message.payloads):
        assert parse_message(build_message(message)) == message
    if message.get(p.Encrypted) is not None:
        inside = protect.open_message(_Open(), data, message)
        for payload in inside.payloads:
            use(payload)
        assert passed_over(inside).isprintable()
    fragment = message.get(p.EncryptedFragment)
    if fragment is not None:
        Reassembler().add(message.header.message_id, fragment, protect.open_payload(_Open(), data, fragment), 0.0)


def use(payload: p.Payload) -> None:
    """What a session does first with each payload."""
    if isinstance(payload, p.SecurityAssociation):
        for ours in (IKE, ESP):
            select(ours, payload.proposals)
            explain_mismatch(ours, payload.proposals)
    elif isinstance(payload, p.TrafficSelectorsInitiator | p.TrafficSelectorsResponder):
        text(narrow(ANY, payload.selectors))
    elif isinstance(payload, p.IdentificationInitiator | p.IdentificationResponder):
        assert str(Identity.from_wire(payload.id_type, payload.data)).isprintable()


def receive(data: bytes) -> None:
    """Three readings of the octets: a packet that asks for an SA, a datagram, and the content of a protected payload whose ICV
    cannot hold."""
    selectors_of_packet(data)
    if len(data) >= IKE_HEADER:  # a length field that fits, or every change of size would end there
        data = data[: IKE_HEADER - 4] + len(data).to_bytes(4, "big") + data[IKE_HEADER:]
    with contextlib.suppress(IkeError):
        one(data)
    for opening in PROTECTIONS:
        try:
            protect.open_payload(opening, data, p.Encrypted(35, data[32:]))
        except IntegrityError:
            continue
        raise AssertionError("forged content was opened")


def protections() -> list[protect.Protection]:
    """One of each kind of cipher, under keys the fuzzer does not know."""
    found = []
    for words in ("aes128gcm16-prfsha256-x25519", "chacha20poly1305-prfsha256-x25519", "aes128-sha256-x25519"):
        suite = ike_suite(parse_ike([words])[0])
        keys = keymat.ike_keys(suite, b"seed", bytes(16), bytes(16), bytes(8), bytes(8))
        found.append(protect.protections(suite, keys)[0])
    return found


PROTECTIONS = protections()


def seeds() -> Iterator[bytes]:
    for payloads in SEEDS:
        yield build_message(Message(HEADER, payloads))
        inner = Writer()
        first = build_chain(inner, payloads)
        if payloads[0].type != p.Encrypted.type and payloads[0].type != p.EncryptedFragment.type:
            yield build_message(Message(HEADER, (p.Encrypted(first, inner.take() + b"\0"),)))


if __name__ == "__main__":
    target.run("ike_message", receive, seeds())
