# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""The program itself: configuration errors, start, signals, logs."""
import contextlib
import fcntl
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import time

import ports
from body import Pattern
from client import expect_body
from depot import BINARY, SLOW, run_command, wait_until
from origin import Answer
from support import patient


def write(env, text, name="depot.conf"):
    """A configuration file."""
    path = os.path.join(env.path, name)
    with open(path, "w", encoding="utf-8") as out:
        out.write(text)
    return path


BAD_LINES = [
    # line, words of the message besides file and line
    ("no_such_key = 1", ["no_such_key"]),
    ("cache_mx = 1G", ["cache_mx", "cache_max"]),
    ("cache_max = lots", ["cache_max", "lots"]),
    ("cache_max = -1", ["cache_max"]),
    ("read_timeout = 5 parsecs", ["read_timeout"]),
    ("workers = 1.5", ["workers"]),
    ("listen = 127.0.0.1:99999", ["listen"]),
    ("listen = nowhere", ["listen"]),
    ("allow_clients = 10.0.0.0/33", ["allow_clients"]),
    ("allow_ports = http", ["allow_ports"]),
    ("connect = maybe", ["connect", "tunnel"]),
    ("offline = perhaps", ["offline"]),
    ("log_level = loud", ["log_level"]),
    ("connect_to = cuda.example:443", ["connect_to"]),
    ("parent_proxy = socks5://x:1", ["parent_proxy"]),
    ("ca_file = /no/such/file.pem", ["ca_file", "/no/such/file.pem"]),
    ("just words", []),
    ("[upstream cuda.example", []),
    ("[nonsense]", []),
]


def test_configuration_errors(env):
    """Each refuses to start with file, line and what is wrong; check says the same."""
    for text, words in BAD_LINES:
        path = write(env, f"# a comment\n\n{text}\n")
        for command in (["serve", "-c", path], ["check", "-c", path]):
            done = run_command(*command)
            assert done.returncode not in (0, -6, -11), (text, command, done.returncode)
            assert f"{path}:3" in done.stdout, f"{text!r}: no file and line in {done.stdout!r}"
            for word in words:
                assert word in done.stdout, f"{text!r}: {word!r} is not in {done.stdout!r}"


def test_every_error_is_reported_at_once(env):
    """Nobody wants to start five times to read five mistakes."""
    path = write(env, "one = 1\ncache_max = x\nlisten = y\n")
    done = run_command("check", "-c", path)
    assert done.returncode != 0
    for line in (1, 2, 3):
        assert f"{path}:{line}" in done.stdout, done.stdout


def test_settings_on_the_command_line(env):
    """-o is checked like the file; a missing file and unknown arguments are errors."""
    for args, word in [(["serve", "-o", "no_such_key=1"], "no_such_key"),
                       (["serve", "-o", "workers"], "="),
                       (["serve", "-o", "workers=x"], "workers"),
                       (["serve", "-c", os.path.join(env.path, "none.conf")], "none.conf"),
                       (["check", "-c", env.path], env.path), (["dance"], "dance"),
                       (["serve", "--no-such-flag"], ""), (["serve", "-c"], "")]:
        done = run_command(*args)
        assert done.returncode not in (0, -6, -11), (args, done.returncode, done.stdout)
        assert word in done.stdout, (args, done.stdout)


def test_good_configuration(env):
    """check succeeds; the file, sections and all, takes effect."""
    env.origin.serve("/x.deb", Answer(b"data", gate=env.origin.gate()))
    depot = env.new_depot()
    path = write(env, f"""# comments, blanks and lists
listen = 127.0.0.1:{depot.port}
cache_dir = {depot.cache_dir}   # a comment behind a value
cache_max = 1G
allow_addresses = 127.0.0.0/8, 10.0.0.0/8
allow_addresses = 192.168.0.0/16
ca_file = {env.certificates.ca}
https_upgrade =
connect_to = cuda.example:443:127.0.0.1:{env.origin.tls_port}
connect_to = one.example:443:127.0.0.1:{env.origin.tls_port}
read_timeout = 20s

[upstream "*.example"]
read_timeout = 500ms
""")
    done = run_command("check", "-c", path)
    assert done.returncode == 0, done.stdout
    depot.arguments = lambda: [os.environ.get("APT_DEPOT") or
                               type(depot).arguments(depot)[0], "serve", "-c", path]
    depot.start()
    started = time.monotonic()
    assert depot.fetch("https://one.example/x.deb").status == 504
    assert time.monotonic() - started < 10 * SLOW, "the section's read_timeout has no effect"


