"""The formats of the sources: what they may hold, and that anything else is one line with its place, within bounds."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ipsec_dp.migrate import ipsec_conf_format, settings_format, source_files
from ipsec_dp.migrate.certificate_files import CertificateFiles
from ipsec_dp.migrate.draft import SourceError
from ipsec_dp.migrate.ipsec_conf import dialect_of, of_conf, read_ipsec_conf
from ipsec_dp.migrate.ipsec_conf_format import SecretsFile, parse_conf, parse_secrets
from ipsec_dp.migrate.panos import of_tree
from ipsec_dp.migrate.panos_tree import parse_panos
from ipsec_dp.migrate.settings_format import parse_settings
from ipsec_dp.migrate.source_files import SourceFiles
from ipsec_dp.migrate.swanctl import of_settings, read_swanctl
from tests.unit.migration_cases import CASES, source_of

NOWHERE = Path("/nowhere/file.conf")
NO_FILES = CertificateFiles((NOWHERE,), (NOWHERE,), (NOWHERE,), (NOWHERE,))


def settings(text, path=NOWHERE):
    return parse_settings(text, path, SourceFiles(follow=path is not NOWHERE))


def conf(text, path=NOWHERE):
    return parse_conf(text, path, SourceFiles(follow=path is not NOWHERE))


# ---- strongSwan's settings -------------------------------------------------------------------------------------------------------


def test_settings():
    text = 'a = b c  # comment\none {\n key = "quoted # } \\" \\n"  more\n two { x = 1 }\n empty =\n}\n'
    root = settings(text + "one { two { y = 2 } }\nthree\n{ z = {1 }\n")
    assert root.text("a") == "b c"
    one = root.below("one")
    assert one.text("key") == 'quoted # } " \n more'
    assert {key: value.text for key, value in one.below("two").values.items()} == {"x": "1", "y": "2"}
    assert one.values["empty"].text == ""
    assert one.values["key"].at.line == 3
    assert root.below("three").text("z") == "{1"


def test_references_bring_what_a_section_has_not_itself():
    text = """
base { k = 1
  v = base
  below { deep = yes } }
other { v = other
  w = other }
conns { a : base, other { k = 2
   below : conns.b { } }
  b { more = yes }
  c : conns.a { v = } }
