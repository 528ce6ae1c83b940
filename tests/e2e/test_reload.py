# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""SIGHUP: what a running depot takes from its configuration file, and what it leaves for a restart."""
import base64
import os
import shutil
import signal

from body import Pattern
from client import expect_body, expect_error, make_request
from origin import Answer
from support import Later, Skip

URL = "https://cuda.example/x.deb"


def file_depot(env, **options):
    """A running depot whose options stand in a file."""
    depot = env.new_depot(**options)
    depot.use_file()
    return depot.start()


def test_who_and_what_is_allowed(env):
    """The access lists: for what is asked from then on, hits included."""
    env.origin.serve("/x.deb", b"data")
    depot = file_depot(env)
    expect_body(depot.fetch(URL), b"data")
    depot.wait_idle()
    for option, value, was in (("deny_upstreams", "cuda.example", ""),
                               ("allow_upstreams", "*.other", "*"),
                               ("allow_ports", "80", "any")):
        depot.reload(**{option: value})
        expect_error(depot.fetch(URL), 403)
        depot.wait_log(f"in effect: {option}")
        depot.reload(**{option: was})
        expect_body(depot.fetch(URL), b"data")
    env.origin.serve("/y.deb", b"more")
    depot.reload(deny_addresses="127.0.0.1")
    expect_error(depot.fetch("https://cuda.example/y.deb"), 403, words=["deny_addresses"])
    depot.reload(deny_addresses="", connect="refuse")
    expect_body(depot.fetch("https://cuda.example/y.deb"), b"more")
    expect_error(depot.get("cuda.example:443", method="CONNECT"), 403, words=["connect"])
    depot.use_file(allow_clients="127.0.0.2")
    with depot.conn() as held:
        expect_body(held.get("http://HTTPS///cuda.example/x.deb"), b"data")
        depot.process.send_signal(signal.SIGHUP)
        depot.wait_log("in effect: allow_clients")
        expect_body(held.get("http://HTTPS///cuda.example/x.deb"), b"data")     # it was let in
    expect_error(depot.fetch(URL), 403, words=["allow_clients"])


def test_the_way_upstream(env):
    """Where hosts are found, whom they trust, whose credentials they get, how long they may take."""
    env.origin.serve("/x.deb", b"data")
    env.origin.serve("/guarded.deb", lambda request: Answer(b"secret") if request.get("Authorization")
                     else Answer(b"who are you", status=401))
    env.origin.serve("/silent.deb", Answer(b"data", gate=env.origin.gate()))
    connect_to = env.new_depot().options["connect_to"]
    ca = os.path.join(env.path, "ca.pem")
    shutil.copy(env.certificates.file("unknown-ca.pem"), ca)
    depot = file_depot(env, connect_to="cuda.example:443:127.0.0.1:1", ca_file=ca)
    expect_error(depot.fetch(URL), 502)
    depot.reload(connect_to=connect_to)
    expect_error(depot.fetch(URL), 502, words=["ca_file"])
    # Another file under the same name is another authority.
    shutil.copy(env.certificates.ca, ca)
    depot.reload()
    expect_body(depot.fetch(URL), b"data")
    guarded = "https://cuda.example/guarded.deb"
    expect_error(depot.fetch(guarded), 401)
    auth = os.path.join(env.path, "auth.conf")
    with open(auth, "w", encoding="utf-8", opener=lambda p, f: os.open(p, f, 0o600)) as out:
        out.write("machine cuda.example login ann password word\n")
    depot.sections = f'\n[upstream "cuda.example"]\nauth = {auth}\n' \
        '\n[upstream "one.example"]\nread_timeout = 100ms\n'
    depot.reload()
    depot.wait_log("in effect: [upstream] sections")
    expect_body(depot.fetch(guarded), b"secret")
    want = "Basic " + base64.b64encode(b"ann:word").decode()
    assert env.origin.requests("/guarded.deb")[-1].get("Authorization") == want
    expect_error(depot.fetch("https://one.example/silent.deb"), 504)
    depot.reload(https_upgrade="cuda.example", offline="yes")
    expect_body(depot.fetch("http://cuda.example/x.deb"), b"data")
    expect_error(depot.fetch("https://cuda.example/new.deb"), 504, words=["offline"])


def test_trust_that_is_withdrawn(env):
    """Neither a kept connection nor a session of before stands for a CA that is trusted no more."""
    ca = os.path.join(env.path, "ca.pem")
    shutil.copy(env.certificates.ca, ca)
    depot = file_depot(env, ca_file=ca)
    for n, kept in enumerate((True, False)):
        for name in "abc":
            env.origin.serve(f"/{name}{n}.deb", b"data")
        expect_body(depot.fetch(f"https://cuda.example/a{n}.deb"), b"data")
        if not kept:
            env.origin.stop()
            env.origin.start_again()
        shutil.copy(env.certificates.file("unknown-ca.pem"), ca)
        depot.reload()
        expect_error(depot.fetch(f"https://cuda.example/b{n}.deb"), 502, words=["ca_file"])
        shutil.copy(env.certificates.ca, ca)
        depot.reload()
        expect_body(depot.fetch(f"https://cuda.example/c{n}.deb"), b"data")


