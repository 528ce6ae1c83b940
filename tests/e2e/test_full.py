# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""No room on the disk or in the budget: bodies are passed on from memory, and not kept."""
import contextlib
import hashlib
import os
import subprocess

from body import Pattern
from client import expect_body, expect_error
from depot import wait_until
from origin import Answer
from repo import compress
from support import Later, Skip, heavy, patient
from test_cache import hash_path
from test_daemon import expect_refusal

MIB = 1 << 20
RING = MIB


@contextlib.contextmanager
def small_disk(env, size_mib, **options):
    """A depot whose cache is a file system of its own."""
    disk = os.path.join(env.path, "disk")
    os.makedirs(disk)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", disk],
                      capture_output=True, check=False).returncode != 0:
        raise Skip("mounting a small file system is not allowed here")
    try:
        cache_dir = os.path.join(disk, "cache")
        depot = env.new_depot(cache_dir=cache_dir, cache_min_free="0", cache_max="1G", **options)
        depot.cache_dir = cache_dir
        depot.start()
        yield depot
        depot.stop()
    finally:
        subprocess.run(["umount", "-l", disk], check=False)


def url(path):
    """Of the test's host, without TLS: large bodies are cheaper so."""
    return "http://cuda.example" + path


def test_body_that_does_not_fit(env):
    """It is served whole to all that came in time, from one fetch; others fit."""
    big = Pattern(30 * MIB)
    gate = env.origin.gate()
    env.origin.serve("/big.deb", Answer(big, gate=gate))
    env.origin.serve("/small.deb", Pattern(100000))
    with small_disk(env, 12) as depot:
        readers = [Later(lambda: depot.fetch(url("/big.deb"), expect=big)) for _ in range(4)]
        depot.wait_counter("joins_total", "==", 3)
        gate.open()
        for reader in readers:
            assert reader.result().complete
        depot.wait_idle()
        assert len(env.origin.requests("/big.deb")) == 1
        assert depot.counter("streamed_through_total") == 1
        assert depot.partial_names() == [] and depot.blob_paths() == []
        expect_body(depot.fetch(url("/small.deb")), Pattern(100000))
        depot.wait_idle()
        assert depot.fetch(url("/small.deb")).is_hit


def test_disk_that_fills_up_in_the_middle(env):
    """Without an announced length nothing is known before: readers in the file and beyond it."""
    body = Pattern(40 * MIB)
    env.origin.serve("/x.deb", Answer(body, length="chunked"))
    with small_disk(env, 16) as depot:
        with depot.conn(receive_buffer=65536) as behind:
            behind.ask(url("/x.deb"))
            head = behind.read_head()
            first = Later(lambda: expect_body(depot.fetch(url("/x.deb")), body))
            depot.wait_counter("joins_total", "==", 1)
            expect_body(behind.read_body(head), body)
            first.result()
        depot.wait_idle()
        assert len(env.origin.requests("/x.deb")) == 1
        assert depot.counter("streamed_through_total") == 1
        assert depot.partial_names() == []


def test_disk_full_at_every_write(env):
    """However much room is left, down to none: every body is right, and kept once there is room."""
    body = Pattern(2 * MIB + 1000)
    data = body.bytes()
    named = hash_path(data, "SHA256")
    with small_disk(env, 24) as depot:
        filler = os.path.join(os.path.dirname(depot.cache_dir), "filler")
        disk = os.statvfs(depot.cache_dir)
        for n in range(14):
            left = n * MIB // 5
            with open(filler, "wb") as file:
                free = os.statvfs(depot.cache_dir)
                os.posix_fallocate(file.fileno(), 0,
                                   max(1, free.f_bavail * free.f_bsize - left))
            env.origin.serve(f"/chunked-{n}.deb", Answer(body, length="chunked"))
            env.origin.serve(f"/{n}.deb", body)
            env.origin.serve(f"/{n}{named}", body)
            for path in (f"/chunked-{n}.deb", f"/{n}.deb", f"/{n}{named}"):
                assert depot.fetch(url(path), expect=body).complete, (path, left)
            depot.wait_idle()
            os.unlink(filler)
            last = f"/{n}{named}"
            assert depot.fetch(url(last), expect=body).complete
            depot.wait_idle()
            # An eviction that was decided on while there was no room may still take it, once.
            wait_until(lambda path=last: depot.fetch(url(path), expect=body).is_hit, f"kept: {left}")

            def emptied():
                # Again and again: a hit may come before what it is of can be evicted.
                depot.try_command("evict", "http://cuda.example/*")
                return os.statvfs(depot.cache_dir).f_bavail * 10 >= disk.f_bavail * 9
            # Nothing keeps its room, or room that was taken in advance.
            wait_until(emptied, "the room is given back")


