# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""One object, however it is spelled; and what is sent upstream for it."""
import base64
import socket

from body import Pattern
from client import expect_body, expect_error, make_request
from origin import Answer, redirect

# All of them are https://cuda.example/repos/x86_64/libcudnn8_8.4-1+cuda11.6~rc1_amd64.deb
SPELLINGS = [
    "http://HTTPS///cuda.example/repos/x86_64/libcudnn8_8.4-1%2bcuda11.6%7erc1_amd64.deb",
    "http://https///cuda.example/repos/x86_64/libcudnn8_8.4-1%2Bcuda11.6%7Erc1_amd64.deb",
    "http://Https///cuda.example/repos/x86_64/libcudnn8_8.4-1+cuda11.6~rc1_amd64.deb",
    "http://hTTPS///CUDA.Example/repos/x86_64/libcudnn8_8.4-1+cuda11.6~rc1_amd64.deb",
    "http://HTTPS/cuda.example/repos/x86_64/libcudnn8_8.4-1+cuda11.6~rc1_amd64.deb",
    "http://HTTPS//cuda.example//repos/x86_64/libcudnn8_8.4-1+cuda11.6~rc1_amd64.deb",
    "http://HTTPS////cuda.example/repos//x86_64/./libcudnn8_8.4-1+cuda11.6~rc1_amd64.deb",
    "http://HTTPS/////cuda.example/repos/x86_64/./libcudnn8_8.4-1+cuda11.6~rc1_amd64.deb",
    "http://HTTPS:443///cuda.example/repos/x86_64/libcudnn8_8.4-1+cuda11.6~rc1_amd64.deb",
    "http://HTTPS///cuda.example:443/repos/x86_64/libcudnn8_8.4-1+cuda11.6~rc1_amd64.deb",
    "https://cuda.example/repos/x86_64/libcudnn8_8.4-1+cuda11.6~rc1_amd64.deb",
    "https://cuda.example:443/repos/x86_64/libcudnn8_8.4-1+cuda11.6~rc1_amd64.deb",
    "/HTTPS///cuda.example/repos/x86_64/libcudnn8_8.4-1%2bcuda11.6%7erc1_amd64.deb",
    "/https///cuda.example/repos/x86_64/libcudnn8_8.4-1+cuda11.6~rc1_amd64.deb",
    "/HTTPS/cuda.example/repos/x86_64/libcudnn8_8.4-1+cuda11.6~rc1_amd64.deb",
    "//HTTPS//cuda.example/repos/x86_64/libcudnn8_8.4-1+cuda11.6~rc1_amd64.deb",
    "/HTTPS:443///cuda.example/repos/x86_64/./libcudnn8_8.4-1+cuda11.6~rc1_amd64.deb",
]
PATH = "/repos/x86_64/libcudnn8_8.4-1+cuda11.6~rc1_amd64.deb"


def test_every_spelling_is_one_object(env):
    """Case, slashes, ports, dots, escapes and request forms: one fetch, then hits."""
    body = Pattern(70000)
    env.origin.serve(PATH, body)
    depot = env.depot()
    for n, target in enumerate(SPELLINGS):
        if target.startswith("//"):
            continue    # the next test
        response = expect_body(depot.get(target), body)
        assert response.is_hit == (n > 0), f"{target}: {response.cache_status}"
        depot.wait_idle()
    assert len(env.origin.requests()) == 1, env.origin.log_text()


def test_origin_form_with_two_leading_slashes(env):
    """A client that joins a base URL ending in a slash with an absolute path."""
    body = Pattern(1000)
    env.origin.serve(PATH, body)
    depot = env.depot()
    expect_body(depot.get("//HTTPS//cuda.example" + PATH), body)


def test_each_spelling_alone_reaches_the_origin(env):
    """Every spelling also works as the first one, with the right Host, SNI and path upstream."""
    depot = env.depot()
    for n, target in enumerate(SPELLINGS):
        path = PATH.replace("rc1", f"rc{n}_")
        env.origin.serve(path, b"x" * 100)
        expect_body(depot.get(target.replace("rc1", f"rc{n}_")), b"x" * 100)
        request, = env.origin.requests(path)
        assert (request.host, request.sni) == ("cuda.example", "cuda.example"), request
        assert "%252b" not in request.target and " " not in request.target, request.target


