# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""What is kept and when it is served: freshness by class, restarts, crashes, damage, eviction."""
import email.utils
import hashlib
import os
import shutil
import subprocess
import time

from body import Pattern
from client import expect_body, expect_error
from depot import wait_until
from origin import LAST_MODIFIED, Answer
from support import Later, heavy, patient

URL = "https://cuda.example/x.deb"
BODY = Pattern(1 << 20)
V2 = {"etag": '"v2"', "last_modified": "Fri, 05 Jan 2024 00:00:00 GMT"}
INDEXES = ["/repo/InRelease", "/repo/Release", "/repo/Release.gpg", "/repo/Packages.gz",
           "/repo/Packages", "/dists/s/InRelease", "/dists/s/main/binary-amd64/Packages.xz",
           "/dists/s/main/i18n/Translation-en.xz", "/dists/s/main/Contents-amd64.gz",
           "/dists/s/main/dep11/Components-amd64.yml.gz", "/dists/s/main/cnf/Commands-amd64.xz"]


def test_packages_are_hits_without_upstream_traffic(env):
    """The second request costs nothing, even with the origin gone."""
    env.origin.serve("/x.deb", BODY)
    depot = env.depot()
    expect_body(depot.fetch(URL), BODY)
    depot.wait_idle()
    before = depot.counters()
    env.origin.stop()
    for _ in range(3):
        assert expect_body(depot.fetch(URL), BODY).is_hit
    after = depot.counters()
    assert after["hits_total"] - before["hits_total"] == 3
    assert after["upstream_requests_total"] == before["upstream_requests_total"] == 1


def test_second_request_is_a_hit_however_soon(env):
    """Who asks when the body is whole gets a hit, also while its record is still being written."""
    depot = env.depot()
    for n in range(40):
        body = Pattern(1000 + 50000 * (n % 8), seed=n)
        env.origin.serve(f"/{n}.deb", body)
        first = expect_body(depot.fetch(f"https://cuda.example/{n}.deb"), body)
        second = expect_body(depot.fetch(f"https://cuda.example/{n}.deb"), body)
        assert "fwd=uri-miss; stored" in first.cache_status, first
        assert second.is_hit and second.get("Age") is not None, second
        assert "stored" not in second.cache_status and "collapsed" not in second.cache_status
    counters = depot.counters()
    assert counters["hits_total"] == counters["misses_total"] == 40 and not counters["joins_total"]


def test_indexes_are_revalidated(env):
    """Every class of index: a conditional request each time, 304, no body; then the new version."""
    for path in INDEXES:
        env.origin.serve(path, f"one {path}".encode())
    depot = env.depot()
    for path in INDEXES:
        url = "https://cuda.example" + path
        expect_body(depot.fetch(url, "Cache-Control: max-age=0"), f"one {path}")
        depot.wait_idle()
        response = expect_body(depot.fetch(url, "Cache-Control: max-age=0"), f"one {path}")
        first, second = env.origin.requests(path)
        assert first.get("If-None-Match") is None and first.get("If-Modified-Since") is None
        assert second.get("If-None-Match") or second.get("If-Modified-Since"), (path, second)
        assert "304" in response.cache_status or response.is_hit, response.cache_status
        env.origin.serve(path, Answer(f"two {path}", **V2))
        expect_body(depot.fetch(url, "Cache-Control: max-age=0"), f"two {path}")
    counters = depot.counters()
    assert counters["revalidated_total"] == len(INDEXES)


def test_index_with_a_date_only(env):
    """Without an ETag the date does."""
    env.origin.serve("/repo/InRelease", Answer(b"one", etag=None))
    depot = env.depot()
    for _ in range(2):
        expect_body(depot.fetch("https://cuda.example/repo/InRelease"), b"one")
        depot.wait_idle()
    assert env.origin.requests()[1].get("If-Modified-Since") == LAST_MODIFIED
    assert env.origin.body_bytes() == 3


def test_index_without_validators(env):
    """Fetched again in full; an If-Modified-Since of a client is answered with the object."""
    env.origin.serve("/repo/InRelease", Answer(b"one", etag=None, last_modified=None))
    depot = env.depot()
    for _ in range(2):
        now = email.utils.formatdate(usegmt=True)
        expect_body(depot.fetch("https://cuda.example/repo/InRelease", f"If-Modified-Since: {now}"),
                    b"one")
        depot.wait_idle()
    for request in env.origin.requests():
        assert request.get("If-None-Match") is None and request.get("If-Modified-Since") is None


def test_client_conditions_on_an_index(env):
    """The client's validators are compared with what upstream has now; one date is the object's."""
    env.origin.serve("/repo/InRelease", Answer(b"one", etag='"v1"'))
    depot = env.depot()
    url = "https://cuda.example/repo/InRelease"
    expect_body(depot.fetch(url, f"If-Modified-Since: {V2['last_modified']}"), b"one")
    depot.wait_idle()
    assert depot.fetch(url, f"If-Modified-Since: {LAST_MODIFIED}").status == 304
    assert depot.fetch(url, 'If-None-Match: "v1"').status == 304
    env.origin.serve("/repo/InRelease", Answer(b"two", **V2))
    expect_body(depot.fetch(url, f"If-Modified-Since: {LAST_MODIFIED}"), b"two")
    depot.wait_idle()
    # Back to an older one: not modified since is not the same as the same.
    env.origin.serve("/repo/InRelease", Answer(b"one", etag='"v1"'))
    expect_body(depot.fetch(url, f"If-Modified-Since: {V2['last_modified']}"), b"one")


