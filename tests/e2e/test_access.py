# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""Who may ask and what may be reached; and the way upstream: parent proxy, ca_file, connect_to."""
import ports
from body import Pattern
from client import expect_body, expect_error
from origin import Answer, redirect
from parent import Parent

URL = "https://cuda.example/x.deb"


def test_foreign_clients_are_refused(env):
    """403 that names allow_clients; nothing is fetched."""
    env.origin.serve("/x.deb", b"data")
    depot = env.new_depot(allow_clients="10.0.0.0/8")
    # The health page may be refused to this client as well: the start cannot wait for it.
    depot._is_up = lambda: _answers(depot)
    depot.start()
    expect_error(depot.fetch(URL), 403, words=["allow_clients"])
    assert not env.origin.requests()


def _answers(depot):
    try:
        return depot.fetch(URL).status == 403
    except (OSError, AssertionError):
        return False


def test_ports(env):
    """By default only 80 and 443; the answer names allow_ports."""
    depot = env.depot(allow_ports=None)
    env.origin.serve("/x.deb", b"data")
    for target in ("http://cuda.example:25/x.deb", "http://HTTPS///cuda.example:22/x.deb",
                   "/HTTPS///cuda.example:8443/x.deb"):
        expect_error(depot.get(target), 403, words=["allow_ports"])
    for target in ("http://cuda.example/x.deb", "http://HTTPS///cuda.example/x.deb"):
        expect_body(depot.get(target), b"data")
    assert depot.counter("refused_total") == 3


def test_private_addresses_are_refused_by_default(env):
    """Loopback, private, link-local, however they are written: 403 that names allow_addresses."""
    env.origin.serve("/x.deb", b"secret")
    port = env.origin.plain_port
    depot = env.depot(allow_addresses=None, connect_timeout="3s")
    for host in ("127.0.0.1", "127.1.2.3", "localhost", "10.1.2.3", "192.168.0.1", "172.16.0.1",
                 "169.254.169.254", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "100.64.0.1"):
        expect_error(depot.get(f"http://{host}:{port}/x.deb"), 403, words=["allow_addresses"])
    # A name that is sent elsewhere by connect_to is judged by where it is sent.
    expect_error(depot.fetch(URL), 403, words=["allow_addresses"])
    assert not env.origin.requests()


def test_numbers_that_hide_an_address(env):
    """Decimal, hexadecimal and short forms of 127.0.0.1 reach nothing."""
    env.origin.serve("/x.deb", b"secret")
    depot = env.depot(allow_addresses=None, connect_timeout="2s")
    for host in ("2130706433.", "0x7f.1", "0177.0.0.1", "127.1"):
        response = depot.get(f"http://{host}:{env.origin.plain_port}/x.deb")
        assert response.status in (400, 403, 404, 502, 504), (host, response)
    assert not env.origin.requests()


def test_denied_addresses(env):
    """deny_addresses wins over allow_addresses."""
    env.origin.serve("/x.deb", b"data")
    depot = env.depot(deny_addresses="127.0.0.1")
    expect_error(depot.fetch(URL), 403, words=["deny_addresses", "127.0.0.1"])
    expect_error(depot.get(f"http://127.0.0.1:{env.origin.plain_port}/x.deb"), 403,
                 words=["deny_addresses"])
    with depot.conn() as conn:
        conn.send("CONNECT cuda.example:443 HTTP/1.1\r\nHost: x\r\n\r\n")
        expect_error(conn.read(), 403, words=["deny_addresses"])
    assert not env.origin.requests()


def test_a_name_that_leads_inside(env):
    """The address connected to counts: for a fetch, a redirect, a tunnel; others go on."""
    env.origin.serve("/x.deb", b"secret")
    env.origin.serve("/to.deb", redirect("https://two.example/x.deb"))
    depot = env.new_depot(allow_addresses="127.0.0.1", connect_ports="any")
    depot.options["connect_to"] = [f"cuda.example:443:127.0.0.1:{env.origin.tls_port}"] + [
        f"two.example:443:{address}:443" for address in ("169.254.169.254",)]
    depot.start()
    expect_error(depot.fetch("https://two.example/x.deb"), 403,
                 words=["allow_addresses", "169.254.169.254", "two.example"])
    expect_error(depot.fetch("https://cuda.example/to.deb"), 403, words=["allow_addresses"])
    with depot.conn() as conn:
        conn.send("CONNECT two.example:443 HTTP/1.1\r\nHost: x\r\n\r\n")
        expect_error(conn.read(), 403, words=["allow_addresses"])
    expect_body(depot.fetch("https://cuda.example/x.deb"), b"secret")
    assert len(env.origin.requests()) == 2


