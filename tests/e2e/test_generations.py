# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""Repository generations: an origin that disagrees with itself is no client's business."""
import hashlib
import json
import os
import re
import time
import types

from aptlike import (AptLike, Crowd, Failed, follow, republish, update_and_download,
                     update_until, updates, warm)
from cdn import INDEXES, PACKAGES, RELEASES, kind_of
from depot import SLOW, target_of, wait_until
from origin import Answer, Gate
from repo import DistsRepo, NoWorkshop, forge_deb, small_debs
from support import heavy, patient, together

NEEDS_PACKAGES = True


# -- an origin that disagrees with itself ----------------------------------------------------------


def check_new_inrelease_with_old_indexes(env, cdn):
    """For long; then upstream agrees, and the depot finds out by itself."""
    old = cdn.editions[0]
    depot = env.depot(revalidate_wait="0s")
    client = warm(depot, cdn)
    new = cdn.prepare(*small_debs("2", 2))
    cdn.show(new, only=PACKAGES)
    cdn.show(new, only=RELEASES)
    env.origin.forget()
    started = time.monotonic()
    update_until(depot, client, old, ["generation_disagreements_total"], 1)
    held = depot.counter("generation_held_total")
    updates(client, 150, old)
    update_and_download(client, 0)
    assert depot.counter("generation_held_total") >= held + 150
    response = client.update()
    assert response.is_hit and "generation" in response.cache_status, response.cache_status
    depot.wait_log(cdn.repo.host, "Packages", "different publications")
    told = json.loads(depot.command("explain", "--json", cdn.url(cdn.repo.index_path())))
    assert "Packages" in told["upstream_disagrees"], told

    # Polite, but on other connections and past the caches in between.
    def probes(path):
        return [request for request in cdn.requests(path)
                if "no-cache" in (request.get("Cache-Control") or "")]
    indexes = [path for path in new.files if kind_of(path) == "index"]
    depot.wait_counter("generation_probes_total", ">=", 2)
    wait_until(lambda: any(len(probes(path)) >= 2 for path in indexes), "probes with no-cache")
    assert len({probe.connection for path in indexes for probe in probes(path)}) > 1
    looks = depot.counter("generation_disagreements_total")
    for path in indexes:
        asked = len(cdn.requests(path))
        # The first one asks twice, and another may be under way.
        assert asked <= looks + 2 and asked <= 4 + 2 * (time.monotonic() - started), (path, asked)

    cdn.show(new)
    depot.wait_counter("generations_adopted_total", ">=", 2)
    client.update()
    client.has_whole(new)
    for name in ("tool", "lib"):
        assert client.download(name) == new.debs[name].data, name
    assert depot.counter("errors_sent_total") == 0 == depot.counter("cut_answers_total")


def test_first_release_is_not_shown_before_it_is_judged(env):
    """Clients that come while it is stored and not adopted yet keep its generation as others do."""
    cdn = env.dists_cdn(*small_debs())
    depot = env.depot(index_max_age="1s")
    path = cdn.repo.path_of("lib")
    clients = [AptLike(cdn, depot.port, source=f"127.0.1.{n + 1}").connect() for n in range(40)]

    def first(client, n):
        # One after the other, so that some come in the moment before it is adopted.
        for _ in range(n):
            client.kept.get("/-/healthz")
        client.update_release()
    together(*(lambda c=client, n=n: first(c, n) for n, client in enumerate(clients)))
    clients[0].fetch_index()
    old = clients[0].get(path).body
    assert old == cdn.repo.debs["lib"].data
    depot.wait_idle()
    cdn.publish(*small_debs("2", 2))
    other = AptLike(cdn, depot.port, source="127.0.2.1")
    wait_until(lambda: other.update() and other.edition == 1, "the second edition")
    assert other.get(path).body != old
    wrong = [n for n, client in enumerate(clients) if client.get(path).body != old]
    for client in clients:
        client.close()
    assert not wrong, f"{wrong} have the first InRelease and get packages of the second"


def test_new_inrelease_with_old_indexes_flat(env):
    """CUDA's shape, where no by-hash name could help."""
    check_new_inrelease_with_old_indexes(env, env.flat_cdn(*small_debs()))


def test_new_inrelease_with_old_indexes_dists(env):
    """Debian's shape: the by-hash names are not there yet either."""
    check_new_inrelease_with_old_indexes(env, env.dists_cdn(*small_debs()))


def test_old_inrelease_with_new_indexes(env):
    """The reverse: the indexes of the generation are the depot's, however long it lasts."""
    for cdn in (env.flat_cdn(*small_debs()), env.dists_cdn(*small_debs())):
        old = cdn.editions[0]
        depot = env.depot(revalidate_wait="1s")
        client = warm(depot, cdn)
        new = cdn.prepare(*small_debs("2", 2))
        cdn.show(new, only=PACKAGES)
        cdn.show(new, only=INDEXES)
        updates(client, 100, old)
        update_and_download(client, 0)
        cdn.show(new)
        follow(depot, client, new)
        assert depot.counter("errors_sent_total") == 0


