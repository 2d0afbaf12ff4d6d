"""A live ESP peer made of scapy: opens and seals over a raw socket of IP protocol 50, and answers pings and UDP by itself.

A program: its one argument is JSON with suite, version (of the outer IP), addresses [ours, the gateway's], SPIs and KEYMAT of both
ways. It answers the inner addresses given as echo and UDP responder, and sends a UDP packet of its own accord when told on standard
input ("send SOURCE DESTINATION").
"""

from __future__ import annotations

import json
import select
import socket
import sys

from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.layers.ipsec import IPSecIntegrityError

from ipsec_dp.dataplane import Encapsulation
from ipsec_dp.ipsec.suites import parse_suite
from ipsec_dp.rig.packets import udp
from tests.interop.scapy_peer import association, open_datagram, seal_packet


def answer(packet: bytes) -> bytes | None:
    """The answer to an inner packet: an echo reply, or a UDP datagram back that says what came."""
    whole = (IP if packet[0] >> 4 == 4 else IPv6)(packet)
    back = whole.__class__(src=whole.dst, dst=whole.src)
    if ICMP in whole and whole[ICMP].type == 8:
        return bytes(back / ICMP(type=0, id=whole[ICMP].id, seq=whole[ICMP].seq) / bytes(whole[ICMP].payload))
    if ICMPv6EchoRequest in whole:
        asked = whole[ICMPv6EchoRequest]
        return bytes(back / ICMPv6EchoReply(id=asked.id, seq=asked.seq, data=asked.data))
    if UDP in whole:
        ports = whole[UDP].dport, whole[UDP].sport
        return udp(whole.dst, whole.src, b"answer to " + bytes(whole[UDP].payload), ports=ports)
    return None


def serve(ours: str, gateway: str, suite_name: str, spis: list[int], keys: list[str]) -> None:
    """SPIs and keys: of what comes to us, then of what we send."""
    suite, raw_esp = parse_suite(suite_name), Encapsulation.ESP
    inbound = association(suite, spis[0], bytes.fromhex(keys[0]), gateway, ours, raw_esp)
    outbound = association(suite, spis[1], bytes.fromhex(keys[1]), ours, gateway, raw_esp)
    version6 = ":" in ours
    received = sent = 0
    with socket.socket(socket.AF_INET6 if version6 else socket.AF_INET, socket.SOCK_RAW, 50) as raw:
        raw.bind((ours, 0))
        print("ready", flush=True)

        def send(inner: bytes) -> None:
            nonlocal sent
            sent += 1
            raw.sendto(seal_packet(outbound, inner, sent), (gateway, 0))

        while True:
            ready, _, _ = select.select([raw, sys.stdin], [], [])
            if sys.stdin in ready:
                line = sys.stdin.readline()
                if not line:
                    return
                source, destination = line.split()
                send(udp(source, destination, b"of its own accord", ports=(7000, 7000)))
            if raw in ready:
                datagram = raw.recv(65536)
                esp = datagram if version6 else datagram[20:]
                received += 1
                try:
                    reply = answer(open_datagram(inbound, esp, raw_esp, received))
                except IPSecIntegrityError as error:
                    print(f"packet {received} does not open: {error}", file=sys.stderr, flush=True)
                    continue
                if reply is not None:
                    send(reply)


if __name__ == "__main__":
    serve(**json.loads(sys.argv[1]))
