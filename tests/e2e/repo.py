# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""Signed repositories of real packages, published on the scripted origin.

For: tests that run apt-get.  Two shapes: flat as NVIDIA publishes CUDA (`Filename: ./name.deb`,
Packages and Packages.gz, `Acquire-By-Hash: no`), and dists/pool with by-hash.

Workshop is made once per run: the packages, built with dpkg-deb, and a throw-away signing key.
"""
import concurrent.futures
import email.utils
import gzip
import hashlib
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
        os.makedirs(self.home, mode=0o700)
        self._gpg("--quick-gen-key", "apt-depot tests <tests@depot.example>", "ed25519", "sign",
                  "never")
        with open(self.key, "wb") as out:
            out.write(self._gpg("--armor", "--export"))
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for deb in pool.map(lambda p: self.build(*p), PACKAGES):
                self.debs[deb.name] = deb
        return self

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


class _Repo:
    """What both shapes share: publications have their own dates, one minute apart."""

    def __init__(self, workshop, origin, host):
        self.workshop = workshop
        self.origin = origin
        self.host = host
        self.published = 0
        self.sizes = {}
        self._served = {}

    def _stamp(self):
        when = time.time() - 86400 + 60 * self.published
        self.published += 1
        return email.utils.formatdate(when, usegmt=True)

    def _serve(self, path, data, date, **options):
        # A file that stays as it was keeps its date, as on a real server.
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
                 root="/compute/cuda/repos/debian12/x86_64/"):
        super().__init__(workshop, origin, host)
        self.root = root
        self.debs = dict(workshop.debs)

    def path_of(self, name):
        """The path of a package on the origin, as a server sees it: decoded once."""
        return self.root + self.debs[name].file_name

    def publish(self):
        """Serves the current packages with fresh indexes."""
        date = self._stamp()
        for deb in self.debs.values():
            for root in (self.root, self.root + "./"):
                self._serve(root + deb.file_name, deb.data, date)
        packages = "\n".join(deb.stanza("./" + deb.file_name)
                             for deb in self.debs.values()).encode()
        files = {"Packages": packages, "Packages.gz": gzip.compress(packages, 6, mtime=0)}
        release = (f"Origin: NVIDIA\nLabel: NVIDIA CUDA\nArchitecture: {self.workshop.arch}\n"
                   f"Date: {date.replace('GMT', 'UTC')}\nAcquire-By-Hash: no\n"
                   + _checksums(files)).encode()
        for name, data in files.items():
            self._serve(self.root + name, data, date)
        self._serve(self.root + "Release", release, date)
        self._serve(self.root + "Release.gpg", self.workshop.sign_detached(release), date)
        self._serve(self.root + "InRelease", self.workshop.sign_inline(release), date)
        return self

    def source(self, prefix="http://HTTPS///"):
        """A line for sources.list."""
        return (f"deb [arch={self.workshop.arch} signed-by={self.workshop.key}] "
                f"{prefix}{self.host}{self.root} /")


class DistsRepo(_Repo):
    """Debian's shape, with by-hash."""

    def __init__(self, workshop, origin, host="deb.example", root="/debian/", suite="stable"):
        super().__init__(workshop, origin, host)
        self.root = root
        self.suite = suite
        self.debs = dict(workshop.debs)

    def path_of(self, name):
        """The path of a package on the origin."""
        return f"{self.root}pool/main/c/{name}/{self.debs[name].file_name}"

    def by_hash(self, data, algorithm="SHA512"):
        """The by-hash path of an index."""
        digest = dict(HASHES)[algorithm](data).hexdigest()
        return (f"{self.root}dists/{self.suite}/main/binary-{self.workshop.arch}/"
                f"by-hash/{algorithm}/{digest}")

    def publish(self):
        """Serves the current packages with fresh indexes."""
        date = self._stamp()
        for deb in self.debs.values():
            self._serve(self.path_of(deb.name), deb.data, date)
        top, binary = f"{self.root}dists/{self.suite}/", f"main/binary-{self.workshop.arch}/"
        packages = "\n".join(deb.stanza(self.path_of(deb.name)[len(self.root):])
                             for deb in self.debs.values()).encode()
        files = {binary + "Packages": packages,
                 binary + "Packages.gz": gzip.compress(packages, 6, mtime=0)}
        release = (f"Origin: Test\nLabel: Test\nSuite: {self.suite}\nCodename: {self.suite}\n"
                   f"Architectures: {self.workshop.arch}\nComponents: main\n"
                   f"Date: {date.replace('GMT', 'UTC')}\nAcquire-By-Hash: yes\n"
                   + _checksums(files)).encode()
        for name, data in files.items():
            self._serve(top + name, data, date)
            for algorithm, _ in HASHES[2:]:
                self._serve(self.by_hash(data, algorithm), data, date)
        self._serve(top + "Release", release, date)
        self._serve(top + "Release.gpg", self.workshop.sign_detached(release), date)
        self._serve(top + "InRelease", self.workshop.sign_inline(release), date)
        return self

    def source(self, prefix="http://HTTPS///"):
        """A line for sources.list."""
        return (f"deb [arch={self.workshop.arch} signed-by={self.workshop.key}] "
                f"{prefix}{self.host}{self.root} {self.suite} main")
