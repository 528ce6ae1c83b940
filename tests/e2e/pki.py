# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""Certificates of the test origin, made once per run with the openssl command.

For: run.py, which calls make() before any test; origin.py, which picks a chain by the name that the
client asks for.

Good names share one leaf.  The bad ones: expired.example, wrong.example (a certificate for another
name), unknown.example (signed by a CA that nobody was told about).
"""
import os
import subprocess

GOOD_NAMES = ["cuda.example", "developer.example", "mirror.example", "deb.example", "one.example",
              "two.example", "three.example", "four.example"]
BAD_NAMES = ["expired.example", "wrong.example", "unknown.example"]

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
unique_subject = no
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
        return self

    def _file(self, name):
        return os.path.join(self.path, name)

    def _make_ca(self, name, subject):
        _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                 "-nodes", "-keyout", self._file(name + ".key"), "-out", self._file(name + ".pem"),
                 "-subj", f"/CN={subject}", "-days", "3650")
        own = self._file(name + ".db")
        os.makedirs(own)
        for file, text in (("index.txt", ""), ("serial", "01\n"),
                           ("ca.cnf", CA_CONFIG.format(dir=own))):
            with open(os.path.join(own, file), "w", encoding="ascii") as out:
                out.write(text)

    def _make_leaf(self, file, names, ca, dates=("20240101000000Z", "20491231235959Z")):
        key, csr, crt = (self._file(file + end) for end in (".key", ".csr", ".crt"))
        _openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                 "-keyout", key, "-out", csr, "-subj", f"/CN={names[0]}", "-addext",
                 "subjectAltName=" + ",".join("DNS:" + name for name in names))
        _openssl("ca", "-batch", "-notext", "-config", self._file(ca + ".db/ca.cnf"),
                 "-cert", self._file(ca + ".pem"), "-keyfile", self._file(ca + ".key"),
                 "-startdate", dates[0], "-enddate", dates[1], "-in", csr, "-out", crt)
        with open(self._file(file + ".pem"), "wb") as out:
            for part in (crt, key):
                with open(part, "rb") as text:
                    out.write(text.read())
