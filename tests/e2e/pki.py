# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""Certificates of the test origin, made once per run with the openssl command.

For: run.py, which calls make() before any test; origin.py, which picks a chain by the name that the
client asks for.

Good names share one leaf.  The bad ones: expired.example, wrong.example (a certificate for another
name), unknown.example (signed by a CA that nobody was told about), selfsigned.example.

Besides: corp.pem, with which a proxy breaks TLS to the good names open (its CA: corp-ca.pem);
parent.pem for an https:// proxy on this machine; client.pem for clients that must show one.
"""
import os
import subprocess

GOOD_NAMES = ["cuda.example", "developer.example", "mirror.example", "deb.example", "one.example",
              "two.example", "three.example", "four.example"]
BAD_NAMES = ["expired.example", "wrong.example", "unknown.example", "selfsigned.example"]

CA_CONFIG = """
[ca]
default_ca = here
[here]
database = {dir}/index.txt
serial = {dir}/serial
new_certs_dir = {dir}
default_md = sha256
policy = any
copy_extensions = copy
x509_extensions = leaf
unique_subject = no
[leaf]
authorityKeyIdentifier = keyid
[any]
commonName = supplied
"""


def _openssl(*args):
    done = subprocess.run(["openssl", *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {args[0]} failed:\n{done.stdout}")


class Pki:
    """Paths of what was made."""

    def __init__(self, path):
        self.path = path
        self.ca = os.path.join(path, "ca.pem")

    def leaf(self, name):
        """Chain file with the key in it, for an SNI name (None: none was sent)."""
        return os.path.join(self.path, f"{name if name in BAD_NAMES else 'good'}.pem")

    def make(self):
        """Runs openssl; takes about a fifth of a second."""
        os.makedirs(self.path, exist_ok=True)
        self._make_ca("ca", "apt-depot test CA")
        self._make_ca("unknown-ca", "a CA nobody knows")
        self._make_leaf("good", GOOD_NAMES, "ca")
        self._make_leaf("expired.example", ["expired.example"], "ca",
                        dates=("20200101000000Z", "20210101000000Z"))
        self._make_leaf("wrong.example", ["somebody-else.example"], "ca")
        self._make_leaf("unknown.example", ["unknown.example"], "unknown-ca")
        self._make_ca("corp-ca", "Example Corp TLS Inspection")
        self._make_leaf("corp", GOOD_NAMES, "corp-ca")
        self._make_leaf("parent", ["localhost", "127.0.0.1"], "ca")
        self._make_leaf("client", ["depot.example"], "ca")
        self._make_self_signed("selfsigned.example")
        return self

    def _file(self, name):
        return os.path.join(self.path, name)

    def _make_ca(self, name, subject):
        _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                 "-nodes", "-keyout", self._file(name + ".key"), "-out", self._file(name + ".pem"),
                 "-subj", f"/CN={subject}", "-days", "3650",
                 "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        own = self._file(name + ".db")
        os.makedirs(own)
        for file, text in (("index.txt", ""), ("serial", "01\n"),
                           ("ca.cnf", CA_CONFIG.format(dir=own))):
            with open(os.path.join(own, file), "w", encoding="ascii") as out:
                out.write(text)

    def file(self, name):
        """Path of one of the others, such as corp.pem."""
        return self._file(name)

    def _make_self_signed(self, name):
        path = self._file(name + ".pem")
        _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                 "-nodes", "-keyout", path + ".key", "-out", path + ".crt", "-subj", f"/CN={name}",
                 "-addext", f"subjectAltName=DNS:{name}", "-addext",
                 "basicConstraints=critical,CA:FALSE", "-days", "365")
        _join(path, path + ".crt", path + ".key")

    def _make_leaf(self, file, names, ca, dates=("20240101000000Z", "20491231235959Z")):
        key, csr, crt = (self._file(file + end) for end in (".key", ".csr", ".crt"))
        _openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                 "-keyout", key, "-out", csr, "-subj", f"/CN={names[0]}", "-addext",
                 "subjectAltName=" + ",".join(
                     ("IP:" if name[0].isdigit() else "DNS:") + name for name in names))
        _openssl("ca", "-batch", "-notext", "-config", self._file(ca + ".db/ca.cnf"),
                 "-cert", self._file(ca + ".pem"), "-keyfile", self._file(ca + ".key"),
                 "-startdate", dates[0], "-enddate", dates[1], "-in", csr, "-out", crt)
        _join(self._file(file + ".pem"), crt, key)


def _join(path, *parts):
    with open(path, "wb") as out:
        os.chmod(path, 0o600)
        for part in parts:
            with open(part, "rb") as text:
                out.write(text.read())
