# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""What is measured, how, and the mark that apt-depot is to meet.

A scenario is a class: `prepare` brings a started server into the wanted state once, `measure` is
one round and gives numbers by metric. Only numbers of the same run are compared.
"""
import email.utils
import json
import os
import shutil
import subprocess
import time

import servers
import aptroot                          # of the end-to-end tests; servers knows where these are
from servers import HOST, MIB, BenchError

BIG = "/big/cuda-big_1.0_amd64.deb"
BIG_BYTES = 200 * MIB
GIANT_BYTES = 5600000000
INDEX = "/idx/InRelease"
GB = 1e9
PEERS = ("apt-depot", "nginx", "apt-cacher-ng", "varnish")

# 66 packages of 400 MB, as a CUDA toolkit is: nine large ones among many of a megabyte or so, in
# the order of their names (profiler, debugger, compiler, then cuBLAS, cuFFT, cuSPARSE).
INSTALL = [200000 + 41600 * i for i in range(57)]
for _i, _large in enumerate((9, 24, 12, 18, 96, 72, 36, 48, 6)):
    INSTALL.insert(3 + 7 * _i, _large * 1000000)


class Mark:
    """A text for the table, and a test of our value against the peers' and the reference."""

    def __init__(self, text, test):
        self.text = text
        self.test = test          # (ours, best peer's or None, {peer: value}) -> bool or None


def versus(op, factor, who="best"):
    """Ours against a factor of the best peer's or a named peer's."""
    def test(ours, best, peers):
        other = best if who == "best" else peers.get(who)
        if other is None:
            return None
        return ours <= factor * other if op == "<=" else ours >= factor * other
    sign = {"<=": "≤", ">=": "≥"}[op]
    name = "best peer" if who == "best" else who
    return Mark(f"{sign} {factor:g} x {name}" if factor != 1 else f"{sign} {name}", test)


def limit(op, value, unit=""):
    """Ours against a number."""
    sign = {"<=": "≤", ">=": "≥", "==": "="}[op]
    return Mark(f"{sign} {value:g}{unit}", lambda ours, best, peers: {
        "<=": ours <= value, ">=": ours >= value, "==": abs(ours - value) < 0.0005}[op])


class Metric:
    """One row of the table."""

    def __init__(self, key, label, better, mark=None, digits=2, scale=1):
        self.key, self.label, self.better = key, label, better
        self.mark, self.digits, self.scale = mark, digits, scale


class Scenario:
    """The defaults; see the module's text."""

    key = title = ""
    peers = PEERS
    fresh = False                 # start with an empty cache for each round
    manual = False                # measure() starts and stops the server itself
    quick = True                  # part of --quick
    rounds = 3
    metrics = ()
    options = {}                  # for Server.start
    files = ()                    # what the origin must have besides /small, /big and /idx

    def __init__(self, env):
        self.env = env
        self.notes = []

    def usable(self):
        """Words why it can't be run here, or None."""
        return None

    def start_options(self):
        return self.options

    def prepare(self, server):
        pass

    def measure(self, server):
        raise NotImplementedError

    def reference(self):
        """Numbers without a proxy, once a round."""
        return {}

    def end(self):
        """After the last round, whatever happened."""


# -- tools ----------------------------------------------------------------------------------------

def load_start(env, server, *groups, limit_s=60, port=None):
    """Start the load client; each group is a list of its options."""
    argv = [env.load_program, "-T", str(limit_s), f"127.0.0.1:{port or server.port}"]
    for i, group in enumerate(groups):
        argv += (["--"] if i else []) + [str(x) for x in group]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def load_results(popen, count):
    """One dictionary per group; the client may still hold its connections."""
    lines = [popen.stdout.readline() for _ in range(count)]
    if not all(lines):
        raise BenchError("the load client failed")
    return [json.loads(line) for line in lines]


def load_end(popen):
    popen.stdin.close()
    popen.stdout.close()
    popen.wait()


def load(env, server, *groups, limit_s=60):
    """Run the load client to its end."""
    popen = load_start(env, server, *groups, limit_s=limit_s)
    try:
        return load_results(popen, len(groups))
    finally:
        load_end(popen)


def list_file(env, server, paths, name):
    """A list of targets and lengths for the load client and for wrk."""
    file = os.path.join(env.dir, f"list-{name}-{server.name}")
    with open(file, "w", encoding="ascii") as f:
        for path in paths:
            f.write(f"{server.target(path)} {env.origin.size[path]}\n")
    return file


