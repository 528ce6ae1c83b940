# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""A client that checks what apt checks, but costs a millisecond: for runs by the hundred.

For: tests of generations.  It asks in apt's order with apt's fields, compares sizes at the head and
digests at the end with what its InRelease and its index say, never retries, and words its errors as
apt does.  Signatures it leaves to the real apt.
"""
import gzip
import hashlib
import threading

from cdn import INDEXES, PACKAGES, RELEASES
from client import TIMEOUT_S, Conn
from depot import SLOW, wait_until
from repo import small_debs


class Mismatch(AssertionError):
    """What apt would not accept: sizes or digests that differ from those announced."""


class Failed(AssertionError):
    """An error status, or a body that was cut."""


class AptLike:
    """One client of one repository.

    port     of a depot, or of the origin with prefix=None: then it asks the origin directly
    prefix   before the host in the request line
    source   the address it comes from
    """

    def __init__(self, cdn, port, *, prefix="http://HTTPS///", source=None, end=".gz"):
        self.cdn = cdn
        self.repo = cdn.repo
        self.port = port
        self.prefix = prefix
        self.source = source
        self.end = end
        self.kept = None
        self.inrelease = None
        self.modified = None
        self.index = None
        self.stanzas = {}

    # -- connections: one for each call, or one kept open ------------------------------------------

    def connect(self):
        """From now on everything goes over one connection; also: with client.connect():"""
        self.kept = Conn(self.port, timeout=TIMEOUT_S * SLOW, source=self.source)
        return self

    def close(self):
        """Ends it."""
        self.kept.close()
        self.kept = None

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def get(self, path, *fields):
        """One request: whatever the answer is."""
        if self.prefix is None:
            target, host = path, self.repo.host
        else:
            target = self.prefix + self.repo.host + path
            host = "HTTPS" if target.startswith("http") else f"127.0.0.1:{self.port}"
        if self.kept is not None:
            return self.kept.get(target, *fields, host=host)
        with Conn(self.port, timeout=TIMEOUT_S * SLOW, source=self.source) as conn:
            return conn.get(target, *fields, host=host)

    # -- apt's commands --------------------------------------------------------------------------

    @property
    def edition(self):
        """The number of the edition whose InRelease it has."""
        return self.cdn.number_of(self.inrelease)

    def update(self, conditional=False):
        """InRelease, then the index it lists; returns the answer to InRelease."""
        fresh = self.kept is None
        if fresh:
            self.connect()
        try:
            response = self.update_release(conditional)
            self.fetch_index()
        finally:
            if fresh:
                self.close()
        return response

    def update_release(self, conditional=False):
        """InRelease."""
        fields = ["Cache-Control: max-age=0", "Accept: text/*"]
        if conditional and self.modified:
            fields.append(f"If-Modified-Since: {self.modified}")
        path = self.repo.top + "InRelease"
        response = self.get(path, *fields)
        if response.status == 304 and conditional:
            return response
        if response.status != 200 or not response.complete:
            raise Failed(f"{path}: {response}")
        if b"-----BEGIN PGP SIGNED" not in response.body:
            raise Mismatch(f"{path}: clearsigned file isn't valid, got 'NOSPLIT': {response}")
        self.inrelease, self.modified = response.body, response.get("Last-Modified")
        return response

    def fetch_index(self):
        """The index as the InRelease at hand lists it; returns the answer."""
        name = f"{self.repo.indexes}Packages{self.end}"
        size, sha256, sha512 = listed(self.inrelease, name)
        response = None
        if b"\nAcquire-By-Hash: yes" in self.inrelease:
            path = f"{self.repo.top}{self.repo.indexes}by-hash/SHA512/{sha512}"
            response = self.get(path, "Cache-Control: max-age=0", "Accept: text/*")
        if response is None or response.status in (403, 404):
            response = self.get(self.repo.top + name, "Cache-Control: max-age=0")
        self.index = expect(response, name, size, sha256)
        self.stanzas = read_stanzas(gzip.decompress(self.index) if self.end == ".gz"
                                    else self.index)
        return response

    def path_of(self, name):
        """Where a package is, by the index."""
        filename = self.stanzas[name]["Filename"]
        return self.repo.root + filename

    def download(self, name):
        """A package as the index describes it; returns its bytes."""
        stanza = self.stanzas[name]
        response = self.get(self.path_of(name))
        return expect(response, stanza["Filename"], int(stanza["Size"]), stanza["SHA256"])

    def has_whole(self, edition):
        """Its InRelease and its index are both of the edition."""
        files = edition.files
        top = self.repo.top
        assert self.inrelease == files[top + "InRelease"][0], \
            f"InRelease of edition {self.edition}, expected {edition.number}"
        assert self.index == files[self.repo.index_path(self.end)][0], "an index of another edition"


def expect(response, name, size, sha256):
    """apt's checks of one answer, with its words."""
    if response.status != 200:
        raise Failed(f"{name}: {response}")
    length = response.get("Content-Length")
    if length is not None and int(length) != size:
        raise Mismatch(f"{name}: File has unexpected size ({length} != {size}). "
                       f"Mirror sync in progress? {response.cache_status}")
    if not response.complete:
        raise Failed(f"{name}: cut after {len(response.body)} of {size} bytes")
    if len(response.body) != size or hashlib.sha256(response.body).hexdigest() != sha256:
        raise Mismatch(f"{name}: Hash Sum mismatch; {response.cache_status}")
    return response.body


