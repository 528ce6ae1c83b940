# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""The way upstream: parent proxies of every kind, certificates and handshakes that fail, IPv6."""
import os
import shutil
import socket
import ssl
import subprocess
import threading

import ports
from body import Pattern
from client import expect_body, expect_error
from depot import run_command, wait_until
from origin import Answer, redirect
from parent import Parent, server_context
from support import Skip, patient, together

NEEDS_PACKAGES = True
URL = "https://cuda.example/x.deb"
ODD = "d:e@p,o#t%/ ü"
ODD_ESCAPED = "d%3ae%40p%2Co%23t%25%2F%20%C3%BC"


def behind(env, *parents, **options):
    """A depot that knows nothing but its parents."""
    defaults = {"connect_to": None, "allow_addresses": None, "allow_ports": None,
                "parent_proxy": [p if isinstance(p, str) else f"http://127.0.0.1:{p.port}"
                                 for p in parents]}
    return env.depot(**{**defaults, **options})


def test_odd_characters_in_user_and_password(env):
    """Each escape is decoded once, for CONNECT and for plain requests; the log has none of it."""
    env.origin.serve("/x.deb", b"data")
    parent = Parent(env.origin, f"us,er#@1:{ODD}")
    depot = behind(env, f"http://us%2cer%23%401:{ODD_ESCAPED}@127.0.0.1:{parent.port}",
                   log_level="debug")
    expect_body(depot.fetch(URL), b"data")
    expect_body(depot.fetch("http://cuda.example/x.deb"), b"data")
    assert len(parent.heads) == 2
    for request in env.origin.requests():
        assert request.get("Proxy-Authorization") is None, request.head
    text = depot.get("/-/metrics").text + depot.get("/-/").text
    depot.stop()
    text += depot.log_text() + "\n".join(depot.access_lines())
    for secret in (ODD_ESCAPED, "us,er#@1", "us%2cer", "Basic "):
        assert secret not in text, secret
    # What looks like an escape only then is none.
    depot = behind(env, f"http://u%253as:p%2541w@127.0.0.1:{Parent(env.origin, 'u%3as:p%41w').port}")
    expect_body(depot.fetch(URL), b"data")
    expect_body(depot.fetch("http://cuda.example/x.deb"), b"data")


def test_connect_carries_nothing_of_the_request(env):
    """The parent learns host and port; the client's fields are for the origin."""
    env.origin.serve("/x.run", b"data")
    parent = Parent(env.origin)
    depot = behind(env, parent)
    expect_body(depot.fetch("https://cuda.example/x.run", "X-Secret: 1", "Authorization: Basic eDp5",
                            "Proxy-Authorization: Basic cHg6cHg="), b"data")
    (head,) = parent.heads
    assert head.startswith("CONNECT cuda.example:443 HTTP/1.1\r\n"), head
    assert "secret" not in head.lower() and "authorization" not in head.lower(), head
    (request,) = env.origin.requests("/x.run")
    assert request.get("Authorization") == "Basic eDp5"
    assert request.get("Proxy-Authorization") is None


def test_tls_to_the_parent(env):
    """https:// parents: fetches of both kinds, and tunnels; their certificate is verified."""
    env.origin.serve("/x.deb", Pattern(1 << 20))
    env.origin.serve("/y.deb", b"plain")
    chain = env.certificates.file("parent.pem")
    parent = Parent(env.origin, "us:pw", tls=chain)
    depot = behind(env, f"https://us:pw@127.0.0.1:{parent.port}", connect_ports="any")
    expect_body(depot.fetch(URL), Pattern(1 << 20))
    expect_body(depot.fetch("http://cuda.example/y.deb"), b"plain")
    assert [head.split("\r\n")[0] for head in parent.heads] == \
        ["CONNECT cuda.example:443 HTTP/1.1", "GET http://cuda.example/y.deb HTTP/1.1"]
    other = behind(env, f"https://us:pw@127.0.0.1:{parent.port}", ca_file=None)
    expect_error(other.fetch(URL), 502, words=["parent proxy's certificate", "apt-depot test CA",
                                               "ca_file"])
    plain = Parent(env.origin)
    third = behind(env, f"https://127.0.0.1:{plain.port}")
    expect_error(third.fetch(URL), 502, words=["TLS handshake with the parent proxy"])