def paths_under(env, prefix):
    return [p for p in env.origin.size if p.startswith(prefix)]


def warm(env, server, paths, name, connections=8):
    """Fetch every path once and see that each answer is whole."""
    got = load(env, server, ["-c", min(connections, len(paths)), "-n", len(paths),
                             "-l", list_file(env, server, paths, name)])[0]
    if got["errors"]:
        raise BenchError(f"warm-up: {got['errors']} errors: {got['first_error']}")


def with_errors(values, *groups):
    """Add what went wrong to a round's numbers."""
    values["errors"] = sum(g["errors"] for g in groups)
    values["first_error"] = next((g["first_error"] for g in groups if g["first_error"]), "")
    return values


def curl(env, url, *options, limit_s=120):
    """One download to /dev/null: seconds in all, seconds to the first byte."""
    out = subprocess.run(
        ["curl", "-sS", "--path-as-is", "-o", "/dev/null", "-m", str(limit_s), "-w",
         "%{http_code} %{size_download} %{time_total} %{time_starttransfer}", *options, url],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={"PATH": os.environ["PATH"]})
    if out.returncode:
        raise BenchError(out.stderr.strip() or f"curl: exit status {out.returncode}")
    status, size, total, first = out.stdout.split()
    return int(status), int(size), float(total), float(first)


def curl_origin(env, path, port=None):
    """The same file straight from the origin."""
    port = port or env.origin.port
    status, size, total, first = curl(
        env, f"https://{HOST}:{port}{path}", "--cacert", env.origin.ca,
        "--resolve", f"{HOST}:{port}:127.0.0.1")
    if status != 200 or size != env.origin.size[path]:
        raise BenchError(f"the origin is broken: {status}, {size} bytes")
    return total, first


# -- warm -----------------------------------------------------------------------------------------

class WarmSmall(Scenario):
    key = "small"
    title = "warm small hits, 64 connections"
    metrics = (
        Metric("rate", "hits/s", "high", versus(">=", 1), 0),
        Metric("cpu_us", "CPU µs per hit", "low", versus("<=", 0.8, "nginx"), 1),
        Metric("p99_ms", "p99 ms", "low", versus("<=", 1, "nginx"), 2))

    def prepare(self, server):
        warm(self.env, server, paths_under(self.env, "/small/"), "small")

    def measure(self, server):
        seconds = self.env.seconds(3, 1.5)
        targets = list_file(self.env, server, paths_under(self.env, "/small/"), "small")
        cpu = server.cpu_s()
        if self.env.wrk:
            out = subprocess.run(
                [self.env.wrk, "-t1", "-c64", f"-d{max(1, round(seconds))}s", "-s",
                 os.path.join(self.env.here, "hits.lua"), f"http://127.0.0.1:{server.port}",
                 "--", targets], stdout=subprocess.PIPE, text=True, check=True).stdout
            got = json.loads(out[out.index('{"requests"'):])
        else:
            got = load(self.env, server, ["-c", 64, "-t", seconds, "-l", targets])[0]
        cpu = server.cpu_s() - cpu
        if not got["requests"]:
            raise BenchError(f"no good answer: {got['first_error']}")
        return with_errors({"rate": got["requests"] / got["wall_s"],
                            "cpu_us": cpu / got["requests"] * 1e6,
                            "p99_ms": got["whole_ms"]["p99"]}, got)


class NewConnection(WarmSmall):
    key = "newconn"
    title = "the same, a new connection each"
    metrics = (
        Metric("rate", "hits/s", "high", versus(">=", 1), 0),
        Metric("cpu_us", "CPU µs per hit", "low", versus("<=", 1, "nginx"), 1))

    def measure(self, server):
        targets = list_file(self.env, server, paths_under(self.env, "/small/"), "small")
        cpu = server.cpu_s()
        got = load(self.env, server,
                   ["-C", "-c", 64, "-t", self.env.seconds(2.5, 1.5), "-l", targets])[0]
        cpu = server.cpu_s() - cpu
        if not got["requests"]:
            raise BenchError(f"no good answer: {got['first_error']}")
        return with_errors({"rate": got["requests"] / got["wall_s"],
                            "cpu_us": cpu / got["requests"] * 1e6}, got)


