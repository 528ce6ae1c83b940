# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""The servers that the bench compares, and the TLS origin behind them.

Each server is started with the best settings we know for this job, on loopback, as its own
process group, and stopped by its id. What it costs is read from /proc: CPU time and private
memory of its whole process tree.
"""
import email.utils
import hashlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
import repo                             # pylint: disable=wrong-import-position

MIB = 1 << 20
HOST = "origin.example"          # the name in the origin's certificate
YEAR_AGO = time.time() - 365 * 86400


class BenchError(Exception):
    """Something that makes one measurement impossible; the table shows it as words."""


# -- processes ------------------------------------------------------------------------------------

def process_tree(root):
    """The process and all its descendants."""
    children = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as f:
                parent = int(f.read().rsplit(b")", 1)[1].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(name))
    found, queue = [], [root]
    while queue:
        pid = queue.pop()
        found.append(pid)
        queue += children.get(pid, [])
    return found


def process_cpu_s(pids):
    """CPU seconds, user and system, ended threads included, to the nanosecond."""
    total = 0.0
    for pid in pids:
        try:
            total += time.clock_gettime((~pid << 3) | 2)  # the kernel's id of a process's CPU clock
        except OSError:
            pass
    return total


def process_peak(pids):
    """The most resident bytes that each process had at any time, summed."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as f:
                total += sum(int(x.split()[1]) * 1024 for x in f if x.startswith("VmHWM:"))
        except OSError:
            pass
    return total


def process_memory(pids):
    """Private and resident bytes."""
    private = resident = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
                for line in f:
                    if line.startswith(("Private_Clean:", "Private_Dirty:")):
                        private += int(line.split()[1]) * 1024
                    elif line.startswith("Rss:"):
                        resident += int(line.split()[1]) * 1024
        except OSError:
            pass
    return private, resident


class Process:
    """One child in its own process group, with its output in a file."""

    def __init__(self, argv, log, env=None):
        self.log = log
        with open(log, "wb") as out:
            self.popen = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                          start_new_session=True, env=env)

    def stop(self):
        """Ask, wait, insist."""
        for sig, wait_s in ((signal.SIGTERM, 8), (signal.SIGKILL, 5)):
            if self.popen.poll() is None:
                try:
                    os.killpg(self.popen.pid, sig)
                except ProcessLookupError:
                    pass
            try:
                self.popen.wait(wait_s)
                break
            except subprocess.TimeoutExpired:
                continue

    def wait_port(self, port, wait_s=20):
        """Wait until somebody accepts; says the log's end when the process died instead."""
        end = time.monotonic() + wait_s
        while time.monotonic() < end:
            if self.popen.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.005)
        with open(self.log, "rb") as f:
            tail = f.read()[-200:].decode("utf-8", "replace").strip().replace("\n", " | ")
        raise BenchError(f"does not listen: {tail}")


# -- the origin -----------------------------------------------------------------------------------

def small_size(i):
    """Sizes of a repository's small files: many of a few KiB, few of hundreds; 41 KB on average."""
    return (600, 2100, 4300, 8200, 15300, 27500, 46000, 82000, 172000)[i % 9] + 97 * (i % 29)


def write_file(path, size, seed):
    """A file of its own bytes: one random mebibyte, numbered, so that no two files are alike."""
    if os.path.exists(path) and os.path.getsize(path) == size:
        return
    with open(path + ".new", "wb") as f:
        block = write_file.block
        left, n = size, 0
        while left > 0:
            part = (b"%016x%016x" % (seed, n))[:left] + block[32:max(32, min(left, MIB))]
            f.write(part)
            left -= len(part)
            n += 1
    os.utime(path + ".new", (YEAR_AGO, YEAR_AGO))
    os.rename(path + ".new", path)


write_file.block = os.urandom(MIB)