def test_percent_25_is_not_decoded(env):
    """%253a (a literal %3a in the file's name) and %3a are two objects; both arrive unharmed."""
    env.origin.serve("/odd_1%3a2.0_amd64.deb", b"literal percent")
    env.origin.serve("/odd_1:2.0_amd64.deb", b"colon")
    depot = env.depot()
    for _ in range(2):
        expect_body(depot.get("http://HTTPS///cuda.example/odd_1%253a2.0_amd64.deb"),
                    b"literal percent")
        expect_body(depot.get("http://HTTPS///cuda.example/odd_1%3a2.0_amd64.deb"), b"colon")
        expect_body(depot.get("http://HTTPS///cuda.example/odd_1%3A2.0_amd64.deb"), b"colon")


def test_query_is_part_of_the_identity(env):
    """The query is kept as it is and tells objects apart; a fragment is no part of it."""
    env.origin.serve("/get", lambda r: Answer(r.target.encode(),
                                              headers=[("Cache-Control", "max-age=100")]))
    depot = env.depot()
    for target in ("/get?a=1//2", "/get?a=2", "/get"):
        expect_body(depot.fetch("https://cuda.example" + target), target)
        depot.wait_idle()
    assert depot.fetch("https://cuda.example/get?a=2").is_hit


def test_dots_never_leave_the_host(env):
    """.. is resolved inside the path and stops at its root."""
    env.origin.serve("/b/x.deb", b"right")
    depot = env.depot()
    for path in ("/a/../b/x.deb", "/../b/x.deb", "/../../one.example/../b/x.deb", "/b/./x.deb"):
        expect_body(depot.get("http://HTTPS///cuda.example" + path), b"right")
    assert {r.host for r in env.origin.requests()} == {"cuda.example"}


def test_scheme_is_part_of_the_identity(env):
    """What came in clear text never answers for the TLS object, nor the other way round."""
    env.origin.serve("/x.deb", lambda r: Answer(b"tls" if r.tls else b"plain"))
    depot = env.depot()
    for _ in range(2):
        expect_body(depot.get("http://cuda.example/x.deb"), b"plain")
        expect_body(depot.get("http://HTTPS///cuda.example/x.deb"), b"tls")
        expect_body(depot.get("/cuda.example/x.deb"), b"plain")
        expect_body(depot.get("/cuda.example:80/x.deb"), b"plain")
    assert len(env.origin.requests()) == 2


def test_https_upgrade(env):
    """Plain http:// to a listed host is fetched over TLS and is the same object."""
    env.origin.serve("/x.deb", lambda r: Answer(b"tls" if r.tls else b"plain"))
    depot = env.depot(https_upgrade="*.example")
    for target in ("http://cuda.example/x.deb", "/cuda.example/x.deb",
                   "http://HTTPS///cuda.example/x.deb"):
        expect_body(depot.get(target), b"tls")
    assert len(env.origin.requests()) == 1


def test_https_upgrade_in_redirects_and_errors(env):
    """A redirect to plain http:// of a listed host goes on over TLS; others stay refused."""
    env.origin.serve("/a.deb", redirect("http://cuda.example/b.deb"))
    env.origin.serve("/b.deb", lambda r: b"tls" if r.tls else b"plain")
    env.origin.serve("/self.deb", redirect("http://cuda.example:80/self.deb"))
    env.origin.serve("/out.deb", redirect("http://one.example/b.deb"))
    env.origin.serve("/port.deb", redirect("http://cuda.example:8080/b.deb"))
    depot = env.depot(https_upgrade="cuda.example")
    response = expect_body(depot.get("http://cuda.example/a.deb"), b"tls")
    assert response.get("X-Original-Source") == "https://cuda.example/a.deb"
    expect_error(depot.get("http://cuda.example/self.deb"), 502, words=["circle"])
    expect_error(depot.get("http://cuda.example/out.deb"), 502, words=["from https to http"])
    expect_error(depot.get("http://cuda.example/port.deb"), 502, words=["from https to http"])
    missing = expect_error(depot.get("http://cuda.example/none.deb"), 404)
    assert "https://cuda.example/none.deb" in missing.text
    assert all(request.tls for request in env.origin.requests())
    # A port of its own is another server, and what is not listed stays as it is.
    env.origin.serve("/c.deb", lambda r: b"tls" if r.tls else b"plain")
    expect_body(depot.get("http://one.example/c.deb"), b"plain")
    expect_body(depot.get("http://one.example:80/c.deb"), b"plain")


