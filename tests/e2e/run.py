#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""End-to-end tests: the real daemon, a scripted TLS origin, real clients.

    tests/e2e/run.py [-j N] [-k PATTERN] [--list] [--keep] [NAME ...]

A test is a function test_*(env) in a test_*.py file beside this one.  Each runs in a process, a
directory and on ports of its own, for at most three minutes; Env below is what it gets.  NAME and
PATTERN select tests whose name (file:function) contains them.  The last line says how many passed
and failed; the exit status is 1 when any failed.

Environment: APT_DEPOT (the binary; build/apt-depot), E2E_SLOW (factor on all deadlines; 3 for
binaries with sanitizers), E2E_PORTS (21000-21999).

A test is skipped, with its reason, where this machine lacks what it needs.  How to read a failure:
the traceback says what was expected; below it are the origin's log of requests and the end of each
depot's log.  --keep leaves the directories.
"""
import argparse
import glob
import importlib
import os
import pickle
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import aptroot   # noqa: E402  pylint: disable=wrong-import-position
import cdn as cdns  # noqa: E402  pylint: disable=wrong-import-position
import depot as depots  # noqa: E402  pylint: disable=wrong-import-position
import origin as origins  # noqa: E402  pylint: disable=wrong-import-position
import pki  # noqa: E402  pylint: disable=wrong-import-position
import relay as relays  # noqa: E402  pylint: disable=wrong-import-position
import repo as repos  # noqa: E402  pylint: disable=wrong-import-position
from support import Skip  # noqa: E402  pylint: disable=wrong-import-position

TEST_LIMIT_S = 180
LOG_TAIL_LINES = 60


class Env:
    """What a test function gets: makes origins, depots and clients, and ends them afterwards."""

    def __init__(self, path, certificates, workshop):
        self.path = path
        self.certificates = certificates
        self.workshop = workshop
        self.depots = []
        self.origins = []
        self._relays = []
        self._roots = 0

    @property
    def origin(self):
        """The test's origin; made when it is first asked for."""
        return self.origins[0] if self.origins else self.new_origin()

    def new_origin(self):
        """Another origin."""
        self.origins.append(origins.Origin(self.certificates))
        return self.origins[-1]

    def new_depot(self, **options):
        """A depot that has not been started."""
        path = os.path.join(self.path, f"depot{len(self.depots)}")
        self.depots.append(depots.Depot(path, self.origin, self.certificates, **options))
        return self.depots[-1]

    def depot(self, **options):
        """A running depot that reaches the origin under all its names, verifying its TLS."""
        return self.new_depot(**options).start()

    def flat_repo(self, **options):
        """A published repository of CUDA's shape."""
        return repos.FlatRepo(self.workshop(), self.origin, **options).publish()

    def dists_repo(self, **options):
        """A published repository of Debian's shape."""
        return repos.DistsRepo(self.workshop(), self.origin, **options).publish()

    def flat_cdn(self, *debs, signed=False, **options):
        """A host of its own for a repository of CUDA's shape; signed: real apt will read it."""
        return cdns.Cdn(repos.FlatRepo(self.workshop() if signed else repos.NoWorkshop, self.origin,
                                       debs={deb.name: deb for deb in debs}, **options))

    def dists_cdn(self, *debs, signed=False, **options):
        """The same in Debian's shape."""
        return cdns.Cdn(repos.DistsRepo(self.workshop() if signed else repos.NoWorkshop,
                                        self.origin, debs={deb.name: deb for deb in debs},
                                        **options))

    def relay(self, depot, source):
        """A stand-in for the depot: who goes through it comes from the address source."""
        self._relays.append(relays.Relay(depot.port, source))
        return self._relays[-1]

    def apt(self, depot, *sources, **options):
        """An isolated apt client that goes through the depot; proxy=False: it does not know it."""
        if shutil.which("apt-get") is None:
            raise Skip("apt-get is not installed")
        self._roots += 1
        port = depot.port if options.pop("proxy", True) else None
        return aptroot.AptRoot(os.path.join(self.path, f"apt{self._roots}"), self.workshop().arch,
                               list(sources), proxy_port=port, **options)

    def close(self):
        """Ends everything; a daemon that does not end well fails the test."""
        problems = []
        for relay in self._relays:
            relay.close()
        for depot in self.depots:
            try:
                depot.stop()
            except AssertionError as err:
                problems.append(str(err))
            trouble = depot.find_trouble()
            if trouble:
                problems.append(f"the depot's log says: {trouble}")
        for origin in self.origins:
            origin.stop()
            problems += [f"the origin itself failed: {text}" for text in origin.failures]
        return problems

    def evidence(self):
        """Logs for a failed test."""
        parts = []
        for n, origin in enumerate(self.origins):
            parts.append(f"--- requests at origin {n}\n{tail(origin.log_text())}")
        for n, depot in enumerate(self.depots):
            parts.append(f"--- log of depot {n}\n{tail(depot.log_text())}")
            lines = depot.access_lines()
            if lines:
                parts.append(f"--- access log of depot {n}\n" + tail("\n".join(lines)))
        return "\n".join(parts)


