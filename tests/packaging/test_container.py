"""The Containerfile and its examples: what they ask of a runtime, and that the image comes to something. No runtime is here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
import yaml

from ipsec_dp.cli.commands import program
from ipsec_dp.rig import netns
from ipsec_dp.rig.process import GatewayPair, ManualPair
from tests.netns.harness import BOTH
from tests.netns.test_container import CAPABILITIES, READ_ONLY, gateway_in
from tests.netns.traffic import ping
from tests.packaging import containerfile
from tests.packaging.debian import ROOT
from tests.packaging.fresh_root import OUTSIDE

EXAMPLES = ROOT / "conf" / "container"
FILE = containerfile.FILE.read_text()
# What the runtimes give each container, in so far as becoming another user and IKE need it.
OF_THE_DEFAULT = {"NET_RAW", "NET_BIND_SERVICE", "SETUID", "SETGID", "SETPCAP", "CHOWN", "DAC_OVERRIDE"}
NEEDED = {"NET_ADMIN", "NET_RAW", "NET_BIND_SERVICE"}


def words(name):
    return [rest for word, rest in containerfile.instructions(FILE) if word == name]


def test_it_is_made_of_the_wheel_in_a_stage_that_is_left_behind():
    assert [rest.partition(" AS ")[2] for rest in words("FROM")] == ["build", ""]
    assert "pip wheel" in " ".join(words("RUN"))
    last = FILE[FILE.rindex("\nFROM ") :]
    installed = re.findall(r"apt-get install -y --no-install-recommends (.*?) &&", last.replace("\\\n", ""), re.DOTALL)
    assert not [name for name in installed[0].split() if name.endswith("-dev") or name in ("gcc", "git", "python3-venv")]
    assert "nftables" in installed[0].split()


def test_what_it_starts_are_verbs_that_there_are():
    (entry,), (command,) = map(json.loads, words("ENTRYPOINT")), map(json.loads, words("CMD"))
    assert entry == ["ipsec-dp"]
    assert command == ["up", "/etc/ipsec-dp/gateway.toml"]
    assert command[0] in program.commands
    (check,) = words("HEALTHCHECK")
    assert json.loads(check.partition("CMD ")[2]) == ["ipsec-dp", "status", "--json"]


def test_secrets_and_what_was_built_here_stay_out_of_the_image():
    ignored = (ROOT / ".containerignore").read_text().split()
    assert {".git", ".venv", "build", "dist", "**/*.so"} <= set(ignored)


def test_its_first_lines_say_how_it_is_run():
    (line,) = re.findall(r"^#   podman run (.*)$", FILE, re.MULTILINE)
    assert re.findall(r"--(?:cap-add|device|privileged|security-opt|sysctl|network)\S* ?\S*", line) == [
        "--cap-add NET_ADMIN",
        "--device /dev/net/tun",
    ]


def test_compose_gives_the_gateway_one_capability_and_one_device():
    services = yaml.safe_load((EXAMPLES / "compose.yaml").read_text())["services"]
    gateway, application = services["gateway"], services["application"]
    assert (gateway["cap_add"], gateway["devices"]) == (["NET_ADMIN"], ["/dev/net/tun"])
    assert not {"privileged", "network_mode", "pid"} & gateway.keys()
    assert gateway["read_only"]
    assert "./config:/etc/ipsec-dp:ro" in gateway["volumes"]
    assert {"500:500/udp", "4500:4500/udp"} == set(gateway["ports"])
    assert all(name.startswith("net.") for name in gateway["sysctls"]), "others are not of the container's own namespace"
    assert application["network_mode"] == "service:gateway"
    assert application["depends_on"]["gateway"]["condition"] == "service_healthy"
    assert gateway["healthcheck"]["test"].split() == json.loads(words("HEALTHCHECK")[0].partition("CMD ")[2])
    assert (EXAMPLES / gateway["build"]["context"] / gateway["build"]["dockerfile"]).resolve() == containerfile.FILE


def test_the_sidecar_is_there_before_and_after_the_application_and_may_no_more_than_it_needs():
    pod = yaml.safe_load((EXAMPLES / "kubernetes-sidecar.yaml").read_text())
    (gateway,) = pod["spec"]["initContainers"]
    assert gateway["restartPolicy"] == "Always", "an init container that goes on is a sidecar"
    allowed = gateway["securityContext"]
    assert allowed["capabilities"]["drop"] == ["ALL"]
    assert NEEDED <= set(allowed["capabilities"]["add"]) <= NEEDED | OF_THE_DEFAULT
    assert (allowed["allowPrivilegeEscalation"], allowed["readOnlyRootFilesystem"], "privileged" in allowed) == (False, True, False)
    assert not {"hostNetwork", "hostPID"} & pod["spec"].keys()
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert {mount["name"] for mount in gateway["volumeMounts"]} <= volumes.keys()
    assert volumes["tun"]["hostPath"] == {"path": "/dev/net/tun", "type": "CharDevice"}
    assert [volume for volume in volumes.values() if "hostPath" in volume] == [volumes["tun"]]
    assert volumes["config"]["secret"]["defaultMode"] == 0o400, "`check` refuses secrets that others may read"


def refused(tools, program, text):
    """What a check by the schema finds amiss in an example."""
    command = (sys.executable, "-c", program)
    environment = os.environ | {"PYTHONPATH": str(tools)}
    done = subprocess.run(command, input=text, env=environment, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


COMPOSE = """
import check_jsonschema
check_jsonschema.main(["--builtin-schema", "vendor.compose-spec", "--default-filetype", "yaml", "-"])
"""
KUBERNETES = """
import kubernetes_validate, sys, yaml
pod = yaml.safe_load(sys.stdin)
for version in ("1.29", "1.37"):
    kubernetes_validate.validate(pod, version, strict=True)
