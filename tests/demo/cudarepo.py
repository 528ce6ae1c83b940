# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""A repository of the shape of NVIDIA's CUDA one, and the TLS server that it is on.

For: tests/demo/demo.py.  The repository is flat and signed, its file names begin with ./, it has no
by-hash; the packages have CUDA's names and a thirtieth of CUDA's weight, in bytes that do not
compress.
"""
import concurrent.futures
import email.utils
import functools
import gzip
import hashlib
import http.server
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time

HOST = "developer.download.nvidia.com"
PATH = "/compute/cuda/repos/debian12/x86_64/"
VERSION = "12.4.1-1"

# Name: (megabytes, dependencies)
PACKAGES = {
    "cuda": (0, ["cuda-12-4"]),
    "cuda-12-4": (0, ["cuda-runtime-12-4", "cuda-toolkit-12-4"]),
    "cuda-runtime-12-4": (0, ["cuda-libraries-12-4", "cuda-compat-12-4"]),
    "cuda-toolkit-12-4": (0, ["cuda-nvcc-12-4", "cuda-cupti-12-4", "cuda-gdb-12-4",
                              "cuda-libraries-12-4", "cuda-nsight-compute-12-4"]),
    "cuda-libraries-12-4": (0, ["cuda-cudart-12-4", "cuda-nvrtc-12-4", "libcublas-12-4",
                                "libcufft-12-4", "libcurand-12-4", "libcusolver-12-4",
                                "libcusparse-12-4", "libnpp-12-4", "libnvjitlink-12-4"]),
    "cuda-cudart-12-4": (1, []),
    "cuda-compat-12-4": (2, []),
    "cuda-nvcc-12-4": (3, []),
    "cuda-cupti-12-4": (2, []),
    "cuda-gdb-12-4": (3, []),
    "cuda-nvrtc-12-4": (2, []),
    "cuda-nsight-compute-12-4": (20, []),
    "libcublas-12-4": (30, []),
    "libcufft-12-4": (9, []),
    "libcurand-12-4": (5, []),
    "libcusolver-12-4": (7, []),
    "libcusparse-12-4": (11, []),
    "libnpp-12-4": (10, []),
    "libnvjitlink-12-4": (2, []),
}


def run(*command, **options):
    """A helper program; its output matters only when it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout}")
    return done.stdout


def make_package(directory, name):
    """One .deb, stored rather than compressed; returns its stanza of Packages."""
    megabytes, depends = PACKAGES[name]
    tree = os.path.join(directory, "tree-" + name)
    os.makedirs(os.path.join(tree, "DEBIAN"))
    control = {"Package": name, "Version": VERSION, "Architecture": "amd64", "Section": "devel",
               "Maintainer": "apt-depot demo <demo@cuda.example>"}
    if depends:
        control["Depends"] = ", ".join(depends)
    control["Description"] = f"stands in for NVIDIA's {name}"
    with open(os.path.join(tree, "DEBIAN", "control"), "w", encoding="ascii") as out:
        out.writelines(f"{key}: {value}\n" for key, value in control.items())
    lib = os.path.join(tree, "usr", "local", "cuda-12.4", "lib64")
    os.makedirs(lib)
    with open(os.path.join(lib, name + ".bin"), "wb") as out:
        for _ in range(megabytes):
            out.write(os.urandom(1 << 20))
    deb = f"{name}_{VERSION}_amd64.deb"
    run("dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, os.path.join(directory, deb))
    shutil.rmtree(tree)
    digest = hashlib.sha256()
    with open(os.path.join(directory, deb), "rb") as data:
        while block := data.read(1 << 20):
            digest.update(block)
    control.update({"Filename": "./" + deb, "SHA256": digest.hexdigest(),
                    "Size": os.path.getsize(os.path.join(directory, deb))})
    return "".join(f"{key}: {value}\n" for key, value in control.items())


def sign(directory, text):
    """InRelease, by a key made here; the keyring lies beside it."""
    home = os.path.join(directory, "gnupg")
    os.makedirs(home, mode=0o700)
    gpg = ["gpg", "--homedir", home, "--batch", "--quiet", "--pinentry-mode", "loopback",
           "--passphrase", ""]
    try:
        run(*gpg, "--quick-generate-key", "cudatools <cudatools@cuda.example>", "rsa2048", "sign")
        run(*gpg, "--output", os.path.join(directory, "cuda-archive-keyring.gpg"), "--export")
        with open(os.path.join(home, "Release"), "w", encoding="ascii") as out:
            out.write(text)
        run(*gpg, "--output", os.path.join(directory, "InRelease"), "--clearsign",
            os.path.join(home, "Release"))
    finally:
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False,
                       capture_output=True)
        shutil.rmtree(home)