def test_parallel_clients_share_a_revalidation(env):
    """Eight at the same time: one conditional request."""
    gate = env.origin.gate()
    env.origin.serve("/repo/InRelease", Answer(b"one"), Answer(b"one", gate=gate))
    depot = env.depot(revalidate_wait="20s")
    url = "https://cuda.example/repo/InRelease"
    depot.fetch(url)
    depot.wait_idle()
    readers = [Later(lambda: depot.fetch(url, "Cache-Control: max-age=0")) for _ in range(8)]
    gate.wait_for(1)
    depot.wait_counter("flight_readers_open", "==", 8)
    gate.open()
    for reader in readers:
        expect_body(reader.result(), b"one")
    assert len(env.origin.requests()) == 2


def test_new_version_reaches_parallel_clients(env):
    """The shared revalidation brings a new body: all get it."""
    gate, new = env.origin.gate(), Pattern(300000, seed=3)
    env.origin.serve("/repo/Packages", Answer(b"one"), Answer(new, gate=gate, held_at=1000, **V2))
    depot = env.depot(revalidate_wait="20s")
    url = "https://cuda.example/repo/Packages"
    depot.fetch(url)
    depot.wait_idle()
    readers = [Later(lambda: depot.fetch(url)) for _ in range(4)]
    depot.wait_counter("flight_readers_open", "==", 4)
    gate.open()
    for reader in readers:
        expect_body(reader.result(), new)
    assert len(env.origin.requests()) == 2


def test_index_max_age(env):
    """Within index_max_age no question is asked, but no-cache always asks."""
    env.origin.serve("/repo/InRelease", b"one")
    depot = env.depot(index_max_age="1h")
    url = "https://cuda.example/repo/InRelease"
    depot.fetch(url)
    depot.wait_idle()
    assert expect_body(depot.fetch(url, "Cache-Control: max-age=0"), b"one").is_hit
    assert len(env.origin.requests()) == 1
    expect_body(depot.fetch(url, "Cache-Control: no-cache"), b"one")
    assert len(env.origin.requests()) == 2


def test_stale_index_is_served_when_upstream_fails(env):
    """Gone, failing or answering nonsense: the last good version, marked, with a counter."""
    url = "https://cuda.example/repo/InRelease"
    env.origin.serve("/repo/InRelease", b"good")
    depot = env.depot(connect_timeout="2s")
    depot.fetch(url)
    depot.wait_idle()
    for n, answer in enumerate([Answer(b"busy\n", 503), Answer(drop="close"),
                                Answer(b"<html>log in", content_type="text/html", **V2)], 1):
        env.origin.serve("/repo/InRelease", answer)
        response = expect_body(depot.fetch(url, "Cache-Control: max-age=0"), b"good")
        assert "stale" in response.cache_status, response.cache_status
        assert depot.counter("stale_served_total") == n
    env.origin.stop()
    expect_body(depot.fetch(url, "Cache-Control: max-age=0"), b"good")


@patient
def test_silent_upstream_costs_revalidate_wait_once(env):
    """An index waits at most revalidate_wait, then the stale one is served; later ones less."""
    url = "https://cuda.example/repo/InRelease"
    env.origin.serve("/repo/InRelease", Answer(b"good"),
                     Answer(b"good", gate=env.origin.gate()))
    depot = env.depot(revalidate_wait="1s")
    depot.fetch(url)
    depot.wait_idle()
    started = time.monotonic()
    expect_body(depot.fetch(url, "Cache-Control: max-age=0"), b"good")
    took = time.monotonic() - started
    assert 0.9 <= took < 8, took
    for _ in range(3):
        expect_body(depot.fetch(url, "Cache-Control: max-age=0"), b"good")
    assert depot.counter("stale_served_total") == 4


def test_404_of_a_stored_index_is_believed(env):
    """The repository dropped the file: that is no failure of upstream."""
    env.origin.serve("/repo/InRelease", Answer(b"one"), Answer(b"no\n", 404))
    depot = env.depot()
    expect_body(depot.fetch("https://cuda.example/repo/InRelease"), b"one")
    depot.wait_idle()
    expect_error(depot.fetch("https://cuda.example/repo/InRelease"), 404)


def test_offline(env):
    """offline=yes: everything stored is a hit, nothing else is asked for."""
    for path in ("/repo/InRelease", "/x.deb"):
        env.origin.serve(path, b"data")
    depot = env.depot()
    for path in ("/repo/InRelease", "/x.deb"):
        depot.fetch("https://cuda.example" + path)
    depot.wait_idle()
    depot.options["offline"] = "yes"
    depot.restart()
    for path in ("/repo/InRelease", "/x.deb"):
        expect_body(depot.fetch("https://cuda.example" + path), b"data")
    expect_error(depot.fetch("https://cuda.example/other.deb"), 504, words=["offline"])
    assert len(env.origin.requests()) == 2


def hash_path(data, algorithm):
    """The by-hash path of some bytes."""
    digest = hashlib.new({"MD5Sum": "md5"}.get(algorithm, algorithm.lower()), data).hexdigest()
    return f"/dists/s/main/binary-amd64/by-hash/{algorithm}/{digest}"