def test_tunnels_through_tls_to_the_parent(env):
    """CONNECT through an https:// parent: 4 MiB each way, half-close, ends that are noticed."""
    up, down = Pattern(4 << 20, seed=1), Pattern(4 << 20, seed=2)
    got = []
    listener = ports.listen()

    def serve():
        sock, _ = listener.accept()
        with sock:
            sock.settimeout(25)
            left = len(up)
            parts = []
            while left > 0:
                parts.append(sock.recv(65536))
                left -= len(parts[-1])
                assert parts[-1]
            got.append(b"".join(parts))
            sock.sendall(down.bytes())
    threading.Thread(target=serve, daemon=True).start()
    parent = Parent(env.origin, tls=env.certificates.file("parent.pem"))
    depot = behind(env, f"https://127.0.0.1:{parent.port}", connect_ports="any")
    port = listener.getsockname()[1]
    with depot.conn() as conn:
        conn.send(f"CONNECT far.example:{port} HTTP/1.1\r\nHost: far.example:{port}\r\n\r\n")
        assert conn.read_head().status == 200
        conn.send(up.bytes())
        assert conn.read_exactly(len(down)) == down.bytes()
        assert conn.ended()
    assert got == [up.bytes()]
    assert parent.heads[0].startswith(f"CONNECT far.example:{port} ")
    depot.wait_counter("tunnels_open", "==", 0)


def test_tunnel_that_a_tls_parent_takes_nothing_of(env):
    """Its client gone, it ends after client_timeout, though bytes for the parent are left."""
    listener = ports.listen()
    held = []

    def serve():
        while True:
            held.append(listener.accept())
    threading.Thread(target=serve, daemon=True).start()
    parent = Parent(env.origin, tls=env.certificates.file("parent.pem"))
    depot = behind(env, f"https://127.0.0.1:{parent.port}", connect_ports="any",
                   client_timeout="1s")
    port = listener.getsockname()[1]
    before = depot.descriptors()
    with depot.conn() as conn:
        conn.send(f"CONNECT far.example:{port} HTTP/1.1\r\nHost: far.example:{port}\r\n\r\n")
        assert conn.read_head().status == 200
        conn.sock.settimeout(0.5)
        try:
            while True:
                conn.sock.sendall(b"x" * 65536)
        except OSError:
            pass
    depot.wait_counter("tunnels_open", "==", 0)
    wait_until(lambda: depot.descriptors() <= before, "the way to the parent is closed")


def test_inspecting_parent(env):
    """A parent that breaks TLS open: refused by its issuer's name; with its CA in ca_file, served."""
    env.origin.serve("/x.deb", b"data")
    parent = Parent(env.origin, "us:pw", intercept=env.certificates.file("corp.pem"))
    url = f"http://us:pw@127.0.0.1:{parent.port}"
    depot = behind(env, url)
    expect_error(depot.fetch(URL), 502, words=["Example Corp TLS Inspection", "ca_file",
                                               "cuda.example"])
    assert not env.origin.requests()
    trusting = behind(env, url, ca_file=env.certificates.file("corp-ca.pem"))
    expect_body(trusting.fetch(URL), b"data")
    assert parent.inner_heads and "proxy-authorization" not in parent.inner_heads[0].lower()


