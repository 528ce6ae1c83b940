# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""HTTPS from clients: interception of CONNECT, the TLS listener, what is refused."""
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess

import origin as origins
import pki
import ports
from body import Pattern
from client import Conn, expect_body, expect_error
from depot import SLOW, run_command, wait_until
from support import Later, Skip, heavy, together
from tlsclient import ca_file, connect, context, curl, direct, intercepted

NEEDS_PACKAGES = True
HOST = "cuda.example"


def through(depot):
    """curl's words for this proxy."""
    return ["--proxy", f"http://127.0.0.1:{depot.port}"]


def expect_closed(conn):
    """The depot ends the connection, by an alert, a FIN or a reset."""
    try:
        assert conn.ended(), "the connection is still open"
    except ssl.SSLError:
        pass


# ---- interception -----------------------------------------------------------------------------


def test_intercepted_with_curl(env):
    """https:// through CONNECT becomes a cached object, the same as HTTPS///."""
    body = Pattern(3 << 20)
    env.origin.serve("/x.deb", body)
    depot = env.depot(intercept_hosts=HOST)
    args = ["--cacert", ca_file(env, depot), *through(depot), f"https://{HOST}/x.deb"]
    assert curl(*args) == body.bytes()
    depot.wait_idle()
    assert curl(*args) == body.bytes()
    expect_body(depot.fetch(f"https://{HOST}/x.deb"), body)
    assert len(env.origin.requests("/x.deb")) == 1
    counters = depot.counters()
    assert counters["tunnels_total"] == 0
    assert counters["intercepted_total"] == counters["tls_handshakes_total"] == 2
    assert counters["certificates_minted_total"] == 1
    depot.wait_access("https://cuda.example/x.deb", 3)
    assert depot.wait_access("detail=intercepted", 2)
    # Another program that the system's list alone tells whom to trust refuses.
    assert curl(*through(depot), f"https://{HOST}/x.deb", fails=True) == 60
    depot.wait_counter("tls_handshake_failures_total", ">=", 1)
    wait_until(lambda: "install /-/ca.pem" in depot.log_text(), "the remedy in the log")


def test_intercepted_client_that_leaves(env):
    """As newer curls do: they judge the certificate after the handshake and say nothing."""
    depot = env.depot(intercept_hosts=HOST)
    intercepted(env, depot, HOST).close()
    with intercepted(env, depot, HOST) as conn:
        conn.reset()
    depot.wait_counter("tls_handshake_failures_total", "==", 2)
    wait_until(lambda: depot.log_text().count("install /-/ca.pem") == 2, "two lines in the log")
    with intercepted(env, depot, HOST) as conn:
        assert get_inside(conn, "/none.deb").status == 404
    depot.wait_counter("connections_open", "==", 1)
    assert depot.counter("tls_handshake_failures_total") == 2


def test_intercepted_with_wget(env):
    """Another TLS library: GnuTLS, which also reads the name constraints."""
    if not shutil.which("wget"):
        raise Skip("wget is not installed")
    body = Pattern(1 << 20)
    env.origin.serve("/x.deb", body)
    depot = env.depot(intercept_hosts="*.example")
    done = subprocess.run(["wget", "-q", "-O", "-", f"--ca-certificate={ca_file(env, depot)}",
                           f"https://{HOST}/x.deb"], capture_output=True, check=False,
                          env={"https_proxy": f"http://127.0.0.1:{depot.port}",
                               "PATH": os.environ["PATH"]}, timeout=45 * SLOW)
    assert done.returncode == 0, done.stderr
    assert done.stdout == body.bytes()
    assert depot.counter("intercepted_total") == 1


def apt_root(env, depot, repo):
    """A client whose source is https:// and which knows nothing of a depot but its proxy."""
    trust = f'Acquire::https::{HOST}::CaInfo "{ca_file(env, depot)}";'
    return env.apt(depot, repo.source("https://"), extra=trust)


def update_and_install(root, repo):
    """Both steps of a build, without a warning."""
    root.update().expect_success()
    root.install("cuda").expect_success()


@heavy(8)
def test_eight_apts_with_https_sources(env):
    """Cold, all at once, intercepted: upstream bytes are 1.00x. Then warm, origin gone."""
    repo = env.flat_repo()
    depot = env.depot(intercept_hosts=HOST, revalidate_wait="20s")
    roots = [apt_root(env, depot, repo) for _ in range(8)]
    together(*[lambda root=root: update_and_install(root, repo) for root in roots])
    repo.expect_each_sent_once()
    for root in roots:
        assert root.downloaded() == roots[0].downloaded()
    assert depot.counter("tunnels_total") == 0
    depot.wait_idle()
    env.origin.stop()
    update_and_install(apt_root(env, depot, repo), repo)