def test_disk_that_becomes_read_only(env):
    """Everything is still served; when it can be written again, bodies are kept again."""
    env.origin.serve("/before.deb", Pattern(100000))
    env.origin.serve("/big.deb", Pattern(3 * MIB))
    with small_disk(env, 12) as depot:
        expect_body(depot.fetch(url("/before.deb")), Pattern(100000))
        depot.wait_idle()
        # The whole file system can't be remounted while the index is open.
        partial = os.path.join(depot.cache_dir, "partial")
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", partial], check=True)
        for _ in range(2):
            expect_body(depot.fetch(url("/big.deb")), Pattern(3 * MIB))
            depot.wait_idle()
        assert expect_body(depot.fetch(url("/before.deb")), Pattern(100000)).is_hit
        assert depot.counter("streamed_through_total") == 2
        subprocess.run(["umount", partial], check=True)
        expect_body(depot.fetch(url("/big.deb")), Pattern(3 * MIB))
        depot.wait_idle()
        assert depot.fetch(url("/big.deb")).is_hit


def test_full_disk_makes_room_for_the_next(env):
    """What is old goes, so that the body after the one that did not fit is kept."""
    with small_disk(env, 16) as depot:
        for n in range(3):
            env.origin.serve(f"/{n}.deb", Pattern(6 * MIB, seed=n))
            depot.fetch(url(f"/{n}.deb"), expect=Pattern(6 * MIB, seed=n))
            depot.wait_idle()
        depot.wait_counter("blobs_evicted_total", ">=", 1)
        assert depot.counter("streamed_through_total") == 1
        assert depot.fetch(url("/2.deb"), expect=Pattern(6 * MIB, seed=2)).complete
        depot.wait_idle()
        assert depot.fetch(url("/2.deb"), expect=Pattern(6 * MIB, seed=2)).is_hit


def test_index_that_is_too_large_to_unpack_here(env):
    """No room for what a stored Packages.gz unpacks to: upstream's Packages is passed on, whole."""
    stanza = ("Package: p{0}\nVersion: {0}\nArchitecture: amd64\nFilename: ./p{0}.deb\nSize: 9\n"
              "SHA256: {0:064x}\nDescription: " + "long " * 200 + "\n\n")
    text = "".join(stanza.format(n) for n in range(15000)).encode()
    files = {"Packages": text, "Packages.gz": compress(text, ".gz")}
    release = "Origin: x\nDate: Mon, 23 Nov 2026 10:00:00 UTC\nSHA256:\n" + "".join(
        f" {hashlib.sha256(data).hexdigest()} {len(data)} {name}\n" for name, data in files.items())
    for name, data in dict(files, InRelease=release.encode()).items():
        env.origin.serve("/repo/" + name, data)
    with small_disk(env, 12) as depot:
        assert depot.fetch(url("/repo/InRelease")).status == 200
        expect_body(depot.fetch(url("/repo/Packages.gz")), files["Packages.gz"])
        depot.wait_counter("generations_current", "==", 1)
        depot.wait_idle()
        assert depot.fetch(url("/repo/Packages.gz")).is_hit
        expect_body(depot.fetch(url("/repo/Packages")), text)
        assert depot.counter("streamed_through_total") == 1
        assert len(env.origin.requests("/repo/Packages")) == 1


def test_budget_holds_while_bodies_come(env):
    """What is being fetched counts: one that would not fit beside it is passed on."""
    gate = env.origin.gate()
    one, two = Pattern(12 * MIB), Pattern(12 * MIB, seed=2)
    env.origin.serve("/one.deb", Answer(one, gate=gate, held_at=MIB))
    env.origin.serve("/two.deb", two)
    env.origin.serve("/huge.deb", Pattern(24 * MIB))
    depot = env.depot(cache_max="20M", cache_min_free="0")
    first = Later(lambda: depot.fetch(url("/one.deb"), expect=one))
    depot.wait_counter("flights_open", "==", 1)
    gate.wait_for(1)
    # Its length is known.
    depot.wait_counter("upstream_body_bytes_total", ">=", 1)
    assert depot.fetch(url("/two.deb"), expect=two).complete
    gate.open()
    assert first.result().complete
    depot.wait_idle()
    assert depot.fetch(url("/huge.deb"), expect=Pattern(24 * MIB)).complete
    depot.wait_idle()
    assert depot.fetch(url("/one.deb"), expect=one).is_hit
    assert depot.counter("streamed_through_total") == 2
    assert depot.counter("cache_bytes") == 12 * MIB


def test_late_reader_fetches_for_itself(env):
    """When the beginning is gone from the ring, a new client is not made to wait for nothing."""
    body = Pattern(6 * MIB)
    gate = env.origin.gate()
    env.origin.serve("/x.deb", Answer(body, gate=gate, held_at=4 * MIB), body)
    depot = env.depot(cache_max="1M", cache_min_free="0")
    with depot.conn() as first:
        first.ask(url("/x.deb"))
        head = first.read_head()
        assert len(first.read_exactly(4 * MIB)) == 4 * MIB
        assert depot.fetch(url("/x.deb"), expect=body).complete
        gate.open()
        assert len(first.read_exactly(2 * MIB)) == 2 * MIB
        assert head.get("Content-Length") == str(6 * MIB)
    assert len(env.origin.requests("/x.deb")) == 2


