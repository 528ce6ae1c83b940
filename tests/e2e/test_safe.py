# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""At rest and at least privilege: the scrubber, the user it becomes, the sandbox."""
import contextlib
import os
import pwd
import shutil
import signal
import tempfile

from body import Pattern
from client import expect_body
from depot import run_command, wait_until
from support import Skip

NEEDS_PACKAGES = True    # for the key of the workshop
BODY = Pattern(3 << 20)


def test_scrubber_finds_a_flipped_bit(env):
    """Bytes changed under an unchanged mtime: found without a request, dropped, fetched again."""
    env.origin.serve("/x.deb", BODY)
    env.origin.serve("/y.deb", Pattern(5000, seed=2))
    depot = env.depot()
    expect_body(depot.fetch("https://cuda.example/x.deb"), BODY)
    expect_body(depot.fetch("https://cuda.example/y.deb"), Pattern(5000, seed=2))
    depot.wait_idle()
    depot.stop()
    path = next(p for p in depot.blob_paths() if os.path.getsize(p) == 3 << 20)
    times = os.stat(path)
    with open(path, "r+b") as file:
        file.seek(2 << 20)
        byte = file.read(1)[0]
        file.seek(2 << 20)
        file.write(bytes([byte ^ 0x10]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    os.environ["APT_DEPOT_TEST_SCRUB"] = "now"
    depot.start()
    depot.wait_counter("scrub_passes_total", ">=", 1)
    counters = depot.counters()
    assert counters["scrubbed_blobs_total"] == 2, counters
    assert counters["scrubbed_bytes_total"] == (3 << 20) + 5000, counters
    assert counters["blobs_damaged_total"] == 1, counters
    depot.wait_log(os.path.basename(path))
    expect_body(depot.fetch("https://cuda.example/x.deb"), BODY)
    expect_body(depot.fetch("https://cuda.example/y.deb"), Pattern(5000, seed=2))
    assert len(env.origin.requests("/x.deb")) == 2
    assert len(env.origin.requests("/y.deb")) == 1


@contextlib.contextmanager
def open_place(env):
    """A directory that other users may enter, with the test CA's certificate; root only."""
    if os.geteuid() != 0:
        raise Skip("only root can become somebody else")
    path = tempfile.mkdtemp(prefix="e2e-safe-", dir="/var/tmp")
    try:
        os.chmod(path, 0o755)
        shutil.copy(env.certificates.ca, os.path.join(path, "ca.pem"))
        yield path
    finally:
        for depot in env.depots:
            depot.stop()
        shutil.rmtree(path, ignore_errors=True)


def depot_in(env, path, **options):
    """A depot whose files are all in the place; it becomes nobody."""
    depot = env.new_depot(user="nobody", ca_file=os.path.join(path, "ca.pem"),
                          cache_dir=os.path.join(path, "new", "cache"),
                          access_log=os.path.join(path, "access.log"), **options)
    depot.cache_dir, depot.access_path = depot.options["cache_dir"], depot.options["access_log"]
    return depot


def status_of(pid):
    """Fields of /proc/PID/status."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return {key: value.split() for key, value in (line.split(":", 1) for line in file)}


def children_of(pid):
    """Process numbers."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if status_of(name)["PPid"] == [str(pid)]:
                    found.append(int(name))
            except (FileNotFoundError, ProcessLookupError):
                pass
    return found


def expect_powerless(depot, pid):
    """Another user, nobody's groups, no capabilities, no way to get any."""
    nobody = pwd.getpwnam("nobody")
    status = status_of(pid)
    wait_until(lambda: "sandbox: " in depot.log_text(), "a line about the sandbox")
    assert status["Uid"] == [str(nobody.pw_uid)] * 4, status["Uid"]
    assert status["Gid"] == [str(nobody.pw_gid)] * 4, status["Gid"]
    assert set(status["Groups"]) <= {str(g) for g in
                                     os.getgrouplist("nobody", nobody.pw_gid)}, status["Groups"]
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name][0], 16) == 0, (name, status[name])
    assert status["NoNewPrivs"] == ["1"], status["NoNewPrivs"]
    if "no seccomp" not in depot.log_text():
        assert status["Seccomp"] == ["2"], status["Seccomp"]


