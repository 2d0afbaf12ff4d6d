"""`ipsec-dp capture` of a live gateway, and Debian's tshark that reads IKE, ESP and what is inside by the gateway's key log.

hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys

from ipsec_dp.dataplane import Direction, SaParams
from ipsec_dp.dataplane.tap import OUTER_KEY, Tap
from ipsec_dp.keying.wireshark import esp_sa_line
from ipsec_dp.rig import netns
from ipsec_dp.rig.packets import udp
from ipsec_dp.rig.peers import find, is_unpacked
from ipsec_dp.rig.plane import keymat
from ipsec_dp.rig.plane import pair as rig_pair
from ipsec_dp.rig.process import GatewayPair, IkePair
from ipsec_dp.util import pcapng

KEYS = "keys"  # below the directory of the configuration
COMMAND = (sys.executable, "-m", "ipsec_dp", "capture")
PORT = 40001  # of nothing that tshark knows


def tshark(config, file, *options):
    """What it prints; `config`: the directory of its tables."""
    program = find("tshark", "tshark")
    libraries = {"LD_LIBRARY_PATH": f"{program.removesuffix('/bin/tshark')}/lib/x86_64-linux-gnu"} if is_unpacked(program) else {}
    environment = {**os.environ, **libraries, "WIRESHARK_CONFIG_DIR": str(config)}
    argv = (
        program,
        "-r",
        str(file),
        "-o",
        "esp.enable_encryption_decode:TRUE",
        "-o",
        "esp.enable_authentication_check:TRUE",
        *options,
    )
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fields(config, file, display, *names):
    """The fields of each packet that `display` selects."""
    named = [word for name in names for word in ("-e", name)]
    return [line.split("\t") for line in tshark(config, file, "-Y", display, "-T", "fields", *named).splitlines()]


def logging_keys(pair):
    """The first gateway of a pair writes them down; where."""
    file = pair.a.config
    file.write_text(file.read_text().replace("[gateway]\n", f'[gateway]\nkeylog_file = "{KEYS}"\n', 1))
    return file.parent / KEYS


def test_tshark_reads_what_a_capture_and_the_key_log_have(sites_opened_again, tmp_path):
    sites, file = sites_opened_again, tmp_path / "all.pcapng"
    pair = GatewayPair(sites, tmp_path, IkePair(start=("respond", "respond")))
    keys = logging_keys(pair)
    with pair:
        assert any("keylog_file" in warning for warning in pair.a.status()["warnings"])
        options = str(file), "--json", "--control", str(pair.a.control)
        command = sites.gw_a.spawn(*COMMAND, *options, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert "Ctrl-C" in command.stderr.readline().decode()
        (tunnel,) = pair.a.status()["tunnels"]
        pair.a.ask("initiate", name=tunnel["name"])
        pair.a.wait_negotiated()
        sites.host_a.run(
            "ping", "-n", "-c", "3", "-i", "0.01", "-W", "5", netns.HOST_B[0]
        )  # no fourth one, however late answers are
        command.send_signal(signal.SIGINT)
        out, err = command.communicate(timeout=10)
    assert command.returncode == 0, err
    counts = json.loads(out)
    assert f"{counts['packets']} packets in {file}" in err.decode()
    assert counts["missed"] == 0
    assert {stat.S_IMODE(each.stat().st_mode) for each in (file, *keys.iterdir())} == {0o600}
    rows = fields(keys, file, "icmp || isakmp", "frame.interface_name", "esp.spi", "icmp.seq", "isakmp.auth.method")
    inner = {seq for interface, spi, seq, _ in rows if interface != "outer" and not spi and seq}
    inside = {seq for interface, spi, seq, _ in rows if interface == "outer" and spi and seq}
    assert inside == inner == {"1", "2", "3"}
    assert [method for interface, _, _, method in rows if method] == ["2", "2"]  # both IKE_AUTH: shared key message integrity code
    # Without the keys neither shows.
    assert fields(tmp_path, file, "(esp && icmp) || isakmp.auth.method", "frame.number") == []


SUITES = ("aes128gcm16", "aes256gcm16-esn", "aes128-sha1", "aes192-sha256-esn", "aes256-sha256", "aes128-sha384", "aes256-sha512")


def outbound(site, spi):
    """An SA by which the first gateway of a rig sends, under keys that its suite decides."""
    key, path = keymat(site.suite, str(site.suite)), site.a.path_to(site.b.endpoint)
    return SaParams(direction=Direction.OUTBOUND, spi=spi, suite=site.suite, keymat=key, tunnel=0, path=path)


def test_tshark_reads_every_suite_that_it_has_a_name_for(tmp_path):
    """In memory: no gateway runs."""
    file, lines = tmp_path / "suites.pcapng", []
    octets = pcapng.section("test") + pcapng.interface("outer", "all suites")
    for number, suite in enumerate(SUITES):
        with rig_pair(suite) as site:
            params = outbound(site, 0x1000 + number)
            lines.append(esp_sa_line(params))
            site.a.sad.switch(site.children["a"], site.a.sad.install(params))
            tap = Tap(site.a.plane, inner=False, outer=True)
            tap.name(OUTER_KEY, 0)
            site.a.push(udp("10.1.0.1", "10.2.0.1", suite.encode(), ports=(40000, PORT)))
            site.a.step()
            octets += tap.read()[0]
    file.write_bytes(octets)
    (tmp_path / "esp_sa").write_text("".join(f"{line}\n" for line in lines))
    rows = fields(tmp_path, file, f"udp.dstport == {PORT}", "esp.spi", "data.data", "esp.icv_bad")
    assert [bytes.fromhex(data).decode() for _, data, _ in rows] == list(SUITES)
    wrong = [suite for suite, (*_, bad) in zip(SUITES, rows, strict=True) if bad == "1"]
    assert wrong == ["aes256gcm16-esn"]  # with an AEAD it cannot know the upper half of a sequence number that the ICV covers
