# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""doctor: each hop is looked at, what is wrong is said with what mends it, and the exit status."""
import json
import os
import ssl
import subprocess

from body import Pattern
from depot import BINARY, SLOW, run_command
from origin import Answer
from parent import Parent
import ports
from test_parents import answer_ok, old_context, strict_context, tls_server

NEEDS_PACKAGES = True


class Report:
    """What doctor said, by check."""

    def __init__(self, done):
        assert done.returncode in (0, 1), (done.returncode, done.stderr)
        self.status = done.returncode
        self.rows = [json.loads(line) for line in done.stdout.splitlines()]

    def worst(self, check):
        """The most serious line of a check, the last of several: (result, text with what mends it)."""
        rows = [row for row in self.rows if row["check"] == check and row["result"] != "note"]
        assert rows, f"no {check} in {self.rows}"
        row = max(reversed(rows), key=lambda row: ["OK", "WARN", "FAIL"].index(row["result"]))
        return row["result"], row["saw"] + " -> " + row.get("mend", "")

    def notes(self, check):
        """Notes of a check."""
        return " | ".join(row["saw"] for row in self.rows
                          if row["check"] == check and row["result"] == "note")

    def fails(self):
        """Checks that failed."""
        return sorted({row["check"] for row in self.rows if row["result"] == "FAIL"})

    def expect(self, check, result, *words):
        """It went so, in these words."""
        got, text = self.worst(check)
        assert got == result, (check, got, text)
        for word in words:
            assert word in text, (check, word, text)
        return self


def options_of(depot, **changed):
    """The depot's options as arguments; None leaves one out."""
    args = []
    for key, values in {**depot.options, **changed}.items():
        if values is not None:
            for value in values if isinstance(values, (list, tuple)) else [values]:
                args += ["-o", f"{key}={value}"]
    return args


def doctor(depot, *words, **changed):
    """Runs it with the depot's configuration."""
    return Report(subprocess.run([BINARY, "doctor", "--json", *words, *options_of(depot, **changed)],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                                 stderr=subprocess.PIPE, timeout=45 * SLOW, check=False))


def url_of(repo):
    """Its directory."""
    return "https://cuda.example" + repo.root


def test_all_fine(env):
    """A running depot and a good repository: every check, none failed."""
    repo = env.flat_repo()
    depot = env.depot(cache_max="1G")
    report = doctor(depot, url_of(repo))
    assert report.fails() == [] and report.status == 0, report.rows
    report.expect("config", "OK").expect("cache_dir", "OK", depot.cache_dir)
    report.expect("space", "OK").expect("listen", "OK", "a depot answers")
    report.expect("allowed", "OK").expect("connect_to", "OK").expect("resolve", "OK", "127.0.0.1").expect("connect", "OK")
    report.expect("tls", "OK", "TLSv1.3").expect("certificate", "OK", "ca_file")
    report.expect("http", "OK", "InRelease").expect("clock", "OK").expect("release", "OK", "signed")
    report.expect("packages", "OK", "agrees").expect("speed", "OK", "first byte")
    assert "apt-depot test CA" in report.notes("tls")
    text = subprocess.run([BINARY, "doctor", url_of(repo), *options_of(depot)], text=True,
                          stdout=subprocess.PIPE, timeout=45 * SLOW, check=True).stdout
    assert "OK    certificate" in text and text.splitlines()[-1].endswith("0 failed"), text


def test_dists_repository_without_a_depot(env):
    """By suite; nobody listens: a warning, and exit status 0."""
    repo = env.dists_repo()
    depot = env.new_depot()
    report = doctor(depot, f"https://deb.example{repo.root}dists/stable/InRelease")
    assert report.status == 0, report.rows
    report.expect("listen", "WARN", "nobody", "serve").expect("packages", "OK", "agrees")
    report.expect("cache_dir", "WARN", "does not exist yet")


def test_a_file(env):
    """Any other URL is fetched and timed."""
    env.origin.serve("/x+1.deb", Pattern(1 << 20))
    depot = env.new_depot()
    report = doctor(depot, "http://HTTPS///cuda.example/x+1.deb")
    assert report.status == 0, report.rows
    report.expect("http", "OK", "200").expect("speed", "OK", "MB/s")
    # Newer libcurls write it in capitals.
    assert repr(env.origin.requests()[0]).lower().endswith(" /x%2b1.deb"), env.origin.requests()
    doctor(depot, "https://cuda.example/none.deb").expect("http", "FAIL", "404")
    report = doctor(depot, "http://cuda.example/x+1.deb")
    report.expect("http", "OK", "200")
    assert not [row for row in report.rows if row["check"] == "tls"]


