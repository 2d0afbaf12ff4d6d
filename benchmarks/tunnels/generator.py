"""Loss-free UDP rates with benchmarks/gen.c: compiling it, one step at one rate, the search."""

from __future__ import annotations

import json
import os
import secrets
import select
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipsec_dp.bench.search import Attempt, loss_free_rate
from ipsec_dp.bench.traffic import DRAIN_S, LOSS, SEGMENTS, Traffic, cold_guess
from ipsec_dp.rig import netns

if TYPE_CHECKING:
    from ipsec_dp.rig.netns import TwoSites

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "benchmarks" / "gen.c"
PROGRAM = ROOT / "build" / "bench-gen"
PORT = 5001
QUIET_TRIES = 30
START_SECONDS = 5.0


class GeneratorError(Exception):
    """The generator could not be compiled or failed; the text holds its message."""


def build() -> None:
    """Compiles gen.c when it is newer than the program. GeneratorError with the compiler's message.

    Two that do so at once leave one whole program.
    """
    if PROGRAM.exists() and PROGRAM.stat().st_mtime >= SOURCE.stat().st_mtime:
        return
    PROGRAM.parent.mkdir(exist_ok=True)
    flags = (ROOT / "native" / "cflags").read_text().split()
    made = PROGRAM.with_name(f"{PROGRAM.name}-{os.getpid()}")
    done = subprocess.run(["cc", *flags, "-O2", "-o", made, SOURCE], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise GeneratorError(f"{SOURCE.name}: {done.stderr.strip()}")
    made.replace(PROGRAM)


def _result(process: subprocess.Popen[bytes], seconds: float) -> dict[str, Any]:
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired as late:
        process.kill()
        process.communicate()
        raise GeneratorError("the generator did not end") from late
    if process.returncode != 0:
        raise GeneratorError(err.decode(errors="replace").strip())
    answer: dict[str, Any] = json.loads(out)
    return answer


def _receiver(sites: TwoSites, packets: int, allowed: int, run: str) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    command = (str(PROGRAM), "receive", str(PORT), str(packets), str(allowed), run)
    receiver = sites.host_b.spawn(*command, stdout=pipe, stderr=pipe)
    output = receiver.stdout
    if output is None or not select.select([output], [], [], START_SECONDS)[0] or output.readline() != b"ready\n":
        receiver.kill()
        raise GeneratorError(receiver.communicate()[1].decode(errors="replace").strip())
    return receiver


def sender(sites: TwoSites, traffic: Traffic, rate: float, seconds: float, run: str) -> subprocess.Popen[bytes]:
    """Starts sending `rate` packets a second (0: as many as possible) from host A to host B."""
    pipe = subprocess.PIPE
    load = (traffic.octets, str(int(rate)), f"{seconds:g}", str(traffic.segments), run)
    return sites.host_a.spawn(str(PROGRAM), "send", netns.HOST_B[0], str(PORT), *load, stdout=pipe, stderr=pipe)


def step(sites: TwoSites, traffic: Traffic, rate: float, seconds: float) -> Attempt:
    """Sends at a rate for so long; a rate that fails early is not sent to its end."""
    planned = int(rate * seconds)
    tolerated = int(planned * LOSS)
    run = str(secrets.randbits(63))  # what an earlier step left in a queue is told apart by it
    # Packets that are only late may look missing for a moment: the receiver gives up at twice the bound.
    receiver = _receiver(sites, planned * 2 + SEGMENTS, 2 * tolerated + SEGMENTS, run)
    sending = sender(sites, traffic, rate, seconds, run)
    while sending.poll() is None and receiver.poll() is None:
        time.sleep(0.01)
    if sending.poll() is None:
        sending.terminate()
        sending.communicate()
        _result(receiver, START_SECONDS)
        return Attempt(rate, loss_free=False)
    sent = _result(sending, START_SECONDS)
    time.sleep(DRAIN_S)
    receiver.terminate()
    received = _result(receiver, START_SECONDS)["received"]
    lost = sent["sent"] - received
    return Attempt(sent["sent"] / sent["seconds"], loss_free=sent["sent"] > 0 and lost <= sent["sent"] * LOSS)


def wait_until_quiet(sites: TwoSites) -> None:
    """Waits until an echo comes back: queues keep the order, so nothing of an overload is left before it."""
    ping = ("ping", "-n", "-q", "-c", "1", "-W", "1", netns.HOST_B[0])
    for _ in range(QUIET_TRIES):
        if sites.host_a.run(*ping, check=False).returncode == 0:
            return
    raise GeneratorError("the path has not recovered from an overload")


def search(sites: TwoSites, traffic: Traffic, seconds: float, earlier: float | None) -> float:
    """The loss-free rate in packets a second; `earlier` is what an earlier round found."""

    def attempt(rate: float) -> Attempt:
        tried = step(sites, traffic, rate, seconds)
        if not tried.loss_free:
            wait_until_quiet(sites)
        return tried

    return loss_free_rate(attempt, earlier or cold_guess(traffic), warm=bool(earlier))