def test_by_hash_is_checked_and_immutable(env):
    """Each algorithm: stored, then a hit for ever, even with max-age=0 as apt sends it."""
    data = Pattern(200000).bytes()
    depot = env.depot()
    for algorithm in ("SHA256", "SHA512", "SHA1", "MD5Sum"):
        path = hash_path(data, algorithm)
        env.origin.serve(path, data)
        expect_body(depot.fetch("https://deb.example" + path, "Cache-Control: max-age=0"), data)
        depot.wait_idle()
        response = depot.fetch("https://deb.example" + path, "Cache-Control: max-age=0")
        assert expect_body(response, data).is_hit
        assert len(env.origin.requests(path)) == 1


def test_by_hash_with_wrong_content(env):
    """Small or large, it never completes and is not kept; the right bytes are taken later."""
    depot = env.depot()
    sizes = (10, 65536, 300000)
    for n, size in enumerate(sizes, 1):
        data = Pattern(size).bytes()
        path = hash_path(data, "SHA256")
        url = "https://deb.example" + path
        env.origin.serve(path, data[:-1] + b"!")
        response = depot.fetch(url)
        if response.status == 200:
            assert not response.complete, f"{size}: wrong bytes were served as complete"
        else:
            expect_error(response, 404, 502, 503)
        depot.wait_idle()
        assert depot.counter("digest_mismatches_total") >= n
        assert depot.blob_paths() == []
    depot.stop()
    depot.start()
    for size in sizes:
        data = Pattern(size).bytes()
        path = hash_path(data, "SHA256")
        env.origin.serve(path, data)
        expect_body(depot.fetch("https://deb.example" + path), data)


OTHER = [
    # fields of the answer, is a second request a hit?, does it ask upstream conditionally?
    (["Cache-Control: max-age=1000"], True, None),
    (["Cache-Control: s-maxage=1000, max-age=0"], True, None),
    (["Cache-Control: public, max-age=1000", "Age: 10"], True, None),
    (["Cache-Control: max-age=1000", "Age: 2000"], False, True),
    (["Cache-Control: no-cache"], False, True),
    (["Cache-Control: max-age=0, must-revalidate"], False, True),
    (["Cache-Control: no-store"], False, False),
    (["Cache-Control: private"], False, False),
    (["Cache-Control: max-age=1000", "Vary: Cookie"], False, None),
    (["Cache-Control: max-age=1000", "Vary: Accept-Encoding"], True, None),
    (["Expires: Thu, 01 Jan 1970 00:00:00 GMT"], False, True),
    (["Expires: 0"], False, True),
]


def test_other_files_follow_their_fields(env):
    """Keys, .run files and the like: Cache-Control, Expires, Age and Vary are obeyed."""
    for n, (fields, _, _) in enumerate(OTHER):
        env.origin.serve(f"/{n}.run", Answer(b"data", headers=[
            tuple(field.split(": ", 1)) for field in fields]))
    depot = env.depot()
    for n, (fields, hit, conditional) in enumerate(OTHER):
        for _ in range(2):
            expect_body(depot.fetch(f"https://cuda.example/{n}.run"), b"data")
            depot.wait_idle()
        requests = env.origin.requests(f"/{n}.run")
        assert len(requests) == (1 if hit else 2), f"{fields}: {len(requests)} requests"
        if conditional is not None:
            assert bool(requests[-1].get("If-None-Match")) == conditional, fields


def test_keys_and_lists_of_sources_are_looked_at_again(env):
    """They may change any day: asked for each time, unless the origin says how long they are good."""
    names = ("3bf863cc.pub", "cuda.pin", "key.asc", "ring.gpg", "cuda.list", "cuda.repo", "gpgkey", "")
    depot = env.depot()
    for name in names:
        url = "https://cuda.example/x/" + name
        for body in (b"old", b"new"):
            env.origin.serve("/x/" + name, Answer(body, etag=f'"{body}"'))
            expect_body(depot.fetch(url), body)
            depot.wait_idle()
        assert "fwd-status=304" in expect_body(depot.fetch(url), b"new").cache_status
        env.origin.serve("/x/" + name, Answer(b"new", headers=[("Cache-Control", "max-age=99")]))
        depot.fetch(url, "Cache-Control: no-cache")
        depot.wait_idle()
        assert expect_body(depot.fetch(url), b"new").is_hit
    env.origin.stop()
    assert expect_body(depot.fetch("https://cuda.example/x/key.asc"), b"new").is_hit


def test_clients_that_send_no_cache_get_the_last_good_one_too(env):
    """Acquire::http::No-Cache asks for a check, and not for an error where the check fails."""
    paths = ["/repo/InRelease", "/repo/Packages.gz", "/repo/x.deb", "/x.run"]
    for path in paths:
        env.origin.serve(path, path.encode())
    depot = env.depot()
    for path in paths:
        expect_body(depot.fetch("https://cuda.example" + path, "Cache-Control: no-cache"), path)
    depot.wait_idle()
    for path in paths:
        env.origin.serve(path, Answer(b"busy", 503))
    for path in paths[:3]:
        url = "https://cuda.example" + path
        response = expect_body(depot.fetch(url, "Cache-Control: no-cache"), path)
        assert "stale-if-error" in response.cache_status, response
        assert env.origin.requests(path)[-1].get("Cache-Control") == "no-cache"
    expect_error(depot.fetch("https://cuda.example/x.run", "Cache-Control: no-cache"), 503)
    names = [name.lower() for name, _ in env.origin.requests("/x.run")[-1].fields]
    assert names.count("cache-control") == 1, names