def test_limits_and_budget(env):
    """What a client may take, how many there may be, how much is kept."""
    env.origin.serve("/x.deb", b"data")
    depot = file_depot(env)
    expect_body(depot.fetch(URL), b"data")
    depot.wait_idle()
    depot.reload(client_rate=1)
    with depot.conn(source="127.0.0.7") as conn:
        conn.send(make_request("http://HTTPS///cuda.example/x.deb") * 20)
        answers = [conn.read().status for _ in range(20)]
    # More than one is let through only where the machine stood still for a second.
    assert answers[0] == 200 and 429 in answers and set(answers) == {200, 429}, answers
    depot.options["client_rate"] = None
    depot.use_file(max_connections=1)
    depot.process.send_signal(signal.SIGHUP)
    depot.wait_log("in effect: max_connections")
    with depot.conn() as first:
        expect_body(first.get("http://HTTPS///cuda.example/x.deb"), b"data")
        expect_error(depot.fetch(URL), 503)
    depot.use_file(max_connections=100, cache_max=0)
    depot.process.send_signal(signal.SIGHUP)
    depot.wait_log("in effect: cache_max, max_connections")
    depot.wait_counter("cache_blobs", "==", 0)


def test_what_needs_a_restart_is_said(env):
    """And stays as it was; a mistake anywhere leaves everything as it was."""
    env.origin.serve("/x.deb", b"data")
    depot = file_depot(env, workers=1)
    depot.reload(workers=2, listen=f"127.0.0.1:{depot.port + 1}", deny_upstreams="cuda.example")
    depot.wait_log("reload: in effect: deny_upstreams")
    depot.wait_log("reload: needs a restart, the old value stays: listen, workers")
    expect_error(depot.fetch(URL), 403)
    depot.reload(deny_upstreams="", good=False, read_timeout="soon", no_such_key=1)
    depot.wait_log("reload:", f"{depot.config_path}:", 'read_timeout: "soon" is not a time')
    depot.wait_log("unknown option", "no_such_key")
    depot.wait_log("the configuration is kept as it was")
    expect_error(depot.fetch(URL), 403)
    depot.options["no_such_key"] = depot.options["listen"] = None
    depot.options["listen"] = f"127.0.0.1:{depot.port}"
    depot.reload(read_timeout="5s")
    expect_body(depot.fetch(URL), b"data")
    depot.reload(workers=1)
    depot.reload()
    depot.wait_log("nothing in the configuration has changed")


def test_a_log_that_cannot_be_opened(env):
    """A mistake like others: nothing is in effect, neither the other log nor what else was changed."""
    env.origin.serve("/x.deb", b"data")
    depot = file_depot(env)
    other = os.path.join(depot.path, "other.log")
    depot.reload(good=False, deny_upstreams="cuda.example", log_file=other,
                 access_log="/nonexistent/access.log")
    depot.wait_log("access_log = /nonexistent/access.log: No such file", "name a file in a directory")
    depot.wait_log("the configuration is kept as it was")
    assert "in effect" not in depot.log_text()
    expect_body(depot.fetch(URL), b"data")
    assert depot.wait_access("x.deb") and not os.path.getsize(other)


def test_a_log_out_of_the_sandbox(env):
    """A directory that was not named at the start: that only a restart helps is said."""
    env.origin.serve("/x.deb", b"data")
    outside = os.path.join(env.path, "outside")
    os.mkdir(outside)
    depot = file_depot(env)
    if "no Landlock" in depot.wait_log("sandbox: "):
        raise Skip("Landlock does not work here")
    depot.reload(good=False, deny_upstreams="cuda.example", log_file=f"{outside}/new.log")
    depot.wait_log(f"log_file = {outside}/new.log: Permission denied", "the sandbox", "restart")
    expect_body(depot.fetch(URL), b"data")
    depot.restart()
    expect_error(depot.fetch(URL), 403)


def test_reload_under_load(env):
    """Transfers go on while everything is exchanged under them, again and again."""
    body = Pattern(4 << 20)
    gate = env.origin.gate()
    env.origin.serve("/big.deb", Answer(body, gate=gate, held_at=1 << 20))
    env.origin.serve("/x.deb", b"data")
    depot = file_depot(env, upstream_connections=4)
    big = Later(lambda: depot.fetch("https://cuda.example/big.deb", expect=body))
    depot.wait_counter("upstream_active", "==", 1)
    rounds = 8

    def ask():
        for n in range(5 * rounds):
            expect_body(depot.fetch(URL if n % 2 else "https://one.example/x.deb"), b"data")
    askers = [Later(ask) for _ in range(3)]
    for n in range(rounds):
        depot.sections = f'\n[upstream "*.example"]\nread_timeout = {20 + n}s\n'
        depot.reload(allow_ports="any" if n % 2 else "any, 80",
                     client_bandwidth="1G" if n % 2 else "0", index_max_age=n)
    for asker in askers:
        asker.result()
    gate.open()
    assert big.result().complete
    depot.wait_idle()
