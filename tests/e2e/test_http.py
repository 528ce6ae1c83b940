# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""The HTTP/1.1 server: pages, methods, malformed requests, pipelines, conditions and ranges."""
import contextlib
import json
import os
import re
import resource
import socket
import time

from body import Pattern
from client import Conn, expect_body, expect_error, make_request
from depot import HERE, SLOW, wait_until
from origin import LAST_MODIFIED, Answer
from repo import forge_deb
from support import Later, Skip, heavy, patient, together

OTHER_DATE = "Wed, 03 Jan 2024 03:04:05 GMT"
TAG = '"tag-1"'


def test_usage_page(env):
    """GET / is the answer by which auto-apt-proxy recognises a proxy."""
    depot = env.depot()
    with depot.conn() as conn:
        conn.ask("/", host="127.0.0.1")
        response = conn.read()
    assert response.head.startswith(b"HTTP/1.1 406 Usage Information\r\n"), response.head
    assert "html" in response.get("Content-Type") and "Acquire::http::Proxy" in response.text
    assert response.complete and response.get("Content-Length")


def test_pages(env):
    """healthz, the first page, the redirect of apt-cacher-ng's page."""
    depot = env.depot()
    response = depot.get("/-/healthz")
    assert (response.status, response.body) == (200, b"ok\n")
    response = depot.get("/-/")
    assert response.status == 200 and "html" in response.get("Content-Type")
    assert "Acquire::http::Proxy" in response.text
    response = depot.get("/acng-report.html")
    assert response.status in (301, 302, 303, 307, 308), response
    assert response.get("Location", "").endswith("/-/"), response.get("Location")


def test_dashboard_and_json_for_a_night(env):
    """What went wrong lately, which repositories there are; the same for scripts."""
    cdn = env.flat_cdn(forge_deb("tool", "1", 4000))
    depot = env.depot()
    for name in ("InRelease", "Packages"):
        assert depot.fetch(cdn.url() + name).status == 200
    for _ in range(2):
        expect_error(depot.get("http://us:sEcret@10.99.0.1/x.deb"), 403)
    page = depot.get("/-/?refresh=0").text
    assert "Latest trouble" in page and "allow_addresses" in page and "2 times" in page
    assert cdn.url() in page and "sEcret" not in page
    trouble, = json.loads(depot.get("/-/api/v1/status").text)["trouble"]
    assert trouble["url"] == "http://10.99.0.1/x.deb" and trouble["times"] == 2, trouble
    assert (trouble["status"], trouble["reason"]) == (403, "DENIED_ADDRESS")
    depot.wait_log(f" req={trouble['request']} ", " 403 ")
    generation, = json.loads(depot.get("/-/api/v1/generations").text)
    assert generation["repository"] == cdn.url() and generation["current"] is True, generation


def test_metrics_are_the_table(env):
    """/-/metrics has each counter of the table, with help and type, and nothing else."""
    with open(os.path.join(HERE, "..", "..", "include", "counter.def"), encoding="ascii") as table:
        want = {line[2:].split(",")[0]: line.split(",")[1].strip()
                for line in table if line.startswith("C(")}
    depot = env.depot()
    response = depot.get("/-/metrics")
    assert response.get("Content-Type", "").startswith("text/plain")
    found = depot.counters()
    assert set(want) <= set(found), f"missing: {sorted(set(want) - set(found))}"
    for name, kind in want.items():
        kind = {"TOTAL": "counter", "GAUGE": "gauge"}[kind]
        assert f"# TYPE apt_depot_{name} {kind}\n" in response.text, name
        assert f"# HELP apt_depot_{name} " in response.text, name
    assert all(line.startswith(("#", "apt_depot_")) for line in response.text.splitlines())


def test_methods(env):
    """Anything but GET, HEAD and CONNECT is 405 with Allow."""
    env.origin.serve("/x.deb", b"data")
    depot = env.depot()
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "PROPFIND", "get"):
        response = depot.get("http://HTTPS///cuda.example/x.deb", "Content-Length: 0",
                             method=method)
        expect_error(response, 405)
        allowed = {name.strip() for name in response.get("Allow", "").split(",")}
        assert {"GET", "HEAD"} <= allowed, response.get("Allow")
    assert not env.origin.requests()


