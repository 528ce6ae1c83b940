# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""Signed repositories of real packages, published on the scripted origin.

For: tests that run apt-get.  Two shapes: flat as NVIDIA publishes CUDA (`Filename: ./name.deb`,
Packages and Packages.gz, `Acquire-By-Hash: no`), and dists/pool with by-hash.

Workshop is made once per run: the packages, built with dpkg-deb, and a throw-away signing key.

A repository can be published again and again: make_edition() gives the files of the next
publication without serving them, for cdn.py, which shows editions as CDNs do.
"""
import base64
import bz2
import concurrent.futures
import email.utils
import gzip
import hashlib
import lzma
import os
import random
import shutil
import subprocess
import time

import origin as origins

HASHES = (("MD5Sum", hashlib.md5), ("SHA1", hashlib.sha1), ("SHA256", hashlib.sha256),
          ("SHA512", hashlib.sha512))

# name, version, payload bytes, depends, file name (None: the usual one)
PACKAGES = [
    ("cuda", "12.8.0-1", 100, "cuda-toolkit-12-8 (>= 12.8.0), libcudnn8, cuda-nvcc-12-8, "
     "cuda-cudart-12-8, libnvinfer8, cuda-odd, cuda-keyring", None),
    ("cuda-toolkit-12-8", "12.8.0-1", 3 << 20, "", None),
    ("libcudnn8", "8.4.0.27-1+cuda11.6", 2 << 20, "", None),
    ("libnvinfer8", "8.6.1~rc1-1+cuda12.0", 70000, "", None),
    ("cuda-nvcc-12-8", "12.8.61-1", 66000, "", None),
    ("cuda-cudart-12-8", "12.8.57-1", 300000, "", None),
    ("cuda-keyring", "1.1-1", 4000, "", None),
    ("cuda-odd", "1:2.0+git~rc1", 5000, "", "cuda-odd_1%3a2.0+git~rc1_{arch}.deb"),
    ("cuda-nsight", "2025.1-1", 12 << 20, "", None),
]


class Deb:
    """One built package."""

    def __init__(self, name, version, file_name, data, control):
        self.name = name
        self.version = version
        self.file_name = file_name
        self.data = data
        self.control = control
        self.sha256 = hashlib.sha256(data).hexdigest()

    def stanza(self, location):
        """Its part of a Packages file."""
        lines = [self.control.rstrip("\n"), f"Filename: {location}", f"Size: {len(self.data)}"]
        lines += [f"{'MD5sum' if name == 'MD5Sum' else name}: {make(self.data).hexdigest()}"
                  for name, make in HASHES]
        return "\n".join(lines) + "\n"


def forge_deb(name, version, size, seed=0):
    """A package only by its name: apt downloads what the index says, and looks inside later."""
    control = (f"Package: {name}\nVersion: {version}\nArchitecture: all\n"
               f"Maintainer: tests <tests@depot.example>\nDescription: {name} for tests\n")
    data = b"!<arch>\n" + random.Random(f"{name} {version} {seed}").randbytes(size - 8)
    return Deb(name, version, f"{name}_{version}_all.deb", data, control)


def small_debs(version="1", seed=0):
    """tool gets a new file name with each version; lib keeps name and size, whatever is in it."""
    return [forge_deb("tool", version, 3000 + seed), forge_deb("lib", "1", 5000, seed=seed)]


class NoWorkshop:
    """Stands for a Workshop where no apt looks at signatures: these cost nothing and are wrong."""
    arch = "amd64"
    key = None
    debs = {}

    @staticmethod
    def sign_detached(text):
        """Looks like a signature."""
        digest = base64.b64encode(hashlib.sha512(text).digest()).decode()
        return (f"-----BEGIN PGP SIGNATURE-----\n\n{digest[:64]}\n{digest[64:]}\n"
                f"-----END PGP SIGNATURE-----\n").encode()

    @staticmethod
    def sign_inline(text):
        """Looks like an InRelease."""
        return (b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n" + text
                + NoWorkshop.sign_detached(text))


class Workshop:
    """The signing key and the packages, below path (which must be short: gpg's socket is there)."""

    def __init__(self, path):
        self.path = path
        self.home = os.path.join(path, "gpg")
        self.key = os.path.join(path, "key.asc")
        self.arch = subprocess.run(["dpkg", "--print-architecture"], stdout=subprocess.PIPE,
                                   text=True, check=True).stdout.strip()
        self.debs = {}

    def make(self):
        """Builds everything; about a second."""
        self.make_key()
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for deb in pool.map(lambda p: self.build(*p), PACKAGES):
                self.debs[deb.name] = deb
        return self

    def make_key(self):
        """Only the key."""
        os.makedirs(self.home, mode=0o700)
        self._gpg("--quick-gen-key", "apt-depot tests <tests@depot.example>", "ed25519", "sign",
                  "never")
        with open(self.key, "wb") as out:
            out.write(self._gpg("--armor", "--export"))
        return self

    def export_key(self, path):
        """The public key as gpgv reads it."""
        with open(path, "wb") as out:
            out.write(self._gpg("--export"))

    def close(self):
        """Ends gpg's agent."""
        subprocess.run(["gpgconf", "--homedir", self.home, "--kill", "all"], check=False,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)

    def _gpg(self, *args, data=b""):
        done = subprocess.run(["gpg", "--homedir", self.home, "--batch", "--quiet", "--yes",
                               "--pinentry-mode", "loopback", "--passphrase", "", *args],
                              input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              check=False)
        if done.returncode != 0:
            raise RuntimeError(f"gpg {args[0]} failed:\n{done.stderr.decode(errors='replace')}")
        return done.stdout

    def sign_inline(self, text):
        """InRelease from Release."""
        return self._gpg("--clearsign", data=text)

    def sign_detached(self, text):
        """Release.gpg from Release."""
        return self._gpg("--armor", "--detach-sign", data=text)

    def build(self, name, version, payload, depends, file_name=None, seed=0):
        """Builds one package with dpkg-deb; the payload does not compress."""
        tree = os.path.join(self.path, "build", f"{name}-{version}-{seed}")
        os.makedirs(os.path.join(tree, "DEBIAN"))
        os.makedirs(os.path.join(tree, "opt", name))
        control = (f"Package: {name}\nVersion: {version}\nArchitecture: {self.arch}\n"
                   f"Maintainer: tests <tests@depot.example>\nSection: misc\nPriority: optional\n"
                   + (f"Depends: {depends}\n" if depends else "")
                   + f"Description: {name} for tests\n")
        with open(os.path.join(tree, "DEBIAN", "control"), "w", encoding="ascii") as out:
            out.write(control)
        with open(os.path.join(tree, "opt", name, "payload"), "wb") as out:
            out.write(random.Random(f"{name} {version} {seed}").randbytes(payload))
        deb = tree + ".deb"
        subprocess.run(["dpkg-deb", "--build", "--root-owner-group", "-Zgzip", "-z1", tree, deb],
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
        with open(deb, "rb") as file:
            data = file.read()
        shutil.rmtree(tree)
        plain = version.split(":", 1)[-1]
        file_name = (file_name or "{name}_{plain}_{arch}.deb").format(
            name=name, plain=plain, arch=self.arch)
        return Deb(name, version, file_name, data, control)


def _checksums(files):
    text = ""
    for name, make in HASHES:
        text += f"{name}:\n" + "".join(f" {make(data).hexdigest()} {len(data)} {path}\n"
                                       for path, data in files.items())
    return text


def compress(data, end):
    """As the end of the file name says."""
    if end == ".gz":
        return gzip.compress(data, 6, mtime=0)
    if end == ".zst":
        return subprocess.run(["zstd", "-q"], input=data, stdout=subprocess.PIPE,
                              check=True).stdout
    return {"": bytes, ".xz": lzma.compress, ".bz2": bz2.compress}[end](data)


class Edition:
    """One publication: what each path has, and since when."""

    def __init__(self, number, date, release, debs):
        self.number = number
        self.date = date
        self.release = release
        self.debs = debs
        self.files = {}

    def __repr__(self):
        return f"<edition {self.number}>"


class _Repo:
    """What both shapes share: publications have their own dates, one minute apart.

    variants   ends of the index's names: "", ".gz", ".xz", ".bz2", ".zst"
    detached   False: no Release.gpg, which takes gpg's time
    """
    indexes = ""
    by_hash_says = "no"

    def __init__(self, workshop, origin, host, debs, variants, detached):
        self.workshop = workshop
        self.origin = origin
        self.host = host
        self.debs = dict(workshop.debs if debs is None else debs)
        self.variants = variants
        self.detached = detached
        self.published = 0
        self.sizes = {}
        self._served = {}
        self._dates = {}

    def _stamp(self):
        when = time.time() - 86400 + 60 * self.published
        return email.utils.formatdate(when, usegmt=True)

    # -- where things are: root as it is in URLs, top is the directory of InRelease --------------

    @property
    def top(self):
        """The directory of InRelease."""
        return self.root

    def index_path(self, end=".gz"):
        """The plain name of an index."""
        return f"{self.top}{self.indexes}Packages{end}"

    def by_hash(self, data, algorithm="SHA512"):
        """The by-hash path of an index."""
        digest = dict(HASHES)[algorithm](data).hexdigest()
        return f"{self.top}{self.indexes}by-hash/{algorithm}/{digest}"

    def names_of(self, path):
        """The names of one file on the server."""
        return [path]

    # -- publishing ------------------------------------------------------------------------------

    def publish(self, **changes):
        """Serves the current packages with fresh indexes; changes: as make_edition takes them."""
        for path, (data, date) in self.make_edition(**changes).files.items():
            for name in self.names_of(path):
                self._serve(name, data, date)
        return self

    def make_edition(self, *, fields="", stanzas=None, files=None, release=None, inrelease=None,
                     workshop=None, when=None):
        """The next publication.  For bad ones, functions change what goes into it:

        fields      more lines for Release
        stanzas     the text of Packages, before it is compressed and hashed
        files       {name: data} of the indexes as Release lists them; may return two such dicts:
                    what is listed, what is served
        release     Release, before it is signed
        inrelease   InRelease, after it was signed
        workshop    who signs; when: a date of its own, in seconds
        """
        signer = workshop or self.workshop
        date = self._stamp() if when is None else email.utils.formatdate(when, usegmt=True)
        packages = "\n".join(deb.stanza(self.location(deb.name))
                             for deb in self.debs.values()).encode()
        if stanzas:
            packages = stanzas(packages)
        listed = {f"{self.indexes}Packages{end}": compress(packages, end)
                  for end in self.variants}
        listed = files(listed) if files else listed
        listed, served = listed if isinstance(listed, tuple) else (listed, listed)
        text = (self.release_head() + f"Date: {date.replace('GMT', 'UTC')}\n{fields}"
                f"Acquire-By-Hash: {self.by_hash_says}\n" + _checksums(listed)).encode()
        text = release(text) if release else text
        edition = Edition(self.published, date, text, dict(self.debs))
        self.published += 1
        for deb in self.debs.values():
            self._add(edition, self.path_of(deb.name), deb.data)
        for name, data in served.items():
            self._add(edition, self.top + name, data)
            if self.by_hash_says == "yes":
                for algorithm, _ in HASHES[2:]:
                    self._add(edition, self.by_hash(data, algorithm), data)
        self._add(edition, self.top + "Release", text)
        if self.detached:
            self._add(edition, self.top + "Release.gpg", signer.sign_detached(text))
        signed = signer.sign_inline(text)
        self._add(edition, self.top + "InRelease", inrelease(signed) if inrelease else signed)
        return edition

    def _add(self, edition, path, data):
        # A file that stays as it was keeps its date, as on a real server.
        kept = self._dates.get(path)
        if kept is None or kept[0] != data:
            kept = self._dates[path] = (data, edition.date)
        edition.files[path] = kept

    def _serve(self, path, data, date, **options):
        if self._served.get(path) == data and not options:
            return
        self._served[path] = data
        self.sizes[path] = len(data)
        self.origin.serve(path, origins.Answer(data, last_modified=date, **options),
                          host=self.host)

    def serve_deb(self, name, *answers):
        """Scripts what one package's URL answers, in place of the plain file."""
        self.origin.serve(self.path_of(name), *answers, host=self.host)

    def bodies_sent(self):
        """Path -> body bytes that the origin sent, of those it sent any of."""
        sums = {path: self.origin.body_bytes(path) for path in self.sizes}
        return {path: n for path, n in sums.items() if n}

    def expect_each_sent_once(self):
        """Upstream bytes were 1.00x: what was sent was sent once."""
        sent = self.bodies_sent()
        want = {path: self.sizes[path] for path in sent}
        assert sent == want, "sent more or less than once: " + ", ".join(
            f"{path} {sent[path]} of {want[path]}" for path in sent if sent[path] != want[path])
        assert sent, "nothing was sent at all"


class FlatRepo(_Repo):
    """CUDA's shape."""

    def __init__(self, workshop, origin, host="cuda.example",
                 root="/compute/cuda/repos/debian12/x86_64/", debs=None, variants=("", ".gz"),
                 detached=True):
        super().__init__(workshop, origin, host, debs, variants, detached)
        self.root = root

    def path_of(self, name):
        """The path of a package on the origin, as a server sees it: decoded once."""
        return self.root + self.debs[name].file_name

    def location(self, name):
        """What the index says of it."""
        return "./" + self.debs[name].file_name

    def names_of(self, path):
        """With ./ too."""
        return [path, self.root + "./" + path[len(self.root):]] if path.endswith(".deb") \
            else [path]

    def release_head(self):
        """The first lines of Release."""
        return f"Origin: NVIDIA\nLabel: NVIDIA CUDA\nArchitecture: {self.workshop.arch}\n"

    def source(self, prefix="http://HTTPS///"):
        """A line for sources.list."""
        return (f"deb [arch={self.workshop.arch} signed-by={self.workshop.key}] "
                f"{prefix}{self.host}{self.root} /")


class DistsRepo(_Repo):
    """Debian's shape, with by-hash."""
    by_hash_says = "yes"

    def __init__(self, workshop, origin, host="deb.example", root="/debian/", suite="stable",
                 debs=None, variants=("", ".gz"), detached=True):
        super().__init__(workshop, origin, host, debs, variants, detached)
        self.root = root
        self.suite = suite
        self.indexes = f"main/binary-{workshop.arch}/"

    @property
    def top(self):
        """The directory of InRelease."""
        return f"{self.root}dists/{self.suite}/"

    def path_of(self, name):
        """The path of a package on the origin."""
        return self.root + self.location(name)

    def location(self, name):
        """What the index says of it."""
        return f"pool/main/c/{name}/{self.debs[name].file_name}"

    def release_head(self):
        """The first lines of Release."""
        return (f"Origin: Test\nLabel: Test\nSuite: {self.suite}\nCodename: {self.suite}\n"
                f"Architectures: {self.workshop.arch}\nComponents: main\n")

    def source(self, prefix="http://HTTPS///"):
        """A line for sources.list."""
        return (f"deb [arch={self.workshop.arch} signed-by={self.workshop.key}] "
                f"{prefix}{self.host}{self.root} {self.suite} main")
