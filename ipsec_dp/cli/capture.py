"""`capture`: packets of a running gateway into a pcapng file, which this process makes and nobody else."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import stat
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from ipsec_dp.cli.asking import find_control
from ipsec_dp.cli.completion import tunnel_names
from ipsec_dp.cli.options import DurationType, control_option, examples, heed_interrupts, json_option, loading, say, show_json
from ipsec_dp.config.quantities import parse_size
from ipsec_dp.errors import BadValueError, ControlError, IpsecDpError
from ipsec_dp.gateway.messages import CaptureRequest
from ipsec_dp.util import os_errors, pcapng

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from types import FrameType

READ_OCTETS: Final = 1 << 18
LAST_S: Final = 6.0  # for which what was captured before the end is waited for
MODE: Final = 0o600
STDOUT: Final = "-"
STATISTICS_ROOM: Final = 4096  # octets below --size that are kept for how the file ends


class SizeType(click.ParamType[int]):
    """ "100MB", "1GiB"."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            octets = parse_size(value)
        except BadValueError as error:
            self.fail(str(error), param, ctx)
        if octets < 2 * STATISTICS_ROOM:
            self.fail(f"{value} is less than a capture needs; write 10kB or more", param, ctx)
        return octets


@click.command(
    epilog=examples(
        "ipsec-dp capture all.pcapng                          all, until Ctrl-C",
        "ipsec-dp capture to-b.pcapng --tunnel to-b --inner   what a tunnel carries",
        "ipsec-dp capture short.pcapng --seconds 10s --snaplen 96",
        "ipsec-dp capture - | wireshark -k -i -               while it happens",
    )
)
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--inner", is_flag=True, help="Packets as tunnels carry them. Neither this nor --outer: both.")
@click.option("--outer", is_flag=True, help="Datagrams between the gateways: ESP and IKE.")
@click.option("--tunnel", "name", metavar="NAME", shell_complete=tunnel_names, help="Of this tunnel alone.")
@click.option("--seconds", type=DurationType(), metavar="TIME", help='So long, e.g. "30s"; else until Ctrl-C.')
@click.option("--packets", type=click.IntRange(1), metavar="N", help="So many packets.")
@click.option("--size", type=SizeType(), default="1GB", show_default=True, metavar="SIZE", help="Octets of the file at most.")
@click.option("--snaplen", type=click.IntRange(0, 65535), default=0, metavar="N", help="Octets kept of each packet; 0: all.")
@control_option
@json_option
def capture(
    file: Path,
    inner: bool,
    outer: bool,
    name: str | None,
    seconds: int | None,
    packets: int | None,
    size: int,
    snaplen: int,
    control: Path | None,
    as_json: bool,
) -> int:
    """Write a running gateway's packets to a file, for Wireshark.

    The file is pcapng. Inner packets have the interface that they come out of or go into, outer datagrams the interface
    "outer". A packet that was dropped has the reason for its comment. The file is new, and its owner's alone (0600); "-" is
    standard output. Keys are never in it: keylog_file in [gateway] writes them, if they must be read elsewhere.
    """
    request = CaptureRequest(inner=inner or not outer, outer=outer or not inner, name=name, snap=snaplen)
    path = find_control() if control is None else control
    with loading():
        from ipsec_dp.gateway.control import stream
    message = {key: value for key, value in msgspec.to_builtins(request).items() if value is not None}
    with _stopped() as stop, stream(path, message) as (answer, connection, first), _made(file) as descriptor:
        what = " and ".join([*["inner packets"] * request.inner, *["outer datagrams"] * request.outer])
        of = "" if name is None else f' of tunnel "{name}"'
        say(f"capturing {what}{of} of gateway {answer.get('gateway', '?')} into {file}; Ctrl-C ends it", err=True)
        kept = Kept(descriptor, os.fstat(descriptor), size, packets)
        failure = _record(connection, first, kept, stop, seconds)
    say(kept.summary(file), err=True)
    if as_json:
        show_json({"file": str(file), **kept.counts})
    if failure is not None:
        raise ControlError(failure)
    return 0