GOOD_LINE = b"GET http://HTTPS///cuda.example/x.deb HTTP/1.1\r\n"
MALFORMED = [
    (b"GET\r\n\r\n", 400),
    (b"GET /\r\n\r\n", 400),
    (b"G@T / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"GET /  HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n", 400),
    (b"GET / HTTP/x\r\nHost: x\r\n\r\n", (400, 505)),
    (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
    (b"GET / http/1.1\r\nHost: x\r\n\r\n", (400, 505)),
    (b"GET /a\tb HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"GET /a\0b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    (GOOD_LINE + b"\r\n", 400),                                           # no Host
    (GOOD_LINE + b"Host: a\r\nHost: b\r\n\r\n", 400),
    (GOOD_LINE + b"Host: a\r\n folded\r\n\r\n", 400),
    (GOOD_LINE + b"Host: a\r\nX-Y : z\r\n\r\n", 400),
    (GOOD_LINE + b"Host: a\r\n: z\r\n\r\n", 400),
    (GOOD_LINE + b"Host: a\r\nno colon here\r\n\r\n", 400),
    (GOOD_LINE + b"Host: a\r\nX: a\0b\r\n\r\n", 400),
    (GOOD_LINE + b"Host: a\r\nX: a\rb\r\n\r\n", 400),
    (GOOD_LINE + b"Host: a\r\nX: a\x01b\r\n\r\n", 400),
    (GOOD_LINE + b"Host: a\nX: b\r\n\r\n", 400),
    (GOOD_LINE + b"Host: a\r\nContent-Length: -1\r\n\r\n", 400),
    (GOOD_LINE + b"Host: a\r\nContent-Length: 0x10\r\n\r\n", 400),
    (GOOD_LINE + b"Host: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
    (GOOD_LINE + b"Host: a\r\nContent-Length: 99999999999999999999999\r\n\r\n", 400),
    (GOOD_LINE + b"Host: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     400),
    (GOOD_LINE + b"Host: a\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
    (GOOD_LINE + b"Host: a\r\n" + b"X-Many: x\r\n" * 70 + b"\r\n", 431),
    (GOOD_LINE + b"Host: a\r\nX-Long: " + b"x" * 200000 + b"\r\n\r\n", 431),
    (b"GET /HTTPS///cuda.example/" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    (b"GET /HTTPS///cuda.example/" + b"x" * 300000, (414, 431)),
    (b"x" * 300000, (400, 414, 431)),
]


def test_malformed_requests(env):
    """Each gets its status with a body and then the connection is closed; the next one works."""
    env.origin.serve("/x.deb", b"data")
    depot = env.depot()
    for n, (text, statuses) in enumerate(MALFORMED):
        statuses = statuses if isinstance(statuses, tuple) else (statuses,)
        with depot.conn() as conn:
            try:
                # What is pipelined behind a malformed request must not be answered.
                conn.send(text + (make_request("/-/healthz") if len(text) < 10000 else b""))
            except (BrokenPipeError, ConnectionResetError):
                pass
            try:
                response = conn.read()
            except AssertionError as err:
                raise AssertionError(f"row {n} {text[:80]!r}: {err}") from None
            assert response.status in statuses, f"row {n} {text[:80]!r}: {response}"
            expect_error(response, *statuses)
            assert conn.ended(), f"row {n} {text[:80]!r}: the connection stays open"
        assert depot.counter("bad_requests_total") >= n + 1, f"row {n} {text[:80]!r}: not counted"
    assert not env.origin.requests()
    expect_body(depot.fetch("https://cuda.example/x.deb"), b"data")


def test_request_bodies_are_refused(env):
    """400; the body's bytes are never taken for a request, whatever happens to the connection."""
    depot = env.depot()
    inner = make_request("/-/metrics")
    for fields, body in [((f"Content-Length: {len(inner)}",), inner),
                         (("Transfer-Encoding: chunked",),
                          b"%x\r\n%b\r\n0\r\n\r\n" % (len(inner), inner)),
                         (("Content-Length: 1000000",), inner)]:
        with depot.conn() as conn:
            conn.send(make_request("http://HTTPS///cuda.example/x.deb", *fields) + body
                      + make_request("/-/healthz"))
            expect_error(conn.read(), 400)
            response = conn.read_head()
            if response is not None:
                expect_body(conn.read_body(response), b"ok\n")


def test_head_in_pieces(env):
    """A request may arrive a byte at a time, or two in one segment."""
    env.origin.serve("/x.deb", b"data")
    depot = env.depot()
    with depot.conn() as conn:
        for byte in make_request("http://HTTPS///cuda.example/x.deb"):
            conn.send(bytes([byte]))
        expect_body(conn.read(), b"data")
        one = make_request("http://HTTPS///cuda.example/x.deb")
        conn.send(one + one[:30])
        expect_body(conn.read(), b"data")
        conn.send(one[30:])
        expect_body(conn.read(), b"data")


def test_keep_alive_and_close(env):
    """1.1 stays open unless told otherwise, 1.0 closes unless told otherwise."""
    env.origin.serve("/x.deb", b"data")
    depot = env.depot()
    for version, field, closes in [("HTTP/1.1", None, False), ("HTTP/1.1", "close", True),
                                   ("HTTP/1.1", "Close, Foo", True), ("HTTP/1.0", None, True),
                                   ("HTTP/1.0", "keep-alive", False)]:
        with depot.conn() as conn:
            fields = [f"Connection: {field}"] if field else []
            conn.ask("http://HTTPS///cuda.example/x.deb", *fields, version=version)
            response = expect_body(conn.read(), b"data")
            assert response.version == "HTTP/1.1"
            if closes:
                assert conn.ended(), (version, field)
            else:
                assert "close" not in response.get("Connection", "").lower(), (version, field)
                expect_body(conn.get("http://HTTPS///cuda.example/x.deb"), b"data")


def test_only_the_last_answer_closes(env):
    """A pipeline that ends in close, or in nonsense: answers before the end do not say so."""
    depot = env.depot()
    page = make_request("/-/healthz")
    for last in (make_request("/-/healthz", "Connection: close"), b"GET\r\n\r\n",
                 make_request("/-/healthz", version="HTTP/1.0")):
        with depot.conn() as conn:
            conn.send(page * 3 + last)
            for _ in range(3):
                assert expect_body(conn.read(), b"ok\n").get("Connection") is None
            assert conn.read().get("Connection") == "close"
            assert conn.ended()


def test_reset_is_leaving(env):
    """Also when nothing more is read from the client: its last request is known, or too many are."""
    gate = env.origin.gate()
    env.origin.serve("/held.deb", Answer(b"data", gate=gate))
    depot = env.depot()
    for extra, times in ((("Connection: close",), 1), ((), 25)):
        conn = depot.conn()
        conn.send(make_request("http://HTTPS///cuda.example/held.deb", *extra) * times)
        depot.wait_counter("flight_readers_open", "==", min(times, 20))
        conn.reset()
        depot.wait_counter("flight_readers_open", "==", 0)
    gate.open()


def test_fin_after_the_request_is_not_leaving(env):
    """A client that closes its sending side still gets everything it asked for."""
    body, gate = Pattern(300000), env.origin.gate()
    env.origin.serve("/x.deb", Answer(body, gate=gate, held_at=1000))
    depot = env.depot()
    with depot.conn() as conn:
        conn.ask("http://HTTPS///cuda.example/x.deb")
        conn.ask("/-/healthz")
        conn.sock.shutdown(socket.SHUT_WR)
        gate.wait_for(1)
        gate.open()
        expect_body(conn.read(), body)
        expect_body(conn.read(), b"ok\n")
        assert conn.ended()


def test_pipeline_of_mixed_origins_is_answered_in_order(env):
    """Twelve requests in one segment: hits, misses, errors and pages; the first is the slowest."""
    gate = env.origin.gate()
    env.origin.serve("/held.deb", Answer(b"held", gate=gate))
    env.origin.serve("/warm.deb", b"warm")
    for n in range(6):
        env.origin.serve(f"/{n}.deb", Pattern(10000 * n + 1, seed=n))
    depot = env.depot()
    depot.fetch("https://one.example/warm.deb")
    depot.wait_idle()
    targets = ["http://HTTPS///one.example/held.deb", "http://HTTPS///one.example/warm.deb",
               "http://HTTPS///two.example/0.deb", "http://three.example/1.deb",
               "/HTTPS///four.example/2.deb", "http://HTTPS///cuda.example/missing.deb",
               "http://HTTPS///mirror.example/3.deb", "/-/healthz", "/foo/bar",
               "http://HTTPS///one.example/4.deb", "http://HTTPS///two.example/5.deb",
               "http://HTTPS///one.example/warm.deb"]
    wants = [b"held", b"warm", Pattern(1, 0), Pattern(10001, 1), Pattern(20001, 2), 404,
             Pattern(30001, 3), b"ok\n", 404, Pattern(40001, 4), Pattern(50001, 5), b"warm"]
    with depot.conn() as conn:
        conn.send(b"".join(make_request(target) for target in targets))
        gate.wait_for(1)
        wait_until(lambda: env.origin.requests("/4.deb"), "the tenth is asked for ahead")
        gate.open()
        for target, want in zip(targets, wants):
            response = conn.read()
            if want == 404:
                expect_error(response, 404)
            else:
                expect_body(response, want)
            assert "close" not in response.get("Connection", "").lower(), target


def test_pipeline_deeper_than_the_look_ahead(env):
    """Forty requests at once, with bodies larger than any buffer: all in order."""
    for n in range(40):
        env.origin.serve(f"/{n}.deb", Pattern(100000 + n, seed=n % 5))
    depot = env.depot()
    with depot.conn() as conn:
        conn.send(b"".join(make_request(f"http://HTTPS///cuda.example/{n}.deb")
                           for n in range(40)))
        for n in range(40):
            expect_body(conn.read(), Pattern(100000 + n, seed=n % 5))


def test_pipeline_of_large_requests(env):
    """Twenty heads of 30 KB are answered in order, but not all of them kept at a time."""
    gate = env.origin.gate()
    env.origin.serve("/held.deb", Answer(b"held", gate=gate))
    env.origin.serve("/x.deb", b"data")
    depot = env.depot()
    with depot.conn() as conn:
        large = make_request("http://HTTPS///cuda.example/x.deb", "X-Pad: " + "x" * 30000)
        sender = Later(lambda: conn.send(
            make_request("http://HTTPS///cuda.example/held.deb") + large * 19))
        depot.wait_counter("lookahead_full_total", ">=", 1)
        gate.open()
        expect_body(conn.read(), b"held")
        for _ in range(19):
            expect_body(conn.read(), b"data")
        sender.result()


def test_endless_pipelines_let_others_go_first(env):
    """However fast requests come on one connection: the loop's other work has its turn."""
    depot = env.depot(workers=1)
    with depot.conn() as conn:
        pad = "X-Pad: " + "x" * 1000
        sender = Later(lambda: conn.send(make_request("/-/healthz", pad) * 2000))
        for _ in range(2000):
            expect_body(conn.read(), b"ok\n")
        sender.result()
    assert depot.counter("client_turns_total") >= 10


def test_stop_in_an_endless_pipeline(env):
    """It stops in time, whatever a client goes on to ask for."""
    depot = env.depot()
    conn = depot.conn()
    sent = Later(lambda: [conn.send(make_request("/-/apt.conf") * 100) for _ in range(1 << 20)])
    for _ in range(100):
        assert conn.read().status == 200
    stopped = Later(depot.stop)
    with contextlib.suppress(OSError):
        while conn.more():
            pass
    stopped.result()
    with contextlib.suppress(OSError):
        sent.result()


def test_look_ahead_starts_pipelined_fetches(env):
    """The origin holds each of 8 answers until all 8 requests are there: no order of one by one."""
    gate = env.origin.gate()
    for n in range(8):
        env.origin.serve(f"/{n}.deb", Answer(Pattern(70000, seed=n), gate=gate))
    depot = env.depot()
    with depot.conn() as conn:
        conn.send(b"".join(make_request(f"http://HTTPS///{host}.example/{n}.deb")
                           for n, host in enumerate(["one", "two", "three", "four"] * 2)))
        gate.wait_for(8)
        gate.open()
        for n in range(8):
            expect_body(conn.read(), Pattern(70000, seed=n))


def test_look_ahead_on_one_host(env):
    """The same with all 8 on one origin."""
    gate = env.origin.gate()
    for n in range(8):
        env.origin.serve(f"/{n}.deb", Answer(Pattern(70000, seed=n), gate=gate))
    depot = env.depot()
    with depot.conn() as conn:
        conn.send(b"".join(make_request(f"http://HTTPS///cuda.example/{n}.deb")
                           for n in range(8)))
        gate.wait_for(8)
        gate.open()
        for n in range(8):
            expect_body(conn.read(), Pattern(70000, seed=n))


def test_look_ahead_can_be_turned_off(env):
    """prefetch=off fetches for the first request in line only."""
    gate = env.origin.gate()
    for n in range(3):
        env.origin.serve(f"/{n}.deb", Answer(b"data", gate=gate))
    depot = env.depot(prefetch="off")
    with depot.conn() as conn:
        conn.send(b"".join(make_request(f"http://HTTPS///cuda.example/{n}.deb")
                           for n in range(3)))
        gate.wait_for(1)
        depot.wait_counter("upstream_requests_total", "==", 1)
        gate.open()
        for n in range(3):
            expect_body(conn.read(), b"data")
    assert [r.path for r in env.origin.requests()] == ["/0.deb", "/1.deb", "/2.deb"]


def test_head_is_get_without_a_body(env):
    """Same fields for both, on a miss and on a hit; a miss costs a HEAD upstream and no body."""
    body = Pattern(200000)
    env.origin.serve("/x.deb", Answer(body, etag=TAG))
    depot = env.depot()
    with depot.conn() as conn:
        miss = conn.get("http://HTTPS///cuda.example/x.deb", method="HEAD")
        assert [r.method for r in env.origin.requests()] == ["HEAD"]
        assert env.origin.body_bytes() == 0
        get = expect_body(conn.get("http://HTTPS///cuda.example/x.deb"), body)
        depot.wait_idle()
        hit = conn.get("http://HTTPS///cuda.example/x.deb", method="HEAD")
        for response in (miss, hit):
            assert response.status == 200
            for name in ("Content-Length", "ETag", "Last-Modified", "Content-Type"):
                assert response.get(name) == get.get(name) is not None, name
        expect_body(conn.get("/-/healthz"), b"ok\n")
    assert len(env.origin.requests()) == 2


def test_head_of_what_is_not_there(env):
    """HEAD of an upstream 404 and of a local one."""
    depot = env.depot()
    with depot.conn() as conn:
        for target in ("http://HTTPS///cuda.example/none.deb", "/foo/bar"):
            assert conn.get(target, method="HEAD").status == 404
        expect_body(conn.get("/-/healthz"), b"ok\n")


SIZE = 200000
RANGES = [
    ("bytes=0-0", 206, (0, 1)), ("bytes=0-99999", 206, (0, 100000)),
    ("bytes=100000-", 206, (100000, SIZE)), ("bytes=65535-65537", 206, (65535, 65538)),
    ("bytes=-1", 206, (SIZE - 1, SIZE)), ("bytes=-70000", 206, (SIZE - 70000, SIZE)),
    ("bytes=-999999999", 206, (0, SIZE)), (f"bytes={SIZE - 1}-", 206, (SIZE - 1, SIZE)),
    ("bytes=10-99999999999999999", 206, (10, SIZE)), ("BYTES=5-6", (206, 200), (5, 7)),
    (f"bytes={SIZE}-", 416, None), ("bytes=99999999999999999-", 416, None),
    ("bytes=-0", 416, None),
    ("bytes=5-4", 200, (0, SIZE)), ("bytes=a-b", 200, (0, SIZE)), ("items=0-1", 200, (0, SIZE)),
    ("bytes=0-1,5-6", 200, (0, SIZE)), ("bytes=", 200, (0, SIZE)), ("bytes=-", 200, (0, SIZE)),
    ("bytes=18446744073709551616-18446744073709551617", (200, 416), (0, SIZE)),
]


def test_ranges_of_a_stored_object(env):
    """First, middle, suffix, beyond the end, several, nonsense."""
    body = Pattern(SIZE)
    env.origin.serve("/x.deb", body)
    depot = env.depot()
    depot.fetch("https://cuda.example/x.deb")
    depot.wait_idle()
    with depot.conn() as conn:
        for text, status, part in RANGES:
            response = conn.get("http://HTTPS///cuda.example/x.deb", f"Range: {text}")
            expect_part(response, status, part, body, text)
            head = conn.get("http://HTTPS///cuda.example/x.deb", f"Range: {text}", method="HEAD")
            assert head.status in (200, response.status), (text, head)
    assert len(env.origin.requests()) == 1


def expect_part(response, statuses, part, body, text):
    """A 206, 416 or 200 with the right fields and bytes."""
    statuses = statuses if isinstance(statuses, tuple) else (statuses,)
    assert response.status in statuses, f"{text}: {response.status}"
    size = len(body)
    if response.status == 416:
        assert response.get("Content-Range") == f"bytes */{size}", (text, response.fields)
        assert response.complete, text
        return
    first, end = part if response.status == 206 else (0, size)
    if response.status == 206:
        assert response.get("Content-Range") == f"bytes {first}-{end - 1}/{size}", \
            (text, response.get("Content-Range"))
    expect_body(response, body.slice(first, end), response.status)


def test_if_range(env):
    """206 only for the same validator; anything else is the whole object."""
    body = Pattern(SIZE)
    env.origin.serve("/x.deb", Answer(body, etag=TAG))
    env.origin.serve("/weak.deb", Answer(body, etag='W/"weak"'))
    depot = env.depot()
    for path in ("/x.deb", "/weak.deb"):
        depot.fetch("https://cuda.example" + path)
    depot.wait_idle()
    for path, condition, status in [
            ("/x.deb", LAST_MODIFIED, 206), ("/x.deb", TAG, 206), ("/x.deb", '"tag-2"', 200),
            ("/x.deb", OTHER_DATE, 200), ("/x.deb", "Mon, 01 Jan 2024 03:04:05 GMT", 200),
            ("/x.deb", "nonsense", 200), ("/x.deb", "W/" + TAG, 200),
            ("/weak.deb", 'W/"weak"', 200), ("/weak.deb", '"weak"', 200)]:
        response = depot.fetch("https://cuda.example" + path, "Range: bytes=100000-",
                               f"If-Range: {condition}")
        expect_part(response, status, (100000, SIZE), body, condition)


CONDITIONS = [
    ("/x.deb", ["If-None-Match: " + TAG], 304), ("/x.deb", ['If-None-Match: "other"'], 200),
    ("/x.deb", ['If-None-Match: "other", ' + TAG], 304), ("/x.deb", ["If-None-Match: *"], 304),
    ("/x.deb", ["If-None-Match: W/" + TAG], 304),
    ("/x.deb", ['If-None-Match: "other"', "If-Modified-Since: " + LAST_MODIFIED], 200),
    ("/x.deb", ["If-Modified-Since: " + LAST_MODIFIED], 304),
    # A repository's file may go back in time: only the same date is the same file.
    ("/x.deb", ["If-Modified-Since: " + OTHER_DATE], 200),
    ("/x.deb", ["If-Modified-Since: Mon, 01 Jan 2024 03:04:05 GMT"], 200),
    ("/x.deb", ["If-Modified-Since: nonsense"], 200),
    ("/none.deb", ["If-Modified-Since: " + OTHER_DATE], 200),
    ("/none.deb", ['If-None-Match: "other"'], 200),
    ("/x.deb", ["If-Match: " + TAG], 200), ("/x.deb", ['If-Match: "other"'], 412),
]


def test_conditional_requests_on_a_stored_object(env):
    """304, 412 or the object, by exact validators."""
    body = Pattern(70000)
    env.origin.serve("/x.deb", Answer(body, etag=TAG))
    env.origin.serve("/none.deb", Answer(body, etag=None, last_modified=None))
    depot = env.depot()
    for path in ("/x.deb", "/none.deb"):
        depot.fetch("https://cuda.example" + path)
    depot.wait_idle()
    with depot.conn() as conn:
        for path, fields, status in CONDITIONS:
            for method in ("GET", "HEAD"):
                response = conn.get("http://HTTPS///cuda.example" + path, *fields, method=method)
                assert response.status == status, f"{method} {path} {fields}: {response.status}"
                if status == 304:
                    assert response.get("ETag") == TAG
                    assert response.get("Content-Length") in (None, str(len(body)))
                if status == 200 and method == "GET":
                    expect_body(response, body)
    assert len(env.origin.requests()) == 2


def test_validators_are_the_origins_and_survive_a_restart(env):
    """ETag and Last-Modified: unchanged, the same for GET and HEAD, before and after."""
    env.origin.serve("/x.deb", Answer(b"data", etag=TAG))
    depot = env.depot()
    seen = [depot.fetch("https://cuda.example/x.deb")]
    depot.wait_idle()
    seen.append(depot.fetch("https://cuda.example/x.deb", method="HEAD"))
    depot.restart()
    seen += [depot.fetch("https://cuda.example/x.deb", method=m) for m in ("GET", "HEAD")]
    for response in seen:
        assert response.get("ETag") == TAG, response.fields
        assert response.get("Last-Modified") == LAST_MODIFIED, response.fields
    assert len(env.origin.requests()) == 1


def test_unreadable_last_modified_is_dropped(env):
    """apt takes a Last-Modified it cannot read for a broken answer."""
    for n, text in enumerate(["yesterday", "2024-01-02T03:04:05Z", "Tue Jan  2 03:04:05 2024"]):
        env.origin.serve(f"/{n}.deb", Answer(b"data", last_modified=text))
    depot = env.depot()
    for n in range(3):
        for _ in range(2):
            response = expect_body(depot.fetch(f"https://cuda.example/{n}.deb"), b"data")
            assert response.get("Last-Modified") is None, response.get("Last-Modified")
            depot.wait_idle()


def test_fields_of_answers(env):
    """Via, Cache-Status, Age, Date: on misses, hits and errors."""
    env.origin.serve("/x.deb", Answer(b"data", headers=[("X-Kept", "yes"), ("Set-Cookie", "a=b"),
                                                        ("Connection", "X-Gone"),
                                                        ("X-Gone", "hop")]))
    depot = env.depot()
    miss = depot.fetch("https://cuda.example/x.deb")
    depot.wait_idle()
    hit = depot.fetch("https://cuda.example/x.deb")
    gone = depot.fetch("https://cuda.example/none.deb")
    local = depot.get("/foo/bar")
    for response in (miss, hit, gone, local):
        assert "apt-depot" in response.get("Via", ""), response.fields
        assert response.cache_status.startswith("apt-depot"), response.fields
        assert response.get("Date"), response.fields
    assert "fwd=uri-miss" in miss.cache_status and "stored" in miss.cache_status
    assert hit.is_hit and int(hit.get("Age")) >= 0
    assert hit.get("X-Gone") is None and hit.get("Set-Cookie") is None
    assert "varnish" not in hit.get("Via").lower() and hit.get("Accept-Ranges") in (None, "bytes")


# What is asked, the status, and what the error says: which upstream, what happened, what to do.
ERRORS = [
    ("http://HTTPS///cuda.example/none.deb", [], 404, ["cuda.example/none.deb", "apt-get update"]),
    ("http://HTTPS///cuda.example/x.deb", ["Range: bytes=9-"], 416, ["Ask without Range"]),
    ("http://HTTPS///cuda.example/x.deb", ['If-Match: "no"'], 412, ["Ask without If-Match"]),
    ("http://HTTPS///cuda.example/y.deb", ["Cache-Control: only-if-cached"], 504,
     ["cuda.example/y.deb", "Ask without only-if-cached"]),
    ("http://HTTPS///cuda.example/500.deb", [], 500, ["cuda.example", "Repeat it later"]),
    ("http://HTTPS///nowhere.invalid/x.deb", [], 502, ["nowhere.invalid", "doctor"]),
    ("http://192.0.2.1:9/x.deb", [], 403, ["192.0.2.1", "allow_addresses"]),
    ("http://HTTPS///", [], 400, ["http://HTTPS///host/path"]),
    ("/foo/bar", [], 404, ["/foo/bar", "/HTTPS///host/path"]),
    ("/-/nonsense", [], 404, ["/-/nonsense", "/-/metrics"]),
    ("/-/ca.pem", [], 404, ["intercept_hosts"]),
    ("/-/api/v1/explain?url=x", [], 400, ["http://HTTPS///host/path"]),
]


def test_errors_say_what_to_do_and_are_in_the_log(env):
    """Each names its upstream, what to do, and a request whose line is in the log."""
    env.origin.serve("/x.deb", b"data")
    env.origin.serve("/500.deb", Answer(b"", status=500))
    depot = env.depot(deny_addresses="192.0.2.0/24")
    depot.fetch("https://cuda.example/x.deb")
    for target, fields, status, words in ERRORS:
        response = expect_error(depot.get(target, *fields), status, words=words)
        req = re.search(r"request\W+(\d+)", response.text)
        assert req, response.text
        depot.wait_log(f" req={req[1]} ", f" {status} ")
        if status >= 500:
            continue    # costs the origin another round of tries
        head = depot.get(target, *fields, method="HEAD")
        assert head.status in (status, 200) and int(head.get("Content-Length")) > 0, target
    line, = depot.wait_access("none.deb")[:1]
    assert re.search(r" req=\d+ ", line), line


def parse_cache_status(text):
    """RFC 9211 2: (the cache, its parameters) of a list with one member; raises on bad syntax."""
    token = r"[A-Za-z*][-!#$%&'*+.^_`|~:/0-9A-Za-z]*"
    cache, *parts = text.split(";")
    assert re.fullmatch(token, cache), text
    found = {}
    for part in parts:
        name, equals, value = part.lstrip(" ").partition("=")
        assert re.fullmatch(r"[a-z*][-a-z0-9_.*]*", name) and name not in found, text
        assert not equals or re.fullmatch(rf"{token}|-?\d+", value), text
        found[name] = value if equals else True
    assert not ("hit" in found and "fwd" in found), text
    assert found.get("fwd", "miss") in ("bypass", "method", "uri-miss", "vary-miss", "miss",
                                        "request", "stale", "partial"), text
    return cache, found


def test_cache_status_is_a_structured_field(env):
    """Each kind of answer has one that RFC 9211 allows, and the right one."""
    env.origin.serve("/x.deb", b"data")
    env.origin.serve("/dists/s/InRelease", b"data")
    env.origin.serve("/fresh.run", Answer(b"data", headers=[("Cache-Control", "max-age=1000")]))
    env.origin.serve("/stale.run", Answer(b"data", headers=[("Cache-Control", "max-age=0")]))
    depot = env.depot()
    url = "http://HTTPS///cuda.example"
    for target, fields, method, want in [
            (url + "/x.deb", [], "HEAD", {"fwd": "uri-miss"}),
            (url + "/x.deb", [], "GET", {"fwd": "uri-miss", "stored": True}),
            (url + "/x.deb", ["Cache-Control: no-cache"], "GET",
             {"fwd": "request", "fwd-status": "304"}),
            (url + "/fresh.run", [], "GET", {"fwd": "uri-miss", "stored": True}),
            (url + "/fresh.run", ["Cache-Control: max-age=0"], "GET", {"fwd": "request"}),
            (url + "/stale.run", [], "GET", {"fwd": "uri-miss", "stored": True}),
            (url + "/stale.run", ["Cache-Control: max-age=0"], "GET", {"fwd": "stale"}),
            (url + "/x.deb", ["Authorization: Basic dTpw"], "GET", {"fwd": "bypass"}),
            (url + "/x.deb", ["Range: bytes=9-"], "GET", {"detail": "RANGE"}),
            (url + "/none.deb", [], "GET", {"fwd": "uri-miss", "detail": "UP_NOT_FOUND"}),
            ("/foo/bar", [], "GET", {"detail": "NOT_FOUND_LOCAL"}),
            ("/-/", [], "GET", {"detail": "page"}), ("/", [], "HEAD", {"detail": "page"}),
            ("/acng-report.html", [], "GET", {"detail": "page"}),
            (url + "/x.deb", [], "POST", {"detail": "METHOD"})]:
        response = depot.get(target, *fields, method=method)
        cache, found = parse_cache_status(response.cache_status)
        assert cache == "apt-depot" and response.get("Via") == "1.1 apt-depot"
        assert want.items() <= found.items(), (target, fields, found)
        depot.wait_idle()


def test_no_store_is_not_stored(env):
    """Cache-Control: no-store of a client: shared while it runs, kept by nobody."""
    gate = env.origin.gate()
    env.origin.serve("/x.deb", Answer(Pattern(3 << 20), gate=gate))
    depot = env.depot()
    url = "https://cuda.example/x.deb"
    first = Later(lambda: depot.fetch(url, "Cache-Control: no-store"))
    gate.wait_for(1)
    second = Later(lambda: depot.fetch(url, "Cache-Control: no-store"))
    depot.wait_counter("flight_readers_open", "==", 2)
    gate.open()
    for later in (first, second):
        assert "stored" not in expect_body(later.result(), Pattern(3 << 20)).cache_status
    depot.wait_idle()
    assert len(env.origin.requests()) == 1 and not depot.blob_paths() and not depot.partial_names()
    assert "stored" in depot.fetch(url).cache_status
    depot.wait_idle()
    assert depot.fetch(url, "Cache-Control: no-store").is_hit


def sizes_of(env, sizes):
    """Serves and checks objects of these sizes, as a miss, a hit and a HEAD."""
    for size in sizes:
        env.origin.serve(f"/{size}.deb", Pattern(size))
    depot = env.depot()
    for kind in ("miss", "hit"):
        for size in sizes:
            response = expect_body(depot.fetch(f"https://cuda.example/{size}.deb"), Pattern(size))
            assert response.get("Content-Length") == str(size)
            assert response.is_hit == (kind == "hit"), (size, response.cache_status)
        depot.wait_idle()
    for size in sizes:
        response = depot.fetch(f"https://cuda.example/{size}.deb", method="HEAD")
        assert response.get("Content-Length") == str(size)
    assert len(env.origin.requests()) == len(sizes)


def test_sizes_at_the_edges(env):
    """Nothing, one byte, one buffer less one, one buffer, and one more."""
    sizes_of(env, [0, 1, 65535, 65536, 65537, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])


@heavy(10, limit_s=400)
def test_object_beyond_4_gib(env):
    """Streams through, is stored, and a Range beyond 4 GiB is right."""
    size = (4 << 30) + (64 << 20) + 5
    free = os.statvfs(env.path)
    if free.f_bavail * free.f_frsize < 3 * size:
        raise Skip("not enough room on the disk")
    body = Pattern(size)
    env.origin.serve("/nvhpc.deb", body)
    depot = env.depot(cache_min_free=0, cache_max="20G", segments=1)
    response = depot.fetch("http://cuda.example/nvhpc.deb", expect=body)
    assert response.status == 200 and response.complete, response.received
    depot.wait_counter("flights_open", "==", 0, 180)
    for first, end in [(4 << 30, (4 << 30) + 100), ((4 << 30) - 50, (4 << 30) + 50),
                       (size - 1000, size), (5 << 20, (5 << 20) + 70000)]:
        response = depot.fetch("http://cuda.example/nvhpc.deb", f"Range: bytes={first}-{end - 1}")
        expect_part(response, 206, (first, end), body, first)
    response = depot.fetch("http://cuda.example/nvhpc.deb", method="HEAD")
    assert response.get("Content-Length") == str(size) and response.is_hit
    assert env.origin.body_bytes() == size
    if SLOW == 1:
        assert depot.memory_kib("VmHWM") < 64 << 10


@patient
def test_nobody_waits_longer_than_apt(env):
    """An origin that does not answer: 504 in words, the fetch goes on, and a repeat joins it."""
    gate = env.origin.gate()
    env.origin.serve("/x.deb", Answer(b"late", gate=gate))
    depot = env.depot(read_timeout="5m", connect_timeout="5m")
    with depot.conn(timeout=60) as conn:
        conn.ask("http://HTTPS///cuda.example/x.deb")
        conn.ask("/-/healthz")
        expect_error(conn.read(), 504, words=["cuda.example/x.deb", "25 seconds"])
        expect_body(conn.read(), b"ok\n")
        again = Later(lambda: depot.fetch("https://cuda.example/x.deb"))
        depot.wait_counter("flight_readers_open", "==", 1)
        gate.open()
        assert "collapsed" in expect_body(again.result(), b"late").cache_status
    assert len(env.origin.requests()) == 1


@patient
def test_slow_clients_are_dropped(env):
    """client_timeout: no byte, half a header, a byte at times, silence between requests."""
    depot = env.depot(client_timeout="1s")

    def ends(*texts, read=0, trickle=None):
        with depot.conn() as conn:
            for text in texts:
                conn.send(text)
            for _ in range(read):
                response = conn.read_head()
                if response is None:
                    return      # its second was over before it asked
                conn.read_body(response)
            until = time.monotonic() + 12
            while trickle:
                conn.sock.settimeout(0.2)
                try:
                    data = conn.more()
                    break
                except socket.timeout:
                    assert time.monotonic() < until, "a header that trickles in has no deadline"
                    try:
                        conn.send(trickle)
                    except (BrokenPipeError, ConnectionResetError):
                        return
                except ConnectionResetError:
                    return
            else:
                data = b""
                while True:
                    try:
                        more = conn.more()
                    except ConnectionResetError:
                        return
                    if not more:
                        break
                    data += more
            assert data == b"" or b" 408 " in data.split(b"\r\n")[0], data
    half = make_request("/-/healthz")[:-2]
    together(lambda: ends(), lambda: ends(half), lambda: ends(make_request("/-/healthz"), read=1),
             lambda: ends(b"GET / HTTP/1.1\r\nX: ", trickle=b"a"))
    depot.wait_counter("client_timeouts_total", ">=", 1)


@patient
def test_client_that_stops_reading_is_dropped(env):
    """A write that makes no progress for client_timeout ends the connection."""
    body = Pattern(32 << 20)
    env.origin.serve("/x.deb", body)
    depot = env.new_depot()
    depot.use_file()
    depot.start()
    depot.fetch("http://cuda.example/x.deb", expect=body)
    depot.wait_idle()
    with depot.conn(receive_buffer=65536) as conn:
        conn.ask("http://cuda.example/x.deb")
        assert conn.read_head().status == 200
        # Only now: nobody else here is that quick on a busy machine.
        depot.reload(client_timeout="1s")
        assert "end=CLIENT_TIMEOUT" in depot.wait_access("x.deb", 2)[1]


def test_body_that_can_not_be_read_ahead(env):
    """The next bytes are on the disk, and no descriptor is left: cut, and not by the client."""
    body = Pattern(64 << 20)
    env.origin.serve("/x.deb", body)
    depot = env.depot()
    depot.fetch("http://cuda.example/x.deb", expect=body)
    depot.wait_idle()
    path, = depot.blob_paths()
    limit = resource.prlimit(depot.process.pid, resource.RLIMIT_NOFILE)
    with open(path, "rb") as blob, depot.conn() as conn:
        # The body is open, nobody reads it, its first part may be in memory, the rest is not.
        assert conn.get("http://cuda.example/x.deb", "Range: bytes=0-0").status == 206
        os.fsync(blob.fileno())
        os.posix_fadvise(blob.fileno(), len(body) // 4, 0, os.POSIX_FADV_DONTNEED)
        try:
            os.preadv(blob.fileno(), [bytearray(1)], len(body) - 1, os.RWF_NOWAIT)
            raise Skip("this file system keeps everything in memory")
        except BlockingIOError:
            pass
        resource.prlimit(depot.process.pid, resource.RLIMIT_NOFILE, (8, limit[1]))
        conn.ask("http://cuda.example/x.deb")
        assert conn.read_head().status == 200
        # Down to none, where others on this machine needed the memory.
        start = conn.read_exactly(len(body))
        assert start == body.slice(0, len(start)) and len(start) < len(body)
        resource.prlimit(depot.process.pid, resource.RLIMIT_NOFILE, limit)
    line = depot.wait_access("x.deb", 3)[2]
    assert "end=NO_DESCRIPTORS" in line, line
    counters = depot.counters()
    assert (counters["cut_answers_total"], counters["client_aborts_total"]) == (1, 0)


def test_no_descriptor_for_a_connection(env):
    """Clients wait until there are some again; the log says so once, not at every look."""
    depot = env.depot()
    limit = resource.prlimit(depot.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(depot.process.pid, resource.RLIMIT_NOFILE, (8, limit[1]))
    with depot.conn() as conn:
        conn.ask("/-/healthz")
        wait_until(lambda: "accept: Too many open files" in depot.log_text(), "the log says so")
        conn.sock.settimeout(0.5)
        try:
            raise AssertionError(f"there was one left: {conn.sock.recv(1)}")
        except TimeoutError:
            pass
        conn.sock.settimeout(45)
        resource.prlimit(depot.process.pid, resource.RLIMIT_NOFILE, limit)
        assert conn.read_head().status == 200
    assert depot.log_text().count("accept: Too many open files") == 1, depot.log_text()


def test_many_idle_connections(env):
    """Three hundred silent clients cost nobody an answer."""
    depot = env.depot()
    idle = [Conn(depot.port) for _ in range(300)]
    depot.wait_counter("connections_open", ">=", 300)
    assert depot.get("/-/healthz").body == b"ok\n"
    for conn in idle:
        conn.close()
    depot.wait_counter("connections_open", "<=", 2)
