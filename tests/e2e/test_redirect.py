# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""listen_transparent: connections that a firewall redirects here, in network namespaces.

Each test moves into a network of its own, with a client in another one and a real REDIRECT rule
between them.  The client believes that it talks to 203.0.113.7.
"""
import ctypes
import os
import shutil
import socket
import subprocess
import time

import pki
import ports
from body import Pattern
from client import Conn, expect_body, expect_error
from depot import SLOW, wait_until
from support import Skip
from tlsclient import ca_file

HOST = "cuda.example"
ROUTER, CLIENT, FAR = "10.99.0.1", "10.99.0.2", "203.0.113.7"
CLONE_NEWNET = 0x40000000


def run(*args, check=True):
    """A command that sets up the network."""
    done = subprocess.run(args, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise Skip(f"{' '.join(args)}: {done.stderr.strip()}")
    return done


class Net:
    """The test's network and the client's; made before anything that listens."""

    def __init__(self):
        for name in ("ip", "iptables", "nsenter", "unshare", "curl"):
            if not shutil.which(name):
                raise Skip(f"{name} is not installed")
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNET) != 0:
            raise Skip(f"no network namespaces: {os.strerror(ctypes.get_errno())}")
        run("ip", "link", "set", "lo", "up")
        self.client = subprocess.Popen(["unshare", "-n", "sleep", "600"])
        mine = os.stat("/proc/self/ns/net").st_ino
        wait_until(lambda: os.stat(f"/proc/{self.client.pid}/ns/net").st_ino != mine,
                   "the client's network")
        run("ip", "link", "add", "here", "type", "veth", "peer", "name", "there")
        run("ip", "link", "set", "there", "netns", str(self.client.pid))
        run("ip", "addr", "add", f"{ROUTER}/24", "dev", "here")
        run("ip", "link", "set", "here", "up")
        for args in (["addr", "add", f"{CLIENT}/24", "dev", "there"], ["link", "set", "there", "up"],
                     ["link", "set", "lo", "up"], ["route", "add", "default", "via", ROUTER]):
            run(*self.inside("ip", *args))

    def inside(self, *args):
        """The command line that runs this at the client."""
        return ["nsenter", "-t", str(self.client.pid), "-n", *args]

    def redirect(self, port, chain="PREROUTING", *match):
        """The rule of an operator."""
        run("iptables", "-t", "nat", "-A", chain, "-p", "tcp", *match, "-m", "multiport",
            "--dports", "80,443", "-j", "REDIRECT", "--to-ports", str(port))

    def curl(self, *args, fails=False):
        """curl at the client, which resolves every name to the same far address."""
        names = [part for name in pki.GOOD_NAMES + ["other.test"] for tcp in (80, 443)
                 for part in ("--resolve", f"{name}:{tcp}:{FAR}")]
        done = subprocess.run(self.inside("curl", "-sS", "--max-time", str(45 * SLOW), "--noproxy",
                                          "*", *names, *args), capture_output=True, check=False)
        if fails:
            assert done.returncode != 0, done.stdout
            return done.returncode
        assert done.returncode == 0, f"curl ended with {done.returncode}: {done.stderr.decode()}"
        return done.stdout

    def raw(self, data, port):
        """What comes back for these bytes, sent from the client without TLS."""
        script = (f"import socket,sys\ns=socket.create_connection(('{FAR}',{port}),45)\n"
                  "s.sendall(sys.stdin.buffer.read())\n"
                  "try:\n"
                  "    while True:\n"
                  "        d=s.recv(65536)\n"
                  "        if not d: break\n"
                  "        sys.stdout.buffer.write(d)\n"
                  "except ConnectionResetError: pass\n")
        return subprocess.run(self.inside("python3", "-c", script), input=data,
                              capture_output=True, check=True, timeout=45 * SLOW).stdout

    def close(self):
        """The client's network goes with its last process."""
        self.client.kill()
        self.client.wait()


def redirected(env, **options):
    """The network, and a depot to which its client's connections are redirected."""
    net = Net()
    port = ports.hold_port()
    depot = env.depot(listen_transparent=f"{ROUTER}:{port}", **options)
    net.redirect(port)
    return net, depot, port


