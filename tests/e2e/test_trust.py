# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""Dates and signatures of releases: what is reported, what is held back."""
import email.utils
import os
import shutil
import time

from aptlike import AptLike, follow, update_and_download, update_until, updates, warm
from cdn import RELEASES
from depot import wait_until
from origin import Answer
from repo import NoWorkshop, Workshop, small_debs
from support import Skip, heavy

NEEDS_PACKAGES = True


def valid_until(seconds):
    """The line of Release."""
    when = email.utils.formatdate(time.time() + seconds, usegmt=True).replace("GMT", "UTC")
    return f"Valid-Until: {when}\n"


# -- dates ----------------------------------------------------------------------------------------


def test_valid_until_is_watched(env):
    """Over, or soon: a gauge and a line in the log; what to make of it is the client's affair."""
    cdn = env.flat_cdn(*small_debs())
    depot = env.depot(revalidate_wait="20s")
    client = warm(depot, cdn)
    assert depot.counter("release_expired") == 0
    new = cdn.publish(*small_debs("2", 2), fields=valid_until(30 * 86400))
    follow(depot, client, new)
    assert depot.counter("release_expired") == 0
    near = cdn.publish(*small_debs("3", 3), fields=valid_until(600))
    follow(depot, client, near)
    depot.wait_log(cdn.repo.host, "Valid-Until")
    over = cdn.publish(*small_debs("4", 4), fields=valid_until(-3600))
    follow(depot, client, over)
    depot.wait_counter("release_expired", "==", 1)
    follow(depot, client, cdn.publish(*small_debs("5", 5), fields=valid_until(30 * 86400)))
    depot.wait_counter("release_expired", "==", 0)


def test_release_expires_while_it_is_current(env):
    """Nothing new comes, and the day passes."""
    cdn = env.flat_cdn(*small_debs())
    depot = env.depot(revalidate_wait="20s")
    client = warm(depot, cdn)
    new = cdn.publish(*small_debs("2", 2), fields=valid_until(1))
    follow(depot, client, new)
    depot.wait_counter("release_expired", "==", 1)
    updates(client, 2, new)


def test_older_date_is_not_adopted(env):
    """An edge that is behind, even for long and across a restart: no way back."""
    cdn = env.flat_cdn(*small_debs())
    old = cdn.editions[0]
    depot = env.depot(revalidate_wait="0s")
    client = warm(depot, cdn)
    new = cdn.publish(*small_debs("2", 2))
    follow(depot, client, new)
    update_and_download(client, 0)
    cdn.show(old)
    for _ in range(2):
        update_until(depot, client, new, ["releases_refused_total"], 1)
        updates(client, 10, new)
        update_and_download(client, 0)
        depot.restart()
    cdn.show(new)
    updates(client, 4, new)
    newer = cdn.publish(*small_debs("3", 3))
    follow(depot, client, newer)
    # Older than all before, under a signature of today: the same.
    stale = cdn.publish(*small_debs("4", 4), when=time.time() - 30 * 86400)
    refused = depot.counter("releases_refused_total")
    update_until(depot, client, newer, ["releases_refused_total"], refused + 1)
    assert stale.number == 3
    depot.wait_log(cdn.repo.host, "older")


def test_older_date_by_configuration(env):
    """adopt_older = 0: a publisher who went back is followed at once."""
    cdn = env.flat_cdn(*small_debs())
    old = cdn.editions[0]
    depot = env.depot(revalidate_wait="0s", adopt_older="0s")
    client = warm(depot, cdn)
    follow(depot, client, cdn.publish(*small_debs("2", 2)))
    cdn.show(old)
    follow(depot, client, old)


def test_signed_again(env):
    """Another signature or Valid-Until over the same lists: adopted, and no index is fetched."""
    cdn = env.flat_cdn(*small_debs())
    depot = env.depot(revalidate_wait="20s")
    client = warm(depot, cdn)
    env.origin.forget()
    new = cdn.publish(fields=valid_until(86400 * 7))
    follow(depot, client, new)
    bodies = [path for path in new.files if env.origin.body_bytes(path)]
    assert set(bodies) <= {cdn.repo.top + name for name in ("InRelease", "Release",
                                                           "Release.gpg")}, bodies


# -- signatures -----------------------------------------------------------------------------------


def other_workshop(env):
    """A second key."""
    path = os.path.join(env.workshop().path, f"k{os.getpid()}")
    return Workshop(path).make_key()


def verifying(env, keys, **options):
    """A repository signed by the first key, and a depot that checks."""
    if shutil.which("gpgv") is None:
        raise Skip("gpgv is not installed")
    cdn = env.flat_cdn(*small_debs(), signed=True)
    keyring = os.path.join(env.path, "keyring")
    os.makedirs(keyring)
    for n, workshop in enumerate(keys):
        workshop.export_key(os.path.join(keyring, f"key{n}.gpg"))
    depot = env.depot(revalidate_wait="0s", verify_signatures="yes", keyring_dir=keyring, **options)
    return cdn, depot


def slice_between(first, last):
    """Cuts InRelease: without armour it is a Release that nobody signed."""
    return lambda data: data[data.index(first):data.index(last)]


