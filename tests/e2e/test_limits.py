# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""Limits per client address: connections, requests a second, bytes a second."""
import time

from body import Pattern
from client import expect_body, expect_error, make_request
from depot import wait_until
from origin import Answer
from support import Later, patient, together
from test_tunnel import connect, serve_raw

URL = "https://cuda.example/x.deb"
TARGET = "http://HTTPS///cuda.example/x.deb"
OTHER = "127.0.0.7"


def test_connections(env):
    """The third is told 503 and closed; other addresses are not concerned; room comes back."""
    env.origin.serve("/x.deb", b"data")
    depot = env.depot(client_connections=2)
    first, second = depot.conn(source=OTHER), depot.conn(source=OTHER)
    for conn in (first, second):
        expect_body(conn.get(TARGET), b"data")
    with depot.conn(source=OTHER) as third:
        expect_error(third.get(TARGET), 503, words=["client_connections"])
        assert third.ended()
    with depot.conn(source="127.0.0.8") as conn:
        expect_body(conn.get(TARGET), b"data")
    assert depot.counter("client_connections_refused_total") == 1
    first.close()

    def again():
        with depot.conn(source=OTHER) as conn:
            return conn.get(TARGET).status == 200
    wait_until(again, "a place is free again")
    expect_body(second.get(TARGET), b"data")


@patient
def test_connections_that_never_ask(env):
    """Those that would be told so do not stay: few are held, and not for long."""
    depot = env.depot(client_connections=1)
    kept = depot.conn(source=OTHER)
    expect_body(kept.get("/-/healthz"), b"ok\n")
    idle = [depot.conn(source=OTHER) for _ in range(40)]
    # The one that reads the counter may itself be one too many for a moment.
    depot.wait_counter("client_connections_refused_total", ">=", 40)
    depot.wait_counter("connections_open", "<=", 2 + 16)
    depot.wait_counter("connections_open", "<=", 2)
    assert all(conn.ended() for conn in idle)


def test_rate(env):
    """A second's worth at once, then 429 with Retry-After on a connection that stays."""
    env.origin.serve("/x.deb", b"data")
    depot = env.depot(client_rate=5)
    depot.fetch(URL)
    depot.wait_idle()
    with depot.conn(source=OTHER) as conn:
        conn.send(make_request(TARGET) * 40)
        answers = [conn.read() for _ in range(40)]
        served = [a for a in answers if a.status == 200]
        assert 5 <= len(served) < 40, [a.status for a in answers]
        for answer in answers:
            if answer.status != 200:
                expect_error(answer, 429, words=["client_rate", "Retry-After"])
                assert int(answer.get("Retry-After")) >= 1
        wait_until(lambda: conn.get(TARGET).status == 200, "served again")
    with depot.conn(source="127.0.0.8") as conn:
        expect_body(conn.get(TARGET), b"data")
    assert depot.counter("client_rate_refused_total") >= 40 - len(served)


@patient
def test_bandwidth(env):
    """Hit, flight, small answers and tunnel: each is slowed down to the share, none is cut."""
    body = Pattern(3 << 20)
    env.origin.serve("/x.deb", body)
    env.origin.serve("/y.deb", Answer(body, length="chunked", ranges=False))
    env.origin.serve("/small.deb", Pattern(60000))
    depot = env.depot(client_bandwidth="2M")
    expect_body(depot.fetch("https://cuda.example/small.deb"), Pattern(60000))
    depot.wait_idle()
    port = serve_raw(lambda sock: sock.sendall(body.bytes()))

    def fetch(source, target, times=1):
        started = time.monotonic()
        with depot.conn(source=source) as conn:
            got = 0
            for _ in range(times):
                response = conn.get(target)
                assert response.status == 200 and response.complete, response
                got += len(response.body)
        return got, time.monotonic() - started

    def tunnel():
        started = time.monotonic()
        with connect(depot, port, source="127.0.0.13") as conn:
            got = len(conn.read_exactly(len(body)))
        return got, time.monotonic() - started
    depot.options["connect_ports"] = "any"
    depot.restart()
    results = together(
        lambda: fetch("127.0.0.10", TARGET), lambda: fetch("127.0.0.10", TARGET),
        lambda: fetch("127.0.0.11", "http://HTTPS///cuda.example/y.deb"),
        lambda: fetch("127.0.0.12", "http://HTTPS///cuda.example/small.deb", 50), tunnel)
    assert [got for got, _ in results] == [3 << 20, 3 << 20, 3 << 20, 3000000, 3 << 20]
    # 2 MiB a second with a quarter of a second in advance: not earlier than this.
    assert max(results[0][1], results[1][1]) >= 2.5, results
    for _, took in results[2:]:
        assert took >= 1.0, results
    assert depot.counter("client_paced_total") > 0


@patient
def test_a_slowed_client_slows_nobody(env):
    """While one address waits for its share, others get theirs at once."""
    env.origin.serve("/x.deb", Pattern(32 << 20))
    env.origin.serve("/small.deb", b"data")
    depot = env.depot(client_bandwidth="200K")
    with depot.conn(source="127.0.0.20") as slow:
        slow.ask(TARGET)
        depot.wait_counter("client_paced_total", ">=", 1)
        # In a fraction of the minutes that the other one has to wait.
        with depot.conn(source="127.0.0.21") as conn:
            expect_body(conn.get("http://HTTPS///cuda.example/small.deb"), b"data")
        response = slow.read_head()
        assert response.status == 200 and len(slow.read_exactly(300000)) == 300000


def test_off_by_default(env):
    """No limit, no counting."""
    env.origin.serve("/x.deb", b"data")
    depot = env.depot()
    with depot.conn() as conn:
        for _ in range(50):
            expect_body(conn.get(TARGET), b"data")
    counters = depot.counters()
    for name in ("client_connections_refused_total", "client_rate_refused_total",
                 "client_paced_total", "client_limits_full_total"):
        assert counters[name] == 0