def test_client_host_field_decides_nothing(env):
    """The upstream's name comes from the path, whatever Host says."""
    env.origin.serve("/x.deb", b"right")
    depot = env.depot()
    with depot.conn() as conn:
        for host in ("HTTPS", "one.example", "evil.example:8080", "127.0.0.1"):
            conn.send(make_request("http://HTTPS///cuda.example/x.deb", host=host))
            expect_body(conn.read(), b"right")
    assert [r.host for r in env.origin.requests()] == ["cuda.example"]


def test_fields_sent_upstream(env):
    """What belongs between client and depot stays there; only identity encoding is asked for."""
    for path in ("/x.deb", "/dists/stable/InRelease", "/tool.run"):
        env.origin.serve(path, b"data")
        depot = env.depots[0] if env.depots else env.depot()
        expect_body(depot.fetch(
            "https://cuda.example" + path, "Proxy-Authorization: Basic dTpw",
            "Proxy-Connection: Keep-Alive", "Connection: keep-alive, X-Between",
            "X-Between: us", "Connection: X-Too", "X-Too: us", "Keep-Alive: timeout=5", "TE: trailers", "Accept: text/*",
            "Accept-Encoding: gzip, br, zstd", "User-Agent: Debian APT-HTTP/1.3 (2.6.1)"), b"data")
        request, = env.origin.requests(path)
        for name in ("Proxy-Authorization", "Proxy-Connection", "X-Between", "X-Too", "Keep-Alive",
                     "TE"):
            assert request.get(name) is None, f"{path}: {name}: {request.get(name)} was passed on"
        assert request.get("Accept-Encoding") in (None, "identity"), request.get("Accept-Encoding")
        assert request.get("Host") == "cuda.example", request.get("Host")
        if path != "/tool.run":
            assert request.get("Accept") in (None, "*/*"), request.get("Accept")


def test_accept_is_no_part_of_the_identity(env):
    """apt's Accept: text/* and curl's */* share an object."""
    env.origin.serve("/dists/s/by-hash/MD5Sum/8d777f385d3dfec8815d20f7496026dc", b"data")
    depot = env.depot()
    url = "https://deb.example/dists/s/by-hash/MD5Sum/8d777f385d3dfec8815d20f7496026dc"
    expect_body(depot.fetch(url, "Accept: text/*"), b"data")
    depot.wait_idle()
    assert expect_body(depot.fetch(url, "Accept: */*"), b"data").is_hit


def test_credentials_in_the_url_stay_secret(env):
    """user:password@ reaches neither the upstream's request line nor a log."""
    env.origin.serve("/x.run", b"data")
    depot = env.depot(log_level="debug")
    for target in ("http://us:sEcret1@HTTPS///cuda.example/x.run",
                   "http://HTTPS///us:sEcret1@cuda.example/x.run"):
        expect_body(depot.get(target), b"data")
    depot.wait_access("x.run", 2)
    for request in env.origin.requests():
        assert "sEcret1" not in request.target and request.host == "cuda.example"
    depot.stop()
    assert "sEcret1" not in "\n".join(depot.access_lines()) + depot.log_text()