def check_held(depot, client, cdn, old, **options):
    """The next edition, made like this, is not adopted; what was, is served on."""
    before = depot.counter("releases_refused_total")
    cdn.publish(*small_debs(str(len(cdn.editions) + 1), len(cdn.editions)), **options)
    update_until(depot, client, old, ["releases_refused_total"], before + 1)
    updates(client, 4, old)
    update_and_download(client, 0)
    assert depot.counter("generations_adopted_total") == old.number + 1


def test_good_signature(env):
    """Adopted, again and again, and after a restart."""
    cdn, depot = verifying(env, [env.workshop()])
    client = warm(depot, cdn)
    follow(depot, client, cdn.publish(*small_debs("2", 2)))
    depot.restart()
    updates(client, 2, cdn.editions[1])
    follow(depot, client, cdn.publish(*small_debs("3", 3)))
    assert depot.counter("releases_refused_total") == 0


def test_bad_signatures(env):
    """Not by that key over that text: held, said in the log, and over with the next good one."""
    cdn, depot = verifying(env, [env.workshop()])
    client = warm(depot, cdn)
    old = cdn.editions[0]
    check_held(depot, client, cdn, old, workshop=NoWorkshop)
    check_held(depot, client, cdn, old,
               inrelease=lambda data: data.replace(b"Origin: NVIDIA", b"Origin: NVIDIB"))
    bare = slice_between(b"Origin:", b"-----BEGIN PGP SIGNATURE")
    check_held(depot, client, cdn, old, inrelease=bare)
    stranger = other_workshop(env)
    try:
        check_held(depot, client, cdn, old, workshop=stranger)
    finally:
        stranger.close()
    depot.wait_log(cdn.repo.host, "signature")
    new = cdn.publish(*small_debs("9", 9))
    wait_until(lambda: client.update() and client.edition == new.number, "the good one is adopted")
    client.has_whole(new)


def test_signer_changes(env):
    """Another key of the keyring: reported and adopted, or held, as configured."""
    stranger = other_workshop(env)
    try:
        for option in ("report", "hold"):
            keys = [env.workshop(), stranger]
            shutil.rmtree(os.path.join(env.path, "keyring"), ignore_errors=True)
            cdn, depot = verifying(env, keys, on_signer_change=option)
            client = warm(depot, cdn)
            if option == "hold":
                check_held(depot, client, cdn, cdn.editions[0], workshop=stranger)
            else:
                follow(depot, client, cdn.publish(*small_debs("2", 2), workshop=stranger))
            depot.wait_log(cdn.repo.host, "sign")
            depot.stop()
    finally:
        stranger.close()


def test_detached_signature(env):
    """No InRelease: Release and Release.gpg are the generation, checked alike."""
    cdn, depot = verifying(env, [env.workshop()])
    cdn.remove(cdn.repo.top + "InRelease")
    root = env.apt(depot, cdn.repo.source())
    root.update().expect_success()
    root.run("download", "tool").expect_success()
    depot.wait_counter("generations_current", "==", 1)
    new = cdn.prepare(*small_debs("2", 2))
    cdn.show(new, only=RELEASES)
    root.update().expect_success()
    fresh = env.apt(depot, cdn.repo.source())
    fresh.update().expect_success()
    fresh.run("download", "tool").expect_success()
    fresh.expect_packages([cdn.editions[0].debs["tool"]])
    cdn.show(new)

    def adopted():
        client = AptLike(cdn, depot.port)
        release = client.get(cdn.repo.top + "Release", "Cache-Control: max-age=0")
        return release.body == new.release
    wait_until(adopted, "Release of the new edition")
    last = env.apt(depot, cdn.repo.source())
    last.update().expect_success()
    last.run("download", "tool", "lib").expect_success()
    last.expect_packages(new.debs.values())


@heavy(3)
def test_signature_of_another_release(env):
    """No InRelease; Release and Release.gpg are of two publications, either way: not a warning."""
    cdn = env.dists_cdn(*small_debs(), signed=True)
    top = cdn.repo.top
    cdn.remove(top + "InRelease")
    depot = env.depot(revalidate_wait="20s")
    old = cdn.editions[0]

    def build(edition):
        root = env.apt(depot, cdn.repo.source())
        root.update().expect_success()
        root.run("download", "tool", "lib").expect_success()
        root.expect_packages(edition.debs.values())
        return root

    def pin(name, edition):
        data, date = edition.files[top + name]
        env.origin.serve(top + name, Answer(data, last_modified=date), host=cdn.repo.host)
    build(old)
    new = cdn.prepare(*small_debs("2", 2))
    # The signature is late.
    pin("Release.gpg", old)
    cdn.show(new)
    build(old)
    depot.wait_log(cdn.repo.host, "Release.gpg", "another Release")
    env.origin.unserve(top + "Release.gpg", host=cdn.repo.host)
    depot.wait_counter("generations_adopted_total", "==", 2)
    root = build(new)
    # It is early; a client that has the Release asks for both again.
    newest = cdn.prepare(*small_debs("3", 3))
    pin("Release", new)
    cdn.show(newest)
    build(new)
    root.update().expect_success()
    env.origin.unserve(top + "Release", host=cdn.repo.host)
    build(newest)
    assert depot.counter("generations_adopted_total") == 3
