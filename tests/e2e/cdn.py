# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""A host that shows the editions of one repository as CDNs do: mixed, flapping, late.

For: tests of generations.  Edition 0 is shown from the start:

    cdn = env.flat_cdn()
    new = cdn.prepare(forge_deb("tool", "2", 4000))   # made, not yet seen by anyone
    cdn.show(new, only=RELEASES)                      # new InRelease, old Packages
    cdn.show(old, new, by="connection")               # edges that disagree
    cdn.show(new)                                     # all of it

Each file has the Last-Modified and the ETag of the edition that brought it.  A file that the shown
edition has not is taken from the newest older one that has it, as old packages stay on a server,
until remove() takes it away.
"""
import random
import threading

import origin as origins

RELEASES = ("release",)
INDEXES = ("index",)
PACKAGES = ("package",)
ALL = RELEASES + INDEXES + PACKAGES

PORTAL = (b"<!DOCTYPE html>\n<html><head><title>Log in</title></head>"
          b"<body>Please pay.</body></html>\n")


def kind_of(path):
    """Which of the three a path is."""
    name = path.rsplit("/", 1)[-1]
    if name in ("InRelease", "Release", "Release.gpg"):
        return "release"
    if "/by-hash/" in path or name.split(".")[0] in ("Packages", "Sources"):
        return "index"
    return "package"


def portal():
    """A captive portal's page, as it answers whatever was asked."""
    return origins.Answer(PORTAL, content_type="text/html; charset=utf-8", etag=None,
                          last_modified=None, conditional=False)


def flip(data, at=-1):
    """The same length, one byte another."""
    at %= len(data)
    return data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1:]


class Cdn:
    """The host of repo."""

    def __init__(self, repo):
        self.repo = repo
        self.origin = repo.origin
        self.editions = []
        self.no_cache_gets = None
        self.trouble = None
        self._lock = threading.Lock()
        self._shown = {}
        self._turns = {}
        self._gone = set()
        self._answers = {}
        self.show(self.prepare())
        self.origin.serve_host(repo.host, self._answer)

    # -- what a test says ------------------------------------------------------------------------

    def prepare(self, *debs, **options):
        """The next edition, with these packages new or in place of those of the same name."""
        for deb in debs:
            self.repo.debs[deb.name] = deb
        edition = self.repo.make_edition(**options)
        self.editions.append(edition)
        return edition

    def show(self, *editions, only=ALL, by="request"):
        """From now on these are shown; of several, each request gets the next, or each connection
        another."""
        with self._lock:
            for kind in only:
                self._shown[kind] = (editions, by)

    def publish(self, *debs, **options):
        """The next edition, shown at once and whole."""
        edition = self.prepare(*debs, **options)
        self.show(edition)
        return edition

    def remove(self, *paths):
        """404 from now on, in all editions."""
        with self._lock:
            self._gone.update(paths)

    def fail(self, answer):
        """Every request gets this answer; None: no longer."""
        self.trouble = answer

    # -- what a test reads -----------------------------------------------------------------------

    def url(self, path="", scheme="https"):
        """The URL of a path; of the root without."""
        return f"{scheme}://{self.repo.host}{path or self.repo.top}"

    def data(self, edition, path):
        """The body of a path in an edition."""
        return edition.files[path][0]

    def number_of(self, inrelease):
        """The edition that an InRelease is of."""
        for edition in self.editions:
            if edition.files.get(self.repo.top + "InRelease", (None,))[0] == inrelease:
                return edition.number
        raise AssertionError(f"an InRelease that was never published: {inrelease[:200]!r}")

    def requests(self, path):
        """Requests for a path of this host, with ./ or without."""
        return [request for request in self.origin.requests()
                if request.host == self.repo.host and _plain(request.path) == path]

    # -- the server ------------------------------------------------------------------------------

    def _answer(self, request):
        if self.trouble is not None:
            return self.trouble
        path = _plain(request.path)
        with self._lock:
            if path in self._gone:
                return None
            edition = self._choose(request, path)
        found = edition.files.get(path)
        for older in reversed(self.editions):
            if found is None and older.number < edition.number:
                found = older.files.get(path)
        if found is None:
            return None
        if found not in self._answers:
            self._answers[found] = origins.Answer(found[0], last_modified=found[1])
        return self._answers[found]

    def _choose(self, request, path):
        asked = (request.get("Cache-Control") or "") + (request.get("Pragma") or "")
        if self.no_cache_gets is not None and "no-cache" in asked:
            return self.no_cache_gets
        editions, by = self._shown[kind_of(path)]
        if by == "connection":
            return random.Random(request.connection).choice(editions)
        turn = self._turns.get(path, 0)
        self._turns[path] = turn + 1
        return editions[turn % len(editions)]


def _plain(path):
    return path.replace("/./", "/")
