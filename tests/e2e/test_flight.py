# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""One fetch, many readers: it belongs to the object, never to a client."""
import select
import time

from body import Pattern
from client import expect_body
from depot import SLOW, wait_until
from origin import Answer
from support import Later, heavy, patient, together
from test_cache import hash_path

PATH = "/big.deb"
URL = "https://cuda.example" + PATH
TARGET = "http://HTTPS///cuda.example" + PATH
SIZE = 1 << 20
BODY = Pattern(SIZE)
HELD_AT = 256 << 10


def held(env, body=BODY, at=HELD_AT, path=PATH, **options):
    """Serves a body that stops after so many bytes until the gate is opened."""
    gate = env.origin.gate()
    env.origin.serve(path, Answer(body, gate=gate, held_at=at, **options))
    return gate


def test_parallel_clients_cause_one_fetch(env):
    """Eight clients, one upstream request, each byte once; then hits."""
    gate = held(env)
    depot = env.depot()
    readers = [Later(lambda: depot.fetch(URL)) for _ in range(8)]
    depot.wait_counter("joins_total", "==", 7)
    gate.open()
    for reader in readers:
        expect_body(reader.result(), BODY)
    assert len(env.origin.requests(PATH)) == 1
    assert env.origin.body_bytes(PATH) == SIZE
    depot.wait_idle()
    assert expect_body(depot.fetch(URL), BODY).is_hit
    assert len(env.origin.requests(PATH)) == 1
    assert depot.counter("upstream_body_bytes_total") == SIZE


def test_parallel_clients_of_a_large_body(env):
    """The same with a body larger than all socket buffers, held in the middle."""
    body = Pattern(24 << 20)
    gate = held(env, body=body, at=6 << 20)
    depot = env.depot()
    readers = [Later(lambda: depot.fetch(URL, expect=body)) for _ in range(8)]
    depot.wait_counter("flight_readers_open", "==", 8)
    gate.open()
    for reader in readers:
        assert reader.result().complete
    assert env.origin.body_bytes(PATH) == len(body)


def test_clients_that_wait_for_the_head_share_it(env):
    """The same when all come before the origin has said anything."""
    gate = env.origin.gate()
    env.origin.serve(PATH, Answer(BODY, gate=gate))
    depot = env.depot()
    readers = [Later(lambda: depot.fetch(URL)) for _ in range(8)]
    depot.wait_counter("joins_total", "==", 7)
    gate.open()
    for reader in readers:
        expect_body(reader.result(), BODY)
    assert len(env.origin.requests(PATH)) == 1


def test_no_second_fetch_at_the_moment_of_completion(env):
    """Clients that come while an object is just being stored find it: never two fetches."""
    paths = [f"/{n}.deb" for n in range(40)]
    for path in paths:
        env.origin.serve(path, Pattern(2000))
    depot = env.depot()

    def ask_all():
        with depot.conn() as conn:
            for path in paths:
                expect_body(conn.get("http://HTTPS///cuda.example" + path), Pattern(2000))
    together(*[ask_all] * 6)
    assert len(env.origin.requests()) == len(paths)


def test_first_client_leaves(env):
    """The one whose request started the fetch resets; the others get everything, from one fetch."""
    gate = held(env)
    depot = env.depot()
    first = depot.conn()
    first.ask(TARGET)
    first.read_head()
    assert first.read_exactly(HELD_AT) == BODY.slice(0, HELD_AT)
    others = [Later(lambda: depot.fetch(URL)) for _ in range(3)]
    depot.wait_counter("flight_readers_open", "==", 4)
    first.reset()
    depot.wait_counter("flight_readers_open", "==", 3)
    gate.open()
    for other in others:
        expect_body(other.result(), BODY)
    assert len(env.origin.requests(PATH)) == 1 and env.origin.body_bytes(PATH) == SIZE