def test_certificates(env):
    """Unknown issuer, another name, too old: each with its own remedy."""
    env.origin.serve("/x.deb", b"x", host="unknown.example")
    depot = env.new_depot()
    report = doctor(depot, "https://unknown.example/x.deb", ca_file=None)
    assert report.fails() == ["certificate"] and report.status == 1
    report.expect("certificate", "FAIL", "ca_file = ", "--save-ca")
    assert "breaks TLS open" in report.notes("certificate")
    assert "a CA nobody knows" in report.notes("certificate")
    doctor(depot, "https://unknown.example/x.deb").expect("certificate", "FAIL", "nor with ca_file")
    doctor(depot, "https://wrong.example/x.deb").expect("certificate", "FAIL",
                                                        "somebody-else.example")
    doctor(depot, "https://expired.example/x.deb").expect("certificate", "FAIL", "expired", "clock")
    doctor(depot, "https://selfsigned.example/x.deb").expect("certificate", "FAIL", "self-signed",
                                                             "ca_file", "--save-ca")


def test_handshakes(env):
    """No TLS there, too old, silent, or it wants a certificate: what it is, and the key that mends it."""
    depot = env.new_depot()
    silent, clear = ports.listen(), tls_server(answer_ok, None, clear=True)

    def at(port, **changed):
        return doctor(depot, "https://cuda.example/x.deb",
                      connect_to=f"cuda.example:443:127.0.0.1:{port}", **changed)
    at(clear).expect("tls", "FAIL", "does not speak TLS", "another port")
    at(silent.getsockname()[1], connect_timeout="300ms").expect("tls", "FAIL", "connect_timeout",
                                                                "parent_proxy")
    at(tls_server(answer_ok, old_context(env))).expect("tls", "FAIL", "TLSv1.1", "TLS 1.2")
    client = env.certificates.file("client.pem")
    for version, check in ((ssl.TLSVersion.TLSv1_2, "tls"), (ssl.TLSVersion.TLSv1_3, "http")):
        port = tls_server(answer_ok, strict_context(env, version))
        report = at(port)
        assert report.fails() == [check], report.rows
        report.expect("tls", "FAIL" if check == "tls" else "WARN", "client certificate",
                      "client_cert = ")
        report = at(port, client_cert=client)
        assert report.fails() == [], report.rows


def test_every_failure_has_what_mends_it(env):
    """Hops that break in other ways: no FAIL without a line that says what to do."""
    env.origin.serve("/x.deb", b"x")
    env.origin.serve("/busy.deb", Answer(b"", 503))
    depot = env.new_depot()
    url = "https://cuda.example/x.deb"

    def behind(port, url=url):
        return doctor(depot, url, connect_to=None, parent_proxy=f"http://127.0.0.1:{port}")
    reports = [
        behind(Parent(env.origin, refuse=403).port).expect("parent", "FAIL", "403", "no_proxy"),
        behind(Parent(env.origin, refuse=502).port).expect("parent", "FAIL", "does not get through",
                                                           "name another one"),
        behind(Parent(env.origin, "us:pw").port, "http://cuda.example/x.deb").expect(
            "http", "FAIL", "407", "parent_proxy = http://USER:PASSWORD@"),
        behind(env.origin.plain_port).expect("parent", "FAIL", "does not know CONNECT",
                                             "parent_proxy = "),
        behind(env.origin.tls_port).expect("parent", "FAIL", "says nothing", "parent_proxy"),
        doctor(depot, "https://cuda.example/busy.deb").expect("http", "FAIL", "503", "ask who runs"),
        doctor(depot, url, deny_addresses="127.0.0.1").expect("resolve", "FAIL",
                                                              "deny_addresses without 127.0.0.1"),
        doctor(depot, url, address_family="6", connect_to="cuda.example:443:127.0.0.1:1").expect(
            "resolve", "FAIL", "address_family = any"),
    ]
    doctor(depot, url, offline="yes").expect("allowed", "WARN", "offline = no")
    for report in reports:
        assert report.status == 1
        for row in report.rows:
            assert row["result"] != "FAIL" or row.get("mend"), row