@heavy(5)
def test_apt_in_mixed_states(env):
    """Real apt-get, retries off, both shapes as two sources: not a warning in either state."""
    flat = env.flat_cdn(*small_debs(), signed=True)
    dists = env.dists_cdn(forge_deb("other", "1", 4000), signed=True)
    depot = env.depot(revalidate_wait="0s")
    sources = [flat.repo.source(), dists.repo.source()]
    root = env.apt(depot, *sources)

    def build(client, *debs):
        client.update().expect_success()
        client.run("download", *[deb.name for deb in debs]).expect_success()
        client.expect_packages(debs)

    old_debs = [*flat.editions[0].debs.values(), *dists.editions[0].debs.values()]
    build(root, *old_debs)
    depot.wait_counter("generations_current", "==", 2)
    # The reverse first: once the new InRelease was seen, its indexes complete a generation.
    for cdn, debs in ((flat, small_debs("2", 2)), (dists, [forge_deb("other", "2", 4001)])):
        new = cdn.prepare(*debs)
        cdn.show(new, only=PACKAGES)
        cdn.show(new, only=INDEXES)
    root.update().expect_success()
    build(env.apt(depot, *sources), *old_debs)
    for cdn in (flat, dists):
        cdn.show(cdn.editions[0], only=INDEXES)
        cdn.show(cdn.editions[1], only=RELEASES)
    for n, cdn in enumerate((flat, dists)):
        update_until(depot, AptLike(cdn, depot.port), cdn.editions[0],
                     ["generation_disagreements_total"], n + 1)
    root.update().expect_success()
    build(env.apt(depot, *sources), *old_debs)
    for cdn in (flat, dists):
        cdn.show(cdn.editions[1])
    for cdn in (flat, dists):
        follow(depot, AptLike(cdn, depot.port), cdn.editions[1])
    build(env.apt(depot, *sources), *flat.editions[1].debs.values(),
          *dists.editions[1].debs.values())


def check_flapping_edges(env, by):
    """Two edges, an edition behind each other: never mixed, and never back."""
    cdn = env.flat_cdn(*small_debs())
    depot = env.depot(revalidate_wait="0s")
    client = warm(depot, cdn)
    old = cdn.editions[0]
    new = cdn.prepare(*small_debs("2", 2))
    cdn.show(new, only=PACKAGES)
    cdn.show(old, new, only=RELEASES, by=by)
    cdn.show(old, new, only=INDEXES, by=by)
    follow(depot, client, new)
    updates(client, 60, new)
    clients = [AptLike(cdn, depot.port, source=f"127.0.0.{20 + n}") for n in range(3)]
    together(*[lambda c=c: updates(c, 20, new) for c in clients])
    assert depot.counter("generations_adopted_total") == 2
    assert depot.counter("errors_sent_total") == 0


def test_edges_that_flap_by_request(env):
    """Each request may reach another edge."""
    check_flapping_edges(env, "request")


def test_edges_that_flap_by_connection(env):
    """A connection stays at its edge; a new one may reach another."""
    check_flapping_edges(env, "connection")


def test_no_cache_gets_the_new_index(env):
    """The edge has an old index that no-cache gets past: the new generation needs no waiting."""
    cdn = env.flat_cdn(*small_debs())
    depot = env.depot(revalidate_wait="20s")
    client = warm(depot, cdn)
    new = cdn.prepare(*small_debs("2", 2))
    cdn.show(new, only=PACKAGES)
    cdn.no_cache_gets = new
    cdn.show(new, only=RELEASES)
    client.update()
    client.has_whole(new)


def test_waiting_for_agreement_is_bounded(env):
    """revalidate_wait is all that a client of a disagreeing upstream may lose; then it is told."""
    cdn = env.flat_cdn(*small_debs())
    old = cdn.editions[0]
    depot = env.depot(revalidate_wait="1s")
    client = warm(depot, cdn)
    cdn.show(cdn.prepare(*small_debs("2", 2)), only=RELEASES)
    started = time.monotonic()
    together(*[lambda n=n: updates(AptLike(cdn, depot.port, source=f"127.0.0.{30 + n}"), 1, old)
               for n in range(6)])
    assert time.monotonic() - started < 15 * SLOW
    cdn.show(cdn.editions[1])
    follow(depot, client, cdn.editions[1])


# -- publications under load ----------------------------------------------------------------------


def tolerate_lost(client, n):
    """A republished lib whose earlier bytes nobody had asked for is gone: an error, never a lie."""
    try:
        update_and_download(client, n)
    except Failed as err:
        if "lib_1" not in str(err):
            raise
        client.lost += 1


def make_clients(cdn, depot, n, **options):
    """n clients with an address each."""
    clients = [AptLike(cdn, depot.port, source=f"127.0.0.{10 + i}", **options) for i in range(n)]
    for client in clients:
        client.lost = 0
    return clients


