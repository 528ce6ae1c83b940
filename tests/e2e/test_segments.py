# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""Large bodies in parallel ranges; addresses that do badly; who goes first when slots are short.

Every body is compared byte for byte by the client, whatever the origin does. A rate below 2 MB/s
is what makes an origin slow enough for parallel ranges here; none of the tests measures time.
"""
import json
import os
import subprocess

from body import Pattern
from client import expect_body
from depot import wait_until
from origin import Answer
from repo import small_debs
from support import Later, Skip, heavy, patient, together

MIB = 1 << 20
PATH = "/big.deb"
URL = "http://cuda.example" + PATH
SIZE = 6 * MIB
BODY = Pattern(SIZE)
RATE = 2 * MIB
# What a segment asks for at a time where segment_min is 1M.
PIECE = MIB // 8


def is_range(request):
    """Is it one of the parallel ranges, or a resume?"""
    return request.get("Range") is not None


def is_segment(request):
    """Is it one of the parallel ranges? These have an end."""
    return is_range(request) and not request.get("Range").endswith("-")


def slow(**options):
    """A well-behaved answer at RATE."""
    return Answer(BODY, **{"rate": RATE, **options})


def segments_depot(env, **options):
    """A depot for which a mebibyte is large."""
    return env.depot(**{"segment_min": "1M", **options})


def test_slow_origin_is_asked_for_ranges_in_parallel(env):
    """Four connections, every byte right and asked for about once; then a hit."""
    env.origin.serve(PATH, slow())
    depot = segments_depot(env)
    expect_body(depot.fetch(URL), BODY)
    depot.wait_idle()
    assert expect_body(depot.fetch(URL), BODY).is_hit
    requests = env.origin.requests(PATH)
    assert requests[0].get("Range") is None
    assert all(is_segment(r) and r.get("If-Range") == '"600000-p1"' for r in requests[1:]), requests
    # The first stream, or one that was shared, may still be ending when the ranges are four.
    assert 4 <= env.origin.most_active(PATH) <= 6
    counters = depot.counters()
    assert counters["segmented_fetches_total"] == 1 and counters["segment_fallbacks_total"] == 0
    assert counters["segments_total"] == len(requests) - 1
    # The first stream is cut off where the ranges begin, in the middle of what is read at a time;
    # so is a range that is shared with an idle connection.
    assert counters["upstream_body_bytes_total"] <= SIZE + 4 * 16384


def test_two_readers_at_two_ranges(env):
    """One reads from the start, one asks for a part far ahead: both right, one fetch."""
    env.origin.serve(PATH, slow())
    depot = segments_depot(env)
    whole = Later(lambda: depot.fetch(URL))
    depot.wait_counter("segmented_fetches_total", "==", 1)
    near = Later(lambda: depot.fetch(URL, "Range: bytes=1000-200000"))
    far = depot.fetch(URL, f"Range: bytes={SIZE - 100000}-")
    expect_body(far, BODY.slice(SIZE - 100000, SIZE), 206)
    expect_body(near.result(), BODY.slice(1000, 200001), 206)
    expect_body(whole.result(), BODY)
    assert len([r for r in env.origin.requests(PATH) if not is_range(r)]) == 1
    assert depot.counter("joins_total") == 2


def test_part_far_ahead_takes_a_connection(env):
    """All four are busy with what nobody waits for yet: one gives way to what a reader waits for."""
    gate = env.origin.gate()
    far = f"bytes={SIZE - 100000}-{SIZE - 1}"
    env.origin.serve(PATH, lambda r: slow(
        gate=gate if is_segment(r) and r.get("Range") != far else None,
        rate=RATE if is_segment(r) else RATE // 16))
    depot = segments_depot(env, read_timeout="20s")
    whole = Later(lambda: depot.fetch(URL))
    wait_until(lambda: env.origin.active_now(PATH) == 4, "four connections")
    expect_body(depot.fetch(URL, f"Range: bytes={SIZE - 100000}-", 'If-Range: "600000-p1"'),
                BODY.slice(SIZE - 100000, SIZE), 206)
    assert depot.counter("segments_yielded_total") == 1
    gate.open()
    expect_body(whole.result(), BODY)
    assert depot.counter("segment_fallbacks_total") == 0


def test_first_stream_ends_where_a_part_begins(env):
    """The part far ahead is complete when the first stream stands right before it: all is there."""
    gate = env.origin.gate()
    env.origin.serve(PATH, lambda r: BODY if is_range(r) else
                     slow(rate=MIB // 4, gate=gate, held_at=MIB // 2))
    depot = env.depot()
    whole = Later(lambda: depot.fetch(URL))
    depot.wait_counter("upstream_body_bytes_total", ">=", 1)
    expect_body(depot.fetch(URL, f"Range: bytes={MIB // 2}-"), BODY.slice(MIB // 2, SIZE), 206)
    expect_body(whole.result(), BODY)
    depot.wait_idle()
    gate.open()
    assert expect_body(depot.fetch(URL), BODY).is_hit


def test_when_there_are_no_segments(env):
    """Below segment_min, with segments = 1, without validators, for one client's own: one stream."""
    small = Pattern(MIB - 1)
    env.origin.serve("/small.deb", Answer(small, rate=RATE))
    env.origin.serve("/none.deb", slow(etag=None, last_modified=None))
    env.origin.serve("/weak.deb", slow(etag='W/"x"', last_modified=None))
    env.origin.serve("/refuses.deb", slow(headers=[("Accept-Ranges", "none")]))
    env.origin.serve("/own.run", slow())
    env.origin.serve("/one.deb", slow())
    depot, single = segments_depot(env), segments_depot(env, segments="1")
    host = "http://cuda.example"
    together(lambda: expect_body(depot.fetch(host + "/small.deb"), small),
             lambda: expect_body(depot.fetch(host + "/none.deb"), BODY),
             lambda: expect_body(depot.fetch(host + "/weak.deb"), BODY),
             lambda: expect_body(depot.fetch(host + "/refuses.deb"), BODY),
             lambda: expect_body(depot.fetch(host + "/own.run", "Authorization: Basic YTph"),
                                 BODY),
             lambda: expect_body(single.fetch(host + "/one.deb"), BODY))
    assert len(env.origin.requests()) == 6
    assert depot.counter("segmented_fetches_total") == 0


