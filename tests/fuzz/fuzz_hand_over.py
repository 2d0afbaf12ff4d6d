"""Fuzz target: what one process says to the one that takes its place is read whole or refused with one sentence.

The fuzzer's octets as a head with what follows; then behind a head that belongs to them, as each message there is.
"""

import contextlib
from collections.abc import Iterator

import atheris

with atheris.instrument_imports(include=["ipsec_dp.gateway.upgrade"]):
    from ipsec_dp.gateway.upgrade.messages import MESSAGES, MessageKind, Ready, UpgradeRefused, body_of, message_of
    from ipsec_dp.gateway.upgrade.stream import HEAD_OCTETS, HandOverError, check_body, head_for, head_of

from tests.fuzz import target


def receive(data: bytes) -> None:
    """Nothing else than HandOverError is ever raised."""
    with contextlib.suppress(HandOverError):
        head = head_of(data[:HEAD_OCTETS])
        check_body(head, data[HEAD_OCTETS:])
    for kind in MessageKind:
        head = head_of(head_for(kind, data))
        check_body(head, data)
        with contextlib.suppress(HandOverError):
            message_of(kind, bytearray(data), MESSAGES[kind])


def seeds() -> Iterator[bytes]:
    for kind, message in ((MessageKind.READY, Ready("0.1.0")), (MessageKind.REFUSED, UpgradeRefused("no"))):
        body = body_of(message)
        yield bytes(body)
        yield head_for(kind, body) + body


if __name__ == "__main__":
    target.run("hand_over", receive, seeds())