def test_queued_request_is_not_waited_for(env):
    """A pipelined request behind a long answer does not stop others; it fetches for itself later."""
    body = Pattern(20 * MIB)
    gate = env.origin.gate()
    env.origin.serve("/first.deb", Answer(b"first", gate=gate))
    env.origin.serve("/x.deb", body)
    depot = env.depot(cache_max="1M", cache_min_free="0")
    with depot.conn() as conn:
        conn.ask(url("/first.deb"))
        conn.ask(url("/x.deb"), "Range: bytes=100-199")
        env.origin.wait_requests("/x.deb", 1)
        assert depot.fetch(url("/x.deb"), expect=body).complete
        gate.open()
        expect_body(conn.read(), b"first")
        expect_body(conn.read(), body.slice(100, 200), 206)


def test_slowest_reader_paces_and_a_dead_one_is_cut(env):
    """Upstream waits for who reads; who does not read is cut, the others get everything."""
    body = Pattern(24 * MIB)
    env.origin.serve("/x.deb", body)
    depot = env.depot(cache_max="1M", cache_min_free="0")
    with depot.conn(receive_buffer=65536) as dead, depot.conn(receive_buffer=65536) as slow:
        for conn in (dead, slow):
            conn.ask(url("/x.deb"))
        for conn in (dead, slow):
            conn.read_head()
        assert len(slow.read_exactly(MIB)) == MIB
        assert env.origin.body_bytes("/x.deb") < 16 * MIB, "upstream was not paced"
        assert slow.read_exactly(23 * MIB) == body.slice(MIB, 24 * MIB)
        depot.wait_counter("streamed_slow_cuts_total", "==", 1)
        assert len(dead.read_exactly(24 * MIB)) < 24 * MIB
    assert len(env.origin.requests("/x.deb")) == 1
    assert depot.counter("cut_answers_total") == 1


def test_digest_of_what_is_passed_on(env):
    """It is checked as any: right bytes complete, wrong ones never do."""
    depot = env.depot(cache_max="1M", cache_min_free="0")
    for seed, wrong in ((1, False), (2, True)):
        data = Pattern(5 * MIB, seed).bytes()
        path = hash_path(data, "SHA256")
        env.origin.serve(path, data[:-1] + b"!" if wrong else data)
        response = depot.fetch(url(path))
        assert response.status == 200 and response.complete != wrong
        assert wrong or response.body == data
    small = b"small"
    path = hash_path(small, "SHA256")
    env.origin.serve(path, b"wrong", small)
    expect_body(depot.fetch(url(path)), small)
    assert depot.counter("digest_mismatches_total") == 2


def test_broken_transfer_of_what_is_passed_on(env):
    """It is continued where it stopped, as any."""
    body = Pattern(6 * MIB)
    env.origin.serve("/x.deb", Answer(body, stop_at=3 * MIB, stop="reset"), body)
    depot = env.depot(cache_max="1M", cache_min_free="0")
    assert depot.fetch(url("/x.deb"), expect=body).complete
    assert env.origin.requests("/x.deb")[1].get("Range") is not None


@heavy(25)
@patient
def test_memory_for_passing_on_is_bounded(env):
    """32 MiB in all: who finds none waits for it, up to 20 s, then is told so."""
    body = Pattern(3 * MIB)
    gate = env.origin.gate()
    depot = env.depot(cache_max="1M", cache_min_free="0", upstream_connections="64",
                      upstream_connections_total="64", read_timeout="90s")
    for n in range(32):
        env.origin.serve(f"/{n}.deb", Answer(body, gate=gate, held_at=RING // 2))
    env.origin.serve("/late.deb", body)

    def get(path, expect=body):
        with depot.conn(timeout=100) as conn:
            return conn.get(url(path), expect=expect)
    held = [Later(lambda n=n: get(f"/{n}.deb")) for n in range(32)]
    depot.wait_counter("streamed_through_total", "==", 32)
    expect_error(get("/late.deb", None), 503, words=["disk"])
    asked = len(env.origin.requests("/late.deb"))
    waits = Later(lambda: get("/late.deb"))
    env.origin.wait_requests("/late.deb", asked + 1)
    gate.open()
    assert waits.result().complete
    for one in held:
        assert one.result().complete


def test_start_on_a_full_disk(env):
    """In words where there is no index yet, and served where there is one, with whatever workers."""
    with small_disk(env, 8, workers=2) as depot:
        env.origin.serve("/x.deb", Pattern(100000))
        expect_body(depot.fetch(url("/x.deb")), Pattern(100000))
        depot.wait_idle()
        depot.stop()
        disk = os.path.dirname(depot.cache_dir)
        with contextlib.suppress(OSError), open(os.path.join(disk, "fill"), "wb", buffering=0) as f:
            while True:
                f.write(bytes(1024))
        depot.options["workers"] = 64
        depot.start()
        response = depot.fetch(url("/x.deb"))
        assert expect_body(response, Pattern(100000)).is_hit
        new = env.new_depot(cache_dir=os.path.join(disk, "new"))
        expect_refusal(new.arguments()[1:], "the cache's disk is full")
