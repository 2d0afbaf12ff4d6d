"""conf/ and the benchmark's: the schema is the model's, and every example passes `check` once the files it names exist."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import tomllib
from pathlib import Path

import pytest

from ipsec_dp.config import examine, schema, tables
from ipsec_dp.ipsec.suites import parse_suite
from tests.ike.pki import CA, OpenSsl

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
EXAMPLES = sorted([*CONF.glob("*.toml"), *ROOT.glob("benchmarks/bench-*.toml")])
FILE_KEY = re.compile(r'^\s*(\w+) = (?:"([^"]+\.(?:psk|key|pem|crl))"|\["([^"]+\.(?:psk|key|pem|crl))"\])', re.MULTILINE)


def named_files(text: str) -> list[tuple[str, str]]:
    """Key and file name of every file that a configuration names."""
    return [(match[1], match[2] or match[3]) for match in FILE_KEY.finditer(text)]


def write_certificates(directory: Path) -> None:
    """What conf/certificate.toml names: a CA, its CRL, our certificate and key."""
    pki = OpenSsl(directory)
    pki.certificate("ca", "/CN=Example root", extensions=CA).rename(directory / "ca.pem")
    shutil.copy(directory / "ca.pem", directory / "ca.crt")
    pki.crl("ca", "ca")
    pki.certificate("gw-a", "/CN=gw-a", "ca", "subjectAltName=DNS:gw-a.example").rename(directory / "gw-a.pem")


@pytest.fixture
def example(request, tmp_path):
    """A copy of an example in a directory of its own."""
    return Path(shutil.copy(request.param, tmp_path))


def test_the_schema_in_conf_is_the_one_of_the_model():
    assert (CONF / "schema.json").read_text() == schema.text(), "run: python -m ipsec_dp.config.schema > conf/schema.json"


def test_the_schema_names_every_table_refuses_unknown_keys_and_knows_no_null():
    definitions = schema.schema()["$defs"]
    structs = [item for item in vars(tables).values() if isinstance(item, type) and issubclass(item, tables.Table)]
    for struct in structs:
        if struct in (tables.Table, tables.Selectors):
            continue
        assert definitions[struct.__name__]["additionalProperties"] is False
        assert list(definitions[struct.__name__]["properties"]) == list(struct.__struct_encode_fields__)
    assert definitions["Tunnel"]["required"] == ["name", "remote"]
    assert "null" not in json.dumps(definitions)


def test_there_is_an_example_of_each_usual_case():
    names = {path.stem for path in EXAMPLES}
    assert names >= {
        "manual-a",
        "manual-b",
        "site-a",
        "certificate",
        "road",
        "route-based",
        "proxy-ids",
        "policies",
        "ipv6",
        "zones",
    }


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name, indirect=True)
def test_an_example_names_its_schema_first_and_is_good_once_its_files_exist(example):
    text = example.read_text()
    assert re.match(r"#:schema (\./|\.\./conf/)schema\.json\n# ", text)
    suites = [tunnel["manual_unsafe"]["suite"] for tunnel in tomllib.loads(text)["tunnel"] if "manual_unsafe" in tunnel]
    octets = parse_suite(suites[0]).keymat_octets if suites else 32
    for _, name in named_files(text):
        (example.parent / name).write_text(secrets.token_hex(octets))
        (example.parent / name).chmod(0o600)
    if example.name == "certificate.toml":
        write_certificates(example.parent)
    config, findings = examine(example)
    assert [str(finding) for finding in findings if finding.severity == "error"] == []
    assert {finding.key for finding in findings} <= {"manual_unsafe"}
    assert config is not None


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name, indirect=True)
def test_files_an_example_lacks_are_each_told_by_name(example):
    files = named_files(example.read_text())
    config, findings = examine(example)
    errors = [finding for finding in findings if finding.severity == "error"]
    assert config is None
    assert sorted((finding.key.rpartition(".")[2], Path(finding.wrong.partition(": ")[2]).name) for finding in errors) == sorted(
        files
    )
    assert all(finding.wrong.startswith("no such file: ") for finding in errors)


def test_both_sides_of_the_manual_pair_fit():
    near, far = (tomllib.loads((CONF / f"manual-{side}.toml").read_text())["tunnel"][0] for side in "ab")
    assert (near["local"], near["remote"]) == (far["remote"], far["local"])
    for one, other in [("in", "out"), ("out", "in")]:
        assert near["manual_unsafe"][f"spi_{one}"] == far["manual_unsafe"][f"spi_{other}"]
        assert near["manual_unsafe"][f"key_{one}_file"] == far["manual_unsafe"][f"key_{other}_file"]
    assert near["manual_unsafe"]["suite"] == far["manual_unsafe"]["suite"]
    (mine,), (theirs,) = near["proxy_id"], far["proxy_id"]
    assert (mine["local"], mine["remote"]) == (theirs["remote"], theirs["local"])