def test_private_package_that_no_index_names(env):
    """It is for its client alone, as any other file; one that an index lists is for all."""
    digest = hashlib.sha256(b"data").hexdigest()
    packages = (f"Package: x\nVersion: 1\nArchitecture: amd64\nFilename: ./x.deb\nSize: 4\n"
                f"SHA256: {digest}\n").encode()
    env.origin.serve("/repo/Packages", packages)
    env.origin.serve("/repo/InRelease",
                     "Origin: x\nDate: Mon, 23 Nov 2026 10:00:00 UTC\nSHA256:\n"
                     f" {hashlib.sha256(packages).hexdigest()} {len(packages)} Packages\n".encode())
    env.origin.serve("/repo/x.deb", Answer(b"data", headers=[("Cache-Control", "no-store")]))
    for field in ("private", "no-store"):
        env.origin.serve(f"/{field}.deb", Answer(b"data", headers=[("Cache-Control", field)]))
    depot = env.depot()
    for field in ("private", "no-store"):
        for _ in range(3):
            response = expect_body(depot.fetch(f"https://cuda.example/{field}.deb"), b"data")
            assert not response.is_hit and "stored" not in response.cache_status, response
            depot.wait_idle()
        assert len(env.origin.requests(f"/{field}.deb")) == 3
    assert depot.blob_paths() == []
    for name in ("InRelease", "Packages"):
        assert depot.fetch("https://cuda.example/repo/" + name).status == 200
    depot.wait_tables()
    for hit in (False, True):
        assert expect_body(depot.fetch("https://cuda.example/repo/x.deb"), b"data").is_hit == hit


def test_confirmed_is_fresh_at_once(env):
    """What a 304 says holds for the next request, though nothing was written down yet."""
    env.origin.serve("/x.run", Answer(b"data", headers=[("Cache-Control", "max-age=0")]),
                     Answer(b"data", headers=[("Cache-Control", "max-age=1000")]))
    depot = env.depot(workers="1")
    url = "https://cuda.example/x.run"
    expect_body(depot.fetch(url), b"data")
    depot.wait_idle()
    commits = depot.counter("index_commits_total")
    assert not expect_body(depot.fetch(url), b"data").is_hit
    while depot.counter("index_commits_total") == commits and depot.counter("hits_total") < 20:
        assert expect_body(depot.fetch(url), b"data").is_hit
    assert len(env.origin.requests("/x.run")) == 2


def test_private_answers_are_not_given_to_waiting_clients(env):
    """Two wait for one answer; it turns out to be private: the second fetches for itself."""
    gate = env.origin.gate()
    answers = iter(range(100))

    def answer(_request):
        n = next(answers)
        return Answer(f"private {n}".encode(), gate=gate, etag=f'"{n}"',
                      headers=[("Cache-Control", "private")])
    env.origin.serve("/x.run", answer)
    depot = env.depot()
    readers = [Later(lambda: depot.fetch("https://cuda.example/x.run")) for _ in range(3)]
    depot.wait_counter("flight_readers_open", ">=", 3)
    gate.open()
    bodies = {reader.result().body for reader in readers}
    assert len(bodies) == 3, bodies


def test_equal_bytes_are_stored_once(env):
    """Two URLs with the same content share one body file."""
    for n in range(3):
        env.origin.serve(f"/{n}.deb", BODY)
    depot = env.depot()
    for n in range(3):
        expect_body(depot.fetch(f"https://cuda.example/{n}.deb"), BODY)
    depot.wait_idle()
    assert len(depot.blob_paths()) == 1
    path, = depot.blob_paths()
    assert os.path.basename(path) == BODY.sha256(), "a body is named by its SHA256"


def test_stored_objects_survive_a_restart(env):
    """Hits without upstream after an orderly stop."""
    for n in range(20):
        env.origin.serve(f"/{n}.deb", Pattern(10000 * n, seed=n))
    depot = env.depot()
    for n in range(20):
        depot.fetch(f"https://cuda.example/{n}.deb")
    depot.wait_idle()
    depot.restart()
    env.origin.stop()
    for n in range(20):
        assert expect_body(depot.fetch(f"https://cuda.example/{n}.deb"),
                           Pattern(10000 * n, seed=n)).is_hit


def test_stored_objects_survive_a_kill(env):
    """SIGKILL right after the object was committed: a hit, byte for byte."""
    env.origin.serve("/x.deb", BODY)
    depot = env.depot()
    for _ in range(3):
        expect_body(depot.fetch(URL), BODY)
        depot.wait_idle()
        depot.kill()
        depot.start()
    assert expect_body(depot.fetch(URL), BODY).is_hit
    assert len(env.origin.requests()) == 1


def start_of(request):
    """Where a resumed request begins."""
    return int(request.get("Range")[len("bytes="):].split("-")[0])


def test_fetch_is_resumed_after_a_kill(env):
    """Killed in the middle of 12 MiB: the same URL goes on from what is proven, byte for byte."""
    body = Pattern(12 << 20)
    env.origin.serve("/x.deb", Answer(body, gate=env.origin.gate(), held_at=10 << 20), body)
    depot = env.depot()
    with depot.conn() as conn:
        conn.ask("http://HTTPS///cuda.example/x.deb")
        conn.read_head()
        assert conn.read_exactly(10 << 20) == body.slice(0, 10 << 20)
        depot.wait_counter("partial_marks_total", ">=", 1)
        depot.kill()
        assert conn.ended()
    depot.start()
    assert not depot.blob_paths(), "a half-fetched object became a body"
    expect_body(depot.fetch(URL), body)
    _, second = env.origin.requests("/x.deb")
    assert second.get("If-Range"), "a resume needs proof"
    assert 1 << 20 <= start_of(second) <= 10 << 20, second
    counters = depot.counters()
    assert counters["partials_resumed_total"] == 1
    assert counters["partial_bytes_reused_total"] == start_of(second)
    depot.wait_idle()
    assert expect_body(depot.fetch(URL), body).is_hit


