"""`bugreport`: everything that whoever looks for a fault asks for first, and no secret, wherever one was put."""

from __future__ import annotations

import base64
import json
import os
import stat
import tarfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from ipsec_dp.cli import bugreport, main, report_parts
from ipsec_dp.cli.report_archive import DIRECTORY, ReportError, write
from ipsec_dp.cli.report_parts import Configurations, Part, finished, part
from ipsec_dp.cli.report_secrets import REMOVED, STRUCK, Document, forms_of, struck
from ipsec_dp.gateway import control
from ipsec_dp.util.text import LINE

PARTS = ("version", "doctor", "configuration", "gateway", "status", "counters", "drops", "events", "kernel")
PSK, RAW, HAND = b"correct horse battery staple", bytes(range(40, 72)), bytes(range(100, 120))
INLINE = "An-Inline-Secret-0815"
KEY_IN_LINE = "99aabbccddeeff00112233445566778899aabbcc"
ODD = 'quo"ted\\ pässword'


def pem() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


@pytest.fixture
def planted(tmp_path):
    """A configuration with secrets at every place where one may stand, and all of them."""
    private = pem()
    files = {
        "a.psk": PSK + b"\n",
        "hex.psk": b"0x" + RAW.hex().encode(),
        "b64.psk": b"0s" + base64.b64encode(RAW[::-1]),
        "odd.psk": ODD.encode(),
        "in.key": HAND.hex().upper().encode(),
        "a.pem": private,
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o600)
    tunnels = [
        f'[[tunnel]]\nname = "t{number}"\nremote = "192.0.2.{number}"\n[tunnel.auth]\n{line}\n'
        for number, line in enumerate(
            (
                'psk_file = "a.psk"',
                'psk_file = "hex.psk"',
                'psk_file = "b64.psk"',
                'psk_file = "odd.psk"',
                f'psk = "{INLINE}"',
                f'psk_file = "{INLINE}-in-its-place"',
                f'psk_file = ["{INLINE}-in-a-list"]',
                f'[tunnel.auth.deeper]\nsecret = ["{INLINE}-deeper"]',
                f'certificate = "{INLINE}-cert"\nprivate_key = "a.pem"\nca = ["""{private.decode()}"""]',
            ),
            1,
        )
    ]
    hand = f'key_in_file = "in.key"\nkey_out_file = "{KEY_IN_LINE}"\n'
    manual = f'[[tunnel]]\nname = "m"\nremote = "192.0.2.99"\n[tunnel.manual_unsafe]\n{hand}'
    file = tmp_path / "a.toml"
    file.write_text(f'# {INLINE}-in-a-comment\n[gateway]\nname = "site-a"\n{INLINE.lower()} = 1\n' + "".join(tunnels) + manual)
    body = "".join(private.decode().splitlines()[1:-1])
    secrets = [
        PSK,
        RAW,
        RAW[::-1],
        HAND,
        ODD.encode(),
        INLINE.encode(),
        INLINE.lower().encode(),
        KEY_IN_LINE.encode(),
        bytes.fromhex(KEY_IN_LINE),
    ]
    return file, [*secrets, base64.b64decode(body), *(line.encode() for line in private.decode().splitlines()[1:-1])]


def shapes(secret: bytes) -> set[bytes]:
    """In clear, hex and base64, written otherwise than the program does."""
    text = secret.decode(errors="replace")
    found = {secret, json.dumps(text)[1:-1].encode(), secret.hex().encode(), secret.hex().upper().encode()}
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + secret + b"\0" * (-(before + len(secret)) % 3))
        middle = whole[4 if before else 0 : len(whole) - 4]
        found |= {middle, middle.replace(b"+", b"-").replace(b"/", b"_")}
    return {shape for shape in found if len(shape) >= 8}


def quotes(secret: bytes) -> str:
    """A text that quotes it in every way, in base64 with others beside it."""
    text = secret.decode(errors="backslashreplace")
    found = [text, secret.hex(), secret.hex().upper()]
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + secret + b"\0" * (-(before + len(secret)) % 3)).decode()
        found += [whole, whole.replace("+", "-").replace("/", "_")]
    return " ".join(f"<{each}>" for each in found)


class Gateway:
    """Answers as a gateway does, one that has secrets in all that it says."""

    def __init__(self, file: Path, secrets: list[bytes]) -> None:
        leaks = [quotes(secret) for secret in secrets]
        assert max(map(len, leaks)) < LINE, "nothing is cut"
        events = [{"schema": 1, "event": "ike_up", "at": "2026-01-01T00:00:00.000+00:00", "text": leak} for leak in leaks]
        self.answers: dict[str, dict[str, Any]] = {
            "bugreport": {"gateway": "site-a", "config": str(file), "log": {"trouble": leaks}, "events": events},
            "status": {
                "schema": 1,
                "gateway": "site-a",
                "warnings": leaks,
                "drops": {"replay": 3},
                "drop_examples": {"replay": [{"text": leak, "cause": "x"} for leak in leaks]},
                "tunnels": [{"name": "t1", "state": "up", "last_error": leak} for leak in leaks],
            },
        }

    def request(self, _path: object, message: dict[str, Any], **_: float) -> dict[str, Any]:
        return self.answers[message["verb"]]