def test_late_reader_starts_from_what_is_there(env):
    """While the origin is held, a second client already gets all that has come."""
    gate = held(env)
    depot = env.depot()
    with depot.conn() as first, depot.conn() as late:
        first.ask(TARGET)
        first.read_head()
        first.read_exactly(HELD_AT)
        late.ask(TARGET)
        response = late.read_head()
        assert response.get("Content-Length") == str(SIZE)
        assert late.read_exactly(HELD_AT) == BODY.slice(0, HELD_AT)
        gate.open()
        for conn in (first, late):
            assert conn.read_exactly(SIZE - HELD_AT) == BODY.slice(HELD_AT, SIZE)
    assert len(env.origin.requests(PATH)) == 1


def test_first_bytes_are_not_held_back(env):
    """Even a few bytes reach the client while the origin is silent."""
    for at in (1, 10, 100):
        path = f"/{at}.deb"
        gate = held(env, at=at, path=path)
        depot = env.depots[0] if env.depots else env.depot(read_timeout="20s")
        with depot.conn(timeout=10 * SLOW) as conn:
            conn.ask("http://HTTPS///cuda.example" + path)
            conn.read_head()
            assert conn.read_exactly(at) == BODY.slice(0, at), at
            gate.open()
            assert conn.read_exactly(SIZE - at) == BODY.slice(at, SIZE)


def test_range_on_a_running_fetch(env):
    """What is there is served at once, and what continues it with it; there is no second fetch."""
    gate = held(env)
    depot = env.depot()
    with depot.conn() as first, depot.conn() as near, depot.conn() as across:
        first.ask(TARGET)
        first.read_head()
        first.read_exactly(HELD_AT)
        part = near.get(TARGET, "Range: bytes=1000-1999")
        expect_body(part, BODY.slice(1000, 2000), 206)
        assert part.get("Content-Range") == f"bytes 1000-1999/{SIZE}"
        across.ask(TARGET, f"Range: bytes={HELD_AT - 1000}-")
        response = across.read_head()
        assert response.status == 206
        assert across.read_exactly(1000) == BODY.slice(HELD_AT - 1000, HELD_AT)
        gate.open()
        assert across.read_exactly(SIZE - HELD_AT) == BODY.slice(HELD_AT, SIZE)
        first.read_exactly(SIZE - HELD_AT)
    assert len(env.origin.requests(PATH)) == 1


def far_depot(env, **options):
    """A depot with a first reader whose fetch is held at HELD_AT: the gate, the reader's connection
    and the depot."""
    gate = held(env, **{"etag": '"v1"', **options.pop("answer", {})})
    depot = env.depot(read_timeout="20s", **options)
    first = depot.conn()
    first.ask(TARGET)
    assert first.read_head().status == 200
    assert first.read_exactly(HELD_AT) == BODY.slice(0, HELD_AT)
    return gate, first, depot


def expect_rest(first, gate):
    """The first reader's bytes behind those that were held."""
    gate.open()
    assert first.read_exactly(SIZE - HELD_AT) == BODY.slice(HELD_AT, SIZE)
    first.close()


def test_range_far_ahead_comes_first(env):
    """A part that the fetch will not have for long is asked for by itself, while the fetch goes on."""
    gate, first, depot = far_depot(env)
    response = depot.fetch(URL, "Range: bytes=700000-700999")
    expect_body(response, BODY.slice(700000, 701000), 206)
    assert response.get("Content-Range") == f"bytes 700000-700999/{SIZE}"
    whole, part = env.origin.requests(PATH)
    assert whole.get("Range") is None and part.get("Range") == "bytes=700000-700999"
    assert part.get("If-Range") == '"v1"'
    expect_body(depot.fetch(URL, "Range: bytes=700500-700999"), BODY.slice(700500, 701000), 206)
    expect_rest(first, gate)
    # So few bytes are brought again rather than cutting the first stream.
    assert len(env.origin.requests(PATH)) == 2
    assert env.origin.body_bytes(PATH) == SIZE + 1000
    depot.wait_idle()
    assert expect_body(depot.fetch(URL), BODY).is_hit
    assert depot.counter("far_ranges_total") == 1


