# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""Gives a real client an address of its own: relays a port to another, coming from 127.0.0.x.

For: tests where several apt-get on this machine stand for several machines.
"""
import selectors
import socket
import threading

import ports


class Relay:
    """Accepts on port; each connection is continued to to_port from the source address."""

    def __init__(self, to_port, source):
        self.to_port = to_port
        self.source = source
        self._listener = ports.listen()
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        """No more connections; those that are open go on."""
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()

    def _accept(self):
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._run, args=(sock,), daemon=True).start()

    def _run(self, near):
        far = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            far.bind((self.source, 0))
            far.connect(("127.0.0.1", self.to_port))
            _copy(near, far)
        except OSError:
            pass
        finally:
            near.close()
            far.close()


def _copy(near, far):
    with selectors.DefaultSelector() as selector:
        selector.register(near, selectors.EVENT_READ, far)
        selector.register(far, selectors.EVENT_READ, near)
        while selector.get_map():
            for key, _ in selector.select():
                data = key.fileobj.recv(1 << 18)
                if data:
                    key.data.sendall(data)
                    continue
                selector.unregister(key.fileobj)
                key.data.shutdown(socket.SHUT_WR)