def test_origin_that_ignores_ranges(env):
    """The first stream goes on as if nothing had been asked; the host is not asked again."""
    gate = env.origin.gate()
    env.origin.serve(PATH, slow(ranges=False, gate=gate, held_at=4 * MIB), slow(ranges=False))
    env.origin.serve("/next.deb", slow(ranges=False))
    depot = segments_depot(env)
    reader = Later(lambda: depot.fetch(URL))
    depot.wait_counter("segment_fallbacks_total", "==", 1)
    gate.open()
    expect_body(reader.result(), BODY)
    assert 2 <= len(env.origin.requests(PATH)) <= 4
    assert depot.counter("segment_fallbacks_total") == 1
    assert depot.counter("upstream_resumes_total") == 0
    expect_body(depot.fetch("http://cuda.example/next.deb"), BODY)
    assert len(env.origin.requests("/next.deb")) == 1


def part_of(body, request, etag='"600000-p1"', shift=0, total=SIZE):
    """A 206 made by hand, which may lie."""
    first, last = (int(n) for n in request.get("Range")[len("bytes="):].split("-"))
    data = body.slice(first + shift, last + 1 + shift)
    return Answer(raw=(f"HTTP/1.1 206 Scripted\r\nETag: {etag}\r\nContent-Length: {len(data)}\r\n"
                       f"Content-Range: bytes {first + shift}-{last + shift}/{total}\r\n\r\n"
                       ).encode() + data)


