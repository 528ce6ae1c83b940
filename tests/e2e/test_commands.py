# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""Commands: those that ask the running depot through admin.sock, and those that need none."""
import contextlib
import hashlib
import json
import os
import signal
import socket
import stat
import struct
import subprocess
import urllib.parse

from body import Pattern
from client import expect_body
from depot import BINARY, SLOW, run_command, wait_until
from origin import Answer
from support import Skip, patient

NEEDS_PACKAGES = True
URL = "https://cuda.example/repo/x_1.0+git_amd64.deb"
BODY = Pattern(3 << 20)
BEGUN = b"b\0\0\0\0"
DEPOT_COMMANDS = [("status",), ("top",), ("ls",), ("cat", URL), ("explain", URL), ("evict", URL),
                  ("verify", "--all")]


def stored(env, **options):
    """A depot that has the body, an index and a key."""
    env.origin.serve("/repo/x_1.0+git_amd64.deb", BODY)
    env.origin.serve("/repo/InRelease", b"Origin: test\n")
    env.origin.serve("/repo/key.pub", b"a key")
    depot = env.depot(**options)
    for name in ("InRelease", "key.pub"):
        depot.fetch("https://cuda.example/repo/" + name)
        depot.wait_idle()
    expect_body(depot.fetch(URL), BODY)
    depot.wait_idle()
    return depot


def ok(done):
    """Standard output of a command that went well."""
    assert done.returncode == 0, (done.args, done.returncode, done.stderr)
    assert done.stderr == b"", done.stderr
    return done.stdout.decode()


def failed(done, status, *words):
    """It ended with this status and said so on standard error."""
    text = done.stderr.decode()
    assert done.returncode == status, (done.args, done.returncode, text)
    assert text.startswith("apt-depot: "), text
    for word in words:
        assert word in text, (word, text)


def test_without_a_depot(env):
    """Clear words and status 2; a directory that is none too; a socket that nobody serves."""
    depot = env.new_depot()
    for command in DEPOT_COMMANDS:
        failed(depot.try_command(*command), 2, "no depot is running", depot.cache_dir)
    depot.start()
    depot.kill()
    path = os.path.join(depot.cache_dir, "admin.sock")
    assert os.path.exists(path)
    failed(depot.try_command("status"), 2, "no depot is running")
    depot.start()
    ok(depot.try_command("status"))
    depot.stop()
    assert not os.path.exists(path), "the socket outlives the depot"


def test_while_the_depot_starts_and_stops(env):
    """Commands wait for a depot that is not ready yet, and for the end of one that stops."""
    gate = env.origin.gate()
    env.origin.serve("/slow", Answer(b"slow", gate=gate, close=True))
    depot = env.new_depot()
    lock = os.path.join(depot.cache_dir, "lock")
    for n in range(5):
        process = subprocess.Popen(depot.arguments(), stderr=subprocess.DEVNULL)
        def is_locked():
            with contextlib.suppress(FileNotFoundError), open(lock, encoding="ascii") as file:
                return file.read() == f"{process.pid}\n"
        wait_until(is_locked, "the directory is the depot's")
        ok(depot.try_command("status"))
        with depot.conn() as conn:
            conn.ask("http://cuda.example/slow")
            gate.wait_for(n + 1)
            process.send_signal(signal.SIGTERM)
            failed(depot.try_command("status"), 2, "no depot is running")
            process.wait()


@patient
def test_a_depot_that_does_not_answer(env):
    """Stopped by a signal, as by a frozen container: said after ten seconds, naming the process."""
    depot = env.depot()
    depot.process.send_signal(signal.SIGSTOP)
    try:
        failed(depot.try_command("status"), 2, f"process {depot.process.pid}", "not answered for 10 s")
    finally:
        depot.process.send_signal(signal.SIGCONT)
    ok(depot.try_command("status"))