def test_few_open_files(env):
    """No more connections are promised than there are descriptors; too few for any are refused."""
    env.origin.serve("/x.deb", b"data")
    depot = env.new_depot(workers=2)
    depot.open_files = 100
    depot.start()
    room = int(re.search(r"max_connections lowered to (\d+): the limit on open files is 100",
                         depot.log_text()).group(1))
    assert 8 <= room <= 30, room
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(depot.conn())]
        # Those that start() asked over may still be there.
        wait_until(lambda: "\napt_depot_connections_open 1\n" in held[0].get("/-/metrics").text,
                   "nobody else is connected")
        for _ in range(room - 1):
            held.append(stack.enter_context(depot.conn()))
            assert held[-1].get("/-/healthz").status == 200
        assert depot.get("/-/healthz").status == 503
        expect_body(held[0].get("http://HTTPS///cuda.example/x.deb"), b"data")
        assert "Too many open files" not in depot.log_text()
    depot.stop()
    done = subprocess.run(depot.arguments(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=15 * SLOW, check=False,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40)))
    assert done.returncode == 1, done
    assert "the limit on open files, 40, is too small" in done.stdout, done.stdout
    assert "LimitNOFILE=" in done.stdout, done.stdout


def test_version_and_help(_env):
    """Both succeed and say something."""
    for word, part in (("version", "apt-depot"), ("help", "serve")):
        done = run_command(word)
        assert done.returncode == 0 and part in done.stdout, (word, done.returncode, done.stdout)


def expect_refusal(args, *words):
    """The program ends with status 1 and says these words."""
    done = run_command(*args)
    assert done.returncode == 1, (done.returncode, done.stdout)
    for word in words:
        assert str(word) in done.stdout, f"{word!r} is not in {done.stdout!r}"


def test_port_in_use(env):
    """Exit 1, naming the address and who has it."""
    depot = env.depot()
    other = env.new_depot(listen=f"127.0.0.1:{depot.port}")
    expect_refusal(other.arguments()[1:], depot.port)
    listener = ports.listen()
    port = listener.getsockname()[1]
    other.options["listen"] = f"127.0.0.1:{port}"
    expect_refusal(other.arguments()[1:], port, f"process {os.getpid()}, has it")
    if os.geteuid() == 0:
        # Who may not look at other users' processes still learns whose it is.
        program = os.path.join(env.path, "apt-depot")
        shutil.copy(BINARY, program)
        for directory in (env.path, os.path.dirname(env.path)):
            os.chmod(directory, 0o755)
        done = subprocess.run([program, *other.arguments()[1:]], user=65534, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=15 * SLOW, check=False)
        assert done.returncode == 1 and "a process of user 0 has it" in done.stdout, done.stdout


def test_logs_that_cannot_be_written(env):
    """Exit 1, naming option, file and what to do."""
    for key in ("log_file", "access_log"):
        path = os.path.join(env.path, "none", key)
        expect_refusal(env.new_depot(**{key: path}).arguments()[1:], f"{key} = {path}", "directory that is there")