def test_two_parts_far_ahead(env):
    """Two readers at two ranges, and the one from the start: all right, each byte asked for once."""
    gate, first, depot = far_depot(env)
    together(
        lambda: expect_body(depot.fetch(URL, "Range: bytes=400000-599999"),
                            BODY.slice(400000, 600000), 206),
        lambda: expect_body(depot.fetch(URL, "Range: bytes=800000-899999"),
                            BODY.slice(800000, 900000), 206))
    expect_rest(first, gate)
    depot.wait_idle()
    assert expect_body(depot.fetch(URL), BODY).is_hit
    assert len([r for r in env.origin.requests(PATH) if r.get("Range") is None]) == 1
    # Nothing but what was on its way when the first stream met the first part.
    assert depot.counter("upstream_body_bytes_total") <= SIZE + 16384


def test_resume_far_ahead(env):
    """As apt goes on after a break: from there to the end, at once, while the beginning is held."""
    gate, first, depot = far_depot(env)
    response = depot.fetch(URL, "Range: bytes=600000-", 'If-Range: "v1"')
    expect_body(response, BODY.slice(600000, SIZE), 206)
    # Another version's part is the whole: from the start, which is held.
    with depot.conn() as other:
        other.ask(TARGET, "Range: bytes=600000-", 'If-Range: "v2"')
        assert other.read_head().status == 200
        assert other.read_exactly(HELD_AT) == BODY.slice(0, HELD_AT)
    expect_rest(first, gate)
    depot.wait_idle()
    assert expect_body(depot.fetch(URL), BODY).is_hit


def test_far_range_as_the_first_request(env):
    """Nobody else is there: the part comes while the fetch of the whole is held, and counts for it."""
    gate = held(env)
    depot = env.depot(read_timeout="20s")
    expect_body(depot.fetch(URL, f"Range: bytes={SIZE - 200000}-"),
                BODY.slice(SIZE - 200000, SIZE), 206)
    gate.open()
    depot.wait_idle()
    assert expect_body(depot.fetch(URL), BODY).is_hit
    assert depot.counter("upstream_body_bytes_total") <= SIZE + 16384


def test_killed_with_a_part_far_ahead(env):
    """Killed when a part lies ahead: what is in order is continued, the rest is not believed."""
    mib = 1 << 20
    body = Pattern(6 * mib)
    gate = held(env, body, at=3 * mib)
    depot = env.depot(read_timeout="20s")
    with depot.conn() as conn:
        conn.ask(TARGET)
        conn.read_head()
        assert conn.read_exactly(3 * mib) == body.slice(0, 3 * mib)
        expect_body(depot.fetch(URL, f"Range: bytes={4 * mib}-{5 * mib}"),
                    body.slice(4 * mib, 5 * mib + 1), 206)
        depot.wait_counter("partial_marks_total", ">=", 2)
        depot.kill()
    gate.open()
    wait_until(lambda: env.origin.active_now(PATH) == 0, "the origin notices")
    depot.start()
    env.origin.forget()
    expect_body(depot.fetch(URL), body)
    assert env.origin.body_bytes(PATH) in (4 * mib, 5 * mib)
    depot.wait_idle()
    assert expect_body(depot.fetch(URL), body).is_hit


def test_far_range_of_a_promised_digest(env):
    """Its last 64 KiB wait until all of it is right; what is before them does not."""
    path = hash_path(BODY.bytes(), "SHA256")
    gate = held(env, path=path)
    depot = env.depot(read_timeout="20s")
    with depot.conn() as first, depot.conn() as far, depot.conn() as last:
        first.ask("http://HTTPS///cuda.example" + path)
        first.read_head()
        far.ask("http://HTTPS///cuda.example" + path, f"Range: bytes={SIZE - 100000}-")
        last.ask("http://HTTPS///cuda.example" + path, "Range: bytes=-1000")
        assert far.read_head().status == 206
        n = 100000 - (64 << 10)
        assert far.read_exactly(n) == BODY.slice(SIZE - 100000, SIZE - 100000 + n)
        assert last.read_head().status == 206
        assert not select.select([far.sock, last.sock], [], [], 0)[0]
        gate.open()
        assert far.read_exactly(64 << 10) == BODY.slice(SIZE - (64 << 10), SIZE)
        assert last.read_exactly(1000) == BODY.slice(SIZE - 1000, SIZE)
        assert first.read_exactly(SIZE) == BODY.bytes()


