# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""What an index says decides what may be served: wrong bytes, one content under several names."""
import hashlib
import json
import os
import shutil

from aptlike import AptLike, Failed, follow, update_and_download, warm
from body import Pattern
from cdn import PORTAL, flip, portal
from client import expect_error
from depot import target_of
from origin import Answer
from repo import compress, forge_deb, small_debs
from support import Later, Skip, heavy

NEEDS_PACKAGES = True
BIG = 400000
SMALL = 9000


def debs():
    """One that is withheld whole until it is known to be right, one of which only the tail is."""
    return [forge_deb("small", "1", SMALL), forge_deb("big", "1", BIG)]


def start(env, **options):
    """A depot that knows the index of a repository, and has no package yet."""
    cdn = env.flat_cdn(*debs())
    depot = env.depot(revalidate_wait="1s", **options)
    client = AptLike(cdn, depot.port)
    client.update()
    depot.wait_counter("generations_current", "==", 1)
    depot.wait_tables()
    depot.wait_idle()
    return cdn, depot, client


def serve(cdn, name, *answers):
    """Scripts the package's URL."""
    for path in cdn.repo.names_of(cdn.repo.path_of(name)):
        cdn.origin.serve(path, *answers, host=cdn.repo.host)


def unserve(cdn, name):
    """Back to the right bytes."""
    for path in cdn.repo.names_of(cdn.repo.path_of(name)):
        cdn.origin.unserve(path, host=cdn.repo.host)


def expect_refused(client, name):
    """Neither the package nor anything else arrives whole."""
    try:
        client.download(name)
    except Failed:
        return
    raise AssertionError(f"{name} arrived")


# -- wrong bytes ----------------------------------------------------------------------------------


def test_wrong_bytes_are_healed(env):
    """Right length, wrong bytes, once: fetched again while the client waits."""
    cdn, depot, client = start(env)
    expected = depot.counter("packages_expected_total")
    for n, (name, at) in enumerate((("small", 0), ("big", -7))):
        data = cdn.repo.debs[name].data
        serve(cdn, name, flip(data, at), data)
        assert client.download(name) == data
        assert len(cdn.requests(cdn.repo.path_of(name))) == 2
        depot.wait_counter("digest_mismatches_total", "==", n + 1)
    assert depot.counter("packages_expected_total") >= expected + 2
    assert depot.counter("cut_answers_total") == 0 == depot.counter("errors_sent_total")


def test_wrong_bytes_that_were_sent(env):
    """What has left can't be taken back: that client is cut, the next one gets the right bytes."""
    cdn, depot, client = start(env)
    data = cdn.repo.debs["big"].data
    gate = env.origin.gate()
    serve(cdn, "big", Answer(flip(data, 1000), gate=gate, held_at=300000), data)
    sent = depot.counter("sent_body_bytes_total")
    refused = Later(lambda: expect_refused(client, "big"))
    depot.wait_counter("sent_body_bytes_total", ">=", sent + 300000)
    gate.open()
    refused.result()
    assert client.download("big") == data
    depot.wait_counter("digest_mismatches_total", ">=", 1)


def test_wrong_bytes_always(env):
    """Never complete at a client and not kept; the next edition is not held against its name."""
    cdn, depot, client = start(env)
    blobs = depot.counter("cache_blobs")
    for name, at in (("small", 5), ("big", 5), ("big", -5)):
        serve(cdn, name, flip(cdn.repo.debs[name].data, at))
        expect_refused(client, name)
        expect_refused(client, name)
    expect_error(client.get(client.path_of("small")), 502, words=["digest"])
    depot.wait_idle()
    assert depot.counter("cache_blobs") == blobs
    depot.restart()
    expect_refused(client, "small")
    for name in ("small", "big"):
        unserve(cdn, name)
    new = cdn.publish(forge_deb("small", "1", SMALL, 2), forge_deb("big", "1", BIG, 2))
    follow(depot, client, new)
    for name in ("small", "big"):
        assert client.download(name) == new.debs[name].data


