# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""CONNECT: bytes both ways, half-close, back-pressure, refusals."""
import shutil
import socket
import subprocess
import threading

import ports
from body import Pattern
from client import expect_body, expect_error
from depot import wait_until
from support import Later, Skip


def serve_raw(handle):
    """A TCP server that gives each connection to handle(sock); returns its port."""
    listener = ports.listen()

    def accept():
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=run, args=(sock,), daemon=True).start()

    def run(sock):
        with sock:
            sock.settimeout(60)
            handle(sock)
    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


def read_all(sock):
    """Until the other side has finished sending."""
    parts = []
    while True:
        data = sock.recv(1 << 20)
        if not data:
            return b"".join(parts)
        parts.append(data)


def connect(depot, port, extra=b"", host="127.0.0.1", **options):
    """A connection whose CONNECT was accepted."""
    conn = depot.conn(**options)
    conn.send(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode() + extra)
    response = conn.read_head()
    assert response.status == 200, response
    assert response.get("Content-Length") is None and response.get("Transfer-Encoding") is None
    return conn


def test_big_transfer_both_ways_at_once(env):
    """32 MiB up and 32 MiB down at the same time, unharmed; the counters end at zero."""
    up, down = Pattern(32 << 20, seed=1), Pattern(32 << 20, seed=2)
    got = {}

    def handle(sock):
        sender = Later(lambda: sock.sendall(down.bytes()))
        parts, left = [], len(up)
        while left:
            data = sock.recv(1 << 20)
            parts.append(data)
            left -= len(data)
        got["up"] = b"".join(parts)
        sender.result()
    port = serve_raw(handle)
    depot = env.depot(connect_ports="any")
    with connect(depot, port) as conn:
        sender = Later(lambda: conn.send(up.bytes()))
        assert conn.read_exactly(len(down)) == down.bytes()
        sender.result()
        assert conn.ended()
    assert got["up"] == up.bytes()
    depot.wait_counter("tunnels_open", "==", 0)
    assert depot.counter("tunnels_total") == 1
    assert depot.counter("tunnel_bytes_total") == 64 << 20


def test_half_close_by_the_client(env):
    """The client says all it has to say and closes its side; the answer still comes, whole."""
    body = Pattern(2 << 20)

    def handle(sock):
        assert read_all(sock) == b"question"
        sock.sendall(body.bytes())
    depot = env.depot(connect_ports="any")
    with connect(depot, serve_raw(handle)) as conn:
        conn.send(b"question")
        conn.sock.shutdown(socket.SHUT_WR)
        assert conn.read_exactly(len(body) + 1) == body.bytes()


def test_half_close_by_the_upstream(env):
    """The other direction: upstream has finished sending, the client may go on."""
    got = []
    body = Pattern(2 << 20)

    def handle(sock):
        sock.sendall(b"greeting")
        sock.shutdown(socket.SHUT_WR)
        got.append(read_all(sock))
    depot = env.depot(connect_ports="any")
    with connect(depot, serve_raw(handle)) as conn:
        assert conn.read_exactly(9) == b"greeting"
        conn.send(body.bytes())
        conn.sock.shutdown(socket.SHUT_WR)
        depot.wait_counter("tunnels_open", "==", 0)
    wait_until(lambda: got, "upstream has read to the end")
    assert got == [body.bytes()]


def test_bytes_right_behind_the_connect(env):
    """A client that does not wait for the 200 loses nothing."""
    depot = env.depot(connect_ports="any")
    with connect(depot, serve_raw(lambda sock: sock.sendall(sock.recv(100).upper())),
                 extra=b"hello") as conn:
        assert conn.read_exactly(5) == b"HELLO"


def test_reader_that_stops_holds_up_only_its_tunnel(env):
    """Back-pressure: an unread tunnel takes no memory without end, others go on."""
    sent = []

    def handle(sock):
        try:
            for _ in range(256):
                sock.sendall(Pattern(1 << 20).bytes())
                sent.append(1)
        except OSError:
            pass
    port = serve_raw(handle)
    depot = env.depot(connect_ports="any")
    env.origin.serve("/x.deb", b"data")
    with connect(depot, port, receive_buffer=65536) as slow:
        assert slow.read_exactly(1000)
        expect_body(depot.fetch("https://cuda.example/x.deb"), b"data")
        with connect(depot, port) as quick:
            quick.read_exactly(64 << 20)
        assert len(sent) < 300, "an unread tunnel swallowed everything"


def test_refusals(env):
    """Ports, addresses and targets that may not be reached; a target that refuses."""
    closed = ports.hold_port()
    depot = env.depot()
    for target, statuses, word in [
            ("cuda.example:22", (403,), "connect_ports"), ("cuda.example:80", (403,),
                                                           "connect_ports"),
            ("cuda.example", (400,), ""), ("/x", (400, 405), ""), ("cuda.example:x", (400,), "")]:
        expect_error(depot.get(target, method="CONNECT"), *statuses, words=[word])
    anywhere = env.depot(connect_ports="any", allow_addresses=None)
    expect_error(anywhere.get(f"127.0.0.1:{closed}", method="CONNECT"), 403,
                 words=["allow_addresses"])
    local = env.depot(connect_ports="any")
    expect_error(local.get(f"127.0.0.1:{closed}", method="CONNECT"), 502, 504)
    none = env.depot(connect="refuse")
    expect_error(none.get("cuda.example:443", method="CONNECT"), 403, 405)
    assert not env.origin.requests()


def test_curl_through_a_tunnel(env):
    """TLS from end to end; connect_to holds for tunnels as well."""
    if not shutil.which("curl"):
        raise Skip("curl is not installed")
    body = Pattern(3 << 20)
    env.origin.serve("/x.deb", body)
    depot = env.depot()
    done = subprocess.run(["curl", "-sS", "--cacert", env.certificates.ca, "--noproxy", "",
                           "--proxy", f"http://127.0.0.1:{depot.port}",
                           "https://cuda.example/x.deb"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == body.bytes()
    assert depot.counter("tunnels_total") == 1
