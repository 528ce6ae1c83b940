# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""Trouble upstream: retried, resumed or told in words; never passed on as a wrong or clean end."""
import contextlib
import email.utils
import threading
import time

import ports
from aptlike import AptLike
from body import Pattern
from client import expect_body, expect_error
from depot import wait_until
from origin import Answer, redirect
from repo import forge_deb
from support import Later, heavy, patient, together

URL = "https://cuda.example/x.deb"
BODY = Pattern(1 << 20)
CUT_AT = 300000


def test_failure_before_the_answer_is_retried(env):
    """Closed, reset, garbage or 503, once or twice: the client sees 200."""
    bad = {
        "closed": Answer(drop="close"), "reset": Answer(drop="reset"),
        "garbage": Answer(raw=b"\x15\x03\x01\x00\x02\x02\x28 what is this\r\n\r\n"),
        "half-head": Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Le"),
        "503": Answer(b"busy\n", 503), "500": Answer(b"oops\n", 500), "502": Answer(b"", 502),
    }
    for name, answer in bad.items():
        for times in (1, 2):
            path = f"/{name}-{times}.deb"
            env.origin.serve(path, *[answer] * times, b"good")
    depot = env.depot()
    for name in bad:
        for times in (1, 2):
            path = f"/{name}-{times}.deb"
            expect_body(depot.fetch("https://cuda.example" + path), b"good")
            assert len(env.origin.requests(path)) == times + 1, path
    assert depot.counter("upstream_retries_total") >= 1


def test_failure_that_stays_is_told_in_words(env):
    """Three requests at most, however many idle connections there are, then an error with a body
    that apt takes for transient."""
    bad = {
        "closed": Answer(drop="close"), "reset": Answer(drop="reset"),
        "garbage": Answer(raw=b"what is this\r\n\r\n"), "503": Answer(b"", 503),
        "500": Answer(b"oops\n", 500),
    }
    for name, answer in bad.items():
        env.origin.serve(f"/{name}.deb", answer)
    gate = env.origin.gate()
    for n in range(6):
        env.origin.serve(f"/{n}.deb", Answer(b"good", gate=gate))
    depot = env.depot()
    idle = [Later(lambda n=n: depot.fetch(f"https://cuda.example/{n}.deb")) for n in range(6)]
    wait_until(lambda: len(env.origin.requests()) == 6, "six connections")
    gate.open()
    for reader in idle:
        expect_body(reader.result(), b"good")

    def ask(name):
        response = depot.fetch(f"https://cuda.example/{name}.deb")
        expect_error(response, 500, 502, 503, 504, words=["cuda.example"])
        assert 2 <= len(env.origin.requests(f"/{name}.deb")) <= 3, name
    together(*[lambda name=name: ask(name) for name in bad])
    for name in bad:
        env.origin.serve(f"/{name}.deb", b"good again")
        expect_body(depot.fetch(f"https://cuda.example/{name}.deb"), b"good again")


@patient
def test_client_errors_are_passed_on_and_not_kept(env):
    """404 stays exactly 404, asked once; it is forgotten within seconds, whatever its max-age."""
    for status in (404, 410, 403, 401, 451):
        env.origin.serve(f"/{status}.deb",
                         Answer(b"", status, headers=[("Cache-Control", "max-age=604800")]))
    depot = env.depot()
    for status in (404, 410, 403, 401, 451):
        path = f"/{status}.deb"
        expect_error(depot.fetch("https://cuda.example" + path), status)
        assert len(env.origin.requests(path)) == 1, path
        env.origin.serve(path, b"there now")
        wait_until(lambda: depot.fetch(f"https://cuda.example{path}").status == 200,
                   f"{status} is forgotten")