def test_apt_and_wrong_bytes(env):
    """Real apt-get, retries off: fails while they are wrong, is healed where they need not be."""
    cdn = env.flat_cdn(*debs(), signed=True)
    depot = env.depot()
    root = env.apt(depot, cdn.repo.source())
    root.update().expect_success()
    depot.wait_tables()
    small, big = (cdn.repo.debs[name].data for name in ("small", "big"))
    serve(cdn, "small", flip(small))
    serve(cdn, "big", flip(big), big)
    result = root.run("download", "small")
    assert result.status != 0 and "Hash Sum mismatch" not in result.text, result.text
    assert root.downloaded() == {}
    root.run("download", "big").expect_success()
    root.expect_packages([cdn.repo.debs["big"]])


def test_wrong_length_is_refused_at_the_head(env):
    """An announced length that is not the index's: no need to look at the bytes."""
    cdn, depot, client = start(env)
    path = cdn.repo.path_of("small")
    data = cdn.repo.debs["small"].data
    serve(cdn, "small", Answer(Pattern(64 << 20)))
    expect_error(client.get(client.path_of("small")), 502)
    assert sum(env.origin.body_bytes(name) for name in cdn.repo.names_of(path)) < 48 << 20
    for wrong in (data + b"x", data[:-1]):
        serve(cdn, "big", wrong, cdn.repo.debs["big"].data)
        assert client.download("big") == cdn.repo.debs["big"].data
        depot.wait_idle()
        follow(depot, client, cdn.publish(forge_deb("big", "1", BIG, len(wrong))))


def test_upstream_has_another_edition(env):
    """The index is new, the package's URL still has the old bytes: an error until it has not."""
    cdn, depot, client = start(env)
    old = cdn.repo.debs["small"]
    assert client.download("small") == old.data
    depot.wait_idle()
    serve(cdn, "small", old.data)
    new = cdn.publish(forge_deb("small", "1", SMALL, 2))
    follow(depot, client, new)
    expect_refused(client, "small")
    unserve(cdn, "small")
    follow(depot, client, cdn.publish(forge_deb("small", "1", SMALL, 3)))
    assert client.download("small") == cdn.repo.debs["small"].data


def test_index_that_came_before_its_release(env):
    """Asked for by its own or its digest's name before any InRelease: what it says counts."""
    cdn = env.dists_cdn(*debs())
    path = cdn.repo.index_path()
    for early in (path, cdn.repo.by_hash(cdn.data(cdn.editions[0], path))):
        depot = env.depot(revalidate_wait="1s")
        client = AptLike(cdn, depot.port)
        assert client.get(early).status == 200
        depot.wait_idle()
        client.update()
        depot.wait_tables()
        serve(cdn, "small", Answer(flip(cdn.repo.debs["small"].data)))
        expect_refused(client, "small")
        unserve(cdn, "small")
        assert client.download("big") == cdn.repo.debs["big"].data
        assert depot.counter("packages_expected_total") >= 2


@heavy(3)
def test_package_asked_for_with_its_index(env):
    """Behind it on one connection, or as soon as it is there: what it says counts already."""
    many = [forge_deb(f"p{n}", "1", 300) for n in range(4000)]
    cdn = env.dists_cdn(*debs(), *many)
    serve(cdn, "small", Answer(flip(cdn.repo.debs["small"].data)))
    index, package = (target_of(cdn.url(path)) for path in (cdn.repo.index_path(),
                                                            cdn.repo.path_of("small")))

    def waits(pipelined):
        """Has the package waited for its index? None: for longer than any does."""
        depot = env.depot(revalidate_wait="1s")
        with AptLike(cdn, depot.port).connect() as client:
            client.update_release()
            client.kept.ask(index)
            if pipelined:
                client.kept.ask(package)
            assert client.kept.read().status == 200
            if not pipelined:
                client.kept.ask(package)
            response = client.kept.read()
        early = depot.counter("packages_early_total") > 0
        if early and response.status == 200:
            line, = depot.wait_access("small_1_all.deb")
            assert int(line.split(" wait_ms=")[1].split()[0]) >= 1000, line
            return None
        expect_error(response, 502)
        assert depot.counter("packages_expected_total") == 1
        return early
    results = [waits(pipelined) for pipelined in (True, False)]
    for _ in range(2):
        if None in results:
            results = [waits(pipelined) for pipelined in (True, False)]
    if None in results:
        raise Skip("the disk is slower than the second that a package waits")
    assert any(results)     # unless reading the index took no time, twice


