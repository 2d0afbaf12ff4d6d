"""Fuzz target: ISAKMP datagrams, clear and decrypted, may raise nothing but `IkeError`, and what parses builds again canonically;
a gateway that speaks both modes takes each of them, and raises nothing at all.

`python -m tests.fuzz.fuzz_isakmp_message` from the top of the repository; `target` says for how long and where findings go.
"""

import contextlib
from collections.abc import Iterator

import atheris

with atheris.instrument_imports(include=["ipsec_dp.ike"]):
    from ipsec_dp.ike.errors import IkeError
    from ipsec_dp.ike.identity import Identity
    from ipsec_dp.ike.peer import Life
    from ipsec_dp.ike.proposal import parse_esp, parse_ike
    from ipsec_dp.ike.traffic_selectors import ANY, ProxyId
    from ipsec_dp.ike.v1 import offers
    from ipsec_dp.ike.v1 import payloads as p
    from ipsec_dp.ike.v1.message import IsakmpHeader, build_clear, parse_isakmp_header, parse_payloads
    from ipsec_dp.ike.v1.proxy import explain, id_of, pair_of
    from ipsec_dp.ike.v1.registry import suites_phase1, suites_phase2
    from ipsec_dp.ike.v1.sa_payload import SaPayload, parse_attributes
    from ipsec_dp.ike.v1.transitions import ROW_IN
    from ipsec_dp.ike.v1.wire import HEADER, EncapsulationMode
    from tests.ike.v1.gateways import Gateways, aggressive, peer

from tests.fuzz import target

CLEAR = IsakmpHeader(b"\1" * 8, b"\2" * 8, 2, 0, 0)
AGGRESSIVE = IsakmpHeader(b"\1" * 8, bytes(8), 4, 0, 0)
PHASE1 = suites_phase1(parse_ike(["aes256-aes128-sha256-ecp256-modp2048"]))
PHASE2 = suites_phase2(parse_esp(["aes256gcm16-aes128gcm16-ecp256", "aes128-sha256"]))
OURS = (ProxyId(ANY[0], ANY[0]),)
TUNNEL = EncapsulationMode.TUNNEL
SEEDS: tuple[tuple[p.IsakmpPayload, ...], ...] = (
    (offers.phase1_offer(PHASE1, 1, Life(3600.0)), p.VendorIdPayload(b"v")),
    (p.KePayload(bytes(64)), p.NoncePayload(bytes(32)), p.NatDPayload(bytes(32)), p.NatDPayload(bytes(32))),
    (p.IdPayload(9, 0, 0, Identity.from_text("C=DE, CN=x").data), p.CertPayload(4, b"\x30\x00"), p.SignaturePayload(bytes(64))),
    (p.IdPayload(2, 17, 500, b"gw.example"), p.HashPayload(bytes(32)), p.CertRequestPayload(4, b"")),
    (
        p.HashPayload(bytes(32)),
        offers.phase2_offer(PHASE2, b"\0\0\x10\1", TUNNEL, Life(3600.0, octets=1 << 30)),
        p.NoncePayload(bytes(32)),
        id_of(ANY[0]),
        id_of(ANY[1]),
    ),
    (
        offers.phase1_offer(PHASE1, 1, Life(3600.0)),
        p.KePayload(bytes(63) + b"\1"),
        p.NoncePayload(bytes(32)),
        p.IdPayload(2, 17, 500, b"gwa.example"),
        p.VendorIdPayload(b"v"),
    ),
    (p.HashPayload(bytes(32)), p.NatDPayload(bytes(32)), p.NatDPayload(bytes(32)), p.NotificationPayload(1, 24578, bytes(16))),
    (p.HashPayload(bytes(32)), p.DeletePayload(3, (b"\0\0\x10\1",)), p.NotificationPayload(1, 36136, bytes(16), bytes(4))),
)


def use(payload: p.IsakmpPayload) -> None:
    """What a session does first with each payload."""
    if isinstance(payload, SaPayload):
        offers.phase1_select(PHASE1, 1, payload)
        offers.phase1_mismatch(PHASE1, 1, payload)
        offers.phase2_select(PHASE2, TUNNEL, payload)
        offers.phase2_mismatch(PHASE2, TUNNEL, payload)
        for accept in (lambda: offers.phase1_accept(PHASE1, 1, payload), lambda: offers.phase2_accept(PHASE2, TUNNEL, payload)):
            with contextlib.suppress(IkeError):
                accept()
    elif isinstance(payload, p.IdPayload):
        with contextlib.suppress(IkeError):
            assert str(Identity.from_wire(payload.id_type, payload.data)).isprintable()
        with contextlib.suppress(IkeError):
            explain(OURS, pair_of(payload, payload, initiator=True))
    elif isinstance(payload, p.NotificationPayload):
        with contextlib.suppress(IkeError):
            offers.life_of(parse_attributes(payload.data))


class Responder:
    """A gateway with a tunnel of each mode, to which everything comes from their peer's address, a second apart."""

    def __init__(self) -> None:
        suites = {"ike_proposals": parse_ike(["aes256-aes128-sha256-ecp256"])}
        self._gateways = Gateways([peer("a")], [aggressive("b", **suites), peer("b", tunnel="main", **suites)])
        self._now = self._gateways.clock()

    def take(self, datagram: bytes) -> None:
        self._now += 1.0
        core = self._gateways.b.core
        core.receive(datagram, self._gateways.path("b"), self._now)
        while (at := core.next_timeout()) is not None and at <= self._now:
            core.timer(self._now)


RESPONDER = Responder()


def receive(data: bytes) -> None:
    """The octets as a datagram, and as what one was decrypted to, with padding behind."""
    if len(data) >= HEADER:  # a version and a length field that fit, or most changes would end there
        data = data[:17] + b"\x10" + data[18 : HEADER - 4] + len(data).to_bytes(4, "big") + data[HEADER:]
    for padded in (False, True):
        with contextlib.suppress(IkeError):
            header, first = parse_isakmp_header(data)
            message = parse_payloads(header, first, data[HEADER:], padded=padded)
            for payload in message.payloads:
                use(payload)
            for row in ROW_IN.values():
                assert not set(row.missing(message)) & {payload.type for payload in message.payloads}
                assert message.header.encrypted or row.encrypted is not None or set(row.bare(message)).isdisjoint(row.in_clear)
            again = build_clear(header, message.payloads)
            assert parse_payloads(header, parse_isakmp_header(again)[1], again[HEADER:]).payloads == message.payloads
    RESPONDER.take(data)


def seeds() -> Iterator[bytes]:
    return (build_clear(header, payloads) for header in (CLEAR, AGGRESSIVE) for payloads in SEEDS)


if __name__ == "__main__":
    target.run("isakmp_message", receive, seeds())
