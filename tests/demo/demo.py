#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""Shows the main job in a minute: four parallel image builds on CUDA, through one depot.

For: make demo.  A repository of CUDA's shape stands on a TLS server of this machine under NVIDIA's
name; four real image builds install it at the same time, first with an empty cache, then with a
full one, then with the server stopped.  The table says how long that took and what the server
sent, by the server's own count.

Where images cannot be built, four isolated apt installations download the same packages instead;
the output says so.

    tests/demo/demo.py [--keep]         --keep leaves the logs of depot and builds under build/
"""
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
TREE = os.path.dirname(os.path.dirname(HERE))
BUILD = os.environ.get("BUILD", os.path.join(TREE, "build"))
DEPOT = os.environ.get("APT_DEPOT", os.path.join(BUILD, "apt-depot"))
sys.dont_write_bytecode = True
sys.path[:0] = [os.path.join(TREE, "tests", "support"), HERE]
import cudarepo  # noqa: E402  pylint: disable=wrong-import-position
import images  # noqa: E402  pylint: disable=wrong-import-position

BUILDS_N = 4
# Slow enough that the line, not this machine, is what a cold build waits for.
LINE_BYTES_PER_S = 20_000_000
PHASE_S = 300
MB = 1_000_000
BASE = "localhost/apt-depot-demo-base"


def say(text):
    """A line of the story."""
    print(text, flush=True)


class Depot:
    """The daemon, with the origin's name led to this machine."""

    def __init__(self, directory, origin, ca):
        # Kept: nobody else is given the port, and the depot may listen on it all the same. The
        # option comes after bind, which would take a port that is held like this.
        self.held = socket.socket()
        self.held.bind(("127.0.0.1", 0))
        self.held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.port = self.held.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = os.path.join(directory, "depot.log")
        options = {
            "listen": f"127.0.0.1:{self.port}",
            "cache_dir": os.path.join(directory, "cache"),
            "ca_file": ca,
            "connect_to": f"{cudarepo.HOST}:443:127.0.0.1:{origin.port}",
            # The origin stands on loopback, the machine's mirror wherever it is; only this machine
            # can ask.
            "allow_addresses": "0.0.0.0/0,::/0",
            "allow_ports": "any",
            "access_log": os.path.join(directory, "access.log"),
        }
        command = [DEPOT, "serve"]
        for key, value in options.items():
            command += ["-o", f"{key}={value}"]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=subprocess.STDOUT)
        self.page_bytes = 0
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self.wait_until_healthy()

    def get(self, path):
        """One page of the depot's own."""
        with self.opener.open(self.url + path, timeout=45) as answer:
            body = answer.read()
        self.page_bytes += len(body)
        return body.decode()

    def wait_until_healthy(self):
        """It answers within a fraction of a second, or says why not."""
        deadline = time.monotonic() + 45
        while True:
            try:
                self.get("/-/healthz")
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    with open(self.log, encoding="utf-8", errors="replace") as log:
                        raise RuntimeError("the depot does not start:\n" + log.read()) from None
                time.sleep(0.02)

    def count(self, name):
        """One of its counters."""
        for line in self.get("/-/metrics").splitlines():
            if line.startswith(f"apt_depot_{name} "):
                return int(float(line.split()[1]))
        return 0

    def count_sent_bytes(self):
        """Bodies sent to builds: what it counts, less what this program itself was sent."""
        pages_bytes = self.page_bytes
        return self.count("sent_body_bytes_total") - pages_bytes

    def stop(self):
        """SIGTERM, and patience."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=45)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class ImageBuilds:
    """Builds that are image builds."""
    what = "image builds"

    def __init__(self, directory, repo, depot):
        self.depot = depot
        reason = images.find_reason_against()
        if reason:
            raise images.Unavailable(reason)
        tar = os.path.join(BUILD, "images", "base.tar")
        self.make_base(tar, depot)
        self.store = images.Store(os.path.join(BUILD, "images"))
        try:
            self.store.add_base(tar, BASE + "-all")
            # The demo needs no internet: its builds know the CUDA repository only.
            no_sources = os.path.join(directory, "Dockerfile.base")
            with open(no_sources, "w", encoding="ascii") as out:
                out.write(f"FROM {BASE}-all\nRUN rm -f /etc/apt/sources.list "
                          "/etc/apt/sources.list.d/*\n")
            self.context = os.path.join(directory, "context")
            os.makedirs(self.context)
            self.store.run("bud", "--quiet", "--tag", BASE, "--file", no_sources, self.context)
        except BaseException:
            self.store.close()
            raise
        for source in (os.path.join(HERE, "Dockerfile"),
                       os.path.join(repo, "cuda-archive-keyring.gpg")):
            shutil.copy(source, self.context)

    @staticmethod
    def make_base(tar, depot):
        """The root file system, through the depot if the machine's mirror can be reached so."""
        if not os.path.exists(tar):
            say("making a base image with mmdebstrap, through the depot (once; half a minute)")
        try:
            images.make_base(tar, depot.url)
        except images.Unavailable as why:
            say(f"through the depot: {why}; trying without")
            images.make_base(tar)

    def start(self, phase, number, log):
        """Starts one build; nothing of an earlier one is reused but the base."""
        return subprocess.Popen(
            self.store.command("bud", "--network", "host", "--no-cache",
                               "--build-arg", f"BASE={BASE}",
                               "--build-arg", f"http_proxy={self.depot.url}",
                               "--tag", f"localhost/cuda-{phase}-{number}", self.context),
            env=self.store.env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

    def clear(self, phase):
        """Makes room for the next phase."""
        self.store.run("rmi", "--force",
                       *(f"localhost/cuda-{phase}-{n}" for n in range(BUILDS_N)), check=False)

    def close(self):
        """Removes every image."""
        self.store.close()


class AptRoots:
    """What stands in for image builds: apt with directories of its own, downloading only."""
    what = "apt downloads"

    def __init__(self, directory, repo, depot):
        self.directory = directory
        self.keyring = os.path.join(repo, "cuda-archive-keyring.gpg")
        self.depot = depot

    def start(self, phase, number, log):
        """Starts apt-get update and install in a root of its own."""
        root = os.path.join(self.directory, f"root-{phase}-{number}")
        for name in ("etc/preferences.d", "etc/apt.conf.d", "state/lists/partial",
                     "cache/archives/partial"):
            os.makedirs(os.path.join(root, name))
        open(os.path.join(root, "status"), "wb").close()
        with open(os.path.join(root, "sources.list"), "w", encoding="ascii") as out:
            out.write(f"deb [signed-by={self.keyring}] http://HTTPS///{cudarepo.HOST}"
                      f"{cudarepo.PATH} /\n")
        with open(os.path.join(root, "apt.conf"), "w", encoding="ascii") as out:
            out.write(f'Dir::Etc "{root}/etc";\nDir::Etc::SourceList "{root}/sources.list";\n'
                      f'Dir::Etc::SourceParts "-";\nDir::State "{root}/state";\n'
                      f'Dir::State::status "{root}/status";\nDir::Cache "{root}/cache";\n'
                      f'APT::Architecture "amd64";\nAPT::Sandbox::User "";\n'
                      f'Acquire::http::Proxy "{self.depot.url}";\nDebug::NoLocking "true";\n')
        return subprocess.Popen(
            ["sh", "-c", "apt-get update && apt-get install -y --download-only cuda"],
            env=dict(os.environ, APT_CONFIG=os.path.join(root, "apt.conf")),
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

    def clear(self, phase):
        """Makes room for the next phase."""
        for number in range(BUILDS_N):
            shutil.rmtree(os.path.join(self.directory, f"root-{phase}-{number}"))

    def close(self):
        """Nothing is left."""


class Progress:
    """What is going on, on one line of a terminal or every five seconds in a log."""

    def __init__(self):
        self.terminal = sys.stdout.isatty()
        self.shown_at = time.monotonic()

    def show(self, text):
        """Says how far it is."""
        if self.terminal:
            print(f"\r\033[K{text}", end="", flush=True)
        elif time.monotonic() - self.shown_at >= 5:
            self.shown_at = time.monotonic()
            say(text)

    def done(self):
        """Leaves the line to the next text."""
        if self.terminal:
            print("\r\033[K", end="", flush=True)


class Phase:
    """Four builds side by side, and what they cost."""

    def __init__(self, name, origin, depot):
        self.name = name
        self.slug = name.replace(" ", "-")
        self.origin = origin
        self.depot = depot
        self.before = (origin.sent_bytes, origin.requests_n, depot.count_sent_bytes())
        self.origin_bytes = self.requests_n = self.got_bytes = 0
        self.first_s = self.last_s = self.seconds = 0.0

    def measure(self, seconds):
        """Brings the numbers up to date: first_s and last_s are when the depot sent anything."""
        self.seconds = seconds
        self.origin_bytes = self.origin.sent_bytes - self.before[0]
        self.requests_n = self.origin.requests_n - self.before[1]
        got_bytes = self.depot.count_sent_bytes() - self.before[2]
        if got_bytes > self.got_bytes:
            self.first_s = self.first_s or seconds
            self.got_bytes, self.last_s = got_bytes, seconds

    def wait(self, running):
        """Shows how far the builds are, until all have ended."""
        progress = Progress()
        started = time.monotonic()
        try:
            while any(process.poll() is None for process in running):
                self.measure(time.monotonic() - started)
                if self.seconds > PHASE_S:
                    raise RuntimeError(f"not done within {PHASE_S} s")
                finished = sum(process.poll() is not None for process in running)
                progress.show(f"  {self.name:<14} {self.seconds:4.0f} s   origin sent "
                              f"{self.origin_bytes / MB:4.0f} MB   builds got "
                              f"{self.got_bytes / MB:4.0f} MB   {finished} of {BUILDS_N} finished")
                time.sleep(0.1)
            self.measure(time.monotonic() - started)
        finally:
            progress.done()
            for process in running:
                if process.poll() is None:
                    process.terminate()
                    process.wait()

    def run(self, builds, directory):
        """The whole phase; an unsuccessful build ends the demo with what it said."""
        logs = [os.path.join(directory, f"{self.slug}-{n}.log") for n in range(BUILDS_N)]
        running = []
        for number, path in enumerate(logs):
            with open(path, "wb") as log:
                running.append(builds.start(self.slug, number, log))
        self.wait(running)
        for process, path in zip(running, logs):
            if process.returncode != 0:
                with open(path, encoding="utf-8", errors="replace") as log:
                    raise RuntimeError(f"a build failed ({self.name}):\n{log.read()[-4000:]}")
        builds.clear(self.slug)
        say(f"  {self.name:<14} downloads took {self.last_s - self.first_s:.1f} s, {builds.what} "
            f"finished after {self.seconds:.1f} s")
        return self


def print_table(rows, debs_bytes, what):
    """The result."""
    say("")
    say(f"{BUILDS_N} {what} at once, {debs_bytes / MB:.0f} MB of packages each")
    say(f"{'':16}{'download':>10}{'all done':>10}{'origin sent':>22}{'requests':>10}"
        f"{'builds got':>13}")
    for row in rows:
        copies = f"({row.origin_bytes / debs_bytes:.2f}x)"
        say(f"{row.name:<16}{row.last_s - row.first_s:>8.1f} s{row.seconds:>8.1f} s"
            f"{row.origin_bytes / MB:>10.1f} MB{copies:>9}{row.requests_n:>10}"
            f"{row.got_bytes / MB:>10.1f} MB")
    say(f"Without a depot the origin sends {BUILDS_N}.00x each time, "
        f"{BUILDS_N * debs_bytes / LINE_BYTES_PER_S:.0f} s on this line, and nothing when stopped.")


def show(directory):
    """Everything, in order; cleans up whatever happens."""
    repo = os.path.join(BUILD, "demo-repository")
    if not os.path.exists(os.path.join(repo, "InRelease")):
        say("making a signed repository of CUDA's shape (once)")
    files = cudarepo.make_repository(repo)
    debs_bytes = sum(size for name, size in files.items() if name.endswith(".deb"))
    ca, cert, key = cudarepo.make_certificates(os.path.join(directory, "tls"))
    origin = cudarepo.Origin(repo, cert, key, LINE_BYTES_PER_S)
    depot = builds = None
    try:
        depot = Depot(directory, origin, ca)
        try:
            builds = ImageBuilds(directory, repo, depot)
        except images.Unavailable as why:
            say(f"no image builds here ({why}); isolated apt roots stand in for them")
            builds = AptRoots(directory, repo, depot)
        say(f"https://{cudarepo.HOST}{cudarepo.PATH} stands on this machine, "
            f"on a line of {LINE_BYTES_PER_S * 8 // MB} Mbit/s")
        say(f"{BUILDS_N} {builds.what} at once, through the depot on port {depot.port}:")
        rows = [Phase(name, origin, depot).run(builds, directory) for name in ("cold", "warm")]
        origin.stop()
        rows.append(Phase("origin stopped", origin, depot).run(builds, directory))
        print_table(rows, debs_bytes, builds.what)
    finally:
        if builds is not None:
            builds.close()
        if depot is not None:
            depot.stop()
    cold, warm = rows[:2]
    if cold.origin_bytes > 1.01 * debs_bytes + 100_000 or warm.origin_bytes > 100_000:
        raise RuntimeError("the origin sent more than one copy")


def main():
    """Exit status: 0 when all builds succeeded and the origin sent everything once."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.makedirs(BUILD, exist_ok=True)
    directory = tempfile.mkdtemp(prefix="demo-", dir=BUILD)
    # apt reads as its own user where it can; nothing secret lies here.
    os.chmod(directory, 0o755)
    try:
        show(directory)
    except KeyboardInterrupt:
        say("stopped")
        return 130
    except RuntimeError as err:
        say(f"demo: {err}")
        return 1
    finally:
        if "--keep" in sys.argv[1:]:
            say(f"logs are in {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
