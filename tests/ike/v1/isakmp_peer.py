"""Messages as the peer of an ISAKMP SA would make them, true or not: tests have both sides' keys."""

from ipsec_dp.ike.v1 import payloads as p
from ipsec_dp.ike.v1.keymat import BLOCK, decrypt, encrypt, exchange_iv, phase2_hash
from ipsec_dp.ike.v1.message import IsakmpHeader, build_isakmp, build_payloads, parse_isakmp_header, parse_payloads
from ipsec_dp.ike.v1.wire import HEADER, ExchangeMode, HeaderFlag


def sealed(context, payloads, exchange=ExchangeMode.INFORMATIONAL, message_id=77, *, hashed=None, behind=b""):
    """A message as the peer of `context` would make it; `hashed`: the octets that its hash covers instead of all."""
    suite, keys = context.keyed
    _, octets = build_payloads(payloads)
    number = message_id.to_bytes(4, "big")
    proof = p.HashPayload(phase2_hash(suite.prf, keys.a, number, octets if hashed is None else hashed))
    first, plaintext = build_payloads((proof, *payloads))
    iv = exchange_iv(suite.prf, context.sa.last_block, message_id)
    header = IsakmpHeader(context.sa.cookie_i, context.sa.cookie_r, exchange, HeaderFlag.ENCRYPTED, message_id)
    return build_isakmp(header, first, encrypt(keys.cipher, iv, plaintext + behind))


def in_words(datagram):
    """A message in clear, read."""
    header, first = parse_isakmp_header(datagram)
    return parse_payloads(header, first, datagram[HEADER:])


def sent(gateways, sender, number):
    """A datagram that somebody has sent, counted from 1."""
    return [delivery.data[0] for delivery, _ in gateways.wire.log if delivery.sender == sender][number - 1]


def bodies(datagram):
    """Of the first four payloads, which are SA, KE, NONCE and ID in aggressive mode; by their lengths alone."""
    found, at = [], HEADER
    for _ in range(4):
        length = int.from_bytes(datagram[at + 2 : at + 4], "big")
        found.append(datagram[at + 4 : at + length])
        at += length
    return found


def opened(context, datagram):
    """Message 1 of a quick mode, as its receiver reads it."""
    suite, keys = context.keyed
    header, first = parse_isakmp_header(datagram)
    iv = exchange_iv(suite.prf, context.sa.last_block, header.message_id)
    return parse_payloads(header, first, decrypt(keys.cipher, iv, datagram[HEADER:]), padded=True)


def second(context, datagram, payloads):
    """Message 2 in answer to that message 1, with these payloads behind the hash."""
    suite, keys = context.keyed
    asked = opened(context, datagram)
    _, octets = build_payloads(payloads)
    nonce = asked.get(p.NoncePayload)
    assert nonce is not None
    number = asked.header.message_id.to_bytes(4, "big")
    proof = p.HashPayload(phase2_hash(suite.prf, keys.a, number, nonce.data, octets))
    first, plaintext = build_payloads((proof, *payloads))
    return build_isakmp(asked.header, first, encrypt(keys.cipher, datagram[-BLOCK:], plaintext))