def test_far_range_of_another_version(env):
    """The origin has another file by now: no byte of it reaches who reads the old one's length."""
    other = Pattern(SIZE, seed=2)
    gate = env.origin.gate()
    env.origin.serve(PATH, Answer(BODY, gate=gate, held_at=HELD_AT, etag='"v1"'),
                     Answer(other, etag='"v2"'))
    depot = env.depot(read_timeout="20s")
    with depot.conn() as first, depot.conn() as far:
        first.ask(TARGET)
        first.read_head()
        far.ask(TARGET, "Range: bytes=700000-700999")
        depot.wait_counter("segment_fallbacks_total", "==", 1)
        gate.open()
        expect_body(far.read(), BODY.slice(700000, 701000), 206)
        assert first.read_exactly(SIZE) == BODY.bytes()
    assert len(env.origin.requests(PATH)) == 2


@patient
def test_far_range_where_there_are_none(env):
    """The origin ignores Range: with If-Range it is the whole after 5 s, without it waits."""
    gate, first, depot = far_depot(env, answer={"ranges": False})
    with depot.conn() as plain, depot.conn() as conditional:
        plain.ask(TARGET, "Range: bytes=700000-")
        started = time.monotonic()
        conditional.ask(TARGET, "Range: bytes=700000-", 'If-Range: "v1"')
        assert plain.read_head().status == 206
        assert conditional.read_head().status == 200
        assert time.monotonic() - started > 4.9
        gate.open()
        assert conditional.read_exactly(SIZE) == BODY.bytes()
        assert plain.read_exactly(SIZE - 700000) == BODY.slice(700000, SIZE)
    expect_rest(first, gate)
    assert len([r for r in env.origin.requests(PATH) if r.get("Range") is None]) == 1


def test_far_range_with_one_connection_a_file(env):
    """segments = 1 says so: it waits for its turn."""
    gate, first, depot = far_depot(env, segments=1)
    with depot.conn() as far:
        far.ask(TARGET, "Range: bytes=700000-700999")
        assert far.read_head().status == 206
        expect_rest(first, gate)
        assert far.read_exactly(1000) == BODY.slice(700000, 701000)
    assert len(env.origin.requests(PATH)) == 1


def test_range_of_an_unknown_length(env):
    """200 and all of it."""
    gate = held(env, length="chunked")
    depot = env.depot()
    with depot.conn() as conn:
        conn.ask(TARGET, "Range: bytes=700000-")
        response = conn.read_head()
        assert response.status == 200
        gate.open()
        expect_body(conn.read_body(response), BODY)


def test_if_range_on_a_running_fetch(env):
    """As on a stored object: part for the same validator, else everything."""
    gate = held(env, etag='"v1"')
    depot = env.depot()
    with depot.conn() as first:
        first.ask(TARGET)
        first.read_head()
        first.read_exactly(HELD_AT)
        same = Later(lambda: depot.fetch(URL, "Range: bytes=1000-", 'If-Range: "v1"'))
        other = Later(lambda: depot.fetch(URL, "Range: bytes=1000-", 'If-Range: "v2"'))
        depot.wait_counter("joins_total", "==", 2)
        gate.open()
        expect_body(same.result(), BODY.slice(1000, SIZE), 206)
        expect_body(other.result(), BODY)
        first.read_exactly(SIZE - HELD_AT)
    assert len(env.origin.requests(PATH)) == 1


def test_range_as_the_first_request(env):
    """A Range for an object that nobody has: 206, and the fetch is of the whole object, once."""
    env.origin.serve(PATH, BODY)
    # With more, a part that is long in coming has a connection of its own.
    depot = env.depot(segments=1)
    expect_body(depot.fetch(URL, "Range: bytes=500000-600000"), BODY.slice(500000, 600001), 206)
    depot.wait_idle()
    expect_body(depot.fetch(URL), BODY)
    assert env.origin.body_bytes(PATH) == SIZE


