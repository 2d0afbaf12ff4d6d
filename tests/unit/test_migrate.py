"""Other products' configurations made into ours: the sources under migrations/, each with what comes of it and what does not.

What is in force passes `check`; what cannot be as it was is a comment; what is left out is told with its line.
"""

from __future__ import annotations

import json
import stat
import tomllib
from pathlib import Path

import pytest

from ipsec_dp.cli import main
from ipsec_dp.config import load
from ipsec_dp.errors import IpsecDpError
from ipsec_dp.ike.auth import PreSharedKey
from ipsec_dp.ike.proposal import parse_esp, parse_ike
from ipsec_dp.migrate import outcome, panos_words, reasons
from ipsec_dp.migrate.algorithms import (
    LIBRESWAN_IKE,
    STRONGSWAN_ESP,
    STRONGSWAN_IKE,
    for_ikev1,
    groups_of,
    of_libreswan,
    of_panos,
    of_strongswan,
)
from ipsec_dp.migrate.certificate_files import CertificateFiles
from ipsec_dp.migrate.draft import FileDraft, SourceError, SourceLine, unique_name
from ipsec_dp.migrate.ipsec_conf import read_ipsec_conf
from ipsec_dp.migrate.ipsec_conf_format import parse_secrets
from ipsec_dp.migrate.outcome import settle
from ipsec_dp.migrate.panos import of_tree
from ipsec_dp.migrate.panos_tree import parse_panos
from ipsec_dp.migrate.secrets_of import SharedKey, content_of, key_for
from ipsec_dp.migrate.selector_texts import one_side, ports_of, protocol_of, proxy_ids
from ipsec_dp.migrate.source_files import SourceFiles
from ipsec_dp.migrate.toml_writer import document, quoted
from tests.unit.migration_cases import CASES, SOURCES, converted, source_of

LEAST = {"swanctl": 8, "ipsec_conf": 8, "panos": 5}


def test_there_are_sources_of_every_product():
    assert {kind: sum(case.parent.name == kind for case in CASES) >= least for kind, least in LEAST.items()} == dict.fromkeys(
        LEAST, True
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}-{case.name}")
def test_a_source_becomes_what_is_expected(case, tmp_path):
    text, remarks, made, findings = converted(case, tmp_path / "source")
    assert text == (case / "expected.toml").read_text()
    assert remarks == (case / "expected.remarks").read_text()
    assert [str(finding) for finding in findings if finding.severity == "error"] == []
    assert [tunnel["name"] for tunnel in tomllib.loads(text).get("tunnel", ())] == list(made.active)
    for path in made.secrets:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.read_text().strip() not in text


def test_what_is_withheld_passes_check_once_its_key_is_there(tmp_path):
    directory = tmp_path / "source"
    text, _, made, _ = converted(SOURCES / "panos" / "defaults", directory)
    assert made.active == ()
    (directory / "old.psk").write_text("what the firewall's administrator knows")
    (directory / "old.psk").chmod(0o600)
    opened = [
        line.removeprefix("# ").removeprefix("#")
        for line in text.splitlines()
        if not line.startswith(("# WITH", "# - ", "# (", "# Of"))
    ]
    (directory / "mended.toml").write_text("\n".join(opened))
    (tunnel,) = load(directory / "mended.toml").tunnels
    assert (tunnel.name, tunnel.ike.version, tunnel.legacy) == ("old", 1, True)


# ---- nothing becomes weaker ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parse", "proposals", "lost"),
    [
        ("aes256-sha256-modp2048", parse_ike, ("aes256-sha256-modp2048",), 0),
        ("aes256-3des-sha256-md5-modp2048-modp8192", parse_ike, ("aes256-sha256-modp2048",), 3),
        ("3des-sha1-modp2048", parse_ike, (), 1),
        ("aes256-md5-modp2048", parse_ike, (), 1),
        ("aes256gcm16-modp8192", parse_esp, (), 1),  # without its group it would have no forward secrecy
        ("aes256gcm16", parse_esp, ("aes256gcm16",), 0),
        ("aes256gcm16-x25519-ke1_mlkem512", parse_ike, (), 1),  # nor become one without its additional key exchange
        ("aes256-sha256-frobnicate", parse_esp, (), 1),
        ("aes128-sha1-modp1024", parse_esp, ("aes128-sha1-modp1024",), 0),
        ("aes128, aes256-sha256", parse_esp, ("aes256-sha256",), 1),  # encryption without integrity
    ],
)
def test_an_algorithm_that_is_not_here_takes_its_proposal_along_where_no_other_of_its_kind_is_left(text, parse, proposals, lost):
    made = of_strongswan(text, parse)
    assert made.proposals == proposals
    assert len(made.lost) == lost
    assert made.legacy == ("modp1024" in text)


