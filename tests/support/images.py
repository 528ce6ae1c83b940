# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""Builds real container images without a daemon, with buildah, in a store of its own.

For: the test of the Dockerfile (tests/docker/run.py) and the demo (tests/demo/demo.py).

A store is opened once (it finds out whether images can be built here at all, and why not), used
from any number of threads, and closed, which removes everything it made.
"""
import os
import shutil
import subprocess
import tempfile
import time

SUPPORT = os.path.dirname(os.path.abspath(__file__))


class Unavailable(Exception):
    """Images cannot be built on this machine; the text says why."""


def find_reason_against(programs=("buildah", "mmdebstrap")):
    """Why no image can be built here, or None."""
    for program in programs:
        if shutil.which(program) is None:
            return f"{program} is not installed"
    if os.geteuid() != 0:
        return "building images without a daemon needs root here"
    return None


def make_base(tar, proxy=None, max_age_s=7 * 86400):
    """Makes the root file system that images start from, unless a recent one is there."""
    try:
        if time.time() - os.stat(tar).st_mtime < max_age_s:
            return False
    except FileNotFoundError:
        pass
    os.makedirs(os.path.dirname(tar), exist_ok=True)
    done = subprocess.run([os.path.join(SUPPORT, "local_base"), tar] + ([proxy] if proxy else []),
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise Unavailable(f"no base image: {last_line(done.stdout)}")
    return True


def last_line(text):
    """The last line with something on it: what a failed program meant to say."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no message"


class Store:
    """A buildah store in a temporary directory."""

    def __init__(self, parent):
        os.makedirs(parent, exist_ok=True)
        self.path = tempfile.mkdtemp(prefix="images-", dir=parent)
        self.driver = None
        self.env = dict(os.environ, BUILDAH_ISOLATION="chroot", TMPDIR=self.path)
        # The caller's way out is the caller's business: builds get what they are given.
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            self.env.pop(name, None)

    def command(self, *args):
        """The command line of one buildah call on this store."""
        return ["buildah", "--root", os.path.join(self.path, "root"),
                "--runroot", os.path.join(self.path, "run"),
                "--storage-driver", self.driver, *args]

    def run(self, *args, check=True):
        """Runs buildah to its end and returns it; its output is text, errors included."""
        done = subprocess.run(self.command(*args), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, env=self.env, check=False)
        if check and done.returncode != 0:
            raise RuntimeError(f"buildah {args[0]} failed:\n{done.stdout[-6000:]}")
        return done

    def add_base(self, tar, name):
        """Turns a tar into an image, and runs one command in it to see that builds work here.

        Overlay needs no copy of the base for each build, but not every file system can carry it.
        """
        context = os.path.join(self.path, "base")
        os.makedirs(context, exist_ok=True)
        link = os.path.join(context, "base.tar")
        if not os.path.exists(link):
            try:
                os.link(tar, link)
            except OSError:
                shutil.copyfile(tar, link)
        base, probe = (os.path.join(context, n) for n in ("Dockerfile", "Dockerfile.probe"))
        with open(base, "w", encoding="ascii") as out:
            out.write("FROM scratch\nADD base.tar /\n")
        with open(probe, "w", encoding="ascii") as out:
            out.write(f"FROM {name}\nRUN true\n")
        for self.driver in ("overlay", "vfs"):
            done = self.run("bud", "--quiet", "--tag", name, "--file", base, context, check=False)
            if done.returncode == 0:
                done = self.run("bud", "--quiet", "--file", probe, context, check=False)
            if done.returncode == 0:
                return
        raise Unavailable(f"buildah cannot build here: {last_line(done.stdout)}")

    def close(self):
        """Removes the store; what is still mounted in it is unmounted first."""
        if self.driver is not None:
            self.run("rm", "--all", check=False)
        with open("/proc/self/mounts", encoding="utf-8") as mounts:
            points = [line.split()[1] for line in mounts]
        for point in reversed([p for p in points if p.startswith(self.path + "/")]):
            subprocess.run(["umount", "--lazy", point], check=False)
        shutil.rmtree(self.path, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
