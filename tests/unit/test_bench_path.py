"""`ipsec-dp bench server` and `client`: both ends over the loopback. Figures are looked at for their shape, not their size."""

from __future__ import annotations

import contextlib
import json
import socket
import threading

import pytest

from ipsec_dp import cli
from ipsec_dp.bench import client
from ipsec_dp.bench.client import Effort, Path
from ipsec_dp.bench.names import MEASURES
from ipsec_dp.bench.server import Server, segments
from ipsec_dp.bench.traffic import HEADERS, IMIX, TRAFFIC, Traffic, payloads, send_run
from ipsec_dp.bench.wire import LINE_MAX, RUN_OCTETS, SOL_UDP, UDP_GRO, VERSION, BenchError, Lines
from tests.netns.traffic import until

SHORT = Effort(tcp_s=0.3, step_s=0.02, replies=10, octets=1_000_000)
PATIENCE_S = 20.0
RUN = b"\1" * RUN_OCTETS


@pytest.fixture(params=["127.0.0.1", "::1"])
def address(request):
    return request.param


@pytest.fixture
def said():
    """What the server told, line by line."""
    return []


@pytest.fixture
def server(address, said):
    made = Server(address, 0, said.append)
    thread = threading.Thread(target=made.serve)
    thread.start()
    yield made
    made.stop()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


@pytest.fixture
def path(server, address):
    made = Path(address, server.port, SHORT)
    yield made
    made.close()


def connected(address, server) -> Lines:
    return Lines(socket.create_connection((address, server.port), timeout=PATIENCE_S))


def counted_until(path, expected):
    """Datagrams are counted by another thread; how many there are once `expected` are."""
    return until(
        lambda: (received := path.ask(do="counted")["received"]) >= expected and received, f"{expected} datagrams", PATIENCE_S
    )


@pytest.mark.parametrize("probe", [probe for probe in client.PROBES if not probe.measures[0].startswith(("rtt", "udp"))])
def test_each_measure_has_a_figure_under_its_own_name(path, probe):
    found = probe.measure(path)
    assert tuple(found) == probe.measures
    assert all(value > 0 or name == "cpu_s_per_gb" for name, value in found.items())  # a megabyte may take less than a tick


def test_every_measure_that_it_offers_is_one_of_the_benchmarks():
    assert set(client.MEASURED) < set(MEASURES)
    assert set(TRAFFIC) < set(client.MEASURED)


@pytest.mark.parametrize("name", TRAFFIC)
def test_what_was_sent_at_a_low_rate_arrived(path, name):
    assert path.step(name, 2000).loss_free


def test_datagrams_are_counted_each_though_the_kernel_brings_many_at_once(path, server, address):
    path.ask(do="count", run=RUN.hex())
    sent, _ = send_run((address, server.port), path.family, Traffic("64", 64), RUN, 20_000, 0.05)
    assert sent >= 64
    assert counted_until(path, sent) == sent


def test_datagrams_of_another_run_are_not_counted(path, server, address):
    path.ask(do="count", run=RUN.hex())
    other, _ = send_run((address, server.port), path.family, Traffic("64"), bytes(RUN_OCTETS), 2000, 0.02)
    sent, _ = send_run((address, server.port), path.family, Traffic("64"), RUN, 2000, 0.02)
    assert other > 0
    assert counted_until(path, sent) == sent


def test_a_stream_without_the_clients_token_is_closed_unanswered(path, server, address):
    for first in ({"data": "0" * 32, "way": "down", "seconds": 1}, {"data": None}, {"way": "up"}, {}):
        lines = connected(address, server)
        with lines.connection:
            lines.send(**first)
            assert lines.receive() is None
    assert path.up(0.01) > 0


def test_a_second_client_is_told_that_the_server_is_busy(path, server, said, address):
    with pytest.raises(BenchError, match="busy with another client"):
        Path(address, server.port, SHORT)
    path.close()
    until(lambda: "done" in " ".join(said), "the end of the first client", PATIENCE_S)
    Path(address, server.port, SHORT).close()


def test_another_version_is_told_so(server, address):
    lines = connected(address, server)
    with lines.connection:
        lines.send(hello=VERSION + 1)
        answer = lines.receive()
        assert answer is not None
        assert "same ipsec-dp on both sides" in answer["error"]


@pytest.mark.parametrize("asked", [{"do": "count", "run": "zz" * RUN_OCTETS}, {"do": "count", "run": "00"}, {"do": "what"}, {}])
def test_what_the_server_does_not_know_is_refused_and_the_client_served_on(path, asked):
    with pytest.raises(BenchError):
        path.ask(**asked)
    assert path.busy() > 0


@pytest.mark.parametrize("octets", [b"GET / HTTP/1.0\r\n\r\n", b"[1]\n", b"{" * 2000 + b"\n", b"x" * (LINE_MAX * 3)])
def test_who_speaks_something_else_is_let_go_and_the_server_serves_on(server, address, octets):
    lines = connected(address, server)
    with lines.connection:
        lines.connection.sendall(octets)
        with contextlib.suppress(ConnectionResetError):
            assert lines.connection.recv(1) == b""
    Path(address, server.port, SHORT).close()


def test_no_server_is_told_with_the_remedy(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert cli.main(["bench", "client", "127.0.0.1", "--port", str(port)]) == 1
    assert "run `ipsec-dp bench server` there" in capsys.readouterr().err


def test_a_port_in_use_is_told_with_the_remedy(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert cli.main(["bench", "server", "--bind", "127.0.0.1", "--port", str(taken.getsockname()[1])]) == 1
    assert "choose another --port" in capsys.readouterr().err


def test_an_unknown_measure_is_usage(capsys):
    assert cli.main(["bench", "client", "127.0.0.1", "--measure", "tcp_9"]) == 2
    assert "tcp_8" in capsys.readouterr().err


def test_both_forms_of_the_answer_and_a_failed_measure(server, said, address, capsys, monkeypatch):
    def refuse(_path):
        raise BenchError("no echo")

    monkeypatch.setattr(client, "PROBES", (client.Probe(("rtt_p50", "rtt_p99"), refuse), *client.PROBES[1:2]))
    assert client.run(address, server.port, (), json=True, effort=SHORT) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema"] == 1
    assert answer["failed"] == {"rtt_p50": "no echo", "rtt_p99": "no echo"}
    assert set(answer["measures"]) == {"tcp_1"}
    until(lambda: "done" in " ".join(said), "the end of the first client", PATIENCE_S)
    assert client.run(address, server.port, ("tcp_1",), effort=SHORT) == 0
    shown = capsys.readouterr().out
    assert "Gb/s" in shown
    assert "rtt" not in shown


# ---- parts


def test_segments_are_counted_by_the_size_that_the_kernel_tells():
    size = (SOL_UDP, UDP_GRO, (100).to_bytes(4, "little"))
    assert segments(500, []) == 1
    assert [segments(octets, [size]) for octets in (100, 101, 200, 201)] == [1, 2, 2, 3]
    assert segments(10, [(SOL_UDP, UDP_GRO, bytes(4))]) == 1


@pytest.mark.parametrize("family", HEADERS)
def test_packets_have_the_sizes_asked_for_headers_included(family):
    header = HEADERS[family]
    for traffic in TRAFFIC.values():
        bodies, count = payloads(traffic, family, RUN)
        sizes = [len(body) // count + header for body in bodies]
        assert sizes == (list(IMIX) if traffic.octets == "imix" else [int(traffic.octets)])
        assert all(body.startswith(RUN) for body in bodies)
        assert all(len(body) <= 65507 for body in bodies)
        assert (count > 1) == (traffic.segments > 1)
