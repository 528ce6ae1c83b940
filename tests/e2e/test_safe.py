# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""At rest and at least privilege: the scrubber, the user it becomes, the sandbox."""
import os

from body import Pattern
from client import expect_body

BODY = Pattern(3 << 20)


def test_scrubber_finds_a_flipped_bit(env):
    """Bytes changed under an unchanged mtime: found without a request, dropped, fetched again."""
    env.origin.serve("/x.deb", BODY)
    env.origin.serve("/y.deb", Pattern(5000, seed=2))
    depot = env.depot()
    expect_body(depot.fetch("https://cuda.example/x.deb"), BODY)
    expect_body(depot.fetch("https://cuda.example/y.deb"), Pattern(5000, seed=2))
    depot.wait_idle()
    depot.stop()
    path = next(p for p in depot.blob_paths() if os.path.getsize(p) == 3 << 20)
    times = os.stat(path)
    with open(path, "r+b") as file:
        file.seek(2 << 20)
        byte = file.read(1)[0]
        file.seek(2 << 20)
        file.write(bytes([byte ^ 0x10]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    os.environ["APT_DEPOT_TEST_SCRUB"] = "now"
    depot.start()
    depot.wait_counter("scrub_passes_total", ">=", 1)
    counters = depot.counters()
    assert counters["scrubbed_blobs_total"] == 2, counters
    assert counters["scrubbed_bytes_total"] == (3 << 20) + 5000, counters
    assert counters["blobs_damaged_total"] == 1, counters
    assert os.path.basename(path) in depot.log_text()
    expect_body(depot.fetch("https://cuda.example/x.deb"), BODY)
    expect_body(depot.fetch("https://cuda.example/y.deb"), Pattern(5000, seed=2))
    assert len(env.origin.requests("/x.deb")) == 2
    assert len(env.origin.requests("/y.deb")) == 1
