"""Secrets come only from regular files that nobody else can read, and leave no copy in a repr."""

from __future__ import annotations

import os
from unittest.mock import Mock

import pytest

from ipsec_dp.config import ManualSa, files, load_manual_keys
from ipsec_dp.config.files import SECRET_OCTETS_MAX, key_fingerprint, read_key, read_secret, weigh_secret
from ipsec_dp.errors import BadValueError
from ipsec_dp.ipsec.suites import parse_suite
from ipsec_dp.util.service_user import SERVICE_ID
from tests.doubles.config import configured, tunnel


@pytest.fixture
def secret(tmp_path):
    """Writes a secret file of mode 0600 and returns its path."""

    def secret(content: str | bytes, name: str = "x.key", mode: int = 0o600):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)
        return path

    return secret


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
    one, same, other = secret("0a0b", "1"), secret("0A 0B\n", "2"), secret("0a0c", "3")
    assert key_fingerprint(one, 2) == key_fingerprint(same, 2) != key_fingerprint(other, 2)


def test_the_line_end_of_a_secret_is_not_part_of_it(secret):
    assert [weigh_secret(secret(text))[0] for text in ("abc", "abc\n", "abc\r\n", "a\nc\n\n", "", "\n")] == [3, 3, 3, 3, 0, 0]


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