@heavy(9)
def test_forty_publications_and_eight_clients(env):
    """Everybody updates and downloads in a loop: never a mismatch, and never left behind."""
    cdn = env.flat_cdn(*small_debs())
    depot = env.depot(revalidate_wait="0s", access_log=None)
    clients = make_clients(cdn, depot, 8)
    with Crowd(clients, tolerate_lost) as crowd:
        crowd.more(8)
        for _ in range(8):
            republish(cdn, 5, crowd.more)
            new = cdn.editions[-1]
            wait_until(lambda e=new: all(client.edition == e.number for client in clients),
                       f"all clients have {new}")
            crowd.more(16)
            lost = sum(client.lost for client in clients)
            crowd.more(16)
            assert sum(client.lost for client in clients) == lost, "lib is lost for good"
    crowd.expect_no_errors()
    assert len(cdn.editions) == 41
    for client in clients:
        update_and_download(client, 0)
        client.has_whole(cdn.editions[-1])
    assert depot.counter("generations_adopted_total") >= 9


@heavy(6)
def test_publications_behind_one_address(env):
    """Clients behind NAT share an address: each build's connections tell them apart."""
    cdn = env.dists_cdn(*small_debs())
    depot = env.depot(revalidate_wait="0s", access_log=None)
    clients = [AptLike(cdn, depot.port) for _ in range(6)]
    for client in clients:
        client.lost = 0
    with Crowd(clients, tolerate_lost) as crowd:
        crowd.more(6)
        republish(cdn, 15, crowd.more)
    crowd.expect_no_errors()


@heavy(9)
def test_publications_and_apt(env):
    """Real apt-get in a loop, retries off, an address each, in all the mixed states."""
    cdn = env.flat_cdn(*small_debs(), signed=True, detached=False)
    depot = env.depot(revalidate_wait="0s")
    roots = [env.apt(env.relay(depot, f"127.0.0.{40 + n}"), cdn.repo.source()) for n in range(3)]
    roots[0].update().expect_success()
    roots[0].run("download", "tool", "lib").expect_success()

    def build(root, _):
        root.update().expect_success()
        root.run("download", "tool").expect_success()
    with Crowd(roots, build) as crowd:
        for _ in range(2):
            republish(cdn, 1, lambda _: crowd.more(2))
    crowd.expect_no_errors()
    follow(depot, AptLike(cdn, depot.port), cdn.editions[-1])
    root = env.apt(depot, cdn.repo.source())
    root.update().expect_success()
    root.run("download", "tool", "lib").expect_success()
    root.expect_packages(cdn.editions[-1].debs.values())


# -- which generation a client sees ---------------------------------------------------------------


def test_connection_keeps_its_generation(env):
    """Two clients of one address, a generation each; who has none gets what was given last."""
    cdn = env.flat_cdn(*small_debs())
    old = cdn.editions[0]
    depot = env.depot(revalidate_wait="20s")
    warm(depot, cdn)
    with AptLike(cdn, depot.port).connect() as first, AptLike(cdn, depot.port).connect() as second:
        first.update()
        new = cdn.publish(*small_debs("2", 2))
        second.update()
        second.has_whole(new)
        conflicts = depot.counter("generation_conflicts_total")
        for _ in range(3):
            first.fetch_index()
            first.has_whole(old)
            second.fetch_index()
            second.has_whole(new)
            assert second.download("lib") == new.debs["lib"].data
            assert first.download("lib") == old.debs["lib"].data
            assert second.download("tool") == new.debs["tool"].data
            assert first.download("tool") == old.debs["tool"].data
        assert depot.counter("generation_held_total") > 0
        third = AptLike(cdn, depot.port)
        third.inrelease = second.inrelease
        third.fetch_index()
        third.has_whole(new)
        assert third.download("lib") == new.debs["lib"].data
        assert depot.counter("generation_conflicts_total") > conflicts
        # InRelease always moves its client.
        first.update()
        first.has_whole(new)
        assert first.download("lib") == new.debs["lib"].data


def test_index_behind_its_release_on_a_connection(env):
    """It belongs to the Release before it, however often the connection is looked at meanwhile."""
    cdn = env.flat_cdn(*small_debs())
    depot = env.depot(revalidate_wait="20s", workers="1")
    warm(depot, cdn)
    new = cdn.publish(*small_debs("2", 2))
    top, path = cdn.repo.top, cdn.repo.index_path()
    gate = Gate()
    cdn.origin.serve(top + "InRelease", Answer(cdn.data(new, top + "InRelease"), gate=gate),
                     host=cdn.repo.host)
    with depot.conn() as conn:
        conn.ask(target_of(cdn.url(top + "InRelease")))
        conn.ask(target_of(cdn.url(path)))
        gate.wait_for(1)
        # More input, which the one worker has seen once it answers others.
        conn.ask(target_of(cdn.url(path)))
        for _ in range(3):
            assert depot.get("/-/healthz").status == 200
        gate.open()
        assert conn.read().body == cdn.data(new, top + "InRelease")
        for _ in range(2):
            assert conn.read().body == cdn.data(new, path)