def test_parent_proxy_over_tls(env):
    """https:// to it: its certificate is judged, and the origin's inside of the same session."""
    repo = env.flat_repo()
    parent = Parent(env.origin, "us:pw", tls=env.certificates.file("parent.pem"))
    depot = env.new_depot(connect_to=None, parent_proxy=f"https://us:pw@127.0.0.1:{parent.port}")
    report = doctor(depot, url_of(repo))
    assert report.fails() == [], report.rows
    report.expect("parent", "OK", "makes a tunnel").expect("certificate", "OK", "ca_file")
    report.expect("packages", "OK", "agrees")
    doctor(depot, "https://wrong.example/x.deb").expect("certificate", "FAIL",
                                                        "somebody-else.example")
    report = doctor(depot, url_of(repo), ca_file=None)
    report.expect("parent", "FAIL", "not accepted", "ca_file = ")
    report = doctor(depot, url_of(repo), parent_proxy=f"https://127.0.0.1:{Parent(env.origin).port}")
    report.expect("parent", "FAIL", "does not speak TLS", "parent_proxy = http://")


def test_save_ca(env):
    """The certificate that was seen becomes a file, and that file is what was needed."""
    env.origin.serve("/x.deb", b"x" * 100)
    depot = env.new_depot()
    path = os.path.join(env.path, "seen.pem")
    report = doctor(depot, "--save-ca", path, "https://cuda.example/x.deb", ca_file=None)
    assert report.status == 1
    with open(path, encoding="ascii") as pem:
        assert pem.read().startswith("-----BEGIN CERTIFICATE-----")
    report.expect("save-ca", "WARN", "no CA's")
    report = doctor(depot, "https://cuda.example/x.deb", ca_file=path)
    assert report.fails() == [], report.rows
    report = doctor(depot, "--save-ca", path, "https://cuda.example/x.deb", ca_file=None)
    report.expect("save-ca", "FAIL", "cannot write")


def test_parent_proxy(env):
    """With the right password, without, with none, and with nobody there; the first good one counts."""
    repo = env.flat_repo()
    parent = Parent(env.origin, credentials="us er:p@ss")
    depot = env.new_depot(connect_to=None)
    right = f"http://us%20er:p%40ss@127.0.0.1:{parent.port}"
    report = doctor(depot, url_of(repo), parent_proxy=right)
    assert report.fails() == [], report.rows
    report.expect("parent", "OK", "makes a tunnel").expect("packages", "OK")
    report = doctor(depot, url_of(repo), parent_proxy=f"http://127.0.0.1:{parent.port}")
    report.expect("parent", "FAIL", "wants user and password", "407", "USER:PASSWORD")
    assert report.status == 1
    report = doctor(depot, url_of(repo), parent_proxy=f"http://us:wrong@127.0.0.1:{parent.port}")
    report.expect("parent", "FAIL", "does not accept")
    assert "wrong" not in json.dumps(report.rows)
    dead = ports.hold_port()
    report = doctor(depot, url_of(repo), parent_proxy=f"http://127.0.0.1:{dead}")
    report.expect("parent", "FAIL", "no address could be connected to")
    report = doctor(depot, url_of(repo), parent_proxy=[f"http://127.0.0.1:{dead}", right])
    report.expect("packages", "OK")
    report = doctor(env.new_depot(), url_of(repo), parent_proxy=f"http://127.0.0.1:{dead}",
                    no_proxy="cuda.example")
    assert report.fails() == [], report.rows


def test_refused_by_configuration(env):
    """Ports, hosts and addresses: the key is named."""
    env.origin.serve("/x.deb", b"x")
    depot = env.new_depot()
    doctor(depot, "https://cuda.example/x.deb", allow_addresses=None).expect(
        "resolve", "FAIL", "refused", "allow_addresses = 127.0.0.1")
    doctor(depot, "https://cuda.example:444/x.deb", allow_ports="443").expect(
        "allowed", "FAIL", "allow_ports = 80, 443, 444")
    doctor(depot, "https://cuda.example/x.deb", deny_upstreams="*.example").expect(
        "allowed", "FAIL", "deny_upstreams")
    doctor(depot, "https://127.0.0.1/x.deb", allow_addresses=None).expect(
        "allowed", "FAIL", "allow_addresses = 127.0.0.1")
    doctor(depot, "https://no-such-name.test/x.deb").expect("resolve", "FAIL", "parent_proxy")


def test_credentials(env):
    """auth: read as the depot reads it, sent, and never shown."""
    env.origin.serve("/x.deb", b"x" * 100)
    depot = env.new_depot()
    path = os.path.join(env.path, "auth.conf")
    with open(path, "w", encoding="ascii") as out:
        out.write("machine cuda.example login us password secret-word\n")
    os.chmod(path, 0o600)
    report = doctor(depot, "https://cuda.example/x.deb", auth=path)
    report.expect("auth", "OK", "has an entry").expect("http", "OK", "200")
    assert env.origin.requests()[-1].get("Authorization", "").startswith("Basic ")
    assert "secret-word" not in json.dumps(report.rows)
    doctor(depot, "http://cuda.example/x.deb", auth=path).expect("auth", "WARN", "clear text")
    assert env.origin.requests()[-1].get("Authorization") is None
    doctor(depot, "https://deb.example/x.deb", auth=path).expect("auth", "OK", "no entry")


