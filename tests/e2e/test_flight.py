# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""One fetch, many readers: it belongs to the object, never to a client."""
from body import Pattern
from client import expect_body
from depot import SLOW
from origin import Answer
from support import Later, heavy, patient, together

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
        with depot.conn(timeout=4 * SLOW) as conn:
            conn.ask("http://HTTPS///cuda.example" + path)
            conn.read_head()
            assert conn.read_exactly(at) == BODY.slice(0, at), at
            gate.open()
            assert conn.read_exactly(SIZE - at) == BODY.slice(at, SIZE)


def test_range_on_a_running_fetch(env):
    """What is there is served at once, what is not waits; there is no second fetch."""
    gate = held(env)
    depot = env.depot()
    with depot.conn() as first, depot.conn() as near, depot.conn() as across, depot.conn() as far:
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
        far.ask(TARGET, f"Range: bytes={SIZE - 1000}-")
        depot.wait_counter("flight_readers_open", "==", 3)
        gate.open()
        assert across.read_exactly(SIZE - HELD_AT) == BODY.slice(HELD_AT, SIZE)
        expect_body(far.read(), BODY.slice(SIZE - 1000, SIZE), 206)
        first.read_exactly(SIZE - HELD_AT)
    assert len(env.origin.requests(PATH)) == 1


def test_if_range_on_a_running_fetch(env):
    """As on a stored object: part for the same validator, else everything."""
    gate = held(env, etag='"v1"')
    depot = env.depot()
    with depot.conn() as first:
        first.ask(TARGET)
        first.read_head()
        same = Later(lambda: depot.fetch(URL, "Range: bytes=1000-", 'If-Range: "v1"'))
        other = Later(lambda: depot.fetch(URL, "Range: bytes=1000-", 'If-Range: "v2"'))
        depot.wait_counter("joins_total", "==", 2)
        gate.open()
        expect_body(same.result(), BODY.slice(1000, SIZE), 206)
        expect_body(other.result(), BODY)
        first.read_exactly(SIZE)
    assert len(env.origin.requests(PATH)) == 1


def test_range_as_the_first_request(env):
    """A Range for an object that nobody has: 206, and the fetch is of the whole object, once."""
    env.origin.serve(PATH, BODY)
    depot = env.depot()
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