def test_address_keeps_its_generation(env):
    """A build's second connection: the same address sees what it was given, others do not care."""
    cdn = env.flat_cdn(*small_debs())
    old = cdn.editions[0]
    depot = env.depot(revalidate_wait="20s")
    early = warm(depot, cdn, source="127.0.0.5")
    new = cdn.publish(*small_debs("2", 2))
    late = AptLike(cdn, depot.port, source="127.0.0.6")
    late.update()
    late.has_whole(new)
    early.fetch_index()
    early.has_whole(old)
    assert early.download("lib") == old.debs["lib"].data
    assert late.download("lib") == new.debs["lib"].data
    unknown = AptLike(cdn, depot.port, source="127.0.0.7")
    unknown.inrelease = late.inrelease
    unknown.fetch_index()
    unknown.has_whole(new)
    assert unknown.download("lib") == new.debs["lib"].data
    early.update()
    early.has_whole(new)
    assert early.download("lib") == new.debs["lib"].data


def test_no_generation_hold(env):
    """generation_hold = 0: only the connection counts; an old name is still found in its own."""
    cdn = env.flat_cdn(*small_debs())
    old = cdn.editions[0]
    depot = env.depot(revalidate_wait="20s", generation_hold="0s")
    client = warm(depot, cdn, source="127.0.0.5")
    new = cdn.publish(*small_debs("2", 2))
    AptLike(cdn, depot.port, source="127.0.0.6").update()
    path = cdn.repo.index_path()
    assert client.get(path).body == cdn.data(new, path)
    env.origin.stop()
    assert client.download("tool") == old.debs["tool"].data
    env.origin.start_again()


def test_one_generation_and_a_connection(env):
    """keep_generations = 1, no hold: a connection's files are kept as long as it lives."""
    cdn = env.flat_cdn(*small_debs())
    old = cdn.editions[0]
    depot = env.depot(revalidate_wait="20s", generation_hold="0s", keep_generations="1")
    warm(depot, cdn)
    client = AptLike(cdn, depot.port).connect()
    client.update_release()
    for n in range(2, 5):
        # The third one's staging begins once the second's, and with it the first, has been tidied.
        follow(depot, AptLike(cdn, depot.port), cdn.publish(*small_debs(str(n), n)))
    depot.wait_counter("generations_expired_total", ">=", 1)
    client.fetch_index()
    client.has_whole(old)
    assert client.download("tool") == old.debs["tool"].data
    client.close()


def test_release_that_lags_behind_inrelease(env):
    """And the other way round: who is given the earlier one gets its index, and its packages."""
    cdn = env.dists_cdn(*small_debs(), signed=True)
    depot = env.depot(revalidate_wait="20s")
    warm(depot, cdn)
    first, path = cdn.editions[0], cdn.repo.index_path()

    def expect(name, edition):
        with depot.conn() as conn:
            for file in (cdn.repo.top + name, path, cdn.repo.path_of("lib")):
                response = conn.get(target_of(cdn.url(file)))
                assert response.body == cdn.data(edition, file), (name, file, response)

    def lag(edition, *names):
        for name in names:
            data, date = edition.files[cdn.repo.top + name]
            env.origin.serve(cdn.repo.top + name, Answer(data, last_modified=date),
                             host=cdn.repo.host)
    expect("Release", first)
    second = cdn.prepare(*small_debs("2", 2))
    lag(first, "Release", "Release.gpg")
    cdn.show(second)
    expect("InRelease", second)
    expect("Release", first)
    third = cdn.prepare(*small_debs("3", 3))
    lag(second, "InRelease")
    for name in ("Release", "Release.gpg"):
        env.origin.unserve(cdn.repo.top + name, host=cdn.repo.host)
    cdn.show(third)
    expect("Release", third)
    expect("InRelease", second)
    env.origin.unserve(cdn.repo.top + "InRelease", host=cdn.repo.host)
    expect("InRelease", third)


def test_two_suites_over_one_pool(env):
    """What one suite named once is no answer for a client of the other, which names it anew."""
    cdn = env.dists_cdn(*small_debs())
    old = cdn.editions[0]
    later = DistsRepo(NoWorkshop, env.origin, suite="later", debs={})
    later.debs = {"tool": forge_deb("tool", "9", 3000)}
    later.publish()
    shown = types.SimpleNamespace(repo=later)
    depot = env.depot(revalidate_wait="20s")
    first = warm(depot, cdn, source="127.0.0.5")
    AptLike(shown, depot.port, source="127.0.0.6").update()
    depot.wait_counter("generations_current", "==", 2)
    # The first suite drops lib; the second brings it again, with other bytes under its name.
    cdn.repo.debs.pop("lib")
    cdn.publish()
    follow(depot, AptLike(cdn, depot.port, source="127.0.0.7"), cdn.editions[1])
    new = forge_deb("lib", "1", 5000, seed=9)
    later.debs["lib"] = new
    later.publish()
    second = AptLike(shown, depot.port, source="127.0.0.6")
    second.update()
    assert second.download("lib") == new.data
    # Who still has the list of before gets what that says.
    assert first.download("lib") == old.debs["lib"].data
    assert second.download("lib") == new.data
    stranger = AptLike(shown, depot.port, source="127.0.0.8")
    stranger.stanzas = second.stanzas
    assert stranger.download("lib") == new.data


