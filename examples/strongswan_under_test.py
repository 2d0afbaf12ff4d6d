"""The conformance kit against a strongSwan, both in network namespaces that end with this program. Needs root.

    sudo python examples/strongswan_under_test.py

Exchange the daemon and its configuration for the one that you test; over the network the kit is
`python -m ipsec_dp.rig.conformance HOST --psk-file FILE`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from ipsec_dp.rig.netns import GW_A_OUTER, GW_B_OUTER, Lab, two_sites
from ipsec_dp.rig.peers.strongswan import StrongSwan

SECRET = "a secret of thirty-two characters"  # noqa: S105
PROPOSAL = "aes128gcm16-prfsha256-ecp256"
SWANCTL = f"""
connections {{ gw {{
 version = 2
 local_addrs = {GW_B_OUTER[0]}
 remote_addrs = {GW_A_OUTER[0]}
 encap = yes
 proposals = {PROPOSAL}
 local {{
  id = gw.example
  auth = psk
 }}
 remote {{
  id = kit.example
  auth = psk
 }}
 children {{ net {{
  local_ts = 10.2.0.0/24
  remote_ts = 10.1.0.0/24
  esp_proposals = aes128gcm16
 }} }}
}} }}
secrets {{ ike-kit {{ secret = "{SECRET}" }} }}
"""
CASES = ("init-*", "auth-is-*", "child-rekey*", "delete-*")


def main() -> None:
    with Lab() as lab, tempfile.TemporaryDirectory() as directory:
        here, sites = Path(directory), two_sites(lab)
        psk = here / "kit.psk"
        psk.touch(mode=0o600)
        psk.write_text(SECRET)
        with StrongSwan(sites.gw_b, here / "strongswan", SWANCTL):
            kit = (sys.executable, "-m", "ipsec_dp.rig.conformance", GW_B_OUTER[0], "--psk-file", str(psk), "--id", "kit.example")
            wanted = [word for case in CASES for word in ("--case", case)]
            more = ("--peer-id", "gw.example", "--proposal", PROPOSAL, "--rate", "20", "--format", "json", *wanted)
            done = sites.gw_a.run(*kit, *more, check=False, timeout=60)
    if done.returncode not in (0, 1):
        raise SystemExit(done.stderr)
    for case in json.loads(done.stdout)["cases"]:
        instead = f" ({case['text']})" if case["text"] else ""
        print(f"{case['outcome']:14} {case['section']:18} {case['case']}{instead}")


if __name__ == "__main__":
    main()