def test_unix_socket_in_use(env):
    """Exit 1, naming who has it; a left-over socket is replaced, any other file is not touched."""
    path = os.path.join(env.path, "s")
    depot = env.new_depot()
    depot.options["listen"] = [f"127.0.0.1:{depot.port}", f"unix:{path}"]
    depot.start()
    other = env.new_depot(listen=f"unix:{path}")
    expect_refusal(other.arguments()[1:], path, f"process {depot.process.pid} has it")
    depot.kill()
    depot.start()       # over the socket that was left
    busy = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    busy.bind(path + "d")
    other.options["listen"] = f"unix:{path}d"
    expect_refusal(other.arguments()[1:], path + "d", "somebody may have it")
    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"x", path + "d")
    full = socket.socket(socket.AF_UNIX)
    full.bind(path + "f")
    full.listen(0)
    waiting = socket.socket(socket.AF_UNIX)
    waiting.connect(path + "f")
    other.options["listen"] = f"unix:{path}f"
    expect_refusal(other.arguments()[1:], path + "f", "somebody may have it")
    assert full.accept()
    file = write(env, "precious", "file")
    other.options["listen"] = f"unix:{file}"
    expect_refusal(other.arguments()[1:], file)
    with open(file, encoding="utf-8") as text:
        assert text.read() == "precious"


def test_cache_directory_in_use(env):
    """Exit 1, naming the directory and the process that has it."""
    pid_file = os.path.join(env.path, "pid")
    depot = env.depot(pid_file=pid_file)
    other = env.new_depot(cache_dir=depot.cache_dir, pid_file=pid_file)
    expect_refusal(other.arguments()[1:], depot.cache_dir, depot.process.pid)
    assert depot.get("/-/healthz").status == 200
    with open(pid_file, encoding="ascii") as file:
        assert int(file.read()) == depot.process.pid


def test_pid_file_of_two(env):
    """Who stops removes its own number; what another wrote over it, or put in its place, stays."""
    pid_file = os.path.join(env.path, "pid")
    first = env.depot(pid_file=pid_file)
    for replace in (False, True):
        if replace:
            os.remove(pid_file)
        other = env.depot(pid_file=pid_file)
        number = other.process.pid
        first.stop()
        with open(pid_file, encoding="ascii") as file:
            assert int(file.read()) == number
        first = other
    first.stop()
    assert not os.path.exists(pid_file)


def test_unusable_cache_directory(env):
    """A file in its place, a path below a file, a place that cannot be written: exit 1, named."""
    file = write(env, "not a directory", "file")
    for path in (file, file + "/cache", "/proc/apt-depot"):
        depot = env.new_depot(cache_dir=path)
        expect_refusal(depot.arguments()[1:], path)