def test_package_that_only_an_old_generation_names(env):
    """A lock file asks for a version that the index no longer has: its digest is still known."""
    cdn = env.flat_cdn(*small_debs())
    depot = env.depot(revalidate_wait="20s")
    client = warm(depot, cdn)
    old = cdn.editions[0]
    cdn.publish(*small_debs("2", 2))
    follow(depot, AptLike(cdn, depot.port, source="127.0.0.9"), cdn.editions[1])
    cdn.remove(client.path_of("tool").replace("/./", "/"))
    late = AptLike(cdn, depot.port, source="127.0.0.8")
    response = late.get(cdn.repo.root + old.debs["tool"].file_name)
    assert response.status == 200 and response.body == old.debs["tool"].data, response


def test_republished_package_of_the_same_size(env):
    """Real apt-get: the new generation gets new bytes at once, a client on the old one the old."""
    cdn = env.flat_cdn(*small_debs(), signed=True)
    old = cdn.editions[0]
    depot = env.depot(revalidate_wait="20s")
    roots = [env.apt(env.relay(depot, f"127.0.0.{5 + n}"), cdn.repo.source()) for n in range(3)]
    for root in roots[:2]:
        root.update().expect_success()
    roots[0].run("download", "lib").expect_success()
    depot.wait_idle()
    new = cdn.publish(forge_deb("lib", "1", 5000, seed=9))
    assert len(new.debs["lib"].data) == len(old.debs["lib"].data)
    assert new.debs["lib"].file_name == old.debs["lib"].file_name
    roots[2].update().expect_success()
    roots[2].run("download", "lib").expect_success()
    roots[2].expect_packages([new.debs["lib"]])
    # Its lists are of before, and the origin has no such bytes any more.
    roots[1].run("download", "lib").expect_success()
    roots[1].expect_packages([old.debs["lib"]])
    roots[1].update().expect_success()
    root = env.apt(depot, cdn.repo.source())
    root.update().expect_success()
    root.run("download", "lib").expect_success()
    root.expect_packages([new.debs["lib"]])


def test_republished_package_nobody_had(env):
    """The old bytes are nowhere: a client that needs them gets an error, and never the new ones."""
    cdn = env.flat_cdn(*small_debs())
    old = cdn.editions[0]
    depot = env.depot(revalidate_wait="20s")
    with AptLike(cdn, depot.port, source="127.0.0.5").connect() as client:
        client.update()
        new = cdn.publish(*small_debs("2", 2))
        AptLike(cdn, depot.port, source="127.0.0.6").update()
        client.kept.ask("http://HTTPS///" + cdn.repo.host + client.path_of("lib"))
        response = client.kept.read_head()
        if response is not None:
            client.kept.read_body(response)
            assert response.status >= 500 or not response.complete, response
            assert new.debs["lib"].data[:64] not in response.body
    assert old.debs["lib"].data != new.debs["lib"].data
    other = AptLike(cdn, depot.port, source="127.0.0.6")
    other.update()
    assert other.download("lib") == new.debs["lib"].data


def test_first_visit_meets_a_publication(env):
    """The first InRelease is of the edition before what everything else is of: asked for again.

    Published a moment later, or from an edge that lags.
    """
    cdn = env.flat_cdn(*small_debs(), signed=True)
    old = cdn.editions[0]
    new = cdn.publish(*small_debs("2", 2))
    path = cdn.repo.top + "InRelease"
    env.origin.serve(path, *[Answer(edition.files[path][0], last_modified=edition.files[path][1])
                             for edition in (old, new)], host=cdn.repo.host)
    depot = env.depot()
    client = env.apt(depot, cdn.repo.source())
    client.update().expect_success()
    client.install("tool").expect_success()
    client.expect_packages([new.debs["tool"]])
    assert [r.get("Cache-Control") for r in cdn.requests(path)][:2] == [None, "no-cache"]
    assert depot.counter("releases_anew_total") == 1
    assert depot.counter("generations_adopted_total") == 1


def test_explain_tells_the_history(env):
    """Where the bytes came from, which generations name it with what, and what is here of that."""
    cdn = env.flat_cdn(*small_debs())
    old = cdn.editions[0]
    depot = env.depot(revalidate_wait="20s")
    client = warm(depot, cdn)
    new = cdn.publish(*small_debs("2", 2))
    client.update()
    client.has_whole(new)
    url = cdn.url(cdn.repo.root + "lib_1_all.deb")

    def explain(of):
        return json.loads(depot.command("explain", "--json", of))
    told = explain(url)
    assert not told["stored"] and "fetched_from" not in told, told
    latest, first = told["history"]
    assert latest["repository"] == first["repository"] == cdn.url()
    assert latest["digest"] == "sha256 " + new.debs["lib"].sha256 and not latest["stored"]
    assert first["digest"] == "sha256 " + old.debs["lib"].sha256 and first["stored"]
    assert (first["first_generation"], latest["last_generation"]) == (1, 2)
    assert first["from"] <= first["until"] == latest["from"] and latest["until"] is None
    assert client.download("lib") == new.debs["lib"].data
    depot.wait_idle()
    told = explain(url)
    assert told["fetched_from"] == f"127.0.0.1:{env.origin.tls_port}", told
    assert told["history"][0]["stored"] and abs(told["fetched_at"] - time.time()) < 60
    assert "listed" in told["verified"], told
    release = explain(cdn.url(cdn.repo.top + "InRelease"))
    assert [row["stored"] for row in release["history"]] == [True, True], release
    text = depot.command("explain", url)
    assert f"fetched from:        127.0.0.1:{env.origin.tls_port}" in text, text
    assert f"sha256 {old.debs['lib'].sha256}, 5000 bytes, stored; generation 1 of" in text, text
    page = depot.get("/-/explain?url=" + url).text
    assert old.debs["lib"].sha256 in page and f"127.0.0.1:{env.origin.tls_port}" in page