def make_repository(directory):
    """The whole repository, unless an earlier run left it; returns its files and sizes."""
    if not os.path.exists(os.path.join(directory, "InRelease")):
        shutil.rmtree(directory, ignore_errors=True)
        os.makedirs(directory)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            stanzas = pool.map(functools.partial(make_package, directory), PACKAGES)
            packages = "\n".join(stanzas).encode("ascii")
        indexes = {"Packages": packages, "Packages.gz": gzip.compress(packages, mtime=0)}
        release = ["Origin: NVIDIA", "Label: NVIDIA CUDA", "Architecture: amd64",
                   "Date: " + email.utils.formatdate(usegmt=True).replace("GMT", "UTC"), "SHA256:"]
        for name, body in indexes.items():
            with open(os.path.join(directory, name), "wb") as out:
                out.write(body)
            release.append(f" {hashlib.sha256(body).hexdigest()} {len(body)} {name}")
        sign(directory, "\n".join(release) + "\n")
    return {name: os.path.getsize(os.path.join(directory, name))
            for name in os.listdir(directory)}


def make_certificates(directory):
    """A certificate authority and a server certificate of its making."""
    os.makedirs(directory, exist_ok=True)
    ca, ca_key, cert, key, request, extensions = (
        os.path.join(directory, n) for n in
        ("ca.pem", "ca.key", "origin.pem", "origin.key", "origin.csr", "origin.ext"))
    if not os.path.exists(cert):
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650",
            "-subj", "/CN=apt-depot demo CA", "-keyout", ca_key, "-out", ca)
        run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=" + HOST,
            "-keyout", key, "-out", request)
        with open(extensions, "w", encoding="ascii") as out:
            out.write(f"subjectAltName=DNS:{HOST}\nbasicConstraints=CA:FALSE\n")
        run("openssl", "x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key,
            "-set_serial", "1", "-days", "3650", "-extfile", extensions, "-out", cert)
    return ca, cert, key


class Handler(http.server.BaseHTTPRequestHandler):
    """GET and HEAD with ranges and conditions, as a CDN answers them."""
    protocol_version = "HTTP/1.1"

    def setup(self):
        # The handshake is done here, in this connection's own thread.
        self.request.settimeout(60)
        self.request.do_handshake()
        super().setup()

    def do_GET(self):
        """A file of the repository, whole or from where the client asks."""
        name = self.path[len(PATH):].removeprefix("./")
        path = os.path.join(self.server.directory, name)
        self.server.count(0, 1)
        if not self.path.startswith(PATH) or "/" in name or not os.path.isfile(path):
            self.answer(404, b"not here\n")
            return
        info = os.stat(path)
        modified = email.utils.formatdate(int(info.st_mtime), usegmt=True)
        if self.headers.get("If-Modified-Since") == modified:
            self.answer(304, None, {"Last-Modified": modified})
            return
        start = 0
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes=") and wanted.endswith("-") and \
                self.headers.get("If-Range") in (None, modified):
            start = min(int(wanted[6:-1]), info.st_size)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{info.st_size - 1}/{info.st_size}")
        self.send_header("Content-Length", str(info.st_size - start))
        self.send_header("Last-Modified", modified)
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if self.command == "GET":
            self.send_file(path, start)

    do_HEAD = do_GET

    def send_file(self, path, start):
        """The bytes, at the speed that all transfers share."""
        with open(path, "rb") as data:
            data.seek(start)
            while block := data.read(1 << 18):
                self.server.wait_for(len(block))
                self.wfile.write(block)
                self.server.count(len(block), 0)

    def answer(self, status, body, fields=()):
        """A short answer."""
        self.send_response(status)
        for key, value in dict(fields).items():
            self.send_header(key, value)
        if body is not None:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if body is not None:
            self.wfile.write(body)
            self.server.count(len(body), 0)

    def log_message(self, format, *args):  # pylint: disable=redefined-builtin
        """Nobody reads it."""


class Origin(http.server.ThreadingHTTPServer):
    """The TLS server, with a limited line and its own count of what it sent."""
    daemon_threads = True
    block_on_close = False

    def __init__(self, directory, cert, key, bytes_per_s):
        super().__init__(("127.0.0.1", 0), Handler)
        self.directory = directory
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        self.socket = context.wrap_socket(self.socket, server_side=True,
                                          do_handshake_on_connect=False)
        self.port = self.server_address[1]
        self.bytes_per_s = bytes_per_s
        self.free_at = 0.0
        self.sent_bytes = 0
        self.requests_n = 0
        self.lock = threading.Lock()
        self.connections = set()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def count(self, sent_bytes, requests_n):
        """Adds to the origin's own count."""
        with self.lock:
            self.sent_bytes += sent_bytes
            self.requests_n += requests_n

    def wait_for(self, block_bytes):
        """Books a block on the line and waits for its turn."""
        with self.lock:
            now = time.monotonic()
            start = max(now, self.free_at)
            self.free_at = start + block_bytes / self.bytes_per_s
        if start > now:
            time.sleep(start - now)

    def process_request(self, request, client_address):
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request, client_address):
        """A client that leaves is no news."""

    def stop(self):
        """Gone: the port refuses, open connections are cut."""
        self.shutdown()
        self.server_close()
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