def test_parents_in_turn(env):
    """Refused, 407, 502: the next one at once; a dead one is not asked by each request."""
    env.origin.serve("/x.deb", b"data")
    for n in range(8):
        env.origin.serve(f"/{n}.deb", b"data")
    strict, refusing = Parent(env.origin, "second:pw"), Parent(env.origin, "us:pw")
    good = f"http://second:pw@127.0.0.1:{strict.port}"
    cases = {"refused": f"http://127.0.0.1:{ports.hold_port()}",
             "407": f"http://us:wrong@127.0.0.1:{refusing.port}", "502": Parent(env.origin, refuse=502),
             "garbage": Parent(env.origin, tls=env.certificates.file("parent.pem"))}
    for name, first in cases.items():
        depot = behind(env, first, good)
        expect_body(depot.fetch(URL), b"data")
        assert depot.counter("parent_switches_total") == 1, name
        depot.stop()
    depot = behind(env, f"http://127.0.0.1:{ports.hold_port()}", cases["407"], good)
    before = refusing.accepted
    for n in range(8):
        expect_body(depot.fetch(f"https://cuda.example/{n}.deb"), b"data")
    assert refusing.accepted == before + 1
    assert len([head for head in refusing.heads if "Basic dXM6d3Jvbmc=" in head]) == before + 1
    counters = depot.counters()
    assert counters["parent_failures_total"] == 2 and counters["parent_switches_total"] == 2
    depot.wait_log("can't be used")


def test_parents_in_turn_for_plain_http(env):
    """The same for clear-text objects."""
    env.origin.serve("/x.deb", b"data")
    good = Parent(env.origin)
    for first in (f"http://127.0.0.1:{ports.hold_port()}", Parent(env.origin, "us:pw"),
                  Parent(env.origin, refuse=503)):
        depot = behind(env, first, good)
        expect_body(depot.fetch("http://cuda.example/x.deb"), b"data")
        depot.stop()


def test_wrong_credentials_for_plain_http(env):
    """407 to a plain request: it is passed over, and does not count as working again."""
    env.origin.serve("/x.deb", b"data")
    strict = Parent(env.origin, "us:pw")
    alone = behind(env, strict)
    for _ in range(3):
        expect_error(alone.fetch("http://cuda.example/x.deb"), 502, words=["407", "parent_proxy"])
    alone.stop()
    assert alone.log_text().count("can't be used") == 1, alone.log_text()
    assert "works again" not in alone.log_text()


@patient
def test_parent_that_takes_requests_and_hangs(env):
    """A plain request that a parent never answers goes to the next one."""
    env.origin.serve("/x.deb", b"data")
    depot = behind(env, Parent(env.origin, hang="request"), Parent(env.origin),
                   read_timeout="1s")
    expect_body(depot.fetch("http://cuda.example/x.deb"), b"data")
    assert depot.counter("parent_switches_total") == 1
    assert depot.counter("parent_failures_total") == 0


@patient
def test_parent_that_hangs(env):
    """It takes connections and says nothing: the next one after connect_timeout, then at once."""
    for n in range(4):
        env.origin.serve(f"/{n}.deb", b"data")
    hanging = Parent(env.origin, hang="accept")
    depot = behind(env, hanging, Parent(env.origin), connect_timeout="700ms")
    for n in range(4):
        expect_body(depot.fetch(f"https://cuda.example/{n}.deb"), b"data")
    assert hanging.accepted == 2, hanging.accepted
    alone = behind(env, hanging, connect_timeout="500ms")
    expect_error(alone.fetch(URL), 504, words=["parent proxy", "CONNECT", "connect_timeout"])


def test_direct_is_the_last_choice(env):
    """Only where the list says so, and only when no parent can be used."""
    env.origin.serve("/x.deb", b"data")
    dead = f"http://127.0.0.1:{ports.hold_port()}"
    options = {"allow_addresses": "127.0.0.0/8", "allow_ports": "any"}
    names = [f"cuda.example:443:127.0.0.1:{env.origin.tls_port}"]
    depot = behind(env, dead, "direct", connect_to=names, **options)
    expect_body(depot.fetch(URL), b"data")
    strict = behind(env, dead, connect_to=names, **options)
    expect_error(strict.fetch(URL), 502, words=["parent proxy", "parent_proxy"])
    # A parent's refusal is its word, and no reason to go past it.
    firm = behind(env, Parent(env.origin, refuse=403), "direct", connect_to=names, **options)
    expect_error(firm.fetch(URL), 502, words=["refused to connect", "403", "no_proxy"])


