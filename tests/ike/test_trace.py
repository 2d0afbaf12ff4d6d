"""`up --trace-ike`: a line for each message, with what it is and holds, and never a value that anybody should not read."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

import pytest

from ipsec_dp.ike.certificates import Credential, Revocation, Trust, load_certificates
from ipsec_dp.ike.peer import Liveness, SignatureAuth
from ipsec_dp.ike.v2.message import Header, Message, build_message
from ipsec_dp.ike.v2.payloads import Notify
from ipsec_dp.ike.v2.trace import REMEMBERED, MessageTrace
from ipsec_dp.ike.v2.wire import ExchangeType, Flag, NotifyType

from .ladder import Ladder, peer
from .pki import CA, NOW, OpenSsl

BEFORE = NOW - timedelta(seconds=1000)


@pytest.fixture(scope="module")
def certified(tmp_path_factory):
    """Both sites by certificates."""
    openssl = OpenSsl(tmp_path_factory.mktemp("pki"))
    trust = Trust(load_certificates(openssl.certificate("ca", "/CN=Test CA", extensions=CA)), (), Revocation.OFF)
    peers = {}
    for site in "ab":
        name = f"gw{site}"
        certificate = openssl.certificate(name, f"/CN={name}", "ca", f"subjectAltName=DNS:{name}.example")
        credential = Credential.from_files(certificate, openssl.path(f"{name}.key"))
        peers[site] = [peer(site, auth=SignatureAuth(credential, trust))]
    return peers


class Lines(MessageTrace):
    def __init__(self):
        self.all = []
        self.proven = []
        super().__init__(self._take)

    def _take(self, line, proven):
        self.all.append(line)
        self.proven.append(proven)

    def short(self):
        """Without addresses, sizes and SPIs."""
        return [
            re.sub(r" \S+ > \S+|, ?\d+ octets| \d+ octets|\(\d+ octets\)| [0-9a-f]{16}_[0-9a-f]{16}", "", line) for line in self.all
        ]


def traced(**changes):
    lines = Lines()
    return Ladder(a=[peer("a", **changes)], trace=lines), lines


def test_a_life_in_lines():
    ladder, lines = traced()
    ladder.up()
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock()))
    ladder.settle()
    nat = "N(NAT_DETECTION_SOURCE_IP) N(NAT_DETECTION_DESTINATION_IP)"
    abilities = "N(IKEV2_FRAGMENTATION_SUPPORTED) N(SIGNATURE_HASH_ALGORITHMS)"
    child = "SA(1 proposal) TSi(1 selector) TSr(1 selector)"
    new = "SA(1 proposal) Nonce TSi(1 selector) TSr(1 selector)"
    assert lines.short() == [
        f"out IKE_SA_INIT request 0 [I]: SA(1 proposal) KE(x25519) Nonce {nat} {abilities}",
        f"in IKE_SA_INIT response 0 [R]: SA(1 proposal) KE(x25519) Nonce {nat} {abilities}",
        f"out IKE_AUTH request 1 [I]: IDi(FQDN) N(INITIAL_CONTACT) IDr(FQDN) AUTH(shared key) {child}",
        f"in IKE_AUTH response 1 [R]: IDr(FQDN) AUTH(shared key) {child}",
        f"out CREATE_CHILD_SA request 2 [I]: N(REKEY_SA) {new}",
        f"in CREATE_CHILD_SA response 2 [R]: {new}",
        "out INFORMATIONAL request 3 [I]: D(ESP, 1 SPI)",
        "in INFORMATIONAL response 3 [R]: D(ESP, 1 SPI)",
    ]
    first = ladder.wire.log[0][0].data[0]
    assert lines.all[0].startswith("out 192.0.2.1:500 > 192.0.2.2:500 IKE_SA_INIT")
    assert lines.all[1].startswith("in 192.0.2.2:500 > 192.0.2.1:500 IKE_SA_INIT")
    assert f" {len(first)} octets {first[:8].hex()}_0000000000000000: " in lines.all[0]
    assert lines.proven == [False, False, *[True] * 6], "of what nobody has keys for there are fewer"


def test_no_line_has_a_value_of_a_key_a_nonce_or_an_identity(certified):
    lines = Lines()
    ladder = Ladder(**certified, trace=lines, epoch=BEFORE).up()
    ladder.a.do(ladder.a.core.rekey("to-b", ladder.clock(), ike=True))
    ladder.settle()
    spis = {spi for delivery, _ in ladder.wire.log for spi in (delivery.data[0][:8].hex(), delivery.data[0][8:16].hex())}
    shown = {digits for line in lines.all for digits in re.findall("[0-9a-f]{9,}", line)}
    assert shown <= spis
    text = "\n".join(lines.all)
    assert "CERT(X.509 certificate" in text
    assert "AUTH(" in text
    assert "example" not in text


def test_a_repeat_and_a_message_that_is_not_opened_are_told_apart():
    ladder, lines = traced(liveness=Liveness(10.0, 3))
    ladder.up()
    ladder.wire.cut("a", "b")
    ladder.run(12)
    assert lines.short()[-2:] == ["out INFORMATIONAL request 2 [I]: empty", "out INFORMATIONAL request 2 [I]: again: empty"]
    last = next(d.data[0] for d, _ in reversed(ladder.wire.log) if d.sender == "b")
    lines.arrived(last[:-1] + b"\0", ladder.path("a"))
    ladder.a.core.receive(last[:-1] + b"\0", ladder.path("a"), ladder.clock())
    lines.handled()
    assert re.search(r"^in .* IKE_AUTH response 1 \[R\] .*: SK\(\d+ octets, not opened\)$", lines.all[-1])
    lines.arrived(b"\x7f" * 30, ladder.path("a"))
    lines.handled()
    assert "30 octets: cannot be read: major version 7" in lines.all[-1]


def test_fragments_are_lines_of_their_own(certified):
    lines = Lines()
    both = {site: [replace(each, datagram=576) for each in peers] for site, peers in certified.items()}
    Ladder(**both, trace=lines, epoch=BEFORE).up()
    out = [line for line in lines.short() if line.startswith("out IKE_AUTH")]
    assert len(out) > 1
    assert out[0].startswith(f"out IKE_AUTH request 1 [I]: fragment 1 of {len(out)}: IDi(FQDN) CERT")
    assert out[1].endswith(f"fragment 2 of {len(out)}: …")
    came = [line for line in lines.short() if line.startswith("in IKE_AUTH")]
    assert came[0].startswith("in IKE_AUTH response 1 [R]: SKF(fragment 1 of")
    assert came[-1].startswith("in IKE_AUTH response 1 [R]: IDr(FQDN) CERT"), "the last one completes it"


@pytest.mark.parametrize("exchange", [ExchangeType.IKE_SA_INIT, 38, 99])
def test_what_the_core_did_not_make_for_a_session_is_shown_from_outside(exchange):
    """A COOKIE, INVALID_IKE_SPI."""
    lines = Lines()
    answer = build_message(
        Message(Header(bytes([1] * 8), bytes(8), exchange, Flag.RESPONSE, 0), (Notify(NotifyType.COOKIE, b"x" * 32),))
    )
    lines.left(answer, Ladder().path("a"))
    name = {34: "IKE_SA_INIT", 38: "IKE_SESSION_RESUME", 99: "exchange 99"}[exchange]
    assert lines.short() == [f"out {name} response 0 [R]: N(COOKIE)"]
    assert lines.proven == [False]


def test_few_datagrams_are_remembered():
    lines, path = Lines(), Ladder().path("a")
    for number in range(REMEMBERED + 1):
        header = Header(bytes([1] * 8), bytes(8), 37, Flag.INITIATOR, number)
        datagram = build_message(Message(header, (Notify(NotifyType.COOKIE),)))
        lines.sealed((Notify(NotifyType.COOKIE),), (datagram,))
    first = build_message(Message(Header(bytes([1] * 8), bytes(8), 37, Flag.INITIATOR, 0), (Notify(NotifyType.COOKIE),)))
    lines.left(first, path)
    assert lines.proven == [False]
