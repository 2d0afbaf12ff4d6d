"""Metrics as Debian's Prometheus reads them of a real gateway, its alerts, and the dashboard that shows them.

    hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB

Prometheus runs beside gwA, in its namespace.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
from pathlib import Path
from urllib.parse import quote

import pytest

from ipsec_dp.rig import netns
from ipsec_dp.rig.peers import Daemon, find, is_unpacked, output_of
from ipsec_dp.rig.process import GatewayPair, IkePair
from tests.netns.traffic import ping, until

CONF = Path(__file__).resolve().parents[2] / "conf"
RULES, DASHBOARD = CONF / "prometheus-rules.yml", CONF / "grafana-ipsec-dp.json"
PORT, PROMETHEUS_PORT = 9551, 9090
METRICS = "[metrics]\n"
NOBODY = """
[[tunnel]]
name = "to-nobody"
local = "{local}"
remote = "192.0.2.99"
interface = "ipsec1"
start = "start"
  [[tunnel.proxy_id]]
  local = "10.77.0.0/24"
  remote = "10.78.0.0/24"
  [tunnel.auth]
  local_id = "gw-a.example"
  remote_id = "nobody.example"
  psk_file = "tunnel.psk"
"""
SCRAPE = """
global: {{scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 200ms}}
rule_files: [{rules}]
scrape_configs:
  - job_name: ipsec-dp
    static_configs: [{{targets: ["127.0.0.1:9551"]}}]
"""
UNIT = """
rule_files: [{rules}]
evaluation_interval: 30s
tests:
  - interval: 30s
    input_series:
      - {{series: 'ipsec_dp_tunnel_up{{job="ipsec-dp",instance="a",tunnel="to-b"}}', values: "1x6 0x40"}}
      - {{series: 'ipsec_dp_tunnel_wanted{{job="ipsec-dp",instance="a",tunnel="to-b"}}', values: "1x46"}}
      - {{series: 'ipsec_dp_tunnel_up{{job="ipsec-dp",instance="a",tunnel="asked"}}', values: "1x6 0x40"}}
      - {{series: 'ipsec_dp_tunnel_wanted{{job="ipsec-dp",instance="a",tunnel="asked"}}', values: "0x46"}}
      - {{series: 'ipsec_dp_tunnel_up{{job="ipsec-dp",instance="a",tunnel="never"}}', values: "0x46"}}
      - {{series: 'ipsec_dp_tunnel_wanted{{job="ipsec-dp",instance="a",tunnel="never"}}', values: "0x46"}}
      - {{series: 'ipsec_dp_tunnel_up{{job="ipsec-dp",instance="a",tunnel="partial"}}', values: "1x46"}}
      - {{series: 'ipsec_dp_tunnel_complete{{job="ipsec-dp",instance="a",tunnel="partial"}}', values: "0x46"}}
      - {{series: 'up{{job="ipsec-dp",instance="b"}}', values: "1x2 0x44"}}
    alert_rule_test:
      - {{eval_time: 5m, alertname: IpsecDpTunnelDown, exp_alerts: []}}
      - eval_time: 6m
        alertname: IpsecDpTunnelDown
        exp_alerts:
          - exp_labels: {{job: ipsec-dp, instance: a, tunnel: to-b, severity: critical}}
            exp_annotations:
              summary: 'tunnel "to-b" of a is down'
              description: "It is to be up at all times and carries nothing. ipsec-dp status to-b says why."
      - eval_time: 19m
        alertname: IpsecDpTunnelLost
        exp_alerts:
          - exp_labels: {{job: ipsec-dp, instance: a, tunnel: asked, severity: info}}
            exp_annotations:
              summary: 'tunnel "asked" of a was up and is not'
              description: "It comes up when a packet or its peer asks for it. ipsec-dp status asked says why it went."
      - eval_time: 6m
        alertname: IpsecDpTunnelIncomplete
        exp_alerts:
          - exp_labels: {{job: ipsec-dp, instance: a, tunnel: partial, severity: warning}}
            exp_annotations:
              summary: 'tunnel "partial" of a lacks CHILD_SAs'
              description: "Some proxy IDs have none: the peer refuses them, or has others."
      - eval_time: 4m
        alertname: IpsecDpGone
        exp_alerts:
          - exp_labels: {{job: ipsec-dp, instance: b, severity: critical}}
            exp_annotations:
              summary: "b answers no scrape"
              description: "The gateway does not run, or serves no metrics. What it protects stays closed after a crash: ipsec-dp status says more."
"""  # noqa: E501 - as the rules have it


def promtool(*argv: str) -> str:
    return output_of(find("promtool", "prometheus"), *argv, seconds=60)


def fetch(namespace, port, path):
    """Status and text of a page, asked for inside a namespace."""

    def ask():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    return namespace.call(ask)


def asked(namespace, question):
    """The labels and values that a question to Prometheus has."""
    status, text = fetch(namespace, PROMETHEUS_PORT, f"/api/v1/query?query={quote(question)}")
    assert status == 200, text
    return [(row["metric"], float(row["value"][1])) for row in json.loads(text)["data"]["result"]]


def firing(namespace):
    alerts = json.loads(fetch(namespace, PROMETHEUS_PORT, "/api/v1/alerts")[1])["data"]["alerts"]
    return {(each["labels"]["alertname"], each["labels"].get("tunnel")) for each in alerts if each["state"] == "firing"}


@pytest.fixture
def prometheus(sites_opened_again, tmp_path):
    """Debian's, which runs and scrapes; the rules are ours, but fire at once."""
    (tmp_path / "rules.yml").write_text(re.sub(r"for: \w+", "for: 0s", RULES.read_text()))
    (tmp_path / "prometheus.yml").write_text(SCRAPE.format(rules=tmp_path / "rules.yml"))
    program = find("prometheus", "prometheus")
    daemon = Daemon(sites_opened_again.gw_a, tmp_path / "prometheus", unpacked=is_unpacked(program))
    (tmp_path / "prometheus").mkdir()

    def start():
        listen = f"--web.listen-address=127.0.0.1:{PROMETHEUS_PORT}"
        storage = f"--storage.tsdb.path={tmp_path / 'tsdb'}"
        daemon.start(program, f"--config.file={tmp_path / 'prometheus.yml'}", storage, listen)
        daemon.wait_for(lambda: "Server is ready" in daemon.text(), 30, "ready")

    yield start
    daemon.stop()


