"""The conformance kit over the network: our own gateway passes every case, and what strongSwan does otherwise is in the documents.

gwA (the kit) == gwB (the gateway under test) -- hostB, which answers echo requests
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from ipsec_dp.rig import netns
from ipsec_dp.rig.conformance.table import CALLS
from ipsec_dp.rig.peers.strongswan import StrongSwan
from ipsec_dp.rig.process import GatewayProcess

pytestmark = pytest.mark.root

DOCUMENT = Path(__file__).parents[2] / "docs/conformance.md"
SECRET = "a secret of thirty-two characters"
IDENTITIES = ("conformance.example", "gwB.example")
SUITE, ESP_SUITE = "aes128gcm16-prfsha256-ecp256", "aes128gcm16"
SECONDS = 60


def conformance(sites, directory, *more):
    """The report of a run, as JSON."""
    psk = directory / "kit.psk"
    psk.touch(mode=0o600)
    psk.write_text(SECRET)
    report = directory / "report.json"
    done = sites.gw_a.run(
        *(sys.executable, "-m", "ipsec_dp.rig.conformance", netns.GW_B_OUTER[0], "--psk-file", str(psk), "--format", "json"),
        *("--id", IDENTITIES[0], "--peer-id", IDENTITIES[1], "--proposal", SUITE, "--esp-proposal", ESP_SUITE),
        *("--local-ts", netns.SITE_A_NETS[0], "--remote-ts", netns.SITE_B_NETS[0], "--echo", netns.HOST_B[0]),
        *("--echo-from", netns.HOST_A[0], "--rate", "50", "--output", str(report), *more),
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(report.read_text())
    assert done.returncode == (1 if found["counts"]["failed"] else 0)
    assert SECRET not in report.read_text()
    return found


def of(report, outcome):
    return {case["case"]: case["text"] for case in report["cases"] if case["outcome"] == outcome}


def in_the_document(heading):
    """Names of cases in the first column of the table below a heading."""
    _, _, rest = DOCUMENT.read_text().partition(f"\n## {heading}\n")
    return set(re.findall(r"^\| `([\w-]+)` ", rest.partition("\n## ")[0], re.MULTILINE))


@pytest.fixture(scope="module")
def sites():
    with netns.Lab() as lab:
        yield netns.two_sites(lab)


@pytest.fixture
def ours(sites, tmp_path):
    psk = tmp_path / "tunnel.psk"
    psk.touch(mode=0o600)
    psk.write_text(SECRET)
    config = tmp_path / "gwB.toml"
    config.write_text(f"""\
[gateway]
name = "gwB"
[[tunnel]]
name = "to-kit"
local = "{netns.GW_B_OUTER[0]}"
remote = "{netns.GW_A_OUTER[0]}"
interface = "ipsec0"
start = "respond"
  [[tunnel.proxy_id]]
  local = "{netns.SITE_B_NETS[0]}"
  remote = "{netns.SITE_A_NETS[0]}"
  [tunnel.auth]
local_id = "{IDENTITIES[1]}"
remote_id = "{IDENTITIES[0]}"
psk_file = "tunnel.psk"
  [tunnel.ike]
proposals = ["{SUITE}"]
  [tunnel.esp]
proposals = ["{ESP_SUITE}-noesn"]
""")
    gateway = GatewayProcess(sites.gw_b, config)
    gateway.start()
    try:
        gateway.wait_up()
        yield gateway
    finally:
        gateway.terminate()


def test_our_gateway_fails_no_case(sites, ours, tmp_path):
    report = conformance(sites, tmp_path)
    assert of(report, "failed") == {}, ours.text()
    assert set(of(report, "not applicable")) == in_the_document("Not applicable to our gateway")


SWANCTL = f"""\
connections {{ gw {{
 version = 2
 local_addrs = {netns.GW_B_OUTER[0]}
 remote_addrs = {netns.GW_A_OUTER[0]}
 encap = yes
 proposals = {SUITE}
 local {{
  id = {IDENTITIES[1]}
  auth = psk
 }}
 remote {{
  id = {IDENTITIES[0]}
  auth = psk
 }}
 children {{ net {{
  local_ts = {netns.SITE_B_NETS[0]}
  remote_ts = {netns.SITE_A_NETS[0]}
  esp_proposals = {ESP_SUITE}
 }} }}
}} }}
secrets {{ ike-kit {{ secret = "{SECRET}" }} }}
"""


@pytest.fixture
def strongswan(sites, tmp_path):
    with StrongSwan(sites.gw_b, tmp_path / "strongswan", SWANCTL) as peer:
        yield peer


def test_what_strongswan_does_otherwise_is_in_the_documents(sites, strongswan, tmp_path):
    report = conformance(sites, tmp_path)
    failed, not_applicable = of(report, "failed"), of(report, "not applicable")
    assert set(failed) == in_the_document("What strongSwan 5.9.8 does otherwise"), failed
    assert set(not_applicable) == in_the_document("Not applicable to strongSwan 5.9.8"), not_applicable


def test_what_strongswan_does_otherwise_as_a_caller_is_in_the_documents(sites, strongswan, tmp_path):
    """swanctl asks charon to call: the socket is found by its path, whatever the namespace."""
    swanctl = f"{strongswan.directory}/bin/swanctl --initiate --child net --uri unix://{strongswan.socket}"
    report = conformance(
        sites, tmp_path, "--responder", "--wait", "10", "--call", shlex.join(strongswan.daemon.argv(*swanctl.split()))
    )
    assert len(report["cases"]) == len(CALLS)
    assert set(of(report, "failed")) == in_the_document("What strongSwan 5.9.8 does otherwise as a caller"), of(report, "failed")
