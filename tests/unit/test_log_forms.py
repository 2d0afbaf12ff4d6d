"""One event is one line, whatever is in it, with its fields; and nothing in it is a key."""

from __future__ import annotations

import base64
import csv
import json
import logging
import string
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsec_dp.config import examine
from ipsec_dp.config.files import load_manual_keys
from ipsec_dp.databases.pad import peer_of
from ipsec_dp.errors import IpsecDpError
from ipsec_dp.gateway.log_forms import FIELDS, JsonFormatter, fields_of, settled
from ipsec_dp.gateway.log_journal import datagram, journal_fields
from ipsec_dp.ike.errors import IkeError
from ipsec_dp.util.faults import TRACE_LOG, LineFormatter, explained
from ipsec_dp.util.told import told
from tests.doubles.config import MANUAL, configured, tunnel
from tests.unit.rig_sites import sites

log = logging.getLogger("ipsec_dp.keying.ike_driver")
TEXT = LineFormatter("%(asctime)s %(levelname)s %(message)s")


def record(text, *arguments, level=logging.INFO, fields=None, name="ipsec_dp.keying.ike_driver", info=None):
    made = logging.LogRecord(name, level, "x.py", 1, text, arguments, info)
    made.__dict__.update(told("ike_note") if fields is None else fields)
    return settled(made)


def written(line: logging.LogRecord) -> dict[str, bytes]:
    """As each form has it."""
    forms = {"text": TEXT.format(line), "json": JsonFormatter().format(line)}
    return {name: text.encode() for name, text in forms.items()} | {"journald": datagram(journal_fields(line))}


@contextmanager
def everything_logged(caplog):
    """Down to debug and the trace; gives what is there in all forms, one after the other."""
    for name in ("ipsec_dp", TRACE_LOG):
        caplog.set_level(logging.DEBUG, name)
    pieces: list[bytes] = []
    yield pieces
    for line in caplog.records:
        pieces.extend(written(settled(line)).values())


# ---- what a line says ------------------------------------------------------------------------------------------------------------


def test_json_has_time_level_subsystem_event_tunnel_text_and_its_fields():
    line = record("CHILD_SA %d up", 7, fields=told("child_up", tunnel="to-b", child=7, cause=None))
    said = json.loads(JsonFormatter().format(line))
    assert list(said) == [*FIELDS[:-1], "child"]
    assert said.pop("time").endswith("+00:00")
    assert said == {
        "level": "info",
        "subsystem": "ike",
        "event": "child_up",
        "tunnel": "to-b",
        "text": "CHILD_SA 7 up",
        "child": 7,
    }


def test_what_a_library_says_is_called_so_and_what_has_no_event_is_a_note():
    made = logging.LogRecord("asyncio", logging.WARNING, "x.py", 1, "slow", None, None)
    assert (fields_of(made)["subsystem"], fields_of(made)["event"]) == ("library", "library")
    made = logging.LogRecord("ipsec_dp.gateway.gateway", logging.WARNING, "x.py", 1, "slow", None, None)
    assert (fields_of(made)["subsystem"], fields_of(made)["event"]) == ("gateway", "note")


def test_a_traceback_goes_along_and_holds_no_frame():
    try:
        raise RuntimeError("why\nnot")
    except RuntimeError as error:
        line = record("it failed", info=(type(error), error, error.__traceback__))
    assert line.exc_info is None
    said = fields_of(line)
    assert said["text"] == "it failed"
    assert said["trace"][0].startswith("Traceback")
    assert TEXT.format(line).split("\n")[1:] == said["trace"]


def test_a_line_whose_text_cannot_be_made_is_written_all_the_same():
    class Bad:
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert record("%d", "no number").getMessage() == "a line of the log could not be made (TypeError): %d"
    assert "RuntimeError" in record("%s", Bad()).getMessage()


@given(st.text(), st.text(max_size=40), st.one_of(st.text(), st.integers(), st.booleans()))
def test_whatever_is_in_it_each_form_is_one_line_of_its_own(text, name, value):
    line = record("%s", text, fields=told("ike_note", tunnel=name, cause=value))
    forms = written(line)
    assert forms["text"].count(b"\n") == forms["json"].count(b"\n") == 0
    assert json.loads(forms["json"])["event"] == "ike_note"
    assert forms["json"].isascii()
    names = [field.partition(b"=")[0] for field in forms["journald"].split(b"\n")[:-1]]
    assert {b"MESSAGE", b"PRIORITY", b"SYSLOG_IDENTIFIER", b"IPSEC_DP_EVENT"} <= {*names}
    assert names.count(b"MESSAGE") == 1, "nobody writes a field into another's"