def test_credentials_in_the_url_become_a_field(env):
    """As they are meant: decoded, of any length, with a colon in any case."""
    seen = []

    def remember(request):
        seen.append(base64.b64decode(request.get("Authorization").split()[1]).decode())
        return b"data"
    env.origin.serve("/x.run", remember)
    depot = env.depot()
    for userinfo, want in [("us:pw", "us:pw"), ("us%40er:p%3Aw", "us@er:p:w"), ("us", "us:"),
                           ("a%zz:b%4", "a%zz:b%4"), ("us:" + "p" * 3000, "us:" + "p" * 3000)]:
        expect_body(depot.get(f"http://{userinfo}@HTTPS///cuda.example/x.run"), b"data")
        assert seen.pop() == want


def test_targets_that_name_nothing(env):
    """Wrong targets get an error in words, and the connection stays usable."""
    depot = env.depot()
    for target, statuses in [("/foo/bar", (404,)), ("/favicon.ico/", (404, 502, 504)),
                             ("http://HTTPS///", (400, 404)), ("http://HTTPS", (400, 404)),
                             ("/HTTPS///", (400, 404)), ("http://HTTPS///bad_host^/x", (400,)),
                             ("http://HTTPS///cuda.example:0/x", (400,)),
                             ("http://HTTPS///cuda.example:65536/x", (400,)),
                             ("http://HTTPS///cuda.example:http/x", (400,)),
                             ("ftp://cuda.example/x", (400, 404, 501)),
                             ("/-/nonsense", (404,))]:
        expect_error(depot.get(target), *statuses)
    assert not env.origin.requests()


def test_url_of_the_depot_itself_is_taken_as_its_path(env):
    """A client that uses the depot both as proxy and as origin makes no loop."""
    env.origin.serve("/x.deb", b"data")
    depot = env.depot()
    base = f"http://127.0.0.1:{depot.port}"
    expect_body(depot.get(base + "/HTTPS///cuda.example/x.deb"), b"data")
    assert depot.get(base + "/-/healthz").body == b"ok\n"
    assert len(env.origin.requests()) == 1


def test_every_name_of_the_depot_itself(env):
    """All of this machine's addresses in any notation, its name, and `names`."""
    depot = env.new_depot(names=["depot.example", "apt.example."])
    depot.options["listen"] = f":{depot.port}"
    depot.start()
    for host in ("127.0.0.1", "127.0.0.7", "127.1", "0x7f000001", "0.0.0.0", "localhost", "LocalHost",
                 socket.gethostname(), "depot.example", "DEPOT.Example."):
        assert depot.get(f"http://{host}:{depot.port}/-/healthz").body == b"ok\n", host
    for url in ("http://depot.example/-/healthz", "http://us:pw@depot.example/-/healthz",
                "http://apt.example:8080/-/healthz"):
        assert depot.get(url).body == b"ok\n", url
    assert depot.get("http://depot.example/").status == 406
    # Another port, or behind the depot's own address: not its path.
    for target in ("http://127.0.0.1:1/-/healthz", f"/127.0.0.7:{depot.port}/-/healthz"):
        expect_error(depot.get(target), 502, 508)
    # Nor does it go there when it is redirected.
    env.origin.serve("/x.deb", redirect(f"http://127.0.0.7:{depot.port}/-/metrics"))
    expect_error(depot.get("http://cuda.example/x.deb"), 508)


def test_loop_through_via_is_refused(env):
    """A request that has been through this depot comes back as 508 and goes no further."""
    seen = []

    def remember(request):
        seen.append(request.get("Via"))
        return Answer(b"data")
    env.origin.serve("/x.run", remember)
    depot = env.depot()
    depot.fetch("https://cuda.example/x.run")
    assert seen[0], "no Via is sent upstream: a loop could not be seen"
    expect_error(depot.fetch("https://cuda.example/y.run", f"Via: {seen[0]}"), 508)
    assert not env.origin.requests("/y.run")
    expect_error(depot.fetch("https://cuda.example/y.run", "Via: 1.0 other", f"Via: {seen[0]}"), 508)
    expect_body(depot.fetch("https://cuda.example/x.run", "Via: 1.1 apt-depot"), b"data")