def get_inside(conn, target, *headers, host=HOST, method="GET"):
    """One request as a client inside a tunnel makes it."""
    conn.ask(target, *headers, host=host, method=method)
    return conn.read(method)


def test_requests_inside(env):
    """Pipelining, HEAD, Range, conditions, absolute form: as outside, on one connection."""
    body = Pattern(300000)
    env.origin.serve("/x.deb", body)
    env.origin.serve("/-/metrics", b"the host's own")
    env.origin.serve("/", b"root")
    depot = env.depot(intercept_hosts=HOST)
    with intercepted(env, depot, HOST) as conn:
        expect_body(get_inside(conn, "/x.deb", "Proxy-Authorization: Basic c2VjcmV0"), body)
        conn.ask("/x.deb", method="HEAD", host=HOST)
        conn.ask("/x.deb", "Range: bytes=100-199", host=HOST)
        conn.ask(f"https://{HOST}/x.deb", host="ignored.example")
        conn.ask(f"https://{HOST}:443//x.deb", host=HOST + ":443")
        conn.ask("/-/metrics", host=HOST)
        conn.ask("/", host=HOST)
        head = conn.read("HEAD")
        assert head.status == 200 and head.get("Content-Length") == str(len(body))
        part = conn.read()
        assert part.status == 206 and part.body == body.slice(100, 200)
        expect_body(conn.read(), body)
        expect_body(conn.read(), body)
        expect_body(conn.read(), b"the host's own")
        expect_body(conn.read(), b"root")
        etag = head.get("ETag")
        assert get_inside(conn, "/x.deb", f"If-None-Match: {etag}").status == 304
    assert len(env.origin.requests("/x.deb")) == 1
    assert all(request.tls for request in env.origin.requests())
    assert not any(request.get("Proxy-Authorization") for request in env.origin.requests())


def test_misdirected_requests(env):
    """Host, scheme or method that do not belong to the connection."""
    env.origin.serve("/x.deb", b"data")
    depot = env.depot(intercept_hosts="*.example")
    with intercepted(env, depot, HOST) as conn:
        for target, host in [("/x.deb", "deb.example"), ("/x.deb", HOST + ":8443"),
                             ("/x.deb", "HTTPS"), ("https://deb.example/x.deb", HOST),
                             (f"http://{HOST}/x.deb", HOST), (f"https://{HOST}:80/x.deb", HOST)]:
            expect_error(get_inside(conn, target, host=host), 421, words=["another host"])
        expect_error(get_inside(conn, "deb.example:443", method="CONNECT"), 405)
        assert get_inside(conn, "/HTTPS///deb.example/x.deb").status == 404
        expect_body(get_inside(conn, "/x.deb", host=HOST + "."), b"data")
        expect_body(get_inside(conn, "/x.deb", host="CUDA.example"), b"data")
    assert {request.host for request in env.origin.requests()} == {HOST}


def test_server_names(env):
    """No name is taken as the CONNECT's host; another one is refused."""
    env.origin.serve("/x.deb", b"data")
    depot = env.depot(intercept_hosts="*.example")
    with intercepted(env, depot, HOST, name=None) as conn:
        expect_body(get_inside(conn, "/x.deb"), b"data")
    with connect(depot, HOST + ":443") as conn:
        try:
            context(ca_file(env, depot)).wrap_socket(conn.sock, server_hostname="deb.example")
            raise AssertionError("another host's name was accepted")
        except ssl.SSLError as err:
            assert "UNRECOGNIZED_NAME" in str(err).upper(), err
    depot.wait_counter("tls_handshake_failures_total", "==", 1)
    wait_until(lambda: "another host" in depot.log_text(), "the reason in the log")


