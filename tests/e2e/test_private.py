# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""Private repositories: credentials of clients, and credentials that live at the depot."""
import base64
import os
import signal
import subprocess

from body import Pattern
from client import expect_body, expect_error
from depot import run_command, wait_until
from origin import Answer, redirect
from support import patient, together
from tlsclient import intercepted

URL = "https://cuda.example/pool/x.deb"
NEEDS_PACKAGES = True


def basic(text):
    """The field's value."""
    return "Basic " + base64.b64encode(text.encode()).decode()


def guarded(body, want, **options):
    """401 unless the request has exactly these credentials."""
    def answer(request):
        if request.get("Authorization") != basic(want):
            return Answer(b"who are you?\n", 401,
                          headers=[("WWW-Authenticate", 'Basic realm="packages"')])
        return Answer(body, **options)
    return answer


def expect_secrets_kept(depot, *secrets):
    """They are in no log, page, metric or file of the depot."""
    pages = "".join(depot.get(page).text for page in ("/-/metrics", "/-/", "/-/api/v1/status"))
    depot.stop()
    data = (pages + depot.log_text() + "\n".join(depot.access_lines())).encode()
    for directory, _, names in os.walk(depot.cache_dir):
        if os.path.basename(os.path.dirname(directory)) == "blobs":
            continue
        for name in names:
            data += name.encode()
            with open(os.path.join(directory, name), "rb") as file:
                data += file.read(16 << 20)
    for secret in secrets:
        for form in (secret, basic(secret), base64.b64encode(secret.encode()).decode(),
                     secret.split(":", 1)[1]):
            assert form.encode() not in data, f"{form} was written somewhere"


def write_auth(env, text, name="auth.conf"):
    """A file of credentials."""
    path = os.path.join(env.path, name)
    with open(path + ".new", "w", encoding="utf-8") as out:
        out.write(text)
    os.chmod(path + ".new", 0o600)
    os.rename(path + ".new", path)
    return path


def test_clients_credentials_are_theirs_alone(env):
    """Two users and nobody: each gets its own answer, nothing is stored, joined or shared."""
    gate = env.origin.gate()
    body = Pattern(200000)
    env.origin.serve("/pool/x.deb", guarded(body, "ann:s3cr3t-a", gate=gate))
    depot = env.depot(log_level="debug")

    def ask(*headers, url="http://HTTPS///cuda.example/pool/x.deb"):
        return depot.get(url, *headers)
    jobs = [lambda: ask("Authorization: " + basic("ann:s3cr3t-a")) for _ in range(3)]
    jobs.append(lambda: ask(url="http://ann:s3cr3t-a@HTTPS///cuda.example/pool/x.deb"))

    def release():
        env.origin.wait_requests("/pool/x.deb", 4)
        gate.open()
    answers = together(*jobs, release)[:4]
    for answer in answers:
        expect_body(answer, body)
        assert "fwd=bypass" in answer.cache_status and "stored" not in answer.cache_status
    assert len(env.origin.requests("/pool/x.deb")) == 4
    expect_error(ask("Authorization: " + basic("bob:s3cr3t-b")), 401)
    denied = expect_error(ask(), 401)
    assert denied.get("WWW-Authenticate") == 'Basic realm="packages"'
    depot.wait_idle()
    assert depot.counter("cache_blobs") == 0 and not depot.blob_paths()
    expect_secrets_kept(depot, "ann:s3cr3t-a", "bob:s3cr3t-b")


def test_credentials_inside_an_intercepted_connection(env):
    """The same through TLS that the depot ends: that client's alone, nothing of it is kept."""
    env.origin.serve("/pool/x.deb", guarded(b"data", "ann:s3cr3t-a"))
    depot = env.depot(intercept_hosts="cuda.example", log_level="debug")
    with intercepted(env, depot, "cuda.example") as conn:
        answer = conn.get("/pool/x.deb", "Authorization: " + basic("ann:s3cr3t-a"),
                          host="cuda.example")
        assert "fwd=bypass" in expect_body(answer, b"data").cache_status
        expect_error(conn.get("/pool/x.deb", host="cuda.example"), 401)
    depot.wait_idle()
    assert depot.counter("cache_blobs") == 0
    expect_secrets_kept(depot, "ann:s3cr3t-a")


def test_a_cut_private_body_is_resumed_for_its_client_only(env):
    """The rest comes with the same credentials; no part of it is kept."""
    body = Pattern(1 << 20)
    cut = Answer(body, stop_at=300000)
    env.origin.serve("/pool/x.deb", cut, guarded(body, "ann:s3cr3t-a"))
    depot = env.depot()
    expect_body(depot.fetch(URL, "Authorization: " + basic("ann:s3cr3t-a")), body)
    assert [r.get("Authorization") for r in env.origin.requests()] == [basic("ann:s3cr3t-a")] * 2
    depot.wait_idle()
    assert not os.listdir(os.path.join(depot.cache_dir, "partial"))


