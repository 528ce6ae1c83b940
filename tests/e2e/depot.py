# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""Runs the real binary: start, stop, kill, restart, counters.

For: every test, through Env.depot() in run.py.

Options are given as keyword arguments named like the configuration keys; a list gives the key
several times, None leaves it out.  Waiting is done on the daemon's own counters, never on time.
"""
import os
import re
import resource
import signal
import subprocess
import time
import urllib.parse

import client
import pki
import ports

HERE = os.path.dirname(os.path.abspath(__file__))
TREE = os.path.dirname(os.path.dirname(HERE))
BINARY = os.path.abspath(os.environ.get("APT_DEPOT", os.path.join(TREE, "build", "apt-depot")))


def _find_slowness():
    """Factor on all deadlines: E2E_SLOW, else 3 for a binary with sanitizers in it."""
    if "E2E_SLOW" in os.environ:
        return float(os.environ["E2E_SLOW"])
    try:
        with open(BINARY, "rb") as file:
            data = file.read()
    except OSError:
        return 1.0
    return 3.0 if b"__asan_init" in data or b"__tsan_init" in data else 1.0


SLOW = _find_slowness()
TROUBLE = re.compile(r"(?i)\bpanic\b|assertion .*failed|(Address|Leak|Thread|UndefinedBehavior)"
                     r"Sanitizer|runtime error:")


def wait_until(truth, what, deadline_s=45):
    """Waits for a condition outside the daemon; returns its value."""
    until = time.monotonic() + deadline_s * SLOW
    pause = 0.005
    while True:
        value = truth()
        if value:
            return value
        if time.monotonic() > until:
            raise AssertionError(f"not within {deadline_s} s: {what}")
        time.sleep(pause)
        pause = min(pause * 1.3, 0.05)


def run_command(*args, timeout=45, env=None):
    """Runs the binary to its end: a CompletedProcess with text, errors included in stdout."""
    return subprocess.run([BINARY, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=timeout * SLOW, env=env,
                          check=False)


class Depot:
    """One daemon with its cache directory, log and access log below path."""

    def __init__(self, path, origin, certificates, **options):
        self.path = path
        self.port = ports.hold_port()
        self.log_path = os.path.join(path, "depot.log")
        self.access_path = os.path.join(path, "access.log")
        self.cache_dir = os.path.join(path, "cache")
        self.config_path = None     # a file in place of -o: see use_file
        self.sections = ""          # that the file ends with
        self.file_limit = None
        self.open_files = None
        self.process = None
        os.makedirs(path, exist_ok=True)
        self.options = {
            "listen": f"127.0.0.1:{self.port}",
            "cache_dir": self.cache_dir,
            "access_log": self.access_path,
            "allow_addresses": "127.0.0.0/8",
            "allow_ports": "any",
            "ca_file": certificates.ca,
            "https_upgrade": "",
        }
        if origin is not None:
            self.options["connect_to"] = [
                f"{name}:{port}:127.0.0.1:{to}" for name in pki.GOOD_NAMES + pki.BAD_NAMES
                for port, to in ((443, origin.tls_port), (80, origin.plain_port))]
        self.options.update(options)

    # -- life ----------------------------------------------------------------------------------

    def arguments(self):
        """The command line."""
        args = [BINARY, "serve"]
        if self.config_path is not None:
            return args + ["-c", self.config_path]
        for key, values in self.options.items():
            if values is None:
                continue
            for value in values if isinstance(values, (list, tuple)) else [values]:
                args += ["-o", f"{key}={value}"]
        return args

    def use_file(self, **options):
        """From the next start on the options stand in a file, with these; returns its path."""
        self.config_path = os.path.join(self.path, "depot.conf")
        self.options.update(options)
        with open(self.config_path, "w", encoding="utf-8") as out:
            for key, values in self.options.items():
                for value in values if isinstance(values, (list, tuple)) else [values]:
                    out.write(f"{key} = {value}\n" if value is not None else "")
            out.write(self.sections)
        return self.config_path

    def reload(self, *, good=True, **options):
        """Changes options in the file, sends SIGHUP and waits until that was looked at."""
        self.use_file(**options)
        counter = "reloads_total" if good else "reload_errors_total"
        before = self.counter(counter)
        self.process.send_signal(signal.SIGHUP)
        self.wait_counter(counter, "==", before + 1)

    def start(self):
        """Starts and waits for /-/healthz."""
        def limit():
            if self.file_limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (self.file_limit, self.file_limit))
            if self.open_files is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (self.open_files, self.open_files))
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.arguments(), stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, preexec_fn=limit)
        wait_until(self._is_up, "the depot answers /-/healthz")
        return self

    def _is_up(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the depot ended with {self.process.returncode} at start:\n"
                                 + self.log_text()[-2000:])
        try:
            return self.get("/-/healthz").status == 200
        except (AssertionError, OSError):    # not there yet, or it cut a look that was slow
            return False

    def stop(self):
        """SIGTERM; must end with status 0. How soon is test_daemon.py's affair."""
        if self.process is None:
            return
        process, self.process = self.process, None
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(45 * SLOW)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError("the depot did not stop within 45 s of SIGTERM") from None
        assert status == 0, f"the depot ended with {status}:\n{self.log_text()[-4000:]}"

    def kill(self):
        """SIGKILL."""
        self.process.kill()
        self.process.wait()
        self.process = None

    def restart(self):
        """An orderly stop and a start on the same port and cache."""
        self.stop()
        return self.start()

    def log_text(self):
        """What it wrote."""
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as log:
                return log.read()
        except FileNotFoundError:
            return ""

    def access_lines(self):
        """The access log's lines."""
        try:
            with open(self.access_path, encoding="utf-8", errors="replace") as log:
                return log.read().splitlines()
        except FileNotFoundError:
            return []

    def find_trouble(self):
        """A line of the log that no healthy daemon writes, or None."""
        for line in self.log_text().splitlines():
            if TROUBLE.search(line):
                return line
        return None

    def command(self, *args, timeout=45):
        """Runs a command that talks to this depot; its output, when it ends well."""
        done = run_command(args[0], "-o", f"cache_dir={self.cache_dir}", *args[1:],
                           timeout=timeout)
        assert done.returncode == 0, f"apt-depot {' '.join(args)} ended with " \
            f"{done.returncode}:\n{done.stdout}"
        return done.stdout

    def try_command(self, name, *args, timeout=45, **options):
        """The same, however it ends: a CompletedProcess with bytes."""
        return subprocess.run([BINARY, name, "-o", f"cache_dir={self.cache_dir}", *args],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=timeout * SLOW, check=False, **options)

    # -- asking --------------------------------------------------------------------------------

    def conn(self, timeout=client.TIMEOUT_S * SLOW, **options):
        """A client connection."""
        return client.Conn(self.port, timeout=timeout, **options)

    def get(self, target, *headers, method="GET", expect=None):
        """One request on a connection of its own; target as it goes on the request line."""
        with self.conn() as conn:
            return conn.get(target, *headers, method=method, expect=expect)

    def fetch(self, url, *headers, method="GET", expect=None):
        """https://host/path or http://host/path, asked for as apt does through a proxy."""
        return self.get(target_of(url), *headers, method=method, expect=expect)

    # -- counters ------------------------------------------------------------------------------

    def counters(self):
        """All counters, without their prefix."""
        found = {}
        for line in self.get("/-/metrics").text.splitlines():
            if line.startswith("apt_depot_"):
                name, value = line.rsplit(" ", 1)
                found[name[len("apt_depot_"):]] = float(value)
        return found

    def counter(self, name):
        """One counter."""
        return self.counters()[name]

    def wait_counter(self, name, op, value, deadline_s=45):
        """Waits until the counter is ==, >= or <= value."""
        test = {"==": lambda v: v == value, ">=": lambda v: v >= value,
                "<=": lambda v: v <= value}[op]
        last = None

        def reached():
            nonlocal last
            last = None
            try:
                last = self.counters().get(name)    # none: this connection was one too many
            except (AssertionError, OSError):
                # It was cut: where clients have a second, this one may have been too slow.
                if self.process.poll() is not None:
                    raise
            return last is not None and test(last)
        try:
            wait_until(reached, "", deadline_s)
        except AssertionError:
            raise AssertionError(f"{name} is {last}, expected {op} {value} "
                                 f"within {deadline_s} s") from None

    def wait_log(self, *parts, deadline_s=45):
        """Waits for a line of the log that has all the parts, in any letter case; returns it."""
        return wait_until(lambda: self._find_log(parts),
                          f"a line with {', '.join(parts)} in the log", deadline_s)

    def _find_log(self, parts):
        for line in self.log_text().splitlines():
            if all(part.lower() in line.lower() for part in parts):
                return line
        return None

    def wait_idle(self):
        """Waits until nothing is being fetched or stored: what was fetched is committed then."""
        self.wait_counter("flights_open", "==", 0)

    def wait_tables(self, n=1):
        """Waits until n indexes have been read: their packages are known. No client would wait
        longer than a second for that, and the table is written to the disk first."""
        self.wait_counter("tables_built_total", ">=", n)

    def wait_access(self, part, n=1, deadline_s=45):
        """Waits until the access log has n lines with this part in them; returns those."""
        return wait_until(lambda: self._find_access(part, n),
                          f"{n} lines with {part} in the access log", deadline_s)

    def _find_access(self, part, n):
        found = [line for line in self.access_lines() if part in line]
        return found if len(found) >= n else None

    def memory_kib(self, what="VmRSS"):
        """What /proc says of the daemon's memory."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) for line in status if line.startswith(what + ":"))

    def descriptors(self):
        """How many it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def partial_names(self):
        """Names in partial/."""
        return os.listdir(os.path.join(self.cache_dir, "partial"))

    def blob_paths(self):
        """Paths of the stored bodies."""
        found = []
        for directory, _, names in os.walk(os.path.join(self.cache_dir, "blobs")):
            found += [os.path.join(directory, name) for name in names]
        return found


def target_of(url):
    """http://HTTPS///host/path for https URLs; http ones stay."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https":
        return "http://HTTPS///" + url[len("https://"):]
    return url