def test_upstream_lists(env):
    """allow_upstreams and deny_upstreams, with and without ports."""
    env.origin.serve("/x.deb", b"data")
    depot = env.depot(allow_upstreams=["*.example"], deny_upstreams=["one.example",
                                                                     "two.example:80"])
    expect_body(depot.fetch(URL), b"data")
    expect_error(depot.fetch("https://one.example/x.deb"), 403, words=["deny_upstreams"])
    expect_error(depot.fetch("http://two.example/x.deb"), 403, words=["deny_upstreams"])
    expect_body(depot.fetch("https://two.example/x.deb"), b"data")
    expect_error(depot.fetch("https://elsewhere.invalid/x.deb"), 403, words=["allow_upstreams"])


def test_redirects_to_forbidden_places(env):
    """Each hop is judged like a request: address, port and host."""
    env.origin.serve("/address.deb", redirect("https://127.0.0.2/x.deb"))
    env.origin.serve("/metadata.deb", redirect("http://169.254.169.254/latest"))
    env.origin.serve("/port.deb", redirect("http://cuda.example:25/x.deb"))
    env.origin.serve("/host.deb", redirect("http://one.example/x.deb"))
    env.origin.serve("/x.deb", b"must not be served")
    depot = env.depot(allow_addresses="127.0.0.1", allow_ports=None, deny_upstreams="one.example")
    for name, word in (("address", "allow_addresses"), ("metadata", "allow_addresses"),
                       ("port", "allow_ports"), ("host", "deny_upstreams")):
        expect_error(depot.fetch(f"http://cuda.example/{name}.deb"), 403, words=[word])
    assert not env.origin.requests("/x.deb")


def test_parent_proxy(env):
    """TLS goes through CONNECT with credentials, names are left to the parent, TLS is verified."""
    body = Pattern(300000)
    env.origin.serve("/x.deb", Answer(body, stop_at=100000), body)
    parent = Parent(env.origin, "us:p@ss")
    depot = env.depot(connect_to=None, allow_addresses=None, allow_ports=None, log_level="debug",
                      parent_proxy=f"http://us:p%40ss@127.0.0.1:{parent.port}")
    expect_body(depot.fetch(URL), body)
    assert parent.heads and all(head.startswith("CONNECT cuda.example:443 HTTP/1.1\r\n")
                                for head in parent.heads), parent.heads
    for request in env.origin.requests():
        assert request.get("Proxy-Authorization") is None and request.sni == "cuda.example"
    expect_error(depot.fetch("https://wrong.example/x.deb"), 502, words=["certificate"])
    depot.stop()
    assert "p@ss" not in depot.log_text() and "p%40ss" not in depot.log_text()


def test_parent_proxy_for_plain_http(env):
    """Clear-text objects go through the parent too."""
    env.origin.serve("/x.deb", b"data")
    parent = Parent(env.origin)
    depot = env.depot(connect_to=None, allow_addresses=None, allow_ports=None,
                      parent_proxy=f"http://127.0.0.1:{parent.port}")
    expect_body(depot.fetch("http://cuda.example/x.deb"), b"data")
    assert len(parent.heads) == 1


def test_parent_proxy_that_refuses(env):
    """Its 407 becomes 502 in words, its absence too: a client of ours cannot answer either."""
    parent = Parent(env.origin, "us:right")
    depot = env.depot(connect_to=None, allow_ports=None,
                      parent_proxy=f"http://us:wrong@127.0.0.1:{parent.port}")
    response = depot.fetch(URL)
    expect_error(response, 502, words=["proxy"])
    assert response.get("Proxy-Authenticate") is None
    expect_error(depot.fetch("http://cuda.example/x.deb"), 502, words=["proxy"])
    other = env.depot(connect_to=None, allow_ports=None,
                      parent_proxy=f"http://127.0.0.1:{ports.hold_port()}")
    expect_error(other.fetch(URL), 502, 504, words=["proxy"])


def test_no_proxy(env):
    """Hosts in no_proxy are reached without the parent."""
    env.origin.serve("/x.deb", b"data")
    depot = env.depot(no_proxy="example", parent_proxy=f"http://127.0.0.1:{ports.hold_port()}")
    expect_body(depot.fetch(URL), b"data")