@patient
def test_retry_after_is_waited_for_once(env):
    """A short one: then the answer. Twice, or a long one: the client is told, by the depot alone."""
    depot = env.depot()
    def in_an_hour():
        return email.utils.formatdate(time.time() + 3600, usegmt=True)
    env.origin.serve("/cut.deb", Answer(BODY, stop_at=CUT_AT), BODY)
    expect_body(depot.fetch("https://cuda.example/cut.deb"), BODY)
    for n, (status, after, busy_n, asked, said) in enumerate((
            (429, "1", 1, 2, None), (503, "1", 1, 2, None), (503, "1", 9, 2, (1, 1)),
            (429, "20", 9, 1, (15, 20)), (503, "9999999", 9, 1, (3600, 3600)),
            (503, in_an_hour, 9, 1, (3580, 3600)), (429, "soon", 9, 1, None))):
        path, url = f"/{n}.deb", f"https://cuda.example/{n}.deb"
        after = after() if callable(after) else after
        busy = Answer(b"slow down", status, headers=[("Retry-After", after)])
        env.origin.serve(path, *[busy] * busy_n, b"data")
        response = depot.fetch(url)
        assert len(env.origin.requests(path)) == asked, path
        if busy_n == 1:
            expect_body(response, b"data")
            continue
        expect_error(response, status, words=["patience", "cuda.example"])
        assert "credentials" not in response.text
        assert (response.get("Retry-After") is None) == (said is None), response
        if said is None or said[0] < 10:
            continue
        assert said[0] <= int(response.get("Retry-After")) <= said[1]
        # It is not kept: who asks then learns what is true then.
        env.origin.serve(path, b"data")
        expect_body(depot.fetch(url), b"data")


def test_404_of_inrelease_is_404(env):
    """apt falls back from InRelease to Release, and from by-hash to the plain name, on 404 only."""
    depot = env.depot()
    for path in ("/repo/InRelease", "/dists/stable/InRelease", "/repo/Packages.gz",
                 "/dists/stable/main/binary-amd64/by-hash/SHA256/" + "a" * 64):
        expect_error(depot.fetch("https://cuda.example" + path), 404)


def test_cut_body_is_resumed(env):
    """Closed, reset or silent in the middle: the rest comes by Range, the client sees nothing."""
    depot = env.depot(read_timeout="1s")
    for how in ("close", "reset", "stall"):
        path = f"/{how}.deb"
        env.origin.serve(path, Answer(BODY, stop_at=CUT_AT, stop=how), BODY)
        expect_body(depot.fetch("https://cuda.example" + path), BODY)
        first, second = env.origin.requests(path)
        assert first.get("Range") is None
        start = int(second.get("Range")[len("bytes="):-1])
        assert 0 < start <= CUT_AT, second
        assert second.get("If-Range"), "a Range without If-Range may splice two versions"
        depot.wait_idle()
        response = expect_body(depot.fetch("https://cuda.example" + path), BODY)
        assert response.is_hit
    assert depot.counter("upstream_resumes_total") == 3


def test_body_cut_again_and_again_is_resumed(env):
    """Each try brings the body further: as many resumes as it takes."""
    cuts = [Answer(BODY, stop_at=at) for at in (100000, 250000, 400000, 550000, 700000)]
    env.origin.serve("/x.deb", *cuts, BODY)
    depot = env.depot()
    expect_body(depot.fetch(URL), BODY)
    assert env.origin.body_bytes() <= len(BODY) + 5 * 4096


def test_resume_goes_before_those_that_wait(env):
    """The connection of a body that broke is its own: newcomers don't make its clients wait."""
    gate, later = env.origin.gate(), env.origin.gate()
    env.origin.serve("/x.deb", Answer(BODY, gate=gate, held_at=CUT_AT, stop_at=CUT_AT), BODY)
    env.origin.serve("/next.deb", Answer(b"next", gate=later))
    depot = env.depot(upstream_connections=1)
    with depot.conn() as first, depot.conn() as second:
        first.ask("http://HTTPS///cuda.example/x.deb")
        gate.wait_for(1)
        second.ask("http://HTTPS///cuda.example/next.deb")
        depot.wait_counter("upstream_queued", "==", 1)
        gate.open()
        expect_body(first.read(), BODY)
        later.open()
        expect_body(second.read(), b"next")
    assert [r.path for r in env.origin.requests()] == ["/x.deb", "/x.deb", "/next.deb"]