def test_explain_a_name_by_digest(env):
    """Which generations list it, though no one lists it by that name."""
    cdn = env.dists_cdn(*small_debs())
    depot = env.depot(revalidate_wait="20s")
    client = warm(depot, cdn)
    cdn.publish(*small_debs("2", 2))
    client.update()
    path = cdn.repo.index_path()
    for n, edition in enumerate(cdn.editions):
        data = cdn.data(edition, path)
        for algorithm in ("SHA256", "SHA512"):
            url = cdn.url(cdn.repo.by_hash(data, algorithm))
            told = json.loads(depot.command("explain", "--json", url))
            assert "listed" in told["role"] and told["class"] == "by-hash", told
            row, = told["history"]
            assert row["first_generation"] == row["last_generation"] == n + 1, told
            assert row["digest"] == "sha256 " + hashlib.sha256(data).hexdigest(), told
            assert row["stored"] and (row["until"] is None) == (n == 1), told


# -- first visits ---------------------------------------------------------------------------------


def test_index_asked_for_before_its_release(env):
    """It came from its own URL: a generation does not change what its answer says of it."""
    cdn = env.flat_cdn(*small_debs())
    path = cdn.repo.index_path()
    depot = env.depot()
    first = depot.fetch(f"https://{cdn.repo.host}{path}")
    depot.wait_idle()
    updates(AptLike(cdn, depot.port), 1, cdn.editions[0])
    depot.wait_counter("generations_current", "==", 1)
    depot.wait_idle()
    for _ in range(2):
        for method in ("GET", "HEAD"):
            then = depot.fetch(f"https://{cdn.repo.host}{path}", method=method)
            assert then.is_hit, then
            for name in ("ETag", "Last-Modified"):
                assert then.get(name) == first.get(name) is not None, (name, then.fields)
        depot.restart()
    assert len(env.origin.requests(path)) == 1, env.origin.log_text()


def test_first_visit_waits_for_agreement(env):
    """The second look at the index agrees: the first client never saw that the first did not."""
    cdn = env.flat_cdn(*small_debs())
    old = cdn.editions[0]
    new = cdn.prepare(*small_debs("2", 2))
    cdn.show(new)
    for end in cdn.repo.variants:
        path = cdn.repo.index_path(end)
        (was, was_date), (data, date) = old.files[path], new.files[path]
        env.origin.serve(path, Answer(was, last_modified=was_date),
                         Answer(data, last_modified=date), host=cdn.repo.host)
    depot = env.depot()
    client = AptLike(cdn, depot.port)
    update_and_download(client, 0)
    client.has_whole(new)
    depot.wait_counter("generations_current", "==", 1)


def test_first_visit_that_disagrees(env):
    """Held for a few seconds, then told what upstream has: there is nothing better to tell."""
    cdn = env.flat_cdn(*small_debs())
    old = cdn.editions[0]
    new = cdn.prepare(*small_debs("2", 2))
    cdn.show(new, only=RELEASES)
    depot = env.depot()
    client = AptLike(cdn, depot.port)
    started = time.monotonic()
    with client.connect():
        client.update_release()
        path = cdn.repo.index_path()
        response = client.get(path)
    took = time.monotonic() - started
    assert took < 20 * SLOW, f"{took:.1f} s"
    assert client.edition == new.number
    assert response.status == 200 and response.body == cdn.data(old, path), response
    assert depot.counter("generation_disagreements_total") >= 1
    assert depot.counter("generations_current") == 0
    # Nobody is promised anything before there is a generation: one is made in the background.
    cdn.show(new)
    depot.wait_counter("generations_current", "==", 1)
    follow(depot, client, new)


def wait_ms(line):
    """How long the request of a line of the access log waited for its answer to begin."""
    return int(line.split(" wait_ms=")[1].split()[0])


def url_of(line):
    """What it was for."""
    return line.split(" url=")[1].split()[0]


def serve_late(env, cdn, late, wait_n, missing=False):
    """The edition is shown, but of its indexes the one before, or none, to the first wait_n looks."""
    old = cdn.editions[0]
    for path in (cdn.repo.index_path(end) for end in cdn.repo.variants):
        (was, was_date), (data, date) = old.files[path], late.files[path]
        first = Answer(b"", 404) if missing else Answer(was, last_modified=was_date)
        env.origin.serve(path, *[first] * wait_n, Answer(data, last_modified=date),
                         host=cdn.repo.host)
        for algorithm in ("SHA256", "SHA512"):
            cdn.remove(cdn.repo.by_hash(data, algorithm))
    cdn.show(late)