def test_range_beyond_the_end_of_a_running_fetch(env):
    """416 as soon as the length is known."""
    gate = held(env)
    depot = env.depot()
    with depot.conn() as first:
        first.ask(TARGET)
        first.read_head()
        response = depot.fetch(URL, f"Range: bytes={SIZE}-")
        assert response.status == 416
        assert response.get("Content-Range") == f"bytes */{SIZE}"
        gate.open()
        first.read_exactly(SIZE)


def test_slow_reader_slows_only_itself(env):
    """One client does not read: another gets the whole object, then the first does too."""
    body = Pattern(32 << 20)
    env.origin.serve(PATH, body)
    depot = env.depot()
    with depot.conn(receive_buffer=65536) as slow:
        slow.ask("http://cuda.example" + PATH)
        head = slow.read_head()
        other = depot.fetch("http://cuda.example" + PATH, expect=body)
        assert other.complete
        slow.read_body(head, expect=body)
        assert head.complete
    assert len(env.origin.requests(PATH)) == 1 and env.origin.body_bytes(PATH) == len(body)


def test_last_reader_leaves_and_little_remains(env):
    """Less than 64 MiB to go: the fetch goes on, and the object is a hit afterwards."""
    gate = held(env)
    depot = env.depot()
    with depot.conn() as only:
        only.ask(TARGET)
        only.read_head()
        only.read_exactly(HELD_AT)
        only.reset()
    depot.wait_counter("flight_readers_open", "==", 0)
    gate.open()
    depot.wait_counter("blobs_stored_total", "==", 1)
    depot.wait_idle()
    assert expect_body(depot.fetch(URL), BODY).is_hit
    counters = depot.counters()
    assert counters["client_aborts_total"] == 1 and counters["flights_abandoned_total"] == 0
    assert len(env.origin.requests(PATH)) == 1


@heavy(5)
@patient
def test_last_reader_leaves_and_much_remains(env):
    """Over 64 MiB and over 30 s to go: the fetch stops and keeps its part, which the next goes on
    from."""
    body = Pattern(90 << 20)
    gate = held(env, body, at=12 << 20)
    depot = env.depot(read_timeout="25s", segments=1)
    with depot.conn() as only:
        only.ask(TARGET)
        only.read_head()
        assert len(only.read_exactly(12 << 20)) == 12 << 20
        only.reset()
    # The longer it is held, the less its rate: in the end there is too much to come.
    depot.wait_counter("flights_abandoned_total", "==", 1)
    gate.open()
    assert depot.fetch(URL, expect=body).complete
    first, second = env.origin.requests(PATH)
    assert first.get("Range") is None and second.get("Range") == f"bytes={8 << 20}-"
    assert depot.counter("partial_bytes_reused_total") == 8 << 20


def test_other_version_that_begins_alike(env):
    """Its first bytes are those that came before, its validators are not: one version, or a cut."""
    old = Pattern(300000).bytes()
    new = old[:200000] + bytes(100000)
    env.origin.serve(PATH, Answer(old, etag='"v1"', stop_at=150000),
                     Answer(new, etag='"v2"', last_modified="Fri, 05 Jan 2024 00:00:00 GMT"))
    depot = env.depot()
    with depot.conn() as conn:
        response = conn.get(TARGET)
        assert response.get("ETag") == '"v1"' and not response.complete, response
        assert response.body == old[:len(response.body)]
    depot.wait_idle()
    response = expect_body(depot.fetch(URL), new)
    assert response.get("ETag") == '"v2"', response


