#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""Compare apt-depot with Debian's nginx, apt-cacher-ng and varnish on this machine.

Rounds are interleaved: every server has its turn before the first one has its second; the table
shows medians, and ratios to the best peer of the same run. Absolute numbers mean little elsewhere.

    make bench                       everything, about ten minutes
    make bench BENCH=--quick         short rounds, about two minutes
    make bench BENCH='-k warm,idle'  scenarios with these words in their key; --list names them
"""
import argparse
import json
import mmap
import os
import platform
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time

sys.dont_write_bytecode = True  # nothing of ours beside the sources

import scenarios
import servers
from servers import MIB, BenchError

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CFLAGS = ["-std=gnu11", "-D_GNU_SOURCE", "-O2", "-Wall"]


def say(text):
    """Progress, kept out of what --json and --markdown print."""
    print(text, file=sys.stderr, flush=True)


def memory_bytes(field):
    with open("/proc/meminfo", encoding="ascii") as f:
        return next(int(x.split()[1]) * 1024 for x in f if x.startswith(field + ":"))


class Env:
    """What scenarios and servers share."""

    def __init__(self, args):
        self.args = args
        self.quick = args.quick
        self.here = HERE
        self.build = os.path.abspath(os.environ.get("BUILD", os.path.join(ROOT, "build")))
        self.dir = os.path.abspath(args.dir or os.path.join(self.build, "bench"))
        self.binary = os.path.abspath(os.environ.get("APT_DEPOT", "") or
                                      os.path.join(self.build, "apt-depot"))
        if os.access(self.binary, os.X_OK):
            # A build that goes on beside us must not change what is measured.
            os.makedirs(self.dir, exist_ok=True)
            self.binary = shutil.copy(self.binary, os.path.join(self.dir, "apt-depot-under-test"))
        self.memory_bytes = memory_bytes("MemAvailable")
        self.wrk = servers.tool("wrk")
        self.fill_program = next((p for p in (os.path.join(self.build, n) for n in (
            "bench-fill_index", "fill-index")) if os.access(p, os.X_OK)), None)
        self.lists_program = next((p for p in (os.path.join(self.build, "bench-lists"),)
                                   if os.access(p, os.X_OK)), None)
        self.secure_program = next((p for p in (os.path.join(self.build, "bench-secure"),)
                                    if os.access(p, os.X_OK)), None)
        self.results = {}
        self.began = time.monotonic()
        self.wire_port = self.port(2)
        os.makedirs(self.dir, exist_ok=True)
        self.load_program = self.program("load")
        self.wire_program = self.program("wire")
        self.huge_bytes = (512 if args.quick or self.memory_bytes < 10 << 30 else 2048) * MIB
        self.origin = servers.Origin(self)

    def port(self, number):
        return self.args.port + number

    def trash(self):
        """Where discarded caches wait for the end."""
        path = os.path.join(self.dir, "trash")
        os.makedirs(path, exist_ok=True)
        return path

    def seconds(self, full, quick):
        return quick if self.quick else full

    def program(self, name):
        """make builds it; where only this file is run, the compiler does."""
        path = os.path.join(self.build, f"bench-{name}")
        source = os.path.join(HERE, f"{name}.c")
        if not os.path.exists(path) or os.path.getmtime(path) < os.path.getmtime(source):
            path = os.path.join(self.dir, f"bench-{name}")
            subprocess.run([os.environ.get("CC", "cc"), *CFLAGS, "-o", path, source], check=True)
        return path

    def reference_value(self, scenario, metric):
        """The latest number taken without a proxy."""
        values = self.results.get(scenario, {}).get("reference", {}).get(metric)
        return values[-1] if values else None


class Runner:
    """One scenario: its servers, its rounds, its numbers."""

    def __init__(self, env, scenario):
        self.env = env
        self.s = scenario
        self.values = env.results.setdefault(scenario.key, {})
        self.failed = {}          # server -> words

    def note(self, name, numbers):
        into = self.values.setdefault(name, {})
        for key, value in numbers.items():
            into.setdefault(key, []).append(value)

    def attempt(self, server, what, *args):
        """Run one step; a server that fails is out of this scenario, with words."""
        try:
            return what(*args)
        except (BenchError, OSError, ValueError, subprocess.SubprocessError) as e:
            self.failed[server.name] = str(e) or repr(e)
            say(f"    {server.name}: {e}")
            server.stop()
            return None

    def start(self, server):
        server.start(fresh=self.s.fresh, **self.s.start_options())
        server.check()

    def prepare(self, server):
        self.start(server)
        self.s.prepare(server)

    def turn(self, server):
        """One server's part of one round."""
        try:
            if self.s.fresh:
                self.attempt(server, self.start, server)
            if server.name in self.failed:
                return
            numbers = self.attempt(server, self.s.measure, server)
            if numbers is not None:
                self.note(server.name, numbers)
        finally:
            if self.s.fresh:
                server.stop()
                server.discard()

    def run(self, all_servers):
        chosen = [x for x in all_servers if x.name in self.s.peers]
        rounds = self.env.args.rounds or (1 if self.env.quick else self.s.rounds)
        try:
            if not self.s.fresh and not self.s.manual:
                for server in chosen:
                    self.attempt(server, self.prepare, server)
            for i in range(rounds):
                if i and time.monotonic() - self.env.began > self.env.args.limit:
                    say(f"    only {i} rounds: --limit {self.env.args.limit} has passed")
                    break
                self.note("reference", self.s.reference())
                # Another one goes first each time.
                for server in chosen[i % len(chosen):] + chosen[:i % len(chosen)]:
                    if server.name not in self.failed:
                        self.turn(server)
        finally:
            for server in chosen:
                server.stop()
            self.s.end()