def test_package_outside_of_any_repository(env):
    """No index mentions it: as good as its origin says, if it says anything; in pool/ for ever."""
    depot = env.depot()
    for path, words, stays in (("/dl/x.deb", "max-age=0", False), ("/dl/y.deb", "no-cache", False),
                               ("/dl/z.deb", "public", True), ("/pool/x.deb", "max-age=0", True)):
        url = "https://deb.example" + path
        for n, body in enumerate((b"one" * 100, b"two" * 100)):
            env.origin.serve(path, Answer(body, last_modified=None,
                                          headers=[("Cache-Control", words)]))
            assert (depot.fetch(url).body == body) == (n == 0 or not stays), (path, n)
            depot.wait_idle()
        told = json.loads(depot.command("explain", "--json", url))
        assert ("stays good" in told["served"]) == stays, told
    url = "https://deb.example/dl/silent.deb"
    for n, body in enumerate((b"one" * 100, b"two" * 100)):
        env.origin.serve("/dl/silent.deb", Answer(body, last_modified=None))
        assert (depot.fetch(url).body == body) == (n == 0)
        assert depot.fetch(url, "Cache-Control: max-age=0").body == body
        depot.wait_idle()


def test_sources_of_a_flat_repository(env):
    """A tarball is what Sources says of it, though it lies in no pool/; published anew here."""
    cdn = env.flat_cdn(*debs())
    path = cdn.repo.root + "tool_1.tar.xz"
    depot = env.depot(revalidate_wait="20s")
    client = AptLike(cdn, depot.port)
    for tar in (b"one" * 1000, b"two" * 1000):
        text = (f"Package: tool\nDirectory: .\nChecksums-Sha256:\n {hashlib.sha256(tar).hexdigest()} "
                f"{len(tar)} tool_1.tar.xz\n").encode()
        lists = {"Sources": text, "Sources.gz": compress(text, ".gz")}
        cdn.publish(files=lambda listed, lists=lists: {**listed, **lists})
        env.origin.serve(path, Answer(tar), host=cdn.repo.host)
        client.update()
        assert client.get(cdn.repo.root + "Sources.gz").body == lists["Sources.gz"]
        assert client.get(path).body == tar
    depot.wait_idle()
    told = json.loads(depot.command("explain", "--json", cdn.url(path)))
    assert "listed" in told["role"] and len(told["history"]) == 2, told


def test_portal_for_a_package(env):
    """A captive portal's page is no package: 502, not kept, and forgotten at once."""
    cdn, depot, client = start(env)
    blobs = depot.counter("cache_blobs")
    unmarked = Answer(PORTAL, content_type="application/octet-stream")
    for page in (portal(), unmarked):
        serve(cdn, "small", page)
        expect_error(client.get(client.path_of("small")), 502)
    depot.wait_idle()
    assert depot.counter("cache_blobs") == blobs
    serve(cdn, "big", portal(), cdn.repo.debs["big"].data)
    try:
        client.download("big")
    except Failed:
        assert client.download("big") == cdn.repo.debs["big"].data


def test_portal_for_everything(env):
    """Real apt-get behind a captive portal: the last generation, without a warning."""
    cdn = env.flat_cdn(*debs(), signed=True)
    depot = env.depot(revalidate_wait="1s")
    root = env.apt(depot, cdn.repo.source())
    root.update().expect_success()
    root.run("download", "small", "big").expect_success()
    depot.wait_counter("generations_current", "==", 1)
    depot.wait_idle()
    for page in (portal(), Answer(PORTAL, content_type="text/plain")):
        cdn.fail(page)
        root.update().expect_success()
        fresh = env.apt(depot, cdn.repo.source())
        fresh.update().expect_success()
        fresh.run("download", "small", "big").expect_success()
        fresh.expect_packages(cdn.repo.debs.values())
    cdn.fail(None)
    new = cdn.publish(forge_deb("small", "2", SMALL))
    follow(depot, AptLike(cdn, depot.port), new)


