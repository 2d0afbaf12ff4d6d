"""The certificates, keys and CRLs of many tunnels are read and parsed once each, and a helper is asked for several at once."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from ipsec_dp.config import CertificateAuth, examine, files, load, named_files
from ipsec_dp.config.named_files import NamedFiles, WeighedPrivateKey
from ipsec_dp.databases.pad import KeyFiles, peer_of
from ipsec_dp.errors import BadValueError
from ipsec_dp.ike import certificates
from ipsec_dp.ike.peer import SignatureAuth
from tests.doubles.asked_helper import asking
from tests.doubles.served_root import write
from tests.ike.pki import CA, OpenSsl

TUNNEL = """
[[tunnel]]
name = "t{number}"
local = "192.0.2.1"
remote = "192.0.2.1{number}"
interface = "ipsec{number}"
{ike}
[tunnel.auth]
local_id = "{name}.example"
remote_id = "peer{number}.example"
certificate = "{name}.crt"
private_key = "{name}.key"
ca = {ca}
crl = ["root.crl"]
"""
KEYS = ["one.key", "two.key"]
PUBLIC = ["one.crt", "root.crt", "root.crl", "two.crt", "else.crt"]


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    made = OpenSsl(tmp_path_factory.mktemp("pki"))
    for name in ("root", "else"):
        made.certificate(name, f"/CN={name}", extensions=CA)
    for name in ("one", "two"):
        made.certificate(name, f"/CN={name}", "root", f"subjectAltName=DNS:{name}.example")
    made.crl("root", "root")
    return made


@pytest.fixture
def path(pki):
    """Four tunnels: two with one certificate, two with another one, of which the first has a further authority."""
    rows = (("one", '["root.crt"]'), ("one", '["root.crt"]'), ("two", '["root.crt", "else.crt"]'), ("two", '["root.crt"]'))
    return configuration(pki, rows)


def configuration(pki, rows, ike=""):
    tunnels = "".join(TUNNEL.format(number=number, name=name, ca=ca, ike=ike) for number, (name, ca) in enumerate(rows))
    return write(pki.path("a.toml"), f'[gateway]\nname = "a"\n{tunnels}')


@pytest.fixture
def parsed(monkeypatch):
    """Names of files whose content was parsed, in turn."""
    found: list[str] = []
    for name in ("certificates_of", "crl_of", "private_key_of"):
        really = getattr(certificates, name)

        def noting(content, path, really=really):
            found.append(Path(path).name)
            return really(content, path)

        monkeypatch.setattr(certificates, name, noting)
        if name == "private_key_of":
            monkeypatch.setattr(named_files, name, noting)
    return found


def test_a_configuration_reads_each_once_and_asks_for_several(path, parsed):
    with asking(KEYS + PUBLIC) as asked:
        assert len(load(path).tunnels) == 4
    assert asked == [KEYS, PUBLIC, ["root.crt"]], "a list whose like was not read yet is compared whole"
    assert sorted(parsed) == sorted(KEYS + PUBLIC)


def test_peers_read_each_once_and_what_they_believe_is_one_object(path, parsed):
    tunnels = load(path).tunnels
    parsed.clear()
    with asking(KEYS + PUBLIC) as asked, KeyFiles(tunnels) as read:
        auths = [peer_of(tunnel, files_read=read).auth for tunnel in tunnels]
    assert asked == [KEYS, PUBLIC]
    assert sorted(parsed) == sorted(KEYS + PUBLIC)
    first, second, third, fourth = (auth for auth in auths if isinstance(auth, SignatureAuth))
    assert first.trust is second.trust is fourth.trust
    assert first.credential is second.credential
    assert third.credential is fourth.credential is not first.credential
    assert third.trust.authorities[0] is first.trust.authorities[0]
    assert third.trust.crls[0] is first.trust.crls[0]


def test_for_ikev1_the_key_is_not_read_again(pki, parsed):
    path = configuration(pki, [("one", '["root.crt"]')], ike='[tunnel.ike]\nversion = "1"')
    config, findings = examine(path)
    assert config is not None, findings
    assert parsed.count("one.key") == 1


def test_who_may_read_the_certificates_asks_for_keys_alone(path):
    with asking(KEYS) as asked:
        load(path)
    assert asked == [KEYS]


def test_a_certificate_behind_a_link_is_asked_for_by_itself(pki, path):
    """Such as the newest one of several."""
    pki.path("link.crt").symlink_to("two.crt")
    path.write_text(path.read_text().replace('"two.crt"', '"link.crt"'))
    with asking([*PUBLIC, "link.crt"]) as asked:
        assert len(load(path).tunnels) == 4
    assert asked == [["one.crt", "root.crt", "root.crl", "link.crt", "else.crt"], ["link.crt"], ["root.crt"]]
    pki.path("link.crt").unlink()


def test_of_a_private_key_no_more_stays_than_its_public_half(pki, monkeypatch):
    read: list[bytearray] = []
    really = files.read_secret

    def reading(*given):
        read.append(really(*given))
        return read[-1]

    monkeypatch.setattr(files, "read_secret", reading)
    with NamedFiles(pki.directory, {}) as named:
        found = named.private_key(pki.path("one.key"))
        assert named.private_key(pki.path("one.key")) is found
        none = named.private_key(pki.path("one.csr"))
    own = certificates.load_certificates(pki.path("one.crt"))[0]
    print_of_it = files.secret_fingerprint(bytearray(pki.path("one.key").read_bytes()))
    assert found == WeighedPrivateKey(print_of_it, certificates.public_octets(own.public_key()))
    assert (none.public, len(none.unread) + len(none.wrong)) == (b"", 1)
    assert read
    assert not any(map(any, read)), "wiped"


def test_fingerprints_are_those_of_former_versions(pki, path):
    """A gateway that goes on in a new program compares them with what it had."""
    tunnel = load(path).tunnels[2]
    digest = hashlib.blake2b(key=files.fingerprint_key(), digest_size=32)
    for name in ("root.crt", "else.crt"):
        content = pki.path(name).read_bytes()
        digest.update(len(content).to_bytes(8, "big") + content)
    assert isinstance(tunnel.auth, CertificateAuth)
    assert tunnel.auth.ca_material == digest.digest()


def test_what_is_wrong_with_a_file_is_said_of_each_tunnel_that_names_it(pki):
    path = configuration(pki, [("one", '["none.crt", "one.key"]')] * 2)
    config, findings = examine(path)
    assert config is None
    wrong = [(each.where, each.key) for each in findings if each.severity == "error"]
    assert wrong == [(f'tunnel "t{number}"', "auth.ca") for number in (0, 0, 1, 1)]


def test_a_file_that_is_too_large_is_not_read_whole(pki):
    assert len(files.read_public(pki.path("one.crt"), 10)) == 10
    with pytest.raises(BadValueError, match="no such file"):
        files.read_public(pki.path("none.crt"), 10)
