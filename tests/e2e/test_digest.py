# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""Bodies whose digest is known beforehand: wrong ones are fetched again while their readers wait."""
from aptlike import AptLike
from body import Bytes, Pattern
from client import expect_body, expect_error
from origin import Answer, LAST_MODIFIED
from repo import forge_deb
from support import Later, heavy, patient
from test_cache import hash_path

WITHHELD = 64 << 10


def broken(data, *places):
    """The same bytes, but for these."""
    data = bytearray(data)
    for place in places:
        data[place] ^= 0x55
    return bytes(data)


class Thing:
    """A by-hash object with its right bytes, and where it is asked for."""

    def __init__(self, size, seed=1):
        self.data = Pattern(size, seed).bytes()
        self.path = hash_path(self.data, "SHA256")
        self.url = "https://deb.example" + self.path
        self.target = "http://HTTPS///deb.example" + self.path

    def wrong(self, *places, **options):
        """An answer with other bytes at these places."""
        return Answer(broken(self.data, *places), **options)


def test_small_body_is_right_in_the_end(env):
    """Nothing of a small body shows before its digest agrees: its readers see the right one only."""
    depot = env.depot()
    for n, size in enumerate((1, 1000, 65536), 1):
        thing = Thing(size)
        env.origin.serve(thing.path, thing.wrong(0), thing.data)
        expect_body(depot.fetch(thing.url), thing.data)
        depot.wait_idle()
        assert expect_body(depot.fetch(thing.url), thing.data).is_hit
        first, second = env.origin.requests(thing.path)
        assert second.get("Cache-Control") == "no-cache"
        assert first.connection != second.connection
        assert depot.counter("digest_refetches_total") == n
    counters = depot.counters()
    assert counters["digest_mismatches_total"] == counters["digest_healed_total"] == 3
    assert counters["cut_answers_total"] == 0
    line = depot.wait_log("asking again")
    assert thing.path in line or "by-hash" in line
    assert "127.0.0.1" in line and line.count("SHA256:") == 2


@patient
def test_slow_small_body_is_not_silent(env):
    """Its reader has a head after ten seconds, bytes ten seconds later: soon enough for apt."""
    thing = Thing(60000)
    env.origin.serve(thing.path, Answer(thing.data, rate=1000))
    depot = env.depot()
    with depot.conn() as conn:
        conn.ask(thing.target)
        response = conn.read_head()
        assert (response.status, response.get("Content-Length")) == (200, "60000"), response
        assert conn.read_exactly(1) == thing.data[:1]


def test_reader_goes_on_where_its_bytes_agree(env):
    """The wrong byte was withheld: the reader gets the rest of the right body, and is not cut."""
    depot = env.depot()
    for place in (-1, -WITHHELD):
        thing = Thing(1 << 20, seed=2 - place)
        env.origin.serve(thing.path, thing.wrong(place), thing.data)
        response = expect_body(depot.fetch(thing.url), thing.data)
        assert response.get("Content-Length") == str(1 << 20)
        depot.wait_idle()
        assert expect_body(depot.fetch(thing.url), thing.data).is_hit
    assert depot.counter("digest_healed_total") == 2
    assert depot.counter("cut_answers_total") == 0


def test_reader_of_an_unknown_length_goes_on(env):
    """What ended with its connection had no length: the right body may have any."""
    depot = env.depot()
    for seed, options in ((7, {}), (8, {"length": "close"}), (9, {"length": "chunked"})):
        thing = Thing(300000, seed)
        gate = env.origin.gate()
        env.origin.serve(thing.path, Answer(thing.data, length="close", gate=gate, held_at=140000,
                                            stop_at=150000), Answer(thing.data, **options))
        with depot.conn() as conn:
            conn.ask(thing.target)
            response = conn.read_head()
            assert response.get("Transfer-Encoding") == "chunked"
            gate.open()
            expect_body(conn.read_body(response), thing.data)
        depot.wait_idle()
        assert expect_body(depot.fetch(thing.url), thing.data).is_hit
    assert depot.counter("cut_answers_total") == 0