# ---- never a key -----------------------------------------------------------------------------------------------------------------


def shapes(secret: bytes) -> set[bytes]:
    """A secret as it may stand somewhere: itself, hex, base64 at each of the places where it may begin."""
    found = {secret, secret.hex().encode(), secret.hex().upper().encode(), repr(secret)[2:-1].encode()}
    for before in range(3):
        whole = base64.b64encode(bytes(before) + secret)
        found.add(whole[4 if before else 0 : -4])
    return {shape for shape in found if len(shape) >= 6}


def test_a_negotiation_in_full_leaves_no_key_in_the_log(caplog):
    """PSK, SK_* and the keys of both CHILD_SAs, as the rig knows them; at debug level, with the trace and rekeys."""
    with everything_logged(caplog) as pieces, sites() as (a, b):
        for ike in (False, True):
            a.rekey("to-b", ike=ike)
            a.wait("up")
        tables = a.keylog("ikev2_decryption_table") + a.keylog("esp_sa") + b.keylog("esp_sa")
        a.terminate("to-b")
    whole = b"\n".join(pieces)
    assert whole.count(b"ike_up") >= 2, "the log is there"
    keys = {bytes.fromhex(each.removeprefix("0x")) for row in csv.reader(tables.splitlines()) for each in row if is_key(each)}
    assert len(keys) >= 6
    assert [shape for key in keys for shape in shapes(key) if shape in whole] == []


def is_key(cell: str) -> bool:
    digits = cell.removeprefix("0x")
    return len(digits) >= 32 and set(digits) <= set(string.hexdigits)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("secrets")


@settings(max_examples=25, deadline=None)
@given(st.binary(min_size=12, max_size=40).filter(lambda secret: len({*secret}) > 5))
def test_no_secret_that_is_wrong_in_its_file_is_in_what_is_said_about_it(directory, secret):
    said: list[bytes] = []
    config = configured(directory, tunnel(), tunnel("by-hand", remote="192.0.2.3", interface="ipsec1", keys=MANUAL))
    auth, hand = config.tunnel("to-b"), config.tunnel("by-hand").manual
    assert hand is not None
    psks = (b"0x" + secret, b"0s" + secret + b"!", b"\xef\xbb\xbf" + secret, b"\xff" + secret, secret * 4000)
    keys = (secret, secret.hex().encode(), secret.hex().encode() + b"zz", secret * 4000)
    for name, contents, call in (("x.psk", psks, lambda: peer_of(auth)), ("in.key", keys, lambda: load_manual_keys(hand))):
        for content in contents:
            (directory / name).write_bytes(content)
            try:
                with explained("it"):
                    said.append(repr(call()).encode())
            except (IpsecDpError, IkeError, OSError, ValueError) as error:
                lines = [record("%s", error, level=logging.ERROR), record("x", info=(type(error), error, error.__traceback__))]
                said += [form for line in lines for form in written(line).values()]
        assert len(said) >= 3
    whole = b"\n".join(said)
    assert [shape for shape in shapes(secret) if shape in whole] == []


@settings(max_examples=25, deadline=None)
@given(st.text(string.ascii_letters + string.digits, min_size=12, max_size=40))
def test_no_secret_that_stands_where_no_key_has_a_place_is_in_a_finding(directory, secret):
    """An unknown key, a table or a list in the place of a file's name."""
    for wrong in (
        f'psk = "{secret}"',
        f'psk_file = ["{secret}"]',
        f'psk_file = {{ secret = "{secret}" }}',
        f'secret = ["{secret}"]',
    ):
        file = directory / "a.toml"
        file.write_text(f'[[tunnel]]\nname = "to-b"\nremote = "192.0.2.2"\n[tunnel.auth]\n{wrong}\n')
        config, findings = examine(file)
        assert config is None
        assert findings
        whole = b"\n".join(form for finding in findings for form in written(record("%s", finding)).values())
        assert secret.encode() not in whole
