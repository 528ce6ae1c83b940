# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""Free ports on 127.0.0.1 that stay ours.

For: everything here that listens, the daemon under test included.

A port is found by binding it, below the range from which the kernel takes ports for outgoing
connections, and the bound socket is kept: other test processes see the port as taken, while a
listener that sets SO_REUSEADDR (any server that can be restarted does) may still use it.  A held
port without a listener refuses connections, which is what some tests want.
"""
import os
import random
import socket

FIRST, LAST = (int(n) for n in os.environ.get("E2E_PORTS", "21000-21999").split("-"))

_held = []


def hold_port():
    """Finds a free port, holds it, returns its number."""
    rng = random.Random(os.getpid() * 7919 + len(_held))
    for _ in range(4000):
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        port = rng.randint(FIRST, LAST)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            sock.close()
            continue
        # Only now: with it set before, two test processes could bind the same port.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _held.append(sock)
        return port
    raise RuntimeError(f"no free port between {FIRST} and {LAST}")


def listen(port=None, backlog=128, address="127.0.0.1"):
    """A listening socket on 127.0.0.1, or on another address of the loopback."""
    port = port or hold_port()
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, port))
    sock.listen(backlog)
    return sock
