"""Which worker the kernel gives a packet to: programs for the outer sockets and the TUN queues of a gateway with several workers.

A datagram goes by its SPI: the slot that it names modulo the workers, the rule that `dp_spi_receiver` has. What is no ESP (IKE
behind its marker, keepalives) goes to worker 0. A packet into a TUN interface goes by its destination to the worker that owns the
tunnel there, else by a hash of its addresses: in any case packets of one flow come by one queue, which the kernel's own choice does
not keep to (it follows what was last written to a queue). Both are hints: a worker hands over what is not its own.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from ipaddress import IPv4Network, IPv6Network

    Network = IPv4Network | IPv6Network
    Program = Sequence["Instruction"]

# <asm-generic/socket.h>, <linux/if_tun.h>, <linux/bpf.h>, <asm/unistd.h>
SO_ATTACH_FILTER, SO_ATTACH_REUSEPORT_CBPF = 26, 51
TUNSETSTEERINGEBPF = 0x800454E0
BPF_PROG_LOAD, BPF_PROG_TYPE_SOCKET_FILTER = 5, 1
SYS_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}

RULES_MAX = 64  # prefixes that are compared for each packet; what lies behind them is hashed
WHOLE_PACKET = 0xFFFFFFFF
HASH = 0x9E3779B1  # odd, its bits spread (Knuth's multiplicative hash)


@dataclass(frozen=True, slots=True)
class Instruction:
    """One of classic BPF (struct sock_filter)."""

    code: int
    k: int = 0
    true: int = 0
    false: int = 0


# <linux/bpf_common.h>
def _load_word(at: int) -> Instruction:
    return Instruction(0x20, at)


def _and(mask: int) -> Instruction:
    return Instruction(0x54, mask)


def _modulo(by: int) -> Instruction:
    return Instruction(0x94, by)


def _return(value: int) -> Instruction:
    return Instruction(0x06, value)


_RETURN_A = Instruction(0x16)
_X_IS_IPV4_HEADER = Instruction(0xB1)  # its length, from the packet's first octet
_LOAD_WORD_AT_X = Instruction(0x40)


@dataclass(frozen=True, slots=True)
class Steering:
    """`workers` share what arrives; `slots` (a power of two): an SPI's slot is its remainder."""

    workers: int = 1
    slots: int = 256

    def receiver(self, spi: int) -> int:
        """The worker that gets datagrams with this SPI."""
        return spi % self.slots % self.workers

    def _receiver(self) -> list[Instruction]:
        return [_and(self.slots - 1), _modulo(self.workers)]

    def datagrams(self) -> Program:
        """For a group of UDP sockets: the number of the one that gets a datagram.

        The kernel shows it the payload; a load beyond its end (a keepalive is one octet) returns 0.
        """
        if self.workers == 1:
            return [_return(0)]
        return [_load_word(0), *self._receiver(), _RETURN_A]

    def packets(self, version: int, worker: int) -> Program:
        """For a worker's raw socket: whether it takes a packet, which an IPv4 socket is shown with its header."""
        load = [_X_IS_IPV4_HEADER, _LOAD_WORD_AT_X] if version == 4 else [_load_word(0)]
        mine = Instruction(0x15, worker, 0, 1)  # else skip one
        return [*load, *self._receiver(), mine, _return(WHOLE_PACKET), _return(0)]


ALONE = Steering()
REFUSE: tuple[Instruction, ...] = (_return(0),)


class RefusedError(OSError):
    """The kernel does not take a program."""