def test_tls_right_behind_the_connect(env):
    """A client that does not wait for the 200 loses nothing, byte by byte or at once."""
    env.origin.serve("/x.deb", b"data")
    depot = env.depot(intercept_hosts=HOST)
    trust = context(ca_file(env, depot))
    for piece in (1 << 16, 50):
        into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = trust.wrap_bio(into, out, server_hostname=HOST)
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        hello = out.read()
        with depot.conn() as conn:
            conn.send(f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
                      + hello[:piece])
            conn.send(hello[piece:])
            assert conn.read_head().status == 200

            def step(function):
                while True:
                    try:
                        return function()
                    except ssl.SSLWantReadError:
                        conn.send(out.read())
                        into.write(conn.more())
            step(tls.do_handshake)
            tls.write(f"GET /x.deb HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            conn.send(out.read())
            answer = b""
            while not answer.endswith(b"data"):
                answer += step(lambda: tls.read(1000))
            assert answer.startswith(b"HTTP/1.1 200 ")


def test_old_versions_are_refused(env):
    """TLS 1.0 and 1.1 are not spoken; 1.2 and 1.3 are, without renegotiation or weak ciphers."""
    env.origin.serve("/x.deb", b"data")
    depot = env.depot(intercept_hosts=HOST)
    ca = ca_file(env, depot)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        with intercepted(env, depot, HOST, trust=context(ca, version=version)) as conn:
            expect_body(get_inside(conn, "/x.deb"), b"data")
            assert "GCM" in conn.sock.cipher()[0]
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        with connect(depot, HOST + ":443") as conn:
            try:
                context(ca, version=version).wrap_socket(conn.sock, server_hostname=HOST)
                raise AssertionError(f"{version} was accepted")
            except (ssl.SSLError, ConnectionError):
                pass
    depot.wait_counter("tls_handshake_failures_total", "==", 2)
    weak = context(ca, version=ssl.TLSVersion.TLSv1_2)
    weak.set_ciphers("AES128-GCM-SHA256:ECDHE-ECDSA-AES128-SHA256")
    with connect(depot, HOST + ":443") as conn:
        try:
            weak.wrap_socket(conn.sock, server_hostname=HOST)
            raise AssertionError("a weak cipher was accepted")
        except (ssl.SSLError, ConnectionError):
            pass


def test_protocol_negotiation(env):
    """http/1.1 is chosen among others; a client with nothing else than h2 is told."""
    depot = env.depot(intercept_hosts=HOST)
    trust = context(ca_file(env, depot))
    trust.set_alpn_protocols(["h2", "http/1.1"])
    with intercepted(env, depot, HOST, trust=trust) as conn:
        assert conn.sock.selected_alpn_protocol() == "http/1.1"
    trust.set_alpn_protocols(["h2"])
    with connect(depot, HOST + ":443") as conn:
        try:
            trust.wrap_socket(conn.sock, server_hostname=HOST)
            raise AssertionError("h2 alone was accepted")
        except ssl.SSLError:
            pass


def test_sessions_are_resumed(env):
    """A ticket opens the next connection to the same host, and only to that."""
    env.origin.serve("/x.deb", b"data")
    depot = env.depot(intercept_hosts="*.example")
    trust = context(ca_file(env, depot))
    with intercepted(env, depot, HOST, trust=trust) as conn:
        expect_body(get_inside(conn, "/x.deb"), b"data")
        session = conn.sock.session
    for host, reused in ((HOST, True), ("deb.example", False)):
        with connect(depot, host + ":443") as conn:
            conn.sock = trust.wrap_socket(conn.sock, server_hostname=host, session=session)
            expect_body(get_inside(conn, "/x.deb", host=host), b"data")
            assert conn.sock.session_reused == reused, host
    assert depot.counter("tls_resumed_total") == 1


def test_small_records(env):
    """A client that asks for records of 512 bytes gets whole bodies in them, in either version."""
    body = Pattern(3 << 20)
    env.origin.serve("/x.deb", body)
    depot = env.depot(intercept_hosts=HOST)
    expect_body(depot.fetch(f"https://{HOST}/x.deb"), body)
    for version in ("-tls1_2", "-tls1_3"):
        done = subprocess.run(
            ["openssl", "s_client", "-quiet", "-ign_eof", version, "-maxfraglen", "512", "-proxy",
             f"127.0.0.1:{depot.port}", "-connect", f"{HOST}:443", "-servername", HOST],
            input=f"GET /x.deb HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode(),
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=45 * SLOW, check=False)
        head, _, got = done.stdout.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ") and got == body.bytes(), (version, head)


def test_stalled_handshake_is_cut(env):
    """Whether nothing comes, half a message, or a byte now and then."""
    depot = env.new_depot(intercept_hosts=HOST)
    depot.use_file()
    depot.start()
    with connect(depot, HOST + ":443") as silent, connect(depot, HOST + ":443") as half:
        half.send(b"\x16\x03\x01\x02\x00\x01")
        # Only now: the CONNECT itself may take its time.
        depot.reload(client_timeout="1s")
        expect_closed(silent)
        expect_closed(half)
    depot.wait_counter("tls_handshake_failures_total", "==", 2)
    depot.wait_counter("client_timeouts_total", ">=", 2)


def test_something_else_inside(env):
    """An intercepted CONNECT with no TLS in it is closed and counted."""
    depot = env.depot(intercept_hosts=HOST)
    for sent in (b"GET / HTTP/1.1\r\nHost: cuda.example\r\n\r\n", b"SSH-2.0-client\r\n", b"\0" * 100):
        with connect(depot, HOST + ":443") as conn:
            conn.send(sent)
            expect_closed(conn)
    depot.wait_counter("not_tls_total", "==", 3)
    assert not env.origin.requests()


def test_big_bodies_and_slow_readers(env):
    """A reader that dawdles gets every byte; the others are not held up, memory stays bounded."""
    body = Pattern(48 << 20)
    env.origin.serve("/big.deb", body)
    env.origin.serve("/small.deb", b"data")
    depot = env.depot(intercept_hosts=HOST, workers=1)
    with intercepted(env, depot, HOST, receive_buffer=32768) as slow:
        slow.ask("/big.deb", host=HOST)
        head = slow.read_head()
        with intercepted(env, depot, HOST) as quick:
            quick.ask("/big.deb", host=HOST)
            first = quick.read_head()
            quick.read_body(first, expect=body)
            assert first.complete
            expect_body(get_inside(quick, "/small.deb"), b"data")
        slow.read_body(head, expect=body)
        assert head.complete
        # Now from the cache, from the middle on.
        slow.ask("/big.deb", f"Range: bytes={20 << 20}-", host=HOST)
        part = slow.read_head()
        assert part.status == 206
        got = slow.read_exactly(28 << 20)
        assert got == body.slice(20 << 20, 48 << 20)
    assert len(env.origin.requests("/big.deb")) == 1


def test_unknown_length_inside(env):
    """Chunks through TLS, while they arrive and from the cache."""
    body = Pattern(3 << 20)
    env.origin.serve("/x.tar", origins.Answer(body, length="chunked"))
    depot = env.depot(intercept_hosts=HOST)
    with intercepted(env, depot, HOST) as conn:
        for _ in range(2):
            expect_body(get_inside(conn, "/x.tar"), body)


def test_rules_hold_for_intercepted_hosts(env):
    """Denied hosts, ports and clients; refused tunnels and a depot without a network."""
    env.origin.serve("/x.deb", b"data")
    depot = env.depot(intercept_hosts="*.example", deny_upstreams="deb.example", connect="refuse")
    expect_error(depot.get("deb.example:443", method="CONNECT"), 403, words=["deny_upstreams"])
    expect_error(depot.get("cuda.example:22", method="CONNECT"), 403, words=["connect_ports"])
    expect_error(depot.get("host.test:443", method="CONNECT"), 403, words=["connect"])
    with intercepted(env, depot, HOST) as conn:
        expect_body(get_inside(conn, "/x.deb"), b"data")
    depot.wait_idle()
    depot.options["offline"] = "yes"
    depot.restart()
    with intercepted(env, depot, HOST) as conn:
        expect_body(get_inside(conn, "/x.deb"), b"data")
        expect_error(get_inside(conn, "/y.deb"), 504)
    closed = env.depot(intercept_hosts=HOST, allow_clients="127.0.0.1")
    with Conn.of(socket.create_connection(("127.0.0.1", closed.port), 20,
                                          source_address=("127.0.0.2", 0))) as conn:
        expect_error(conn.get(HOST + ":443", method="CONNECT"), 403, words=["allow_clients"])


def test_authority(env):
    """/-/ca.pem and the command show it; a restart keeps it; a longer list makes another."""
    none = env.depot()
    expect_error(none.get("/-/ca.pem"), 404, words=["intercept_hosts"])
    depot = env.depot(intercept_hosts=HOST)
    page = depot.get("/-/ca.pem").text
    pem, rest = page.partition("-----END CERTIFICATE-----\n")[::2]
    pem += "-----END CERTIFICATE-----\n"
    assert pem.startswith("-----BEGIN CERTIFICATE-----") and "PRIVATE" not in page
    assert all(line[:1] in ("", "#") for line in rest.splitlines()), rest
    assert "ADD http://" in rest and f":{depot.port}/-/ca.pem" in rest
    args = ["ca", "-o", f"cache_dir={depot.cache_dir}", "-o", f"intercept_hosts={HOST}"]
    said = run_command(*args)
    assert said.returncode == 0 and pem in said.stdout
    for word in ("SHA-256", "update-ca-certificates", "CaInfo", "COPY", HOST):
        assert word in said.stdout and word in rest, said.stdout
    found = json.loads(run_command(*args, "--json").stdout)
    assert found["pem"] == pem and found["sha256"] in said.stdout and found["sha256"] in rest
    key = os.path.join(depot.cache_dir, "ca", "key-and-cert.pem")
    assert os.stat(key).st_mode & 0o777 == 0o600
    depot.restart()
    assert depot.get("/-/ca.pem").text == page
    depot.options["intercept_hosts"] = [HOST, "deb.example"]
    depot.restart()
    assert pem not in depot.get("/-/ca.pem").text
    wait_until(lambda: "REFUSE EVERY INTERCEPTED HOST" in depot.log_text(), "the warning")
    assert [name for name in os.listdir(os.path.dirname(key)) if ".old-" in name]
    assert run_command("ca").returncode == 1


def test_given_authority(env):
    """One of the operator's own, for every host."""
    env.origin.serve("/x.deb", b"data")
    own = os.path.join(env.path, "own")
    authority = pki.Pki(own)
    os.makedirs(own)
    authority._make_ca("own", "the company's own")  # pylint: disable=protected-access
    cert, key = os.path.join(own, "own.pem"), os.path.join(own, "own.key")
    os.chmod(key, 0o600)
    depot = env.depot(intercept_hosts="*", intercept_ca_cert=cert, intercept_ca_key=key)
    for host in (HOST, "deb.example"):
        with intercepted(env, depot, host, trust=context(cert)) as conn:
            expect_body(get_inside(conn, "/x.deb", host=host), b"data")
    assert not os.path.exists(os.path.join(depot.cache_dir, "ca"))


def test_refuses_to_start(env):
    """Each mistake in the configuration, with what to do about it."""
    good = os.path.join(env.path, "good.pem")
    shutil.copy(env.certificates.leaf(None), good)
    os.chmod(good, 0o600)
    other = os.path.join(env.path, "other.key")
    ports_free = ports.hold_port()
    subprocess.run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-out", other], check=True, capture_output=True)
    os.chmod(other, 0o644)
    rows = [({"listen_tls": f"127.0.0.1:{ports_free}"}, "tls_cert"),
            ({"tls_key": good}, "tls_cert"),
            ({"tls_cert": "/nonexistent.pem"}, "can't be read"),
            ({"tls_cert": good, "tls_key": other}, "tls_key"),
            ({"intercept_hosts": "*"}, "intercept_ca_cert"),
            ({"intercept_ca_key": good}, "intercept_ca_cert"),
            ({"intercept_ca_cert": env.certificates.ca, "intercept_ca_key": other}, "chmod o"),
            ({"intercept_ca_cert": good}, "")]
    for options, word in rows:
        args = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
        done = run_command("serve", "-o", f"cache_dir={env.path}/c", "-o", "listen=127.0.0.1:1",
                           *args)
        assert done.returncode == 1 and word in done.stdout, (options, done.stdout)


# ---- the TLS listener -------------------------------------------------------------------------


def tls_depot(env, **options):
    """A depot that also speaks TLS: it and that port."""
    port = ports.hold_port()
    chain = os.path.join(env.path, "listener.pem")
    shutil.copy(env.certificates.leaf(None), chain)
    return env.depot(listen_tls=f"127.0.0.1:{port}", tls_cert=chain, **options), port


def through_tls(env, port):
    """curl's words for a proxy that speaks TLS."""
    return ["--proxy", f"https://127.0.0.1:{port}", "--proxy-cacert", env.certificates.ca,
            "--proxy-insecure"]


def test_listener_with_curl(env):
    """Everything through an https:// proxy: objects, a tunnel, and TLS within TLS."""
    body = Pattern(5 << 20)
    env.origin.serve("/x.deb", body)
    depot, port = tls_depot(env, intercept_hosts="deb.example")
    proxy = through_tls(env, port)
    assert curl(*proxy, f"http://HTTPS///{HOST}/x.deb") == body.bytes()
    assert curl(*proxy, "--cacert", env.certificates.ca, f"https://{HOST}/x.deb") == body.bytes()
    assert depot.counter("tunnels_total") == 1
    for _ in range(2):
        assert curl(*proxy, "--cacert", ca_file(env, depot),
                    "https://deb.example/x.deb") == body.bytes()
    assert depot.counter("intercepted_total") == 2
    depot.wait_counter("tunnels_open", "==", 0)


def test_listener_with_apt(env):
    """Acquire::http::Proxy "https://depot:3143": HTTPS/// sources cached, https:// ones tunnelled."""
    repo = env.flat_repo()
    depot, port = tls_depot(env)
    shutil.copy(env.certificates.file("parent.pem"), depot.options["tls_cert"])
    depot.restart()
    options = f'Acquire::http::Proxy "https://127.0.0.1:{port}";\n' \
        f'Acquire::https::CaInfo "{env.certificates.ca}";'
    for form in ("http://HTTPS///", "https://"):
        apt = env.apt(depot, repo.source(form), extra=options, proxy=False)
        apt.update().expect_success()
        apt.install("cuda-keyring").expect_success()
        assert (depot.counter("tunnels_total") > 0) == (form == "https://")
    assert depot.counter("tls_handshakes_total") >= 2


def test_listener_pages_and_hits(env):
    """The same as on the plain port: pages, pipelined hits, big bodies, slow readers."""
    body = Pattern(20 << 20)
    env.origin.serve("/x.deb", body)
    depot, port = tls_depot(env)
    ca = env.certificates.ca
    expect_body(depot.fetch(f"https://{HOST}/x.deb"), body)
    depot.wait_idle()
    with direct(depot, port, ca, receive_buffer=32768) as conn:
        assert conn.get("/-/healthz").status == 200
        conn.sock.settimeout(45 * SLOW)
        conn.ask("http://HTTPS///cuda.example/x.deb")
        conn.ask("http://HTTPS///cuda.example/x.deb", "Range: bytes=-10")
        answer = conn.read_head()
        conn.read_body(answer, expect=body)
        assert answer.complete and answer.is_hit
        assert conn.read().body == body.slice((20 << 20) - 10, 20 << 20)
        apt = get_inside(conn, "/-/apt.conf", host="depot.test:3143").text
        assert 'Proxy "https://depot.test:3143";' in apt, apt
        for page in ("/", "/-/"):
            html = get_inside(conn, page, host="depot.test:3143").text
            assert "https://depot.test:3143" in html and "http://depot.test" not in html, html


def test_listener_ends_in_order(env):
    """Connection: close brings a close_notify; a FIN or a reset of the client does no harm."""
    env.origin.serve("/x.deb", b"data")
    depot, port = tls_depot(env)
    with direct(depot, port, env.certificates.ca) as conn:
        conn.sock.suppress_ragged_eofs = False
        expect_body(conn.get(f"http://HTTPS///{HOST}/x.deb", "Connection: close"), b"data")
        assert conn.ended()
    with direct(depot, port, env.certificates.ca) as conn:
        conn.ask(f"http://HTTPS///{HOST}/x.deb")
        conn.reset()
    depot.wait_counter("connections_open", "==", 1)


def wait_full(depot, since, counter="sent_body_bytes_total"):
    """Until nothing more is sent to a client that does not read: the counter stands, but for these
    pages themselves, and a mebibyte or more above what it was before that client asked."""
    def settled():
        page = depot.get("/-/metrics").text
        value = float(re.search(rf"^apt_depot_{counter} (\S+)$", page, re.M)[1])
        due, last[:] = last[:], [value, value + len(page)]
        return value > since + (1 << 20) and value in due
    last = []
    wait_until(settled, "the socket takes no more")


def test_listener_slow_reader_of_small_answers(env):
    """What the socket did not take goes out later as it was, whatever the worker has done since."""
    bodies = [Pattern(60000 + n, 1 + n) for n in range(16)]
    depot, port = tls_depot(env, workers=1)
    for n, body in enumerate(bodies):
        env.origin.serve(f"/{n}.deb", body)
        expect_body(depot.fetch(f"https://{HOST}/{n}.deb"), body)
    depot.wait_idle()
    asked = [n % 16 for n in range(160)]
    with direct(depot, port, env.certificates.ca, receive_buffer=16384) as conn:
        sent = depot.counter("sent_body_bytes_total")
        for n in asked:
            conn.ask(f"http://HTTPS///{HOST}/{n}.deb")
        wait_full(depot, sent)
        for n in asked:
            expect_body(conn.read(), bodies[n])


def test_listener_slow_reader_in_a_tunnel(env):
    """The same of what a tunnel brings, and of its end."""
    body = Pattern(12 << 20)
    env.origin.serve("/x.deb", origins.Answer(body, close=True))
    depot, port = tls_depot(env, workers=1, connect_ports="any")
    with direct(depot, port, env.certificates.ca, receive_buffer=16384) as conn:
        conn.send(f"CONNECT {HOST}:80 HTTP/1.1\r\nHost: {HOST}:80\r\n\r\n")
        assert conn.read_head().status == 200
        conn.ask("/x.deb", host=HOST)
        wait_full(depot, 0, "tunnel_bytes_total")
        with connect(depot, f"{HOST}:80") as other:
            other.ask("/x.deb", "Range: bytes=7000000-", host=HOST)
            other.read()
        expect_body(conn.read(), body)


def test_listener_closes_behind_a_full_buffer(env):
    """Connection: close does not cost the last record, for which the kernel had no room.

    That is so where the kernel encrypts: it counts a record as sent then, and forgets it with the
    socket.  Elsewhere this shows that nothing else loses it.
    """
    body = Pattern(16 << 20)
    env.origin.serve("/x.deb", body)
    depot, port = tls_depot(env)
    target = f"http://HTTPS///{HOST}/x.deb"
    expect_body(depot.fetch(f"https://{HOST}/x.deb"), body)
    depot.wait_idle()
    with direct(depot, port, env.certificates.ca, receive_buffer=16384) as conn:
        sent = depot.counter("sent_body_bytes_total")
        conn.ask(target)
        wait_full(depot, sent)
        conn.reset()
    full = int(re.search(r" bytes=(\d+)", depot.wait_access("end=CLIENT_")[-1])[1])
    for end in range(full - 16000, full + 16000, 2000):
        sent = depot.counter("sent_body_bytes_total")
        with direct(depot, port, env.certificates.ca, receive_buffer=16384) as conn:
            conn.ask(target, f"Range: bytes=0-{end - 1}", "Connection: close")
            wait_full(depot, sent)
            answer = conn.read_head()
            got = conn.read_exactly(end)
            assert got == body.slice(0, end), f"{len(got)} of {end} bytes: {answer}"


def test_listener_and_plain_http(env):
    """A client that forgot the s is told so in its own language."""
    _, port = tls_depot(env)
    with Conn(port) as conn:
        response = conn.get("http://HTTPS///cuda.example/x.deb")
        assert response.status == 400 and "https://" in response.text


def served_serial(port):
    """Which certificate the listener shows."""
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust.check_hostname = False
    trust.verify_mode = ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), 20) as raw:
        with trust.wrap_socket(raw) as sock:
            return sock.getpeercert(binary_form=True)


