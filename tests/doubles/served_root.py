"""The helper that stays root, as a thread of the test's: nothing is root's here but what this process may give away."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import contextmanager

import pytest

from ipsec_dp.config import load
from ipsec_dp.config.difference import ReadRequest
from ipsec_dp.gateway.root_grants import grants_of
from ipsec_dp.gateway.root_helper import Helper
from ipsec_dp.gateway.root_requests import RootHelper

CONFIG = """
[gateway]
name = "a"
[[tunnel]]
name = "t"
local = "192.0.2.1"
remote = "192.0.2.2"
interface = "ipsec0"
  [tunnel.auth]
  local_id = "a.example"
  remote_id = "b.example"
  psk_file = "{}"
"""


def place_below(directory):
    """A directory with a configuration and its secret, and another with a secret that the first does not name."""
    made = directory / "etc"
    made.mkdir(mode=0o700)
    for name in ("t.psk", "other.psk"):
        write(made / name, "a secret of sufficient length for everybody")
    write(made / "a.toml", CONFIG.format("t.psk"))
    write(made / "b.toml", CONFIG.format("other.psk"))
    return made


def write(path, text, mode=0o600):
    path.write_text(text)
    path.chmod(mode)
    return path


@contextmanager
def served(place, *, begun=True, written=frozenset(), user=None):
    """Whoever made the directory above `place` stands for root there, and for what is below."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    confined: list[bool] = []
    made = Helper(lambda: confined.append(True), written, str(place.parent))
    thread = threading.Thread(target=made.serve, args=(theirs,))
    thread.start()
    helper = RootHelper(ours, os.getpid())  # no child of ours: there is nobody to be waited for
    try:
        if begun:
            helper.begin(grants_of(load(place / "a.toml"), place.parent / "a.sock", user))
            assert confined == [True]
        yield helper
    finally:
        helper.close()
        thread.join(5)
        theirs.close()
    assert not thread.is_alive(), "it ends with the gateway"


def content(helper, path, flags=0):
    descriptor = helper.open(str(path), flags)
    with open(descriptor, "rb") as file:
        assert not os.get_inheritable(descriptor)
        return file.read()


def refused(helper, path, flags=0):
    """The error's number."""
    with pytest.raises(OSError) as caught:  # noqa: PT011 - which one is what is looked at
        os.close(helper.open(str(path), flags))
    return caught.value.errno


def request(path):
    return ReadRequest(path, {}, b"k" * 32)
