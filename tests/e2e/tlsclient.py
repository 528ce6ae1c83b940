# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""TLS clients of the depot: connections inside a CONNECT or on listen_tls, and curl.

For: test_tls.py, test_redirect.py.
"""
import os
import shutil
import ssl
import subprocess

import client
from depot import SLOW
from support import Skip


def context(ca, *, version=None, check=True):
    """What a client trusts; version: speaks nothing else."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = check
    made.load_verify_locations(ca)
    if version is not None:
        if version < ssl.TLSVersion.TLSv1_2:
            made.set_ciphers("ALL:@SECLEVEL=0")
        made.minimum_version = made.maximum_version = version
    return made


def ca_file(env, depot):
    """The depot's authority, as a client gets it."""
    path = os.path.join(env.path, f"depot-ca-{depot.port}.pem")
    with open(path, "wb") as out:
        out.write(depot.get("/-/ca.pem").body)
    return path


def connect(depot, target, **options):
    """A connection whose CONNECT got its 200."""
    conn = depot.conn(**options)
    conn.send(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")
    response = conn.read_head()
    assert response.status == 200, response
    return conn


def intercepted(env, depot, host, *, name="", port=443, trust=None, **options):
    """A connection inside of an intercepted CONNECT; name: another server name, None: none."""
    conn = connect(depot, f"{host}:{port}", **options)
    asked = host if name == "" else name
    made = trust or context(ca_file(env, depot), check=asked == host)
    conn.sock = made.wrap_socket(conn.sock, server_hostname=asked)
    return conn


def direct(depot, port, ca, **options):
    """A connection to listen_tls."""
    conn = client.Conn(port, timeout=client.TIMEOUT_S * SLOW, **options)
    conn.sock = context(ca, check=False).wrap_socket(conn.sock, server_hostname="depot.example")
    return conn


def curl(*args, fails=False):
    """Runs curl: its output; fails: its status instead, which must not be 0."""
    if not shutil.which("curl"):
        raise Skip("curl is not installed")
    done = subprocess.run(["curl", "-sS", "--max-time", str(45 * SLOW), "--noproxy", "", *args],
                          capture_output=True, check=False)
    if fails:
        assert done.returncode != 0, "curl did not fail"
        return done.returncode
    assert done.returncode == 0, f"curl ended with {done.returncode}: {done.stderr.decode()}"
    return done.stdout