def test_output_that_can_not_be_written(_env):
    """A full device is no success, whatever the command."""
    for args in (["version"], ["help"], ["help", "--sample"], ["apt-conf", "-o", "cache_max=1G"]):
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = subprocess.run([BINARY, *args], stdout=full, stderr=subprocess.PIPE, check=False)
        failed(done, 1, "cannot write")


def test_apt_conf_says_what_is_listened_on(env):
    """TLS where nothing else is; in words where clients can't be told anything."""
    done = run_command("apt-conf", "-o", "listen=", "-o", "listen_tls=:3143", "-o",
                       "names=depot.example", "-o", "tls_cert=" + env.certificates.leaf(None))
    assert done.returncode == 0 and '"https://depot.example:3143"' in done.stdout, done.stdout
    done = run_command("apt-conf", "-o", f"listen=unix:{env.path}/x")
    assert done.returncode == 2 and "--proxy" in done.stdout, done.stdout
    done = run_command("apt-conf", "-o", "nonsense=1")
    assert done.returncode == 2 and "nonsense" in done.stdout, done.stdout


def test_the_socket_is_its_owners(env):
    """0600 from the first moment, and found through a configuration file."""
    depot = env.depot()
    mode = os.stat(os.path.join(depot.cache_dir, "admin.sock")).st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600, oct(mode)
    path = os.path.join(env.path, "x.conf")
    with open(path, "w", encoding="utf-8") as out:
        out.write(f"cache_dir = {depot.cache_dir}\n")
    done = run_command("status", "-c", path)
    assert done.returncode == 0 and "up " in done.stdout, done.stdout


def test_a_long_cache_dir(env):
    """A socket's path has 107 bytes at most; a directory's may be longer."""
    deep = os.path.join(env.path, "d" * 90, "e" * 90)
    depot = env.new_depot(cache_dir=deep)
    depot.cache_dir = deep
    depot.start()
    assert deep in ok(depot.try_command("status"))


def test_status(env):
    """What it says for people and for scripts."""
    depot = stored(env)
    text = ok(depot.try_command("status"))
    for word in (str(depot.port), depot.cache_dir, "3 started a fetch", "3.00 MiB in 3 files"):
        assert word in text, (word, text)
    facts = json.loads(ok(depot.try_command("status", "--json")))
    page = json.loads(depot.get("/-/api/v1/status").text)
    assert facts.keys() == page.keys()
    assert facts["cache"] == page["cache"] and facts["cache"]["blobs"] == 3


def test_top_fits_the_screen(env):
    """--watch on a terminal: as many lines as it has, none longer than it is wide, each look whole."""
    import fcntl
    import pty
    import termios
    gate = env.origin.gate()
    depot = env.depot()
    conns = []
    for n in range(12):
        path = f"/{'long' * 30}-{n}.deb"
        env.origin.serve(path, Answer(b"x" * 1000, gate=gate, held_at=500))
        conns.append(depot.conn())
        conns[-1].ask("http://HTTPS///cuda.example" + path)
    depot.wait_counter("flights_open", "==", 12)
    try:
        pid, screen = pty.fork()
    except OSError as err:
        raise Skip(f"no terminal here: {err}") from None
    if pid == 0:
        # As under nohup: what is left is that it can't write.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 8, 60, 0, 0))
        os.execv(BINARY, [BINARY, "-o", f"cache_dir={depot.cache_dir}", "top", "--watch"])
    text = b""
    while text.count(b"\x1b[H\x1b[J") < 2:
        text += os.read(screen, 65536)
    os.close(screen)            # a terminal that is closed ends it
    os.waitpid(pid, 0)
    lines = text.split(b"\x1b[H\x1b[J")[1].decode().splitlines()
    assert len(lines) == 7 and max(map(len, lines)) < 60, lines
    assert lines[0].startswith("from upstream") and lines[1].endswith(".deb"), lines
    gate.open()
    for conn in conns:
        assert conn.read().complete
        conn.close()