def test_by_hash_with_wrong_bytes(env):
    """What does not fit its name is not served under it; the plain name has it all the same."""
    cdn = env.dists_cdn(*debs())
    edition = cdn.editions[0]
    plain = cdn.repo.index_path()
    data = cdn.data(edition, plain)
    depot = env.depot()
    for algorithm in ("SHA256", "SHA512"):
        path = cdn.repo.by_hash(data, algorithm)
        env.origin.serve(path, flip(data), host=cdn.repo.host)
        client = AptLike(cdn, depot.port)
        client.update_release()
        response = client.get(path)
        assert response.body == data or response.status != 200, response
    assert client.get(plain).body == data


# -- one content under several names --------------------------------------------------------------


def two_hosts(env, **options):
    """The same packages in two repositories, and a client of each."""
    cdns = [env.flat_cdn(*debs()),
            env.dists_cdn(*debs(), host="mirror.example", root="/other/debian/")]
    depot = env.depot(revalidate_wait="1s", **options)
    clients = [AptLike(cdn, depot.port) for cdn in cdns]
    for client in clients:
        client.update()
    depot.wait_counter("generations_current", "==", 2)
    depot.wait_tables(2)
    depot.wait_idle()
    return cdns, depot, clients


def test_one_package_under_two_hosts(env):
    """Fetched once and stored once: upstream and disk 1.0x, and no question to the second host."""
    cdns, depot, clients = two_hosts(env)
    for name in ("small", "big"):
        data = cdns[0].repo.debs[name].data
        before = depot.counters()
        assert clients[0].download(name) == data
        depot.wait_idle()
        stored = depot.counters()
        assert stored["cache_bytes"] - before["cache_bytes"] == len(data)
        with depot.conn() as conn:
            target = f"http://HTTPS///{cdns[1].repo.host}{clients[1].path_of(name)}"
            first, second = conn.get(target), conn.get(target)
        assert first.body == second.body == data
        depot.wait_idle()
        after = depot.counters()
        assert after["cache_bytes"] == stored["cache_bytes"]
        assert after["cache_blobs"] == stored["cache_blobs"]
        assert after["linked_total"] == before["linked_total"] + 1
        assert after["upstream_requests_total"] == stored["upstream_requests_total"]
        assert cdns[1].requests(cdns[1].repo.path_of(name)) == []
        # Validators of its own: the second host was never asked for any.
        assert first.get("ETag") == second.get("ETag") == f'"{cdns[0].repo.debs[name].sha256}"'
        assert first.get("Last-Modified") is None and second.get("Last-Modified") is None
    depot.restart()
    env.origin.stop()
    assert clients[1].download("big") == cdns[1].repo.debs["big"].data
    env.origin.start_again()


def test_renamed_package(env):
    """Another file name in the next edition, the same bytes: nothing is fetched."""
    cdn, depot, client = start(env)
    client.download("big")
    depot.wait_idle()
    deb = forge_deb("big", "1", BIG)
    deb.file_name = "renamed_1_all.deb"
    new = cdn.publish(deb)
    follow(depot, client, new)
    assert client.download("big") == deb.data
    assert cdn.requests(cdn.repo.path_of("big")) == []


def test_not_across_credentials(env):
    """What configured credentials opened answers for no other host."""
    auth = os.path.join(env.path, "auth")
    with open(auth, "w", encoding="ascii") as out:
        out.write("machine cuda.example login user password secret\n")
    os.chmod(auth, 0o600)
    cdns, depot, clients = two_hosts(env, auth=auth)
    data = cdns[0].repo.debs["big"].data
    assert clients[0].download("big") == data
    depot.wait_idle()
    path = cdns[0].repo.path_of("big")
    assert cdns[0].requests(path)[0].get("Authorization"), "the credentials were not used"
    assert clients[1].download("big") == data
    asked = cdns[1].requests(cdns[1].repo.path_of("big"))
    assert len(asked) == 1 and asked[0].get("Authorization") is None, asked
    assert depot.counter("linked_total") == 0