# -- the table ------------------------------------------------------------------------------------

def median(values):
    return statistics.median(values) if values else None


def show(value, digits):
    if value is None:
        return "-"
    return f"{value:,.{digits}f}".replace(",", " ") if digits == 0 else f"{value:.{digits}f}"


def make_row(scenario, metric, values, failed):
    """One line: ours, the best peer's, their ratio, the mark, whether it is met."""
    # "bad" counts the errors themselves: there a server with errors is not left out.
    clean = {name: median(v[metric.key]) for name, v in values.items() if metric.key in v and
             (metric.key == "bad" or not sum(v.get("errors", [0])))}
    ours = clean.pop("apt-depot", None)
    clean.pop("reference", None)
    pick = min if metric.better == "low" else max
    best = pick(clean, key=clean.get) if clean else None
    row = {"scenario": scenario.key, "title": scenario.title, "metric": metric.label,
           "ours": ours, "peer": best, "peer_value": clean.get(best), "peers": clean,
           "ratio": None, "mark": metric.mark.text if metric.mark else "", "met": None,
           "digits": metric.digits, "words": failed.get("apt-depot", "")}
    errors = values.get("apt-depot", {}).get("errors", [])
    if sum(errors) and ours is None:
        first = next((x for x in values["apt-depot"]["first_error"] if x), "")
        row["words"] = f"{sum(errors)} errors: {first}"
    # A ratio of two differences says nothing.
    if ours is not None and best and clean[best] and "over the origin" not in metric.label:
        row["ratio"] = ours / clean[best]
    if metric.mark and ours is not None:
        # As the table shows it: 1.004 is no more than 1.00.
        row["met"] = metric.mark.test(round(ours, metric.digits), clean.get(best), clean)
    elif metric.mark and row["words"]:
        row["met"] = False
    return row


def cells(row, last_title):
    met = {True: "yes", False: "NO", None: "" if not row["mark"] else "-"}[row["met"]]
    peer = f"{show(row['peer_value'], row['digits'])} {row['peer']}" if row["peer"] else "-"
    return [row["title"] if row["title"] != last_title else "", row["metric"],
            show(row["ours"], row["digits"]) if row["ours"] is not None else
            (row["words"][:60] or "-"),
            peer, f"{row['ratio']:.2f}" if row["ratio"] is not None else "-", row["mark"], met]


HEAD = ["scenario", "measure", "apt-depot", "best peer", "ratio", "mark", "met"]


def table_text(rows):
    """Columns for a terminal; each scenario's title has a line of its own."""
    body = [cells(r, None)[1:] for r in rows]
    width = [max(len(x[i]) for x in body + [HEAD[1:]]) for i in range(6)]
    line = lambda x: "  " + "  ".join(c.ljust(w) for c, w in zip(x, width)).rstrip()
    out, last = [line(HEAD[1:])], None
    for row, x in zip(rows, body):
        if row["title"] != last:
            out += ["", row["title"]]
        last = row["title"]
        out.append(line(x))
    return "\n".join(out)