def test_ls(env):
    """All, by their beginning in any form, by a pattern; JSON line by line."""
    depot = stored(env)
    lines = ok(depot.try_command("ls")).splitlines()
    assert len(lines) == 3, lines
    assert any(line.split()[0] == str(BODY.size) and "package" in line and URL in line
               for line in lines), lines
    for word, n in [("https://cuda.example/repo/", 3), ("HTTPS///cuda.example/repo/x", 1),
                    ("http://HTTPS///cuda.example/", 3), ("http://cuda.example/", 0),
                    ("*.deb", 1), ("https://*/repo/*e*", 3), ("*/x_1.0+git_amd64.deb", 1),
                    ("https://cuda.example/repo/InRelease", 1), ("nothing*", 0)]:
        lines = ok(depot.try_command("ls", word)).splitlines()
        assert len(lines) == n, (word, lines)
    rows = [json.loads(line) for line in ok(depot.try_command("ls", "--json")).splitlines()]
    assert {row["class"] for row in rows} == {"package", "release", "other"}
    row = next(row for row in rows if row["url"] == URL)
    assert row["sha256"] == BODY.sha256() and row["size_bytes"] == BODY.size


def test_ls_of_many(env):
    """More than one batch of the walk: each once."""
    paths = [f"/many/{n}.deb" for n in range(600)]
    for path in paths:
        env.origin.serve(path, path.encode())
    depot = env.depot()
    with depot.conn() as conn:
        for path in paths:
            conn.get("http://HTTPS///cuda.example" + path)
    depot.wait_idle()
    found = [line.split()[-1] for line in ok(depot.try_command("ls")).splitlines()]
    assert sorted(found) == sorted("https://cuda.example" + path for path in paths)


def test_cat(env):
    """The body as it is, without upstream; what is not stored is an error without bytes."""
    depot = stored(env)
    env.origin.stop()
    before = depot.counters()
    for form in (URL, "http://HTTPS///cuda.example/repo/x_1.0%2bgit_amd64.deb",
                 "HTTPS//cuda.example/repo/./x_1.0+git_amd64.deb"):
        done = depot.try_command("cat", form)
        assert done.returncode == 0 and done.stdout == BODY.bytes(), done.stderr
    done = depot.try_command("cat", "https://cuda.example/other.deb")
    failed(done, 1, "not stored")
    assert done.stdout == b""
    failed(depot.try_command("cat", "*.deb"), 2, "pattern")
    failed(depot.try_command("cat", "no url"), 2, "no URL")
    failed(depot.try_command("cat"), 2)
    after = depot.counters()
    assert after["upstream_requests_total"] == before["upstream_requests_total"]
    assert after["hits_total"] == before["hits_total"]


def test_evict(env):
    """One, then by pattern: gone at once, and fetched again when asked for."""
    depot = stored(env)
    assert URL in ok(depot.try_command("evict", URL))
    assert depot.counter("cache_blobs") == 2
    assert len(depot.blob_paths()) == 2
    failed(depot.try_command("evict", URL), 1, "not stored")
    expect_body(depot.fetch(URL), BODY)
    assert len(env.origin.requests("/repo/x_1.0+git_amd64.deb")) == 2
    depot.wait_idle()
    assert json.loads(ok(depot.try_command("evict", "--json", "https://cuda.example/*"))) == {
        "urls": 3, "bytes": BODY.size + 13 + 5}
    assert ok(depot.try_command("ls")) == ""