def test_tunnels_take_the_next_parent_too(env):
    """CONNECT from a client: a parent that refuses connections is passed over."""
    good = Parent(env.origin)
    depot = behind(env, f"http://127.0.0.1:{ports.hold_port()}", good)
    with depot.conn() as conn:
        conn.send("CONNECT cuda.example:443 HTTP/1.1\r\nHost: cuda.example:443\r\n\r\n")
        assert conn.read_head().status == 200
        context = ssl.create_default_context(cafile=env.certificates.ca)
        env.origin.serve("/x.deb", b"data")
        with context.wrap_socket(conn.sock, server_hostname="cuda.example") as tls:
            tls.sendall(b"GET /x.deb HTTP/1.1\r\nHost: cuda.example\r\nConnection: close\r\n\r\n")
            assert b"200" in tls.recv(4096)


def test_no_proxy_forms(env):
    """Names with their domains, addresses, CIDRs; nothing that merely ends like it."""
    env.origin.serve("/x.deb", b"data")
    parent = Parent(env.origin, refuse=403)
    listed = f"http://127.0.0.1:{parent.port}"
    port = env.origin.plain_port
    for no_proxy, url, is_direct in (
            ("example", URL, True), (".example", URL, True), ("cuda.example", URL, True),
            ("*.example", URL, True), ("uda.example", URL, False), ("*", URL, True),
            ("127.0.0.0/8", f"http://127.0.0.1:{port}/x.deb", True),
            ("127.0.0.1", f"http://127.1:{port}/x.deb", True),
            ("10.0.0.0/8", f"http://127.0.0.1:{port}/x.deb", False)):
        depot = env.depot(no_proxy=no_proxy, parent_proxy=listed)
        response = depot.fetch(url)
        assert (response.status == 200) == is_direct, (no_proxy, url, response)
        depot.stop()


def test_parent_that_is_this_depot(env):
    """A circle is noticed, not run through until descriptors are out."""
    depot = env.new_depot(connect_to=None)
    depot.options["parent_proxy"] = f"http://127.0.0.1:{depot.port}"
    depot.start()
    expect_error(depot.fetch(URL), 502, 508, words=["127.0.0.1"])
    assert depot.counter("connections_accepted_total") < 20


def test_circle_over_two_depots(env):
    """Each is the other's parent: the second visit is refused, for fetches and for tunnels."""
    first, second = env.new_depot(connect_to=None), env.new_depot(connect_to=None)
    first.options["parent_proxy"] = f"http://127.0.0.1:{second.port}"
    second.options["parent_proxy"] = f"http://127.0.0.1:{first.port}"
    first.start()
    second.start()
    expect_error(first.fetch(URL), 502, 508)
    expect_error(first.fetch("http://cuda.example/x.deb"), 502, 508)
    for depot in (first, second):
        assert depot.counter("connections_accepted_total") < 60


def test_names_behind_a_parent(env):
    """Private addresses and local names are refused there as well; other names are its business."""
    env.origin.serve("/x.deb", b"data")
    depot = behind(env, Parent(env.origin))
    for host in ("127.0.0.1", "2130706433", "0x7f.1", "017700000001", "127.1", "localhost",
                 "LOCALHOST.", "a.localhost", "ip6-localhost", "localhost.localdomain", "10.0.0.1",
                 "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]", "[64:ff9b::a00:1]",
                 "[2002:7f00:1::]", "user@127.0.0.1", "cuda.example@127.0.0.1"):
        expect_error(depot.get(f"http://{host}/x.deb"), 403, words=["allow_addresses"])
    for host in ("[fe80::1%25eth0]", "127.0.0.1%2e", "127.0.0.1%00.example", "a..b", "\xb2130706433"):
        expect_error(depot.get(f"http://{host}/x.deb"), 400, 404)
    expect_body(depot.fetch("http://intranet.example/x.deb"), b"data")
    env.origin.serve("/away.deb", redirect("http://localhost/x.deb"))
    expect_error(depot.fetch("http://cuda.example/away.deb"), 403, words=["allow_addresses"])


