"""`check` looks into certificates, keys and CRLs: what could authenticate nobody is refused before anything starts."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest

from ipsec_dp.config import CertificateAuth
from ipsec_dp.config.certificate_auth import check_certificates
from ipsec_dp.config.findings import Findings
from ipsec_dp.config.named_files import NamedFiles
from tests.ike.pki import CA, OpenSsl

NOW = datetime.now(UTC) + timedelta(hours=2)  # later than all that is made here, however long the tests before it run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A CA with a gateway's certificate and CRL, and the key of somebody else."""
    pki = OpenSsl(tmp_path_factory.mktemp("pki"))
    pki.certificate("ca", "/CN=Root", extensions=CA)
    pki.certificate("gw", "/CN=gw", "ca", "subjectAltName=DNS:gw.example")
    pki.certificate("addressed", "/CN=gw", "ca", "subjectAltName=IP:192.0.2.1,IP:2001:db8::1")
    pki.key("other")
    pki.path("gw.csr").chmod(0o600)
    pki.crl("crl", "ca")
    return pki


def findings(made, at=NOW, *, certificate="gw.crt", key="gw.key", ca="ca.crt", crl=("crl.crl",), local_id="gw.example", local=None):
    found = Findings("x.toml")
    auth = CertificateAuth(
        local_id=local_id,
        remote_id=None,
        certificate=made.path(certificate),
        private_key=made.path(key),
        ca=(made.path(ca),),
        crl=tuple(made.path(name) for name in crl),
        revocation="if-present",
    )
    with NamedFiles(made.directory, {}) as named_files:
        check_certificates(auth, local, found.at('tunnel "t"').below("auth"), at, named_files)
    return [(each.severity, each.key, each.wrong) for each in found.found]


def test_what_fits_together_is_not_told(made):
    assert findings(made) == []


@pytest.mark.parametrize(
    ("given", "severity", "key", "says"),
    [
        ({"key": "other.key"}, "error", "auth.certificate", "other.key is not the key of the certificate in "),
        ({"certificate": "gw.key"}, "error", "auth.certificate", "gw.key: holds no certificate"),
        ({"key": "gw.csr"}, "error", "auth.private_key", "gw.csr: "),
        ({"local_id": "else.example"}, "error", "auth.certificate", "does not hold the identity else.example; it holds"),
        ({"ca": "gw.key"}, "error", "auth.ca", "gw.key: holds no certificate"),
        ({"crl": ("ca.crt",)}, "error", "auth.crl", "ca.crt: holds no CRL"),
    ],
)
def test_each_file_that_cannot_be_used_is_named(made, given, severity, key, says):
    ((found_severity, found_key, wrong),) = findings(made, **given)
    assert (found_severity, found_key) == (severity, key)
    assert says in wrong


HERE = ip_address("192.0.2.1")
ELSEWHERE = ip_address("192.0.2.77")


@pytest.mark.parametrize(
    ("name", "local", "says"),
    [
        ("gw", HERE, "is missing, so it is 192.0.2.1, which the certificate does not hold; it holds CN=gw, gw.example"),
        ("gw", None, "is missing, so it is our address, which the certificate does not hold; it holds CN=gw, gw.example"),
        ("addressed", ELSEWHERE, "is missing, so it is 192.0.2.77, which the certificate does not hold; it holds CN=gw, 192.0.2.1"),
        ("addressed", HERE, None),
        ("addressed", ip_address("2001:db8::1"), None),
        ("addressed", None, None),  # which address it will be is not known yet
    ],
)
def test_without_local_id_the_certificate_must_hold_the_address(made, name, local, says):
    found = findings(made, certificate=f"{name}.crt", key=f"{name}.key", local_id=None, local=local)
    assert [(severity, key) for severity, key, _ in found] == ([] if says is None else [("error", "auth.local_id")])
    assert says is None or says in found[0][2]


def test_with_local_id_the_address_is_nobodys_business(made):
    assert findings(made, local=ELSEWHERE) == []


def test_an_expired_certificate_is_refused_and_an_expired_authority_told(made):
    found = findings(made, NOW + timedelta(days=366), crl=())
    assert [(severity, key) for severity, key, _ in found] == [("error", "auth.certificate"), ("warning", "auth.ca")]
    assert all("is valid from" in wrong for _, _, wrong in found)


def test_a_crl_that_is_out_of_date_is_told(made):
    assert findings(made) == []
    ((severity, key, wrong),) = findings(made, NOW + timedelta(days=1))
    assert (severity, key) == ("warning", "auth.crl")
    assert "crl.crl: the CRL of CN=" in wrong
    assert "is out of date since" in wrong


def test_a_certificate_of_tomorrow_is_refused(made):
    assert findings(made, NOW - timedelta(days=1))[0][:2] == ("error", "auth.certificate")


def test_a_key_that_others_can_read_is_refused(made):
    shutil.copy(made.path("gw.key"), made.path("open.key"))
    made.path("open.key").chmod(0o644)
    ((severity, key, _),) = findings(made, key="open.key")
    assert (severity, key) == ("error", "auth.private_key")