@pytest.fixture
def quick(monkeypatch):
    """The host is not looked at: that is doctor's test."""
    monkeypatch.setattr(report_parts, "doctor", lambda: {"findings": []})
    monkeypatch.setattr(report_parts, "kernel", lambda: {"uname": {}})


def unpacked(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        members = archive.getmembers()
        assert {member.mode for member in members} == {0o600}
        return {member.name.removeprefix(f"{DIRECTORY}/"): archive.extractfile(member).read() for member in members}  # type: ignore[union-attr]


# ---- no secret -------------------------------------------------------------------------------------------------------------------


def test_whatever_was_planted_wherever_is_not_in_the_archive(planted, quick, monkeypatch, tmp_path, capsys):
    file, secrets = planted
    monkeypatch.setattr(control, "request", Gateway(file, secrets).request)
    findings = [{"found": quotes(secret)} for secret in secrets]
    monkeypatch.setattr(report_parts, "doctor", lambda: {"findings": findings})
    assert main(["bugreport", str(tmp_path / "r.tar.gz"), "--control", "a.sock"]) == 0
    members = unpacked(tmp_path / "r.tar.gz")
    assert set(members) == {"README.txt", *(f"{name}.json" for name in PARTS if name != "events"), "events.jsonl"}
    found = [(name, shape) for name, data in members.items() for secret in secrets for shape in shapes(secret) if shape in data]
    assert found == []
    for name in ("status.json", "events.jsonl", "drops.json", "doctor.json", "gateway.json"):
        assert members[name].count(STRUCK) >= len(secrets), "it was there before"
    assert [shape for secret in secrets for shape in shapes(secret) if shape in capsys.readouterr().out.encode()] == []


def test_the_configuration_says_all_but_its_secrets(planted):
    file, _ = planted
    tables = Configurations([file]).told[str(file)]["tables"]
    tunnels = {tunnel["name"]: tunnel for tunnel in tables["tunnel"]}
    assert tables["gateway"] == {"name": "site-a", f"{REMOVED} 1": REMOVED}
    assert tunnels["t1"]["auth"] == {"psk_file": "a.psk"}, "names of secret files stay"
    assert tunnels["t5"]["auth"] == {"psk": REMOVED}
    assert tunnels["t6"]["auth"] == tunnels["t7"]["auth"] == {"psk_file": REMOVED} or tunnels["t7"]["auth"] == {
        "psk_file": [REMOVED]
    }
    assert tunnels["t8"]["auth"] == {"deeper": REMOVED}
    assert tunnels["t9"]["auth"] == {"certificate": REMOVED, "private_key": "a.pem", "ca": [REMOVED]}
    assert tunnels["m"]["manual_unsafe"] == {"key_in_file": "in.key", "key_out_file": REMOVED}
    assert tunnels["t1"]["remote"] == "192.0.2.1"


def test_a_word_in_the_wrong_place_is_not_struck_out_everywhere(tmp_path):
    """A key that is misspelt has words and numbers for values."""
    document = Document(
        {"gateway": {"offlaods": "all", "workres": 1400, "strcit": True, "nmae": "fail-over", "p": "s3cr3t!"}}, tmp_path
    )
    assert document.told["gateway"] == dict.fromkeys(("offlaods", "workres", "strcit", "nmae", "p"), REMOVED)
    assert document.secrets == {b"s3cr3t!"}


def test_a_file_that_is_no_toml_does_not_go_along(tmp_path):
    file = tmp_path / "a.toml"
    file.write_text(f'psk = {INLINE}\nname = "x')
    told = Configurations([file, tmp_path / "none.toml"]).told
    assert INLINE not in json.dumps(told)
    assert "no TOML" in told[str(file)]["missing"]
    assert told[str(tmp_path / "none.toml")] == {"missing": "cannot be read: No such file or directory"}


def test_without_the_configuration_nothing_goes_along_that_may_quote_a_secret(planted, quick, monkeypatch):
    """Nobody knows what to strike out."""
    file, secrets = planted
    monkeypatch.setattr(control, "request", Gateway(file, secrets).request)

    def broken(_: object) -> Configurations:
        raise OSError("no")

    monkeypatch.setattr(report_parts, "Configurations", broken)
    parts = bugreport.collect(Path("a.sock"), ())
    assert {each.name for each in parts if each.missing is None} == {"version.json", "kernel.json"}


@given(st.binary(max_size=200), st.lists(st.binary(min_size=4, max_size=12), max_size=6), st.binary(max_size=50))
def test_what_is_struck_out_is_gone_and_the_rest_is_as_it_was(before, forms, after):
    data = before + b"".join(forms) + after
    left = struck(data, forms)
    plain = [form for form in forms if form not in STRUCK and STRUCK not in form]
    assert all(form not in piece for form in plain for piece in left.split(STRUCK))
    assert struck(left.replace(STRUCK, b""), []) == left.replace(STRUCK, b"")
    assert struck(data, []) == data


@given(st.binary(min_size=8, max_size=64), st.binary(max_size=7), st.binary(max_size=7))
def test_a_secret_is_found_wherever_in_base64_it_begins(secret, before, after):
    text = base64.b64encode(before + secret + after)
    left = struck(text, forms_of(secret))
    assert STRUCK in left
    assert len(left) <= len(before + after) * 2 + 8 + len(STRUCK)


def test_ten_thousand_secrets_are_looked_for_in_a_few_seconds():
    forms = {form for number in range(10_000) for form in forms_of(b"secret number %06d of many" % number)}
    data = b"".join(b"line %d of a status that is long\n" % number for number in range(100_000)) + b"secret number 009999 of many"
    began = time.monotonic()
    assert struck(data, forms).endswith(b"long\n" + STRUCK)
    assert time.monotonic() - began < 60


# ---- what is in it ---------------------------------------------------------------------------------------------------------------


def test_without_a_gateway_it_holds_what_can_be_had_and_says_what_is_missing(planted, quick, tmp_path, capsys):
    file, _ = planted
    assert main(["bugreport", str(tmp_path / "r.tar.gz"), "--config", str(file), "--control", str(tmp_path / "none.sock")]) == 0
    members = unpacked(tmp_path / "r.tar.gz")
    assert set(members) == {"README.txt", "version.json", "doctor.json", "configuration.json", "kernel.json"}
    text = members["README.txt"].decode()
    assert text.count("missing") == 5
    assert "addresses (yours and your peers')" in text
    assert "no key; look through it before you send it" in capsys.readouterr().out
    assert json.loads(members["version.json"])["version"]


def test_with_json_each_part_is_named(quick, tmp_path, capsys):
    arguments = [str(tmp_path / "r.tar.gz"), "--config", str(tmp_path / "x.toml"), "--control", str(tmp_path / "none.sock")]
    assert main(["bugreport", *arguments, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["file"] == arguments[0]
    assert [row["name"].partition(".")[0] for row in answer["parts"]] == list(PARTS)
    assert [row["name"] for row in answer["parts"] if row["missing"]] == [f"{name}.json" for name in PARTS[3:7]] + ["events.jsonl"]


def test_the_kernels_facts_are_read_from_it_and_never_its_command_line():
    told = report_parts.kernel()
    assert told["uname"]["system"] == "Linux"
    assert "click" in told["libraries"]
    assert not [name for name in told["files"] if "cmdline" in name or "environ" in name]


# ---- bounds ----------------------------------------------------------------------------------------------------------------------


def test_a_part_that_takes_too_long_is_missing():
    assert part("x", "y", threading.Event().wait, 0.01).missing == "it took longer than 0.01 s"


def test_a_part_that_fails_is_missing_and_says_why():
    missing = part("x", "y", lambda: dict[str, str]()["no"]).missing
    assert missing is not None
    assert missing.startswith("x: KeyError")


def test_a_part_that_is_too_large_is_cut_and_said_to_be(monkeypatch):
    monkeypatch.setattr(report_parts, "PART_OCTETS", 100)
    made = finished(Part("x", "y", b"a" * 150), ())
    assert (len(made.data), made.cut) == (100, 150)
    assert finished(Part("x", "y", b"a" * 100), ()).cut is None
    assert "cut, of 150 octets" in bugreport.line_of(made)


# ---- the file --------------------------------------------------------------------------------------------------------------------

AT = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


def test_only_its_owner_can_read_it_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        write(tmp_path / "r", {"a": b"b"}, AT)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "r").stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", ["file", "symlink", "dangling", "directory"])
def test_what_is_there_is_neither_overwritten_nor_followed(tmp_path, quick, capsys, kind):
    path, target = tmp_path / "r.tar.gz", tmp_path / "target"
    match kind:
        case "file":
            path.write_text("mine")
        case "directory":
            path.mkdir()
        case _:
            path.symlink_to(target)
            if kind == "symlink":
                target.write_text("mine")
    with pytest.raises(ReportError, match="is there already"):
        write(path, {"a": b"b"}, AT)
    assert main(["bugreport", str(path), "--control", "none.sock"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert target.exists() == (kind == "symlink")
    assert kind != "file" or path.read_text() == "mine"
    assert kind != "symlink" or target.read_text() == "mine"


def test_a_disk_that_is_full_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(ReportError, match="No space left on device") as caught:
        write(tmp_path / "r", {"a": b"b"}, AT)
    assert len(caught.value.lines) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_document_without_tables_is_one():
    assert Document({}, Path()).told == {}