def test_plain_http(env):
    """Host says which; the depot's own paths are the host's; the cache is the same."""
    body = Pattern(1 << 20)
    net, depot, _ = redirected(env, https_upgrade="deb.example")
    try:
        env.origin.serve("/x.deb", body)
        env.origin.serve("/", b"root of the host")
        env.origin.serve("/-/metrics", b"metrics of the host")
        env.origin.serve("/HTTPS/deb.example/x", b"a strange path")
        assert net.curl(f"http://{HOST}/x.deb") == body.bytes()
        depot.wait_idle()
        expect_body(depot.fetch(f"http://{HOST}/x.deb"), body)
        assert len(env.origin.requests("/x.deb")) == 1
        assert net.curl(f"http://{HOST}/") == b"root of the host"
        assert net.curl(f"http://{HOST}/-/metrics") == b"metrics of the host"
        assert net.curl("--path-as-is", f"http://{HOST}/HTTPS///deb.example/x") == \
            b"a strange path"
        assert net.curl("http://deb.example/x.deb") == body.bytes()
        assert env.origin.requests("/x.deb")[-1].tls
        assert b" 400 " in net.raw(b"GET /x HTTP/1.0\r\n\r\n", 80)
        assert b" 405 " in net.raw(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n"
                                     b"Connection: close\r\n\r\n", 80)
        depot.wait_access(f"client={CLIENT} ")
        assert depot.counter("redirected_total") >= 5
    finally:
        net.close()


def test_tls_is_tunnelled_or_intercepted(env):
    """By its server name; the far address is never dialled."""
    body = Pattern(2 << 20)
    net, depot, _ = redirected(env, intercept_hosts="deb.example")
    try:
        env.origin.serve("/x.deb", body)
        trust = ["--cacert", env.certificates.ca]
        assert net.curl(*trust, f"https://{HOST}/x.deb") == body.bytes()
        assert depot.counter("tunnels_total") == 1
        env.origin.forget()
        for _ in range(2):
            assert net.curl("--cacert", ca_file(env, depot), "https://deb.example/x.deb") == \
                body.bytes()
            depot.wait_idle()
        assert len(env.origin.requests("/x.deb")) == 1
        assert depot.counter("tunnels_total") == 1
        assert depot.counter("intercepted_total") == 2
        assert depot.wait_access("method=TLS")
    finally:
        net.close()


def test_what_is_refused(env):
    """No name, an address for a name, denied hosts, other protocols, a stalled hello."""
    net, depot, port = redirected(env, deny_upstreams="deb.example", intercept_hosts="one.example")
    try:
        depot.stop()
        depot.use_file()
        depot.start()
        assert net.curl("-k", f"https://{FAR}/x", fails=True)
        depot.wait_counter("redirected_nameless_total", "==", 1)
        assert net.curl("-k", "https://deb.example/x", fails=True)
        wait_until(lambda: "deny_upstreams" in depot.log_text(), "the reason in the log")
        assert net.raw(b"\x16\x03\x01\x00\x05hello", 443) == b""
        assert b"403" in net.curl("-i", "http://deb.example/x")
        # Straight to the port: its own address is no host.
        with Conn.of(socket.create_connection((ROUTER, port), 10)) as conn:
            conn.ask("/x", host=f"{ROUTER}:{port}")
            expect_error(conn.read(), 508)
        # From here on nobody else is in a hurry.
        depot.reload(client_timeout="2s")
        assert net.raw(b"\x16\x03\x01\x02\x00\x01\x00", 443) == b""
        depot.wait_counter("client_timeouts_total", ">=", 1)
        assert not env.origin.requests()
    finally:
        net.close()


def test_hello_in_pieces(env):
    """A message that comes byte by byte is put together; nothing of it is lost."""
    import ssl  # pylint: disable=import-outside-toplevel
    net, depot, port = redirected(env)
    try:
        trust = ssl.create_default_context(cafile=env.certificates.ca)
        into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = trust.wrap_bio(into, out, server_hostname=HOST)
        with socket.create_connection((ROUTER, port), 45 * SLOW) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    data = out.read()
                    for i in range(0, len(data), 11):
                        sock.sendall(data[i:i + 11])
                        time.sleep(0.001)
                    into.write(sock.recv(65536))
        assert tls.getpeercert()
        depot.wait_counter("tunnels_total", "==", 1)
    finally:
        net.close()


def test_the_depot_itself_is_redirected(env):
    """A rule that also catches the depot's own connections makes no endless circle."""
    net = Net()
    try:
        port = ports.hold_port()
        depot = env.depot(listen_transparent=f":{port}", allow_addresses="0.0.0.0/0",
                          connect_to=["loop.example:443:203.0.113.9:443",
                                      "loop.example:80:203.0.113.9:80"])
        run("ip", "route", "add", "default", "dev", "here")
        net.redirect(port, "OUTPUT", "-d", "203.0.113.0/24")
        expect_error(depot.fetch("https://loop.example/x.deb"), 502)
        wait_until(lambda: "came back to this depot" in depot.log_text(), "the loop in the log")
        assert depot.fetch("http://loop.example/x.deb").status in (502, 508)
        counters = depot.counters()
        assert counters["redirected_total"] < 30, counters["redirected_total"]
        depot.wait_counter("tunnels_open", "==", 0)
    finally:
        net.close()