@pytest.fixture
def gateways(sites_opened_again, tmp_path):
    made = GatewayPair(sites_opened_again, tmp_path, IkePair())
    with made.a.config.open("a") as file:
        file.write(METRICS + NOBODY.format(local=netns.GW_A_OUTER[0]))
    yield made
    made.a.kill()
    made.b.kill()


def test_prometheus_scrapes_a_gateway_and_its_alert_fires_for_the_tunnel_that_is_down(sites_opened_again, gateways, prometheus):
    gw_a = sites_opened_again.gw_a
    gateways.start()
    until(lambda: gateways.a.ask("status", name="a-to-b")["tunnels"][0]["state"] == "up", "the tunnel up")
    ping(sites_opened_again.host_a, netns.HOST_B[0], "-c", "3")
    prometheus()
    until(lambda: ("IpsecDpTunnelDown", "to-nobody") in firing(gw_a), "the alert", 30)
    assert firing(gw_a) == {("IpsecDpTunnelDown", "to-nobody")}
    values = {labels["tunnel"]: value for labels, value in asked(gw_a, "ipsec_dp_tunnel_up")}
    assert values == {"a-to-b": 1, "to-nobody": 0}
    assert asked(gw_a, 'ipsec_dp_tunnel_packets_total{tunnel="a-to-b",direction="out"}')[0][1] >= 3
    assert asked(gw_a, 'ipsec_dp_udp_receive_queue_bytes{port="500"}')[0][1] >= 0
    assert {labels["thread"] for labels, _ in asked(gw_a, "ipsec_dp_thread_cpu_seconds_total")} >= {"control", "esp", "ike-port"}


def test_hung_clients_keep_no_scrape_and_no_verb_waiting_and_it_stops_with_them(sites_opened_again, gateways):
    gw_a = sites_opened_again.gw_a
    gateways.a.start()
    until(lambda: "metrics" in gateways.a.text() or gateways.a.control.exists(), "the sockets")
    gateways.a.wait_up()
    hung = [gw_a.call(lambda: socket.create_connection(("127.0.0.1", PORT), 5)) for _ in range(8)]
    hung[0].sendall(b"GET /metrics HTTP/1.1\r\n")
    status, text = fetch(gw_a, PORT, "/metrics")
    assert status == 200
    assert 'ipsec_dp_tunnel_up{tunnel="to-nobody"} 0' in text
    assert gateways.a.terminate() == 0
    for each in hung:
        each.close()


def test_an_address_in_use_is_said_in_status_and_everything_else_goes_on(sites_opened_again, gateways):
    with sites_opened_again.gw_a.call(lambda: socket.create_server(("127.0.0.1", PORT))):
        gateways.start()
        until(lambda: gateways.a.ask("status", name="a-to-b")["tunnels"][0]["state"] == "up", "the tunnel up")
        said = [each for each in gateways.a.status()["warnings"] if "metrics" in each]
        assert len(said) == 1
        assert said[0].startswith("metrics are not served at 127.0.0.1:9551: Address already in use; ")
        until(lambda: gateways.a.text().count("metrics are not served") == 1, "one line of the log")
        ping(sites_opened_again.host_a, netns.HOST_B[0])
    text = gateways.a.config.read_text()
    gateways.a.config.write_text(text.replace(METRICS, '[metrics]\nlisten = "127.0.0.1:9552"\n'))
    gateways.a.ask("reload")
    assert not any("metrics" in each for each in gateways.a.status()["warnings"])
    assert fetch(sites_opened_again.gw_a, 9552, "/metrics")[0] == 200


def test_the_rules_are_sound_and_fire_when_they_are_to(tmp_path):
    assert "SUCCESS" in promtool("check", "rules", str(RULES))
    (tmp_path / "unit.yml").write_text(UNIT.format(rules=RULES))
    assert "SUCCESS" in promtool("test", "rules", str(tmp_path / "unit.yml"))


def test_prometheus_understands_every_question_of_the_dashboard(tmp_path):
    questions = [target["expr"] for panel in json.loads(DASHBOARD.read_text())["panels"] for target in panel["targets"]]
    assert len(questions) > 20
    rows = "".join(
        f"      - {{record: 'asked:{number}', expr: {json.dumps(re.sub(r'[$]__rate_interval', '5m', question))}}}\n"
        for number, question in enumerate(questions)
    )
    (tmp_path / "asked.yml").write_text(f"groups:\n  - name: asked\n    rules:\n{rows}")
    assert f"{len(questions)} rules found" in promtool("check", "rules", str(tmp_path / "asked.yml"))
