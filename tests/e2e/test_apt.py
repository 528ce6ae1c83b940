# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""Real apt-get, in isolated roots, through the real daemon, from signed repositories."""
import os
import time

from client import TIMEOUT_S
from depot import wait_until
from origin import Answer
from support import heavy, together

NEEDS_PACKAGES = True
NAMES = ["cuda", "cuda-toolkit-12-8", "libcudnn8", "libnvinfer8", "cuda-nvcc-12-8",
         "cuda-cudart-12-8", "cuda-odd", "cuda-keyring"]


def packages(repo, names=None):
    """What installing cuda brings."""
    return [repo.debs[name] for name in names or NAMES]


def update_and_install(root, repo):
    """Both steps of a build, without a warning."""
    root.update().expect_success()
    root.install("cuda").expect_success()
    root.expect_packages(packages(repo))


def test_flat_repository(env):
    """CUDA's shape, cold, warm and with the origin gone, with apt's retries off."""
    repo = env.flat_repo()
    depot = env.depot()
    update_and_install(env.apt(depot, repo.source()), repo)
    repo.expect_each_sent_once()
    for path in map(repo.path_of, NAMES):
        assert len(env.origin.requests(path)) == 1, path
    depot.wait_idle()

    env.origin.forget()
    update_and_install(env.apt(depot, repo.source()), repo)
    assert env.origin.body_bytes() == 0, "a warm run fetched bodies"
    assert all(request.get("If-None-Match") or request.get("If-Modified-Since")
               for request in env.origin.requests()), env.origin.log_text()

    env.origin.stop()
    update_and_install(env.apt(depot, repo.source()), repo)


def test_dists_repository(env):
    """Debian's shape with by-hash: the same three runs."""
    repo = env.dists_repo()
    depot = env.depot()
    update_and_install(env.apt(depot, repo.source()), repo)
    repo.expect_each_sent_once()
    assert any("/by-hash/" in request.path for request in env.origin.requests())
    depot.wait_idle()
    env.origin.forget()
    update_and_install(env.apt(depot, repo.source()), repo)
    assert env.origin.body_bytes() == 0
    env.origin.stop()
    update_and_install(env.apt(depot, repo.source()), repo)


def test_every_way_to_name_the_source(env):
    """HTTPS/// in any case through the proxy, in origin form, CONNECT for https://: one cache."""
    repo = env.flat_repo()
    depot = env.depot()
    base = f"http://127.0.0.1:{depot.port}/"
    tls = f'Acquire::https::CAInfo "{env.certificates.ca}";'
    update_and_install(env.apt(depot, repo.source()), repo)
    depot.wait_idle()
    env.origin.forget()
    for prefix, options in [("http://https///", {}), ("http://Https//", {}),
                            (base + "HTTPS///", {"proxy": False}),
                            (base + "https/", {"proxy": False})]:
        update_and_install(env.apt(depot, repo.source(prefix), **options), repo)
    assert env.origin.body_bytes() == 0
    update_and_install(env.apt(depot, repo.source("https://"), extra=tls), repo)
    assert depot.counter("tunnels_total") >= 1


def test_plain_name_with_https_upgrade(env):
    """http://cuda.example in sources.list, fetched over TLS."""
    repo = env.flat_repo()
    depot = env.depot(https_upgrade="cuda.example")
    update_and_install(env.apt(depot, repo.source("http://")), repo)
    assert all(request.tls for request in env.origin.requests())


@heavy(8)
def test_eight_clients_cold(env):
    """Eight image builds at once: upstream bytes are 1.00x, everybody gets every byte."""
    repo = env.flat_repo()
    depot = env.depot(revalidate_wait="20s")
    roots = [env.apt(depot, repo.source()) for _ in range(8)]
    together(*[lambda root=root: update_and_install(root, repo) for root in roots])
    repo.expect_each_sent_once()
    for path in map(repo.path_of, NAMES):
        assert len(env.origin.requests(path)) == 1, path


