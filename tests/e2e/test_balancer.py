# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""conf/haproxy.cfg, with its servers' lines alone replaced: two depots behind one address."""
import contextlib
import os
import re
import shutil
import subprocess

import ports
from aptlike import AptLike
from client import Conn, expect_body
from depot import wait_until
from repo import small_debs
from support import Skip

CONF = os.path.join(os.path.dirname(__file__), "../../conf/haproxy.cfg")
BALANCER = "127.0.0.2"


@contextlib.contextmanager
def balanced(env, *depots):
    """HAProxy before the depots; yields its port."""
    program = shutil.which("haproxy", path=os.environ["PATH"] + ":/usr/sbin")
    if program is None:
        raise Skip("haproxy is not installed")
    port = ports.hold_port()
    with open(CONF, encoding="utf-8") as conf:
        text = conf.read()
    text = text.replace("bind :3142", f"bind 127.0.0.1:{port}")
    servers = iter(depots * text.count("backend "))
    text = re.sub(r"(\tserver depot[12]) .*", lambda m: f"{m[1]} 127.0.0.1:{next(servers).port} "
                  f"source {BALANCER}", text)
    text = re.sub(r"\tserver depot3 .*\n", "", text)
    path = os.path.join(env.path, "haproxy.cfg")
    with open(path, "w", encoding="utf-8") as out:
        out.write(text)
    log = os.path.join(env.path, "haproxy.log")
    with open(log, "w", encoding="utf-8") as out, subprocess.Popen(
            [program, "-db", "-f", path], stdout=out, stderr=out) as process:
        try:
            wait_until(lambda: answers(port), "HAProxy and the depots behind it")
            yield port
        finally:
            process.terminate()


def answers(port):
    """Is there a depot behind the port?"""
    try:
        with Conn(port) as conn:
            return conn.get("/-/healthz").status == 200
    except OSError:
        return False


def test_repository_stays_with_one_depot(env):
    """Each client sees one publication, whatever others ask for meanwhile over the balancer."""
    cdns = [env.flat_cdn(*small_debs(), host=f"{n}.example")
            for n in ("one", "two", "three", "four")]
    depots = tuple(env.depot(proxy_protocol_from=BALANCER, generation_hold="60s")
                   for _ in range(2))
    with balanced(env, *depots) as port:
        old = [AptLike(cdn, port, source="127.0.0.11") for cdn in cdns]
        for client in old:
            client.update()
            for name in client.stanzas:
                client.download(name)
        for cdn in cdns:
            cdn.publish(*small_debs("1", seed=7))  # the same names, other bytes
        new = [AptLike(cdn, port, source="127.0.0.12") for cdn in cdns]
        with contextlib.ExitStack() as connections:
            for client in old + new:
                connections.enter_context(client.connect())
            for late, early in zip(new, old):
                late.update()
                early.fetch_index()
                for name in late.stanzas:
                    late.download(name)
                    early.download(name)
        assert all(client.edition == 0 for client in old)
        assert all(client.edition == 1 for client in new)
    # Each repository was asked for by one of the two, and each of them knows its clients.
    for depot in depots:
        depot.wait_access("client=127.0.0.11 ")
    roots = [depot.counter("generations_current") for depot in depots]
    assert sum(roots) == 4 and min(roots) > 0, roots


def test_bodies_named_by_digest_spread(env):
    """By-hash files come through whichever depot, and right."""
    cdn = env.dists_cdn(*small_debs())
    depots = tuple(env.depot(proxy_protocol_from=BALANCER) for _ in range(2))
    with balanced(env, *depots) as port:
        client = AptLike(cdn, port)
        client.update()
        for name in client.stanzas:
            client.download(name)
        with Conn(port) as conn:
            expect_body(conn.get("/-/healthz"), b"ok\n")