class WarmBig(Scenario):
    clients = 1
    metrics = (
        Metric("gbps", "GB/s", "high", versus(">=", 1), 2),
        Metric("cpu_gb", "CPU s per GB", "low", versus("<=", 1), 3))

    def prepare(self, server):
        warm(self.env, server, [BIG], "big")
        server.check_big(BIG)

    def measure(self, server):
        cpu = server.cpu_s()
        got = load(self.env, server, ["-c", self.clients, "-t", self.env.seconds(2, 1.2),
                                      "-u", server.target(BIG), "-L", BIG_BYTES])[0]
        cpu = server.cpu_s() - cpu
        if not got["bytes"]:
            raise BenchError(f"no bytes: {got['first_error']}")
        return with_errors({"gbps": got["bytes"] / got["wall_s"] / GB,
                            "cpu_gb": cpu / (got["bytes"] / GB)}, got)


class Warm1(WarmBig):
    key, clients, title = "warm1", 1, "warm 200 MiB, 1 client"


class Warm8(WarmBig):
    key, clients, title = "warm8", 8, "warm 200 MiB, 8 clients"


class Warm32(WarmBig):
    key, clients, title = "warm32", 32, "warm 200 MiB, 32 clients"


class Idle(Scenario):
    key = "idle"
    title = "5000 idle connections"
    rounds = 2
    metrics = (
        Metric("kib", "user KiB each", "low", limit("<=", 2), 2),)

    def prepare(self, server):
        warm(self.env, server, paths_under(self.env, "/small/")[:20], "few")

    def measure(self, server):
        count = min(5000, servers.nofile() - 500)
        path = "/small/pkg-003_1.0_amd64.deb"
        before, _ = server.memory()
        popen = load_start(self.env, server,
                           ["-i", "-c", count, "-n", count, "-u", server.target(path),
                            "-L", self.env.origin.size[path]], limit_s=self.env.seconds(10, 6))
        try:
            got = load_results(popen, 1)[0]
            after, _ = server.memory()
        finally:
            load_end(popen)
        if got["requests"] == 0:
            raise BenchError(f"no good answer: {got['first_error']}")
        got["errors"] = max(got["errors"], count - got["open"])
        got["first_error"] = got["first_error"] or f"{got['open']} of {count} stayed open"
        return with_errors({"kib": (after - before) / 1024 / got["requests"]}, got)


class Revalidate(Scenario):
    key = "revalidate"
    title = "revalidations as apt asks, 64 connections (ours: each one checked; others: 1 s old)"
    metrics = (
        Metric("rate", "304/s", "high", versus(">=", 1, "nginx"), 0),
        Metric("cpu_us", "CPU µs each", "low", None, 1),
        Metric("bad", "5xx answers", "low", limit("==", 0), 0))

    def prepare(self, server):
        for _ in range(10):
            status, body, _r = server.get(INDEX)
            if status == 200 and len(body) == self.env.origin.size[INDEX]:
                return
        raise BenchError(f"InRelease: {status}, {len(body)} bytes")

    def measure(self, server):
        date = email.utils.formatdate(os.stat(self.env.origin.files + INDEX).st_mtime, usegmt=True)
        cpu = server.cpu_s()
        got = load(self.env, server,
                   ["-c", 64, "-t", self.env.seconds(2.5, 1.5), "-s", 304,
                    "-u", server.target(INDEX), "-H", "Cache-Control: max-age=0",
                    "-H", f"If-Modified-Since: {date}"])[0]
        cpu = server.cpu_s() - cpu
        if not got["requests"]:
            raise BenchError(f"no good answer: {got['first_error']}")
        bad = sum(n for status, n in got["status"].items() if status[0] == "5")
        return with_errors({"rate": got["requests"] / got["wall_s"], "bad": bad,
                            "cpu_us": cpu / got["requests"] * 1e6}, got)


class RevalidateOneSecond(Revalidate):
    key = "revalidate1s"
    title = "the same, index_max_age = 1s as the peers have it"
    peers = ("apt-depot", "nginx", "varnish")
    rounds = 1
    quick = False
    options = {"depot": {"index_max_age": "1s"}}
    metrics = Revalidate.metrics[:2]