def test_resume_where_the_origin_has_no_ranges(env):
    """A 200 from the start is compared with what is there and goes on behind it."""
    env.origin.serve("/x.deb", Answer(BODY, stop_at=CUT_AT, ranges=False),
                     Answer(BODY, ranges=False))
    depot = env.depot()
    expect_body(depot.fetch(URL), BODY)
    assert len(env.origin.requests("/x.deb")) == 2


def test_large_header_fields(env):
    """A page-long field is left out; what is over the limit is the upstream's mistake, in words."""
    depot = env.depot()
    for n in (60000, 70000, 110000):
        env.origin.serve(f"/{n}.deb", Answer(b"data", headers=[("Content-Policy", "y" * n)]))
        response = depot.fetch(f"https://cuda.example/{n}.deb")
        if n < 65536:
            assert expect_body(response, b"data").get("Content-Policy") is None
            continue
        expect_error(response, 502, words=["UP_GARBAGE", "cuda.example are too large", "65536 bytes"])


def test_part_that_is_all_of_it(env):
    """206 without being asked: taken where it is the whole, and kept; no part is."""
    depot = env.depot()
    for name, (first, last, total) in {"whole": (0, 999, 1000), "start": (0, 999, 2000),
                                       "end": (1000, 1999, 2000), "open": (0, 999, "*")}.items():
        env.origin.serve(f"/{name}.deb", Answer(raw=(
            "HTTP/1.1 206 Scripted\r\nContent-Length: 1000\r\n"
            f"Content-Range: bytes {first}-{last}/{total}\r\n\r\n").encode() + BODY.slice(0, 1000)))
        for _ in range(2):
            response = depot.fetch(f"https://cuda.example/{name}.deb")
            if name != "whole":
                expect_error(response, 502, words=["206"])
                continue
            expect_body(response, BODY.slice(0, 1000))
            assert response.get("Content-Range") is None
            depot.wait_idle()
    assert len(env.origin.requests("/whole.deb")) == 1


def test_odd_answers_to_a_resume(env):
    """Whatever comes once in place of the rest, it is asked for again."""
    total, rest = len(BODY), BODY.slice(CUT_AT, len(BODY))

    def part(content_range, data=rest, etag='ETag: "v1"\r\n'):
        return Answer(raw=(f"HTTP/1.1 206 Scripted\r\n{etag}Content-Length: {len(data)}\r\n"
                           f"Content-Range: {content_range}\r\n\r\n").encode() + data)
    odd = {"404": Answer(b"no", 404), "410": Answer(b"no", 410), "403": Answer(b"no", 403),
           "503": Answer(b"no", 503), "start": part(f"bytes 0-999/{total}", b"q" * 1000),
           "nothing": part("none"), "total": part(f"bytes {CUT_AT}-{total - 1}/*"),
           "validators": part(f"bytes {CUT_AT}-{total - 1}/{total}", etag=""),
           "encoded": Answer(BODY, etag='"v1"', headers=[("Content-Encoding", "gzip")])}
    depot = env.depot()
    for name, answer in odd.items():
        gate = env.origin.gate()
        env.origin.serve(f"/{name}.deb", Answer(BODY, etag='"v1"', gate=gate, held_at=CUT_AT,
                                                stop_at=CUT_AT), answer, Answer(BODY, etag='"v1"'))
        with depot.conn() as conn:
            conn.ask(f"http://HTTPS///cuda.example/{name}.deb")
            response = conn.read_head()
            start = conn.read_exactly(CUT_AT)
            gate.open()
            assert start + conn.read_exactly(total - CUT_AT) == BODY.bytes(), name
        assert 2 <= len(env.origin.requests(f"/{name}.deb")) <= 3, name