def test_listener_certificate_is_reloaded(env):
    """SIGHUP brings a new one; a bad one leaves the old one, with words in the log."""
    env.origin.serve("/x.deb", b"data")
    depot, port = tls_depot(env)
    chain = depot.options["tls_cert"]
    was = served_serial(port)
    held = direct(depot, port, env.certificates.ca)
    with open(chain, "w", encoding="ascii") as out:
        out.write("not a certificate\n")
    depot.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "kept as it was" in depot.log_text(), "the refusal in the log")
    assert served_serial(port) == was
    shutil.copy(env.certificates.leaf("wrong.example"), chain)
    depot.process.send_signal(signal.SIGHUP)
    wait_until(lambda: served_serial(port) != was, "the new certificate")
    # A connection from before goes on.
    expect_body(held.get(f"http://HTTPS///{HOST}/x.deb"), b"data")
    held.close()


def test_tunnel_inside_of_the_listener(env):
    """Bytes both ways at once, and half-closes, through the TLS layer."""
    from test_tunnel import serve_raw  # pylint: disable=import-outside-toplevel
    up, down = Pattern(8 << 20, seed=1), Pattern(8 << 20, seed=2)
    got = {}

    def handle(sock):
        sender = Later(lambda: sock.sendall(down.bytes()))
        parts, left = [], len(up)
        while left:
            data = sock.recv(1 << 20)
            parts.append(data)
            left -= len(data)
        got["up"] = b"".join(parts)
        sender.result()
    target = serve_raw(handle)
    depot, port = tls_depot(env, connect_ports="any")
    with direct(depot, port, env.certificates.ca) as conn:
        conn.send(f"CONNECT 127.0.0.1:{target} HTTP/1.1\r\nHost: x\r\n\r\n")
        assert conn.read_head().status == 200
        # One thread: Python's TLS sockets are not for two.
        view, sent, parts, left = memoryview(up.bytes()), 0, [], len(down)
        conn.sock.settimeout(0.05)
        while sent < len(up) or left:
            try:
                if sent < len(up):
                    sent += conn.sock.send(view[sent:sent + 65536])
            except (TimeoutError, ssl.SSLWantWriteError):
                pass
            try:
                if left:
                    parts.append(conn.sock.recv(1 << 20))
                    left -= len(parts[-1])
            except (TimeoutError, ssl.SSLWantReadError):
                pass
        assert b"".join(parts) == down.bytes()
    wait_until(lambda: "up" in got, "upstream has everything")
    assert got["up"] == up.bytes()