# ---- certificates and handshakes ----


def tls_server(handle, context, clear=False):
    """Serves each connection with handle(tls_socket); clear: without TLS. Returns its port."""
    listener = ports.listen()

    def run(sock):
        try:
            with sock if clear else context.wrap_socket(sock, server_side=True) as tls:
                handle(tls)
        except OSError:
            pass

    def accept():
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=run, args=(sock,), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


def answer_ok(tls):
    """A fixed answer to whatever is asked."""
    if tls.recv(65536):
        tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndata")


def old_context(env):
    """A server that speaks nothing newer than TLS 1.1."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.set_ciphers("ALL:@SECLEVEL=0")
    made.minimum_version = ssl.TLSVersion.TLSv1
    made.maximum_version = ssl.TLSVersion.TLSv1_1
    made.load_cert_chain(env.certificates.file("good.pem"))
    return made


def strict_context(env, version):
    """A server that wants a certificate of its client."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(env.certificates.file("good.pem"))
    made.load_verify_locations(env.certificates.ca)
    made.verify_mode = ssl.CERT_REQUIRED
    made.minimum_version = made.maximum_version = version
    return made


def to(host, port):
    """connect_to for one host."""
    return f"{host}:443:127.0.0.1:{port}"


def test_each_certificate_has_its_words(env):
    """Expired, other name, self-signed, unknown CA: each with its own, and what to do."""
    env.origin.serve("/x.deb", b"must not be served")
    depot = env.depot()
    cases = {"expired.example": ["expired", "clock", "apt-depot test CA"],
             "wrong.example": ["somebody-else.example", "not for wrong.example", "connect_to"],
             "selfsigned.example": ["self-signed", "selfsigned.example", "ca_file"],
             "unknown.example": ["a CA nobody knows", "not trusted", "ca_file"]}
    for host, words in cases.items():
        expect_error(depot.fetch(f"https://{host}/x.deb"), 502, words=words)
    assert not env.origin.requests()
    assert depot.counter("upstream_retries_total") == 0
    port = tls_server(answer_ok, server_context(env.certificates.file("parent.pem")))
    other = env.depot(connect_to=to("cuda.example", port))
    expect_error(other.fetch(URL), 502, words=["it is for localhost, 127.0.0.1, and not for cuda"])


def test_handshakes_that_fail(env):
    """TLS 1.1, no TLS at all, a client certificate wanted, a stall: each has its own words."""
    silent, clear = ports.listen(), ports.listen()

    def answer_clear():
        while True:
            sock, _ = clear.accept()
            sock.recv(4096)
            sock.sendall(b"HTTP/1.1 400 This is no TLS port\r\nContent-Length: 0\r\n\r\n")
    threading.Thread(target=answer_clear, daemon=True).start()
    names = [to("one.example", tls_server(answer_ok, old_context(env))),
             to("two.example", tls_server(answer_ok, strict_context(env, ssl.TLSVersion.TLSv1_2))),
             to("three.example", silent.getsockname()[1]),
             to("four.example", clear.getsockname()[1]),
             to("mirror.example", tls_server(answer_ok, strict_context(env, ssl.TLSVersion.TLSv1_3)))]
    depot = env.new_depot(connect_to=names)
    depot.sections = '\n[upstream "three.example"]\nconnect_timeout = 1s\n'
    depot.use_file()
    depot.start()
    answers = together(*[lambda host=host: depot.fetch(f"https://{host}.example/x.deb")
                         for host in ("one", "two", "three", "four", "mirror")])
    expect_error(answers[0], 502, words=["TLS 1.0 or 1.1", "TLS 1.2"])
    expect_error(answers[1], 502, words=["client_cert"])
    expect_error(answers[2], 504, words=["TLS handshake", "connect_timeout"])
    expect_error(answers[3], 502, words=["does not speak TLS", "wrong port"])
    expect_error(answers[4], 502, words=["client_cert"])
    client = env.certificates.file("client.pem")
    shown = env.depot(connect_to=names, client_cert=client, client_key=client)
    expect_body(shown.fetch("https://two.example/x.deb"), b"data")
    expect_body(shown.fetch("https://mirror.example/x.deb"), b"data")


