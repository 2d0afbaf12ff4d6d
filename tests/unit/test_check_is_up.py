"""`check` is what `up` does: whatever a file holds, both take it or both refuse it, and neither breaks."""

from __future__ import annotations

import string
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ipsec_dp.config import examine, files, load_manual_keys
from ipsec_dp.databases.pad import peer_of
from ipsec_dp.ike.auth import PreSharedKey
from ipsec_dp.ike.errors import IkeError
from ipsec_dp.ike.identity import Identity
from ipsec_dp.ike.peer import SharedKeyAuth
from tests.ike.pki import CA, OpenSsl

TUNNEL = '[gateway]\nname = "g"\n[[tunnel]]\nname = "t"\nremote = "192.0.2.2"\nlocal = "192.0.2.1"\n'
PSK = TUNNEL + '[tunnel.auth]\npsk_file = "k"\n'
MANUAL = (
    TUNNEL
    + 'encapsulation = "udp"\n[tunnel.manual_unsafe]\nsuite = "aes128gcm16"\nspi_in = 0x1001\nspi_out = 0x1002\n'
    + 'key_in_file = "k"\nkey_out_file = "other"\n'
)
REFUSALS = (IkeError, OSError, ValueError)


def secret(directory: Path, name: str, content: bytes) -> None:
    (directory / name).touch(mode=0o600)
    (directory / name).write_bytes(content)


def checked(directory: Path, text: str) -> bool:
    (directory / "g.toml").write_text(text)
    return examine(directory / "g.toml")[0] is not None


def run_up(directory: Path) -> bool:
    """Whether all that `up` reads can be used, asked of what uses it."""
    config = examine(directory / "g.toml")[0]
    if config is None:
        return False
    for tunnel in config.tunnels:
        if tunnel.auth is not None:
            peer_of(tunnel)  # whatever it raises, `check` has not seen it
        if tunnel.manual is not None:
            load_manual_keys(tunnel.manual).wipe()
    return True


def taken(parse, *arguments) -> bool:
    try:
        parse(*arguments)
    except REFUSALS:
        return False
    return True


HEX = st.text(string.hexdigits, max_size=80)
CONTENTS = st.one_of(
    st.binary(max_size=60),
    st.builds(
        lambda mark, before, body, after: mark + (before + body + after).encode(),
        st.sampled_from([b"", b"", b"\xef\xbb\xbf"]),
        st.sampled_from(["", "0x", "0s", "0X", "0S", '"', " ", "\r\n"]),
        st.one_of(HEX, st.text(max_size=40), st.text(string.ascii_letters + string.digits + "+/=", max_size=60)),
        st.sampled_from(["", "\n", "\r\n", '"', "  ", "=="]),
    ),
)


@settings(max_examples=300, deadline=None)
@given(CONTENTS)
@example(b"0x12")
@example(b"0xzz")
@example(b"0sAAAA")
@example(b"0s!")
@example(b" \r\n")
@example(b"0x")
@example(b"\xef\xbb\xbfsecret")
@example(b"\xff\xfes\0e\0")
def test_a_shared_key(content):
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        secret(directory, "k", content)
        good = checked(directory, PSK)
        assert good == run_up(directory)
        assert good == taken(lambda: PreSharedKey.from_octets(files.read_secret(directory / "k")))
        assert good == taken(PreSharedKey.from_file, directory / "k")


@settings(max_examples=150, deadline=None)
@given(st.one_of(CONTENTS, HEX.map(str.encode), st.just(b"0a" * 20), st.just(b"\r\n" + b"0A " * 20)))
def test_keys_set_by_hand(content):
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        secret(directory, "k", content)
        secret(directory, "other", b"0b" * 20)
        good = checked(directory, MANUAL)
        assert good == run_up(directory)
        assert good == (taken(files.read_key, directory / "k", 20) and content.split() != [b"0b" * 20])


FIXED = ["any", "%any", "*", "gw.example", "@gw", "a@b.example", "keyid:0xzz", "keyid:0x01", "keyid:", "CN=x", "CN=", "=", "C=DEU"]
WORDS = st.one_of(
    st.text(max_size=30),
    st.sampled_from(FIXED),
    st.builds("{}={}".format, st.sampled_from(["C", "CN", "O", "X", "1.2.3"]), st.text(max_size=10)),
).filter(str.isprintable)