@contextlib.contextmanager
def _stopped() -> Iterator[int]:
    """A descriptor that can be read when this process is to end: no interrupt falls between two halves of a block."""
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def told(_number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(writing, b"x")

    before = signal.signal(signal.SIGTERM, told)
    heed_interrupts(told)
    try:
        yield reading
    finally:
        heed_interrupts()
        signal.signal(signal.SIGTERM, before)
        os.close(reading)
        os.close(writing)


@contextlib.contextmanager
def _made(file: Path) -> Iterator[int]:
    """The file, new and nobody else's, in the place of one that was there. Raises IpsecDpError."""
    if str(file) == STDOUT:
        yield sys.stdout.fileno()
        return
    new = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        if os.path.lexists(file) and not _replaceable(file):
            raise IpsecDpError(f"{file} is no file that can be replaced; name another one")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
        try:
            os.rename(new, file)
        except OSError:
            os.unlink(new)
            os.close(descriptor)
            raise
    except OSError as error:
        raise IpsecDpError(f"{file} cannot be written: {os_errors.text_of(error)}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _replaceable(file: Path) -> bool:
    mode = file.lstat().st_mode
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)


@dataclass(slots=True)
class Kept:
    """What is in the file, which has at most `size` octets and `most` packets."""

    descriptor: int
    about: os.stat_result
    size: int
    most: int | None = None
    octets: int = 0
    packets: int = 0
    dropped: int = 0
    missed: int = 0
    blocks: pcapng.Blocks = field(default_factory=pcapng.Blocks)

    def put(self, octets: bytes) -> bool:
        """What came; False: there is enough. Raises OSError, and the file ends with a whole block even so; PcapngError."""
        whole = bytearray()
        enough = False
        for block in self.blocks.feed(octets):
            if block.kind == pcapng.STATISTICS:
                self.missed += block.missed
            elif block.kind == pcapng.PACKET:
                enough = enough or self._full(len(whole) + len(block.octets))
                if enough:
                    continue
                self.packets += 1
                self.dropped += block.commented
            whole += block.octets
        self._write(whole)
        return not (enough or self._full(0))

    def _full(self, more: int) -> bool:
        return self.packets == self.most or self.octets + more > self.size - STATISTICS_ROOM

    def _write(self, octets: bytes | bytearray) -> None:
        left = memoryview(octets)
        try:
            while left:
                left = left[os.write(self.descriptor, left) :]
        except OSError:
            if stat.S_ISREG(self.about.st_mode):
                with contextlib.suppress(OSError):
                    os.ftruncate(self.descriptor, self.octets)
            raise
        self.octets += len(octets)

    @property
    def counts(self) -> dict[str, int]:
        return {"packets": self.packets, "dropped": self.dropped, "missed": self.missed, "octets": self.octets}

    def summary(self, file: Path) -> str:
        text = f"{self.packets} packet{'' if self.packets == 1 else 's'} in {file}"
        if self.dropped:
            text += f", {self.dropped} of them dropped (their comments say why)"
        if self.missed:
            text += f"; {self.missed} more came too fast to be captured: --tunnel, --inner, --outer or --snaplen make it less"
        return text


def _record(connection: socket.socket, first: bytes, kept: Kept, stop: int, seconds: int | None) -> str | None:
    """Until there is enough; what went wrong, if anything did. What the gateway has captured before the end is written too."""
    end = None if seconds is None else time.monotonic() + seconds
    try:
        more = kept.put(first)
        while more:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                break
            ready = select.select([connection.fileno(), stop], [], [], left)[0]
            if stop in ready or not ready:
                break
            octets = connection.recv(READ_OCTETS)
            if not octets:
                return "the gateway has stopped"
            more = kept.put(octets)
        connection.shutdown(1)
        connection.settimeout(LAST_S)
        while octets := connection.recv(READ_OCTETS):
            kept.put(octets)
    except OSError as error:
        return f"the capture ends here: {os_errors.text_of(error)}"
    except pcapng.PcapngError as error:
        return f"what the gateway sent is no capture: {error}"
    return None
