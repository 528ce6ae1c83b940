# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""A parent proxy: CONNECT and plain requests, with Basic credentials if told so.

For: test_access.py.  Every host behind it is the test's origin, whatever its name, so that names
which resolve nowhere show that the depot leaves resolving to its parent.
"""
import base64
import socket
import threading

import ports


class Parent:
    """port says where; connects and heads what was asked."""

    def __init__(self, origin, credentials=None):
        self.origin = origin
        self.want = credentials and "Basic " + base64.b64encode(credentials.encode()).decode()
        self.heads = []
        self._listener = ports.listen()
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            sock, _ = self._listener.accept()
            threading.Thread(target=self._run, args=(sock,), daemon=True).start()

    def _run(self, sock):
        try:
            data = b""
            while b"\r\n\r\n" not in data:
                more = sock.recv(65536)
                if not more:
                    return
                data += more
            head = data.split(b"\r\n\r\n")[0].decode("latin-1")
            self.heads.append(head)
            method, target = head.split(" ")[:2]
            given = [line.split(":", 1)[1].strip() for line in head.split("\r\n")
                     if line.lower().startswith("proxy-authorization:")]
            if self.want and given != [self.want]:
                sock.sendall(b"HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic realm=x\r\n"
                             b"Content-Length: 5\r\nConnection: close\r\n\r\nwho?\n")
                return
            if method == "CONNECT":
                up = socket.create_connection(("127.0.0.1", self.origin.tls_port))
                sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                up = socket.create_connection(("127.0.0.1", self.origin.plain_port))
                path = "/" + target.split("/", 3)[3]
                kept = [line for line in head.split("\r\n")[1:]
                        if not line.lower().startswith("proxy-")]
                up.sendall("\r\n".join([f"{method} {path} HTTP/1.1"] + kept).encode("latin-1")
                           + b"\r\n\r\n")
            threading.Thread(target=_copy, args=(up, sock), daemon=True).start()
            _copy(sock, up)
        except OSError:
            pass
        finally:
            sock.close()


def _copy(source, sink):
    try:
        while True:
            data = source.recv(65536)
            if not data:
                break
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass
