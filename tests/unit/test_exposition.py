"""The page of metrics: every tunnel has its series, whether it is up or not, and nobody outside decides how many there are."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ipsec_dp.dataplane import DROP_NAMES
from ipsec_dp.gateway import exposition
from ipsec_dp.gateway.exposition import TUNNEL, TUNNELS_MAX, page
from ipsec_dp.gateway.ike_counts import IkeCounts
from ipsec_dp.gateway.readings import wanted
from ipsec_dp.ike.actions import Cause, Event, Kind, Origin
from ipsec_dp.rig import Gateway, Wire
from ipsec_dp.rig.packets import udp
from tests.doubles.clock import FakeClock
from tests.doubles.config import configured, tunnel
from tests.unit.rig_sites import site, sites

if TYPE_CHECKING:
    from collections.abc import Iterator

HELLO = udp("10.1.0.5", "10.2.0.5", b"hello")
METRICS = "[metrics]\n"
LABELS = set(
    "tunnel direction reason counter cause worker port thread part sa trigger result origin role le version python provider".split()
)


def text_of(gateway: Gateway) -> str:
    return gateway.network.loop.call(gateway.site.gateway.metrics_page(), 10).decode()


class Page(dict[str, float]):
    """Values by series, written as `name{label="value"}` with the labels in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.families = list(text_string_to_metric_families(text))
        for family in self.families:
            for sample in family.samples:
                labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
                key = f"{sample.name}{{{labels}}}" if labels else sample.name
                assert key not in self, "a series is there once"
                self[key] = sample.value


def of(gateway: Gateway) -> Page:
    return Page(text_of(gateway))


def test_a_tunnel_that_is_up_has_all_its_series():
    with sites() as (a, b):
        a.inject(HELLO)
        b.wait("packet")
        there, far = of(a), of(b)
        assert there['ipsec_dp_tunnel_configured{tunnel="to-b"}'] == there['ipsec_dp_tunnel_up{tunnel="to-b"}'] == 1
        assert there['ipsec_dp_tunnel_complete{tunnel="to-b"}'] == there['ipsec_dp_tunnel_ike_up{tunnel="to-b"}'] == 1
        assert there['ipsec_dp_tunnel_post_quantum{tunnel="to-b"}'] == 0
        assert there['ipsec_dp_tunnel_child_sas{tunnel="to-b"}'] == 1
        assert there['ipsec_dp_tunnel_bytes_total{direction="out",tunnel="to-b"}'] == len(HELLO)
        assert far['ipsec_dp_tunnel_packets_total{direction="in",tunnel="to-a"}'] == 1
        assert far['ipsec_dp_tunnel_packets_total{direction="out",tunnel="to-a"}'] == 0
        assert there['ipsec_dp_worker_packets_total{direction="out",worker="0"}'] == 1
        assert there['ipsec_dp_tunnel_mtu_bytes{tunnel="to-b"}'] == a.tunnel().mtu
        assert there["ipsec_dp_up"] == there["ipsec_dp_tunnels"] == there["ipsec_dp_ike_sas"] == 1
        assert there['ipsec_dp_ike_handshake_seconds_count{role="initiator"}'] == 1
        assert far['ipsec_dp_ike_handshake_seconds_count{role="responder"}'] == 1
        assert there["ipsec_dp_key_memory_bytes"] > 0
        assert there["process_resident_memory_bytes"] > 1 << 20


def test_a_tunnel_that_is_down_is_a_series_too_and_says_whether_it_is_wanted():
    with Gateway(site("a", start="start")) as calling, Gateway(site("b", start="respond")) as waiting:
        for gateway, name, wanted in ((calling, "to-b", 1), (waiting, "to-a", 0)):
            there = of(gateway)
            assert there[f'ipsec_dp_tunnel_configured{{tunnel="{name}"}}'] == 1
            assert there[f'ipsec_dp_tunnel_up{{tunnel="{name}"}}'] == there[f'ipsec_dp_tunnel_complete{{tunnel="{name}"}}'] == 0
            assert there[f'ipsec_dp_tunnel_wanted{{tunnel="{name}"}}'] == wanted


def test_before_it_is_up_every_tunnel_is_configured_and_down(tmp_path):
    config = configured(tmp_path, tunnel("b"), tunnel("c", remote="192.0.2.3", interface="ipsec1"))
    there = Page(b"".join(asyncio.run(page(config, None, IkeCounts(FakeClock())))).decode())
    assert there["ipsec_dp_up"] == 0
    assert [wanted(each) for each in config.tunnels] == [False, False], "they come up on demand"
    for name in "bc":
        assert there[f'ipsec_dp_tunnel_configured{{tunnel="{name}"}}'] == 1
        assert there[f'ipsec_dp_tunnel_up{{tunnel="{name}"}}'] == 0


def test_a_drop_is_counted_by_its_reason_and_every_reason_is_a_series():
    with sites() as (a, _):
        there = of(a)
        assert [name for name in DROP_NAMES if f'ipsec_dp_dropped_packets_total{{reason="{name}"}}' not in there] == ["ok"]
        assert of(a)['ipsec_dp_dropped_packets_total{reason="policy_none"}'] == 0
        a.inject(udp("10.9.0.5", "10.2.0.5", b"not ours"))
        a.wait(lambda: a.counters().get("policy_none", 0) == 1)
        assert of(a)['ipsec_dp_dropped_packets_total{reason="policy_none"}'] == 1


def test_rekeys_are_counted_by_who_wanted_them():
    with sites() as (a, b):
        a.rekey()
        a.wait("CHILD_SA rekeyed")
        a.wait(lambda: len(a.sas()) == len(b.sas()) == 1)
        b.rekey(ike=True)
        a.wait("IKE SA rekeyed")
        b.wait("IKE SA rekeyed")
        here, there = of(a), of(b)
        assert here['ipsec_dp_rekeys_total{result="done",sa="child",trigger="operator"}'] == 1
        assert there['ipsec_dp_rekeys_total{result="done",sa="child",trigger="peer"}'] == 1
        assert here['ipsec_dp_rekeys_total{result="done",sa="ike",trigger="peer"}'] == 1
        assert there['ipsec_dp_rekeys_total{result="done",sa="ike",trigger="operator"}'] == 1
    with sites(tables='  [tunnel.esp]\n  lifetime = "10m"\n') as (a, b):
        a.network.advance(3600)
        counted = of(a)
        done = {key: value for key, value in counted.items() if 'result="done",sa="child"' in key}
        assert sum(done.values()) >= 5
        assert {re.findall('trigger="(.*?)"', key)[0] for key in done} <= {"lifetime", "peer"}


def event(kind: Kind, **fields: Any) -> Event:
    return Event(kind, "to-b", b"", b"", "", "", origin=Origin.OURS, **fields)


def test_a_renewal_has_the_reason_that_it_was_asked_for_and_only_for_a_while():
    clock = FakeClock()
    counts = IkeCounts(clock)
    counts.event(event(Kind.CHILD_REKEYED, renewal="ours"))
    counts.renewing("to-b", "volume")
    counts.event(event(Kind.CHILD_REKEYED, renewal="ours"))
    counts.event(event(Kind.WARNING, renewal="ours", child=1))
    asyncio.run(clock.advance(3600))
    counts.event(event(Kind.CHILD_REKEYED, renewal="ours"))
    counts.event(event(Kind.WARNING, renewal="peer"))
    assert dict(counts.rekeys) == {
        ("child", "lifetime", "done"): 2,
        ("child", "volume", "done"): 1,
        ("child", "volume", "failed"): 1,
        ("ike", "peer", "failed"): 1,
    }
    counts.event(event(Kind.IKE_FAILED, cause=Cause.TIMEOUT))
    assert dict(counts.failures) == {("ike", str(Cause.TIMEOUT), "ours"): 1}


def test_handshakes_go_into_the_bucket_of_their_duration():
    clock = FakeClock()
    counts = IkeCounts(clock)
    for seconds in (0.003, 0.2, 400.0):
        counts.event(event(Kind.IKE_UP, started=clock.now() - seconds))
    durations = counts.handshakes["initiator"]
    assert sum(durations.counts) == 3
    assert (durations.counts[0], durations.counts[-1]) == (1, 1)
    assert durations.total == pytest.approx(400.203)


def test_names_units_and_labels_are_as_prometheus_has_them():
    with sites() as (a, _):
        text, there = text_of(a), of(a)
    for family in there.families:
        assert family.documentation, family.name
        assert family.type != "unknown"
        assert re.fullmatch(r"(ipsec_dp|process)_[a-z0-9_]+", family.name), family.name
        assert not re.search(r"_(octets|ms|milliseconds|kb|total_total)(_|$)", family.name)
        for sample in family.samples:
            assert (family.type == "counter") == sample.name.endswith("_total"), sample.name
            assert set(sample.labels) <= LABELS
    headers = re.findall("^# TYPE (\\S+)", text, re.MULTILINE)
    assert len(headers) == len(set(headers)), "a family is there once, whole"


def names_of(*numbers: int) -> Iterator[str]:
    return (f'configured{{tunnel="t{number}"}}' for number in numbers)


def test_a_tunnel_has_the_same_few_series_and_beyond_the_bound_only_three():
    assert TUNNELS_MAX == 10_000
    assert len(TUNNEL) <= 24
    with sites() as (a, _):
        series = [key for key in of(a) if 'tunnel="to-b"' in key]
        assert len(series) <= len(TUNNEL)
        for _ in range(3):  # other SAs make no other series
            a.rekey()
            a.wait("CHILD_SA rekeyed")
            a.rekey(ike=True)
            a.wait("IKE SA rekeyed")
        assert [key for key in of(a) if 'tunnel="to-b"' in key] == series
        assert a.site.gateway.engine is not None
        bound = page(a.config, a.site.gateway.engine.readings, IkeCounts(FakeClock()), detailed=0)
        beyond = Page(b"".join(a.network.loop.call(bound, 10)).decode())
        assert {key.partition("{")[0] for key in beyond if 'tunnel="to-b"' in key} == {
            "ipsec_dp_tunnel_configured", "ipsec_dp_tunnel_wanted", "ipsec_dp_tunnel_up"
        }  # fmt: skip
        assert beyond["ipsec_dp_tunnels_without_detail"] == 1


def test_more_tunnels_than_are_made_text_at_once_are_all_there(tmp_path):
    many = [tunnel(f"t{number}", remote=f"192.0.2.{number % 200 + 2}", interface=f"i{number}") for number in range(450)]
    config = configured(tmp_path, *many)
    there = Page(b"".join(asyncio.run(page(config, None, IkeCounts(FakeClock())))).decode())
    assert all(f"ipsec_dp_tunnel_{name}" in there for name in names_of(0, 199, 200, 399, 400, 449))


def test_whatever_a_peer_says_of_itself_is_in_no_label():
    strange = 'rob"\\n{x="1"}@evil.example'
    with Gateway(site("b"), wire=(wire := Wire())) as b, Gateway(site("a").replace("a.example", "mallory.example"), wire=wire) as a:
        a.wait("IKE SA failed")
        for gateway in (a, b):
            text = text_of(gateway)
            assert "mallory" not in text
            assert "192.0.2." not in text
        assert any(key.startswith("ipsec_dp_ike_failures_total") for key in of(b)), "it is counted all the same"
    label = exposition.escaped(strange)
    (family,) = text_string_to_metric_families(f'# TYPE a gauge\na{{tunnel="{label}"}} 1\n')
    assert family.samples[0].labels == {"tunnel": strange}


def test_a_reload_changes_which_tunnels_are_told():
    with Gateway(site("a", start="respond") + METRICS) as a:
        a.reload(site("a", start="respond").replace("to-b", "to-c"))
        there = of(a)
        assert 'ipsec_dp_tunnel_up{tunnel="to-c"}' in there
        assert not any("to-b" in key for key in there)


MANY = 1000


def many() -> str:
    rows = "".join(
        f'[[tunnel]]\nname = "t{n}"\nlocal = "192.0.2.1"\nremote = "192.0.2.2"\nstart = "respond"\n'
        f'  [[tunnel.proxy_id]]\n  local = "10.1{n // 250}.{n % 250}.0/24"\n  remote = "10.2{n // 250}.{n % 250}.0/24"\n'
        f'  [tunnel.auth]\n  local_id = "a{n}.example"\n  remote_id = "b{n}.example"\n  psk_file = "s.psk"\n'
        for n in range(MANY)
    )
    return f'[gateway]\nname = "a"\n{rows}'


@pytest.mark.measure
def test_a_thousand_tunnels_take_less_than_200_ms_and_leave_the_event_loop_free():
    with Gateway(many()) as a:
        text_of(a)
        took, held = [], []

        async def beside() -> None:
            """The page in slices, as outside of a rig, and how long each held the event loop."""
            assert a.site.gateway.engine is not None
            begun = time.monotonic()
            asked = asyncio.ensure_future(page(a.config, a.site.gateway.engine.readings, IkeCounts(FakeClock())))
            last = time.monotonic()
            while not asked.done():
                await asyncio.sleep(0)
                held.append(time.monotonic() - last)
                last = time.monotonic()
            took.append(time.monotonic() - begun)

        for _ in range(5):
            asyncio.run(beside())
        assert min(took) < 0.2
        assert sorted(held)[len(held) * 99 // 100] < 0.010


# ---- who reads them

CONF = Path(__file__).resolve().parents[2] / "conf"


@pytest.mark.parametrize("reader", ["grafana-ipsec-dp.json", "prometheus-rules.yml"])
def test_what_dashboard_and_rules_ask_for_is_there(reader):
    asked = set(re.findall(r"\b(?:ipsec_dp|process)_[a-z_]+", (CONF / reader).read_text()))
    monitor = '  [tunnel.monitor]\n  target = "10.{other}.0.9"\n  source = "10.{number}.0.9"\n'
    with Gateway(site("a", start="respond", tables=monitor.format(number=1, other=2))) as a:
        families = {name for family in of(a).families for name in (family.name, f"{family.name}_total", f"{family.name}_bucket")}
    conditional = {"ipsec_dp_tunnel_monitor_rtt_seconds"}  # while a probe was answered
    assert len(asked) > 8
    assert asked - families - conditional == set()