"""


@pytest.mark.slow
@pytest.mark.root
def test_the_examples_follow_the_schemas_of_compose_and_kubernetes(tmp_path):
    """Which two packages bring that nothing else here needs."""
    packages = ("check-jsonschema>=0.39,<0.40", "kubernetes-validate>=1.37,<2")
    subprocess.run([*OUTSIDE, sys.executable, "-m", "pip", "install", "-q", "--target", tmp_path, *packages], check=True)
    for check, name, key in ((COMPOSE, "compose.yaml", "cap_add"), (KUBERNETES, "kubernetes-sidecar.yaml", "restartPolicy")):
        text = (EXAMPLES / name).read_text()
        assert refused(tmp_path, check, text) == ""
        assert "capadd" in refused(tmp_path, check, text.replace(key, "capadd"))


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.timeout(1800)
def test_its_steps_make_an_image_whose_gateway_carries_traffic(debian, tmp_path):
    """On a Debian from the archive; then as a container runs it, beside a gateway of this tree.

    hostA -- lan gwA wan == wan gwB lan -- hostB      gwA is the image's program, below its directory
    """
    debian.give_packages()
    image = containerfile.carry_out(debian, tmp_path)
    root = image.root.path
    assert "ipsec-dp" in (root / "etc/passwd").read_text()
    assert not list(root.glob("opt/ipsec-dp/lib/python3*/site-packages/pip"))
    assert not (root / "usr/bin/gcc").exists()
    assert image.root.run(*image.entrypoint, "version", variables=image.variables).startswith("ipsec-dp ")

    files = tmp_path / "files"
    files.mkdir()
    mounts = (
        f"mount --bind {root} {root}; mount -t proc proc {root}/proc; mount --rbind /dev {root}/dev; "
        f"mount -t tmpfs tmpfs {root}/run; "
        f"mkdir -p {root}{files}; mount --bind {files} {root}{files}; mount -o remount,bind,ro {root}; "
    )
    inside = READ_ONLY.replace("/proc/sys", f"{root}/proc/sys")
    script = f'set -e; {mounts}{inside}exec setpriv --bounding-set {CAPABILITIES} --inh-caps -all chroot {root} "$@"'
    with netns.Lab() as lab:
        sites = netns.two_sites(lab)
        pair = GatewayPair(sites, files, ManualPair())
        variables = [f"{name}={value}" for name, value in image.variables.items()]
        isolated = ("unshare", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child", "sh", "-c", script, "sh")
        pair.a.program = (*isolated, "env", *variables, *image.entrypoint)
        try:
            pair.start()
            for _, address in BOTH:
                ping(sites.host_a, address)
            (user,) = re.findall(r"^ipsec-dp:[^:]*:(\d+:\d+):", (root / "etc/passwd").read_text(), re.MULTILINE)
            rows = gateway_in(pair.a)
            assert f"{rows['Uid'][1]}:{rows['Gid'][1]}" == user
            assert pair.a.down() == 0
        finally:
            pair.a.kill()
            pair.b.kill()