def tail(text):
    """The last lines."""
    return "\n".join(text.splitlines()[-LOG_TAIL_LINES:])


class TestLimit(Exception):
    """The test ran too long."""


def run_test(function, path, certificates, workshop):
    """In the test's own process: (outcome, text)."""
    limit = getattr(function, "limit_s", TEST_LIMIT_S) * depots.SLOW

    def too_long(*_):
        where = "".join(traceback.format_stack(sys._current_frames()[
            threading.main_thread().ident])[-4:])
        raise TestLimit(f"still running after {limit:.0f} s\n{where}")
    os.makedirs(path)
    env = Env(path, certificates, workshop)
    outcome, text = "ok", ""
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(int(limit))
    try:
        function(env)
    except Skip as why:
        outcome, text = "skip", str(why)
    except BaseException:  # pylint: disable=broad-except
        outcome, text = "FAIL", traceback.format_exc()
    signal.alarm(0)
    try:
        problems = env.close()
    except BaseException:  # pylint: disable=broad-except
        problems = [traceback.format_exc()]
    if problems:
        outcome, text = "FAIL", text + "\n".join(problems) + "\n"
    if outcome == "FAIL":
        text += env.evidence() + "\n"
    return outcome, text


class Runner:
    """Forks one process per test, a few at a time."""

    def __init__(self, tests, jobs, session, keep):
        self.waiting = tests
        self.jobs = jobs
        self.session = session
        self.keep = keep
        self.running = {}
        self.counts = {"ok": 0, "FAIL": 0, "skip": 0}
        self.failed = []
        self.certificates = pki.Pki(os.path.join(session, "pki")).make()
        self._workshop = None

    def make_workshop(self):
        """Packages and key, made before the first fork, when a test's file has NEEDS_PACKAGES."""
        self._workshop = repos.Workshop(os.path.join(self.session, "w")).make()

    def workshop(self):
        """For tests; skips where there is none."""
        if self._workshop is None:
            raise Skip("dpkg-deb or gpg is not installed")
        return self._workshop

    def run(self):
        """All tests; returns the number of failures."""
        patient = [test for test in self.waiting if hasattr(test[1], "patient")]
        busy = [test for test in self.waiting if not hasattr(test[1], "patient")]
        try:
            while patient or busy or self.running:
                # One more slot is for tests that wait more than they work.
                waiting_now = sum(1 for entry in self.running.values() if entry[5])
                if patient and waiting_now == 0 and self.jobs > 1:
                    self._start(*patient.pop(0), True)
                elif (busy or patient) and len(self.running) - waiting_now < self.jobs:
                    self._start(*(busy or patient).pop(0), False)
                else:
                    self._reap()
        finally:
            for pid in self.running:
                _kill_group(pid)
            if self._workshop:
                self._workshop.close()
        return self.counts["FAIL"]

    def _start(self, name, function, patient):
        path = os.path.join(self.session, f"t{sum(self.counts.values()) + len(self.running)}")
        while os.path.exists(path):
            path += "x"
        result = path + ".result"
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.setsid()
                # The longest one would be the last to end if it had to share with all the others.
                os.nice(0 if getattr(function, "weight", 0) >= 100 else 10)
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                outcome = run_test(function, path, self.certificates, self.workshop)
                with open(result + ".tmp", "wb") as out:
                    pickle.dump(outcome, out)
                os.rename(result + ".tmp", result)
                status = 0
            finally:
                os._exit(status)
        limit = (getattr(function, "limit_s", TEST_LIMIT_S) + 20) * depots.SLOW
        self.running[pid] = (name, path, result, time.monotonic(), limit, patient)

    def _reap(self):
        pid, _ = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            for pid, entry in self.running.items():
                if time.monotonic() - entry[3] > entry[4]:
                    _kill_group(pid)
            time.sleep(0.01)
            return
        if pid not in self.running:
            return
        name, path, result, started = self.running.pop(pid)[:4]
        _kill_group(pid)
        try:
            with open(result, "rb") as file:
                outcome, text = pickle.load(file)
        except OSError:
            outcome, text = "FAIL", "the test's process died or had to be killed\n"
        self.counts[outcome] += 1
        print(f"{outcome:4}  {name}  {time.monotonic() - started:.1f} s"
              + (f"  ({text})" if outcome == "skip" else ""), flush=True)
        if outcome == "FAIL":
            self.failed.append(name)
            print("".join(f"      {line}\n" for line in text.splitlines()), end="", flush=True)
        if not self.keep:
            shutil.rmtree(path, ignore_errors=True)