def listed(inrelease, name):
    """(size, SHA256, SHA512) of a file that a Release lists."""
    found, section = {}, None
    for line in inrelease.decode("ascii", "replace").splitlines():
        if not line.startswith(" "):
            section = line.rstrip(":")
        elif line.endswith(" " + name):
            digest, size, _ = line.split()
            found[section] = (digest, int(size))
    return found["SHA256"][1], found["SHA256"][0], found.get("SHA512", (None,))[0]


def read_stanzas(data):
    """Package -> its fields."""
    found = {}
    for stanza in data.decode("utf-8").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line)
        if "Package" in fields:
            found[fields["Package"]] = fields
    return found


class Crowd:
    """Clients that update and download in a loop, each in a thread, until they are told to stop."""

    def __init__(self, clients, job):
        self.runs = 0
        self.errors = []
        self._cond = threading.Condition()
        self._stop = False
        self._threads = [threading.Thread(target=self._loop, args=(client, job), daemon=True)
                         for client in clients]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc):
        self.stop()

    def _loop(self, client, job):
        n = 0
        while not self._stop:
            error = None
            try:
                job(client, n)
            except (AssertionError, OSError) as err:
                error = f"{type(err).__name__}: {err}"
            n += 1
            with self._cond:
                self.runs += 1
                if error:
                    self.errors.append(error)
                self._cond.notify_all()

    def more(self, n, deadline_s=60):
        """Waits until n more runs have ended."""
        with self._cond:
            until = self.runs + n
            if not self._cond.wait_for(lambda: self.runs >= until, deadline_s * SLOW):
                raise AssertionError(f"only {self.runs} of {until} runs ended")

    def stop(self):
        """Ends all loops."""
        self._stop = True
        for thread in self._threads:
            thread.join()

    def expect_no_errors(self):
        """Not one."""
        assert not self.errors, f"{len(self.errors)} of {self.runs} runs failed, e.g.:\n" \
            + "\n".join(self.errors[:5])


def update_and_download(client, n):
    """What a build does; every second one has lists from before."""
    with client.connect():
        client.update(conditional=n % 2 == 1)
        client.download("tool")
        client.download("lib")


def republish(cdn, n, more):
    """n publications as a CDN shows them: packages first, then for a while (more(8): until the
    clients have done 8 more runs) indexes that are not those of InRelease, in turns either way."""
    for i in range(n):
        seed = len(cdn.editions)
        new = cdn.prepare(*small_debs(str(seed + 1), seed))
        cdn.show(new, only=PACKAGES)
        cdn.show(new, only=INDEXES if i % 3 == 2 else RELEASES)
        more(8)
        cdn.show(new)
        more(8)


def warm(depot, cdn, **options):
    """A client that has everything of the edition shown now; the depot has it as a generation."""
    before = depot.counter("generations_adopted_total")
    client = AptLike(cdn, depot.port, **options)
    update_and_download(client, 0)
    depot.wait_counter("generations_adopted_total", ">=", before + 1)
    # Once more, for whatever had been passed on before there was a generation.
    update_and_download(client, 0)
    depot.wait_idle()
    return client


def follow(depot, client, edition):
    """The client updates until it is given the edition."""
    def given():
        client.update()
        return client.edition == edition.number
    wait_until(given, f"{edition} is adopted; {depot.counter('generations_adopted_total')} are")
    client.has_whole(edition)


def update_until(depot, client, edition, names, value):
    """The client updates, always given the edition, until the counters' sum has grown to value.

    Again and again, since the first one may only share a check that was under way before.
    """
    def reached():
        client.update()
        client.has_whole(edition)
        counters = depot.counters()
        return sum(counters[name] for name in names) >= value
    wait_until(reached, f"{' + '.join(names)} reach {value}")


def updates(client, n, edition):
    """n updates, half of them conditional: the edition each time, and nothing that apt refuses."""
    for i in range(n):
        response = client.update(conditional=i % 2 == 1)
        client.has_whole(edition)
    return response