def test_two_versions_are_never_spliced(env):
    """The object changed between cut and resume: the client is cut, nothing is kept."""
    new = Pattern(1 << 20, seed=2)
    other = Answer(new, etag='"v2"', last_modified="Fri, 05 Jan 2024 00:00:00 GMT")
    ignores_if_range = Answer(new, etag='"v2"', last_modified="Fri, 05 Jan 2024 00:00:00 GMT")

    def answer_206(request):
        # A broken server: If-Range is ignored, the part is of the new version.
        request.fields = [f for f in request.fields if f[0].lower() != "if-range"]
        return ignores_if_range
    cases = {"whole": other, "part": answer_206,
             "other-size": Answer(Pattern((1 << 20) + 7, seed=2), etag='"v3"'),
             "gone": Answer(b"gone\n", 404)}
    for name, then in cases.items():
        env.origin.serve(f"/{name}.deb", Answer(BODY, stop_at=CUT_AT, etag='"v1"'), then)
    depot = env.depot()

    def check(name):
        with depot.conn() as conn:
            response = conn.get(f"http://HTTPS///cuda.example/{name}.deb")
            assert response.status == 200 and not response.complete, (name, response.status)
            assert len(response.body) <= CUT_AT, name
            assert response.body == BODY.slice(0, len(response.body)), f"{name}: spliced"
            assert conn.ended()
    together(*[lambda name=name: check(name) for name in cases])
    depot.wait_idle()
    for name in cases:
        env.origin.serve(f"/{name}.deb", Answer(new, etag='"v2"'))
        url = f"https://cuda.example/{name}.deb"
        # A 404 is remembered for up to a second.
        expect_body(wait_until(lambda: good_or_none(depot.fetch(url)), url), new)


def good_or_none(response):
    """A response that is no 404."""
    return response if response.status != 404 else None


@heavy(9)
@patient
def test_body_that_cannot_be_finished_ends_in_a_cut(env):
    """Upstream gone for good in the middle: a short body and a closed connection, never padding."""
    env.origin.serve("/x.deb", Answer(BODY, stop_at=CUT_AT), Answer(drop="close"))
    env.origin.serve("/chunked.deb", Answer(BODY, stop_at=CUT_AT, length="chunked", ranges=False),
                     Answer(drop="close"))
    # It announces more than there is, each time.
    env.origin.serve("/lying.deb", Answer(BODY.slice(0, CUT_AT), length=len(BODY), ranges=False))
    depot = env.depot()

    def check(path):
        with depot.conn() as conn:
            response = conn.get("http://HTTPS///cuda.example" + path)
            if response.status == 200:
                assert not response.complete and len(response.body) <= CUT_AT, path
                assert response.body == BODY.slice(0, len(response.body)), path
            else:
                expect_error(response, 502, 503, 504)
            assert response.status != 200 or conn.ended()
    # Over TLS an end without its goodbye is none.
    env.origin.serve("/close.deb", Answer(BODY, stop_at=CUT_AT, length="close", ranges=False))
    paths = ("/x.deb", "/chunked.deb", "/lying.deb", "/close.deb")
    together(*[lambda path=path: check(path) for path in paths])
    depot.wait_idle()
    for path in paths:
        env.origin.serve(path, BODY)
        expect_body(depot.fetch("https://cuda.example" + path), BODY)