def test_part_that_ends_before_the_body_does(env):
    """The first answer has no length, the next one is less than the rest: more is asked for."""
    body = Pattern(300000)

    def part(request):
        first = int(request.get("Range")[len("bytes="):-1])
        last = min(first + 99999, 299999)
        return Answer(raw=(f'HTTP/1.1 206 Partial Content\r\nETag: "v1"\r\n'
                           f"Content-Range: bytes {first}-{last}/300000\r\n"
                           f"Content-Length: {last + 1 - first}\r\n\r\n").encode()
                      + body.slice(first, last + 1))
    env.origin.serve(PATH, Answer(body, length="chunked", stop_at=60000, etag='"v1"'), part)
    depot = env.depot()
    expect_body(depot.fetch(URL), body)
    depot.wait_idle()
    assert expect_body(depot.fetch(URL), body).is_hit


@heavy(5)
@patient
def test_last_reader_leaves_an_unknown_length(env):
    """Without a length, or with under a tenth fetched: stopped 5 s after the last reader left."""
    for name, options in (("chunked", {"length": "chunked"}), ("tenth", {})):
        held(env, at=90000, path=f"/{name}.deb", **options)
    depot = env.depot(read_timeout="20s")
    for name in ("chunked", "tenth"):
        with depot.conn() as only:
            only.ask(f"http://HTTPS///cuda.example/{name}.deb")
            only.read_head()
            only.more()
            only.reset()
    depot.wait_counter("flight_readers_open", "==", 0)
    assert depot.counter("flights_open") == 2
    depot.wait_counter("flights_abandoned_total", "==", 2)
    depot.wait_counter("flights_open", "==", 0)
    env.origin.serve("/tenth.deb", BODY)
    expect_body(depot.fetch("https://cuda.example/tenth.deb"), BODY)


def test_reader_that_comes_back_saves_the_fetch(env):
    """The last reader left, a new one comes within the 5 s: the same fetch goes on."""
    gate = held(env, at=90000)
    depot = env.depot()
    with depot.conn() as first:
        first.ask(TARGET)
        first.read_head()
        first.reset()
    depot.wait_counter("flight_readers_open", "==", 0)
    again = Later(lambda: depot.fetch(URL))
    depot.wait_counter("flight_readers_open", "==", 1)
    gate.open()
    expect_body(again.result(), BODY)
    assert len(env.origin.requests(PATH)) == 1


def test_failed_fetch_fails_all_its_readers_once(env):
    """Readers of a fetch that fails for good are all told; the next request starts afresh."""
    gate = env.origin.gate()
    env.origin.serve(PATH, Answer(b"", 403, gate=gate), BODY)
    depot = env.depot()
    readers = [Later(lambda: depot.fetch(URL)) for _ in range(4)]
    depot.wait_counter("joins_total", "==", 3)
    gate.open()
    for reader in readers:
        response = reader.result()
        assert response.status == 403 and response.body, response
    assert len(env.origin.requests(PATH)) == 1
    depot.wait_idle()
    expect_body(depot.fetch(URL), BODY)


def test_queued_request_counts_as_a_reader(env):
    """A pipelined request that waits for its turn keeps its fetch alive and joins others'."""
    gate = held(env)
    env.origin.serve("/second.deb", BODY)
    depot = env.depot()
    with depot.conn() as conn:
        conn.ask(TARGET)
        conn.ask("http://HTTPS///cuda.example/second.deb")
        env.origin.wait_requests("/second.deb", 1)
        expect_body(depot.fetch("https://cuda.example/second.deb"), BODY)
        gate.open()
        expect_body(conn.read(), BODY)
        expect_body(conn.read(), BODY)
    assert len(env.origin.requests("/second.deb")) == 1


def test_requests_with_authorization_are_not_shared(env):
    """Neither joined nor answered from, nor kept for, anybody else."""
    env.origin.serve("/private.run", lambda r: Answer(
        (r.get("Authorization") or "nobody").encode(), etag=None, last_modified=None,
        headers=[("Cache-Control", "max-age=100")]))
    depot = env.depot()
    url = "https://cuda.example/private.run"
    for who in ("Basic YTph", "Basic Yjpi"):
        expect_body(depot.fetch(url, f"Authorization: {who}"), who)
        depot.wait_idle()
    expect_body(depot.fetch(url), b"nobody")
    assert len(env.origin.requests("/private.run")) == 3