# ---- load balancers ---------------------------------------------------------------------------

V2 = b"\r\n\r\n\0\r\nQUIT\n"


def test_proxy_protocol(env):
    """Who the client is decides what it may, and is what the log shows."""
    env.origin.serve("/x.deb", b"data")
    depot = env.depot(proxy_protocol_from="127.0.0.2", allow_clients=["192.0.2.7", "127.0.0.1",
                                                                      "127.0.0.2", "2001:db8::7"])

    def ask(first, source="127.0.0.2"):
        with Conn.of(socket.create_connection(("127.0.0.1", depot.port), 20,
                                              source_address=(source, 0))) as conn:
            for i in range(0, len(first), 7):
                conn.send(first[i:i + 7])
            return conn.get(f"http://HTTPS///{HOST}/x.deb", "User-Agent: e2e")
    v4 = b"\xc0\x00\x02\x07\x7f\x00\x00\x01\x30\x39\x01\xbb"
    good = [(b"PROXY TCP4 192.0.2.7 127.0.0.1 1 2\r\n", "192.0.2.7"),
            (b"PROXY TCP6 2001:db8::7 ::1 1 2\r\n", "2001:db8::7"),
            (b"PROXY UNKNOWN\r\n", "127.0.0.2"),
            (V2 + b"\x21\x11\0\x0c" + v4, "192.0.2.7"), (V2 + b"\x20\0\0\0", "127.0.0.2")]
    for n, (first, client) in enumerate(good):
        expect_body(ask(first), b"data")
        lines = depot.wait_access("e2e", n + 1)
        assert f"client={client} " in lines[-1], lines[-1]
    expect_error(ask(b"PROXY TCP4 198.51.100.1 127.0.0.1 1 2\r\n"), 403, words=["allow_clients"])
    # From anybody else it is only a bad request.
    expect_error(ask(b"PROXY TCP4 192.0.2.7 127.0.0.1 1 2\r\n", source="127.0.0.1"), 400)
    assert depot.counter("proxy_headers_total") == 6
    for bad in (b"GET / HTTP/1.1\r\n\r\n", b"PROXY TCP4 x\r\n", V2 + b"\x21\x11\xff\xff"):
        with socket.create_connection(("127.0.0.1", depot.port), 20,
                                      source_address=("127.0.0.2", 0)) as sock:
            sock.sendall(bad)
            try:
                assert sock.recv(1000) == b""
            except ConnectionResetError:
                pass
    depot.wait_counter("proxy_headers_bad_total", "==", 3)


def test_proxy_protocol_before_tls(env):
    """The header comes in clear text, the handshake behind it."""
    port = ports.hold_port()
    plain = env.depot(listen_tls=f"127.0.0.1:{port}", tls_cert=env.certificates.leaf(None),
                      proxy_protocol_from="127.0.0.2")
    with socket.create_connection(("127.0.0.1", port), 20, source_address=("127.0.0.2", 0)) as raw:
        raw.sendall(b"PROXY TCP4 10.1.2.3 127.0.0.1 1 2\r\n")
        with context(env.certificates.ca, check=False).wrap_socket(raw) as sock:
            sock.sendall(b"GET /-/healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert sock.recv(1000).startswith(b"HTTP/1.1 200")
    plain.wait_access("client=10.1.2.3 ")