class Slow(Scenario):
    key = "slow"
    title = "500 slow readers of one object beside 4 fast ones"
    fresh = True        # what earlier readers used may still be in the process
    rounds = 3
    slow_n = 500
    metrics = (
        Metric("keep", "fast ones keep, share", "high", limit(">=", 0.95), 2),
        Metric("keep_own", "share of what the same slow ones elsewhere leave them", "high", None, 2),
        Metric("kib", "user KiB per slow reader", "low", limit("<=", 11), 1),
        Metric("rss", "RSS MiB", "low", limit("<=", 64), 0))

    def prepare(self, server):
        warm(self.env, server, [BIG], "big")

    def run_for(self, server, seconds, *groups):
        """One load: its results, and the server's memory in its midst."""
        popen = load_start(self.env, server, *groups)
        try:
            time.sleep(seconds * 0.7)
            mine, resident = server.memory()
            return load_results(popen, len(groups)), mine, resident
        finally:
            load_end(popen)

    def run_beside(self, server, seconds, fast, where, slow, port=None):
        """The fast ones, while a client of their own has slow ones there."""
        popen = load_start(self.env, where, [*slow, "-t", seconds + 1.5], port=port)
        try:
            time.sleep(0.5)
            (beside,), _, resident = self.run_for(server, seconds, fast)
            return beside, load_results(popen, 1)[0], resident
        finally:
            load_end(popen)

    def measure(self, server):
        seconds = self.env.seconds(2.5, 2)
        readers = ["-L", BIG_BYTES, "-u"]
        fast = ["-N", "fast", "-c", 4, "-t", seconds, *readers, server.target(BIG)]
        slow = ["-N", "slow", "-c", self.slow_n, "-R", 65536, "-r", 32768, *readers]
        time.sleep(1.5)     # what the round before used is given back by then
        before, _ = server.memory()
        (_slows,), after, _ = self.run_for(server, seconds,
                                           [*slow, server.target(BIG), "-t", seconds])
        (alone,), _, _ = self.run_for(server, seconds, fast)
        # 500 connections cost the machine something wherever they end.
        spared, _, _ = self.run_beside(server, seconds, fast, self.env.origin, [*slow, BIG],
                                       self.env.origin.plain_port)
        beside, slows, resident = self.run_beside(server, seconds, fast, server,
                                                  [*slow, server.target(BIG)])
        if not alone["bytes"]:
            raise BenchError(f"no bytes: {alone['first_error']}")
        # Each slow reader must have got its share too, or keeping the fast ones fast is no art.
        rate = slows["bytes"] / self.slow_n / slows["wall_s"]
        if rate < 0.7 * 65536:
            slows["errors"] += 1
            slows["first_error"] = slows["first_error"] or \
                f"slow ones got {rate / 1024:.0f} of 64 KiB/s"
        return with_errors({"keep": beside["bytes"] / max(1, alone["bytes"]),
                            "keep_own": beside["bytes"] / max(1, spared["bytes"]),
                            "kib": max(0, after - before) / 1024 / self.slow_n,
                            "rss": resident / MIB}, alone, beside, slows)


