"""What a peer's AUTH costs a gateway with many tunnels, before and until it holds; and that it finds the tunnel that it is for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from benchmarks.strangers_hub import Hub, authority, certificate, name, sent
from benchmarks.strangers_messages import ESP, FEW, NAME, SIGNATURE, answer_to, kinds, sealed, signed
from ipsec_dp.ike import certificates
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.message import build_message, parse_message
from ipsec_dp.ike.v2.wire import NotifyType

SUBJECT = "CN=w1,OU=Unit,O=Organisation,C=DE"


def message(hub, text):
    """One of those that `make bench-strangers` measures."""
    return next(kind for kind in kinds() if kind.name == text).make(hub)


def counted(monkeypatch):
    """The sets of authorities that a chain is looked for to."""
    asked = []
    judge = certificates.judge

    def count(received, identity, trust, at):
        asked.append(trust)
        return judge(received, identity, trust, at)

    monkeypatch.setattr(certificates, "judge", count)
    return asked


def test_one_look_for_a_chain_finds_out_whom_nobody_vouches_for(monkeypatch):
    """Eight sets of authorities for one identity cost eight times as much: a tenth of a second with long names."""
    hub = Hub(16, "of one identity")
    datagram, path = message(hub, "IKE_AUTH, six certificates, P-521")
    asked = counted(monkeypatch)
    hub.core.receive(datagram, path, hub.now)
    assert [len(trust.authorities) for trust in asked] == [1 + LIMITS.proofs], "the one that all share, and one of each"


def test_certificates_of_somebody_else_cost_one_signature(monkeypatch):
    hub = Hub(16, "of one identity")
    datagram, path = message(hub, "IKE_AUTH, another peer's certificates")
    asked = counted(monkeypatch)
    hub.core.receive(datagram, path, hub.now)
    assert asked == []


@pytest.mark.parametrize("tunnel", ["w1", "w3", "w7"])
def test_the_tunnel_is_found_whose_authority_vouches(tunnel):
    hub = Hub(8, "of one identity")
    issuer, signer = authority(f"root {tunnel[1:]}")
    key = ec.generate_private_key(ec.SECP256R1())
    own = certificate(x509.Name.from_rfc4514_string(SUBJECT), key.public_key(), issuer.subject, signer)
    session, path = hub.half_open()
    claimed = (p.IdentificationInitiator(*NAME), p.Certificate(4, own.public_bytes(Encoding.DER)), SIGNATURE, ESP, *FEW)
    hub.core.receive(sealed(hub, session, signed(session, claimed, key))[0], path, hub.now)
    assert [number for number in range(8) if hub.core.sessions(f"w{number}")] == [int(tunnel[1:])]
    assert name("root") != issuer.subject


def test_a_refusal_that_nobody_has_proven_holds_its_text_and_nothing_else():
    """An exception holds all that its frames do: the datagram, and what was parsed of it."""
    hub = Hub(1)
    datagram, path = answer_to(hub, p.Notify(NotifyType.NO_PROPOSAL_CHOSEN))
    hub.core.receive(datagram, path, hub.now)
    (hint,) = hub.core.sessions("w0")[0].handshake.hints
    assert "accepts none of our IKE proposals" in str(hint)
    assert (hint.__traceback__, hint.__context__) == (None, None)


@pytest.mark.parametrize(("padding", "half_open"), [(LIMITS.init_octets // 2, 1), (LIMITS.init_octets, 0)])
def test_an_init_request_that_is_kept_until_auth_is_short(padding, half_open):
    """Four thousand of 60 KB each were a quarter of a gigabyte."""
    hub = Hub(2)
    request, path = message(hub, "IKE_SA_INIT, x25519")
    parsed = parse_message(request)
    hub.core.receive(build_message(replace(parsed, payloads=(*parsed.payloads, p.VendorId(bytes(padding))))), path, hub.now)
    assert hub.core.counters().half_open == half_open


@pytest.mark.parametrize(("tunnels", "named"), [(4, True), (4 * LIMITS.authorities_named, False)])
def test_the_answer_to_a_stranger_stays_short_however_many_authorities_there_are(tunnels, named):
    hub = Hub(tunnels, "an authority each")
    datagram, path = message(hub, "IKE_SA_INIT, x25519")
    (answer,) = sent(hub.core.receive(datagram, path, hub.now))
    request = parse_message(answer).get(p.CertificateRequest)
    assert request is not None
    assert bool(request.authorities) is named
    assert len(answer) < 1200
