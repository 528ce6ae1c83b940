# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""apt-depot warm: what builds will ask for is fetched before they do."""
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios

from depot import BINARY, SLOW, run_command, wait_until
from origin import Answer
from repo import Deb, forge_deb
from support import Later
from test_apt import NAMES, packages

NEEDS_PACKAGES = True


def forge(name, version, size, depends=""):
    """A package with dependencies; where there are several versions, the test's name has one."""
    deb = forge_deb(name.split("@")[0], version, size)
    control = deb.control + (f"Depends: {depends}\n" if depends else "")
    return Deb(name, version, deb.file_name, deb.data, control)


def cuda_debs():
    """Two releases of a toolkit, whose metapackages pin what they are of."""
    debs = {}
    for version in ("12.4-1", "12.5-1"):
        for name, depends in (("toolkit", f"common, compiler (= {version})"),
                              ("compiler", f"nvcc (= {version})"), ("nvcc", "common"),):
            debs[f"{name}@{version}"] = forge(f"{name}@{version}", version, 9000, depends)
    debs["common"] = forge("common", "1", 4000)
    debs["alone"] = forge("alone", "1", 4000, "elsewhere (>= 2)")
    return debs


def warm(depot, *args, status=0):
    """Runs the command against the depot; its words."""
    done = run_command("warm", "--depot", f"http://127.0.0.1:{depot.port}", *args)
    assert done.returncode == status, f"{done.returncode}:\n{done.stdout}"
    return done.stdout


def expect_offline_install(env, depot, repo):
    """Real apt gets it all with the origin gone."""
    depot.wait_idle()
    env.origin.stop()
    root = env.apt(depot, repo.source())
    root.update().expect_success()
    root.install("cuda").expect_success()
    root.expect_packages(packages(repo))


def test_flat_then_origin_gone(env):
    """Warmed, the install needs no origin; each file was sent once."""
    repo = env.flat_repo()
    depot = env.depot()
    text = warm(depot, f"http://HTTPS///{repo.host}{repo.root}", "cuda")
    assert f"all {len(NAMES)} files are cached" in text and "0 of them were before" in text, text
    repo.expect_each_sent_once()
    depot.wait_idle()
    text = warm(depot, f"https://{repo.host}{repo.root}", "cuda")
    assert f"{len(NAMES)} of them were before" in text, text
    repo.expect_each_sent_once()
    expect_offline_install(env, depot, repo)


def test_dists_then_origin_gone(env):
    """The same in Debian's shape, by --suite and by dists/."""
    repo = env.dists_repo()
    depot = env.depot()
    base = f"https://{repo.host}{repo.root}"
    text = warm(depot, base, "--suite", repo.suite, "--arch", repo.workshop.arch, "cuda")
    assert f"all {len(NAMES)} files are cached" in text, text
    depot.wait_idle()
    text = warm(depot, f"{base}dists/{repo.suite}", "--arch", repo.workshop.arch, "--component",
                "main", "cuda")
    assert f"{len(NAMES)} of them were before" in text, text
    text = warm(depot, base, "--suite", repo.suite, "--arch", "riscv64", "cuda", status=1)
    assert "lists no Packages of architecture riscv64" in text, text
    text = warm(depot, base, "--suite", repo.suite, "--arch", repo.workshop.arch, "--component",
                ",".join(f"component-{i}" for i in range(50)), "cuda", status=1)
    assert "in component component-0," in text, text
    text = warm(depot, base, "cuda", status=1)
    assert "name the --suite" in text, text
    expect_offline_install(env, depot, repo)


def test_order_is_apts(env):
    """--dry-run lists what apt would ask for, in apt's order, and fetches nothing of it."""
    repo = env.flat_repo()
    depot = env.depot()
    names = json.loads(warm(depot, f"https://{repo.host}{repo.root}", "--json", "--dry-run", "cuda"))
    root = env.apt(depot, repo.source())
    root.update().expect_success()
    printed = root.run("install", "--print-uris", "--no-install-recommends", "cuda").text
    want = [line.split("'")[1] for line in printed.splitlines() if line.startswith("'")]
    assert [os.path.basename(file["url"]) for file in names["list"]] == \
        [os.path.basename(uri).replace("%2b", "+").replace("%7e", "~") for uri in want], \
        f"{names}\n{printed}"
    assert names["dry_run"] and not any(env.origin.body_bytes(repo.path_of(name)) for name in NAMES)