@settings(max_examples=300, deadline=None)
@given(WORDS)
def test_an_identity(text):
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        secret(directory, "k", b"a secret of some length")
        quoted = text.replace("\\", "\\\\").replace('"', '\\"')
        good = checked(directory, PSK + f'local_id = "{quoted}"\n')
        assert good == run_up(directory)
        assert good == taken(Identity.from_text, text)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    pki = OpenSsl(tmp_path_factory.mktemp("check-is-up"))
    pki.certificate("ca", "/CN=Root", extensions=CA)
    pki.certificate("gw", "/CN=gw", "ca", "subjectAltName=IP:192.0.2.1")
    pki.crl("crl", "ca")
    pki.path("cut.crt").write_bytes(pki.path("gw.crt").read_bytes()[:200])
    pki.path("marked.crt").write_bytes(b"\xef\xbb\xbf" + pki.path("gw.crt").read_bytes())
    pki.path("dos.crt").write_bytes(pki.path("gw.crt").read_bytes().replace(b"\n", b"\r\n"))
    secret(pki.directory, "empty", b"")
    secret(pki.directory, "dos.key", pki.path("gw.key").read_bytes().replace(b"\n", b"\r\n"))
    return pki


ANY_FILE = ("gw.crt", "gw.key", "ca.crt", "crl.crl", "cut.crt", "marked.crt", "dos.crt", "dos.key", "empty", "nowhere")


@pytest.mark.parametrize("key", ["certificate", "private_key", "ca", "crl"])
@pytest.mark.parametrize("name", ANY_FILE)
def test_any_file_in_the_place_of_another(made, key, name):
    places = {"certificate": "gw.crt", "private_key": "gw.key", "ca": "ca.crt", "crl": "crl.crl"} | {key: name}
    lines = (f'{at} = ["{file}"]' if at in ("ca", "crl") else f'{at} = "{file}"' for at, file in places.items())
    good = checked(made.directory, TUNNEL + "[tunnel.auth]\n" + "\n".join(lines))
    assert good == run_up(made.directory)
    if places == {"certificate": "gw.crt", "private_key": "gw.key", "ca": "ca.crt", "crl": "crl.crl"}:
        assert good, "the control"


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ("a secret of some length", b"a secret of some length"),
        ("\t a secret of some length \r\n", b"a secret of some length"),
        ("0x6120736563726574206f66206c656e677468\n", b"a secret of length"),
        ("0sYSBzZWNyZXQgb2YgbGVuZ3Ro\r\n", b"a secret of length"),
        ("0sYSBzZWNyZXQgb2YgbGVuZ3RoIQ", b"a secret of length!"),
        ('"a secret in quotes"', b'"a secret in quotes"'),
        ("pässwört of length", "pässwört of length".encode()),
    ],
    ids=["text", "blanks around", "hex", "base64", "base64 without its end", "quotes", "UTF-8"],
)
def test_notations_of_a_shared_key(tmp_path, content, key):
    secret(tmp_path, "k", content.encode())
    assert checked(tmp_path, PSK)
    config = examine(tmp_path / "g.toml")[0]
    assert config is not None
    auth = peer_of(config.tunnels[0]).auth
    assert isinstance(auth, SharedKeyAuth)
    assert auth.key.is_same(PreSharedKey(key))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("0sYSBzZWNyZXQgb2YgbGVuZ3Ro", "begins with 0s, so what follows is base64"),
        ("0X6120736563726574206f66206c656e677468", "begins with 0X, and is taken as text"),
        ('"a secret in quotes"', "stands in quotes, which are a part of the key here"),
        ("a secret of\ntwo lines", "holds several lines, and line ends are a part of the key"),
        ("0x01020304", "holds 4 octets, few enough to guess"),
    ],
)
def test_what_may_be_meant_otherwise_is_told(tmp_path, content, says):
    secret(tmp_path, "k", content.encode())
    assert checked(tmp_path, PSK)
    (finding,) = examine(tmp_path / "g.toml")[1]
    assert (finding.severity, finding.key) == ("warning", "auth.psk_file")
    assert says in finding.wrong
    assert content.strip() not in str(finding), "a secret is not shown"
