"""While a gateway goes on in another process nobody but root gets at a key: by no descriptor, memory, core, socket or answer.

hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB
"""

from __future__ import annotations

import base64
import csv
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ipsec_dp.errors import ControlError
from ipsec_dp.gateway import control
from ipsec_dp.keying.wireshark import ESP_TABLE, IKE_TABLE
from ipsec_dp.rig.process import IkePair
from ipsec_dp.util.service_user import service_user
from tests.netns import upgrade_faults
from tests.netns.succession import heirs
from tests.netns.test_privileges import status_of
from tests.netns.traffic import until
from tests.unit.other_user import NOBODY, User
from tests.unit.test_control_rights import REQUESTS

KEYS = "keys"  # below the directory of the configuration
PAIR = IkePair(encapsulation="udp", gateway=f'keylog_file = "{KEYS}"', ike=('proposals = ["aes128gcm16-prfsha256-x25519"]',) * 2)
STARTED_S = 60.0
ENDING = {"down", "terminate", "upgrade"}  # what there would be nothing left after to ask
STAYING = {"follow", "capture"}  # what goes on until it is left
# Where the successor stands still meanwhile: with nothing, with descriptors, with no SA, with the keys of ESP, with those of IKE.
WHERE = ("before it protects itself", "with the offer", "with IKE", "with the keys", "with the state", "in the middle of IKE")


def named_sockets(namespace):
    """Of every process there: who knows the name of one may connect to it."""
    rows = (line.split() for line in namespace.run("cat", "/proc/net/unix").stdout.splitlines()[1:])
    return sorted(row[7] for row in rows if len(row) > 7)


def is_dumpable(process):
    """A process of another user than root whose files are root's is not (proc(5))."""
    return os.stat(f"/proc/{process}/mem").st_uid != 0


def core_limits(process):
    (row,) = [line for line in Path(f"/proc/{process}/limits").read_text().splitlines() if "core file" in line]
    return row.split()[4:6]


@pytest.mark.parametrize(
    "where", [pytest.param(one, marks=() if one in ("with the offer", "with the keys") else pytest.mark.slow) for one in WHERE]
)
def test_nobody_but_root_reaches_into_either_process(sites_opened_again, in_succession, faulty, where):
    """Not even their own user, who has their capabilities no more."""
    upgraded, program = in_succession(PAIR), faulty(f"hangs {where}")
    named, first = named_sockets(sites_opened_again.gw_a), upgraded.a.process.pid
    with ThreadPoolExecutor(1) as asking:
        answer = asking.submit(upgraded.ask, program=program)
        until(lambda: upgrade_faults.HANGS in upgraded.a.text(), "the successor", STARTED_S)
        (successor,) = heirs(program)
        try:
            assert {status_of(each)["Uid"][0] for each in (first, successor)} == {str(service_user().uid)}
            assert [User(uid).reaches(first, successor) for uid in (NOBODY, service_user().uid)] == [[], []]
            assert [core_limits(each) for each in (first, successor)] == [["0", "0"]] * 2
            assert [is_dumpable(each) for each in (first, successor)] == [False, where == WHERE[0]]
            assert named_sockets(sites_opened_again.gw_a) == named
        finally:
            os.kill(successor, signal.SIGKILL)
        with pytest.raises(ControlError):
            answer.result()


def keys_of(directory):
    """The gateway's own, as it wrote them down."""
    with (directory / ESP_TABLE).open() as esp, (directory / IKE_TABLE).open() as ike:
        of_esp = [bytes.fromhex(row[5][2:]) for row in csv.reader(esp)]
        return of_esp + [bytes.fromhex(each) for row in csv.reader(ike) for each in row[2:4]]


def forms_of(key):
    """As it could stand in a text, without what follows a cipher's key."""
    secret = key[:16]
    return secret, secret.hex().encode(), secret.hex(" ").encode(), base64.b64encode(secret)[:-3], repr(secret).encode()[2:-1]


def answers(gateway):
    """What is said to each verb but those of ENDING."""
    (name,) = (one["name"] for one in gateway.status()["tunnels"])
    changes = {"name": name, "file": str(gateway.config)}
    for verb in REQUESTS.keys() - ENDING:
        request = {"verb": verb, **{field: changes.get(field, value) for field, value in REQUESTS[verb].items()}}
        try:
            if verb in STAYING:
                with control.stream(gateway.control, request) as (result, _, rest):
                    yield repr(result).encode() + rest
            else:
                yield repr(control.request(gateway.control, request, STARTED_S)).encode()
        except ControlError as error:
            yield str(error).encode()


def test_no_verb_log_or_file_beside_the_key_log_holds_a_key(in_succession, tmp_path):
    """Of either process, and of what they rekeyed."""
    upgraded = in_succession(PAIR)
    said = [*answers(upgraded.a), repr(upgraded.upgrade()).encode()]
    upgraded.answers()
    said += answers(upgraded.a)
    keys, files = keys_of(tmp_path / KEYS), [each for each in tmp_path.rglob("*") if each.is_file() and KEYS not in each.parts]
    assert len(keys) >= 8, "of two IKE SAs or of two CHILD_SAs, and more"
    places = [*said, *(each.read_bytes() for each in files)]
    assert [key.hex() for key in keys for form in forms_of(key) if any(form in each for each in places)] == []