def test_root_becomes_the_user(env):
    """Uid, groups and capabilities are gone; TLS, names, restart, rotation, tidied caches go on."""
    with open_place(env) as place:
        env.origin.serve("/x.deb", BODY)
        env.origin.serve("/y.deb", Pattern(5000, seed=2))
        pid_file = os.path.join(place, "depot.pid")
        depot = depot_in(env, place, pid_file=pid_file)
        for n in range(2):
            depot.start()
            expect_powerless(depot, depot.process.pid)
            with open(pid_file, encoding="ascii") as file:
                assert file.read() == f"{depot.process.pid}\n"
            expect_body(depot.fetch("https://cuda.example/x.deb"), BODY)
            # A name that the system resolves, not connect_to.
            expect_body(depot.fetch(f"http://localhost:{env.origin.plain_port}/y.deb"),
                        Pattern(5000, seed=2))
            depot.wait_idle()
            depot.wait_access("x.deb", n + 1)   # else it may come to stand in the new log
            rotate(depot)
            # A cache that somebody emptied: made again, by the user.
            shutil.rmtree(os.path.join(depot.cache_dir, "blobs"))
            expect_body(depot.fetch("https://cuda.example/x.deb"), BODY)
            depot.wait_idle()
            assert len(depot.wait_access("x.deb")) == 1
            path, = depot.blob_paths()
            assert os.stat(path).st_uid == pwd.getpwnam("nobody").pw_uid
            depot.stop()
        assert len(env.origin.requests("/x.deb")) == 3
        assert not os.path.exists(pid_file) or os.path.getsize(pid_file) == 0


def rotate(depot):
    """As logrotate does it for a service: the directory is root's, the new file the user's."""
    os.rename(depot.access_path, depot.access_path + ".1")
    with open(depot.access_path, "wb"):
        shutil.chown(depot.access_path, "nobody")
    depot.process.send_signal(signal.SIGUSR1)
    # Until the signal has arrived, a request is logged into the old file.
    wait_until(lambda: depot.get("/-/healthz").status == 200 and depot.access_lines(),
               "a line in the new log")


def refused(depot, *words):
    """It does not start, and says why."""
    done = run_command(*depot.arguments()[1:])
    assert done.returncode == 1, (done.returncode, done.stdout)
    for word in words:
        assert word in done.stdout, f"{word!r} is not in {done.stdout!r}"


def test_unsafe_files_are_refused(env):
    """A cache that anybody may write to, or another user's; a key that the user can't read."""
    depot = env.new_depot()
    os.makedirs(depot.cache_dir)
    os.chmod(depot.cache_dir, 0o777)
    refused(depot, depot.cache_dir, "chmod o-w")
    os.chmod(depot.cache_dir, 0o1777)
    refused(depot, depot.cache_dir, "chmod o-w")
    os.chmod(depot.cache_dir, 0o770)
    depot.start()
    depot.wait_log("chmod g-w")
    with open_place(env) as place:
        other = depot_in(env, place)
        os.makedirs(other.cache_dir)
        with open(os.path.join(other.cache_dir, "somebody's"), "wb"):
            refused(other, other.cache_dir, "chown -R nobody")
        other = depot_in(env, place, auth=os.path.join(place, "auth"))
        shutil.rmtree(other.cache_dir)
        with open(os.path.join(place, "auth"), "wb"):
            os.chmod(os.path.join(place, "auth"), 0o600)
        refused(other, "auth", "chmod 640")
        os.chmod(os.path.join(place, "auth"), 0o644)
        refused(other, "auth", "chmod o-rw")


