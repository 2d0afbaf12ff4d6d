"""Whatever stands in a file, reading it ends in a configuration or in findings of one line each, never in another exception."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ipsec_dp.config import Config, tables
from ipsec_dp.config.findings import Findings
from ipsec_dp.config.load import resolve_document

WORDS = st.sampled_from(
    [
        *("any", "auto", "none", "start", "udp", "esp", "tcp", "icmp", "icmpv6", "protect", "discard", "bypass", "strict", "to-b"),
        *(
            "192.0.2.1",
            "192.0.2.1/24",
            "10.0.0.0/8",
            "10.1.0.0/16",
            "0.0.0.0/0",
            "2001:db8::1",
            "::/0",
            "fe80::1%eth0",
            "fe80::%x/10",
        ),
        *("aes128gcm16", "aes256-sha256-modp2048", "aes128-sha1-modp1024", "5-3", "1-99999", "443", "1h", "0s", "9999999d", "20GB"),
        *("5kiB", "0x10", "gw.example", "ipsec0", "none.key", "/dev/null", "../..", "\x00", "\x1b[2J"),
    ]
)
SCALARS = st.one_of(WORDS, st.text(max_size=8), st.integers(-(2**70), 2**70), st.booleans(), st.floats(), st.dates())
KEYS = sorted({key for item in vars(tables).values() for key in getattr(item, "__struct_encode_fields__", ())} | {"", "nonsense"})
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=6)),
    max_leaves=24,
)
SELECTORS = dict.fromkeys(tables.Selectors.__struct_fields__, WORDS)
TUNNELS = st.fixed_dictionaries(
    {"name": WORDS, "remote": WORDS},
    optional={
        **{key: VALUES for key in tables.Tunnel.__struct_fields__ if key not in ("name", "remote")},
        "proxy_id": st.lists(st.fixed_dictionaries({}, optional=SELECTORS), max_size=3),
        "manual_unsafe": st.fixed_dictionaries({}, optional=dict.fromkeys(tables.ManualUnsafe.__struct_fields__, SCALARS)),
    },
)
DOCUMENTS = st.one_of(
    st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6),
    st.fixed_dictionaries(
        {"tunnel": st.lists(TUNNELS, max_size=3)},
        optional={
            "policy": st.lists(st.fixed_dictionaries({"action": WORDS}, optional={**SELECTORS, "tunnel": WORDS}), max_size=3),
            "zone": st.lists(st.fixed_dictionaries({"name": WORDS, "interfaces": st.lists(WORDS, max_size=3)}), max_size=3),
            "zone_rule": st.lists(st.fixed_dictionaries({"from": WORDS, "to": WORDS}, optional={"source": WORDS}), max_size=3),
            "route": st.lists(st.fixed_dictionaries({"prefix": WORDS, "tunnel": WORDS}), max_size=3),
        },
    ),
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(DOCUMENTS)
@example({"tunnel": [{"name": "a\nb", "remote": "\x1b[2J", "auth": {"psk_file": "\x00"}}]})
@example({"tunnel": [{"name": "x", "remote": "any", "manual_unsafe": {"suite": "", "key_in_file": "", "key_out_file": ""}}]})
def test_any_document_becomes_a_configuration_or_findings(document):
    findings = Findings("x.toml")
    config = resolve_document(document, Path("x.toml"), findings)
    assert isinstance(config, Config)
    for finding in findings.found:
        assert str(finding).isprintable(), finding
        assert finding.wrong != ""
        assert finding.right != ""
