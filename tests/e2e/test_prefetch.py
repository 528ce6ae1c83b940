# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""prefetch = closure: what apt is about to ask for is fetched before it does."""
import hashlib

from depot import wait_until
from origin import Answer
from test_warm import forge

NEEDS_PACKAGES = True
LEAVES = [f"lib{n}" for n in range(8)]
COUNTERS = ("started", "used", "wasted")


def tree(size=20000):
    """A metapackage of eight libraries, in a larger one with a driver beside it."""
    debs = [forge(name, "1", size) for name in LEAVES]
    debs.append(forge("meta", "1", 3000, ", ".join(LEAVES)))
    debs.append(forge("driver", "1", 5000))
    debs.append(forge("all", "1", 3000, "meta, driver"))
    return {deb.name: deb for deb in debs}


def counters(depot):
    """How the guesses went."""
    return {name: depot.counter(f"prefetch_{name}_total") for name in COUNTERS}


def begin(env, names, **options):
    """A depot that knows the repository, and a client that asked for these, in order."""
    repo = env.flat_repo(debs=options.pop("debs", None) or tree())
    depot = env.depot(prefetch="closure", **options)
    for name in ("InRelease", "Packages.gz"):
        depot.get(f"http://HTTPS///{repo.host}{repo.root}{name}")
    depot.wait_tables()
    depot.wait_idle()
    conn = depot.conn()
    ask(conn, repo, names)
    return repo, depot, conn


def ask(conn, repo, names):
    """Asks for packages on one connection, one after the other."""
    for name in names:
        answer = conn.get(f"http://HTTPS///{repo.host}{repo.path_of(name)}")
        assert answer.body == repo.debs[name].data, name


def fetched(env, repo):
    """Which packages the origin was asked for, in order."""
    paths = {repo.path_of(name): name for name in repo.debs}
    return [paths[request.path] for request in env.origin.requests() if request.path in paths]


def test_rest_of_a_metapackage(env):
    """Three of its libraries in order: the others and itself come, in apt's order, no driver."""
    repo, depot, conn = begin(env, LEAVES[:3])
    want = LEAVES[3:] + ["meta"]
    wait_until(lambda: counters(depot)["started"] == 6, "the rest is started")
    wait_until(lambda: len(fetched(env, repo)) == 9, "the rest is asked for")
    assert sorted(fetched(env, repo)) == sorted(LEAVES[:3] + want)
    depot.wait_idle()
    ask(conn, repo, want)
    wait_until(lambda: counters(depot)["used"] >= 6, "they were of use")
    repo.expect_each_sent_once()
    # With the metapackage done, the larger one is the guess.
    wait_until(lambda: counters(depot)["started"] == 8, "driver and all are guessed")
    conn.close()
    wait_until(lambda: counters(depot)["wasted"] == 2, "these were not asked for")
    assert counters(depot)["used"] == 6


def test_client_that_turns_to_another_repository(env):
    """A package of one, and a source of another in the same breath: no guess is made of nothing."""
    repo, depot, conn = begin(env, [])
    dsc = b"Format: 3.0 (native)\n" * 50
    sources = (f"Package: x\nVersion: 1\nDirectory: .\nChecksums-Sha256:\n "
               f"{hashlib.sha256(dsc).hexdigest()} {len(dsc)} x_1.dsc\n").encode()
    packages = b"Package: y\nVersion: 1\nFilename: ./y.deb\nSize: 1\nSHA256: " + b"0" * 64 + b"\n"
    listed = "".join(f" {hashlib.sha256(data).hexdigest()} {len(data)} {name}\n"
                     for name, data in (("Sources", sources), ("Packages", packages)))
    for name, data in (("Sources", sources), ("Packages", packages), ("x_1.dsc", dsc), (
            "InRelease", f"Date: Mon, 23 Nov 2026 10:00:00 UTC\nSHA256:\n{listed}".encode())):
        env.origin.serve("/two/" + name, data, host="deb.example")
    two = "http://HTTPS///deb.example/two/"
    for name in ("InRelease", "Packages", "Sources"):
        assert conn.get(two + name).status == 200
    depot.wait_tables(3)
    depot.wait_idle()
    for leaf in LEAVES:
        conn.send("".join(f"GET {url} HTTP/1.1\r\nHost: HTTPS\r\n\r\n" for url in (
            f"http://HTTPS///{repo.host}{repo.path_of(leaf)}", two + "x_1.dsc")).encode())
        assert conn.read().body == repo.debs[leaf].data
        assert conn.read().body == dsc
    conn.close()