def test_sandbox_off_and_on(env):
    """auto says what is on, off turns it off; capabilities of a root that stays are few."""
    depot = env.depot()
    status = status_of(depot.process.pid)
    wait_until(lambda: "sandbox: " in depot.log_text(), "a line about the sandbox")
    assert status["NoNewPrivs"] == ["1"]
    assert int(status["CapEff"][0], 16) & ~0xe == 0, status["CapEff"]
    depot.stop()
    depot.options["sandbox"] = "off"
    depot.start()
    wait_until(lambda: "sandbox: off" in depot.log_text(), "a line about the sandbox")
    assert status_of(depot.process.pid)["Seccomp"] == ["0"]


def test_log_directories_made_again(env):
    """The sandbox holds on to the old ones: messages go to stderr then, and say what helps."""
    env.origin.serve("/x.deb", b"data")
    depot = env.new_depot()
    logs = os.path.join(env.path, "logs")
    os.mkdir(logs)
    depot.options.update(log_file=f"{logs}/messages.log", access_log=f"{logs}/access.log")
    depot.start()
    wait_until(lambda: os.path.getsize(f"{logs}/messages.log"), "messages in their file")
    with open(f"{logs}/messages.log", encoding="utf-8") as file:
        if "no Landlock" in wait_until(lambda: [line for line in file if "sandbox: " in line],
                                       "a line about the sandbox")[0]:
            raise Skip("Landlock does not work here")
    shutil.rmtree(logs)
    os.mkdir(logs)
    depot.process.send_signal(signal.SIGUSR1)
    for key, name in (("log_file", "messages"), ("access_log", "access")):
        depot.wait_log(f"{key} = {logs}/{name}.log: Permission denied", "the sandbox", "restart")
    assert "until then messages go to stderr" in depot.log_text()
    depot.process.send_signal(signal.SIGHUP)
    depot.wait_log("the configuration is kept as it was")
    depot.stop()
    assert "stopped" in depot.log_text()
    depot.start()
    wait_until(lambda: os.path.getsize(f"{logs}/messages.log"), "messages in their file again")


def test_tables_on_another_disk(env):
    """tables is a link out of the cache directory: the sandbox lets it be used."""
    depot = env.new_depot()
    elsewhere = os.path.join(env.path, "elsewhere")
    os.mkdir(elsewhere, 0o750)
    os.makedirs(depot.cache_dir, mode=0o750)
    os.symlink(elsewhere, os.path.join(depot.cache_dir, "tables"))
    depot.start()
    repo = env.flat_repo()
    for name in ("InRelease", "Packages.gz"):
        assert depot.get(f"http://HTTPS///{repo.host}{repo.root}{name}").status == 200
    depot.wait_tables()
    depot.wait_idle()
    assert os.listdir(elsewhere)


def test_gpgv_has_a_process_of_its_own(env):
    """It is forked before the rest, is as powerless as the daemon, and ends with it, however."""
    if shutil.which("gpgv") is None:
        raise Skip("gpgv is not installed")
    key = env.workshop().key
    with open_place(env) as place:
        keys = os.path.join(place, "keys")
        os.mkdir(keys)
        depot = depot_in(env, place, verify_signatures="yes", keyring_dir=keys)
        refused(depot, "verify_signatures", keys, "no *.gpg or *.asc")
        shutil.copy(key, os.path.join(keys, "tests.asc"))
        os.chmod(os.path.join(keys, "tests.asc"), 0o600)
        refused(depot, "tests.asc", "Permission denied")
        os.chmod(os.path.join(keys, "tests.asc"), 0o644)
        for end in (depot.stop, depot.kill):
            depot.start()
            helper, = children_of(depot.process.pid)
            expect_powerless(depot, helper)
            end()
            wait_until(lambda h=helper: not os.path.exists(f"/proc/{h}"), "the helper ends")