def test_certificate_wanted_after_the_handshake(env):
    """A kept-alive TLS 1.3 server that asks for one before its second answer (make asan sees it)."""
    context = strict_context(env, ssl.TLSVersion.TLSv1_3)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.post_handshake_auth = True
    made = []

    def answer(tls):
        made.append(tls)
        while (head := tls.recv(65536)):
            if b"/second.deb" in head:
                tls.verify_client_post_handshake()
            tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndata")
    depot = env.depot(connect_to=to("mirror.example", tls_server(answer, context)))
    for name in ("first", "second", "third"):
        expect_body(depot.fetch(f"https://mirror.example/{name}.deb"), b"data")
    assert len(made) == 1


@patient
def test_handshakes_that_are_right_again(env):
    """TLS 1.1 alone, then a stall, then as it should be: served at once, nothing is remembered."""
    good = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    good.load_cert_chain(env.certificates.file("good.pem"))
    listener, held, contexts = ports.listen(), [], []

    def accept():
        while True:
            sock, _ = listener.accept()
            held.append(sock)
            try:
                if contexts:
                    answer_ok(contexts[-1].wrap_socket(sock, server_side=True))
            except OSError:
                pass
    threading.Thread(target=accept, daemon=True).start()
    depot = env.depot(connect_to=to("cuda.example", listener.getsockname()[1]),
                      connect_timeout="1s")
    expect_error(depot.fetch(URL), 504, words=["TLS handshake", "connect_timeout"])
    contexts.append(old_context(env))
    expect_error(depot.fetch(URL), 502, words=["TLS 1.0 or 1.1"])
    contexts.append(good)
    expect_body(depot.fetch(URL), b"data")


def test_right_again(env):
    """As soon as the origin is right, it is served: nothing of the refusal is remembered."""
    env.origin.serve("/x.deb", Answer(b"data", close=True))
    good, state = env.certificates.leaf, {"bad": "expired.example"}
    env.certificates.leaf = lambda name: good(state["bad"] if state["bad"] else name)
    depot = env.depot()
    for bad in ("expired.example", "wrong.example", "selfsigned.example", "unknown.example"):
        state["bad"] = bad
        expect_error(depot.fetch(URL), 502, words=["certificate"])
        state["bad"] = None
        url = f"https://cuda.example/after-{bad}.deb"
        env.origin.serve(f"/after-{bad}.deb", Answer(b"right", close=True))
        expect_body(depot.fetch(url), b"right")
    expect_body(depot.fetch(URL), b"data")