class ColdDisk(Scenario):
    key = "colddisk"
    title = "one worker: small hits beside a 150 MB/s reader from cold disk, against from memory"
    peers = ("apt-depot", "nginx", "apt-cacher-ng")
    options = {"depot": {"workers": "1"}, "workers": 1, "cold_disk": True}
    files = ("huge",)
    metrics = (
        Metric("keep", "hits keep, share", "high", limit(">=", 0.95), 3),
        Metric("p99_ms", "p99 ms beside cold disk", "low", None, 2))

    def prepare(self, server):
        warm(self.env, server, paths_under(self.env, "/small/"), "small")
        warm(self.env, server, paths_under(self.env, "/huge/"), "huge")
        os.sync()
        self.turn = 0

    def drop(self, server):
        """Put the large bodies out of the page cache, and see that they are out."""
        left = 0
        for directory, _dirs, names in os.walk(server.cache_dir()):
            for name in names:
                path = os.path.join(directory, name)
                try:
                    size = os.path.getsize(path)
                except OSError:       # one of the server's own, gone already
                    continue
                if size < 256 * MIB:
                    continue
                fd = os.open(path, os.O_RDONLY)
                try:
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                    for i in range(1, 16):
                        try:
                            left += os.preadv(fd, [bytearray(1)], size // 16 * i, os.RWF_NOWAIT)
                        except BlockingIOError:
                            pass
                finally:
                    os.close(fd)
        if left > 3:
            raise BenchError("the page cache can't be emptied here")

    def once(self, server, cold):
        """Hits per second and p99 with the second reader on cold or on warm pages."""
        huge = paths_under(self.env, "/huge/")[0]
        size = self.env.origin.size[huge]
        targets = list_file(self.env, server, paths_under(self.env, "/small/"), "small")
        seconds = min(self.env.seconds(3, 2), size / 150e6)
        # Pages that a server has mapped can't be dropped, so it is started anew.
        server.stop()
        if cold:
            self.drop(server)
        server.start(**self.options)
        warm(self.env, server, paths_under(self.env, "/small/"), "small")
        if not cold:
            warm(self.env, server, [huge], "huge")
        hits, reader = load(
            self.env, server, ["-c", 8, "-t", seconds, "-l", targets],
            ["-b", "-c", 1, "-u", server.target(huge), "-L", size, "-R", 150000000])
        if not hits["requests"] or reader["bytes"] < 0.7 * 150e6 * seconds:
            reader["errors"] += 1
            reader["first_error"] = reader["first_error"] or \
                f"the second reader got {reader['bytes'] / seconds / 1e6:.0f} MB/s"
        return hits, reader

    def measure(self, server):
        self.turn += 1
        results = {}
        for cold in ((False, True) if self.turn % 2 else (True, False)):
            results[cold] = self.once(server, cold)
        hits = {cold: r[0]["requests"] / r[0]["wall_s"] for cold, r in results.items()}
        return with_errors({"keep": hits[True] / max(1, hits[False]),
                            "p99_ms": results[True][0]["whole_ms"]["p99"]},
                           *results[True], *results[False])


class Start(Scenario):
    key = "start"
    title = "start with 1,000,000 entries"
    peers = ("apt-depot",)
    manual = True
    metrics = (
        Metric("first_s", "s to the first hit", "low", limit("<=", 0.15), 3),)

    def usable(self):
        if not self.env.fill_program:
            return "no bench-fill_index program"
        return None

    def measure(self, server):
        path = "/small/pkg-003_1.0_amd64.deb"
        count = 1000000 if not self.env.quick else 100000
        if not getattr(self, "filled", False):
            server.start(fresh=True)
            try:
                server.check()
            finally:
                server.stop()
            out = subprocess.run([self.env.fill_program, server.cache_dir(), str(count)],
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if out.returncode:
                raise BenchError(f"fill_index: {out.stdout.strip()[-200:]}")
            self.filled = True
        began = time.monotonic()
        server.launch(self.env.origin.port, {})
        try:
            server.processes[-1].wait_port(server.port)
            status, body, answer = server.get(path)
            seconds = time.monotonic() - began
        finally:
            server.stop()
        cached = answer.getheader("Cache-Status") or ""
        good = status == 200 and len(body) == self.env.origin.size[path] and "; hit" in cached
        return {"first_s": seconds, "errors": 0 if good else 1,
                "first_error": "" if good else f"{status}, Cache-Status: {cached}"}


class Lists(Scenario):
    key = "lists"
    title = "a Packages of 100,000 stanzas becomes a package table"
    peers = ("apt-depot",)
    manual = True
    metrics = (
        Metric("plain_s", "CPU s, plain", "low", limit("<=", 1), 2),
        Metric("gz_s", "CPU s, .gz", "low", limit("<=", 1), 2),
        Metric("xz_s", "CPU s, .xz", "low", limit("<=", 2), 2),
        Metric("peak_mib", "peak RSS MiB", "low", limit("<=", 24), 1),
        Metric("find_us", "µs a look-up", "low", limit("<=", 1.5), 2))

    def usable(self):
        if not self.env.lists_program:
            return "no bench-lists program"
        return None

    def tool(self, *args):
        out = subprocess.run([self.env.lists_program, *args], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
        if out.returncode:
            raise BenchError(f"lists: {out.stderr.strip()[-200:]}")
        return out.stdout

    def measure(self, server):
        count = 100000 if not self.env.quick else 20000
        directory = os.path.join(self.env.dir, "lists")
        if not getattr(self, "made", False):
            os.makedirs(directory, exist_ok=True)
            self.tool("make", directory, str(count))
            self.made = True
        got = {kind: json.loads(self.tool("read", os.path.join(directory, name)))
               for kind, name in (("plain", "Packages"), ("gz", "Packages.gz"),
                                  ("xz", "Packages.xz"))}
        bad = [kind for kind, row in got.items() if row["entries"] != count]
        return {**{f"{kind}_s": row["cpu_s"] for kind, row in got.items()},
                "peak_mib": max(row["peak_kib"] for row in got.values()) / 1024,
                "find_us": min(row["find_ns"] for row in got.values()) / 1000,
                "errors": len(bad), "first_error": f"entries are missing: {bad}" if bad else ""}


# -- cold -----------------------------------------------------------------------------------------

class ColdHuge(Scenario):
    key = "cold2g"
    what = "a cold large object, 32 clients at once"
    fresh = True
    rounds = 2
    files = ("huge",)
    metrics = (
        Metric("upstream", "upstream bytes, x of the object", "low", limit("==", 1), 3),
        Metric("requests", "upstream requests", "low", limit("==", 1), 0),
        Metric("first_over_ms", "first byte p99, ms over the origin's", "low", limit("<=", 10), 1),
        Metric("wall_s", "wall s", "low", versus("<=", 1), 2),
        Metric("spread", "slowest client, x of the fastest", "low", limit("<=", 1.1), 2),
        Metric("cpu_gb", "CPU s per GB delivered", "low", None, 3),
        Metric("peak_mib", "peak RSS MiB", "low", limit("<=", 64), 0))

    @property
    def title(self):
        return f"cold {self.env.huge_bytes // MIB} MiB, 32 clients at once"

    def reference(self):
        path = "/big/cuda-big_1.0_amd64.deb"
        return {"first_ms": min(curl_origin(self.env, path)[1] for _ in range(3)) * 1000}

    def measure(self, server):
        path = paths_under(self.env, "/huge/")[0]
        size = self.env.origin.size[path]
        self.env.origin.log_clear()
        cpu = server.cpu_s()
        got = load(self.env, server, ["-c", 32, "-n", 32, "-u", server.target(path), "-L", size],
                   limit_s=self.env.seconds(90, 40))[0]
        cpu = server.cpu_settled_s() - cpu
        if not got["requests"]:
            raise BenchError(f"no good answer: {got['first_error']}")
        requests, up = self.env.origin.log_count()
        origin_ms = self.env.reference_value(self.key, "first_ms") or 0
        return with_errors({
            "upstream": up / size, "requests": requests, "wall_s": got["wall_s"],
            "first_over_ms": max(0, got["first_ms"]["p99"] - origin_ms),
            "spread": got["conn_wall_s"]["max"] / max(1e-6, got["conn_wall_s"]["min"]),
            "cpu_gb": cpu / (got["bytes"] / GB),
            "peak_mib": servers.process_peak(server.pids()) / MIB}, got)


class Killed(Scenario):
    key = "killed"
    what = "the same, killed in the middle"
    peers = ("apt-depot",)
    fresh = True
    quick = False
    rounds = 1
    files = ("huge",)
    metrics = (
        Metric("upstream", "upstream bytes, x of the object", "low", limit("<=", 1.02), 3),)

    @property
    def title(self):
        return f"cold {self.env.huge_bytes // MIB} MiB, 32 clients, killed in the middle, 32 again"

    def measure(self, server):
        path = paths_under(self.env, "/huge/")[0]
        size = self.env.origin.size[path]
        clients = ["-c", 32, "-n", 32, "-u", server.target(path), "-L", size]
        self.env.origin.log_clear()
        popen = load_start(self.env, server, clients)
        try:
            server.wait_metric("upstream_body_bytes_total", size // 2)
            server.kill()
        finally:
            load_end(popen)
        server.start(**self.start_options())
        got = load(self.env, server, clients)[0]
        return with_errors({"upstream": self.env.origin.log_count()[1] / size}, got)


class Giant(Scenario):
    key = "giant"
    title = "one cold object of 5.6 GB"
    peers = ("apt-depot",)
    fresh = True
    quick = False
    rounds = 1
    files = ("giant",)
    metrics = (
        Metric("peak_mib", "peak RSS MiB", "low", limit("<=", 64), 0),)

    def measure(self, server):
        path = paths_under(self.env, "/giant/")[0]
        got = load(self.env, server, ["-c", 1, "-n", 1, "-u", server.target(path),
                                      "-L", self.env.origin.size[path]], limit_s=120)[0]
        return with_errors({"peak_mib": servers.process_peak(server.pids()) / MIB}, got)


class ColdSmall(Scenario):
    key = "coldsmall"
    title = "cold small objects over TLS, 32 connections"
    fresh = True
    files = ("cold",)
    metrics = (
        Metric("rate", "objects/s", "high", limit(">=", 10000), 0),
        Metric("cpu_us", "CPU µs each", "low", versus("<=", 1), 0))

    def measure(self, server):
        paths = paths_under(self.env, "/cold/")
        cpu = server.cpu_s()
        got = load(self.env, server, ["-c", 32, "-t", self.env.seconds(4, 2.5), "-n", len(paths),
                                      "-l", list_file(self.env, server, paths, "cold")])[0]
        cpu = server.cpu_settled_s() - cpu
        if not got["requests"]:
            raise BenchError(f"no good answer: {got['first_error']}")
        return with_errors({"rate": got["requests"] / got["wall_s"],
                            "cpu_us": cpu / got["requests"] * 1e6}, got)


class ColdBig(Scenario):
    key = "cold200"
    title = "one cold 200 MiB over TLS, against curl straight from the origin"
    peers = ("apt-depot", "nginx", "nginx-slice", "apt-cacher-ng", "varnish")
    fresh = True
    metrics = (
        Metric("ratio", "x of curl's time", "low", limit("<=", 1.5), 2),
        Metric("cpu_gb", "CPU s per GB", "low", limit("<=", 1.6), 2),
        Metric("first_over_ms", "first byte, ms over the origin's", "low", limit("<=", 5), 1))

    def reference(self):
        runs = [curl_origin(self.env, BIG) for _ in range(2)]
        return {"total_s": min(r[0] for r in runs), "first_s": min(r[1] for r in runs)}

    def measure(self, server):
        cpu = server.cpu_s()
        status, size, total, first = curl(
            self.env, f"http://127.0.0.1:{server.port}{server.target(BIG)}")
        cpu = server.cpu_settled_s() - cpu
        if status != 200 or size != BIG_BYTES:
            raise BenchError(f"wrong answer: {status}, {size} bytes")
        base = self.env.reference_value(self.key, "total_s")
        first_over_s = max(0, first - self.env.reference_value(self.key, "first_s"))
        return {"ratio": total / base, "cpu_gb": cpu / (size / GB),
                "first_over_ms": first_over_s * 1000,
                "errors": 0, "first_error": ""}


class Capped(Scenario):
    key = "capped"
    title = "origin with 20 MB/s per connection and 20 ms: cold 200 MiB, one client"
    peers = ("apt-depot", "nginx", "nginx-slice", "apt-cacher-ng")
    fresh = True
    quick = False
    rounds = 1
    metrics = (
        Metric("ratio", "x of one connection's time", "low", limit("<=", 0.35), 2),)

    def start_options(self):
        return {"origin_port": self.env.wire_port}

    def reference(self):
        return {"total_s": curl_origin(self.env, BIG, self.env.wire_port)[0]}

    def measure(self, server):
        status, size, total, _first = curl(
            self.env, f"http://127.0.0.1:{server.port}{server.target(BIG)}")
        if status != 200 or size != BIG_BYTES:
            raise BenchError(f"wrong answer: {status}, {size} bytes")
        return {"ratio": total / self.env.reference_value(self.key, "total_s"),
                "errors": 0, "first_error": ""}


class CappedInstall(Scenario):
    key = "install"
    title = "the same origin: 66 packages, 400 MB, by one real apt-get"
    peers = ("apt-depot", "nginx", "apt-cacher-ng")
    fresh = True
    quick = False
    files = ("install",)
    rounds = 1
    metrics = (
        Metric("wall_s", "wall s", "low", versus("<=", 0.35, "apt-cacher-ng"), 1),
        Metric("closure", "the same with prefetch = closure: wall s", "low", None, 1),
        Metric("one", "one client that only reads, 10 pipelined: wall s", "low", None, 2),
        Metric("eight", "eight of these at once, x of one's time", "low", limit("<=", 1), 2))

    def start_options(self):
        return {"origin_port": self.env.wire_port}

    def install(self, server):
        """apt-get's seconds for everything that cuda needs; its lists are there."""
        path = os.path.join(self.env.dir, "apt")
        shutil.rmtree(path, ignore_errors=True)
        source = f"http://127.0.0.1:{server.port}{server.target('/install/')}"
        root = aptroot.AptRoot(path, "amd64",
                               [f"deb [signed-by={self.env.origin.key}] {source} ./"])
        for args in (("update",), ("install", "--download-only", "cuda")):
            began = time.monotonic()
            done = root.finish(root.start(*args), 120)
            if done.status != 0:
                raise BenchError(f"apt-get {args[0]}: {done.text.strip().splitlines()[-1]}")
        wall = time.monotonic() - began
        shutil.rmtree(path)
        return wall

    def measure(self, server):
        values = {"wall_s": self.install(server)}
        if server.name != "apt-depot":      # each of the peers is slow enough
            return with_errors(values)
        paths = paths_under(self.env, "/install/")
        client = ["-c", 1, "-p", 10, "-n", len(paths),
                  "-l", list_file(self.env, server, paths, "install")]
        server.stop()
        server.start(fresh=True, depot={"prefetch": "closure"}, **self.start_options())
        values["closure"] = self.install(server)
        got = []
        for n in (1, 8):
            server.stop()
            server.start(fresh=True, **self.start_options())
            got.append(load(self.env, server, *[client] * n))
        values["one"] = got[0][0]["wall_s"]
        values["eight"] = max(g["wall_s"] for g in got[1]) / values["one"]
        return with_errors(values, *got[0], *got[1])


# -- CONNECT --------------------------------------------------------------------------------------

def secure(env, *args):
    """One run of the client for CONNECT."""
    out = subprocess.run([env.secure_program, *[str(x) for x in args]], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True, timeout=60)
    if out.returncode:
        raise BenchError(out.stderr.strip() or "the client for CONNECT failed")
    return json.loads(out.stdout)


class Secure(Scenario):
    peers = ("apt-depot",)
    options = {"depot": {"intercept_hosts": f"*.{HOST}", "connect_ports": "any"}}

    def usable(self):
        return None if self.env.secure_program else "no bench-secure program: make bench-build"


class Intercepted(Secure):
    key = "intercept"
    title = "warm 200 MiB through an intercepted CONNECT, 1 client"
    options = {"depot": {"intercept_hosts": HOST}}
    metrics = (
        Metric("gbps", "GB/s", "high", None, 2),
        Metric("cpu_gb", "CPU s per GB", "low", limit("<=", 0.30), 3))

    def prepare(self, server):
        warm(self.env, server, [BIG], "big")

    def measure(self, server):
        cpu = server.cpu_s()
        got = secure(self.env, "body", f"127.0.0.1:{server.port}", HOST, BIG,
                     self.env.seconds(2.5, 1.2))
        cpu = server.cpu_s() - cpu
        return {"gbps": got["bytes"] / got["wall_s"] / GB, "cpu_gb": cpu / (got["bytes"] / GB),
                "errors": 0, "first_error": ""}


class Mint(Secure):
    key = "mint"
    title = "intercepted connections to hosts never seen before, one after the other"
    metrics = (
        Metric("cpu_ms", "CPU ms per certificate and handshake", "low", limit("<=", 1), 3),)

    def measure(self, server):
        n = 400 if self.env.quick else 1000
        cpu = server.cpu_s()
        secure(self.env, "mint", f"127.0.0.1:{server.port}", HOST, n)
        return {"cpu_ms": (server.cpu_s() - cpu) / n * 1000, "errors": 0, "first_error": ""}


class Tunnel(Secure):
    key = "tunnel"
    title = "one connection through a tunnel, against haproxy in TCP mode"
    peers = ("apt-depot", "haproxy")
    rounds = 5
    metrics = (
        Metric("gbps", "GB/s", "high", None, 2),
        Metric("cpu_gb", "CPU s per GB", "low", versus("<=", 1.1, "haproxy"), 3))

    def start_options(self):
        if not getattr(self, "source", None):
            port = self.env.port(3)
            self.source = servers.Process([self.env.secure_program, "source", str(port)],
                                          os.path.join(self.env.dir, "source.log"))
            self.source.wait_port(port)
        return {**self.options, "relay_to": self.env.port(3)}

    def end(self):
        if getattr(self, "source", None):
            self.source.stop()

    def measure(self, server):
        target = f"127.0.0.1:{self.env.port(3)}" if server.name == "apt-depot" else "-"
        cpu = server.cpu_s()
        got = secure(self.env, "tunnel", f"127.0.0.1:{server.port}", target,
                     self.env.seconds(2, 1.2))
        cpu = server.cpu_s() - cpu
        return {"gbps": got["bytes"] / got["wall_s"] / GB, "cpu_gb": cpu / (got["bytes"] / GB),
                "errors": 0, "first_error": ""}


SCENARIOS = [WarmSmall, NewConnection, Warm1, Warm8, Warm32, Revalidate, RevalidateOneSecond, Idle,
             Slow, ColdDisk, Start, Lists, Intercepted, Mint, Tunnel, ColdSmall, ColdBig, ColdHuge,
             Killed, Giant, Capped, CappedInstall]