def test_cache_of_a_newer_version_is_not_touched(env):
    """An index of a newer format: refused, exit 1, rather than ruined or set aside."""
    depot = env.depot()
    depot.stop()
    path = os.path.join(depot.cache_dir, "index", "data.mdb")
    times = os.stat(path)
    with open(path, "rb") as file:
        data = file.read()
    # The format is a record "format" with four bytes; LMDB keeps a value right behind its key.
    assert re.search(rb"format[\x01-\x20]\0\0\0", data), "no format record found"
    data = re.sub(rb"format[\x01-\x20]\0\0\0", b"format\xe7\x03\0\0", data)
    with open(path, "r+b") as file:
        file.write(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    expect_refusal(depot.arguments()[1:], depot.cache_dir)
    with open(path, "rb") as file:
        assert file.read(len(data)) == data, "the newer index was changed"


def test_service_manager_is_told(env):
    """READY comes when clients are served, STOPPING at the end: by path and by abstract name."""
    depot = env.depot()
    for name in (os.path.join(env.path, "notify"), f"\0apt-depot-{os.getpid()}"):
        depot.stop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(name)
            manager.settimeout(25)
            started = dict(os.environ, NOTIFY_SOCKET=name.replace("\0", "@"))
            with open(depot.log_path, "ab") as log:
                depot.process = subprocess.Popen(depot.arguments(), stdin=subprocess.DEVNULL,
                                                 stdout=log, stderr=log, env=started)
            assert manager.recv(100) == b"READY=1"
            assert depot.get("/-/healthz").status == 200
            depot.stop()
            assert manager.recv(100) == b"STOPPING=1"
        depot.start()


@patient
def test_stop_in_the_middle(env):
    """SIGTERM and SIGINT with transfers, idle clients and a stuck upstream: status 0 within 5 s."""
    body = Pattern(8 << 20)
    env.origin.serve("/held.deb", Answer(body, gate=env.origin.gate(), held_at=1 << 20))
    env.origin.serve("/silent.deb", Answer(body, gate=env.origin.gate()))
    env.origin.serve("/big.deb", Pattern(64 << 20))
    depot = env.depot()
    for number in (signal.SIGTERM, signal.SIGINT):
        with depot.conn() as held, depot.conn() as silent, depot.conn(), \
                depot.conn(receive_buffer=65536) as big:
            held.ask("http://HTTPS///cuda.example/held.deb")
            held.read_head()
            silent.ask("http://HTTPS///cuda.example/silent.deb")
            big.ask("http://cuda.example/big.deb")
            big.read_head()
            depot.wait_counter("connections_open", ">=", 4)
            started = time.monotonic()
            depot.process.send_signal(number)
            status = depot.process.wait(45 * SLOW)
            took = time.monotonic() - started
            assert status == 0, status
            assert took < 15 * SLOW, took    # 5 s, and what a busy disk takes to tidy up
        depot.process = None
        depot.start()


def test_stop_finishes_what_is_short(env):
    """An answer that can be finished within 5 s is finished; new connections are not taken."""
    body, gate = Pattern(1 << 20), env.origin.gate()
    env.origin.serve("/x.deb", Answer(body, gate=gate, held_at=500000))
    depot = env.depot()
    with depot.conn() as conn:
        conn.ask("http://HTTPS///cuda.example/x.deb")
        response = conn.read_head()
        depot.process.send_signal(signal.SIGTERM)

        def refused():
            try:
                depot.conn().close()
                return False
            except OSError:
                return True
        wait_until(refused, "new connections are refused")
        gate.open()
        expect_body(conn.read_body(response), body)


def test_reader_of_the_access_log_reads_no_more(env):
    """Messages are written all the same, requests answered, and a stop comes to its end."""
    fifo = os.path.join(env.path, "fifo")
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDWR)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    depot = env.new_depot(access_log=fifo, log_file=os.path.join(env.path, "messages"))
    depot.start()
    with depot.conn() as conn:
        for _ in range(60):
            assert conn.get("/-/healthz").status == 200
        # The pipe is full by then, and the thread that writes to it waits.
        assert conn.get("/no-such-host/").status == 404
    depot.process.send_signal(signal.SIGTERM)
    assert depot.process.wait(20 * SLOW) == 0
    with open(os.path.join(env.path, "messages"), encoding="utf-8") as messages:
        assert "stopping" in messages.read()
    os.close(reader)


def test_threads_have_names(env):
    """Debuggers and top tell them apart."""
    depot = env.depot()
    tasks = f"/proc/{depot.process.pid}/task"
    want = {"log", "log-access", "upstream", "worker-0", "index-writer", "keeper", "verifier", "syncer", "scrubber",
            "iopool", "stage", "admin"}

    def missing():
        names = set()
        for task in os.listdir(tasks):
            with open(f"{tasks}/{task}/comm", encoding="ascii") as comm:
                names.add(comm.read().strip())
        return want - names
    wait_until(lambda: not missing(), "every thread has its name")


def test_hangup_is_survived(env):
    """SIGHUP reloads; what is running goes on."""
    env.origin.serve("/x.deb", b"data")
    depot = env.depot()
    for _ in range(3):
        depot.process.send_signal(signal.SIGHUP)
        expect_body(depot.fetch("https://cuda.example/x.deb"), b"data")


