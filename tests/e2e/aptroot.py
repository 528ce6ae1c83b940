# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""Real apt-get in a directory of its own: an isolated client that knows nothing of this machine.

For: tests/e2e/test_apt.py.  State, cache, configuration and sources lie below one path; dpkg's
status file is empty, so that install finds nothing installed.
"""
import os
import shutil
import signal
import subprocess
import time

CONFIG = """
Dir "{root}";
Dir::State "{root}/state";
Dir::State::status "{root}/status";
Dir::Cache "{root}/cache";
Dir::Etc "{root}/etc";
Dir::Log "{root}/log";
APT::Architecture "{arch}";
APT::Architectures {{ "{arch}"; }};
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "{retries}";
Acquire::http::Timeout "20";
{proxy}
{extra}
"""


class Result:
    """How one run of apt-get ended."""

    def __init__(self, status, text):
        self.status = status
        self.text = text

    def expect_success(self):
        """Status 0 and not even a warning."""
        assert self.status == 0, f"apt-get ended with {self.status}:\n{self.text}"
        assert "\nW:" not in self.text and not self.text.startswith("W:"), \
            f"apt-get warns:\n{self.text}"
        return self


class AptRoot:
    """One client."""

    def __init__(self, path, arch, sources, *, proxy_port=None, retries=0, extra=""):
        self.path = path
        for name in ("state/lists/partial", "cache/archives/partial", "etc/apt.conf.d",
                     "etc/preferences.d", "etc/sources.list.d", "etc/trusted.gpg.d", "log", "work"):
            os.makedirs(os.path.join(path, name))
        with open(os.path.join(path, "status"), "w", encoding="ascii"):
            pass
        self.set_sources(sources)
        proxy = f'Acquire::http::Proxy "http://127.0.0.1:{proxy_port}";' if proxy_port else ""
        self.config = os.path.join(path, "apt.conf")
        with open(self.config, "w", encoding="ascii") as out:
            out.write(CONFIG.format(root=path, arch=arch, retries=retries, proxy=proxy,
                                    extra=extra))

    def set_sources(self, sources):
        """sources.list, a list of lines."""
        with open(os.path.join(self.path, "etc", "sources.list"), "w", encoding="ascii") as out:
            out.write("\n".join(sources) + "\n")

    def copy_lists(self, other):
        """Takes another client's lists over, as an image layer made by `apt-get update` does."""
        for name in ("state", "cache"):
            shutil.rmtree(os.path.join(self.path, name))
            shutil.copytree(os.path.join(other.path, name), os.path.join(self.path, name))

    def start(self, *args):
        """Starts apt-get in its own process group; finish() waits for it, kill() ends it."""
        env = {"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
               "LC_ALL": "C.UTF-8", "APT_CONFIG": self.config, "DEBIAN_FRONTEND": "noninteractive"}
        return subprocess.Popen(["apt-get", "-q", "-y", *args], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                cwd=os.path.join(self.path, "work"), env=env,
                                start_new_session=True)

    @staticmethod
    def kill(process):
        """SIGKILL to apt-get and its methods, as when a build is cancelled."""
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()

    @staticmethod
    def finish(process, timeout=50):
        """Waits and gathers what it said."""
        started = time.monotonic()
        try:
            text, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            text, _ = process.communicate()
            raise AssertionError(f"apt-get still ran after {time.monotonic() - started:.0f} s:\n"
                                 + text) from None
        return Result(process.returncode, text)

    def run(self, *args):
        """Runs apt-get to its end."""
        return self.finish(self.start(*args))

    def update(self):
        """apt-get update."""
        return self.run("update")

    def install(self, *names):
        """Downloads packages and what they depend on."""
        return self.run("install", "--download-only", "--no-install-recommends", *names)

    def downloaded(self):
        """File name -> bytes of what install or download left."""
        found = {}
        for directory in ("cache/archives", "work"):
            directory = os.path.join(self.path, directory)
            for name in os.listdir(directory):
                if name.endswith(".deb"):
                    with open(os.path.join(directory, name), "rb") as file:
                        found[name] = file.read()
        return found

    def expect_packages(self, debs):
        """What was downloaded is these packages, byte for byte."""
        got = sorted(self.downloaded().values())
        want = sorted(deb.data for deb in debs)
        assert got == want, f"downloaded {sorted(self.downloaded())}, expected " \
                            f"{sorted(deb.file_name for deb in debs)}, or the bytes differ"