def test_pinned_and_newest(env):
    """Metapackages that say = take their own release along; without a version it is the newest."""
    debs = cuda_debs()
    repo = env.flat_repo(debs=debs)
    depot = env.depot()
    url = f"https://{repo.host}{repo.root}"

    def names(*args):
        result = json.loads(warm(depot, url, "--json", "--dry-run", *args))
        return [os.path.basename(file["url"]).rsplit("_", 1)[0] for file in result["list"]]
    assert names("toolkit") == ["common_1", "nvcc_12.5-1", "compiler_12.5-1", "toolkit_12.5-1"]
    assert names("toolkit=12.4-1") == ["common_1", "nvcc_12.4-1", "compiler_12.4-1",
                                       "toolkit_12.4-1"]
    text = warm(depot, url, "alone")
    assert "1 dependencies are not in this repository: elsewhere" in text, text
    text = warm(depot, url, "tolkit", "toolkit=13", status=1)
    assert "there is no package tolkit; did you mean toolkit?" in text, text
    assert "the newest is 12.5-1" in text, text


def test_from_file(env):
    """URLs as they are; dpkg -l and lock lists with their versions."""
    repo = env.flat_repo(debs=cuda_debs())
    depot = env.depot()
    url = f"https://{repo.host}{repo.root}"
    path = os.path.join(env.path, "list")
    env.origin.serve("/file.run", Answer(b"x" * 70000), host=repo.host)
    with open(path, "w", encoding="ascii") as out:
        out.write(f"# what we need\nhttps://{repo.host}/file.run\n{url}common_1_all.deb\n")
    text = warm(depot, "--from-file", path)
    assert "is a list of URLs" in text and "all 2 files are cached" in text, text
    with open(path, "w", encoding="ascii") as out:
        out.write("||/ Name Version Architecture Description\n+++-====-====-====-====\n"
                  "ii  nvcc  12.4-1  all  x\nii  bash  5.2  amd64  x\nrc  toolkit  12.4-1  all  x\n")
    text = warm(depot, url, "--from-file", path)
    assert "is the output of dpkg -l" in text and "all 2 files are cached" in text, text
    assert "1 packages of the list are not in this repository" in text, text
    with open(path, "w", encoding="ascii") as out:
        out.write("common=1\ncompiler 12.5-1\n")
    text = warm(depot, url, "--from-file", path, "--installed", path, "toolkit=12.4-1")
    assert "nvcc" not in text, text


def test_files_by_their_urls(env):
    """URLs of files and nothing else: each as it is, in all forms, and what is missing is named."""
    depot = env.depot()
    for n in range(3):
        env.origin.serve(f"/{n}.run", Answer(b"%d" % n * 70000))
    text = warm(depot, "https://cuda.example/0.run", "HTTPS///cuda.example/1.run",
                "http://HTTPS///cuda.example/2.run")
    assert "all 3 files are cached" in text, text
    text = warm(depot, "https://cuda.example/1.run")
    assert "all 1 files are cached" in text and "1 of them were before" in text, text
    done = run_command("warm", "--depot", f"http://127.0.0.1:{depot.port}",
                       "https://cuda.example/0.run", "https://cuda.example/none.run")
    assert done.returncode == 1 and "none.run" in done.stdout, done


def test_failures_are_named(env):
    """A file that the origin lost: status 1, named; the others are there. No depot: status 2."""
    repo = env.flat_repo()
    depot = env.depot()
    repo.serve_deb("libcudnn8", Answer(b"no", status=404))
    text = warm(depot, f"https://{repo.host}{repo.root}", "cuda", status=1)
    assert "libcudnn8 8.4.0.27-1+cuda11.6: the depot answered 404" in text, text
    assert f"1 of {len(NAMES)} files failed; run it again to continue" in text, text
    repo.serve_deb("libcudnn8", Answer(repo.debs["libcudnn8"].data))
    text = run_command("warm", "--depot", "http://127.0.0.1:1", "https://x.example/", "cuda")
    assert text.returncode == 2 and "no depot answers" in text.stdout, text.stdout
    for args in ((), ("https://x.example/",), ("--jobs", "0", "https://x.example/", "a")):
        assert run_command("warm", *args).returncode == 2, args