class Origin:
    """Debian's nginx over TLS with a CA of our own; its files stay for the next run."""

    def __init__(self, env):
        self.env = env
        self.port = env.port(1)
        self.plain_port = env.port(4)
        self.dir = os.path.join(env.dir, "origin")
        self.files = os.path.join(self.dir, "files")
        self.ca = os.path.join(self.dir, "ca.pem")
        self.key = os.path.join(self.dir, "key.gpg")    # of the signed repository
        self.log = os.path.join(self.dir, "access.log")
        self.size = {}
        self.process = None

    def make_ca(self):
        """A CA and a leaf for the origin, once."""
        if os.path.exists(self.ca):
            return
        run = lambda *argv: subprocess.run(argv, cwd=self.dir, check=True,
                                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        run("openssl", "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.new", "-days", "3650",
            "-subj", "/CN=apt-depot bench CA",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        run("openssl", "req", *key, "-keyout", "leaf.key", "-out", "leaf.csr",
            "-subj", f"/CN={HOST}")
        with open(os.path.join(self.dir, "leaf.ext"), "w", encoding="ascii") as f:
            f.write(f"subjectAltName=DNS:{HOST},DNS:localhost,IP:127.0.0.1\n"
                    "basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n")
        run("openssl", "x509", "-req", "-in", "leaf.csr", "-CA", "ca.new", "-CAkey", "ca.key",
            "-CAcreateserial", "-out", "leaf.pem", "-days", "3650", "-extfile", "leaf.ext")
        os.rename(os.path.join(self.dir, "ca.new"), self.ca)

    def add(self, path, size, seed):
        """One file below the origin's root."""
        full = self.files + path
        os.makedirs(os.path.dirname(full), exist_ok=True)
        write_file(full, size, seed)
        self.size[path] = size

    def add_sparse(self, path, size):
        """One that is all zeros and takes no room."""
        full = self.files + path
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "ab") as f:
            f.truncate(size)
        self.size[path] = size

    def make_files(self, cold_n, huge_bytes, giant_bytes, install):
        """Everything that scenarios ask for."""
        for i in range(300):
            self.add(f"/small/pkg-{i:03}_1.0_amd64.deb", small_size(i), i)
        for i in range(cold_n):
            self.add(f"/cold/{i % 100:02}/pkg-{i:05}_1.0_amd64.deb", small_size(i), 1000 + i)
        self.add("/big/cuda-big_1.0_amd64.deb", 200 * MIB, 1 << 40)
        if huge_bytes:
            self.add(f"/huge/cuda-huge-{huge_bytes // MIB}_1.0_amd64.deb", huge_bytes, 2 << 40)
        if giant_bytes:
            self.add_sparse("/giant/cuda-giant_1.0_amd64.deb", giant_bytes)
        self.add("/idx/InRelease", 48000, 3 << 40)
        for i, size in enumerate(install):
            self.add(f"/install/pkg-{i:02}_1.0_amd64.deb", size, (4 << 40) + i)
        if install:
            self.sign_repository("/install/")

    def sign_repository(self, top):
        """Makes a flat repository of what is there; `cuda` depends on all of it."""
        names = sorted(p for p in self.size if p.startswith(top))
        self.add(f"{top}cuda_1.0_amd64.deb", 4000, 5 << 40)
        stanzas = []
        for path in [*names, f"{top}cuda_1.0_amd64.deb"]:
            name = os.path.basename(path).split("_", 1)[0]
            needs = ", ".join(os.path.basename(n).split("_", 1)[0] for n in names)
            with open(self.files + path, "rb") as f:
                data = f.read()
            stanzas.append(
                f"Package: {name}\nVersion: 1.0\nArchitecture: amd64\n"
                f"Maintainer: bench <bench@depot.example>\n"
                + (f"Depends: {needs}\n" if name == "cuda" else "")
                + f"Filename: ./{os.path.basename(path)}\nSize: {len(data)}\n"
                f"SHA256: {hashlib.sha256(data).hexdigest()}\nDescription: for the bench\n")
        packages = "\n".join(stanzas).encode()
        date = email.utils.formatdate(YEAR_AGO, usegmt=True).replace("GMT", "UTC")
        release = (f"Date: {date}\nArchitectures: amd64\nSHA256:\n"
                   f" {hashlib.sha256(packages).hexdigest()} {len(packages)} Packages\n")
        with tempfile.TemporaryDirectory() as directory:
            workshop = repo.Workshop(directory).make_key()
            try:
                signed = workshop.sign_inline(release.encode())
                workshop.export_key(self.key)
            finally:
                workshop.close()
        for name, data in (("Packages", packages), ("InRelease", signed)):
            with open(f"{self.files}{top}{name}", "wb") as out:
                out.write(data)

    def start(self):
        """Large output buffers: with TLS each one is one read and many records."""
        os.makedirs(self.files, exist_ok=True)
        self.make_ca()
        conf = nginx_conf(self.dir, f"""
    keepalive_requests 10000000; keepalive_timeout 300s;
    output_buffers 2 512k;
    open_file_cache max={min(50000, nofile() * 3 // 4)} inactive=300s; open_file_cache_valid 300s;
    log_format count '$request_method $uri $status $body_bytes_sent';
    server {{
        listen 127.0.0.1:{self.port} ssl backlog=4096; listen 127.0.0.1:{self.plain_port};
        ssl_certificate leaf.pem; ssl_certificate_key leaf.key;
        ssl_session_cache shared:tls:8m;
        root {self.files};
        location / {{ expires 7d; }}
        location /idx/ {{ }}
        location /huge/ {{ expires 7d; access_log {self.log} count; }}
    }}""")
        self.process = nginx_start(self.dir, conf)
        self.process.wait_port(self.port)

    def stop(self):
        if self.process:
            self.process.stop()

    def log_clear(self):
        """Forget what was counted so far."""
        if os.path.exists(self.log):
            os.truncate(self.log, 0)

    def log_count(self):
        """Requests and body bytes of /huge/ since log_clear; waits until both stand still."""
        seen = None
        for _ in range(40):
            with open(self.log, encoding="ascii") as f:
                lines = [line.split() for line in f]
            now = (len(lines), sum(int(x[3]) for x in lines))
            if now == seen and now[0] > 0:
                break
            seen = now
            time.sleep(0.1)
        return seen


# -- nginx, as origin, peer and TLS hop -----------------------------------------------------------

def nginx_conf(directory, http, events="", main=""):
    """A complete configuration file in `directory`; returns its path."""
    temp = "".join(f"    {x}_temp_path {directory}/tmp-{x};\n"
                   for x in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    text = f"""daemon off; pid {directory}/nginx.pid; error_log {directory}/error.log crit;
{"user root;" if os.getuid() == 0 else ""}
worker_processes {os.cpu_count()}; worker_rlimit_nofile {nofile()};
{main}
events {{ worker_connections {min(nofile(), 16384)}; multi_accept on; {events} }}
http {{
    access_log off; server_tokens off; default_type application/octet-stream;
    # tcp_nopush costs a third more CPU on loopback, and one answer in ten waits 40 ms for an ACK.
    sendfile on; tcp_nopush off; tcp_nodelay on;
{temp}{http}
}}
"""
    os.makedirs(directory, exist_ok=True)
    path = os.path.join(directory, "nginx.conf")
    with open(path, "w", encoding="ascii") as f:
        f.write(text)
    return path


def nginx_start(directory, conf):
    """Run nginx in the foreground with that file."""
    return Process([tool("nginx"), "-c", conf, "-p", directory, "-e", f"{directory}/error.log"],
                   os.path.join(directory, "nginx.log"))


def nofile():
    """Descriptors a process may have."""
    import resource
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def tool(name):
    """Where a program is; daemons live in sbin, which is not on everybody's path."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin:/sbin")


# -- servers under test ---------------------------------------------------------------------------

class Server:
    """What every server offers to the scenarios. A scenario may keep it running over rounds."""

    name = ""
    program = ""
    prefix = ""                   # before the origin's path in a request target
    keeps_cache = True            # over a restart

    def __init__(self, env, number):
        self.env = env
        self.port = env.port(10 + number)
        self.hop_port = env.port(40 + number)
        self.dir = os.path.join(env.dir, self.name)
        self.processes = []
        self.checked_big = False

    @classmethod
    def find(cls, env):
        """The program, or None."""
        return tool(cls.program)

    def target(self, path):
        return self.prefix + path

    def cache_dir(self):
        return os.path.join(self.dir, "cache")

    def clear(self):
        """An empty cache; the disk is given time to forget the old one."""
        self.discard()
        os.makedirs(self.cache_dir())
        os.sync()

    def discard(self):
        """
        Puts the old cache aside. Its large bodies go; thousands of small ones only at the end:
        ext4 passes over each inode that was freed within minutes when it makes a file, for
        everybody.
        """
        if not os.path.isdir(self.dir):
            return
        for directory, _dirs, names in os.walk(self.dir):
            for name in names:
                path = os.path.join(directory, name)
                if os.path.isfile(path) and os.path.getsize(path) >= MIB:
                    os.unlink(path)
        os.rename(self.dir, os.path.join(self.env.trash(), str(time.monotonic_ns())))

    def start(self, fresh=False, origin_port=None, **options):
        """Start and wait until it answers."""
        if fresh or not os.path.isdir(self.cache_dir()):
            self.clear()
        self.launch(origin_port or self.env.origin.port, options)
        self.processes[-1].wait_port(self.port)

    def launch(self, origin_port, options):
        raise NotImplementedError

    def run(self, *argv, env=None):
        self.processes.append(Process(list(argv), os.path.join(self.dir, "log"), env))

    def stop(self):
        while self.processes:
            self.processes.pop().stop()

    def pids(self):
        return [pid for p in self.processes for pid in process_tree(p.popen.pid)]

    def cpu_s(self):
        return process_cpu_s(self.pids())

    def cpu_settled_s(self):
        """CPU time once it stands still: digests and write-out behind the last byte count."""
        last = self.cpu_s()
        for _ in range(40):
            time.sleep(0.1)
            now = self.cpu_s()
            if now - last < 0.002:
                break
            last = now
        return now

    def memory(self):
        return process_memory(self.pids())

    def get(self, path, headers=None, timeout=30):
        """Status, body and header fields of one request, with Python's client."""
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            c.putrequest("GET", self.target(path), skip_accept_encoding=True)
            for name, value in (headers or {}).items():
                c.putheader(name, value)
            c.endheaders()
            r = c.getresponse()
            return r.status, r.read(), r
        except (OSError, http.client.HTTPException) as e:
            raise BenchError(f"no answer: {e!r}") from e
        finally:
            c.close()

    def check(self, paths=("/small/pkg-003_1.0_amd64.deb", "/small/pkg-008_1.0_amd64.deb")):
        """It must give the origin's bytes, cold and warm, before anything it does is counted."""
        for path in paths:
            with open(self.env.origin.files + path, "rb") as f:
                expected = hashlib.sha256(f.read()).digest()
            for _ in range(2):
                status, body, _r = self.get(path)
                if status != 200 or hashlib.sha256(body).digest() != expected:
                    raise BenchError(f"wrong answer: {status}, {len(body)} bytes for {path}")


    def check_big(self, path):
        """The same for one large body, once a run, warm only: it takes a while."""
        if self.checked_big:
            return
        digests = []
        for url in (f"http://127.0.0.1:{self.port}{self.target(path)}",
                    f"file://{self.env.origin.files}{path}"):
            digests.append(subprocess.run(
                ["sh", "-c", 'curl -sS --path-as-is "$1" | sha256sum', "sh", url], check=True,
                stdout=subprocess.PIPE, env={"PATH": os.environ["PATH"]}).stdout)
        if digests[0] != digests[1]:
            raise BenchError(f"wrong bytes for {path}")
        self.checked_big = True


class Depot(Server):
    name = "apt-depot"
    prefix = f"/HTTPS///{HOST}"

    @classmethod
    def find(cls, env):
        return env.binary if os.access(env.binary, os.X_OK) else None

    def launch(self, origin_port, options):
        values = {"listen": f"127.0.0.1:{self.port}", "cache_dir": self.cache_dir(),
                  "allow_addresses": "127.0.0.0/8", "allow_ports": "any", "https_upgrade": "",
                  "ca_file": self.env.origin.ca, "log_level": "warning",
                  "connect_to": f"{HOST}:443:127.0.0.1:{origin_port}"}
        values.update(options.get("depot", {}))
        options = [x for k, v in values.items() for x in ("-o", f"{k}={v}")]
        self.run(self.env.binary, "serve", *options)


    def wait_metric(self, name, least, wait_s=60):
        """Wait until this counter is that high."""
        end = time.monotonic() + wait_s
        while time.monotonic() < end:
            c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            c.request("GET", "/-/metrics")
            lines = [x.split() for x in c.getresponse().read().decode().splitlines()]
            c.close()
            if any(x[0] == f"apt_depot_{name}" and float(x[-1]) >= least for x in lines if x):
                return
            time.sleep(0.01)
        raise BenchError(f"{name} did not come to {least}")

    def kill(self):
        """As a crash ends it."""
        while self.processes:
            process = self.processes.pop()
            os.killpg(process.popen.pid, signal.SIGKILL)
            process.popen.wait()


class Nginx(Server):
    name = "nginx"
    program = "nginx"
    slice_bytes = 0

    def launch(self, origin_port, options):
        workers = options.get("workers")
        proxy = f"""
        proxy_pass https://origin; proxy_http_version 1.1; proxy_set_header Connection "";
        proxy_set_header Host {HOST};
        proxy_ssl_name {HOST}; proxy_ssl_server_name on; proxy_ssl_session_reuse on;
        proxy_ssl_verify on; proxy_ssl_trusted_certificate {self.env.origin.ca};
        proxy_buffer_size 16k; proxy_buffers 16 128k; proxy_busy_buffers_size 512k;"""
        key = "proxy_cache_key $uri; proxy_cache_valid 200 1d;"
        if self.slice_bytes:
            key = f"""slice {self.slice_bytes}; proxy_cache_key $uri$slice_range;
        proxy_set_header Range $slice_range; proxy_cache_valid 200 206 1d;"""
        conf = nginx_conf(self.dir, f"""
    keepalive_requests 10000000; keepalive_timeout 300s;
    open_file_cache max={min(50000, nofile() * 3 // 4)} inactive=300s; open_file_cache_valid 300s;
    proxy_cache_path {self.cache_dir()} levels=1:2 keys_zone=bench:64m max_size=40g inactive=1d
        use_temp_path=off;
    upstream origin {{
        server 127.0.0.1:{origin_port};
        keepalive 128; keepalive_requests 10000000; keepalive_timeout 300s;
    }}
    server {{
        listen 127.0.0.1:{self.port} backlog=4096;
        {"aio threads;" if options.get("cold_disk") else ""}
        proxy_cache bench;
        proxy_cache_lock on; proxy_cache_lock_timeout 1h; proxy_cache_lock_age 1h;
        location / {{{proxy}
        {key}
        }}
        location /idx/ {{{proxy}
            proxy_cache_key $uri; proxy_cache_valid 200 1s; proxy_cache_revalidate on;
            proxy_cache_use_stale updating error timeout; proxy_cache_background_update on;
        }}
    }}""")
        if workers:
            with open(conf, encoding="ascii") as f:
                text = f.read().replace(f"worker_processes {os.cpu_count()}",
                                        f"worker_processes {workers}")
            with open(conf, "w", encoding="ascii") as f:
                f.write(text)
        self.processes.append(nginx_start(self.dir, conf))


class NginxSlice(Nginx):
    name = "nginx-slice"
    slice_bytes = 4 * MIB


class Acng(Server):
    name = "apt-cacher-ng"
    program = "apt-cacher-ng"
    prefix = "/bench"

    def launch(self, origin_port, options):
        # Its TLS has no way to reach a name at another address, so the origin is localhost here.
        conf = os.path.join(self.dir, "conf")
        os.makedirs(conf, exist_ok=True)
        with open(os.path.join(conf, "acng.conf"), "w", encoding="ascii") as f:
            f.write(f"""CacheDir: {self.cache_dir()}
LogDir: {self.dir}
SocketPath: {self.dir}/socket
PidFile: {self.dir}/pid
Port: {self.port}
BindAddress: 127.0.0.1
ForeGround: 1
VerboseLog: 0
Debug: 0
ConnectProto: v4
CAfile: {self.env.origin.ca}
ReuseConnections: 1
PipelineDepth: 255
ExThreshold: 4
Remap-bench: /bench ; https://localhost:{origin_port}/
""")
        self.run(tool("apt-cacher-ng"), "-c", conf)


class Varnish(Server):
    name = "varnish"
    program = "varnishd"
    keeps_cache = False

    def launch(self, origin_port, options):
        # Varnish speaks no TLS to an origin: an nginx does it, and its CPU time counts too.
        hop = os.path.join(self.dir, "hop")
        conf = nginx_conf(hop, f"""
    keepalive_requests 10000000; keepalive_timeout 300s;
    upstream origin {{
        server 127.0.0.1:{origin_port};
        keepalive 128; keepalive_requests 10000000; keepalive_timeout 300s;
    }}
    server {{
        listen 127.0.0.1:{self.hop_port} backlog=4096;
        location / {{
            proxy_pass https://origin; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_set_header Host {HOST};
            proxy_ssl_name {HOST}; proxy_ssl_server_name on; proxy_ssl_session_reuse on;
            proxy_ssl_verify on; proxy_ssl_trusted_certificate {self.env.origin.ca};
            proxy_buffer_size 16k; proxy_buffers 16 128k; proxy_busy_buffers_size 512k;
            proxy_max_temp_file_size 0;
        }}
    }}""")
        self.processes.append(nginx_start(hop, conf))
        vcl = os.path.join(self.dir, "bench.vcl")
        with open(vcl, "w", encoding="ascii") as f:
            f.write(f"""vcl 4.1;
backend hop {{ .host = "127.0.0.1"; .port = "{self.hop_port}"; }}
sub vcl_recv {{ return (hash); }}
sub vcl_backend_response {{
    set beresp.ttl = 1d;
    if (bereq.url ~ "^/idx/") {{
        set beresp.ttl = 1s; set beresp.grace = 1h; set beresp.keep = 1h;
    }}
}}
""")
        self.processes[-1].wait_port(self.hop_port)
        memory = min(8, max(1, self.env.memory_bytes // (3 << 30)))
        self.run(tool("varnishd"), "-F", "-j", "none", "-n", os.path.join(self.dir, "work"),
                 "-a", f"127.0.0.1:{self.port}", "-f", vcl, "-s", f"malloc,{memory}G",
                 "-p", "thread_pool_min=200", "-p", "thread_pool_max=2000",
                 "-p", "fetch_chunksize=1m", "-p", "timeout_idle=300",
                 "-p", "listen_depth=4096")


class Haproxy(Server):
    """A bare relay, to compare a tunnel with: it has no cache and no host but one."""

    name = "haproxy"
    program = "haproxy"

    def launch(self, origin_port, options):
        conf = os.path.join(self.dir, "haproxy.cfg")
        with open(conf, "w", encoding="ascii") as f:
            f.write(f"""global
    nbthread {os.cpu_count()}
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen relay
    bind 127.0.0.1:{self.port}
    server source 127.0.0.1:{options["relay_to"]}
""")
        self.run(tool("haproxy"), "-db", "-f", conf)

    def check(self, paths=()):
        """It has no pages."""


SERVERS = [Depot, Nginx, NginxSlice, Acng, Varnish, Haproxy]