def test_captive_portal(env):
    """A login page in place of InRelease, and in place of a package."""
    page = b"<!DOCTYPE html><html>please log in</html>"
    env.origin.serve("/flat/InRelease", Answer(page, headers=[("Content-Type", "text/html")]))
    env.origin.serve("/flat/x.deb", page)
    depot = env.new_depot()
    doctor(depot, "https://cuda.example/flat/").expect("release", "FAIL", "captive portal")
    doctor(depot, "https://cuda.example/flat/x.deb").expect("release", "FAIL", "captive portal")


def test_repository_in_disorder(env):
    """A Packages that is another than the Release says; one that is not there; no Release."""
    repo = env.flat_repo()
    depot = env.new_depot()
    for name in ("Packages", "Packages.gz"):
        env.origin.serve(repo.root + name, b"another one", host=repo.host)
    report = doctor(depot, url_of(repo))
    report.expect("packages", "FAIL", "being updated")
    assert report.status == 1
    for name in ("Packages", "Packages.gz"):
        env.origin.serve(repo.root + name, Answer(b"", status=404), host=repo.host)
    doctor(depot, url_of(repo)).expect("packages", "FAIL", "none of the Packages")
    env.origin.serve("/big/Release", f"SHA256:\n {'0' * 64} {65 << 20} Packages\n".encode())
    env.origin.serve("/big/Packages", Pattern(65 << 20))
    doctor(depot, "https://cuda.example/big/").expect("packages", "OK", "too large to be compared")
    env.origin.serve("/bare/InRelease", b"not a release")
    doctor(depot, "https://cuda.example/bare/").expect("release", "FAIL", "no Release")
    doctor(depot, "https://cuda.example/empty/").expect("http", "FAIL", "404")


def test_clock(env):
    """The origin's Date is a day and more away."""
    env.origin.serve("/x.deb", Answer(b"x", headers=[("Date", "Mon, 01 Jan 2024 00:00:00 GMT")]))
    report = doctor(env.new_depot(), "https://cuda.example/x.deb")
    report.expect("clock", "FAIL", "ahead of", "time service")


def test_this_machine(env):
    """World-writable directory, a file in its place, a foreign listener, a bad configuration."""
    env.origin.serve("/x.deb", b"x")
    depot = env.new_depot()
    url = "https://cuda.example/x.deb"
    os.makedirs(depot.cache_dir)
    os.chmod(depot.cache_dir, 0o777)
    doctor(depot, url).expect("cache_dir", "FAIL", "chmod o-w")
    os.chmod(depot.cache_dir, 0o750)
    if os.geteuid() == 0:
        with open(os.path.join(depot.cache_dir, "x"), "w", encoding="ascii"):
            doctor(depot, url, user="nobody").expect("cache_dir", "FAIL", "chown -R nobody")
    authority = os.path.join(depot.cache_dir, "ca")
    doctor(depot, url, intercept_hosts="cuda.example")
    assert not os.path.exists(authority)
    assert run_command("ca", *options_of(depot), "-o", "intercept_hosts=*.example").returncode == 0
    doctor(depot, url, intercept_hosts="*.example").expect("authority", "OK")
    os.chmod(authority, 0o777)
    doctor(depot, url, intercept_hosts="*.example").expect("authority", "FAIL", "chmod 700")
    doctor(depot, url, cache_max="900T").expect("space", "WARN", "cache_max")
    path = os.path.join(env.path, "file")
    with open(path, "w", encoding="ascii"):
        pass
    doctor(depot, url, cache_dir=path).expect("config", "FAIL", "can't be a directory")
    doctor(depot, url, listen=f"127.0.0.1:{env.origin.plain_port}").expect(
        "listen", "FAIL", "something else")
    report = doctor(depot, url, no_such_key="1")
    report.expect("config", "FAIL", "no_such_key")
    assert report.status == 1


def test_misuse(env):
    """No URL, two of them."""
    for args in (["what?"], ["https://a.example/", "https://b.example/"], ["--all"]):
        done = subprocess.run([BINARY, "doctor", *args, "-o", f"cache_dir={env.path}"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=45 * SLOW,
                              check=False)
        assert done.returncode == 2, (args, done)