def test_defaults_of_a_product_are_its_own():
    assert of_strongswan("default", parse_ike).proposals == STRONGSWAN_IKE
    assert of_strongswan("default!", parse_esp).proposals == STRONGSWAN_ESP
    for text in (*STRONGSWAN_IKE, *LIBRESWAN_IKE):
        parse_ike((text,))


@pytest.mark.parametrize(
    ("text", "parse", "groups", "proposals"),
    [
        ("aes_gcm256-sha2_512;dh19", parse_ike, (), ("aes256gcm16-prfsha512-ecp256",)),
        ("aes256-sha2_256;modp2048", parse_ike, (), ("aes256-sha256-modp2048",)),
        ("aes128-sha1;dh22", parse_ike, (), ()),
        ("aes_gcm_c_256-null", parse_esp, ("ecp256",), ("aes256gcm16-ecp256",)),
        ("aes256-sha2_256;dh20", parse_esp, ("ecp256",), ("aes256-sha256-ecp384",)),
        ("aes+3des-sha2+sha1;dh14", parse_esp, (), ("aes256-aes128-sha256-sha1-modp2048",)),
        ("aes_ctr256-sha1", parse_esp, (), ()),
    ],
)
def test_libreswan_words(text, parse, groups, proposals):
    assert of_libreswan(text, parse, groups).proposals == proposals


def test_what_libreswan_fills_in_is_its_own():
    assert groups_of(of_libreswan("aes256", parse_ike).proposals)[:2] == ("modp2048", "modp3072")
    assert "sha512-sha256" in of_libreswan("aes256", parse_esp).proposals[0]


def test_panos_lists_combine():
    made = of_panos(["aes-256-gcm", "aes-256-cbc", "3des"], ["sha384"], ["group20"], parse_ike)
    assert made.proposals == ("aes256gcm16-prfsha384-ecp384", "aes256-sha384-ecp384")
    assert len(made.lost) == 1
    assert of_panos(["3des"], ["md5"], ["group1"], parse_esp).proposals == ()
    assert all(len(row[0]) for row in (*panos_words.IKE_PROFILES.values(), *panos_words.IPSEC_PROFILES.values()))


@pytest.mark.parametrize(
    "text", ["10.4.0.0/24[icmp/8]", "10.4.0.0/24[tcp/gopher]", "10.4.0.0/24[frob]", "dynamic", "10.4.0.0/24[tcp", "branch-net"]
)
def test_a_selector_that_cannot_be_said_is_not_made_wider(text):
    with pytest.raises(IpsecDpError):
        one_side(text, None)


def test_selectors():
    one = one_side("10.1.2.3/16[tcp/https]", None)
    assert (one.addresses, one.protocol, one.ports) == ("10.1.0.0/16", "tcp", 443)
    assert one_side("dynamic[gre]", "192.0.2.1").addresses == "192.0.2.1/32"
    assert (protocol_of("17"), ports_of("5000-5010"), ports_of("0")) == (17, "5000-5010", "any")
    other = one_side("10.2.0.0/16[udp]", None)
    with pytest.raises(IpsecDpError):
        proxy_ids([one], [other])  # TCP on one side, UDP on the other
    with pytest.raises(IpsecDpError):
        proxy_ids([one] * 17, [one] * 17)
    assert len(proxy_ids([one], [one_side("10.3.0.0/16", None), one_side("2001:db8::/32", None)])) == 1


@pytest.mark.parametrize(
    ("text", "ike", "made"),
    [
        ("aes256-sha256-prfsha256-x25519-modp2048", True, ("aes256-sha256-modp2048",)),
        ("aes256gcm16-prfsha256-modp2048", True, ()),  # no AEAD protects phase 1
        ("aes256gcm16-x25519", False, ()),  # without its group it would have no forward secrecy
        ("aes256gcm16-modp2048-esn-noesn", False, ("aes256gcm16-modp2048-noesn",)),
        ("chacha20poly1305", False, ()),
    ],
)
def test_what_ikev1_has_of_a_proposal(text, ike, made):
    assert for_ikev1([text], ike=ike) == made