def test_a_password_that_is_explained(env):
    """A URL with a password in it, typed into the page's form or asked for with another mistake."""
    depot = env.depot(log_level="debug")
    for target in ("/-/explain?url=https%3A%2F%2Fann%3As3cr3t-a%40cuda.example%2Fx.deb",
                   "/-/api/v1/explain?url=https://ann:s3cr3t-a@cuda.example/x.deb",
                   "http://ann:s3cr3t-a@cuda.example:99999/x.deb"):
        depot.get(target)
    expect_error(depot.get("http://ann:s3cr3t-a@cuda.example/x", method="POST"), 405)
    depot.wait_access("(hidden)", 4)
    expect_secrets_kept(depot, "ann:s3cr3t-a")


def test_a_long_token_arrives_whole(env):
    """A Kerberos ticket or a chain of signatures: what fits a request is not cut on its way."""
    token = "Bearer " + "0123456789abcdef" * 1250
    env.origin.serve("/pool/x.deb", b"data")
    depot = env.depot()
    expect_body(depot.fetch(URL, "Authorization: " + token), b"data")
    assert env.origin.requests()[0].get("Authorization") == token


def test_redirects_drop_credentials_at_the_hosts_border(env):
    """Same host: kept. Another host: dropped, and sent again when a retry begins anew at home."""
    env.origin.serve("/pool/x.deb", redirect("/real/x.deb"), host="cuda.example")
    env.origin.serve("/real/x.deb", redirect("https://mirror.example/x.deb"), host="cuda.example")
    env.origin.serve("/x.deb", Answer(b"busy", 503), b"data", host="mirror.example")
    depot = env.depot()
    expect_body(depot.fetch(URL, "Authorization: " + basic("ann:pw")), b"data")
    for request in env.origin.requests():
        want = basic("ann:pw") if request.host == "cuda.example" else None
        assert request.get("Authorization") == want, request
    assert len(env.origin.requests()) == 6


def test_credentials_at_the_depot(env):
    """Clients need none and share what is stored; only the host they are for gets them."""
    env.origin.serve("/pool/x.deb", guarded(b"data", "depot:d3p0t"))
    env.origin.serve("/elsewhere.deb", redirect("https://mirror.example/pool/y.deb"))
    env.origin.serve("/pool/y.deb", b"other")
    auth = write_auth(env, "# comment\nmachine cuda.example\n  login depot\n  password d3p0t\n"
                      "machine one.example/pool login \"o n e\" password \"p w\\\"#\"\n"
                      "machine http://two.example login two password cl3ar-w0rd\n")
    depot = env.depot(auth=auth, log_level="debug")
    expect_body(depot.fetch(URL), b"data")
    depot.wait_idle()
    assert expect_body(depot.fetch(URL), b"data").is_hit
    expect_body(depot.fetch("https://cuda.example/elsewhere.deb"), b"other")
    expect_body(depot.fetch("https://one.example/pool/y.deb"), b"other")
    for url in ("https://one.example/poolside.deb", "http://one.example/pool/z.deb",
                "https://two.example/pool/q.deb", "http://two.example/pool/q.deb",
                "http://cuda.example/pool/x.deb"):
        depot.fetch(url)
    sent = {(r.host, r.tls, r.path): r.get("Authorization") for r in env.origin.requests()}
    assert sent == {
        ("cuda.example", True, "/pool/x.deb"): basic("depot:d3p0t"),
        ("cuda.example", True, "/elsewhere.deb"): basic("depot:d3p0t"),
        ("mirror.example", True, "/pool/y.deb"): None,
        ("one.example", True, "/pool/y.deb"): basic('o n e:p w"#'),
        ("one.example", True, "/poolside.deb"): None,
        ("one.example", False, "/pool/z.deb"): None,
        ("two.example", True, "/pool/q.deb"): None,
        ("two.example", False, "/pool/q.deb"): basic("two:cl3ar-w0rd"),
        ("cuda.example", False, "/pool/x.deb"): None}, sent
    response = depot.fetch("http://cuda.example/pool/x.deb")
    expect_error(response, 401, words=["auth", "TLS", "https_upgrade", "machine http://"])
    expect_secrets_kept(depot, "depot:d3p0t", "two:cl3ar-w0rd", 'o n e:p w"#')


def test_a_clients_own_credentials_win(env):
    """The depot's are for clients that bring none."""
    env.origin.serve("/pool/x.deb", b"data")
    auth = write_auth(env, "machine cuda.example login depot password d3p0t\n")
    depot = env.depot(auth=auth)
    expect_body(depot.fetch(URL, "Authorization: " + basic("ann:pw")), b"data")
    assert [r.get("Authorization") for r in env.origin.requests()] == [basic("ann:pw")]