@patient
def test_fetch_is_resumed_after_an_orderly_stop(env):
    """SIGTERM in the middle: ends in time, keeps the partial."""
    body = Pattern(12 << 20)
    env.origin.serve("/x.deb", Answer(body, gate=env.origin.gate(), held_at=10 << 20), body)
    depot = env.depot()
    with depot.conn() as conn:
        conn.ask("http://HTTPS///cuda.example/x.deb")
        conn.read_head()
        conn.read_exactly(10 << 20)
        depot.wait_counter("partial_marks_total", ">=", 1)
        depot.stop()
    depot.start()
    expect_body(depot.fetch(URL), body)
    assert start_of(env.origin.requests("/x.deb")[1]) >= 1 << 20


def resumed_at(request):
    """Where a request begins that may be for the whole."""
    return start_of(request) if request.get("Range") else 0


def marks_before(at):
    """How many of the journal's marks lie before this byte: at 1, 2, 4, 8 MiB, then every 8."""
    mib = 1 << 20
    return sum(mark <= at for mark in [mib, 2 * mib, 4 * mib] + list(range(8 * mib, at + 1, 8 * mib)))


def kill_at(env, depot, body, path, at):
    """The depot is killed when its client had `at` bytes and the journal all that can be known."""
    gate = env.origin.gate()
    env.origin.serve(path, Answer(body, gate=gate, held_at=at), body)
    before = depot.counter("partial_marks_total")       # of what was fetched since it started
    with depot.conn() as conn:
        conn.ask("http://HTTPS///cuda.example" + path)
        conn.read_head()
        assert conn.read_exactly(at) == body.slice(0, at)
        depot.wait_counter("partial_marks_total", ">=", before + marks_before(at))
        depot.kill()
    depot.start()


def test_kill_at_every_stage_of_the_journal(env):
    """Before the first mark, on it, between two, at the last byte: continued, and right."""
    mib = 1 << 20
    body = Pattern(20 * mib)
    depot = env.depot()
    for at, least in ((500000, 0), (mib, 1), (mib + 1, 1), (5 * mib, 4), (9 * mib, 8),
                      (20 * mib - 1, 16)):
        path = f"/{at}.deb"
        kill_at(env, depot, body, path, at)
        url = "https://cuda.example" + path
        assert depot.fetch(url, expect=body).complete
        again = env.origin.requests(path)[1]
        assert least * mib <= resumed_at(again) <= at, (at, again)
        assert (resumed_at(again) == 0) == (again.get("If-Range") is None)
        depot.wait_idle()
        assert depot.fetch(url, expect=body).is_hit


def test_kill_after_the_last_byte(env):
    """The client has everything, the index perhaps not: whole or continued, never damaged."""
    body = Pattern(20 << 20)
    depot = env.depot()
    for n in range(4):
        path = f"/{n}.deb"
        env.origin.serve(path, body)
        assert depot.fetch("https://cuda.example" + path, expect=body).complete
        depot.kill()
        depot.start()
        assert depot.fetch("https://cuda.example" + path, expect=body).complete
        depot.wait_idle()
        assert depot.fetch("https://cuda.example" + path, expect=body).is_hit
        assert len(env.origin.requests(path)) <= 2


@heavy(8)
def test_killed_again_and_again(env):
    """Each time it goes on from where it was, and only what follows the last mark comes twice."""
    mib = 1 << 20
    body = Pattern(40 * mib)
    gate = env.origin.gate()
    stops = [9 * mib, 18 * mib, 27 * mib]
    env.origin.serve("/x.deb", *[Answer(body, gate=gate, held_at=at) for at in stops], body)
    depot = env.depot()
    starts = [0]
    for n, have in enumerate(stops):
        with depot.conn() as conn:
            conn.ask("http://HTTPS///cuda.example/x.deb")
            conn.read_head()
            starts.append(resumed_at(env.origin.requests("/x.deb")[n]))
            assert conn.read_exactly(have) == body.slice(0, have)
            depot.wait_counter("partial_marks_total", ">=",
                               marks_before(have) - marks_before(starts[-1]))
            depot.kill()
        depot.start()
    assert depot.fetch(URL, expect=body).complete
    starts.append(resumed_at(env.origin.requests("/x.deb")[3]))
    assert starts[-1] >= 8 * mib and starts == sorted(starts), starts
    depot.wait_idle()
    assert depot.fetch(URL, expect=body).is_hit


def test_stall_in_the_middle_is_resumed(env):
    """An origin that falls silent: a new connection goes on where it stopped."""
    body = Pattern(4 << 20)
    env.origin.serve("/x.deb", Answer(body, stop_at=3 << 20, stop="stall"), body)
    depot = env.depot(read_timeout="1s")
    assert depot.fetch(URL, expect=body).complete
    assert start_of(env.origin.requests("/x.deb")[1]) > 1 << 20


