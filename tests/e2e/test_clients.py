# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""curl and wget as people use them, and debootstrap's way of asking."""
import os
import shutil
import subprocess

from body import Pattern
from client import expect_body
from support import Skip

NEEDS_PACKAGES = True
BODY = Pattern(3 << 20)


def run(env, program, *args, proxy=None):
    """Runs a client in the test's directory."""
    if not shutil.which(program):
        raise Skip(f"{program} is not installed")
    names = {"PATH": os.environ["PATH"], "HOME": env.path, "LC_ALL": "C"}
    if proxy:
        names["http_proxy"] = f"http://127.0.0.1:{proxy}"
    done = subprocess.run([program, *args], cwd=env.path, env=names, capture_output=True,
                          check=False, timeout=25)
    return done


def expect_file(env, name, body):
    """A downloaded file, byte for byte."""
    with open(os.path.join(env.path, name), "rb") as file:
        assert file.read() == body.bytes()


def test_curl_through_the_proxy(env):
    """Download, HEAD, resume, time condition."""
    env.origin.serve("/x_1.0+g~rc1_all.deb", BODY)
    depot = env.depot()
    url = "http://HTTPS///cuda.example/x_1.0+g~rc1_all.deb"

    def curl(*args):
        done = run(env, "curl", "-sS", "--path-as-is", "-f", *args, url, proxy=depot.port)
        assert done.returncode == 0, done.stderr
        return done.stdout
    curl("-o", "whole")
    expect_file(env, "whole", BODY)
    depot.wait_idle()
    head = curl("-I").decode()
    assert head.startswith("HTTP/1.1 200") and f"Content-Length: {len(BODY)}" in head, head
    with open(os.path.join(env.path, "part"), "wb") as file:
        file.write(BODY.slice(0, 1000000))
    curl("-C", "-", "-o", "part")
    expect_file(env, "part", BODY)
    assert curl("--compressed") == BODY.bytes()
    assert curl("-r", "100-199") == BODY.slice(100, 200)
    assert curl("-z", os.path.join(env.path, "whole"), "-R", "-w", "%{http_code}", "-o", "again")
    assert len(env.origin.requests()) == 1


def test_curl_in_origin_form(env):
    """No proxy setting at all: the depot's address is in the URL."""
    env.origin.serve("/repos/./x.deb", BODY)
    env.origin.serve("/repos/x.deb", BODY)
    depot = env.depot()
    for path in ("HTTPS///cuda.example/repos/x.deb", "HTTPS///cuda.example/repos/./x.deb"):
        done = run(env, "curl", "-sSf", "--path-as-is", f"http://127.0.0.1:{depot.port}/{path}")
        assert done.returncode == 0, done.stderr
        assert done.stdout == BODY.bytes()
    assert len(env.origin.requests()) == 1


def test_wget(env):
    """wget lower-cases the HTTPS that it takes for a host; resumes; asks by HEAD."""
    env.origin.serve("/x.deb", BODY)
    depot = env.depot()
    url = "http://HTTPS///cuda.example/x.deb"

    def wget(*args):
        done = run(env, "wget", "-nv", *args, url, proxy=depot.port)
        assert done.returncode == 0, done.stderr
    wget("-O", "whole")
    expect_file(env, "whole", BODY)
    depot.wait_idle()
    wget("--spider")
    with open(os.path.join(env.path, "x.deb"), "wb") as file:
        file.write(BODY.slice(0, 1000000))
    wget("-c")
    expect_file(env, "x.deb", BODY)
    assert len(env.origin.requests()) == 1


def test_debootstraps_way(env):
    """Lower-case prefix, one connection per file, by-hash with SHA256: what wget sends for it."""
    repo = env.dists_repo()
    depot = env.depot()
    packages = gz_of(repo)
    path = repo.by_hash(packages, "SHA256")
    for target in (f"http://https///deb.example{repo.root}dists/stable/InRelease",
                   f"http://https///deb.example{path}",
                   f"http://https///deb.example{repo.path_of('cuda')}"):
        with depot.conn() as conn:
            response = conn.get(target, "User-Agent: Wget/1.21.3", "Accept: */*",
                                "Accept-Encoding: identity", "Connection: Keep-Alive",
                                "Proxy-Connection: Keep-Alive")
            assert response.status == 200 and response.complete
    expect_body(depot.get(f"/https///deb.example{path}"), packages)


def gz_of(repo):
    """The Packages.gz that the repository serves."""
    return next(data for path, data in repo._served.items() if path.endswith("/Packages.gz"))
