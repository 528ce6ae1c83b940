# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""The daemon's memory does not grow with the size of objects, and little with their readers."""
import contextlib

from body import Pattern
from depot import SLOW, wait_until
from origin import Answer
from support import Skip, heavy

MIB = 1 << 20
RSS_MAX_KIB = 64 << 10
READER_MAX_KIB = 11


def only_without_sanitizers():
    """They multiply memory."""
    if SLOW > 1:
        raise Skip("memory is measured without sanitizers only")


@heavy(8)
def test_slow_readers_of_a_stored_object(env):
    """Three hundred, all over an object of 200 MiB, and a fast one: 64 MiB, 11 KiB for each."""
    only_without_sanitizers()
    body = Pattern(200 * MIB)
    env.origin.serve("/big.deb", body)
    depot = env.depot()
    url = "http://cuda.example/big.deb"
    assert depot.fetch(url, expect=body).complete
    depot.wait_idle()
    assert depot.fetch(url, expect=body).is_hit
    assert depot.memory_kib() < RSS_MAX_KIB
    before = depot.memory_kib("RssAnon")
    with contextlib.ExitStack() as stack:
        readers = []
        for n in range(300):
            conn = stack.enter_context(depot.conn(receive_buffer=8192))
            conn.ask(url, f"Range: bytes={n * 600000}-")
            readers.append((n, conn, conn.read_head()))
            assert readers[-1][2].status == 206
        assert depot.counter("connections_open") >= 300
        assert depot.memory_kib() < RSS_MAX_KIB
        # Copies that fast readers shared go after a second.
        wait_until(lambda: depot.memory_kib("RssAnon") - before < 300 * READER_MAX_KIB,
                   "little memory for each reader")
        assert depot.fetch(url, expect=body).complete
        for n, conn, _ in readers:
            assert conn.read_exactly(20000) == body.slice(n * 600000, n * 600000 + 20000)
        assert depot.memory_kib() < RSS_MAX_KIB


@heavy(8)
def test_slow_readers_of_a_running_fetch(env):
    """The same while the object comes."""
    only_without_sanitizers()
    body = Pattern(200 * MIB)
    gate = env.origin.gate()
    env.origin.serve("/big.deb", lambda _: Answer(body, gate=gate, held_at=150 * MIB))
    depot = env.depot(segments=1)
    url = "http://cuda.example/big.deb"
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(depot.conn())
        first.ask(url)
        first.read_head()
        assert len(first.read_exactly(100 * MIB)) == 100 * MIB
        before = depot.memory_kib("RssAnon")
        for n in range(300):
            conn = stack.enter_context(depot.conn(receive_buffer=8192))
            conn.ask(url, f"Range: bytes={n * 300000}-")
            assert conn.read_head().status == 206
            assert conn.read_exactly(1000) == body.slice(n * 300000, n * 300000 + 1000)
        # Copies that fast readers shared go after a second.
        wait_until(lambda: depot.memory_kib("RssAnon") - before < 300 * READER_MAX_KIB,
                   "little memory for each reader")
        assert depot.memory_kib() < RSS_MAX_KIB
        gate.open()
        assert len(first.read_exactly(100 * MIB)) == 100 * MIB
    assert len(env.origin.requests("/big.deb")) == 1