def test_not_across_a_clients_credentials(env):
    """Nor what a client's own credentials opened."""
    cdns, depot, clients = two_hosts(env)
    data = cdns[0].repo.debs["big"].data
    response = clients[0].get(clients[0].path_of("big"), "Authorization: Basic dTpw")
    assert response.status == 200 and response.body == data
    depot.wait_idle()
    assert clients[1].download("big") == data
    assert len(cdns[1].requests(cdns[1].repo.path_of("big"))) == 1


def test_plain_and_by_hash_names_are_one_content(env):
    """Three names of one index: fetched once, stored once."""
    cdn = env.dists_cdn(*debs())
    edition = cdn.editions[0]
    for names in ((0, 1, 2), (2, 1, 0)):
        depot = env.depot()
        client = AptLike(cdn, depot.port)
        client.update_release()
        depot.wait_counter("generations_current", "==", 1)
        depot.wait_idle()
        env.origin.forget()
        plain = cdn.repo.index_path()
        data = cdn.data(edition, plain)
        paths = [plain, cdn.repo.by_hash(data, "SHA256"), cdn.repo.by_hash(data, "SHA512")]
        blobs = None
        for n in names:
            assert client.get(paths[n]).body == data
            depot.wait_idle()
            blobs = blobs or depot.counter("cache_blobs")
            assert depot.counter("cache_blobs") == blobs
        assert sum(env.origin.body_bytes(path) for path in paths) <= len(data), \
            env.origin.log_text()


# -- never a 404 for what Release lists -----------------------------------------------------------


def test_listed_index_is_not_there(env):
    """From another compression that is, from by-hash; else 503 with a body, and never 404."""
    cdn = env.dists_cdn(*small_debs(), variants=("", ".gz", ".xz"))
    edition = cdn.editions[0]
    files = {end: cdn.data(edition, cdn.repo.index_path(end)) for end in ("", ".gz", ".xz")}
    depot = env.depot(revalidate_wait="1s")
    client = warm(depot, cdn)
    cdn.remove(cdn.repo.index_path(""), cdn.repo.by_hash(files[""], "SHA256"),
               cdn.repo.by_hash(files[""], "SHA512"))
    response = client.get(cdn.repo.index_path(""))
    assert response.status == 200 and response.body == files[""], response
    cdn.remove(cdn.repo.index_path(".xz"))
    response = client.get(cdn.repo.index_path(".xz"))
    assert response.status == 200 and response.body == files[".xz"], response

    other = env.depot(revalidate_wait="1s")
    client = warm(other, cdn)
    cdn.remove(cdn.repo.by_hash(files[".xz"], "SHA256"), cdn.repo.by_hash(files[".xz"], "SHA512"))
    expect_error(client.get(cdn.repo.index_path(".xz")), 503)
    for end in (".bz2", ".lzma"):
        assert client.get(cdn.repo.index_path(end)).status == 404, end


def test_listed_but_never_published(env):
    """Release lists Packages, the server has only Packages.gz, as many do: a generation it is."""
    cdn = env.flat_cdn(*debs())
    cdn.remove(cdn.repo.index_path(""))
    depot = env.depot()
    client = AptLike(cdn, depot.port)
    client.update()
    depot.wait_counter("generations_current", "==", 1)
    response = client.get(cdn.repo.index_path(""))
    assert response.status == 200, response
    assert response.body == cdn.data(cdn.editions[0], cdn.repo.index_path(""))
    follow(depot, client, cdn.publish(*small_debs("2", 2)))


def only_sha512(text):
    """Release without its other sums."""
    return text[:text.index(b"MD5Sum:")] + text[text.index(b"SHA512:"):]