def attach(target: socket.socket, option: int, program: Program) -> None:
    """Sets SO_ATTACH_FILTER or SO_ATTACH_REUSEPORT_CBPF. Raises RefusedError."""
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", i.code, i.true, i.false, i.k) for i in program))
    try:
        target.setsockopt(socket.SOL_SOCKET, option, struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    except OSError as error:
        raise RefusedError(error.errno, os.strerror(error.errno or 0)) from error
    del code  # the kernel has its own copy now


# ---- TUN queues


def _extended(code: int, to: int = 0, by: int = 0, skip: int = 0, value: int = 0) -> bytes:
    """One instruction of extended BPF (struct bpf_insn); 32-bit operations where both widths would do."""
    return struct.pack("<BBhI", code, to | by << 4, skip, value & 0xFFFFFFFF)


_KEEP_PACKET = _extended(0xBF, 6, 1)  # r6 = r1, as loads from the packet want it
_EXIT = _extended(0x95)


def _load(at: int, *, octet: bool = False) -> bytes:
    return _extended(0x30 if octet else 0x20, value=at)  # into r0; beyond the end the program returns 0


def _queue(worker: int) -> bytes:
    return _extended(0xB7, value=worker) + _EXIT


def _rule(prefix: Network, worker: int) -> bytes:
    """Returns the worker if the destination lies in the prefix, word by word."""
    words = range(prefix.max_prefixlen // 32)
    address, mask = (int(each) for each in (prefix.network_address, prefix.netmask))
    first = 16 if prefix.version == 4 else 24
    compared = [(first + 4 * word, mask >> 32 * (len(words) - 1 - word) & 0xFFFFFFFF, word) for word in words]
    compared = [(at, bits, word) for at, bits, word in compared if bits]
    code, left = b"", _queue(worker)
    for at, bits, word in reversed(compared):
        wanted = address >> 32 * (len(words) - 1 - word) & 0xFFFFFFFF
        step = _load(at) + _extended(0x54, value=bits)
        left = step + _extended(0x56, skip=len(left) // 8, value=wanted) + left
    return code + left


def _hashed(first: int, words: int) -> bytes:
    """By all words of both addresses. The kernel takes the remainder by the queues."""
    code = _extended(0xB4, 7)  # r7 = 0
    for word in range(words):
        code += _load(first + 4 * word) + _extended(0x24, 7, value=HASH) + _extended(0x0C, 7, 0)
    return code + _extended(0xBC, 0, 7) + _extended(0x24, value=HASH) + _extended(0x74, value=16) + _EXIT


def _half(version: int, rules: Sequence[tuple[Network, int]], otherwise: bytes) -> bytes:
    """The rules of one IP version, up to one that holds everything: the kernel refuses code that nothing reaches."""
    code = b""
    for prefix, worker in [rule for rule in rules if rule[0].version == version][:RULES_MAX]:
        code += _rule(prefix, worker)
        if prefix.prefixlen == 0:
            return code
    return code + otherwise


def queue_program(destinations: Iterable[tuple[Network, int]]) -> bytes:
    """Extended BPF that gives each packet the queue of its worker: the first prefix that holds its destination decides."""
    rules = list(dict.fromkeys(destinations))
    owners = {worker for _, worker in rules}
    if len(owners) == 1:
        return _queue(owners.pop())
    ipv4, ipv6 = _half(4, rules, _hashed(12, 2)), _half(6, rules, _hashed(8, 8))
    version = _load(0, octet=True) + _extended(0x77, value=4)
    return _KEEP_PACKET + version + _extended(0x15, skip=len(ipv4) // 8, value=6) + ipv4 + ipv6


def _load_program(code: bytes) -> int:
    """A descriptor of the program. Raises OSError."""
    number = SYS_BPF.get(platform.machine())
    if number is None:
        raise OSError(38, os.strerror(38))
    instructions, licence = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"Apache-2.0")
    attributes = struct.pack(
        "=IIQQ", BPF_PROG_TYPE_SOCKET_FILTER, len(code) // 8, ctypes.addressof(instructions), ctypes.addressof(licence)
    )
    buffer = ctypes.create_string_buffer(attributes.ljust(72, b"\0"), 72)
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = int(libc.syscall(number, BPF_PROG_LOAD, ctypes.byref(buffer), len(buffer)))
    if descriptor < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return descriptor


def steer_queues(tun: int, program: bytes) -> None:
    """Attaches a `queue_program` to the TUN device behind a descriptor. Raises OSError: the kernel does not let us."""
    descriptor = _load_program(program)
    try:
        fcntl.ioctl(tun, TUNSETSTEERINGEBPF, struct.pack("i", descriptor))
    finally:
        os.close(descriptor)