def test_evict_leaves_a_shared_body(env):
    """Two URLs, one body: it stays until both are gone."""
    for path in ("/a.deb", "/b.deb"):
        env.origin.serve(path, BODY)
    depot = env.depot()
    for path in ("/a.deb", "/b.deb"):
        expect_body(depot.fetch("https://cuda.example" + path), BODY)
        depot.wait_idle()
    assert "urls with this body: 2" in " ".join(
        ok(depot.try_command("explain", "https://cuda.example/a.deb")).split())
    ok(depot.try_command("evict", "https://cuda.example/a.deb"))
    assert expect_body(depot.fetch("https://cuda.example/b.deb"), BODY).is_hit
    ok(depot.try_command("evict", "https://cuda.example/b.deb"))
    wait_until(lambda: not depot.blob_paths(), "the body's file is gone")


def test_verify(env):
    """Good ones pass; a flipped byte and a missing file are found, dropped, and fetched again."""
    depot = stored(env)
    assert ok(depot.try_command("verify", "--all")).startswith("3 good, 0 damaged")
    assert ok(depot.try_command("verify", URL)).startswith("1 good")
    path = next(path for path in depot.blob_paths() if path.endswith(BODY.sha256()))
    times = os.stat(path)
    with open(path, "r+b") as blob:
        blob.seek(BODY.size // 2)
        byte = blob.read(1)
        blob.seek(BODY.size // 2)
        blob.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    done = depot.try_command("cat", URL)
    assert done.returncode == 1 and b"damaged" in done.stderr, done.stderr
    done = depot.try_command("verify", "--json", "--all")
    assert done.returncode == 1, done.stdout
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows[0] == {"sha256": BODY.sha256(), "result": "damaged"}
    assert (rows[1]["good"], rows[1]["damaged"]) == (2, 1)
    assert not os.path.exists(path)
    expect_body(depot.fetch(URL), BODY)
    depot.wait_idle()
    os.unlink(path)
    done = depot.try_command("verify", "*.deb")
    assert done.returncode == 1 and b"missing" in done.stdout, done.stdout
    assert ok(depot.try_command("verify", "--all")).startswith("2 good, 0 damaged")
    assert ok(depot.try_command("verify")).startswith("2 good, 0 damaged")
    failed(depot.try_command("verify", "--all", URL), 2)


def facts_of(text):
    """A list of facts as the command prints it."""
    return {line.split(":")[0]: line.split(":", 1)[1].strip() for line in text.splitlines()
            if not line.startswith(" ")}


def test_explain(env):
    """Class, key, digest, verdict; the page and the JSON say the same as the command."""
    depot = stored(env)
    facts = facts_of(ok(depot.try_command("explain", "http://HTTPS///cuda.example/repo/"
                                      "x_1.0%2bgit_amd64.deb")))
    assert facts["url"] == URL and facts["class"] == "package" and facts["stored"] == "yes"
    assert facts["sha256"] == BODY.sha256(), facts
    assert "no generation says" in facts["served"], facts
    assert facts["etag"].startswith('"') and "3.00 MiB" in facts["size bytes"]
    quoted = urllib.parse.quote(URL, safe="")
    page = depot.get(f"/-/explain?url={quoted}")
    assert page.status == 200 and BODY.sha256() in page.text
    data = json.loads(depot.get(f"/-/api/v1/explain?url={quoted}").text)
    assert data == json.loads(ok(depot.try_command("explain", "--json", URL)))
    assert data["stored"] is True and data["size_bytes"] == BODY.size
    assert isinstance(data["fields"], list) and data["from_credentials"] is False
    index = facts_of(ok(depot.try_command("explain", "HTTPS/cuda.example/repo/InRelease")))
    assert index["class"] == "release" and index["served"].startswith("after a check")
    key = facts_of(ok(depot.try_command("explain", "HTTPS/cuda.example/repo/key.pub")))
    assert key["class"] == "other"
    none = facts_of(ok(depot.try_command("explain", "http://10.1.2.3/x.deb")))
    assert none["stored"] == "no" and "allow_addresses" in none["allowed"]
    done = depot.try_command("explain", "what?")
    assert done.returncode == 2, done
    assert depot.get("/-/explain").status == 200
    assert depot.get("/-/explain?url=%3Cscript%3E").status == 400
    assert "<script>" not in depot.get("/-/explain?url=%3Cscript%3E").text


def test_explain_what_a_generation_lists(env):
    """A package and an index of it: what they must be, and that they are hits because of it."""
    repo = env.flat_repo()
    depot = env.depot()
    base = "https://cuda.example" + repo.root
    deb = next(iter(repo.debs.values()))
    for name in ("InRelease", "Packages.gz", deb.file_name):
        assert depot.fetch(base + name).status == 200
        depot.wait_idle()
    digest = hashlib.sha256(deb.data).hexdigest()
    quoted = urllib.parse.quote(base + deb.file_name, safe=":/")

    def listed():
        facts = facts_of(ok(depot.try_command("explain", quoted)))
        return facts if facts.get("expected digest") else None
    facts = wait_until(listed, "the generation's table of packages is there")
    assert facts["expected digest"] == "sha256 " + digest == "sha256 " + facts["sha256"], facts
    assert facts["repository"] == base and facts["served"].endswith("what the generation lists")
    index = facts_of(ok(depot.try_command("explain", base + "Packages.gz")))
    assert index["role"].startswith("listed"), index
    assert "generation's own" in facts_of(ok(depot.try_command("explain", base + "InRelease")))["role"]
    assert depot.try_command("cat", quoted).stdout == deb.data
    ok(depot.try_command("evict", quoted))
    assert facts_of(ok(depot.try_command("explain", quoted)))["stored"] == "no"
    assert depot.fetch(base + deb.file_name).body == deb.data


def test_generations_and_pins(env):
    """Two publications: listed newest first; the older one is pinned, seen under its name, let go."""
    repo = env.flat_repo()
    depot = env.depot(keep_generations="1", generation_hold="0s")
    base = "https://cuda.example" + repo.root
    old = depot.fetch(base + "InRelease").body
    depot.fetch(base + "Packages")
    depot.wait_idle()
    assert ok(depot.try_command("generations")).count("current") == 1
    urls = [json.loads(line)["url"] for line in ok(depot.try_command("ls", "--json")).splitlines()]
    assert sorted(urls) == sorted(set(urls)) and base + "InRelease" in urls, urls
    done = ok(depot.try_command("pin", "--as", "before", base))
    assert "before" in done, done
    repo.debs.popitem()
    repo.publish()
    wait_until(lambda: depot.fetch(base + "InRelease").body != old, "the new publication is seen")
    rows = [json.loads(line) for line in
            ok(depot.try_command("generations", "--json", "HTTPS///cuda.example/")).splitlines()]
    assert [row["current"] for row in rows] == [True, False], rows
    assert rows[0]["repository"] == base and rows[1]["pins"] == "before", rows
    assert rows[1]["sha256"] == hashlib.sha256(old).hexdigest()
    text = ok(depot.try_command("generations", base))
    assert base in text and "pinned as before" in text, text
    then = f"http://HTTPS///@before/cuda.example{repo.root}InRelease"
    assert depot.get(then).body == old
    assert ok(depot.try_command("generations", "https://other.example/")) == ""
    failed(depot.try_command("pin", "--as", "x", "https://other.example/"), 1, "no generation")
    failed(depot.try_command("pin", "--at", "2001-01-01", base), 1)
    failed(depot.try_command("unpin", "never"), 1, "never")
    failed(depot.try_command("unpin", "before", "https://other.example/"), 1, "no repository")
    failed(depot.try_command("pin", "--as", "before", base), 1, "unpin it first")
    ok(depot.try_command("pin", "--as", "before", "--at", "before", base))
    ok(depot.try_command("unpin", "@before", base))
    assert depot.get(then).status == 404
    failed(depot.try_command("unpin", base), 1, "no pinned generation")
    ok(depot.try_command("pin", "--as", "one", base))
    ok(depot.try_command("pin", "--as", "two", base))
    failed(depot.try_command("unpin", base), 1, "2 names")
    failed(depot.try_command("unpin", "one", "two"), 2)
    ok(depot.try_command("unpin", "--as", "two", base))
    assert "@one is no longer kept" in ok(depot.try_command("unpin", base))
    failed(depot.try_command("unpin"), 2)


def test_explain_what_runs_and_what_is_remembered(env):
    """A fetch under way; a 404 within its second."""
    gate = env.origin.gate()
    env.origin.serve("/slow.deb", Answer(Pattern(1 << 20), gate=gate))
    depot = env.depot()
    with depot.conn() as conn:
        conn.ask("http://HTTPS///cuda.example/slow.deb")
        gate.wait_for(1)
        text = ok(depot.try_command("explain", "https://cuda.example/slow.deb"))
        assert "1 readers" in facts_of(text)["fetch"], text
        assert "slow.deb" in ok(depot.try_command("top"))
        top = json.loads(ok(depot.try_command("top", "--json")))
        assert top["flights"][0]["readers"] == 1, top
        gate.open()


def send(depot, *words, raw=None):
    """A connection to the control socket with a request on it."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(45 * SLOW)
    sock.connect(os.path.join(depot.cache_dir, "admin.sock"))
    data = b"".join(word.encode() + b"\0" for word in words)
    sock.sendall(raw if raw is not None else struct.pack("!I", len(data)) + data)
    return sock


def first_frame(sock):
    """The kind of what comes first behind the word that the command has begun."""
    data = b""
    while len(data) <= len(BEGUN):
        data += sock.recv(len(BEGUN) + 1 - len(data))
    assert data.startswith(BEGUN), data
    return data[-1:]


def read_all(sock):
    """Until the end of the connection."""
    parts = []
    while True:
        try:
            part = sock.recv(65536)
        except ConnectionResetError:    # it had not read all that we sent
            part = b""
        if not part:
            return b"".join(parts)
        parts.append(part)


def test_garbage_on_the_socket(env):
    """Closed without an answer, and nothing else happens."""
    depot = env.depot()
    for raw in (struct.pack("!I", 0), struct.pack("!I", 1 << 30), struct.pack("!I", 65537) + b"x",
                struct.pack("!I", 4) + b"ls\0x", struct.pack("!I", 300) + b"\0x" * 150 ):
        with send(depot, raw=raw) as sock:
            sock.shutdown(socket.SHUT_WR)
            assert b"ls" not in read_all(sock)[:3]
    for words in (("dance",), ("ls", "--all"), ("serve",), ("apt-conf",), ("ls", "a", "b"), ("",)):
        with send(depot, *words) as sock:
            answer = read_all(sock)
            assert answer[:6] == BEGUN + b"e" and answer[-1:] == b"\x02", (words, answer)
    assert depot.get("/-/healthz").status == 200


def test_commands_are_bounded(env):
    """Eight at a time; the ninth is told so; those that leave make room."""
    depot = stored(env)
    idle = [send(depot, "cat", "--", URL) for _ in range(8)]
    for sock in idle:
        assert first_frame(sock) == b"o"    # more than the socket takes: it stays for a minute
    failed(depot.try_command("status"), 1, "as many commands")
    assert depot.counter("commands_refused_total") >= 1
    idle.pop().close()
    wait_until(lambda: depot.try_command("status").returncode == 0, "there is room again")
    for sock in idle:
        sock.close()


@patient
def test_a_silent_client_is_sent_away(env):
    """No request within five seconds."""
    depot = env.depot()
    with send(depot, raw=b"\0\0") as sock:
        assert read_all(sock) == b""


def test_stop_while_commands_run(env):
    """A client that does not read and one that waits: the depot stops in time all the same."""
    depot = stored(env)
    with send(depot, "cat", "--", URL) as stuck, send(depot, raw=b""):
        assert first_frame(stuck) == b"o"
        depot.stop()
        answer = read_all(stuck)
        assert len(answer) < BODY.size


def test_a_reader_that_leaves(env):
    """cat | head: its thread ends, its place is free."""
    depot = stored(env)
    for _ in range(10):
        with send(depot, "cat", "--", URL) as sock:
            assert first_frame(sock) == b"o"

    def piped():
        done = subprocess.run(
            f"{BINARY} cat -o cache_dir={depot.cache_dir} {URL} | head -c 10 | wc -c", shell=True,
            stdout=subprocess.PIPE, timeout=45 * SLOW, check=True)
        return done.stdout.strip() == b"10"
    wait_until(piped, "a place is free")


def test_help_and_misuse(env):
    """Every command is in the list and has its own help; mistakes are status 2."""
    text = run_command("help").stdout
    for name in ("serve", "check", "status", "ls", "cat", "explain", "evict", "verify", "top",
                 "apt-conf", "version", "help"):
        assert f"  {name} " in text, name
        alone = run_command("help", name)
        assert alone.returncode == 0 and f"usage: apt-depot {name}" in alone.stdout
        if name not in ("serve", "help"):
            assert run_command(name, "--help").stdout == alone.stdout
    for args in (["help", "dance"], ["ls", "a", "b"], ["status", "x"], ["cat"], ["ls", "-x"],
                 ["ls", "--json=1"], ["apt-conf", "--proxy"], ["serve", "x"], ["-c"]):
        done = run_command(*args)
        assert done.returncode == 2, (args, done)
        assert "help" in done.stdout, (args, done)


def test_apt_conf(env):
    """The same text as the page, without a depot."""
    depot = env.depot()
    with depot.conn() as conn:
        conn.ask("/-/apt.conf", host=f"depot.example:{depot.port}")
        page = conn.read().text
    done = run_command("apt-conf", "--proxy", f"http://depot.example:{depot.port}/")
    assert done.returncode == 0 and done.stdout == page, (done.stdout, page)
    own = run_command("apt-conf", "-o", "listen=127.0.0.1:4711", "-o", "connect=refuse").stdout
    assert ":4711\"" in own and "DIRECT" in own
    assert run_command("apt-conf", "--proxy", "http://").returncode == 2


def test_import(env):
    """Packages of a directory become bodies; other files, links and a second time do not."""
    depot = env.depot(cache_max="1G")
    top = os.path.join(env.path, "archives")
    os.makedirs(os.path.join(top, "deb.example", "pool dir"))
    bodies = {"a_1_all.deb": Pattern(3 << 20, seed=5).bytes(), "empty.deb": b"",
              "deb.example/pool dir/b%2b.deb": b"b", "deb.example/x.dsc": b"dsc",
              "a_1_all.deb.head": b"no", "lock": b"no"}
    for name, data in bodies.items():
        with open(os.path.join(top, name), "wb") as out:
            out.write(data)
    os.symlink("/etc/passwd", os.path.join(top, "link.deb"))
    rows = [json.loads(line) for line in ok(depot.try_command("import", "--json", top)).splitlines()]
    assert {row["file"]: row["sha256"] for row in rows} == {
        os.path.join(os.path.realpath(top), name): hashlib.sha256(data).hexdigest()
        for name, data in bodies.items() if data != b"no"}
    assert all(row["new"] for row in rows)
    assert {os.path.basename(path) for path in depot.blob_paths()} == {
        row["sha256"] for row in rows}
    assert os.listdir(os.path.join(depot.cache_dir, "partial")) == []
    listed = ok(depot.try_command("ls", "file://*"))
    assert "pool%20dir/b%252b.deb" in listed and len(listed.splitlines()) == 4, listed
    again = ok(depot.try_command("import", top))
    assert again.count("was here") == 4 and "4 files, 3.00 MiB; 0 failed" in again, again
    assert depot.counter("cache_blobs") == 4
    depot.restart()
    assert ok(depot.try_command("verify", "--all")).startswith("4 good, 0 damaged")
    ok(depot.try_command("evict", "file://*"))
    assert depot.counter("cache_blobs") == 0
    failed(depot.try_command("import", os.path.join(env.path, "none")), 1, "none")
    with send(depot, "import", "--", "/etc/passwd") as sock:
        assert read_all(sock)[-1:] == b"\x02"
    depot.stop()
    failed(depot.try_command("import", top), 2, "no depot is running")


ONE_LINE = """\
# deb https://cuda.example/ /
deb [arch=amd64 signed-by=/k.gpg] https://cuda.example/repo/ /   # CUDA
deb http://deb.example/debian stable main
"""
DEB822 = "Types: deb\nURIs: https://cuda.example/a/\n https://cuda.example/b/\nSuites: ./\n"


def write(path, text, mode=0o644):
    """A file with this mode."""
    with open(path, "w", encoding="utf-8") as out:
        out.write(text)
    os.chmod(path, mode)


def read(path):
    """What it holds."""
    with open(path, encoding="utf-8") as text:
        return text.read()


def test_sources(env):
    """In place with a backup, mode kept, unchanged files untouched, and back."""
    one, two, plain = (os.path.join(env.path, name) for name in
                       ("cuda.list", "x.sources", "debian.list"))
    link = os.path.join(env.path, "link.list")
    write(one, ONE_LINE, 0o640)
    write(two, DEB822)
    write(plain, "deb http://deb.example/debian stable main\n")
    os.symlink("cuda.list", link)
    before = os.stat(plain)
    shown = run_command("sources", "--dry-run", one, two)
    assert shown.returncode == 0 and read(one) == ONE_LINE and read(two) == DEB822
    assert f"{one}:2" in shown.stdout and "+ URIs: http://HTTPS///cuda" in shown.stdout
    assert not os.path.exists(one + ".bak")
    done = run_command("sources", link, two, plain)
    assert done.returncode == 0, done.stdout
    assert "deb [arch=amd64 signed-by=/k.gpg] http://HTTPS///cuda.example/repo/ /   # CUDA" \
        in read(one)
    assert read(one).startswith("# deb https://") and os.path.islink(link)
    assert read(two) == DEB822.replace("https://", "http://HTTPS///")
    assert read(one + ".bak") == ONE_LINE and read(two + ".bak") == DEB822
    assert stat.S_IMODE(os.stat(one).st_mode) == stat.S_IMODE(os.stat(one + ".bak").st_mode) == 0o640
    after = os.stat(plain)
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)
    assert not os.path.exists(plain + ".bak")
    done = run_command("sources", "--json", one)
    assert json.loads(done.stdout) == {"file": one, "changed": 0, "written": False}
    done = run_command("sources", "--to-https", "--backup", "", one, two)
    assert done.returncode == 0 and read(one) == ONE_LINE and read(two) == DEB822
    assert sorted(os.listdir(env.path)) == ["cuda.list", "cuda.list.bak", "debian.list",
                                            "link.list", "x.sources", "x.sources.bak"]


def test_sources_through_a_pipe(env):
    """Standard input to standard output; what cannot be read is an error that stops nothing."""
    done = subprocess.run([BINARY, "sources"], input=DEB822.encode(), stdout=subprocess.PIPE,
                          timeout=45 * SLOW, check=True)
    assert done.stdout.decode() == DEB822.replace("https://", "http://HTTPS///")
    path = os.path.join(env.path, "x.list")
    write(path, ONE_LINE)
    none = os.path.join(env.path, "none.list")
    done = run_command("sources", none, path)
    assert done.returncode == 1 and none in done.stdout and "HTTPS" in read(path)
    assert run_command("sources", "--to-https", "--to-depot", path).returncode == 2
    assert run_command("sources", "--backup", "a/b", path).returncode == 2