def test_usr1_reopens_the_logs(env):
    """Rotation: the old file is left, the new one is made."""
    env.origin.serve("/x.deb", b"data")
    depot = env.depot()
    log_file = os.path.join(depot.path, "messages.log")
    depot.options["log_file"] = log_file
    depot.restart()
    depot.fetch("https://cuda.example/x.deb")
    depot.wait_access("x.deb")
    before = len(depot.access_lines())
    for path in (depot.access_path, log_file):
        os.rename(path, path + ".1")
    depot.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: all(map(os.path.exists, (depot.access_path, log_file))), "new files")
    depot.fetch("https://cuda.example/x.deb")
    wait_until(lambda: any("x.deb" in line for line in depot.access_lines()), "a line")
    with open(depot.access_path + ".1", encoding="utf-8") as old:
        assert len(old.read().splitlines()) >= before


def test_access_log_has_one_line_per_request(env):
    """Hits, misses, errors, HEAD, 304, cut answers: a line each, with status and bytes."""
    env.origin.serve("/x.deb", Answer(Pattern(5000), etag='"t"'))
    env.origin.serve("/cut.deb", Answer(Pattern(1 << 20), stop_at=300000, etag='"v1"'),
                     Answer(Pattern(1 << 20, seed=2), etag='"v2"'))
    depot = env.depot()
    asked = [("GET", "/x.deb", [], 200), ("GET", "/x.deb", [], 200),
             ("HEAD", "/x.deb", [], 200), ("GET", "/x.deb", ["Range: bytes=0-9"], 206),
             ("GET", "/x.deb", ['If-None-Match: "t"'], 304), ("GET", "/none.deb", [], 404),
             ("GET", "/cut.deb", [], 200)]
    for method, path, fields, status in asked:
        with depot.conn() as conn:
            response = conn.get("http://HTTPS///cuda.example" + path, *fields, method=method)
            assert response.status == status, (path, response)
        depot.wait_idle()
    wait_until(lambda: sum(".deb" in line for line in depot.access_lines()) >= len(asked),
               "a line per request")
    lines = [line for line in depot.access_lines() if ".deb" in line]
    assert len(lines) == len(asked), lines
    # Two workers write: their lines may change places.
    lines.sort(key=lambda line: int(line.split(" req=")[1].split()[0]))
    for (method, path, _, status), line in zip(asked, lines):
        words = dict(word.split("=", 1) for word in line.split() if "=" in word)
        assert words["method"] == method and words["status"] == str(status), line
        assert path in words["url"] and words["client"].startswith("127.0.0.1"), line
        assert words["req"].isdigit(), line
    assert "bytes=5000" in lines[0] and "bytes=0" in lines[2] and "bytes=10" in lines[3]
    assert 'cache="fwd=uri-miss; stored"' in lines[0] and 'cache="hit"' in lines[1], lines


def test_log_is_safe_against_its_input(env):
    """Nothing that a client sends begins a new line or a colour."""
    env.origin.serve("/x.deb", b"data")
    depot = env.depot()
    depot.fetch("https://cuda.example/x.deb",
                'User-Agent: evil" status=999 \xff\xfe "')
    depot.get("http://HTTPS///cuda.example/\xff\xfe%0d%0aFake:%20line%1b[31m")
    wait_until(lambda: sum("cuda.example" in line for line in depot.access_lines()) >= 2,
               "two lines")
    with open(depot.access_path, "rb") as log:
        data = log.read()
    assert b"\x1b" not in data and b"\r" not in data
    for line in data.decode("utf-8", "replace").splitlines():
        assert "client=" in line, line


def test_json_log(env):
    """log_format=json: every line of both logs is an object."""
    import json
    env.origin.serve("/x.deb", b"data")
    depot = env.depot(log_format="json")
    depot.fetch("https://cuda.example/x.deb", 'User-Agent: a "quoted" \\ one')
    depot.wait_access("x.deb")
    depot.stop()
    for line in depot.access_lines() + depot.log_text().splitlines():
        assert isinstance(json.loads(line), dict), line