"""
    conns = settings(text).below("conns")
    a = conns.below("a")
    assert {key: value.text for key, value in a.values.items()} == {"k": "2", "v": "base", "w": "other"}
    assert {key: value.text for key, value in a.below("below").values.items()} == {"more": "yes", "deep": "yes"}
    assert conns.below("c").text("v") == ""
    assert conns.below("c").text("k") == "2"


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("a {\n b = 1\n", 1, "has no end"),
        ("a { }\n}\n", 2, "ends nothing"),
        ('a {\n b = "x\n\n', 2, "closing quote"),
        ("a {\n b\n}\n", 2, "neither"),
        ("= 1\n", 1, "is to begin"),
        ("a : none { }\n", 1, "which there is not"),
        ("x { a : x.b { }\n b : x.a { } }\n", 2, "itself"),
        ("a : a { }\n", 1, "itself"),
        ("a { b : a { } }\n", 1, "itself"),
        ("a { " * 40 + "} " * 40, 1, "deep"),
        ("include\t\n", 1, "names no file"),
    ],
)
def test_settings_that_are_none(text, line, word):
    with pytest.raises(SourceError, match=word) as caught:
        settings(text)
    assert caught.value.at.line == line
    assert str(caught.value).isprintable()


def test_references_that_multiply_are_bounded(monkeypatch):
    """Each level takes over the one below it twice: 2**11 sections here, 2**31 in a file of 32 lines."""
    levels = "".join(f"l{n} {{ a : l{n + 1} {{ }}\n b : l{n + 1} {{ }} }}\n" for n in range(11))
    monkeypatch.setattr(settings_format, "ENTRIES_MOST", 2000)
    with pytest.raises(SourceError, match="more than 2000"):
        settings(levels + "l11 { x = 1 }\n")


def test_a_long_list_of_references_costs_no_more_than_its_length():
    """Each of 20000 is looked for once, wherever the list is taken over to: a square of that would be 200 million."""
    many = ",".join(f"r{n}" for n in range(20_000))
    sections = "".join(f"r{n} {{ }}\n" for n in range(20_000))
    began = time.process_time()
    root = settings(f"{sections}x {{ sub : {many} {{ }} }}\ny : x {{ sub : {many} {{ a = 1 }} }}\n")
    assert root.below("y").below("sub").text("a") == "1"
    assert time.process_time() - began < 10.0


def test_references_are_counted_whatever_they_bring(monkeypatch):
    monkeypatch.setattr(settings_format, "ENTRIES_MOST", 30)
    many = ",".join(f"e{n}" for n in range(3))
    assert settings("".join(f"e{n} {{ }}\n" for n in range(3)) + f"x : {many} {{ }}\n").below("x").values == {}
    many = ",".join(["e0", *(f"e{n}" for n in range(25))])
    with pytest.raises(SourceError, match="more than 30"):
        settings("".join(f"e{n} {{ }}\n" for n in range(25)) + f"x : {many} {{ }}\n")


def test_files_that_include_each_other_are_bounded(tmp_path):
    path = tmp_path / "swanctl.conf"
    path.write_text("include swanctl.conf\n")
    with pytest.raises(SourceError, match="include each other"):
        read_swanctl(path)
    path.write_text("a { include swanctl.conf\n }\n")
    with pytest.raises(SourceError):
        read_swanctl(path)
    path.write_text("include many/*.conf\n")
    (tmp_path / "many").mkdir()
    for number in range(source_files.FILES_MOST + 1):
        (tmp_path / "many" / f"{number}.conf").write_text("")
    with pytest.raises(SourceError, match="files are included"):
        read_swanctl(path)


def test_a_pattern_looks_at_a_bounded_number_of_names(tmp_path, monkeypatch):
    """Each part of it multiplies what is looked at, whether anything fits in the end or not."""
    path, many = tmp_path / "swanctl.conf", tmp_path / "many"
    for number in range(6):
        (many / f"d{number}").mkdir(parents=True)
        (many / f"d{number}" / "a.conf").write_text(f"s{number} {{ }}\n")
        (many / f"d{number}" / ".hidden.conf").write_text("hidden { }\n")
    path.write_text("include many/d[0-9]/*.conf\ninclude many/*/.h*.conf\ninclude many/d0/../d?/none\n")
    monkeypatch.setattr(source_files, "NAMES_MOST", 42)  # 6 + 12, twice, and 6
    assert set(settings(path.read_text(), path).sections) == {*(f"s{number}" for number in range(6)), "hidden"}
    monkeypatch.setattr(source_files, "NAMES_MOST", 41)
    with pytest.raises(SourceError, match="more than 41 names: name a directory more exactly") as caught:
        settings(path.read_text(), path)
    assert caught.value.at.line == 3
    path.write_text(f"include {'*' * 2000}\n")
    with pytest.raises(SourceError, match="pattern of more than"):
        settings(path.read_text(), path)


def test_a_source_is_bounded_with_all_that_it_includes(tmp_path, monkeypatch):
    path = tmp_path / "swanctl.conf"
    path.write_text("include a.conf\ninclude a.conf\n")
    (tmp_path / "a.conf").write_text("#" * 100)
    monkeypatch.setattr(source_files, "OCTETS_MOST", 230)
    read_swanctl(path)
    monkeypatch.setattr(source_files, "OCTETS_MOST", 229)
    with pytest.raises(SourceError, match="with what is included"):
        read_swanctl(path)


def test_a_source_is_text_of_a_bounded_size(tmp_path):
    for data, word in ((b"a = \xff\n", "UTF-8"), (b"a = 1\n\0", "NUL")):
        (tmp_path / "a.conf").write_bytes(data)
        with pytest.raises(SourceError, match=word):
            read_swanctl(tmp_path / "a.conf")
    with (tmp_path / "a.conf").open("wb") as file:
        file.truncate(source_files.FILE_OCTETS_MOST + 1)
    with pytest.raises(SourceError, match="MiB"):
        read_swanctl(tmp_path / "a.conf")
    with pytest.raises(SourceError, match="cannot read"):
        read_swanctl(tmp_path)


# ---- ipsec.conf and ipsec.secrets ------------------------------------------------------------------------------------------------


def test_conf_sections_take_over():
    text = "conn %default\n  ike=a\n  esp=d\nconn base\n  esp=b # comment\n  left=1\nconn x\n  also=base\n  right = 2\n"
    made = conf(text)
    whole = {key: value.text for key, value in made.whole(made.sections["conn", "x"]).items()}
    assert whole == {"ike": "a", "esp": "b", "left": "1", "right": "2"}


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("  left=1\n", 1, "no section"),
        ("conn x\n  left\n", 2, "key = value"),
        ("frob y\n", 1, "begins no section"),
        ('conn x\n  leftid="a\n', 2, "quote"),
        ("conn x\n  also=y\n", 2, "no such section"),
        ("conn x\n  also=y\nconn y\n  also=x\n", 4, "circles"),
    ],
)
def test_conf_that_is_none(text, line, word):
    with pytest.raises(SourceError, match=word) as caught:
        of_conf(conf(text), SecretsFile(), NO_FILES)
    assert caught.value.at.line == line


def test_secrets():
    text = '# c\n@a 192.0.2.1 : PSK "x # y"\n: RSA gw.pem "pass"\n%any @b:\n\tPSK 0sAA==\nanna : EAP "e"\n2001:db8::1 : PSK "six"\n'
    made = parse_secrets(text, Path("/nowhere/ipsec.secrets"), SourceFiles(follow=False))
    assert [(key.identities, key.text) for key in made.keys] == [
        (("@a", "192.0.2.1"), "x # y"),
        (("%any", "@b"), "0sAA=="),
        (("2001:db8::1",), "six"),
    ]
    assert [key.text for key in made.private] == ["gw.pem"]
    assert [other.text for other in made.others] == ["EAP"]
    with pytest.raises(SourceError) as caught:
        parse_secrets("\nnothing here\n", Path("ipsec.secrets"), SourceFiles(follow=False))
    assert (caught.value.at.line, "nothing" in str(caught.value)) == (2, False)


@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        ("conn x\n  keyexchange=ikev2\n  leftauth=psk\n", "strongswan"),
        ("conn x\n  ikev2=insist\n", "libreswan"),
        ("conn x\n  ike=aes256-sha2;dh14\n", "libreswan"),
        ("config setup\n  protostack=netkey\n", "libreswan"),
        ("conn x\n  auto=ondemand\n", "libreswan"),
        ("conn x\n  ike=aes256-sha256-modp2048!\n", "strongswan"),
    ],
)
def test_whose_file_it_is(text, dialect):
    assert dialect_of(conf(text)) == dialect


def test_either_side_may_be_this_host(tmp_path):
    path = tmp_path / "ipsec.conf"
    path.write_text("conn x\n  left=192.0.2.1\n  right=192.0.2.2\n  authby=secret\n  auto=start\n")
    for local, expected in (("left", "192.0.2.2"), ("right", "192.0.2.1")):
        (tunnel,) = read_ipsec_conf(path, local=local).tunnels
        assert tunnel.settings["remote"].value == expected
    path.write_text("conn x\n  left=192.0.2.1\n  right=%defaultroute\n  authby=secret\n  auto=start\n")
    (tunnel,) = read_ipsec_conf(path).tunnels
    assert tunnel.settings["remote"].value == "192.0.2.1"


# ---- PAN-OS ----------------------------------------------------------------------------------------------------------------------


def test_both_forms_are_one_tree():
    entry = '<entry name="g"><hash><member>a</member><member>b</member></hash><v>2</v></entry>'
    xml = f"<config><network><ike><gateway>{entry}</gateway></ike></network></config>"
    commands = "set config network ike gateway g hash [ a b ]\nset config network ike gateway g v 2\n"
    for text in (xml, commands):
        gateway = parse_panos(text, "x").below("config", "network", "ike", "gateway", "g")
        assert gateway is not None
        assert (gateway.values("hash"), gateway.text("v")) == (["a", "b"], "2")


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("<config>\n<network>\n", 3, "no XML"),
        ('<!DOCTYPE c [<!ENTITY a "b">]>\n<config/>', 1, "DTD"),
        ('<!DOCTYPE c SYSTEM "http://x.example/d">\n<config/>', 1, "DTD"),
        ("<config>&x;</config>", 1, "no XML|DTD"),
        ("<a>" * 100, 1, "deep"),
        ("set a\ndelete b\n", 2, "set command"),
        ('set network "a\n', 1, "quote"),
        ("set network [ a b\n", 1, "list"),
        (f"set{' a' * 65}\n", 1, "more than 64 words"),
        (f"set{' a' * 5000} [ b ]\n", 1, "more than 64 words"),
        ("\n", 1, "no set command"),
        ("set deviceconfig system hostname a\n", 1, "nothing of it"),
        ('<?xml version="1.0" encoding="frob"?><config/>', 1, "encoding|no XML"),
    ],
)
def test_panos_that_is_none(text, line, word):
    with pytest.raises(SourceError, match=word) as caught:
        of_tree(parse_panos(text, "x"))
    assert caught.value.at.line == line


# ---- truncated files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}-{case.name}")
def test_a_truncated_source_is_read_or_refused_in_one_line(case):
    text = source_of(case).read_text()
    ends = range(0, len(text), max(1, len(text) // 60))
    for end in ends:
        piece = text[:end]
        refused = None
        try:
            if case.parent.name == "swanctl":
                of_settings(settings(piece), NO_FILES)
            elif case.parent.name == "ipsec_conf":
                of_conf(conf(piece), SecretsFile(), NO_FILES)
            else:
                of_tree(parse_panos(piece, "x"))
        except SourceError as error:
            refused = error
        assert refused is None or (str(refused).isprintable() and 1 <= refused.at.line <= piece.count("\n") + 1)


def test_sections_that_take_each_other_over_in_multiples_are_bounded(monkeypatch):
    """Each level takes the next over three times: 3**6 here, 3**15 in a file of 45 lines."""
    levels = "".join(f"conn l{n}\n  also=l{n + 1} l{n + 1} l{n + 1}\n  k{n}=1\n" for n in range(6)) + "conn l6\n  x=1\n"
    read = conf(levels)
    assert read.whole(read.sections["conn", "l0"])["x"].text == "1"
    monkeypatch.setattr(ipsec_conf_format, "INHERITED_MOST", 1000)
    read = conf(levels)
    with pytest.raises(SourceError, match="more than 1000"):
        read.whole(read.sections["conn", "l0"])