def _kill_group(pid):
    """Whatever a test left behind."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def find_tests(patterns):
    """[(name, function)], the heaviest first, so that none is left for the end."""
    found = []
    for file in sorted(glob.glob(os.path.join(HERE, "test_*.py"))):
        stem = os.path.basename(file)[:-3]
        module = importlib.import_module(stem)
        for name, function in vars(module).items():
            if name.startswith("test_") and callable(function):
                full = f"{stem[5:]}:{name[5:]}"
                if not patterns or any(p in full or p == name for p in patterns):
                    found.append((full, function))
    found.sort(key=lambda item: -getattr(item[1], "weight", 0))
    return found


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description="End-to-end tests of apt-depot.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="run tests with this in the name")
    parser.add_argument("-k", dest="pattern", action="append", default=[], help="the same")
    parser.add_argument("-j", dest="jobs", type=int, default=2 * (os.cpu_count() or 1),
                        help="tests at a time (twice the cores: they wait a lot)")
    parser.add_argument("--list", action="store_true", help="name the tests, run none")
    parser.add_argument("--keep", action="store_true", help="leave the tests' directories")
    options = parser.parse_args()
    tests = find_tests(options.names + options.pattern)
    if options.list:
        for name, function in sorted(tests, key=lambda item: item[0]):
            print(f"{name}  {(function.__doc__ or '').strip().splitlines()[0:1]}")
        return 0
    if not os.access(depots.BINARY, os.X_OK):
        print(f"e2e: {depots.BINARY} is not there; run make first, or set APT_DEPOT")
        print("0 passed, 1 failed")
        return 1
    session = tempfile.mkdtemp(prefix="e2e-")
    started = time.monotonic()
    try:
        runner = Runner(tests, options.jobs, session, options.keep)
        wanted = any(getattr(sys.modules[f.__module__], "NEEDS_PACKAGES", False) for _, f in tests)
        if wanted and shutil.which("dpkg-deb") and shutil.which("gpg"):
            runner.make_workshop()
        failures = runner.run()
    finally:
        if options.keep:
            print(f"kept: {session}")
        else:
            shutil.rmtree(session, ignore_errors=True)
    skipped = f", {runner.counts['skip']} skipped" if runner.counts["skip"] else ""
    print(f"e2e: {time.monotonic() - started:.0f} s{skipped}")
    for name in runner.failed:
        print(f"e2e: failed: {name}")
    print(f"{runner.counts['ok']} passed, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
