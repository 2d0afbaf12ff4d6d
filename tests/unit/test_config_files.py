"""Secrets come only from regular files that nobody else can read, and leave no copy in a repr."""

from __future__ import annotations

import os
from unittest.mock import Mock

import pytest

from ipsec_dp.config import ManualSa, examine, files, load_manual_keys
from ipsec_dp.config.files import SECRET_OCTETS_MAX, WeighedKey, read_key, read_secret, secret_fingerprint, weigh_key
from ipsec_dp.errors import BadValueError
from ipsec_dp.ipsec.suites import parse_suite
from ipsec_dp.util.service_user import SERVICE_ID
from tests.doubles.config import MANUAL, configured, tunnel


def print_of(path):
    return secret_fingerprint(read_secret(path))


@pytest.fixture
def secret(tmp_path):
    """Writes a secret file of mode 0600 and returns its path."""

    def secret(content: str | bytes, name: str = "x.key", mode: int = 0o600):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)
        return path

    return secret


def by_hand(directory, *keys):
    """A configuration with one tunnel whose keys are these, inbound and outbound; None: there is no such file."""
    for name, key in zip(("in.key", "out.key"), keys, strict=True):
        if key is not None:
            (directory / name).touch(mode=0o600)
            (directory / name).write_text(key)
    path = directory / "gw.toml"
    path.write_text('[gateway]\nname = "gw"\n' + tunnel("b", 'local = "192.0.2.1"', 'encapsulation = "udp"', keys=MANUAL))
    return path


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o610, 0o601])
def test_a_secret_open_to_group_or_others_is_refused(secret, mode):
    with pytest.raises(BadValueError, match=f"mode {mode:04o}.*chmod 600"):
        read_secret(secret("00", mode=mode))


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_secret_of_ours_alone_is_read(secret, mode):
    assert read_secret(secret("00", mode=mode)) == bytearray(b"00")


def test_the_hosts_users_are_not_looked_through_for_a_file_of_ours(secret, monkeypatch):
    """Which takes a tenth of a millisecond, and a gateway has thousands."""
    monkeypatch.setattr(files, "service_ids", lambda: pytest.fail("nobody asks"))
    assert read_secret(secret("00")) == bytearray(b"00")


def test_the_secret_of_a_tunnel_is_read_once(tmp_path, monkeypatch):
    """So the fingerprint is that of what was checked."""
    reads = Mock(wraps=files.read_secret)
    monkeypatch.setattr(files, "read_secret", reads)
    configured(tmp_path, tunnel("b"))
    assert reads.call_count == 1


def test_a_secret_of_many_tunnels_is_read_once_and_said_of_each(tmp_path, monkeypatch):
    reads = Mock(wraps=files.read_secret)
    monkeypatch.setattr(files, "read_secret", reads)
    config = configured(tmp_path, *(tunnel(name, interface=f"ipsec-{name}") for name in "bcd"))
    assert reads.call_count == 1
    assert len({each.auth.material for each in config.tunnels if each.auth is not None}) == 1


def test_the_keys_of_a_tunnel_are_read_once_each(tmp_path, monkeypatch):
    reads = Mock(wraps=files.read_secret)
    monkeypatch.setattr(files, "read_secret", reads)
    config, findings = examine(by_hand(tmp_path, "0a" * 20, "0b" * 20))
    assert [each.severity for each in findings] == ["warning"]
    assert reads.call_count == 2
    assert config is not None
    (manual,) = (each.manual for each in config.tunnels)
    assert manual is not None
    assert manual.material == b"".join(print_of(tmp_path / name) for name in ("in.key", "out.key"))


@pytest.mark.parametrize(
    ("inbound", "outbound", "says"),
    [
        ("0a" * 20, "0a" * 20, {"key_out_file": "holds the same key as"}),
        ("0a" * 20, None, {"key_out_file": "no such file"}),
        (None, "0g" * 20, {"key_in_file": "no such file", "key_out_file": "is not hex"}),
    ],
)
def test_what_is_wrong_with_keys_stands_at_the_key_that_names_the_file(tmp_path, inbound, outbound, says):
    _, findings = examine(by_hand(tmp_path, inbound, outbound))
    wrong = {each.key.removeprefix("manual_unsafe."): each.wrong for each in findings if each.severity == "error"}
    assert wrong.keys() == says.keys()
    assert all(text in wrong[key] for key, text in says.items())


