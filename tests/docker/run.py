#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""Builds the Dockerfile for real and serves a request from the image.

For: the end-to-end test docker:image_serves.  Needs buildah, mmdebstrap and root; says so and ends
with status 77 where they are missing.  The image is run as it is shipped: its own user, entry point, volume and health check, on
port 3142 of a network namespace that holds nothing but a loopback interface.
"""
import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
TREE = os.path.dirname(os.path.dirname(HERE))
BUILD = os.environ.get("BUILD", os.path.join(TREE, "build"))
sys.path.insert(0, os.path.join(TREE, "tests", "support"))
sys.dont_write_bytecode = True
import images  # noqa: E402  pylint: disable=wrong-import-position

BASE = "localhost/apt-depot-base"
IMAGE = "localhost/apt-depot-test"
START_S = 60


def say(text):
    """One line of progress."""
    print(f"docker: {text}", flush=True)


def expect(truth, text):
    """A check; the text says what is wrong."""
    if not truth:
        raise AssertionError(text)


def enter_network_namespace():
    """unshare(2): in Python's os only since 3.12."""
    clone_newnet = 0x40000000
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(clone_newnet) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


def set_loopback_up():
    """ip link set lo up, without iproute2."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        siocgifflags, siocsifflags, iff_up = 0x8913, 0x8914, 1
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(sock, siocgifflags, request))[1]
        fcntl.ioctl(sock, siocsifflags, struct.pack("16sh14x", b"lo", flags | iff_up))


def list_daemons():
    """Process ids of apt-depot in this network namespace."""
    ours = os.readlink("/proc/self/ns/net")
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/comm", encoding="utf-8") as comm:
                named = comm.read().strip() == "apt-depot"
            if named and os.readlink(f"/proc/{pid}/ns/net") == ours:
                found.append(int(pid))
        except OSError:
            continue
    return found


def fetch(path):
    """One request to the running image: status and body."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open("http://127.0.0.1:3142" + path, timeout=45) as answer:
        return answer.status, answer.read()


def wait_until_healthy(daemon):
    """Waits for /-/healthz with a deadline."""
    deadline = time.monotonic() + START_S
    while True:
        expect(daemon.poll() is None, f"the image stopped with status {daemon.returncode}")
        try:
            return fetch("/-/healthz")
        except OSError as err:
            expect(time.monotonic() < deadline, f"no /-/healthz within {START_S} s: {err}")
            time.sleep(0.05)


def check_image(store, config):
    """In the namespace: runs the image, asks it, checks its health, stops it."""
    set_loopback_up()
    container = store.run("from", IMAGE).stdout.split()[-1]
    health = ["run", container, "--", "/bin/sh", "-c", config["Healthcheck"]["Test"][1]]
    expect(store.run(*health, check=False).returncode != 0,
           "HEALTHCHECK says healthy while nothing runs")
    expect(store.run("run", container, "--", "gpgv", "--version", check=False).returncode == 0,
           "no gpgv in the image, for verify_signatures")

    entry = [*config["Entrypoint"], *(config.get("Cmd") or [])]
    log = os.path.join(store.path, "daemon.log")
    with open(log, "w+b") as out, subprocess.Popen(
            store.command("run", container, "--", *entry), env=store.env,
            stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT) as daemon:
        try:
            status, body = wait_until_healthy(daemon)
            expect((status, body) == (200, b"ok\n"), f"/-/healthz gave {status} {body!r}")
            status, body = fetch("/-/metrics")
            expect(b"apt_depot_" in body, "/-/metrics has no counters")
            done = store.run(*health, check=False)
            expect(done.returncode == 0, f"HEALTHCHECK fails on a healthy image: {done.stdout}")
            pids = list_daemons()
            expect(pids, "no process named apt-depot")
            owners = {os.stat(f"/proc/{pid}").st_uid for pid in pids}
            expect(owners == {3142}, f"runs as user ids {owners}, not as 3142")
            for pid in pids:
                os.kill(pid, signal.SIGTERM)
            expect(daemon.wait(timeout=45) == 0, f"SIGTERM ended it with {daemon.returncode}")
        except BaseException:
            out.seek(0)
            sys.stderr.write(out.read().decode(errors="replace"))
            raise
        finally:
            for pid in list_daemons():
                os.kill(pid, signal.SIGKILL)


def check_config(config):
    """What the image says about itself."""
    expect(config.get("User") == "apt-depot", f"USER is {config.get('User')!r}")
    expect(list(config.get("ExposedPorts", {})) == ["3142/tcp"], "EXPOSE is not 3142")
    expect(list(config.get("Volumes", {})) == ["/var/cache/apt-depot"], "VOLUME is not the cache")
    expect((config.get("Healthcheck") or {}).get("Test", [""])[0] == "CMD-SHELL",
           "no HEALTHCHECK in shell form")


def check_dockerfile():
    """Base, build, then the checks in a network namespace of their own."""
    reason = images.find_reason_against(("buildah", "mmdebstrap", "unshare"))
    if reason is None and subprocess.run(["unshare", "--net", "true"], capture_output=True,
                                         check=False).returncode != 0:
        reason = "this machine allows no network namespace"
    if reason:
        raise images.Unavailable(reason)
    started = time.monotonic()
    tar = os.path.join(BUILD, "images", "base.tar")
    if images.make_base(tar):
        say(f"base image made in {time.monotonic() - started:.0f} s")
    with images.Store(os.path.join(BUILD, "images")) as store:
        store.add_base(tar, BASE)
        started = time.monotonic()
        say("building the Dockerfile, unit tests included")
        store.run("bud", "--format", "docker", "--network", "host", "--build-arg", f"BASE={BASE}",
                  "--tag", IMAGE, TREE)
        say(f"built in {time.monotonic() - started:.0f} s")
        config = json.loads(store.run("inspect", "--type", "image", IMAGE).stdout)
        config = config["Docker"]["config"]
        check_config(config)
        # A child, since a process that has entered the namespace has no way back.
        child = os.fork()
        if child == 0:
            status = 1
            try:
                enter_network_namespace()
                check_image(store, config)
                status = 0
            except BaseException as err:  # pylint: disable=broad-except
                print(f"docker: FAILED: {err}", file=sys.stderr, flush=True)
            finally:
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main():
    """Exit status: 77 where images cannot be built, with a line that says why."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if check_dockerfile() != 0:
            return 1
    except images.Unavailable as why:
        say(f"skipped: {why}")
        return 77
    except (AssertionError, RuntimeError) as err:
        print(f"docker: FAILED: {err}", file=sys.stderr)
        return 1
    say("the image serves, is healthy, runs as its own user and stops cleanly")
    return 0


if __name__ == "__main__":
    sys.exit(main())