def test_torn_partials(env):
    """What a power cut may leave of an unfinished body: shorter, holes, longer, or gone."""
    mib = 1 << 20
    body = Pattern(20 * mib)

    def shorten(path):
        os.truncate(path, 5 * mib)

    def punch(path):
        with open(path, "r+b") as file:
            file.seek(6 * mib)
            file.write(b"\0" * 4096)

    def lengthen(path):
        os.truncate(path, 30 * mib)

    def empty(path):
        os.truncate(path, 0)
    depot = env.depot()
    for n, (tear, most) in enumerate(((shorten, 5), (punch, 6), (lengthen, 18), (empty, 0),
                                      (os.unlink, 0))):
        path = f"/{n}.deb"
        kill_at(env, depot, body, path, 18 * mib)
        depot.kill()
        name, = depot.partial_names()
        tear(os.path.join(depot.cache_dir, "partial", name))
        depot.start()
        assert depot.fetch("https://cuda.example" + path, expect=body).complete
        assert resumed_at(env.origin.requests(path)[1]) <= most * mib
        depot.wait_idle()
        assert depot.fetch("https://cuda.example" + path, expect=body).is_hit


def test_partial_of_another_version_is_not_continued(env):
    """Between kill and restart the object changed: everything is fetched anew."""
    body, new = Pattern(12 << 20), Pattern(12 << 20, seed=2)
    env.origin.serve("/x.deb", Answer(body, gate=env.origin.gate(), held_at=10 << 20, etag='"v1"'),
                     Answer(new, **V2))
    depot = env.depot()
    with depot.conn() as conn:
        conn.ask("http://HTTPS///cuda.example/x.deb")
        conn.read_head()
        conn.read_exactly(10 << 20)
        depot.wait_counter("partial_marks_total", ">=", 1)
        depot.kill()
    depot.start()
    expect_body(depot.fetch(URL), new)
    depot.wait_idle()
    assert expect_body(depot.fetch(URL), new).is_hit


def test_damaged_partial_is_not_continued(env):
    """Bytes of the partial rotted while the daemon was down: they are not believed."""
    body = Pattern(12 << 20)
    env.origin.serve("/x.deb", Answer(body, gate=env.origin.gate(), held_at=10 << 20), body)
    depot = env.depot()
    with depot.conn() as conn:
        conn.ask("http://HTTPS///cuda.example/x.deb")
        conn.read_head()
        conn.read_exactly(10 << 20)
        depot.wait_counter("partial_marks_total", ">=", 1)
        depot.kill()
    directory = os.path.join(depot.cache_dir, "partial")
    for name in os.listdir(directory):
        with open(os.path.join(directory, name), "r+b") as file:
            file.seek(100000)
            file.write(b"rotten")
    depot.start()
    expect_body(depot.fetch(URL), body)


def damage_index(depot):
    """Overwrites the index with noise, as a dying disk does."""
    path = os.path.join(depot.cache_dir, "index", "data.mdb")
    size = os.path.getsize(path)
    with open(path, "r+b") as file:
        for at in range(0, size, 4096):
            file.seek(at)
            file.write(Pattern(min(2048, size - at), seed=9).bytes())


def test_damaged_index_is_set_aside(env):
    """After a clean stop and after a kill: starts, says so, serves, and keeps working."""
    env.origin.serve("/x.deb", BODY)
    depot = env.depot()
    for how in (depot.stop, depot.kill):
        expect_body(depot.fetch(URL), BODY)
        depot.wait_idle()
        how()
        damage_index(depot)
        depot.start()
        expect_body(depot.fetch(URL), BODY)
        depot.wait_idle()
        assert expect_body(depot.fetch(URL), BODY).is_hit
        assert "index" in depot.log_text()
    assert any(name.startswith("index.damaged") for name in os.listdir(depot.cache_dir))


def test_missing_index(env):
    """The directory is gone, or only the file: made again."""
    env.origin.serve("/x.deb", BODY)
    depot = env.depot()
    expect_body(depot.fetch(URL), BODY)
    depot.wait_idle()
    for path in ("index", "index/data.mdb"):
        depot.stop()
        path = os.path.join(depot.cache_dir, path)
        shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
        depot.start()
        expect_body(depot.fetch(URL), BODY)
        depot.wait_idle()


def test_truncated_index(env):
    """Cut to nothing, to half a page, to half."""
    env.origin.serve("/x.deb", BODY)
    depot = env.depot()
    for size in (0, 2048, 4096 * 3):
        expect_body(depot.fetch(URL), BODY)
        depot.wait_idle()
        depot.stop()
        os.truncate(os.path.join(depot.cache_dir, "index", "data.mdb"), size)
        depot.start()
    expect_body(depot.fetch(URL), BODY)


def test_missing_and_damaged_bodies_are_misses(env):
    """Removed, cut short, grown, rotted, replaced by a directory: good bytes, fetched again."""
    def remove(path):
        os.remove(path)

    def cut(path):
        os.truncate(path, 1000)

    def grow(path):
        with open(path, "ab") as file:
            file.write(b"more")

    def rot(path):
        with open(path, "r+b") as file:
            file.seek(500000)
            file.write(b"rotten")

    def replace(path):
        os.remove(path)
        os.mkdir(path)
    env.origin.serve("/x.deb", BODY)
    depot = env.depot()
    expect_body(depot.fetch(URL), BODY)
    for n, harm in enumerate((remove, cut, grow, rot, replace), 1):
        depot.wait_idle()
        depot.stop()
        for path in depot.blob_paths():
            harm(path)
        depot.start()
        response = depot.fetch(URL)
        expect_body(response, BODY)
        assert len(env.origin.requests()) == n + 1, f"{harm.__name__}: {response.cache_status}"
    depot.wait_idle()
    expect_body(depot.fetch(URL), BODY)