@pytest.mark.root
def test_a_secret_of_the_service_user_is_read(secret):
    path = secret("00")
    os.chown(path, SERVICE_ID, SERVICE_ID)
    assert read_secret(path) == bytearray(b"00")


@pytest.mark.root
def test_a_secret_of_another_user_is_refused(secret):
    path = secret("00")
    os.chown(path, 12345, 12345)
    with pytest.raises(BadValueError, match="belongs to user 12345; chown 0 "):
        read_secret(path)


def test_what_is_no_plain_file_is_refused(secret, tmp_path):
    target = secret("00")
    (tmp_path / "link").symlink_to(target)
    os.mkfifo(tmp_path / "fifo", 0o600)
    for name, says in [
        ("link", "symbolic link; name the file itself"),
        ("fifo", "not a regular file"),
        (".", "not a regular file"),
    ]:
        with pytest.raises(BadValueError, match=says):
            read_secret(tmp_path / name)
    with pytest.raises(BadValueError, match="no such file"):
        read_secret(tmp_path / "none")


def test_a_secret_is_bounded(secret):
    assert len(read_secret(secret(b"x" * SECRET_OCTETS_MAX))) == SECRET_OCTETS_MAX
    with pytest.raises(BadValueError, match="65537 octets"):
        read_secret(secret(b"x" * (SECRET_OCTETS_MAX + 1)))


@pytest.mark.parametrize("text", ["00ff1A", "00FF1a\n", " 00 ff\n\t1a\r\n"])
def test_a_key_is_hex_with_any_white_space(secret, text):
    assert read_key(secret(text), 3) == bytearray(b"\x00\xff\x1a")


@pytest.mark.parametrize(
    ("text", "says"),
    [("00ff1", "5 hex digits"), ("00ff1a00", "8 hex digits"), ("", "0 hex digits"), ("0x00ff1a", "not hex"), ("00ff1g", "not hex")],
)
def test_a_key_of_wrong_length_or_not_hex_is_refused_without_showing_it(secret, text, says):
    with pytest.raises(BadValueError, match=says) as caught:
        read_key(secret(text), 3)
    assert text == "" or text not in str(caught.value)


def test_fingerprints_tell_equal_keys_from_others(secret):
    one, same, other = (weigh_key(secret(text, text), 2) for text in ("0a0b", "0A 0B\n", "0a0c"))
    assert one.key == same.key != other.key
    assert len({one.file, same.file, other.file}) == 3, "of what the files hold"
    assert one == WeighedKey(print_of(secret("0a0b")), one.key)


def test_of_a_key_that_cannot_be_it_is_known_what_is_wrong(secret, tmp_path):
    long = weigh_key(secret("0a0b0c"), 2)
    assert (long.file, long.key) == (print_of(secret("0a0b0c")), b"")
    assert long.wrong is not None
    assert "6 hex digits" in long.wrong[0]
    none = weigh_key(tmp_path / "none", 2)
    assert (none.file, none.key) == (b"", b"")
    assert none.wrong is not None
    assert none.wrong[0].startswith("no such file")


def test_what_was_read_to_be_weighed_is_wiped(secret, monkeypatch):
    wiped: list[bytes] = []
    really = files.wipe

    def wipe(buffer):
        wiped.append(bytes(buffer))
        really(buffer)

    monkeypatch.setattr(files, "wipe", wipe)
    weigh_key(secret("0a0b"), 2)
    assert wiped == [b"0a0b", b"0a0b", b"\x0a\x0b"], "as it was read, the text of it, and the key"
    wiped.clear()
    weigh_key(secret("0a0b0c"), 2)
    assert {b"0a0b0c", b"\x0a\x0b"} <= set(wiped), "also where it is none"


def test_manual_keys_are_keymat_of_the_suite_and_wiped_when_left(secret):
    manual = ManualSa(
        suite=parse_suite("aes128gcm16"),
        spi_in=256,
        spi_out=257,
        key_in_file=secret("5a" * 20, "in"),
        key_out_file=secret("a5" * 20, "out"),
    )
    with load_manual_keys(manual) as keys:
        assert (keys.inbound, keys.outbound) == (bytearray(b"\x5a" * 20), bytearray(b"\xa5" * 20))
        assert "5a" not in repr(keys)
        assert "Z" not in repr(keys)
    assert (keys.inbound, keys.outbound) == (bytearray(20), bytearray(20))