def test_origin_that_lies_about_ranges(env):
    """Another range, another length, another version, no range at all: one stream, right bytes."""
    other = Pattern(SIZE, seed=2)
    lies = {
        "shifted": lambda r: part_of(BODY, r, shift=7),
        "other-total": lambda r: part_of(BODY, r, total=SIZE + 1),
        "other-version": lambda r: part_of(other, r, etag='"v2"'),
        "no-such-range": lambda r: Answer(b"", 416),
        "whole-new": lambda r: Answer(other, etag='"v2"'),
        "unreadable": lambda r: Answer(raw=b"HTTP/1.1 206 Scripted\r\nContent-Range: bytes all\r\n"
                                           b'ETag: "600000-p1"\r\nContent-Length: 3\r\n\r\nabc'),
        "forbidden": lambda r: Answer(b"no\n", 403),
        "not-found": lambda r: Answer(b"no\n", 404),
        "elsewhere": lambda r: Answer(b"", 302, headers=[("Location", "/target.deb")]),
    }
    hosts = ("cuda.example", "mirror.example", "two.example")
    gate = env.origin.gate()
    first = slow(gate=gate, held_at=4 * MIB)
    for name, lie in lies.items():
        env.origin.serve(f"/{name}.deb", lambda r, lie=lie: lie(r) if is_range(r) else first)
    # What a host is remembered for must not spare the next ones.
    depots = [segments_depot(env) for _ in range(3)]

    def ask(n, name):
        url = f"http://{hosts[n % 3]}/{name}.deb"
        expect_body(depots[n // 3].fetch(url), BODY)
    readers = [Later(lambda n=n, name=name: ask(n, name)) for n, name in enumerate(lies)]
    for depot in depots:
        depot.wait_counter("segment_fallbacks_total", "==", 3)
    gate.open()
    for reader in readers:
        reader.result()
    for depot in depots:
        counters = depot.counters()
        assert counters["segmented_fetches_total"] == counters["segment_fallbacks_total"] == 3
        assert counters["cut_answers_total"] == 0
    assert not env.origin.requests("/target.deb")


def test_body_that_changes_between_segments(env):
    """The new version shows up when parts of the old one are there: never mixed."""
    other = Pattern(SIZE, seed=2)
    seen = []

    def answer(request):
        seen.append(request)
        return slow() if len(seen) < 12 else Answer(other, etag='"v2"')
    env.origin.serve(PATH, answer)
    depot = segments_depot(env)
    with depot.conn() as conn:
        response = conn.get("http://cuda.example" + PATH)
        assert response.status == 200 and not response.complete
        assert response.body == BODY.slice(0, len(response.body)), "spliced"
        assert conn.ended()
    depot.wait_idle()
    assert depot.counter("segment_fallbacks_total") == 1
    expect_body(depot.fetch(URL), other)


def test_segments_that_break(env):
    """Closed, reset, refused with 500, garbage: others go on there; nothing is fetched twice."""
    breaks = {
        "close": lambda r, at: slow(stop_at=at, stop="close"),
        "reset": lambda r, at: slow(stop_at=at, stop="reset"),
        "no-answer": lambda r, at: Answer(drop="close"),
        "500": lambda r, at: Answer(b"oops\n", 500),
        "garbage": lambda r, at: Answer(raw=b"what is this\r\n\r\n"),
    }
    depot = segments_depot(env)

    def ask(name):
        count = {}

        def answer(request):
            if not is_range(request):
                return slow()
            first = int(request.get("Range")[len("bytes="):].split("-")[0])
            n = count[first // PIECE] = count.get(first // PIECE, 0) + 1
            # Every fourth piece breaks at its first try, after a bit of it.
            odd = first // PIECE % 4 == 0 and n == 1
            return breaks[name](request, first + 5000) if odd else slow()
        path = f"/{name}.deb"
        env.origin.serve(path, answer)
        expect_body(depot.fetch("http://cuda.example" + path), BODY)
        assert env.origin.body_bytes(path) <= SIZE + MIB // 2, name
    for name in breaks:
        ask(name)
    assert depot.counter("segmented_fetches_total") == len(breaks)
    assert depot.counter("cut_answers_total") == 0


@patient
def test_first_stream_and_segments_fall_silent(env):
    """Whoever is silent is replaced after read_timeout, the first stream too."""
    def answer(request):
        if not is_range(request):
            return slow(stop_at=MIB // 2 + 100, stop="stall")
        if len(env.origin.requests(PATH)) in (3, 9):
            first = int(request.get("Range")[len("bytes="):].split("-")[0])
            return slow(stop_at=first + 3000, stop="stall")
        return slow()
    env.origin.serve(PATH, answer)
    depot = segments_depot(env, read_timeout="1s")
    expect_body(depot.fetch(URL), BODY)
    counters = depot.counters()
    assert counters["segmented_fetches_total"] == 1 and counters["cut_answers_total"] == 0
    assert counters["upstream_slow_replaced_total"] >= 1


def test_503_to_the_third_segment(env):
    """More than two at a time are refused: fewer, and the client never hears of it."""
    def answer(request):
        if env.origin.active_now(PATH) > 2:
            return Answer(b"busy\n", 503, headers=[("Retry-After", "1")])
        return slow()
    env.origin.serve(PATH, answer)
    depot = segments_depot(env)
    expect_body(depot.fetch(URL), BODY)
    counters = depot.counters()
    assert counters["segments_refused_total"] >= 1 and counters["errors_sent_total"] == 0
    assert env.origin.body_bytes(PATH) <= SIZE + MIB
    refused = counters["segments_refused_total"]
    # Remembered: the next one begins with so many.
    env.origin.serve("/next.deb", slow())
    expect_body(depot.fetch("http://cuda.example/next.deb"), BODY)
    assert depot.counter("segments_refused_total") == refused
    assert env.origin.most_active("/next.deb") <= 3


@patient
def test_slow_foremost_segment_is_replaced(env):
    """What readers wait for drips, while other connections do well: another one takes over."""
    dripping = []

    def answer(request):
        if is_range(request) and not dripping and len(env.origin.requests(PATH)) > 5:
            dripping.append(request)
            return slow(rate=2000)
        return slow()
    env.origin.serve(PATH, answer)
    depot = segments_depot(env)
    expect_body(depot.fetch(URL), BODY)
    assert depot.counter("upstream_slow_replaced_total") >= 1
    assert depot.counter("segment_fallbacks_total") == 0


def stopped_in_the_middle(env, stop):
    """Ends the depot when 14 of 24 MiB have come; the next one must not ask for much twice."""
    body = Pattern(24 * MIB)
    gate = env.origin.gate()
    # What is asked for after that waits until the depot is gone.
    env.origin.serve(PATH, lambda r: Answer(
        body, rate=4 * MIB, gate=gate if env.origin.body_bytes(PATH) > 14 * MIB else None))
    depot = segments_depot(env)
    reader = Later(lambda: depot.fetch(URL))
    gate.wait_for(3)
    depot.wait_counter("partial_marks_total", ">=", 4)     # at 1, 2, 4 and 8 MiB
    stop(depot)
    gate.open()
    try:
        reader.result()
    except OSError:
        pass
    depot.start()
    expect_body(depot.fetch(URL), body)
    counters = depot.counters()
    assert counters["partials_resumed_total"] == 1
    # Marks are up to 8 MiB apart; behind the last one and ahead of the prefix is what is lost.
    assert counters["partial_bytes_reused_total"] >= 8 * MIB
    assert env.origin.body_bytes(PATH) <= len(body) + 9 * MIB


@heavy(3)
def test_killed_in_the_middle(env):
    """What is in order is kept, what lies ahead is lost: at most a few pieces come twice."""
    stopped_in_the_middle(env, lambda depot: depot.kill())


@heavy(3)
def test_stopped_in_the_middle(env):
    """The same after an orderly stop."""
    stopped_in_the_middle(env, lambda depot: depot.stop())


@heavy(3)
@patient
def test_disk_that_takes_nothing_ahead(env):
    """The disk fills up under the ranges: they end, one stream passes the rest on, the client sees
    nothing of it."""
    disk = os.path.join(env.path, "disk")
    os.makedirs(disk)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", disk], check=False,
                      stderr=subprocess.DEVNULL).returncode != 0:
        raise Skip("not allowed to mount a small file system")
    try:
        body = Pattern(120 * MIB)
        first, ranges = env.origin.gate(), env.origin.gate()
        env.origin.serve(PATH, lambda r: Answer(body, gate=ranges) if is_segment(r) else
                         Answer(body, gate=first, held_at=16 * MIB))
        depot = env.depot(segment_min="64M", read_timeout="25s", cache_max="1G",
                          cache_min_free="0", cache_dir=os.path.join(disk, "cache"))
        reader = Later(lambda: depot.fetch(URL, expect=body))
        ranges.wait_for(1)
        with open(os.path.join(disk, "others"), "wb") as file:
            free = os.statvfs(disk)
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_bsize - MIB)
        ranges.open()
        depot.wait_counter("segment_fallbacks_total", "==", 1)
        first.open()
        assert reader.result().complete
        depot.wait_idle()
        counters = depot.counters()
        assert counters["store_failures_total"] >= 1 and counters["cut_answers_total"] == 0
        depot.stop()
    finally:
        subprocess.run(["umount", "-l", disk], check=False)



def test_several_addresses_share_the_ranges(env):
    """A name with two addresses: both are used. (libcurl knows *.localhost to be both loopbacks.)"""
    depot = two_addresses(env)
    env.origin.serve(PATH, slow())
    expect_body(depot.fetch(URL), BODY)
    used = {r.address for r in env.origin.requests(PATH)}
    assert used == {"127.0.0.1", "::1"}, used
    assert depot.counter("segmented_fetches_total") == 1


def two_addresses(env, **options):
    """A depot whose origin has two addresses."""
    try:
        env.origin.listen_too("::1")
    except OSError as err:
        raise Skip(f"no ::1 on this machine: {err}") from None
    return segments_depot(env, allow_addresses=["127.0.0.0/8", "::1/128"], connect_to=[
        f"cuda.example:80:two.localhost:{env.origin.plain_port}"], **options)


def test_address_that_refuses_is_avoided(env):
    """One of two addresses refuses connections: it is passed over for a minute, and shown."""
    depot = two_addresses(env)
    for n in range(3):
        env.origin.serve(f"/{n}.deb", Answer(b"data", close=True))
    expect_body(depot.fetch("http://cuda.example/0.deb"), b"data")
    assert depot.counter("upstream_addresses_avoided_total") == 0
    first = env.origin.requests()[0].address
    env.origin.refuse_at(first)
    for n in (1, 2):
        expect_body(depot.fetch(f"http://cuda.example/{n}.deb"), b"data")
        assert env.origin.requests()[n].address != first
    assert depot.counter("upstream_addresses_avoided_total") == 1
    assert depot.counter("upstream_retries_total") == 0
    shown, = json.loads(depot.get("/-/api/v1/status").text)["avoided_addresses"]
    assert shown["address"] == first and shown["origin"] == "http://cuda.example", shown
    assert shown["why"] == "did not answer" and 0 < shown["left_ms"] <= 60000, shown
    words = f"address {first} of http://cuda.example is avoided"
    assert words in depot.command("status"), words
    assert f"avoided: {first} of http://cuda.example" in depot.get("/-/").text


@patient
def test_dripping_connection_is_replaced(env):
    """Under 16 KiB a second while a client waits: another connection, to another address."""
    depot = two_addresses(env, read_timeout="2s", segments="1")
    env.origin.serve(PATH, slow(rate=3000), slow(rate=None))
    expect_body(depot.fetch(URL), BODY)
    first, second = env.origin.requests(PATH)
    assert first.address != second.address
    assert second.get("Range") and second.get("If-Range")
    counters = depot.counters()
    assert counters["upstream_slow_replaced_total"] == 1
    assert counters["upstream_addresses_avoided_total"] == 1
    depot.wait_log("hardly sent anything")


@patient
def test_dripping_connection_of_an_origin_without_ranges(env):
    """It is left as it is: another one is dropped at its head, and the host is not asked again."""
    body = Pattern(60000)
    depot = env.depot(read_timeout="2s")
    for n, (host, n_asked, answer) in enumerate((
            ("one.example", 2, {"etag": None}),
            ("two.example", 1, {"headers": [("Accept-Ranges", "none")]}),
            ("one.example", 1, {}))):
        path = f"/{n}.deb"
        env.origin.serve(path, Answer(body, rate=10000, ranges=False, **answer))
        expect_body(depot.fetch(f"http://{host}{path}"), body)
        asked = env.origin.requests(path)
        assert len(asked) == n_asked, asked
        assert env.origin.body_bytes(path) < len(body) + 4000
        assert all(is_range(r) for r in asked[1:]), asked
    counters = depot.counters()
    assert counters["segment_fallbacks_total"] == 1
    assert counters["upstream_slow_replaced_total"] == 0


@patient
def test_dripping_connection_goes_on_when_another_one_fails(env):
    """The second one is refused, or breaks: the first has lost nothing."""
    body = Pattern(60000)
    depot = env.depot(read_timeout="2s")
    for host, second in (("one.example", Answer(b"busy", 503)), ("two.example", Answer(drop="close")),
                         ("three.example", Answer(b"no", 404))):
        path = f"/{host}.deb"
        env.origin.serve(path, Answer(body, rate=10000), second)
        expect_body(depot.fetch(f"http://{host}{path}"), body)
        assert len(env.origin.requests(path)) == 2
    assert depot.counter("upstream_retries_total") == 0


@patient
def test_dripping_connection_of_a_short_body(env):
    """One that is kept in memory until it is stored, and one of a single client: as others."""
    body = Pattern(200000)
    depot = env.depot(read_timeout="1s")
    for path, *fields in (("/1.deb",), ("/2.deb", "Authorization: Basic eDp5")):
        env.origin.serve(path, Answer(body, rate=3000), body)
        expect_body(depot.fetch("http://cuda.example" + path, *fields), body)
        first, second = env.origin.requests(path)
        assert not is_range(first) and is_range(second)
        assert second.get("Authorization") == first.get("Authorization")
    assert depot.counter("upstream_slow_replaced_total") == 2
    assert depot.counter("segmented_fetches_total") == 0


@patient
def test_silent_address_is_avoided(env):
    """One address accepts and says nothing: the next try goes to the other, as do later ones."""
    depot = two_addresses(env, read_timeout="1s")
    gate = env.origin.gate()
    silent = []

    def answer(request):
        if not silent:
            silent.append(request.address)
        return Answer(b"data", gate=gate if request.address == silent[0] else None, close=True)
    for path in ("/1.deb", "/2.deb"):
        env.origin.serve(path, answer)
        expect_body(depot.fetch("http://cuda.example" + path), b"data")
    assert [r.address == silent[0] for r in env.origin.requests()] == [True, False, False]


def test_only_address_is_avoided(env):
    """It stalled once, and there is no other: its connections are kept alive all the same."""
    body = Pattern(MIB)
    env.origin.serve("/s.deb", Answer(body, stop_at=MIB // 2, stop="stall"), body)
    depot = env.depot(read_timeout="1s")
    expect_body(depot.fetch("http://cuda.example/s.deb"), body)
    retries = depot.counter("upstream_retries_total")
    for n in range(20):
        env.origin.serve(f"/{n}.deb", b"small")
        expect_body(depot.fetch(f"http://cuda.example/{n}.deb"), b"small")
    used = {env.origin.requests(f"/{n}.deb")[-1].connection for n in range(20)}
    assert len(used) <= 4 and depot.counter("upstream_retries_total") <= retries + 2, len(used)


def test_address_that_lags_is_avoided(env):
    """One address shows an older Release than there was: clients keep theirs, others are asked."""
    cdn = env.flat_cdn(*small_debs("1", 2))
    old, new = cdn.editions[0], cdn.prepare(*small_debs("2", 2))
    lags = []

    def answer(request):
        data, modified = (old if request.address in lags else new).files[request.path]
        return Answer(data, last_modified=modified)
    env.origin.serve_host(cdn.repo.host, answer)
    depot = two_addresses(env)
    url, path = cdn.url(cdn.repo.top + "InRelease", "http"), cdn.repo.top + "InRelease"
    expect_body(depot.fetch(url), new.files[path][0])
    depot.wait_idle()
    lags.append(cdn.requests(path)[-1].address)
    response = expect_body(depot.fetch(url), new.files[path][0])
    assert "detail=generation" in response.cache_status, response.cache_status
    depot.wait_counter("upstream_addresses_avoided_total", "==", 1)
    assert f"{lags[0]} of http://{cdn.repo.host} is avoided" in depot.command("status")
    response = expect_body(depot.fetch(url), new.files[path][0])
    assert "304" in response.cache_status, response.cache_status
    assert cdn.requests(path)[-1].address not in lags


@patient
def test_all_addresses_avoided_is_none_avoided(env):
    """Where every address did badly, any is better than none."""
    gate = env.origin.gate()
    env.origin.serve("/x.deb", Answer(b"data", gate=gate), b"data")
    depot = env.depot(read_timeout="1s")
    expect_body(depot.fetch("http://cuda.example/x.deb"), b"data")
    assert depot.counter("upstream_addresses_avoided_total") == 1
    assert len(env.origin.requests("/x.deb")) == 2
    assert depot.counter("upstream_requests_total") == 2


def held(env, path, at=0):
    """An answer that waits for its gate."""
    gate = env.origin.gate()
    env.origin.serve(path, Answer(Pattern(MIB), gate=gate, held_at=at))
    return gate


def test_first_request_of_another_client_goes_before_segments(env):
    """All slots are used by one big file's ranges: one is given up for a file that waits."""
    env.origin.serve(PATH, slow(rate=MIB // 2))
    env.origin.serve("/other.deb", b"other")
    depot = segments_depot(env, upstream_connections="6")
    reader = Later(lambda: depot.fetch(URL))
    wait_until(lambda: env.origin.active_now(PATH) == 4, "four connections")
    expect_body(depot.fetch("http://cuda.example/other.deb"), b"other")
    assert depot.counter("segments_yielded_total") == 1
    expect_body(reader.result(), BODY)


def test_look_ahead_leaves_slots_to_those_who_wait(env):
    """One client's pipeline of held files does not take the last connections from another client."""
    gates = [held(env, f"/{n}.deb") for n in range(8)]
    env.origin.serve("/other.deb", b"other")
    depot = segments_depot(env, upstream_connections="8")
    with depot.conn() as conn:
        for n in range(8):
            conn.ask(f"http://cuda.example/{n}.deb")
        # Six are for bulk: the first one, and three of those behind it.
        depot.wait_counter("upstream_queued", "==", 4)
        assert depot.counter("upstream_active") == 4
        expect_body(depot.fetch("http://cuda.example/other.deb"), b"other")
        for gate in gates:
            gate.open()
        for n in range(8):
            expect_body(conn.read(), Pattern(MIB))


def test_queued_file_uses_what_is_idle(env):
    """What a client asks for behind another file comes in parallel ranges too, before its turn."""
    gate = held(env, "/0.deb")
    env.origin.serve(PATH, slow(rate=MIB))
    depot = segments_depot(env)
    with depot.conn() as conn:
        conn.ask("http://cuda.example/0.deb")
        conn.ask(URL)
        wait_until(lambda: env.origin.active_now(PATH) == 4, "four connections")
        gate.open()
        expect_body(conn.read(), Pattern(MIB))
        expect_body(conn.read(), BODY)
    assert depot.counter("segment_fallbacks_total") == 0


def test_queued_file_gives_connections_back(env):
    """One more connection of a file that is only asked for goes to one that somebody waits for."""
    gate = held(env, "/0.deb")
    body = Pattern(2 * MIB)
    env.origin.serve(PATH, Answer(body, rate=MIB // 4))
    env.origin.serve("/now.deb", Answer(body, rate=MIB // 2))
    # Five are for bulk: what nobody waits for yet takes no more than leaves two free.
    depot = segments_depot(env, upstream_connections="7")
    with depot.conn() as conn:
        conn.ask("http://cuda.example/0.deb")
        conn.ask(URL)
        depot.wait_counter("segments_total", "==", 1)
        wait_until(lambda: env.origin.active_now(PATH) == 2, "one more connection")
        reader = Later(lambda: depot.fetch("http://cuda.example/now.deb"))
        wait_until(lambda: env.origin.active_now("/now.deb") == 3, "all that there are")
        assert depot.counter("segments_yielded_total") == 1
        expect_body(reader.result(), body)
        gate.open()
        expect_body(conn.read(), Pattern(MIB))
        expect_body(conn.read(), body)


def test_indexes_overtake(env):
    """A large file runs, another waits for its slot: an index does not."""
    gate = held(env, "/0.deb")
    env.origin.serve("/1.deb", b"one")
    path = "/dists/s/main/binary-amd64/Packages.gz"
    env.origin.serve(path, b"list")
    depot = segments_depot(env, upstream_connections="3")
    first = Later(lambda: depot.fetch("http://cuda.example/0.deb"))
    env.origin.wait_requests("/0.deb", 1)
    second = Later(lambda: depot.fetch("http://cuda.example/1.deb"))
    depot.wait_counter("upstream_queued", "==", 1)
    expect_body(depot.fetch("http://cuda.example" + path), b"list")
    assert depot.counter("upstream_queued") == 1
    gate.open()
    expect_body(first.result(), Pattern(MIB))
    expect_body(second.result(), b"one")


def test_hosts_take_turns(env):
    """What one host's clients asked for before does not all go before another host's first."""
    gate = held(env, "/0.deb")
    for name in ("1", "2", "3", "other"):
        env.origin.serve(f"/{name}.deb", b"data")
    depot = segments_depot(env, upstream_connections_total="3")
    readers = []
    for n, url in enumerate(["cuda.example/0.deb", "cuda.example/1.deb", "cuda.example/2.deb",
                             "cuda.example/3.deb", "mirror.example/other.deb"]):
        readers.append(Later(lambda url=url: depot.fetch("http://" + url)))
        env.origin.wait_requests("/0.deb", 1)
        depot.wait_counter("upstream_queued", "==", n)
    gate.open()
    for reader in readers:
        assert reader.result().complete
    paths = [request.path for request in env.origin.requests()]
    assert paths.index("/other.deb") < paths.index("/2.deb") < paths.index("/3.deb"), paths


def test_turn_that_comes_takes_its_slot(env):
    """A queued fetch that somebody waits for now goes before what is still looked ahead."""
    gates = [held(env, f"/{n}.deb") for n in range(4)]
    depot = segments_depot(env, upstream_connections="5")
    with depot.conn() as first, depot.conn() as second:
        first.ask("http://cuda.example/0.deb")
        first.ask("http://cuda.example/1.deb")
        env.origin.wait_requests("/0.deb", 1)
        depot.wait_counter("upstream_queued", "==", 1)
        # Three slots for bulk: the one that is waited for takes the second, then the third.
        second.ask("http://cuda.example/1.deb")
        env.origin.wait_requests("/1.deb", 1)
        for gate in gates:
            gate.open()
        for _ in range(2):
            expect_body(first.read(), Pattern(MIB))
        expect_body(second.read(), Pattern(MIB))
    assert len(env.origin.requests("/1.deb")) == 1
