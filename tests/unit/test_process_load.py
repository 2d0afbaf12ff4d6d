"""What the kernel says of the process: read from files that look like its own, and from its own."""

from __future__ import annotations

import os
import threading

from ipsec_dp.host.process_load import UdpQueue, cpu_seconds, udp_queues

FIELDS = "S 1 1 1 0 -1 4194304 100 0 0 0 {user} {system} 0 0 20 0 4 0 1000"
HEAD = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n"
ROW = " 1: {address}:{port:04X} 00000000:0000 07 00000000:{queued:08X} 00:00000000 00000000     0        0 1 2 0000 {dropped}\n"


def test_processor_time_is_told_by_thread(tmp_path):
    threads = {"7": "python3", "8": "esp", "9": "esp-inbound-1", "10": "ike-port", "11": "a) R (b", "12": "asyncio_0"}
    for tid, name in threads.items():
        (tmp_path / "task" / tid).mkdir(parents=True)
        (tmp_path / "task" / tid / "stat").write_text(f"{tid} ({name}) {FIELDS.format(user=int(tid) * 100, system=100)}\n")
    (tmp_path / "task" / "13").mkdir()  # it has ended meanwhile
    (tmp_path / "stat").write_text(f"7 (python3) {FIELDS.format(user=0, system=0)}\n")
    ticks = os.sysconf("SC_CLK_TCK")
    found = {name: round(seconds * ticks) for name, seconds in cpu_seconds(tmp_path).items()}
    assert found == {"control": 800, "esp": 900, "esp-inbound-1": 1000, "ike-port": 1100, "other": 1200 + 1300}


def test_our_own_process_has_used_some():
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        assert cpu_seconds()["control"] > 0
    finally:
        over.set()
        thread.join()


def test_what_waits_in_udp_sockets_is_told_by_port(tmp_path):
    (tmp_path / "net").mkdir()
    rows = [("0100007F", 500, 100, 1), ("0200007F", 500, 11, 2), ("0100007F", 53, 7, 7)]
    text = HEAD + "".join(
        ROW.format(address=address, port=port, queued=queued, dropped=dropped) for address, port, queued, dropped in rows
    )
    (tmp_path / "net" / "udp").write_text(text + " 9: cut")
    assert udp_queues((500, 4500), tmp_path) == {500: UdpQueue(111, 3)}
    (tmp_path / "net" / "udp6").write_text(HEAD + ROW.format(address="0" * 32, port=4500, queued=5, dropped=0))
    assert udp_queues((500, 4500), tmp_path) == {500: UdpQueue(111, 3), 4500: UdpQueue(5, 0)}
    assert udp_queues((500,), tmp_path / "nowhere") == {}
