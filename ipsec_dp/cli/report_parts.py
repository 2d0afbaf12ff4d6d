"""What a report about a fault is made of: each part says what it found, or why it is missing, within a time and a size."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ipsec_dp.cli.checks import Host
from ipsec_dp.cli.report_secrets import Document, forms_of, struck
from ipsec_dp.errors import Finding, IpsecDpError
from ipsec_dp.util.faults import explained
from ipsec_dp.util.text import shown_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

PART_S: Final = 20.0
PART_OCTETS: Final = 8 << 20
CONFIG_OCTETS: Final = 64 << 20
# Of what the gateway answers to `status`, what goes into files of their own.
COUNTERS: Final = ("drops", "traffic", "workers", "punts", "ike_counters", "guard", "restored", "keys", "zones")
EXAMPLES: Final = ("drop_examples", "drop_sentences")
# What the kernel says, each file as it is; nothing here names a peer, and none may hold a secret (a command line may).
KERNEL: Final = (
    "proc/version",
    "etc/os-release",
    "etc/debian_version",
    "proc/sys/kernel/osrelease",
    "proc/sys/net/ipv4/ip_forward",
    "proc/sys/net/ipv4/conf/all/rp_filter",
    "proc/sys/net/ipv4/conf/default/rp_filter",
    "proc/sys/net/ipv6/conf/all/disable_ipv6",
    "proc/sys/net/ipv6/conf/all/forwarding",
    "proc/sys/net/core/rmem_max",
    "proc/sys/net/core/wmem_max",
    "proc/sys/net/core/bpf_jit_enable",
    "proc/sys/kernel/unprivileged_bpf_disabled",
    "proc/sys/vm/overcommit_memory",
    "proc/modules",
    "proc/meminfo",
    "proc/loadavg",
    "proc/pressure/cpu",
    "proc/net/dev",
    "proc/net/snmp",
    "proc/net/snmp6",
    "proc/net/softnet_stat",
    "proc/self/limits",
    "sys/class/dmi/id/sys_vendor",
    "sys/class/dmi/id/product_name",
)
KERNEL_OCTETS: Final = 64 << 10  # of each of them


@dataclass(frozen=True, slots=True)
class Part:
    """A member of the archive, or why there is none. `cut`: how long the whole of it was."""

    name: str
    about: str
    data: bytes = b""
    missing: str | None = None
    cut: int | None = None


def part(name: str, about: str, make: Callable[[], object], seconds: float = PART_S) -> Part:
    """What `make` returns, as JSON (octets as they are), or why it did not, or not in time."""
    found: list[object] = []
    wrong: list[str] = []

    def run() -> None:
        try:
            with explained(name):
                found.append(make())
        except IpsecDpError as error:
            wrong.append(str(error))

    thread = threading.Thread(target=run, daemon=True, name=name)
    thread.start()
    thread.join(seconds)
    if wrong:
        return Part(name, about, missing=wrong[0])
    if not found:
        return Part(name, about, missing=f"it took longer than {seconds:g} s")
    made = found[0]
    data = made if isinstance(made, bytes) else json.dumps(shown_all(made), indent=1).encode() + b"\n"
    return Part(name, about, data)


def finished(made: Part, forms: Iterable[bytes]) -> Part:
    """The same without any secret in it, and within the size."""
    data, whole = struck(made.data[: PART_OCTETS * 2], forms), len(made.data)
    missing = None if made.missing is None else struck(made.missing.encode(), forms).decode(errors="replace")
    cut = whole if len(data) > PART_OCTETS or whole > 2 * PART_OCTETS else None
    return Part(made.name, made.about, data[:PART_OCTETS], missing, cut)


# ---- the configuration -----------------------------------------------------------------------------------------------------------


class Configurations:
    """Those of these files, without secrets; `forms` of all secrets that they hold or name."""

    def __init__(self, files: Iterable[Path]) -> None:
        self.forms: set[bytes] = set()
        self.told = {str(file): self._of(file) for file in dict.fromkeys(files)}

    def _of(self, file: Path) -> dict[str, Any]:
        import tomllib

        from ipsec_dp.config import examine

        try:
            with file.open("rb") as opened:
                text = opened.read(CONFIG_OCTETS).decode("utf-8-sig")
        except (OSError, ValueError) as error:
            return {"missing": f"cannot be read: {error.strerror if isinstance(error, OSError) else 'no UTF-8'}"}
        told: dict[str, Any] = {"octets": len(text)}
        try:
            document = Document(tomllib.loads(text), file.parent)
        except (ValueError, RecursionError):
            told["missing"] = "no TOML, so that nobody can say what in it is a secret"
        else:
            told["tables"] = document.told
            for secret in document.secrets:
                self.forms |= forms_of(secret)
        _, findings = examine(file)
        told["findings"] = [{name: getattr(finding, name) for name in Finding.__slots__} for finding in findings]
        return told


# ---- this host -------------------------------------------------------------------------------------------------------------------


def doctor() -> dict[str, Any]:
    from ipsec_dp.cli.doctor import checks

    return {"schema": 1, "findings": [asdict(finding) for finding in checks()]}


def kernel(host: Host | None = None) -> dict[str, Any]:
    """What the kernel says of itself, its offloads, and the libraries that are used."""
    from ipsec_dp.host import HostError, probe

    host = Host() if host is None else host

    def asked(function: Callable[[], dict[str, bool]]) -> dict[str, bool] | str:
        try:
            return function()
        except (HostError, OSError) as error:
            return str(error)

    flags = next((line for line in host.read("proc/cpuinfo").splitlines() if line.startswith(("flags", "Features"))), "")
    model = next((line for line in host.read("proc/cpuinfo").splitlines() if line.startswith("model name")), "")
    return {
        "uname": dict(zip(("system", "release", "version", "machine"), _uname(), strict=True)),
        "tun_offloads": asked(probe.tun_offloads),
        "udp_offloads": asked(probe.udp_offloads),
        "processor": model.partition(":")[2].strip(),
        "flags": flags.partition(":")[2].split(),
        "files": {f"/{name}": text[:KERNEL_OCTETS].splitlines() for name in KERNEL if (text := host.read(name))},
        "libraries": {name: _version(name) for name in _required()},
    }


def _uname() -> tuple[str, str, str, str]:
    name = platform.uname()
    return name.system, name.release, name.version, name.machine


def _required() -> list[str]:
    """The names of the libraries that the package requires."""
    try:
        rows = importlib.metadata.requires("ipsec-dp") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    names = (row.partition(";") for row in rows)
    return sorted({_name(head) for head, _, marker in names if "extra" not in marker})


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


# ---- the gateway -----------------------------------------------------------------------------------------------------------------


def of_status(answer: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    return {key: answer[key] for key in keys if key in answer}


def rest_of_status(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key not in (*COUNTERS, *EXAMPLES)}


def lines(rows: Iterable[object]) -> bytes:
    return b"".join(json.dumps(shown_all(row)).encode() + b"\n" for row in rows)