def test_vanished_directories_are_made_again(env):
    """Somebody emptied the cache directory while the daemon was down, or even while it runs."""
    env.origin.serve("/x.deb", BODY)
    env.origin.serve("/y.deb", BODY)
    depot = env.depot()
    depot.fetch(URL)
    depot.wait_idle()
    for name in ("blobs", "partial"):
        shutil.rmtree(os.path.join(depot.cache_dir, name))
    expect_body(depot.fetch("https://cuda.example/y.deb"), BODY)
    depot.stop()
    shutil.rmtree(depot.cache_dir)
    depot.start()
    expect_body(depot.fetch(URL), BODY)


def test_cache_directory_removed_under_the_daemon(env):
    """Serving goes on, the log says once what to do, and it stops as it should."""
    env.origin.serve("/x.deb", BODY)
    env.origin.serve("/y.deb", BODY)
    depot = env.depot()
    expect_body(depot.fetch(URL), BODY)
    depot.wait_idle()
    shutil.rmtree(depot.cache_dir)
    for _ in range(2):
        expect_body(depot.fetch("https://cuda.example/y.deb"), BODY)
    depot.wait_log("cache_dir was removed", "restart the depot")
    assert depot.log_text().count("cache_dir was removed") == 1
    depot.restart()
    expect_body(depot.fetch(URL), BODY)


def test_index_removed_under_the_daemon(env):
    """The log says so once, status as long as it lasts; put back, or made anew by a restart."""
    env.origin.serve("/x.deb", BODY)
    env.origin.serve("/y.deb", Pattern(5000, seed=5))
    env.origin.serve("/z.deb", Pattern(6000, seed=6))
    depot = env.depot()
    expect_body(depot.fetch(URL), BODY)
    depot.wait_idle()
    assert depot.counter("index_lost") == 0
    index, away = (os.path.join(depot.cache_dir, name) for name in ("index", "away"))
    os.rename(index, away)
    expect_body(depot.fetch("https://cuda.example/y.deb"), Pattern(5000, seed=5))
    depot.wait_counter("index_lost", "==", 1)
    depot.wait_log(f"{depot.cache_dir}/index was removed or replaced", "restart")
    assert "cache_dir/index removed: restart" in depot.command("status")
    os.rename(away, index)
    expect_body(depot.fetch("https://cuda.example/z.deb"), Pattern(6000, seed=6))
    depot.wait_counter("index_lost", "==", 0)
    depot.restart()
    for path, body in (("x", BODY), ("y", Pattern(5000, seed=5)), ("z", Pattern(6000, seed=6))):
        expect_body(depot.fetch(f"https://cuda.example/{path}.deb"), body)
        assert len(env.origin.requests(f"/{path}.deb")) == 1
    shutil.rmtree(index)
    os.mkdir(index)
    env.origin.serve("/new.deb", Pattern(7000, seed=7))
    expect_body(depot.fetch("https://cuda.example/new.deb"), Pattern(7000, seed=7))
    depot.wait_counter("index_lost", "==", 1)
    blobs = len(depot.blob_paths())
    depot.restart()
    depot.wait_counter("cache_blobs", "==", blobs)
    assert depot.counter("index_lost") == 0


def test_files_that_are_not_ours_are_left_alone(env):
    """A stray file in the cache directory is neither served nor removed."""
    depot = env.depot()
    strays = [os.path.join(depot.cache_dir, name)
              for name in ("README", "blobs/notes.txt", "partial/notes.txt")]
    for path in strays:
        with open(path, "w", encoding="ascii") as file:
            file.write("mine")
    depot.kill()
    depot.start()
    depot.restart()
    for path in strays:
        assert os.path.exists(path), path


def wait_next_second():
    """Use times have a resolution of a second: makes sure that the next one differs."""
    now = int(time.time())
    wait_until(lambda: int(time.time()) > now, "the clock")


@heavy(4)
@patient
def test_least_recently_used_goes_first(env):
    """Over cache_max the object that was not used longest goes, and it alone."""
    for n in range(6):
        env.origin.serve(f"/{n}.deb", Pattern(1 << 20, seed=n))
    depot = env.depot(cache_max="5200K", cache_min_free=0)
    for n in range(5):
        depot.fetch(f"https://cuda.example/{n}.deb")
        depot.wait_idle()
        if n in (0, 1):
            wait_next_second()
    wait_next_second()
    assert depot.fetch("https://cuda.example/0.deb").is_hit
    depot.fetch("https://cuda.example/5.deb")
    depot.wait_counter("blobs_evicted_total", ">=", 1)
    depot.wait_counter("cache_bytes", "<=", 5200 << 10)
    depot.wait_idle()
    env.origin.forget()
    assert expect_body(depot.fetch("https://cuda.example/0.deb"), Pattern(1 << 20, seed=0)).is_hit
    assert expect_body(depot.fetch("https://cuda.example/5.deb"), Pattern(1 << 20, seed=5)).is_hit
    expect_body(depot.fetch("https://cuda.example/1.deb"), Pattern(1 << 20, seed=1))
    assert [r.path for r in env.origin.requests()] == ["/1.deb"]


