"""IKEv1 with strongSwan, one row of data a case: each way to prove who one is, each set of algorithms, a NAT, what is proposed.

hostA -- gwA (ours) == gwB (charon) -- hostB

One pair of gateways takes a new configuration for each row: ours by a reload, strongSwan by vici.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.interop.ikev1_meeting import AGREED, Pki, end, renew_phase_2, settle
from tests.interop.strongswan_meeting import ROLES, Agreement, Meeting, Net, Psk

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root


class Row(NamedTuple):
    """Who proves what by `auth`, and the proposals of both phases in strongSwan's keywords."""

    auth: str
    ike: str
    esp: str

    @property
    def legacy(self) -> str:
        """What our tunnel must say of groups that are too small."""
        return "legacy = true" if "modp1024" in self.ike + self.esp else ""


# By shared key all of AES-CBC-128 and -256, SHA-1 and SHA-256, groups 14, 19, 20 and 2 in phase 1; each kind of ESP with and
# without PFS; then each group with signatures.
ROWS = (
    Row("psk", "aes128-sha1-modp2048", "aes128gcm16"),
    Row("psk", "aes128-sha256-modp2048", "aes256gcm16-ecp256"),
    Row("psk", "aes256-sha1-modp2048", "aes128-sha1-modp2048"),
    Row("psk", "aes256-sha256-modp2048", "aes256-sha256"),
    Row("psk", "aes128-sha1-ecp256", "aes256-sha256-modp2048"),
    Row("psk", "aes128-sha256-ecp256", "aes128-sha1"),
    Row("psk", "aes256-sha1-ecp256", "aes256gcm16"),
    Row("psk", "aes256-sha256-ecp256", "aes128gcm16-ecp256"),
    Row("psk", "aes128-sha1-ecp384", "aes256-sha1-ecp384"),
    Row("psk", "aes128-sha256-ecp384", "aes128-sha256"),
    Row("psk", "aes256-sha1-ecp384", "aes128gcm16-ecp384"),
    Row("psk", "aes256-sha256-ecp384", "aes256gcm16"),
    Row("psk", "aes128-sha1-modp1024", "aes128-sha1-modp1024"),
    Row("psk", "aes128-sha256-modp1024", "aes128gcm16"),
    Row("psk", "aes256-sha1-modp1024", "aes256-sha256"),
    Row("psk", "aes256-sha256-modp1024", "aes256gcm16-modp1024"),
    Row("rsa", "aes128-sha1-modp2048", "aes128-sha256-modp2048"),
    Row("rsa", "aes256-sha256-ecp256", "aes256gcm16-ecp256"),
    Row("rsa", "aes128-sha256-ecp384", "aes256-sha1"),
    Row("rsa", "aes256-sha1-modp1024", "aes128gcm16"),
    Row("ec", "aes256-sha256-modp2048", "aes128gcm16"),
    Row("ec", "aes128-sha1-ecp256", "aes256-sha1-ecp256"),
    Row("ec", "aes256-sha1-ecp384", "aes256-sha256-ecp384"),
    Row("ec", "aes128-sha256-modp1024", "aes256gcm16"),
)


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def meeting(sites, tmp_path_factory) -> Iterator[Meeting]:
    """The one that all rows of this module share."""
    with ExitStack() as stack:
        yield stack.enter_context(Meeting(sites, tmp_path_factory.mktemp("meeting"), Agreement(**AGREED)))


@pytest.mark.parametrize("row", ROWS, ids="; ".join)
def test_row(meeting, pki, row):
    """Each in turn initiates and renews, traffic goes both ways before and after, and the other one deletes."""
    auth = Psk() if row.auth == "psk" else pki.auth(row.auth)
    meeting.agree(auth=auth, ike=row.ike, esp=row.esp, our_tunnel=row.legacy)
    for role, other in zip(ROLES, reversed(ROLES), strict=True):
        meeting.bring_up(role)
        ike = meeting.tunnel()["ike"]
        assert (ike["version"], ike["role"]) == (1, "initiator" if role == "we" else "responder")
        meeting.assert_carries()
        renew_phase_2(meeting, role)
        settle(meeting)
        meeting.assert_carries()
        end(meeting, other)


# What strongSwan offers where none is configured is a group that IKEv1 has no number for, so it is told some.
SEVERAL = {
    "we": {},
    "they": {
        "their_ike": "aes128-sha1-modp1024,aes192-sha512-modp4096,aes256-sha256-ecp256",
        "their_esp": "aes192gcm8,aes128-sha1,aes256-sha256,aes256gcm16",
    },
}


@pytest.mark.parametrize("role", ROLES)
def test_we_configure_no_proposal(meeting, role):
    """Several proposals with many transforms are offered, and both agree, whoever asks."""
    meeting.agree(
        **({"auth": Psk(), "ike": None, "esp": None, "our_tunnel": "", "their_ike": None, "their_esp": None} | SEVERAL[role])
    )
    meeting.bring_up(role)
    settle(meeting)
    meeting.assert_carries()
    end(meeting, role)


@pytest.mark.parametrize("role", ROLES)
def test_everything_to_everything(meeting, role):
    """0.0.0.0/0 on both sides, as appliances have it where no proxy ID is configured."""
    everything = (Net(ours="0.0.0.0/0", theirs="0.0.0.0/0"),)
    meeting.agree(**AGREED, their_ike=None, their_esp=None, proxy_ids=(), nets=everything, our_tunnel='routes = ["10.2.0.0/24"]')
    meeting.bring_up(role)
    (child,) = meeting.children()
    assert (child["local_ts"], child["remote_ts"]) == (["0.0.0.0/0"], ["0.0.0.0/0"])
    end(meeting, "we")