@heavy(9)
@patient
def test_lying_lengths(env):
    """Two lengths, none that can be read, broken chunks: never a hit, never a clean short end."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-deb\r\n"
    cases = {
        "two-lengths": Answer(raw=head + b"Content-Length: 5\r\nContent-Length: 9\r\n\r\n12345"),
        "bad-length": Answer(raw=head + b"Content-Length: nine\r\n\r\n123456789"),
        "bad-chunk": Answer(raw=head + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\nzz\r\n"),
        "cut-chunk": Answer(raw=head + b"Transfer-Encoding: chunked\r\n\r\n9\r\n12345"),
        "no-last-chunk": Answer(raw=head + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n"),
    }
    for name, answer in cases.items():
        env.origin.serve(f"/{name}.deb", answer)
    depot = env.depot()

    def check(name):
        response = depot.fetch(f"https://cuda.example/{name}.deb")
        assert response.status >= 500 or not response.complete, f"{name}: {response}"
        if response.status != 200:
            expect_error(response, 500, 502, 503, 504)
    together(*[lambda name=name: check(name) for name in cases])
    depot.wait_idle()
    for name in cases:
        env.origin.serve(f"/{name}.deb", b"good")
        expect_body(depot.fetch(f"https://cuda.example/{name}.deb"), b"good")


def test_bytes_behind_the_announced_length_go_nowhere(env):
    """A body longer than announced ends where it was announced, or is refused; nobody else pays."""
    env.origin.serve("/long.deb", Answer(b"x" * 2000, length=1000))
    env.origin.serve("/next.deb", b"next")
    depot = env.depot()
    response = depot.fetch("https://cuda.example/long.deb")
    assert response.status >= 500 or response.body == b"x" * 1000, response
    expect_body(depot.fetch("https://cuda.example/next.deb"), b"next")


def test_bodies_without_a_length(env):
    """Chunked and close-delimited bodies arrive whole and are hits with a length afterwards."""
    for how in ("chunked", "close"):
        env.origin.serve(f"/{how}.deb", Answer(BODY, length=how))
    depot = env.depot()
    for how in ("chunked", "close"):
        url = f"https://cuda.example/{how}.deb"
        response = expect_body(depot.fetch(url), BODY)
        assert response.get("Content-Length") or response.get("Transfer-Encoding") == "chunked", \
            "apt takes a close-delimited body for a failure"
        depot.wait_idle()
        again = expect_body(depot.fetch(url), BODY)
        # Where a close-delimited body really ended nobody can know: it need not be kept.
        if how == "chunked":
            assert again.is_hit and again.get("Content-Length") == str(len(BODY)), again.fields


def test_body_that_ends_without_goodbye(env):
    """Over TLS that is a cut, and gone on with; not where an index says that it was all."""
    cut = Answer(BODY, length="close", stop_at=CUT_AT)
    depot = env.depot()
    for n, second in enumerate((Answer(BODY, length="close"), Answer(BODY),
                                Answer(BODY, length="close", ranges=False))):
        env.origin.serve(f"/{n}.deb", cut, second)
        expect_body(depot.fetch(f"https://cuda.example/{n}.deb"), BODY)
        assert len(env.origin.requests(f"/{n}.deb")) == 2
    cdn = env.flat_cdn(forge_deb("whole", "1", 200000), host="two.example")
    apt = AptLike(cdn, depot.port)
    apt.update()
    depot.wait_tables()
    path, data = apt.path_of("whole"), cdn.editions[0].debs["whole"].data
    for name in cdn.repo.names_of(cdn.repo.path_of("whole")):
        env.origin.serve(name, Answer(raw=b"HTTP/1.1 200 OK\r\n\r\n" + data, goodbye=False),
                         host=cdn.repo.host)
    expect_body(apt.get(path), data)
    assert len(cdn.requests(cdn.repo.path_of("whole"))) == 1


def test_interim_answers_are_swallowed(env):
    """100 and 103, one or several, before the head: the client sees 200 first."""
    for n, interim in enumerate([b"HTTP/1.1 100 Continue\r\n\r\n",
                                 b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n",
                                 b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"]):
        env.origin.serve(f"/{n}.deb", Answer(b"data", interim=interim))
    depot = env.depot()
    for n in range(3):
        response = expect_body(depot.fetch(f"https://cuda.example/{n}.deb"), b"data")
        assert response.get("Link") is None


def test_encoded_bodies_are_not_passed_to_apt(env):
    """A Content-Encoding nobody asked for is never given out as the object."""
    env.origin.serve("/x.deb", Answer(b"\x1f\x8b not really", headers=[("Content-Encoding",
                                                                       "gzip")]))
    depot = env.depot()
    response = depot.fetch(URL)
    assert response.status >= 500 or response.get("Content-Encoding") is None, response.fields
    for coding in ("gzip", "unheard-of"):
        env.origin.serve("/x.tgz", Answer(b"x", length="chunked",
                                          headers=[("Transfer-Encoding", coding)]))
        expect_error(depot.fetch("https://cuda.example/x.tgz"), 502, words=["Transfer-Encoding"])


def test_label_of_a_compressed_file(env):
    """Some origins call a .gz file x-gzip-encoded and send it as it is: so does the depot."""
    body = Pattern(300000)
    for coding, name in (("x-gzip", "Packages.gz"), ("gzip", "a.tgz"), ("zstd", "b.zst")):
        env.origin.serve(f"/{name}", Answer(body, headers=[("Content-Encoding", coding)]))
    depot = env.depot()
    for name in ("Packages.gz", "a.tgz", "b.zst"):
        response = expect_body(depot.fetch(f"https://cuda.example/{name}"), body)
        assert response.get("Content-Encoding") is None, name
    env.origin.serve("/c.xz", Answer(b"x", headers=[("Content-Encoding", "gzip")]))
    expect_error(depot.fetch("https://cuda.example/c.xz"), 502, words=["Content-Encoding"])


def test_bodies_that_say_nothing_are_not_waited_for(env):
    """A redirect or an error is what its head says, whenever the rest of it may come."""
    gate = env.origin.gate()
    moved = [("Location", "/real.deb")]
    env.origin.serve("/gone.deb", Answer(b"gone", 404, gate=gate, held_at=1))
    env.origin.serve("/moved.deb", Answer(b"moved", 302, headers=moved, gate=gate, held_at=1))
    env.origin.serve("/busy.deb", Answer(b"busy", 503, gate=gate, held_at=1), Answer(b"data"))
    env.origin.serve("/real.deb", b"data")
    depot = env.depot(read_timeout="60s")
    expect_error(depot.fetch("https://cuda.example/gone.deb"), 404)
    for name in ("moved", "busy"):
        expect_body(depot.fetch(f"https://cuda.example/{name}.deb"), b"data")
    gate.open()


def test_redirects_are_followed_inside(env):
    """Each status, relative and absolute targets, chains: a 200 under the URL that was asked."""
    env.origin.serve("/pool/real.deb", b"real")
    cases = {"absolute": ("https://mirror.example/pool/real.deb", "mirror.example"),
             "path": ("/pool/real.deb", "cuda.example"),
             "relative": ("pool/real.deb", "cuda.example"),
             "no-scheme": ("//mirror.example/pool/real.deb", "mirror.example"),
             "with-port": ("https://mirror.example:443/pool/real.deb", "mirror.example")}
    for name, (location, _) in cases.items():
        env.origin.serve(f"/{name}.deb", redirect(location))
    for status in (301, 302, 303, 307, 308):
        env.origin.serve(f"/{status}.deb",
                         Answer(b"", status, headers=[("Location", "/pool/real.deb")]))
    env.origin.serve("/one.deb", redirect("https://two.example/two.deb", 301))
    env.origin.serve("/two.deb", redirect("/three.deb", 307))
    env.origin.serve("/three.deb", redirect("//mirror.example/pool/real.deb"))
    depot = env.depot()
    for name, (_, host) in cases.items():
        before = len(env.origin.requests("/pool/real.deb"))
        expect_body(depot.fetch(f"https://cuda.example/{name}.deb"), b"real")
        request = env.origin.requests("/pool/real.deb")[before]
        assert (request.host, request.sni) == (host, host), (name, request, request.sni)
    for name in ("301", "302", "303", "307", "308", "one"):
        expect_body(depot.fetch(f"https://cuda.example/{name}.deb"), b"real")
    depot.wait_idle()
    before = len(env.origin.requests())
    for name in list(cases) + ["301", "one"]:
        assert expect_body(depot.fetch(f"https://cuda.example/{name}.deb"), b"real").is_hit
    assert len(env.origin.requests()) == before


def test_http_may_be_redirected_to_https(env):
    """Upwards is fine."""
    env.origin.serve("/x.deb", lambda r: b"data" if r.tls else redirect(URL))
    depot = env.depot()
    expect_body(depot.fetch("http://cuda.example/x.deb"), b"data")


def test_redirects_that_lead_nowhere(env):
    """Circles, endless chains, from https to http, other schemes, no target: an error in words."""
    env.origin.serve("/self.deb", redirect("/self.deb"))
    env.origin.serve("/a.deb", redirect("/b.deb"))
    env.origin.serve("/b.deb", redirect("/a.deb"))
    env.origin.serve("/down.deb", redirect("http://cuda.example/plain.deb"))
    env.origin.serve("/file.deb", redirect("file:///etc/passwd"))
    env.origin.serve("/ftp.deb", redirect("ftp://cuda.example/x"))
    env.origin.serve("/none.deb", Answer(b"", 302))
    for n in range(60):
        env.origin.serve(f"/chain{n}.deb", redirect(f"/chain{n + 1}.deb"))
    depot = env.depot()

    def check(name):
        expect_error(depot.fetch(f"https://cuda.example/{name}.deb"), 500, 502, 504, 508,
                     words=["redirect"])
    together(*[lambda name=name: check(name)
               for name in ("self", "a", "down", "file", "ftp", "none", "chain0")])
    assert not env.origin.requests("/plain.deb")
    assert not env.origin.requests("/chain40.deb")


def test_redirect_to_this_depot_is_refused(env):
    """It would wait for itself."""
    depot = env.depot()
    own = f"http://127.0.0.1:{depot.port}"
    env.origin.serve("/x.deb", redirect(own + "/HTTPS///cuda.example/x.deb"))
    expect_error(depot.fetch("http://cuda.example/x.deb"), 403, 502, 508)
    assert len(env.origin.requests()) == 1


def test_certificates_are_verified(env):
    """Expired, of another name, of an unknown CA: 502 in words, at once, asked once."""
    depot = env.depot()
    for host, word in (("expired.example", "expired"), ("wrong.example", "certificate"),
                       ("unknown.example", "certificate")):
        env.origin.serve("/x.deb", b"must not be served")
        response = depot.fetch(f"https://{host}/x.deb")
        expect_error(response, 502, words=["certificate", host, word])
    assert not env.origin.requests()


def test_no_ca_file_no_trust(env):
    """Without ca_file the test CA is unknown: nothing is reached."""
    env.origin.serve("/x.deb", b"must not be served")
    depot = env.depot(ca_file=None)
    expect_error(depot.fetch(URL), 502, words=["certificate"])


def test_unreachable_upstreams(env):
    """Refused, a name that does not exist: 502 or 504 in words that name the upstream, soon."""
    closed = ports.hold_port()
    depot = env.depot(connect_timeout="2s")
    started = time.monotonic()
    expect_error(depot.fetch(f"http://127.0.0.1:{closed}/x.deb"), 502, 504,
                 words=["127.0.0.1", "connect"])
    expect_error(depot.fetch("https://no-such-host.invalid/x.deb"), 502, 504,
                 words=["no-such-host.invalid"])
    assert time.monotonic() - started < 20


def test_closed_during_the_handshake(env):
    """It takes the ClientHello and hangs up: 502, and what that means."""
    with ports.listen() as sock:
        depot = env.depot(connect_to=f"cuda.example:443:127.0.0.1:{sock.getsockname()[1]}")

        def hang_up():
            with contextlib.suppress(OSError):
                while True:
                    conn = sock.accept()[0]
                    conn.recv(65536)
                    conn.close()
        threading.Thread(target=hang_up, daemon=True).start()
        expect_error(depot.fetch(URL), 502, words=["during the handshake", "firewall"])


@patient
def test_silent_upstream(env):
    """No head: 504 in words, with a length, in bounded time; the next client is not harmed."""
    gate = env.origin.gate()
    env.origin.serve("/x.deb", Answer(BODY, gate=gate))
    env.origin.serve("/y.deb", b"data")
    depot = env.depot(read_timeout="1s")
    started = time.monotonic()
    response = depot.fetch(URL)
    expect_error(response, 504, words=["cuda.example"])
    assert time.monotonic() - started < 10
    expect_body(depot.fetch("https://cuda.example/y.deb"), b"data")


@patient
def test_trickling_interim_answers_are_silence(env):
    """An upstream that sends nothing but 1xx does not keep a client waiting for ever."""
    def endless(_request):
        time.sleep(0.5)
        return Answer(drop="close", interim=b"")
    env.origin.serve("/x.deb", endless)
    depot = env.depot(read_timeout="1s")
    started = time.monotonic()
    expect_error(depot.fetch(URL), 502, 504)
    assert time.monotonic() - started < 15


@patient
def test_slow_head_after_one_timeout(env):
    """A time-out is tried once more, on a new connection."""
    env.origin.serve("/x.deb", Answer(BODY, gate=env.origin.gate()), BODY)
    depot = env.depot(read_timeout="1s")
    expect_body(depot.fetch(URL), BODY)
    first, second = env.origin.requests("/x.deb")
    assert first.connection != second.connection


def test_html_in_place_of_a_repository_file(env):
    """A login page with status 200 is refused, by its type or by its first bytes; not kept."""
    page = b"\n  <!DOCTYPE html><html><body>Please log in</body></html>\n"
    cases = {"/typed.deb": Answer(page, content_type="text/html; charset=utf-8"),
             "/untyped.deb": Answer(page), "/tag.deb": Answer(b"<HTML><body>"),
             "/repo/InRelease": Answer(page, content_type="text/html"),
             "/repo/Packages.gz": Answer(page), "/dists/s/main/binary-amd64/Packages.xz":
             Answer(page, content_type="text/html")}
    for path, answer in cases.items():
        env.origin.serve(path, answer)
    env.origin.serve("/readme.html", Answer(page, content_type="text/html"))
    depot = env.depot()
    for path in cases:
        expect_error(depot.fetch("https://cuda.example" + path), 502, words=["html"])
        env.origin.serve(path, b"good")
        expect_body(depot.fetch("https://cuda.example" + path), b"good")
    expect_body(depot.fetch("https://cuda.example/readme.html"), page)


def test_dead_idle_connections_are_not_noticed(env):
    """The origin closes its idle connections between two requests: no client sees it."""
    env.origin.serve("/1.deb", Answer(b"one", close=False))
    env.origin.serve("/2.deb", b"two")
    depot = env.depot()
    expect_body(depot.fetch("https://cuda.example/1.deb"), b"one")
    env.origin.stop()
    env.origin.start_again()
    expect_body(depot.fetch("https://cuda.example/2.deb"), b"two")


def test_upstream_connections_are_reused(env):
    """Many small objects one after the other need few connections."""
    for n in range(20):
        env.origin.serve(f"/{n}.deb", b"data")
    depot = env.depot()
    with depot.conn() as conn:
        for n in range(20):
            expect_body(conn.get(f"http://HTTPS///cuda.example/{n}.deb"), b"data")
    assert len({r.connection for r in env.origin.requests()}) <= 3


def test_an_authority_is_for_its_hosts(env):
    """What one section trusts, another host is not believed for, whoever was asked first."""
    for name in ("a.deb", "b.deb", "c.deb"):
        env.origin.serve("/" + name, b"data")
    unknown = env.certificates.file("unknown-ca.pem")
    depot = env.new_depot(ca_file=unknown)
    depot.sections = f'\n[upstream "cuda.example"]\nca_file = {env.certificates.ca}\n'
    depot.use_file()
    depot.start()
    expect_body(depot.fetch("https://cuda.example/a.deb"), b"data")
    expect_error(depot.fetch("https://one.example/a.deb"), 502, words=["ca_file"])
    expect_body(depot.fetch("https://unknown.example/b.deb"), b"data")
    expect_error(depot.fetch("https://one.example/b.deb"), 502, words=["ca_file"])
    expect_body(depot.fetch("https://cuda.example/c.deb"), b"data")
