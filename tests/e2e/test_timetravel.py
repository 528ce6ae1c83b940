# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""Repositories as they were: @DATE, @TIME and @NAME before the host, pinned generations."""
import datetime
import json
import time

from aptlike import AptLike, follow, update_and_download, warm
from client import expect_error
from depot import run_command, wait_until
from repo import forge_deb, small_debs
from support import heavy, patient

NEEDS_PACKAGES = True


def now():
    """The time as one writes it behind @, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def next_second():
    """A second that lies between: after all that was, and over before anything else is."""
    last = now()
    wait_until(lambda: now() != last, "time passes")
    between = now()
    wait_until(lambda: now() != between, "time passes")
    return between


def prefixes(spec):
    """The three forms of a URL; the origin form needs no proxy setting."""
    return [f"http://HTTPS///@{spec}/", f"/HTTPS///@{spec}/", f"/@{spec}/"]


def expect_edition(depot, cdn, spec, edition):
    """All three forms show the edition, whole."""
    for prefix in prefixes(spec):
        client = AptLike(cdn, depot.port, prefix=prefix)
        client.update()
        client.has_whole(edition)
        for name, deb in edition.debs.items():
            assert client.download(name) == deb.data, (prefix, name)


def travel_depot(env, **options):
    """The third form says http; it is the same object where http is upgraded."""
    options = dict({"https_upgrade": "cuda.example", "revalidate_wait": "20s"}, **options)
    return env.depot(**options)


@heavy(5)
def test_pinned_by_name(env):
    """Real apt-get: what upstream removed is installed from the pinned generation."""
    cdn = env.flat_cdn(*small_debs(), signed=True)
    old = cdn.editions[0]
    depot = travel_depot(env)
    root = env.apt(depot, cdn.repo.source())
    root.update().expect_success()
    root.install("tool", "lib").expect_success()
    depot.wait_counter("generations_current", "==", 1)
    depot.wait_idle()
    depot.command("pin", "--as", "before", cdn.url())
    new = cdn.publish(*small_debs("2", 2))
    cdn.remove(cdn.repo.root + old.debs["tool"].file_name)
    root.update().expect_success()
    root.install("tool", "lib").expect_success()

    here = f"http://127.0.0.1:{depot.port}"
    forms = [(prefix if prefix.startswith("http") else here + prefix, prefix.startswith("http"))
             for prefix in prefixes("before")]

    def check(prefix, proxy):
        then = env.apt(depot, cdn.repo.source(prefix), proxy=proxy)
        then.update().expect_success()
        then.install("tool", "lib").expect_success()
        then.expect_packages(old.debs.values())
    for form in forms:
        check(*form)
    fresh = env.apt(depot, cdn.repo.source())
    fresh.update().expect_success()
    fresh.install("tool", "lib").expect_success()
    fresh.expect_packages(new.debs.values())
    depot.kill()
    env.origin.stop()
    depot.start()
    check(*forms[0])
    expect_edition(depot, cdn, "before", old)


def test_dists_by_name(env):
    """Debian's shape; the pin may be given by any URL of the repository's root."""
    cdn = env.dists_cdn(*small_debs())
    depot = travel_depot(env, https_upgrade="deb.example")
    client = warm(depot, cdn)
    depot.command("pin", "--as", "before", cdn.url())
    follow(depot, client, cdn.publish(*small_debs("2", 2)))
    expect_edition(depot, cdn, "before", cdn.editions[0])
    follow(depot, client, cdn.editions[1])


def test_today_and_the_distant_past(env):
    """A day is over at its end; a time before anything was adopted is a 404 that lists what is."""
    cdn = env.flat_cdn(*small_debs())
    depot = travel_depot(env)
    client = warm(depot, cdn)
    depot.command("pin", "--as", "known-name", cdn.url())
    new = cdn.publish(*small_debs("2", 2))
    follow(depot, client, new)
    today = now()[:10]
    tomorrow = (datetime.datetime.now(datetime.timezone.utc)
                + datetime.timedelta(days=1)).strftime("%Y-%m-%d")
    expect_edition(depot, cdn, tomorrow, new)
    if now()[:10] == today:
        expect_edition(depot, cdn, today, new)
    inrelease = cdn.repo.top + "InRelease"
    for spec in ("2020-01-31", "2020-01-31T12:00:00Z", "2020-01-31T12:00:00+02:00", "no-such-name"):
        for prefix in prefixes(spec):
            response = AptLike(cdn, depot.port, prefix=prefix).get(inrelease)
            expect_error(response, 404, words=["known-name"])
            assert today[:4] in response.text or now()[:4] in response.text, response.text
    for spec in ("2020-13-45", "2020-01-31T99:00:00Z", ""):
        response = depot.get(f"{prefixes(spec)[0]}{cdn.repo.host}{inrelease}")
        assert response.status in (400, 404) and response.body, (spec, response)
    # It is no part of the host's name, and never sent upstream.
    assert not any("@" in request.target or "@" in (request.get("Host") or "")
                   for request in env.origin.requests())


@patient
@heavy(5)
def test_times_and_expiry(env):
    """@TIME between adoptions; keep_generations = 2 forgets what is older, but nothing pinned."""
    cdn = env.flat_cdn(*small_debs())
    depot = travel_depot(env, keep_generations="2")
    client = warm(depot, cdn)
    depot.command("pin", "--as", "first", cdn.url())
    times = [next_second()]
    for n in (2, 3):
        follow(depot, client, cdn.publish(*small_debs(str(n), n)))
        update_and_download(client, 0)
        depot.wait_idle()
        times.append(next_second())
        if n == 2:
            expect_edition(depot, cdn, times[0], cdn.editions[0])
            expect_edition(depot, cdn, times[1], cdn.editions[1])
    follow(depot, client, cdn.publish(*small_debs("4", 4)))

    def expired():
        # The second is forgotten; the pinned one is then the newest that is older.
        late = AptLike(cdn, depot.port, prefix=prefixes(times[1])[0])
        late.update()
        return late.edition == 0
    wait_until(expired, "the second generation expires")
    expect_edition(depot, cdn, times[0], cdn.editions[0])
    expect_edition(depot, cdn, times[2], cdn.editions[2])
    expect_edition(depot, cdn, "first", cdn.editions[0])
    depot.restart()
    expect_edition(depot, cdn, "first", cdn.editions[0])
    expect_edition(depot, cdn, times[2], cdn.editions[2])
    depot.command("unpin", "first")
    follow(depot, client, cdn.publish(*small_debs("5", 5)))
    inrelease = f"{cdn.repo.host}{cdn.repo.top}InRelease"
    wait_until(lambda: depot.get(prefixes("first")[0] + inrelease).status == 404,
               "the unpinned generation expires")


def test_missing_package_of_a_pinned_generation(env):
    """Not in the cache: fetched if upstream has it still, and only if it is the same."""
    cdn = env.flat_cdn(*small_debs())
    old = cdn.editions[0]
    depot = travel_depot(env)
    client = AptLike(cdn, depot.port)
    client.update()
    depot.wait_counter("generations_current", "==", 1)
    depot.wait_idle()
    depot.command("pin", "--as", "before", cdn.url())
    new = cdn.publish(*small_debs("2", 2))
    follow(depot, client, new)
    then = AptLike(cdn, depot.port, prefix=prefixes("before")[0])
    then.update()
    then.has_whole(old)
    assert then.download("tool") == old.debs["tool"].data
    response = then.get(then.path_of("lib"))
    assert response.status >= 400 or not response.complete, response
    assert response.body != new.debs["lib"].data
    assert client.download("lib") == new.debs["lib"].data


def test_two_times_on_one_connection(env):
    """apt asks all its sources over one connection: today's and yesterday's do not mix."""
    cdn = env.flat_cdn(*small_debs())
    old = cdn.editions[0]
    depot = travel_depot(env)
    warm(depot, cdn)
    depot.command("pin", "--as", "before", cdn.url())
    new = cdn.publish(*small_debs("2", 2))
    today = AptLike(cdn, depot.port)
    then = AptLike(cdn, depot.port, prefix=prefixes("before")[0])
    with today.connect():
        then.kept = today.kept
        today.update_release()
        then.update_release()
        today.fetch_index()
        then.fetch_index()
        for _ in range(2):
            assert today.download("lib") == new.debs["lib"].data
            assert then.download("lib") == old.debs["lib"].data
            assert today.download("tool") == new.debs["tool"].data
            assert then.download("tool") == old.debs["tool"].data
        then.update_release(conditional=True)
        today.fetch_index()
        today.has_whole(new)
        then.has_whole(old)
    # Nor does a look at the past move its address.
    again = AptLike(cdn, depot.port)
    again.inrelease = today.inrelease
    again.fetch_index()
    again.has_whole(new)
    assert again.download("lib") == new.debs["lib"].data


def test_generations_command(env):
    """It lists what there is, by repository, with names; for scripts too."""
    cdn = env.flat_cdn(*small_debs())
    dists = env.dists_cdn(forge_deb("other", "1", 4000))
    depot = travel_depot(env)
    client = warm(depot, cdn)
    AptLike(dists, depot.port).update()
    depot.wait_counter("generations_current", "==", 2)
    depot.command("pin", "--as", "release-1.0", cdn.url())
    follow(depot, client, cdn.publish(*small_debs("2", 2)))
    text = depot.command("generations")
    assert cdn.repo.host + cdn.repo.root in text and dists.repo.host in text, text
    assert "release-1.0" in text and time.strftime("%Y-%m-%d", time.gmtime()) in text, text
    only = depot.command("generations", cdn.url())
    assert "release-1.0" in only and dists.repo.host not in only, only
    found = depot.command("generations", "--json")
    assert "release-1.0" in found
    try:
        json.loads(found)
    except ValueError:
        for line in found.splitlines():
            json.loads(line)


def test_explain_of_another_time(env):
    """The URL's own generation is explained, and a time that there is none of says so."""
    cdn = env.flat_cdn(*small_debs())
    depot = env.depot(revalidate_wait="20s")
    client = warm(depot, cdn)
    depot.command("pin", "--as", "one", cdn.url())
    new = cdn.publish(*small_debs("2", 2))
    client.update()
    client.has_whole(new)
    path = f"{cdn.repo.host}{cdn.repo.root}lib_1_all.deb"
    then = json.loads(depot.command("explain", "--json", "http://HTTPS///@one/" + path))
    assert then["as_of"] == "one" and then["generation"] == 1, then
    assert then["expected_digest"] == "sha256 " + cdn.editions[0].debs["lib"].sha256
    assert then["stored"] and then["served"] == "from the cache: as it was then", then
    now = json.loads(depot.command("explain", "--json", "https://" + path))
    assert now["generation"] == 2 and "as_of" not in now and not now["stored"], now
    never = json.loads(depot.command("explain", "--json", "http://HTTPS///@2001-01-01/" + path))
    assert "404" in never["role"] and "stored" not in never, never
    # The 404 lists each generation once.
    said = depot.get("http://HTTPS///@2001-01-01/" + path).text
    assert said.count("@one") == 1 and said.count("Z") >= 2, said


def test_pin_errors(env):
    """What can't be pinned is said in words."""
    cdn = env.flat_cdn(*small_debs())
    depot = travel_depot(env)
    client = warm(depot, cdn)
    where = ["-o", f"cache_dir={depot.cache_dir}"]
    depot.command("pin", "--as", "taken", cdn.url())
    follow(depot, client, cdn.publish(*small_debs("2", 2)))
    for args in (["pin", "--as", "x", "https://cuda.example/nothing/here/"],
                 ["pin", "--as", "taken", cdn.url()],
                 ["pin", "--as", "2026-11-01", cdn.url()],
                 ["pin", "--as", "a/b", cdn.url()],
                 ["unpin", "no-such-name"],
                 ["pin"]):
        done = run_command(args[0], *where, *args[1:])
        assert done.returncode != 0 and done.stdout.strip(), (args, done)
        assert "panic" not in done.stdout.lower()
    expect_edition(depot, cdn, "taken", cdn.editions[0])