def test_ca_file_that_is_no_good(env):
    """Gone or garbage: refused at start, in words."""
    garbage = os.path.join(env.path, "garbage.pem")
    with open(garbage, "w", encoding="ascii") as out:
        out.write("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    for path, word in ((garbage, "can't be read"), (os.path.join(env.path, "gone.pem"), "No such")):
        done = run_command("serve", "-o", f"ca_file={path}", "-o", f"cache_dir={env.path}/c")
        assert done.returncode != 0 and "ca_file" in done.stdout and word in done.stdout, done


def test_own_address_is_never_a_way_back(env):
    """By address, by a name that leads there, by a redirect: refused before a connection."""
    depot = env.new_depot(listen=None, connect_ports="any")
    depot.options["listen"] = f"0.0.0.0:{depot.port}"
    depot.options["connect_to"] = [f"cuda.example:80:127.0.0.2:{depot.port}"]
    depot.start()
    before = depot.counter("connections_accepted_total")
    expect_error(depot.fetch("http://cuda.example/-/metrics"), 508, words=["this depot itself"])
    expect_error(depot.get(f"/127.0.0.3:{depot.port}/-/metrics"), 508)
    with depot.conn() as conn:
        conn.send(f"CONNECT 127.0.0.9:{depot.port} HTTP/1.1\r\nHost: x\r\n\r\n")
        expect_error(conn.read(), 508)
    assert depot.counter("connections_accepted_total") <= before + 5


def test_ipv6_listener_and_upstream(env):
    """[::1] on both sides, in a URL and behind a name; address_family picks one."""
    try:
        listener = socket.socket(socket.AF_INET6)
        listener.bind(("::1", 0))
    except OSError:
        raise Skip("this machine has no IPv6") from None
    port = listener.getsockname()[1]
    listener.listen(16)

    def serve():
        while True:
            sock, _ = listener.accept()
            with sock:
                sock.recv(65536)
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nsix")
    threading.Thread(target=serve, daemon=True).start()
    depot = env.new_depot(allow_addresses=["127.0.0.0/8", "::1"])
    depot.options["listen"] = [f"127.0.0.1:{depot.port}", f"[::1]:{depot.port}"]
    depot.options["connect_to"] = [f"cuda.example:80:[::1]:{port}"]
    depot.start()
    with depot.conn(host="::1") as conn:
        expect_body(conn.get(f"http://[::1]:{port}/x.run"), b"six")
        expect_body(conn.get("http://cuda.example/y.run"), b"six")
        expect_error(conn.get(f"http://[::1]:{depot.port}/HTTPS///"), 400, 404)
    only4 = env.depot(allow_addresses=["127.0.0.0/8", "::1"], address_family="4")
    expect_error(only4.fetch(f"http://[::1]:{port}/x.run"), 502, 504)
    closed = env.depot(allow_addresses="127.0.0.0/8")
    expect_error(closed.fetch(f"http://[::1]:{port}/x.run"), 403, words=["allow_addresses"])


def test_real_clients_behind_an_inspecting_parent(env):
    """The whole way: apt, curl or wget, depot, parent with Basic that breaks TLS open."""
    if shutil.which("curl") is None or shutil.which("wget") is None:
        raise Skip("curl or wget is not installed")
    env.origin.serve("/x.deb", Pattern(1 << 20))
    repo = env.flat_repo()
    parent = Parent(env.origin, "us:pw", intercept=env.certificates.file("corp.pem"))
    depot = behind(env, f"http://us:pw@127.0.0.1:{parent.port}",
                   ca_file=env.certificates.file("corp-ca.pem"))
    apt = env.apt(depot, repo.source())
    apt.update().expect_success()
    apt.install("cuda-keyring").expect_success()
    depot.wait_idle()
    stored = depot.counter("blobs_stored_total")
    out = os.path.join(env.path, "x.deb")
    subprocess.run(["curl", "-sSf", "-m", "20", "-x", f"http://127.0.0.1:{depot.port}", "-o", out,
                    "http://HTTPS///cuda.example/x.deb"], check=True, timeout=60)
    with open(out, "rb") as got:
        assert got.read() == Pattern(1 << 20).bytes()
    wait_until(lambda: depot.counter("blobs_stored_total") == stored + 1, "it is stored")
    env.origin.stop()
    done = subprocess.run(["wget", "-q", "-O", "-", "http://HTTPS///cuda.example/x.deb"],
                          stdout=subprocess.PIPE, check=True, timeout=60,
                          env={**os.environ, "http_proxy": f"http://127.0.0.1:{depot.port}"})
    assert done.stdout == Pattern(1 << 20).bytes()
