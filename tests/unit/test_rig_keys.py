"""Keys of a rig's gateways as Wireshark takes them: what was captured is opened by them, with nothing of this project's."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from ipsec_dp.rig import AsyncGateway, RigError, Wire
from ipsec_dp.rig.capture import read
from tests.unit.rig_sites import site, sites

TABLE = "ikev2_decryption_table"
IKE = '  [tunnel.ike]\n  proposals = ["{}"]\n'
AUTH, CREATE, SK, ID_I, RESPONSE = 35, 36, 46, 35, 0x20  # RFC 7296 §3.1, §3.2
CBC = {"HMAC_SHA2_256_128 [RFC4868]": ("sha256", 16), "HMAC_SHA2_384_192 [RFC4868]": ("sha384", 24)}


def table_of(text):
    """Its lines by SPIs."""
    return {(line[0], line[1]): line[2:] for line in csv.reader(text.splitlines())}


def opened(message, table):
    """First payload and plaintext of a protected message."""
    sk_ei, sk_er, cipher, sk_ai, sk_ar, integrity = table[message[:8].hex(), message[8:16].hex()]
    by_initiator = bool(message[19] & 0x08)
    key, integrity_key = (bytes.fromhex(each) for each in ((sk_ei, sk_ai) if by_initiator else (sk_er, sk_ar)))
    assert message[16] == SK
    first, data = message[28], message[32:]
    if integrity in CBC:
        name, octets = CBC[integrity]
        assert hmac.digest(integrity_key, message[:-octets], getattr(hashlib, name))[:octets] == message[-octets:]
        decryptor = Cipher(algorithms.AES(key), modes.CBC(data[:16])).decryptor()
        assert cipher == f"AES-CBC-{8 * len(key)} [RFC3602]"
        padded = decryptor.update(data[16:-octets])
    else:
        assert integrity == "NONE [RFC4306]"
        aead = ChaCha20Poly1305 if cipher == "chacha20poly1305" else AESGCM
        assert aead is ChaCha20Poly1305 or cipher == f"AES-GCM-{8 * len(key) - 32} with 16 octet ICV [RFC5282]"
        padded = aead(key[:-4]).decrypt(key[-4:] + data[:8], data[8:], message[:32])
    return first, padded[: -1 - padded[-1]]


NAT_PORT = (4500).to_bytes(2, "big")  # where a marker says that it is no ESP (RFC 3948 §2.2)


def captured(gateway, path):
    """The IKE messages of its capture that are protected."""
    path.write_bytes(gateway.capture())
    datagrams = [(packet[22:24], packet[28:]) for _, packet in read(path) if packet[9] == 17]
    marked = [octets.removeprefix(bytes(4)) for port, octets in datagrams if port == NAT_PORT and octets.startswith(bytes(4))]
    messages = [*(octets for port, octets in datagrams if port != NAT_PORT), *marked]
    return [message for message in messages if message[18] != 34]


@pytest.mark.parametrize(
    "suite",
    [
        "aes128gcm16-prfsha256-x25519",
        "aes256gcm16-prfsha384-x25519",
        "chacha20poly1305-prfsha256-x25519",
        "aes128-sha256-x25519",
        "aes256-sha384-x25519",
    ],
)
def test_captured_messages_are_opened_by_the_table_of_either_side(suite, tmp_path):
    with sites(tables=IKE.format(suite)) as (a, b):
        table = table_of(a.keylog(TABLE))
        assert table == table_of(b.keylog(TABLE)) == table_of(a.network.keylog(TABLE))
        request, response = captured(a, tmp_path / "a.pcapng")
        first, plain = opened(request, table)
        assert (request[18], first) == (AUTH, ID_I)
        assert b"a.example" in plain[:20]
        assert response[19] & RESPONSE
        assert b"b.example" in opened(response, table)[1][:20]


def test_a_rekeyed_ike_sa_has_a_line_of_its_own(tmp_path):
    with sites() as (a, _):
        first = set(table_of(a.keylog(TABLE)))
        a.rekey(ike=True)
        a.wait("IKE SA rekeyed")
        a.rekey()
        a.wait("CHILD_SA rekeyed")
        table = table_of(a.keylog(TABLE))
        assert len(table) == 2
        (new,) = set(table) - first
        last = [message for message in captured(a, tmp_path / "a.pcapng") if message[18] == CREATE][-1]
        assert (last[:8].hex(), last[8:16].hex()) == new
        opened(last, table)
        assert len(a.keylog().splitlines()) == 4, "the table of ESP SAs is what it was"
        assert all(line.startswith('"IPv4",') for line in a.keylog("esp_sa").splitlines())


def test_a_table_that_wireshark_has_not_is_refused():
    with sites() as (a, _), pytest.raises(RigError, match="no table 'ike'"):
        a.keylog("ike")


def test_no_key_is_shown_by_what_a_gateway_tells(caplog):
    caplog.set_level("DEBUG")
    with sites() as (a, b):
        keys = [key for lines in table_of(a.keylog(TABLE)).values() for key in lines if len(key) >= 32 and " " not in key]
        assert len(keys) == 2
        told = caplog.text + a.story() + repr(a.site.interference) + "".join(map(str, b.events()))
        assert not [key for key in keys if key in told]


def test_it_can_be_awaited():

    async def life():
        wire = Wire()
        async with AsyncGateway(site("b"), wire=wire), AsyncGateway(site("a"), wire=wire) as a:
            await a.wait("up")
            return await a.keylog(TABLE)

    assert asyncio.run(life()).count("\n") == 1