@heavy(4)
def test_apt_and_all_kinds_of_lists(env):
    """Real apt-get, retries off: each compression, SHA512 alone, Release beside Release.gpg."""
    def only(end):
        return lambda files: (files, {name: data for name, data in files.items()
                                      if name.endswith(end)})
    ends = [".xz", ".bz2"] + ([".zst"] if shutil.which("zstd") else [])
    plain = [{"variants": ("", end)} for end in ends] + [{}]
    makers = [env.flat_cdn, env.dists_cdn, env.flat_cdn, env.dists_cdn]
    hosts = ["one.example", "two.example", "three.example", "four.example"]
    changes = [{"files": only(end)} for end in ends] + [{"release": only_sha512}]
    cdns = []
    for n, (make, options, host, change) in enumerate(zip(makers, plain, hosts, changes)):
        cdn = make(forge_deb(f"tool{n}", "1", 3000), forge_deb(f"lib{n}", "1", 70000), host=host,
                   signed=True, **options)
        cdn.change = change
        cdns.append(cdn)
    late = env.dists_cdn(forge_deb("late", "1", 4000), signed=True)
    late.remove(late.repo.top + "InRelease")
    late.change = {}
    cdns.append(late)
    for cdn in cdns:
        cdn.publish(**cdn.change)
    depot = env.depot(revalidate_wait="20s")
    sources = [cdn.repo.source() for cdn in cdns]

    def build():
        root = env.apt(depot, *sources)
        root.update().expect_success()
        debs = [deb for cdn in cdns for deb in cdn.editions[-1].debs.values()]
        root.run("download", *[deb.name for deb in debs]).expect_success()
        root.expect_packages(debs)
    build()
    depot.wait_counter("generations_current", "==", len(cdns))
    depot.wait_tables(len(cdns))
    # All of lib's are published anew under their names: no new client may get the old bytes.
    expected = depot.counter("packages_expected_total")
    for n, cdn in enumerate(cdns[:-1]):
        cdn.publish(forge_deb(f"lib{n}", "1", 70000, seed=7), **cdn.change)
    late.publish(forge_deb("late", "1", 4000, seed=7))
    build()
    assert depot.counter("packages_expected_total") >= expected + 2 * len(cdns) - 1
    assert depot.counter("errors_sent_total") == depot.counter("cut_answers_total") == 0


def test_unlisted_files_are_404(env):
    """apt's fallbacks need it: names that Release does not list, packages that no index names."""
    cdn, depot, client = start(env)
    root = cdn.repo.root
    for name in ("Packages.xz", "Translation-en", "en", "Contents-amd64.gz", "unknown_1_all.deb",
                 "by-hash/SHA256/" + "0" * 64):
        assert client.get(root + name, "Cache-Control: max-age=0").status == 404, name
    cdn.remove(root + "Release.gpg")
    assert client.get(root + "Release.gpg").status in (200, 404)
    assert depot.counter("errors_sent_total") == 0


def test_lost_bodies_are_repaired(env):
    """Somebody removed the blobs: the live generation is completed again, in place."""
    for cdn in (env.flat_cdn(*small_debs()), env.dists_cdn(*small_debs())):
        depot = env.depot(revalidate_wait="1s")
        client = warm(depot, cdn)
        depot.stop()
        shutil.rmtree(os.path.join(depot.cache_dir, "blobs"))
        depot.start()
        update_and_download(client, 0)
        client.has_whole(cdn.editions[0])
        client.update(conditional=True)


@heavy(3)
def test_scale_of_digests(env):
    """Some thousand packages: the last of them is expected as well as the first."""
    many = [forge_deb(f"p{n}", "1", 300) for n in range(4000)]
    cdn = env.flat_cdn(*many)
    depot = env.depot()
    client = AptLike(cdn, depot.port)
    client.update()
    depot.wait_tables()
    before = depot.counter("packages_expected_total")
    for n in (0, 1999, 3999):
        serve(cdn, f"p{n}", flip(many[n].data), many[n].data)
        assert client.download(f"p{n}") == many[n].data
    assert depot.counter("packages_expected_total") >= before + 3