def test_listed_body_has_its_length(env):
    """The index says how long it is: clients are told, and what is cut short is gone on with."""
    debs = [forge_deb(f"p{n}", "1", 200000) for n in range(3)]
    cdn = env.flat_cdn(*debs)
    depot = env.depot()
    apt = AptLike(cdn, depot.port)
    apt.update()
    depot.wait_tables()
    for n, (options, ranges) in enumerate((
            ({"length": "close"}, 1), ({"length": "chunked"}, 1),
            ({"length": "close", "etag": None, "last_modified": None}, 0))):
        path = apt.path_of(f"p{n}")
        data = debs[n].data
        for alias in cdn.repo.names_of(cdn.repo.path_of(f"p{n}")):
            env.origin.serve(alias, Answer(data, stop_at=len(data) // 2, **options),
                             Answer(data, **options), host=cdn.repo.host)
        response = expect_body(apt.get(path), data)
        assert response.get("Content-Length") == str(len(data))
        asked = cdn.requests(cdn.repo.path_of(f"p{n}"))
        assert len(asked) == 2 and sum(r.get("Range") is not None for r in asked) == ranges, asked
    assert depot.counter("digest_mismatches_total") == 0


def test_listed_body_of_another_length(env):
    """It has no length of its own, and is shorter or longer than the index says: no clean end."""
    debs = [forge_deb(f"p{n}", "1", 200000) for n in range(4)]
    cdn = env.flat_cdn(*debs)
    depot = env.depot()
    apt = AptLike(cdn, depot.port)
    apt.update()
    depot.wait_tables()
    for n in range(4):
        path = apt.path_of(f"p{n}")
        data = debs[n].data
        wrong = data[:100000] if n % 2 else data + b"more"
        for alias in cdn.repo.names_of(cdn.repo.path_of(f"p{n}")):
            env.origin.serve(alias, Answer(wrong, length="chunked" if n < 2 else "close"),
                             host=cdn.repo.host)
        response = apt.get(path)
        assert not response.complete or response.status == 502, response
        assert len(cdn.requests(cdn.repo.path_of(f"p{n}"))) <= 6


def test_all_kinds_of_readers_of_a_body_that_heals(env):
    """Ranges, HEAD and queued requests: each gets what the right body says."""
    thing = Thing(1 << 20)
    data, size = thing.data, len(thing.data)
    gate = env.origin.gate()
    env.origin.serve(thing.path, thing.wrong(-1, gate=gate, held_at=size - 10), thing.data)
    env.origin.serve("/before.deb", b"before")
    depot = env.depot()
    readers = [
        Later(lambda: expect_body(depot.fetch(thing.url), data)),
        Later(lambda: expect_body(depot.fetch(thing.url, "Range: bytes=-100"), data[-100:], 206)),
        Later(lambda: expect_body(depot.fetch(thing.url, "Range: bytes=1000-1999"),
                                  data[1000:2000], 206)),
        Later(lambda: expect_body(depot.fetch(thing.url, f"Range: bytes={size - WITHHELD - 9}-"),
                                  data[-WITHHELD - 9:], 206)),
    ]

    def ask_in_a_row():
        with depot.conn() as conn:
            conn.ask("http://HTTPS///deb.example/before.deb")
            conn.ask(thing.target)
            conn.ask(thing.target, "Range: bytes=5-9")
            expect_body(conn.read(), b"before")
            expect_body(conn.read(), data)
            expect_body(conn.read(), data[5:10], 206)
    readers.append(Later(ask_in_a_row))
    depot.wait_counter("joins_total", "==", 5)
    head = depot.fetch(thing.url, method="HEAD")
    assert head.status == 200 and head.get("Content-Length") == str(size)
    gate.open()
    for reader in readers:
        reader.result()
    assert len(env.origin.requests(thing.path)) == 2
    assert depot.counter("digest_healed_total") == 1


def test_reader_beyond_the_first_wrong_byte_is_cut(env):
    """It can't be helped, but never ends cleanly; one that is not so far goes on."""
    thing = Thing(40 << 20)
    body = Bytes(thing.data)
    gate = env.origin.gate()
    env.origin.serve(thing.path, thing.wrong(24 << 20, gate=gate, held_at=39 << 20), thing.data)
    depot = env.depot()
    with depot.conn(receive_buffer=65536) as slow:
        slow.ask(thing.target)
        head = slow.read_head()
        fast = depot.conn()
        fast.ask(thing.target)
        fast.read_head()
        assert len(fast.read_exactly(30 << 20)) == 30 << 20
        gate.open()
        assert len(fast.read_exactly(10 << 20)) < 10 << 20
        depot.wait_counter("cut_answers_total", "==", 1)
        slow.read_body(head, expect=body)
        assert head.complete
    depot.wait_idle()
    assert depot.fetch(thing.url, expect=body).is_hit
    assert depot.counter("cut_answers_total") == 1
    assert depot.counter("digest_healed_total") == 1


def come_back(depot, thing, have, validator=LAST_MODIFIED):
    """A client that has some bytes asks for the rest, as apt does."""
    return depot.fetch(thing.url, f"Range: bytes={have}-", f"If-Range: {validator}")


def test_parts_of_wrong_bytes_are_never_continued(env):
    """Cut, the client comes back with the validators of what it has: it gets all of the right body.

    Also while it is fetched again, after a restart, and when the origin's validators are the same.
    """
    thing = Thing(1 << 20)
    begun, gate = env.origin.gate(), env.origin.gate()
    env.origin.serve(thing.path, thing.wrong(1000, etag='"same"', gate=begun, held_at=600000),
                     Answer(thing.data, etag='"same"', gate=gate, held_at=500000))
    depot = env.depot()
    with depot.conn() as conn:
        conn.ask(thing.target)
        conn.read_head()
        conn.read_exactly(100000)
        begun.open()
        depot.wait_counter("digest_refetches_total", "==", 1)
        back = Later(lambda: come_back(depot, thing, 100000))
        depot.wait_counter("joins_total", "==", 1)
        gate.open()
        rest = conn.read_exactly(1 << 20)
        assert len(rest) < (1 << 20) - 100000, "wrong bytes were made complete"
    expect_body(back.result(), thing.data)
    depot.wait_idle()
    for validator in (LAST_MODIFIED, '"same"'):
        expect_body(come_back(depot, thing, 100000, validator), thing.data)
    response = depot.fetch(thing.url)
    assert response.is_hit and response.get("Last-Modified") == LAST_MODIFIED
    depot.stop()
    depot.start()
    expect_body(come_back(depot, thing, 100000), thing.data)
    expect_body(depot.fetch(thing.url, "Range: bytes=10-19"), thing.data[10:20], 206)


def test_parts_of_wrong_bytes_of_a_failed_fetch(env):
    """The same when nothing right came at first, the depot was killed, and the origin mended."""
    thing = Thing(1 << 20)
    begun = env.origin.gate()
    env.origin.serve(thing.path, thing.wrong(1000, gate=begun, held_at=600000), thing.wrong(1000))
    depot = env.depot()
    with depot.conn() as conn:
        conn.ask(thing.target)
        conn.read_head()
        conn.read_exactly(100000)
        begun.open()
        assert len(conn.read_exactly(1 << 20)) < (1 << 20) - 100000
    expect_error(depot.fetch(thing.url), 502, words=["digest"])
    assert len(env.origin.requests(thing.path)) == 2
    depot.kill()
    depot.start()
    env.origin.serve(thing.path, thing.data)
    expect_body(come_back(depot, thing, 100000), thing.data)
    depot.wait_idle()
    response = come_back(depot, thing, 100000)
    assert expect_body(response, thing.data).is_hit


def test_same_wrong_bytes_twice(env):
    """That is what the origin has: 502 in words, and for a minute nobody asks it again."""
    depot = env.depot()
    for n, size in enumerate((1000, 1 << 20), 1):
        thing = Thing(size)
        gate, shown = env.origin.gate(), size // 2 if size > WITHHELD else 0
        env.origin.serve(thing.path, thing.wrong(0, gate=gate, held_at=shown), thing.wrong(0))
        sent = depot.counter("sent_body_bytes_total")
        readers = [Later(lambda: depot.fetch(thing.url)) for _ in range(3)]
        depot.wait_counter("joins_total", "==", 2 * n)
        # Who has none of the wrong bytes yet would be told so instead of being cut.
        depot.wait_counter("sent_body_bytes_total", ">=", sent + 3 * shown)
        gate.open()
        for reader in readers:
            response = reader.result()
            if size > WITHHELD:
                assert response.status == 200 and not response.complete
            else:
                expect_error(response, 502, words=["digest"])
        expect_error(depot.fetch(thing.url), 502, words=["digest"])
        assert len(env.origin.requests(thing.path)) == 2
        assert depot.counter("digest_mismatches_total") == 2 * n
    depot.wait_idle()
    assert depot.counter("blobs_stored_total") == 0
    assert depot.partial_names() == []


def test_different_wrong_bytes(env):
    """An origin that sends rubbish, another each time, is asked three times; that is not kept."""
    thing = Thing(1000)
    env.origin.serve(thing.path, thing.wrong(0), thing.wrong(1), thing.wrong(2), thing.data)
    depot = env.depot()
    expect_error(depot.fetch(thing.url), 502, words=["digest"])
    assert len(env.origin.requests(thing.path)) == 3
    expect_body(depot.fetch(thing.url), thing.data)
    other = Thing(2000)
    env.origin.serve(other.path, other.wrong(0), other.wrong(1), other.data)
    expect_body(depot.fetch(other.url), other.data)


def test_trouble_on_the_way_to_the_right_bytes(env):
    """While readers are held, errors and broken transfers are tried again as in any body."""
    thing = Thing(1 << 20)
    env.origin.serve(thing.path, thing.wrong(-1), Answer(b"", 503), Answer(drop="reset"),
                     Answer(thing.data, stop_at=300000, stop="reset"), thing.data)
    depot = env.depot()
    expect_body(depot.fetch(thing.url), thing.data)
    assert len(env.origin.requests(thing.path)) == 5
    assert env.origin.requests(thing.path)[-1].get("Range") is not None
    assert depot.counter("cut_answers_total") == 0


def test_object_that_changes_in_the_middle(env):
    """Broken off, it comes back as another version: all of it is fetched anew, nothing is spliced."""
    thing = Thing(1 << 20)
    gate = env.origin.gate()
    env.origin.serve(thing.path, thing.wrong(1000, gate=gate, held_at=400000, stop_at=500000,
                                             stop="reset"), thing.data)
    depot = env.depot()
    with depot.conn() as conn:
        conn.ask(thing.target)
        conn.read_head()
        conn.read_exactly(400000)
        gate.open()
        assert len(conn.read_exactly(1 << 20)) < (1 << 20) - 400000
    expect_body(depot.fetch(thing.url), thing.data)
    assert depot.counter("digest_healed_total") == 1


@heavy(20)
@patient
def test_readers_are_not_held_for_ever(env):
    """After 20 s whoever has wrong bytes is cut; the fetch goes on for others."""
    thing = Thing(1 << 20)
    begun, gate = env.origin.gate(), env.origin.gate()
    env.origin.serve(thing.path, thing.wrong(-1, gate=begun, held_at=800000),
                     Answer(thing.data, gate=gate, held_at=600000))
    depot = env.depot(read_timeout="60s")
    with depot.conn() as conn:
        conn.ask(thing.target)
        conn.read_head()
        conn.read_exactly(700000)
        begun.open()
        depot.wait_counter("digest_refetches_total", "==", 1)
        depot.wait_counter("cut_answers_total", "==", 1)
        assert len(conn.read_exactly(1 << 20)) < len(thing.data) - 700000
    second = Later(lambda: depot.fetch(thing.url))
    depot.wait_counter("joins_total", "==", 1)
    gate.open()
    expect_body(second.result(), thing.data)
    assert len(env.origin.requests(thing.path)) == 2


def test_kept_part_with_wrong_bytes(env):
    """A part that was wrong from the beginning is dropped when the digest tells."""
    thing = Thing(24 << 20)
    env.origin.serve(thing.path, thing.wrong(1000, etag='"e"', stop_at=18 << 20, stop="stall"))
    depot = env.depot()
    with depot.conn() as conn:
        conn.ask(thing.target)
        conn.read_head()
        conn.read_exactly(17 << 20)
        depot.wait_counter("partial_marks_total", ">=", 1)
        depot.stop()
    assert depot.partial_names() != []
    env.origin.serve(thing.path, Answer(thing.data, etag='"e"'))
    env.origin.forget()
    depot.start()
    body = Bytes(thing.data)
    with depot.conn(receive_buffer=65536) as conn:
        conn.ask(thing.target)
        head = conn.read_head()
        depot.wait_counter("digest_healed_total", "==", 1)
        conn.read_exactly(1 << 20)
    assert head.get("Content-Length") == str(24 << 20)
    assert depot.fetch(thing.url, expect=body).complete
    resumed, whole = env.origin.requests(thing.path)
    assert resumed.get("Range") is not None and whole.get("Range") is None
    assert depot.counter("partials_resumed_total") == 1
    depot.wait_idle()
    assert depot.partial_names() == []
