"""What the fuzz targets of other products' files have in common: whatever stands in a source ends in a draft or in a SourceError of
one line, and the draft in TOML that is read back.

Seeds are the sources under tests/unit/migrations. Nothing is included, and no certificate looked for.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import atheris

with atheris.instrument_imports(include=["ipsec_dp.migrate"]):
    from ipsec_dp.migrate.certificate_files import CertificateFiles
    from ipsec_dp.migrate.draft import FileDraft, SourceError
    from ipsec_dp.migrate.ipsec_conf import of_conf
    from ipsec_dp.migrate.ipsec_conf_format import parse_conf, parse_secrets
    from ipsec_dp.migrate.panos import of_tree
    from ipsec_dp.migrate.panos_tree import parse_panos
    from ipsec_dp.migrate.settings_format import parse_settings
    from ipsec_dp.migrate.source_files import SourceFiles, decoded
    from ipsec_dp.migrate.swanctl import of_settings
    from ipsec_dp.migrate.toml_writer import document

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOURCES = Path("tests/unit/migrations")
NOWHERE = Path("build/fuzz/nowhere/source")
DASHES = "-----\n"
NO_FILES = CertificateFiles((NOWHERE,), (NOWHERE,), (NOWHERE,), (NOWHERE,))


def swanctl(text: str) -> FileDraft:
    return of_settings(parse_settings(text, NOWHERE, SourceFiles(follow=False)), NO_FILES)


def ipsec_conf(text: str) -> FileDraft:
    """Up to a line of dashes ipsec.conf, behind it ipsec.secrets."""
    conf, _, secrets = text.partition(DASHES)
    files = SourceFiles(follow=False)
    return of_conf(parse_conf(conf, NOWHERE, files), parse_secrets(secrets, NOWHERE, files), NO_FILES)


def panos(text: str) -> FileDraft:
    return of_tree(parse_panos(text, "source"))


def receive(draft_of: Callable[[str], FileDraft], data: bytes) -> None:
    refused: SourceError | None = None
    try:
        draft = draft_of(decoded(data, "source"))
    except SourceError as error:
        refused = error
    if refused is not None:
        assert str(refused).isprintable(), refused
        return
    for remark in draft.remarks:
        assert str(remark).isprintable(), remark
    names = [tunnel["name"] for tunnel in tomllib.loads(document(draft, "x")).get("tunnel", ())]
    assert names == [tunnel.name for tunnel in draft.tunnels if not tunnel.withheld]


def seeds(*patterns: str) -> Iterator[bytes]:
    for pattern in patterns:
        for path in sorted(SOURCES.rglob(pattern)):
            secrets = path.with_name("ipsec.secrets")
            behind = DASHES.encode() + secrets.read_bytes() if path.name == "ipsec.conf" and secrets.is_file() else b""
            yield path.read_bytes() + behind