@patient
def test_first_visit_of_mirrors_that_are_late(env):
    """Real apt-get, retries off: held until upstream agrees, some 1.5 s later."""
    stale = env.dists_cdn(*small_debs(), signed=True)
    lacking = env.dists_cdn(forge_deb("other", "1", 4000), signed=True, host="mirror.example")
    lacking.repo.by_hash_says = "no"
    serve_late(env, stale, stale.prepare(*small_debs("2", 2)), 4)
    serve_late(env, lacking, lacking.prepare(forge_deb("other", "2", 4001)), 3, missing=True)
    flat = env.flat_cdn(forge_deb("flat", "1", 4000), signed=True)
    serve_late(env, flat, flat.prepare(forge_deb("flat", "2", 4001)), 3, missing=True)
    depot = env.depot()
    root = env.apt(depot, stale.repo.source(), lacking.repo.source(), flat.repo.source())
    root.update().expect_success()
    root.run("download", "tool", "other", "flat").expect_success()
    root.expect_packages([cdn.editions[1].debs[name] for cdn, name in
                          ((stale, "tool"), (lacking, "other"), (flat, "flat"))])
    counters = depot.counters()
    assert counters["index_waits_total"] == 3 and counters["index_waits_in_vain_total"] == 0
    assert counters["errors_sent_total"] == 0


@patient
def test_first_visit_of_a_mirror_that_stays_late(env):
    """Its root is waited for once, not for each of its files; parallel clients share the looks."""
    cdn = env.dists_cdn(*small_debs(), signed=True, variants=("", ".gz", ".bz2", ".xz"))
    new = cdn.prepare(*small_debs("2", 2))
    cdn.show(new, only=RELEASES)
    depot = env.depot()
    roots = [env.apt(depot, cdn.repo.source()) for _ in range(3)]
    started = time.monotonic()
    for result in together(*[root.update for root in roots]):
        assert result.status != 0, result.text
    took = time.monotonic() - started
    depot.wait_access("/Packages.xz", len(roots))
    waits = {url_of(line) for line in depot.access_lines()
             if "/Packages" in line and wait_ms(line) > 2000}
    assert took > 2 and len(waits) == 1, waits      # 3 s, and not twice
    for end in cdn.repo.variants:
        looks = [request for request in cdn.requests(cdn.repo.index_path(end))
                 if request.get("Cache-Control") == "no-cache"]
        assert len(looks) <= 1 + 2 * took, looks
        assert len({look.connection for look in looks}) == len(looks)
    assert depot.counter("index_waits_in_vain_total") == depot.counter("index_waits_total") > 0
    # It has been waited for; once upstream agrees, that is seen at the next request all the same.
    client = AptLike(cdn, depot.port)
    client.update_release()
    response = client.get(cdn.repo.index_path(".xz"))
    assert response.status == 503 and response.body, response
    cdn.show(new)
    wait_until(lambda: all(client.get(cdn.repo.index_path(end)).status == 200
                           for end in cdn.repo.variants), "the indexes", 10)
    client.fetch_index()
    client.has_whole(new)


@patient
def test_index_that_is_late_and_an_earlier_generation(env):
    """What nobody had asked for is no part of the staging: revalidate_wait, though upstream hangs."""
    cdn = env.dists_cdn(*small_debs(), variants=("", ".gz", ".xz"))
    depot = env.depot(revalidate_wait="1s")
    client = warm(depot, cdn)
    new = cdn.prepare(*small_debs("2", 2))
    path = cdn.repo.index_path(".xz")
    cdn.show(new)
    gate = env.origin.gate()
    env.origin.serve(path, Answer(b"not yet\n", 404), Answer(cdn.data(new, path), gate=gate),
                     host=cdn.repo.host)
    for algorithm in ("SHA256", "SHA512"):
        cdn.remove(cdn.repo.by_hash(cdn.data(new, path), algorithm))
    follow(depot, client, new)
    response = client.get(path)
    assert response.status >= 500 and response.body, response
    waited = wait_ms(depot.wait_access(f" status={response.status} ")[0])
    assert waited < 2900 * SLOW, waited     # 1 s, and not 3
    counters = depot.counters()
    assert counters["index_looks_total"] == counters["index_waits_in_vain_total"] == 1, counters
    gate.open()
    assert client.get(path).body == cdn.data(new, path)


def test_release_without_a_date(env):
    """apt takes it with a warning, or without one where C wrote its Date: generations they are."""
    undated = env.flat_cdn(*small_debs())
    by_c = env.dists_cdn(forge_deb("tool", "1", 4000), forge_deb("lib", "1", 4001))
    depot = env.depot(revalidate_wait="20s")

    def dated(cdn):
        when = time.strftime("%a %b %e %H:%M:%S %Y", time.gmtime(1.7e9 + 60 * len(cdn.editions)))
        line = b"" if cdn is undated else f"Date: {when}\n".encode()
        return lambda text: re.sub(rb"(?m)^Date: .*\n", line, text)
    for cdn in (undated, by_c):
        cdn.publish(release=dated(cdn))
        client = warm(depot, cdn)
        new = cdn.publish(*small_debs("2", 2), release=dated(cdn))
        follow(depot, client, new)
        update_and_download(client, 0)
    assert depot.counter("generations_adopted_total") == 4
    env.origin.stop()
    depot.restart()
    update_and_download(AptLike(undated, depot.port), 0)
    update_and_download(AptLike(by_c, depot.port), 0)
    listing = depot.command("generations")
    assert listing.count("published 2023-11-14T") == 2, listing
    assert listing.count("packages") == 4, listing
    assert '"date":null' in depot.get("/-/api/v1/generations").text
    assert depot.get("/-/").status == 200
    explained = depot.command("explain", undated.url(undated.repo.path_of("tool")))
    assert "stored" in explained and "1970" not in explained, explained