@patient
def test_changed_credentials_come_into_force(env):
    """By SIGHUP at once; a file with a mistake changes nothing, and is told in the log."""
    env.origin.serve("/pool/x.deb", guarded(b"data", "depot:n3w"))
    auth = write_auth(env, "machine cuda.example login depot password 0ld\n")
    depot = env.depot(auth=auth)
    expect_error(depot.fetch(URL), 401, words=["auth", "login and password"])
    write_auth(env, "machine cuda.example login depot\n")
    os.kill(depot.process.pid, signal.SIGHUP)
    wait_until(lambda: "no password for this machine" in depot.log_text(), "the mistake is told")
    write_auth(env, "machine cuda.example login depot password n3w\n")
    os.kill(depot.process.pid, signal.SIGHUP)
    wait_until(lambda: "read again" in depot.log_text(), "it is read again")
    expect_body(depot.fetch(URL), b"data")
    # Without a signal too, within seconds.
    env.origin.serve("/pool/y.deb", guarded(b"data", "depot:third"))
    write_auth(env, "machine cuda.example login depot password third\n")
    wait_until(lambda: depot.fetch("https://cuda.example/pool/y.deb").status == 200,
               "the third password is used", 20)
    expect_secrets_kept(depot, "depot:0ld", "depot:n3w", "depot:third")


def test_bad_auth_files_are_refused_at_start(env):
    """In words, with the line, without the password."""
    for text, word in (("machine cuda.example login u\n", "line 1"),
                       ("default login u password hunter2\n", "default"),
                       ("\nmachine cuda.example login u password hunter2 hunter2\n", "line 2"),
                       ("machine ftp://cuda.example login u password hunter2\n", "host"),
                       ("machine a.example login u:v password hunter2\n", "colon")):
        path = write_auth(env, text)
        done = run_command("serve", "-o", f"auth={path}", "-o", f"cache_dir={env.path}/c")
        assert done.returncode != 0 and word in done.stdout, (text, done.stdout)
        assert "hunter2" not in done.stdout, done.stdout


def test_auth_per_upstream(env):
    """Two sections, two files: each host gets what its own file says."""
    env.origin.serve("/pool/x.deb", b"data")
    first = write_auth(env, "machine one.example login a password 1\n"
                       "machine two.example login wrong password 1\n", "a")
    second = write_auth(env, "machine two.example login b password 2\n", "b")
    conf = os.path.join(env.path, "depot.conf")
    with open(conf, "w", encoding="ascii") as out:
        out.write(f'[upstream "one.example"]\nauth = {first}\n'
                  f'[upstream "two.example"]\nauth = {second}\n')
    depot = env.new_depot()
    plain = depot.arguments
    depot.arguments = lambda: plain()[:2] + ["-c", conf] + plain()[2:]
    depot.start()
    for host in ("one", "two", "three"):
        expect_body(depot.fetch(f"https://{host}.example/pool/x.deb"), b"data")
    assert {r.host: r.get("Authorization") for r in env.origin.requests()} == {
        "one.example": basic("a:1"), "two.example": basic("b:2"), "three.example": None}


def test_apt_with_auth_conf(env):
    """Real apt, credentials in its own auth.conf: served, and not kept for others."""
    repo = env.flat_repo()
    depot = env.depot()
    served = env.origin._find  # the repository's answers, behind a password

    def find(request):
        if request.get("Authorization") != basic("ann:s3cr3t-a"):
            return Answer(b"no\n", 401, headers=[("WWW-Authenticate", 'Basic realm="p"')])
        return served(request)
    env.origin._find = find
    apt = env.apt(depot, repo.source())
    auth = os.path.join(env.path, "apt-auth.conf")
    with open(auth, "w", encoding="ascii") as out:
        out.write("machine http://HTTPS///elsewhere.example/ login eve password not-h3re\n"
                  "machine http://HTTPS///cuda.example/ login ann password s3cr3t-a\n")
    apt.run("-o", f"Dir::Etc::netrc={auth}", "update").expect_success()
    assert env.origin.requests()
    assert all(r.get("Authorization") == basic("ann:s3cr3t-a") for r in env.origin.requests())
    depot.wait_idle()
    assert depot.counter("cache_blobs") == 0
    expect_secrets_kept(depot, "ann:s3cr3t-a")


def test_curl_with_userinfo(env):
    """curl http://user:password@...: the URL's credentials go upstream as Authorization."""
    env.origin.serve("/pool/x.deb", guarded(b"data", "us@er:p:w0rd!"))
    depot = env.depot()
    done = subprocess.run(["curl", "-sSf", "-m", "20", "-x", f"http://127.0.0.1:{depot.port}",
                           "http://us%40er:p%3Aw0rd%21@HTTPS///cuda.example/pool/x.deb"],
                          stdout=subprocess.PIPE, check=True, timeout=60)
    assert done.stdout == b"data"
    expect_secrets_kept(depot, "us@er:p:w0rd!")
