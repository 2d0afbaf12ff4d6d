"""The octets in which the model is carried: which they are, of which version, how long, a digest, and then the model by msgpack.

The digest is against a cut or a slip, not against an enemy: whoever hands state over in the clear is this host's own process.
"""

from __future__ import annotations

import hashlib
from math import isnan
from typing import TYPE_CHECKING, Final

import msgspec
from cryptography.hazmat.primitives.constant_time import bytes_eq

from ipsec_dp.ike.carried.damaged import UNREADABLE, readable
from ipsec_dp.ike.carried.model import MODEL
from ipsec_dp.ike.carried.part import CarriedStateError
from ipsec_dp.ike.carried.whole import CarriedIke

if TYPE_CHECKING:
    from ipsec_dp.ike.octets import Buffer

MAGIC: Final = b"ipsec-dp ike\n"
_VERSION: Final = 2  # octets
_LENGTH: Final = 8
_DIGEST: Final = 32
_FRONT: Final = len(MAGIC) + _VERSION + _LENGTH  # what the digest covers besides the model
HEAD: Final = _FRONT + _DIGEST
_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(CarriedIke)


def seal_model(model: CarriedIke) -> bytearray:
    """The octets, which whoever has them wipes."""
    body = bytearray()
    try:
        _ENCODER.encode_into(model, body)
        return enveloped(body, MODEL)
    finally:
        body[:] = bytes(len(body))


def enveloped(body: Buffer, version: int) -> bytearray:
    """Any body as one of a version."""
    octets = bytearray(MAGIC)
    octets += version.to_bytes(_VERSION, "big")
    octets += len(body).to_bytes(_LENGTH, "big")
    octets += _digest(octets, body)
    octets += body
    return octets


def _digest(head: Buffer, body: Buffer) -> bytes:
    """Of both, one behind the other: no copy of them is made, for nobody would wipe it."""
    digest = hashlib.sha256(head)
    digest.update(body)
    return digest.digest()


def version_of(octets: Buffer) -> int:
    """Of which version the model is. Raises CarriedStateError for octets that are none."""
    if bytes(octets[: len(MAGIC)]) != MAGIC or len(octets) < HEAD:
        raise CarriedStateError("these octets are no state that was exported, or the beginning of it alone")
    return int.from_bytes(octets[len(MAGIC) : len(MAGIC) + _VERSION], "big")


def open_model(octets: Buffer) -> CarriedIke:
    """What was exported. Raises CarriedStateError, with one sentence, for whatever is not whole or cannot be read here."""
    version = version_of(octets)
    view = memoryview(octets)
    head, digest, body = view[:_FRONT], view[_FRONT:HEAD], view[HEAD:]
    length = int.from_bytes(head[len(MAGIC) + _VERSION :], "big")
    if version > MODEL:
        raise CarriedStateError(f"the state is of model {version}, and this program reads up to model {MODEL}")
    if length != len(body):
        raise CarriedStateError(f"the state was cut: {len(body)} of {length} octets are there")
    if not bytes_eq(_digest(head, body), bytes(digest)):
        raise CarriedStateError("the state was changed on its way: its digest does not hold")
    try:
        model = _decoded(body)
    except UNREADABLE:
        raise CarriedStateError(f"the state does not have the form of model {version}") from None
    if isnan(model.at):
        raise CarriedStateError("the state is of no instant")
    return model


def _decoded(body: Buffer) -> CarriedIke:
    """Records that are spoiled by themselves are left to the import, which names them. Raises one of UNREADABLE."""
    try:
        return _DECODER.decode(body)
    except UNREADABLE:
        return readable(body)
