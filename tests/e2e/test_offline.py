# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""Upstream is away, and builds go on: whole generations come from the cache."""
import time

from aptlike import AptLike, follow, update_and_download, update_until, updates, warm
from cdn import RELEASES
from client import expect_error
from depot import SLOW
from origin import Answer
from repo import forge_deb, small_debs
from support import heavy, patient, together

NEEDS_PACKAGES = True


def build(root, *cdns):
    """From nothing to packages, without a warning."""
    debs = [deb for cdn in cdns for deb in cdn.editions[0].debs.values()]
    root.update().expect_success()
    root.install(*[deb.name for deb in debs]).expect_success()
    root.expect_packages(debs)


def start(env, **options):
    """Both shapes, and one client that has built from them."""
    cdns = [env.flat_cdn(*small_debs(), signed=True),
            env.dists_cdn(forge_deb("other", "1", 90000), signed=True)]
    depot = env.depot(**dict({"revalidate_wait": "1s"}, **options))
    sources = [cdn.repo.source() for cdn in cdns]
    build(env.apt(depot, *sources), *cdns)
    depot.wait_counter("generations_current", "==", 2)
    depot.wait_idle()
    return cdns, depot, sources


def check_trouble(env, begin, end):
    """A client that has been here, one that has not, a restart; then a new edition is seen."""
    cdns, depot, sources = start(env)
    begin(cdns)
    build(env.apt(depot, *sources), *cdns)
    for cdn in cdns:
        client = AptLike(cdn, depot.port)
        updates(client, 4, cdn.editions[0])
    depot.kill()
    depot.start()
    build(env.apt(depot, *sources), *cdns)
    assert depot.counter("errors_sent_total") == 0
    end(cdns)
    for cdn, debs in zip(cdns, (small_debs("2", 2), [forge_deb("other", "2", 5000)])):
        new = cdn.publish(*debs)
        follow(depot, AptLike(cdn, depot.port), new)


def fail_all(answer):
    """Both hosts answer this."""
    return lambda cdns: [cdn.fail(answer) for cdn in cdns]


@heavy(4)
def test_origin_is_stopped(env):
    """It refuses connections."""
    check_trouble(env, lambda _: env.origin.stop(), lambda _: env.origin.start_again())


@heavy(4)
def test_origin_hangs(env):
    """It accepts, and says nothing."""
    gate = env.origin.gate()

    def end(cdns):
        fail_all(None)(cdns)
        gate.open()
    check_trouble(env, fail_all(Answer(gate=gate)), end)


@heavy(4)
def test_origin_answers_503(env):
    """It is busy."""
    check_trouble(env, fail_all(Answer(b"busy\n", 503)), fail_all(None))


@heavy(4)
def test_origin_resets(env):
    """It cuts each connection."""
    check_trouble(env, fail_all(Answer(drop="reset")), fail_all(None))


@patient
def test_a_hanging_host_is_waited_for_once(env):
    """Waits do not add up: one client loses revalidate_wait, the others nothing, until it is up."""
    cdn = env.flat_cdn(*small_debs())
    old = cdn.editions[0]
    depot = env.depot(revalidate_wait="8s")
    client = warm(depot, cdn)
    gate = env.origin.gate()
    cdn.fail(Answer(gate=gate))
    client.update()
    client.has_whole(old)

    def update_at_once(client):
        started = time.monotonic()
        updates(client, 1, old)
        assert time.monotonic() - started < 7 * SLOW, "waited again"
    for _ in range(10):
        update_at_once(client)
    together(*[lambda n=n: update_at_once(AptLike(cdn, depot.port, source=f"127.0.0.{50 + n}"))
               for n in range(3)])
    cdn.fail(None)
    gate.open()
    follow(depot, client, cdn.publish(*small_debs("2", 2)))


def test_offline(env):
    """offline = yes: everything that is here is served, and nothing is asked for."""
    cdns, depot, sources = start(env)
    depot.stop()
    depot.options["offline"] = "yes"
    new = cdns[0].publish(*small_debs("2", 2))
    cdns[1].show(cdns[1].prepare(forge_deb("other", "2", 5000)), only=RELEASES)
    env.origin.forget()
    connections = env.origin.connections
    depot.start()
    build(env.apt(depot, *sources), *cdns)
    client = AptLike(cdns[0], depot.port)
    updates(client, 6, cdns[0].editions[0])
    update_and_download(client, 0)
    expect_error(client.get(cdns[0].repo.root + new.debs["tool"].file_name), 504, words=["offline"])
    assert depot.counter("generations_current") == 2
    assert env.origin.requests() == [], env.origin.log_text()
    assert env.origin.connections == connections

    depot.stop()
    depot.options["offline"] = None
    depot.start()
    follow(depot, client, new)


def test_offline_in_the_middle_of_a_mixed_state(env):
    """The depot went offline while upstream disagreed: the last complete generation counts."""
    cdn = env.flat_cdn(*small_debs())
    depot = env.depot(revalidate_wait="0s")
    client = warm(depot, cdn)
    cdn.show(cdn.prepare(*small_debs("2", 2)), only=RELEASES)
    update_until(depot, client, cdn.editions[0], ["generation_disagreements_total"], 1)
    depot.stop()
    depot.options["offline"] = "yes"
    env.origin.forget()
    depot.start()
    updates(client, 4, cdn.editions[0])
    update_and_download(client, 0)
    assert env.origin.requests() == []