def test_strict_revocation_stays_strict(tmp_path):
    path = tmp_path / "ipsec.conf"
    conn = "conn x\n  left=192.0.2.1\n  leftcert=gw-a.pem\n  right=192.0.2.2\n  auto=start\n"
    for word, expected in (("yes", "strict"), ("no", None)):
        path.write_text(f"config setup\n  strictcrlpolicy={word}\n  uniqueids=never\n{conn}")
        (tunnel,) = read_ipsec_conf(path).tunnels
        revocation = tunnel.settings.get("auth.revocation")
        assert (None if revocation is None else revocation.value) == expected
        assert tunnel.settings["auth.unique"].value == "never"


# ---- secrets ---------------------------------------------------------------------------------------------------------------------

AT = SourceLine("ipsec.secrets", 1)
BOTH = SharedKey(AT, ("@a.example", "b.example"), "both")
THEIRS = SharedKey(AT, ("b.example",), "theirs")
ALL = SharedKey(AT, (), "all")
OTHERS = SharedKey(AT, ("c.example",), "others")


@pytest.mark.parametrize(
    ("keys", "chosen"),
    [((ALL, THEIRS, BOTH), BOTH), ((ALL, THEIRS), THEIRS), ((OTHERS, ALL), ALL), ((OTHERS,), None), ((THEIRS, ALL), THEIRS)],
)
def test_the_key_that_fits_best(keys, chosen):
    assert key_for(keys, ["a.example"], ["@b.example"]) is chosen


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("0x00ff", b"\x00\xff"),
        ("0sAQID", b"\x01\x02\x03"),
        ("plain words", b"plain words"),
        ("  blanks around  ", b"  blanks around  "),
        ("0xnone", b"0xnone"),
        ("line\nend", b"line\nend"),
        ("zürich", "zürich".encode()),
        ('"quoted"', b'"quoted"'),
    ],
)
def test_a_key_is_the_same_octets_in_our_file(text, key):
    assert PreSharedKey.from_octets(content_of(text)).octets() == key


def test_a_quoted_key_of_ipsec_secrets_and_one_of_panos_are_what_they_say():
    """strongSwan and Libreswan decode 0x and 0s where there are no quotes; swanctl.conf does it always, PAN-OS never."""
    assert PreSharedKey.from_octets(content_of("0sAQID", literal=True)).octets() == b"0sAQID"
    assert PreSharedKey.from_octets(content_of("words", literal=True)).octets() == b"words"
    made = parse_secrets(
        'a : PSK "0x00ff"\nb : PSK 0x00ff\nc : PSK \'it "is"\'\n', Path("ipsec.secrets"), SourceFiles(follow=False)
    )
    assert [(key.text, key.literal) for key in made.keys] == [("0x00ff", True), ("0x00ff", False), ('it "is"', True)]
    commands = """set network ike gateway g authentication pre-shared-key key 0x00ff
set network ike gateway g peer-address ip 192.0.2.2
set network ike gateway g frob yes
set network tunnel ipsec t auto-key ike-gateway g
set network tunnel ipsec t anti-replay no
"""
    draft = of_tree(parse_panos(commands, "x"))
    assert draft.tunnels[0].secret == b"0x" + b"0x00ff".hex().encode() + b"\n"
    assert {"t: anti-replay no", "g: frob"} <= {remark.what for remark in draft.remarks}


def test_no_repr_and_no_error_has_a_secret(tmp_path):
    assert "both" not in repr(BOTH)
    draft = FileDraft("x")
    tunnel = draft.tunnel("t", AT)
    tunnel.secret = b"hidden words"
    assert "hidden" not in repr(draft)
    for name, text in (
        ("swanctl.conf", 'secrets {\n ike { secret = "hidden words\n } }\n'),
        ("swanctl.conf", "secrets { ike { secret = a\n hidden words } }\n"),
        ("running.set", "set network ike gateway g authentication pre-shared-key key x\nhidden words\n"),
    ):
        path = tmp_path / name
        path.write_text(text)
        assert main(["import", "panos" if name == "running.set" else "swanctl", str(path)]) == 2


# ---- files -----------------------------------------------------------------------------------------------------------------------


def imported(directory, *arguments):
    source = source_of(SOURCES / "swanctl" / "shared-key")
    (directory / "swanctl.conf").write_text(source.read_text())
    return main(["import", "swanctl", str(directory / "swanctl.conf"), *arguments])


def test_nothing_is_overwritten(tmp_path, capsys):
    (tmp_path / "a.toml").write_text("mine")
    assert imported(tmp_path, "-o", str(tmp_path / "a.toml")) == 1
    assert (tmp_path / "a.toml").read_text() == "mine"
    assert "nothing is overwritten" in capsys.readouterr().err
    assert not (tmp_path / "oslo-rome.psk").exists()