def table_markdown(rows):
    out, last = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)], None
    for row in rows:
        out.append("| " + " | ".join(cells(row, last)) + " |")
        last = row["title"]
    return "\n".join(out)


def peers_text(results, chosen):
    """Every server's medians, for those who want more than the best."""
    out = []
    for s in chosen:
        for name, values in results.get(s.key, {}).items():
            if name == "reference":
                continue
            numbers = ", ".join(f"{m.label} {show(median(values[m.key]), m.digits)}"
                                for m in s.metrics if m.key in values)
            bad = sum(values.get("errors", []))
            first = next((x for x in values.get("first_error", []) if x), "")
            out.append(f"  {s.key:12} {name:14} {numbers}" +
                       (f"  ({bad} ERRORS: {first})" if bad else ""))
    return "\n".join(out)


def peers_line():
    """The packages that were compared with."""
    names = ("nginx", "apt-cacher-ng", "varnish", "haproxy", "wrk")
    try:
        out = subprocess.run(["dpkg-query", "-W", "-f", "${Package} ${Version}; ", *names],
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    except OSError:
        out = ""
    return out.strip("; ") or ", ".join(names)


def machine_line():
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as f:
        model = next((x.split(":", 1)[1].strip() for x in f if x.startswith("model name")), "?")
    return (f"{os.cpu_count()} cores ({model}), {memory_bytes('MemTotal') / (1 << 30):.0f} GiB, "
            f"Linux {platform.release()}, client and origin on the same cores; "
            + time.strftime("%Y-%m-%d", time.gmtime()))


# -- main -----------------------------------------------------------------------------------------

def parse_arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    p.add_argument("--quick", action="store_true", help="one short round of each")
    p.add_argument("-k", action="append", default=[], metavar="KEY",
                   help="only scenarios with this key, or this word in their key")
    p.add_argument("--rounds", type=int, default=0, help="instead of each scenario's own number")
    p.add_argument("--limit", type=int, default=600, metavar="S",
                   help="after so many seconds one round of each has to do (600)")
    p.add_argument("--servers", default="", metavar="A,B", help="only these")
    p.add_argument("--json", action="store_true", help="all numbers as JSON")
    p.add_argument("--markdown", action="store_true", help="the table as README.md has it")
    p.add_argument("--strict", action="store_true", help="exit 1 when a mark is not met")
    p.add_argument("--list", action="store_true", help="name the scenarios")
    p.add_argument("--dir", default="", help="where files and caches go (BUILD/bench)")
    p.add_argument("--port", type=int, default=23000, help="first of 60 ports")
    return p.parse_args()


def refuse_taken_ports(env):
    for number in (1, 2, 3, 4, *range(10, 17), *range(40, 46)):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", env.port(number)))
            except OSError:
                sys.exit(f"bench: port {env.port(number)} is in use; choose others with --port")


def choose_scenarios(env, args):
    chosen = [c(env) for c in scenarios.SCENARIOS]
    words = [w for k in args.k for w in k.split(",")]
    if words:
        # A word that is a whole key means only that one ("small" is not "coldsmall").
        keys = {s.key for s in chosen}
        return [s for s in chosen if any(w == s.key if w in keys else w in s.key for w in words)]
    return [s for s in chosen if s.quick or not args.quick]


def run_all(env, chosen, everyone):
    """Rows of the table for every scenario, in order."""
    rows, began = [], time.monotonic()
    for s in chosen:
        words = s.usable()
        if not words and not any(x.name in s.peers for x in everyone):
            words = "none of its servers is here"
        if words:
            say(f"{s.key}: skipped, {words}")
            continue
        t = time.monotonic()
        say(f"[{t - began:4.0f} s] {s.key}: {s.title}")
        runner = Runner(env, s)
        try:
            runner.run(everyone)
        except (BenchError, OSError, subprocess.SubprocessError) as e:
            say(f"    {s.key}: {e}")
            runner.failed["apt-depot"] = str(e)
        say(peers_text(env.results, [s]) + f"\n           ({time.monotonic() - t:.0f} s)")
        rows += [make_row(s, m, runner.values, runner.failed) for m in s.metrics]
    return rows


def touch_memory():
    """
    A virtual machine gets a page of its host's at first use, which costs more than writing it: not
    whoever is measured first shall pay for that.
    """
    left = memory_bytes("MemAvailable") * 3 // 4
    with mmap.mmap(-1, left) as memory:
        for at in range(0, left, mmap.PAGESIZE):
            memory[at] = 1


def word_on_reporting():
    """Some virtual machines give free pages back within seconds: then the above does not last."""
    file = "/sys/module/page_reporting/parameters/page_reporting_order"
    try:
        with open(file, encoding="ascii") as f:
            on = int(f.read()) <= 10      # blocks of 2^11 pages there are none
    except (OSError, ValueError):
        return
    if on:
        say("free memory goes back to this machine's host: cold scenarios get worse numbers, for "
            f"everybody (echo 11 > {file} ends that until the next start)")


def allow_open_files():
    """As many as this user may have; the servers inherit it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for n in (max(hard, 131072), hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (n, n))
            return
        except (OSError, ValueError):
            pass


def main():
    args = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    allow_open_files()
    if args.list:
        for c in scenarios.SCENARIOS:
            # Where a title depends on the machine, the class has none.
            print(f"{c.key:14} {c.title if isinstance(c.title, str) else c.what}")
        return 0
    if not servers.tool("nginx") or not servers.tool("openssl") or not servers.tool("curl"):
        sys.exit("bench: the TLS origin needs nginx, openssl and curl: "
                 "apt-get install nginx-light openssl curl")
    env = Env(args)
    refuse_taken_ports(env)
    chosen = choose_scenarios(env, args)
    if not chosen:
        sys.exit("bench: no such scenario; --list names them")
    everyone = []
    for i, c in enumerate(servers.SERVERS):
        if args.servers and c.name not in args.servers.split(","):
            continue
        if c.find(env):
            everyone.append(c(env, i))
        else:
            say(f"{c.name}: not here, skipped")
    if not env.wrk:
        say("wrk: not installed, our own client stands in")
    need = 3 * env.huge_bytes + (22 << 30)
    free = shutil.disk_usage(env.dir).free
    if free < need:
        sys.exit(f"bench: {env.dir} has {free >> 30} GiB free, {need >> 30} are needed; see --dir")

    env.busy = os.getloadavg()[0]
    if env.busy > 0.5:
        say(f"the machine is not idle (load {env.busy:.1f}): expect worse numbers, for everybody")
    if not args.quick:
        word_on_reporting()
        touch_memory()
    say("making the origin's files")
    wanted = {kind for s in chosen for kind in s.files}
    env.origin.make_files((8000 if args.quick else 40000) if "cold" in wanted else 0,
                          env.huge_bytes if "huge" in wanted else 0,
                          scenarios.GIANT_BYTES if "giant" in wanted else 0,
                          scenarios.INSTALL if "install" in wanted else ())
    wire = None
    try:
        env.origin.start()
        wire = servers.Process([env.wire_program, str(env.wire_port), str(env.origin.port), "20",
                                "20000000"], os.path.join(env.dir, "wire.log"))
        wire.wait_port(env.wire_port)
        for server in everyone:
            server.clear()
        rows = run_all(env, chosen, everyone)
    finally:
        if wire:
            wire.stop()
        env.origin.stop()
        for server in everyone:
            server.stop()
            server.discard()
        shutil.rmtree(env.trash(), ignore_errors=True)

    machine, peers = machine_line(), peers_line()
    if env.busy > 0.5:
        machine += f"; load {env.busy:.1f} before it began"
    if args.json:
        print(json.dumps({"machine": machine, "peers": peers, "rows": rows,
                          "results": env.results}, indent=1))
    elif args.markdown:
        print(table_markdown(rows) + f"\n\n{machine}. {peers}.")
    else:
        print(f"\n{table_text(rows)}\n\n{machine}\n{peers}")
    met = [r["met"] for r in rows if r["mark"]]
    say(f"marks: {met.count(True)} met, {met.count(False)} not met, "
        f"{met.count(None)} without a value")
    return 1 if args.strict and met.count(True) < len(met) else 0


if __name__ == "__main__":
    sys.exit(main())