def with_contents(n):
    """Release lists a Contents too, another one in each edition."""
    def files(listed):
        listed["main/Contents-all.gz"] = b"usr/bin/tool %d\n" % n
        return listed
    return files


def check_contents_that_stay(env, gone):
    """Some client has asked for it; installs don't need it: the others don't wait for good."""
    os.environ["APT_DEPOT_TEST_PASS_OVER"] = "now"
    cdn = env.dists_cdn(*small_debs())
    old = cdn.publish(files=with_contents(1))
    depot = env.depot(revalidate_wait="0s")
    client = warm(depot, cdn)
    path = cdn.repo.top + "main/Contents-all.gz"
    assert client.get(path).body == cdn.data(old, path)
    depot.wait_idle()
    new = cdn.prepare(*small_debs("2", 2), files=with_contents(2))
    env.origin.serve(path, Answer(b"none\n", 404) if gone else Answer(cdn.data(old, path)),
                     host=cdn.repo.host)
    for algorithm in ("SHA256", "SHA512"):
        cdn.remove(f"{cdn.repo.top}main/by-hash/{algorithm}/"
                   f"{hashlib.new(algorithm, cdn.data(new, path)).hexdigest()}",
                   cdn.repo.by_hash(cdn.data(new, path), algorithm))
    cdn.show(new)
    updates(client, 1, old)
    depot.wait_counter("generation_passed_over_total", "==", 1)
    depot.wait_log(cdn.repo.host, "Contents-all.gz", "adopted without")
    follow(depot, client, new)
    update_and_download(client, 0)
    response = client.get(path)
    assert response.status in (502, 503) and response.body, response
    env.origin.unserve(path, host=cdn.repo.host)
    wait_until(lambda: client.get(path).status == 200, "Contents comes in the end")
    assert client.get(path).body == cdn.data(new, path)
    assert depot.log_text().count("adopted without") == 1


def test_contents_that_stay_behind(env):
    """Upstream keeps showing an earlier Contents beside its new Release."""
    check_contents_that_stay(env, False)


def test_contents_that_stay_away(env):
    """Upstream has no Contents any more, though its new Release lists one."""
    check_contents_that_stay(env, True)


# -- restarts -------------------------------------------------------------------------------------


def check_restart(env, end):
    """After it the last complete generation is there, whatever upstream shows by then."""
    cdn = env.flat_cdn(*small_debs())
    depot = env.depot(revalidate_wait="0s")
    client = warm(depot, cdn)
    new = cdn.publish(*small_debs("2", 2))
    follow(depot, client, new)
    update_and_download(client, 0)
    depot.wait_idle()
    cdn.show(cdn.prepare(*small_debs("3", 3)), only=RELEASES)
    end(depot)
    depot.start()
    updates(client, 3, new)
    update_and_download(client, 0)
    end(depot)
    env.origin.stop()
    depot.start()
    updates(client, 3, new)
    update_and_download(client, 0)
    env.origin.start_again()
    cdn.show(cdn.editions[2])
    follow(depot, client, cdn.editions[2])


def test_restart(env):
    """An orderly one."""
    check_restart(env, lambda depot: depot.stop())


def test_kill(env):
    """kill -9."""
    check_restart(env, lambda depot: depot.kill())


def test_kill_while_staging(env):
    """kill -9 at each point of a staging: before InRelease, before the index, before it ends."""
    cdn = env.flat_cdn(*small_debs())
    depot = env.depot(revalidate_wait="0s")
    client = warm(depot, cdn)
    old = cdn.editions[0]
    new = cdn.prepare(*small_debs("2", 2))
    index = [cdn.repo.index_path(end) for end in cdn.repo.variants]
    for held, at in (([cdn.repo.top + "InRelease"], None), (index, None), (index, 20)):
        gates = []
        for path in held:
            data, date = new.files[path]
            gates.append(env.origin.gate())
            env.origin.serve(path, Answer(data, last_modified=date, gate=gates[-1], held_at=at),
                             host=cdn.repo.host)
        cdn.show(new)
        # One update may meet an answer that is under way since before.
        wait_until(lambda g=gates: client.update() and any(gate.waiting for gate in g),
                   f"{held} is being fetched")
        client.has_whole(old)
        depot.kill()
        cdn.show(old)
        cdn.fail(Answer(b"busy\n", 503))
        for path, gate in zip(held, gates):
            env.origin.unserve(path, host=cdn.repo.host)
            gate.open()
        depot.start()
        updates(client, 2, old)
        update_and_download(client, 0)
        cdn.fail(None)
    cdn.show(new)
    follow(depot, client, new)
    update_and_download(client, 0)
