"""An ISAKMP message in words, for a trace: what it is and what is in it, by names and sizes. Never a value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.v1 import payloads as p
from ipsec_dp.ike.v1.sa_payload import SaPayload
from ipsec_dp.ike.v1.wire import ExchangeMode, PayloadKind, notify_text
from ipsec_dp.util.text import named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipsec_dp.ike.v1.message import IsakmpHeader
    from ipsec_dp.ike.v1.payloads import IsakmpPayload

SHOWN: Final = 24  # payloads of a line
_EXCHANGES: Final = {
    ExchangeMode.MAIN: "main mode",
    ExchangeMode.AGGRESSIVE: "aggressive mode",
    ExchangeMode.INFORMATIONAL: "informational",
    ExchangeMode.TRANSACTION: "transaction",
    ExchangeMode.QUICK: "quick mode",
}


def line(header: IsakmpHeader, payloads: Sequence[IsakmpPayload], octets: int) -> str:
    """ "IKEv1 main mode [] 124 octets 1c…_00…: SA(1 proposal) VENDOR-ID(16 octets)"; "[E]": it is encrypted."""
    return _line(header, octets, named(payloads, SHOWN, " ", text=_text) or "empty")


def _line(header: IsakmpHeader, octets: int, inside: str) -> str:
    known = header.exchange in list(ExchangeMode)
    exchange = _EXCHANGES[ExchangeMode(header.exchange)] if known else f"exchange {header.exchange}"
    number = f" {header.message_id:#010x}" if header.message_id else ""
    cookies = f"{header.cookie_i.hex()}_{header.cookie_r.hex()}"
    return f"IKEv1 {exchange}{number} [{'E' if header.encrypted else ''}] {octets} octets {cookies}: {inside}"


def outside(header: IsakmpHeader, octets: int) -> str:
    """ "IKEv1 main mode [E] 92 octets 1c…_88…: not opened": of a message of which no more is known."""
    return _line(header, octets, "not opened" if header.encrypted else "not looked into")


def fragment(header: IsakmpHeader, number: int, octets: int) -> str:
    """ "IKEv1 fragment 2 1252 octets 1c…_00…"."""
    return f"IKEv1 fragment {number} {octets} octets {header.cookie_i.hex()}_{header.cookie_r.hex()}"


def _text(payload: IsakmpPayload) -> str:
    name = PayloadKind(payload.type).name.replace("_", "-")
    match payload:
        case SaPayload():
            return f"{name}({_counted(sum(len(one.transforms) for one in payload.proposals), 'transform')})"
        case p.NotificationPayload():
            return f"{name}({notify_text(payload.code)})"
        case p.DeletePayload():
            return f"{name}({_counted(len(payload.spis), 'SPI')})"
        case p.IdPayload():
            return f"{name}(type {payload.id_type}, {len(payload.data)} octets)"
    return f"{name}({len(getattr(payload, 'data', b''))} octets)"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