def test_body_being_read_is_not_harmed_by_eviction(env):
    """A slow reader keeps its object whole however much comes after."""
    big = Pattern(24 << 20)
    env.origin.serve("/big.deb", big)
    for n in range(12):
        env.origin.serve(f"/{n}.deb", Pattern(4 << 20, seed=n))
    depot = env.depot(cache_max="30M", cache_min_free=0)
    with depot.conn(receive_buffer=65536) as slow:
        slow.ask("http://cuda.example/big.deb")
        response = slow.read_head()
        slow.read_exactly(1000)
        for n in range(12):
            depot.fetch(f"http://cuda.example/{n}.deb", expect=Pattern(4 << 20, seed=n))
            depot.wait_idle()       # or the next one finds no room, and passes
        depot.wait_counter("blobs_evicted_total", ">=", 1)
        rest = slow.read_exactly(len(big) - 1000)
        assert rest == big.slice(1000, len(big)), len(rest)
        assert response.get("Content-Length") == str(len(big))


@patient
def test_nothing_is_kept_without_a_budget(env):
    """cache_max=0 serves, and does not pile up."""
    for n in range(5):
        env.origin.serve(f"/{n}.deb", BODY)
    depot = env.depot(cache_max=0, cache_min_free=0)
    for n in range(5):
        expect_body(depot.fetch(f"https://cuda.example/{n}.deb"), BODY)
    depot.wait_idle()
    depot.wait_counter("cache_bytes", "==", 0)
    assert not depot.blob_paths()


def test_full_disk_costs_storing_not_the_daemon(env):
    """Files may grow to 4 MiB only: what does not fit fails or is cut, the rest is served."""
    env.origin.serve("/small.deb", Pattern(100000))
    env.origin.serve("/large.deb", Pattern(8 << 20))
    depot = env.new_depot()
    depot.file_limit = 4 << 20
    depot.start()
    expect_body(depot.fetch("https://cuda.example/small.deb"), Pattern(100000))
    response = depot.fetch("https://cuda.example/large.deb")
    if response.status == 200:
        assert response.body == Pattern(8 << 20).slice(0, len(response.body))
    else:
        expect_error(response, 503, 507)
    depot.wait_idle()
    assert depot.counter("store_failures_total") >= 1
    expect_body(depot.fetch("https://cuda.example/small.deb"), Pattern(100000))
    env.origin.serve("/other.deb", Pattern(100001))
    expect_body(depot.fetch("https://cuda.example/other.deb"), Pattern(100001))


def test_real_full_disk(env):
    """A file system of 12 MiB: what fits is kept, the rest is served from memory, nothing is wrong."""
    disk = os.path.join(env.path, "disk")
    os.makedirs(disk)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", disk],
                      capture_output=True, check=False).returncode != 0:
        return  # not allowed to mount here: the test above has to do
    try:
        depot = env.new_depot(cache_dir=os.path.join(disk, "cache"), cache_min_free="0",
                              cache_max="1G")
        depot.start()
        for size in (100000, 40 << 20, 200000, 3 << 20):
            env.origin.serve(f"/{size}.deb", Pattern(size))
            expect_body(depot.fetch(f"https://cuda.example/{size}.deb"), Pattern(size))
            depot.wait_idle()
        assert depot.counter("store_failures_total") == 1
        before = len(env.origin.requests())
        expect_body(depot.fetch("https://cuda.example/200000.deb"), Pattern(200000))
        assert len(env.origin.requests()) == before
        depot.stop()
    finally:
        subprocess.run(["umount", "-l", disk], check=False)


def test_small_bodies_on_a_full_disk(env):
    """They go to the disk last of all: one that finds it full waits for room, and is kept."""
    disk = os.path.join(env.path, "disk")
    os.makedirs(disk)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", disk],
                      capture_output=True, check=False).returncode != 0:
        return  # not allowed to mount here
    try:
        depot = env.new_depot(cache_dir=os.path.join(disk, "cache"), cache_min_free="0",
                              cache_max="1G")
        depot.start()
        for n in range(90):
            env.origin.serve(f"/{n}.deb", Pattern(200000, seed=n))
            expect_body(depot.fetch(f"https://cuda.example/{n}.deb"), Pattern(200000, seed=n))
            depot.wait_idle()
            answer = depot.fetch(f"https://cuda.example/{n}.deb")
            expect_body(answer, Pattern(200000, seed=n))
            assert answer.is_hit, n
        assert depot.counter("store_waits_total") >= 1
        assert depot.counter("blobs_evicted_total") >= 30
        assert depot.counter("store_failures_total") == 0
        depot.stop()
    finally:
        subprocess.run(["umount", "-l", disk], check=False)


def test_body_truncated_while_it_is_open(env):
    """Somebody cuts a body file that is being served: the next clients get good bytes."""
    body = Pattern(300000)
    env.origin.serve("/x.deb", body)
    depot = env.depot()
    for _ in range(2):
        expect_body(depot.fetch("https://cuda.example/x.deb"), body)
        depot.wait_idle()
    blobs = os.path.join(depot.cache_dir, "blobs")
    path = [os.path.join(top, name) for top, _, names in os.walk(blobs) for name in names]
    assert len(path) == 1
    os.truncate(path[0], 1000)

    def good():
        response = depot.fetch("https://cuda.example/x.deb")
        assert body.slice(0, len(response.body)) == response.body
        return response.complete
    wait_until(good, "good bytes again")
    depot.wait_idle()
    assert depot.counter("blobs_damaged_total") >= 1