@heavy(7)
def test_eight_clients_that_wait_for_the_same_package(env):
    """All eight are in the middle of the same download when it goes on."""
    repo = env.flat_repo()
    gate = env.origin.gate()
    deb = repo.debs["cuda-nsight"]
    repo.serve_deb("cuda-nsight", Answer(deb.data, gate=gate, held_at=len(deb.data) // 2))
    depot = env.depot(revalidate_wait="20s")
    roots = [env.apt(depot, repo.source()) for _ in range(8)]
    roots[0].update().expect_success()
    for root in roots[1:]:
        root.copy_lists(roots[0])
    running = [root.start("download", "cuda-nsight") for root in roots]
    depot.wait_counter("flight_readers_open", "==", 8)
    gate.open()
    for root, process in zip(roots, running):
        root.finish(process).expect_success()
        root.expect_packages([deb])
    repo.expect_each_sent_once()
    assert len(env.origin.requests(repo.path_of("cuda-nsight"))) == 1


def test_first_client_is_killed(env):
    """The client that started the download dies; the second one gets it, from the same fetch."""
    repo = env.flat_repo()
    gate = env.origin.gate()
    deb = repo.debs["cuda-nsight"]
    repo.serve_deb("cuda-nsight", Answer(deb.data, gate=gate, held_at=len(deb.data) // 2))
    depot = env.depot()
    first, second = (env.apt(depot, repo.source()) for _ in range(2))
    first.update().expect_success()
    second.copy_lists(first)
    one = first.start("download", "cuda-nsight")
    gate.wait_for(1)
    two = second.start("download", "cuda-nsight")
    depot.wait_counter("flight_readers_open", "==", 2)
    first.kill(one)
    gate.open()
    second.finish(two).expect_success()
    second.expect_packages([deb])
    assert len(env.origin.requests(repo.path_of("cuda-nsight"))) == 1
    assert env.origin.body_bytes(repo.path_of("cuda-nsight")) == len(deb.data)


def test_depot_is_killed_in_the_middle(env):
    """kill -9 and a restart within apt's retries: the run succeeds, the fetch is resumed."""
    repo = env.flat_repo()
    deb = repo.debs["cuda-nsight"]
    path = repo.path_of("cuda-nsight")
    repo.serve_deb("cuda-nsight",
                   Answer(deb.data, gate=env.origin.gate(), held_at=len(deb.data) * 5 // 6),
                   deb.data)
    depot = env.depot()
    root = env.apt(depot, repo.source(), retries=3)
    root.update().expect_success()
    depot.wait_idle()
    before = depot.counter("partial_marks_total")
    process = root.start("download", "cuda-nsight")
    depot.wait_counter("sent_body_bytes_total", ">=", len(deb.data) * 4 // 5)
    depot.wait_counter("partial_marks_total", ">=", before + 1)
    depot.kill()
    depot.start()
    result = root.finish(process)
    assert result.status == 0, result.text
    root.expect_packages([deb])
    requests = env.origin.requests(path)
    assert len(requests) == 2 and requests[1].get("Range"), requests
    depot.wait_idle()


def test_origin_fails_now_and_then(env):
    """Retries 0 as on Debian 11: cuts, resets and 503 upstream are no business of apt's."""
    repo = env.flat_repo()
    third = [len(repo.debs[name].data) // 3 for name in ("cuda-toolkit-12-8", "libcudnn8")]
    data = {name: repo.debs[name].data for name in NAMES}
    repo.serve_deb("cuda-toolkit-12-8", Answer(data["cuda-toolkit-12-8"], stop_at=third[0]),
                   data["cuda-toolkit-12-8"])
    repo.serve_deb("libcudnn8", Answer(data["libcudnn8"], stop_at=third[1], stop="reset"),
                   data["libcudnn8"])
    repo.serve_deb("libnvinfer8", Answer(b"busy\n", 503), data["libnvinfer8"])
    repo.serve_deb("cuda-nvcc-12-8", Answer(drop="close"), data["cuda-nvcc-12-8"])
    repo.serve_deb("cuda-odd", Answer(data["cuda-odd"], interim=b"HTTP/1.1 103 Early\r\n\r\n"))
    repo.serve_deb("cuda", Answer(data["cuda"], length="chunked"))
    depot = env.depot()
    update_and_install(env.apt(depot, repo.source()), repo)


def test_new_publication(env):
    """A new version is seen at the next update; what did not change is not fetched again."""
    repo = env.flat_repo()
    depot = env.depot(revalidate_wait="20s")
    root = env.apt(depot, repo.source())
    update_and_install(root, repo)
    depot.wait_idle()
    old = repo.debs["cuda-keyring"]
    repo.debs["cuda-keyring"] = env.workshop().build(
        "cuda-keyring", f"1.2-{os.getpid()}", 4000, "")
    repo.publish()
    env.origin.forget()
    root.update().expect_success()
    root.run("download", "cuda-keyring").expect_success()
    assert repo.debs["cuda-keyring"].data in root.downloaded().values()
    assert old.file_name != repo.debs["cuda-keyring"].file_name
    fetched = set(repo.bodies_sent())
    assert fetched == {repo.root + "InRelease", repo.root + "Packages.gz",
                       repo.path_of("cuda-keyring")}, fetched


def test_missing_inrelease(env):
    """404 of InRelease stays 404: apt goes on with Release and Release.gpg."""
    repo = env.flat_repo()
    env.origin.serve(repo.root + "InRelease", Answer(b"", 404), host=repo.host)
    depot = env.depot()
    root = env.apt(depot, repo.source())
    root.update().expect_success()
    root.install("cuda").expect_success()
    asked = {request.path for request in env.origin.requests()}
    assert {repo.root + "Release", repo.root + "Release.gpg"} <= asked


def test_missing_by_hash(env):
    """404 of a by-hash name: apt falls back to the plain name."""
    repo = env.dists_repo()
    for path in list(repo.sizes):
        if "/by-hash/" in path:
            env.origin.serve(path, Answer(b"", 404), host=repo.host)
    depot = env.depot()
    root = env.apt(depot, repo.source())
    assert root.update().status == 0
    root.install("cuda").expect_success()


def test_missing_package(env):
    """One package is not there: apt says so at once, the others arrive."""
    repo = env.flat_repo()
    repo.serve_deb("libcudnn8", Answer(b"", 404, headers=[("Cache-Control", "max-age=604800")]))
    depot = env.depot()
    root = env.apt(depot, repo.source())
    root.update().expect_success()
    started = time.monotonic()
    result = root.install("cuda")
    assert result.status != 0 and "404" in result.text, result.text
    assert time.monotonic() - started < TIMEOUT_S
    repo.serve_deb("libcudnn8", Answer(repo.debs["libcudnn8"].data))
    wait_until(lambda: root.install("cuda").status == 0, "the package is found again")
    root.expect_packages(packages(repo))


def test_two_sources_on_one_connection(env):
    """apt asks all HTTPS/// sources on one connection, pipelined, origins mixed."""
    flat = env.flat_repo()
    dists = env.dists_repo()
    depot = env.depot()
    root = env.apt(depot, flat.source(), dists.source())
    root.update().expect_success()
    root.install("cuda").expect_success()
    root.expect_packages(packages(flat))


def test_unknown_proxy_page_for_auto_detection(env):
    """apt-helper shows the words by which auto-apt-proxy recognises the depot."""
    depot = env.depot()
    root = env.apt(depot)
    process = root.start("indextargets")
    root.finish(process)
    import subprocess
    done = subprocess.run(["/usr/lib/apt/apt-helper", "download-file",
                           f"http://127.0.0.1:{depot.port}/", os.path.join(env.path, "page")],
                          env={"PATH": os.environ["PATH"], "APT_CONFIG": root.config},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert "406  Usage Information" in done.stdout or "406 Usage Information" in done.stdout, \
        done.stdout