def test_escapes_in_a_list(env):
    """What a list says reaches the terminal in printable characters alone."""
    repo = env.flat_repo(debs={"x": forge("x", "1", 5000, "gone\x1b[2J")})
    repo.publish(stanzas=lambda text: text.replace(b"Version: 1", b"Version: 1\x1b]0;owned\x07"))
    text = warm(env.depot(), f"https://{repo.host}{repo.root}", "x")
    assert "x 1?]0;owned?" in text, text
    assert "\x1b" not in text and "\x07" not in text, repr(text)


def test_interrupted_run_is_continued(env):
    """Ctrl-C in the middle of the second of three files; run again, each was sent once."""
    repo = env.flat_repo(debs={f"file{n}": forge(f"file{n}", "1", 200000) for n in range(3)})
    gate = env.origin.gate()
    repo.serve_deb("file1", Answer(repo.debs["file1"].data, gate=gate, held_at=150000))
    depot = env.depot()
    args = ["--depot", f"http://127.0.0.1:{depot.port}", "--jobs", "1",
            f"https://{repo.host}{repo.root}", *repo.debs]
    process = subprocess.Popen([BINARY, "warm", *args], stdout=subprocess.PIPE, text=True)
    gate.wait_for(1)
    process.send_signal(signal.SIGINT)
    text = process.communicate()[0]
    assert process.returncode == -signal.SIGINT and "[1/3] file0 1" in text, text
    gate.open()
    depot.wait_idle()
    text = warm(depot, *args[2:])
    assert "all 3 files are cached" in text and "2 of them were before" in text, text
    repo.expect_each_sent_once()


def on_screen(columns, rows, *args):
    """Runs the command on a terminal of this size: its status, and all that it wrote there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = subprocess.Popen([BINARY, "warm", *args], stdin=theirs, stdout=theirs, stderr=theirs,
                               env={**os.environ, "TERM": "xterm"})
    os.close(theirs)
    data = b""
    try:
        while piece := os.read(ours, 65536):
            data += piece
    except OSError:     # nobody has the other end open any more
        pass
    os.close(ours)
    return process.wait(45 * SLOW), data.decode().replace("\r\n", "\n")


def test_table_on_a_terminal(env):
    """Drawn over itself, within the screen, gone in the end; a line for each file stays."""
    repo = env.flat_repo(debs={f"package-with-a-long-name-{n}": forge(
        f"package-with-a-long-name-{n}", "1:12.4.131-1+cuda12", 150000) for n in range(6)})
    gate = env.origin.gate()
    for name, deb in repo.debs.items():
        repo.serve_deb(name, Answer(deb.data, gate=gate, held_at=100000))
    depot = env.depot()
    run = Later(lambda: on_screen(
        64, 6, "--depot", f"http://127.0.0.1:{depot.port}", "--jobs", "6",
        f"https://{repo.host}{repo.root}", *repo.debs))
    gate.wait_for(6)
    wait_until(lambda: depot.counter("sent_body_bytes_total") >=
               6 * (150000 - 65536), "all have begun")
    gate.open()
    status, text = run.result()
    assert status == 0, text
    plain = re.sub("\033\\[[0-9]*[FJ]", "", text).split("\n")
    table = [line for line in plain if line.startswith(("package-with", "0 of 6 files"))]
    assert table[4].startswith("0 of 6 files") and max(map(len, table)) == 63, text
    # Five of six rows have room on this screen, all of it included.
    assert "\033[5F\033[J" in text and "\033[6F" not in text, text
    screen = []
    for part in re.split("(\033\\[[0-9]+F\033\\[J)", text):
        if part.startswith("\033"):
            del screen[-int(part[2:-4]):]
        else:
            screen += part.split("\n")[:-1]
    assert sum(line.startswith("[") for line in screen) == 6, screen
    assert screen[-1].startswith("all 6 files are cached"), screen


def test_files_without_a_depot(env):
    """Status 2, as for packages."""
    done = run_command("warm", "--depot", f"http://127.0.0.1:{env.new_depot().port}",
                       "http://cuda.example/x.deb")
    assert done.returncode == 2 and "no depot answers" in done.stdout, done.stdout


def test_finds_the_depot_by_its_configuration(env):
    """Without --depot it is the first address that the configuration listens on."""
    repo = env.flat_repo()
    depot = env.depot()
    done = run_command("warm", "-o", f"listen=0.0.0.0:{depot.port}",
                       f"https://{repo.host}{repo.root}", "cuda-keyring")
    assert done.returncode == 0 and "all 1 files are cached" in done.stdout, done.stdout