def test_a_key_file_that_was_there_stays(tmp_path, capsys):
    (tmp_path / "oslo-rome.psk").write_text("a key that was there before")
    (tmp_path / "oslo-rome.psk").chmod(0o600)
    assert imported(tmp_path, "-o", str(tmp_path / "a.toml")) == 0
    assert (tmp_path / "oslo-rome.psk").read_text() == "a key that was there before"
    assert "stays as it is" in capsys.readouterr().out


def test_secrets_go_nowhere_without_a_file_for_the_result(tmp_path, capsys):
    assert imported(tmp_path) == 1  # nothing is in force without its key
    captured = capsys.readouterr()
    tomllib.loads(captured.out)
    assert "WITHHELD" in captured.out
    assert "Tm90IHRoZ" not in captured.out + captured.err
    assert "with -o alone" in captured.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["swanctl.conf"]


def test_a_failure_leaves_no_secret_behind(tmp_path):
    (tmp_path / "swanctl.conf").write_text(source_of(SOURCES / "swanctl" / "shared-key").read_text())
    assert main(["import", "swanctl", str(tmp_path / "swanctl.conf"), "-o", str(tmp_path / "no" / "a.toml")]) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["swanctl.conf"]


def test_secrets_go_where_nobody_else_reads_from_the_beginning(tmp_path):
    path = tmp_path / "a.psk"
    outcome.write_new(path, b"key", outcome.SECRET_MODE)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    link = tmp_path / "b.psk"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IpsecDpError):
        outcome.write_new(link, b"key", outcome.SECRET_MODE)
    assert not (tmp_path / "elsewhere").exists()


def test_json_has_all_that_is_said(tmp_path, capsys):
    assert imported(tmp_path, "-o", str(tmp_path / "a.toml"), "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["tunnels"] == ["oslo-rome"]
    assert {"kind": "left out", "line": 29}.items() <= said["remarks"][0].items()
    assert said["remarks"][0]["why"] == reasons.MOBIKE
    assert said["secrets"] == [str(tmp_path / "oslo-rome.psk")]
    assert said["text"] is None


# ---- the writer ------------------------------------------------------------------------------------------------------------------


def test_any_text_is_a_toml_string():
    for text in ("plain", 'with "quotes"', "back\\slash", "tab\tand\nline", "\x7f\x01", "ключ", "🔑"):
        assert tomllib.loads(f"a = {quoted(text)}") == {"a": text}


def test_a_name_fits_and_is_nobody_elses():
    assert unique_name("my tunnel/1", set()) == "my-tunnel-1"
    assert unique_name("a", {"a", "a-2"}) == "a-3"
    assert unique_name("…", set()) == "tunnel"
    assert len(unique_name("x" * 200, {"x" * 64})) == 64


def test_no_text_of_a_source_leaves_its_comment(tmp_path):
    draft = FileDraft("x")
    tunnel = draft.tunnel("t", AT)
    tunnel.put("remote", "192.0.2.1", "a comment\n[gateway]\nname = 'evil'")
    tunnel.withhold("why\n[[tunnel]]")
    assert tomllib.loads(document(draft, "head\n[gateway]\r\x0b[x]")) == {}
    tunnel.withheld.clear()
    assert list(tomllib.loads(document(draft, "head"))) == ["tunnel"]


def test_what_check_refuses_is_withheld_with_its_reason(tmp_path):
    draft = FileDraft("x")
    tunnel = draft.tunnel("t", AT)
    tunnel.put("remote", "192.0.2.1")
    tunnel.put("auth.psk_file", "none.psk")
    made = settle(draft, tmp_path / "a.toml", "", with_secrets=True)
    assert made.active == ()
    assert "no such file" in made.withheld["t"][0]


def test_directories_of_the_products():
    assert CertificateFiles.of_ipsec_d(SOURCES).authority("ca.pem") == SOURCES / "ipsec.d" / "cacerts" / "ca.pem"


def test_a_source_error_is_one_line():
    assert str(SourceError(SourceLine("a\nb", 3), "wrong\x1b[0m\n")).isprintable()


def test_a_failure_leaves_no_secret_behind_that_it_wrote(tmp_path):
    """The result is to stand where its key was just written."""
    text = source_of(SOURCES / "swanctl" / "shared-key").read_text()
    (tmp_path / "swanctl.conf").write_text(text)
    assert main(["import", "swanctl", str(tmp_path / "swanctl.conf"), "-o", str(tmp_path / "oslo-rome.psk")]) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["swanctl.conf"]