def test_little_evidence_fetches_nothing(env):
    """Two packages are no reason to believe in a third; and what was asked for needs nothing."""
    repo, depot, conn = begin(env, LEAVES[:2])
    ask(conn, repo, ["driver"])
    depot.wait_idle()
    assert counters(depot)["started"] == 0 and len(fetched(env, repo)) == 3
    conn.close()


def test_what_it_needs(env):
    """A package that is asked for before what it needs: that comes."""
    repo, depot, conn = begin(env, ["meta"])
    wait_until(lambda: counters(depot)["started"] == 8, "its libraries are started")
    wait_until(lambda: sorted(fetched(env, repo)[1:]) == LEAVES, "they are asked for")
    conn.close()


def test_stops_when_the_client_goes(env):
    """What was guessed for a client ends with it; no more than four run."""
    debs = tree(3 << 20)
    repo = env.flat_repo(debs=debs)
    gate = env.origin.gate()
    for name in LEAVES[3:]:
        repo.serve_deb(name, Answer(debs[name].data, gate=gate, held_at=1 << 20))
    depot = env.depot(prefetch="closure")
    for name in ("InRelease", "Packages.gz"):
        depot.get(f"http://HTTPS///{repo.host}{repo.root}{name}")
    depot.wait_tables()
    depot.wait_idle()
    conn = depot.conn()
    ask(conn, repo, LEAVES[:3])
    wait_until(lambda: counters(depot)["started"] == 4, "four are started")
    depot.wait_counter("flight_readers_open", "==", 4)
    conn.close()
    wait_until(lambda: counters(depot)["wasted"] == 4, "they are given up")
    wait_until(lambda: depot.counter("flight_readers_open") == 0, "nobody reads them")
    assert counters(depot)["started"] == 4


def test_evicted_before_it_is_asked_for(env):
    """That was in vain: counted as wasted, with its bytes, not as used."""
    repo, depot, conn = begin(env, LEAVES[:3])
    wait_until(lambda: counters(depot)["started"] == 6, "the rest is started")
    depot.wait_idle()
    depot.command("evict", f"https://{repo.host}{repo.path_of(LEAVES[4])}")
    ask(conn, repo, LEAVES[3:5])
    wait_until(lambda: counters(depot)["used"] == 1, "one was of use")
    depot.wait_counter("prefetch_wasted_bytes_total", "==", len(repo.debs[LEAVES[4]].data))
    assert counters(depot)["wasted"] == 1
    assert fetched(env, repo).count(LEAVES[4]) == 2
    conn.close()


def test_budget(env):
    """A tenth of the cache, of what was not asked for: then it waits until something is."""
    repo, depot, conn = begin(env, LEAVES[:3], debs=tree(1 << 20), cache_max="30M")
    wait_until(lambda: counters(depot)["started"] == 3, "what fits")
    depot.wait_idle()
    assert counters(depot)["started"] == 3
    ask(conn, repo, LEAVES[3:4])
    wait_until(lambda: counters(depot)["started"] == 4, "one more")
    depot.wait_idle()
    assert counters(depot)["started"] == 4
    conn.close()


def test_pipeline_guesses_nothing(env):
    """The default."""
    repo = env.flat_repo(debs=tree())
    depot = env.depot()
    for name in ("InRelease", "Packages.gz"):
        depot.get(f"http://HTTPS///{repo.host}{repo.root}{name}")
    conn = depot.conn()
    ask(conn, repo, LEAVES[:4])
    depot.wait_idle()
    assert counters(depot)["started"] == 0 and len(fetched(env, repo)) == 4
    conn.close()


def test_real_apt(env):
    """apt-get install with it: everything right, everything sent once, no guess wrong."""
    repo = env.flat_repo()
    depot = env.depot(prefetch="closure")
    root = env.apt(depot, repo.source())
    root.update().expect_success()
    root.install("cuda").expect_success()
    repo.expect_each_sent_once()
    depot.wait_idle()
    assert counters(depot)["wasted"] == 0, counters(depot)
