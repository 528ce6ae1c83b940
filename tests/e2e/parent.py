# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""A parent proxy: CONNECT and plain requests, with Basic credentials if told so.

For: test_access.py, test_parents.py.  Every host behind it is the test's origin, whatever its name,
so that names which resolve nowhere show that the depot leaves resolving to its parent.
"""
import base64
import select
import socket
import ssl
import threading

import ports


def server_context(chain):
    """A TLS server with this chain and key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return context


class Parent:
    """port says where; heads what was asked.

    credentials  "user:password" without which the answer is 407
    tls          chain file: it is an https:// proxy
    intercept    chain file: it breaks TLS open with this certificate, whatever the host
    refuse       a status: the answer to every CONNECT
    hang         "accept": it takes connections and says nothing; "request": requests too
    """

    def __init__(self, origin, credentials=None, *, tls=None, intercept=None, refuse=None,
                 hang=None):
        self.origin = origin
        self.want = credentials and "Basic " + base64.b64encode(credentials.encode()).decode()
        self.tls = tls and server_context(tls)
        self.intercept = intercept and server_context(intercept)
        self.refuse = refuse
        self.hang = hang
        self.heads = []
        self.inner_heads = []
        self.accepted = 0
        self._held = []
        self._listener = ports.listen()
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            sock, _ = self._listener.accept()
            self.accepted += 1
            if self.hang == "accept":
                self._held.append(sock)
                continue
            threading.Thread(target=self._run, args=(sock,), daemon=True).start()

    def _run(self, raw):
        sock = raw
        try:
            if self.tls:
                sock = self.tls.wrap_socket(raw, server_side=True)
            head, rest = _read_head(sock)
            if head is None:
                sock.sendall(b"HTTP/1.1 400 What\r\nContent-Length: 0\r\n\r\n")
                return
            self.heads.append(head)
            if self.hang:
                sock.recv(1)
                return
            method, target = head.split(" ")[:2]
            given = [line.split(":", 1)[1].strip() for line in head.split("\r\n")
                     if line.lower().startswith("proxy-authorization:")]
            if self.want and given != [self.want]:
                sock.sendall(b"HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic realm=x\r\n"
                             b"Content-Length: 5\r\nConnection: close\r\n\r\nwho?\n")
                return
            if self.refuse:
                sock.sendall(f"HTTP/1.1 {self.refuse} No\r\nContent-Length: 3\r\n"
                             "Connection: close\r\n\r\nno\n".encode())
                return
            if method != "CONNECT":
                while head is not None and self._run_plain(sock, head):
                    head, _ = _read_head(sock)
                    if head is not None:
                        self.heads.append(head)
            elif self.intercept:
                sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                self._run_intercepted(sock)
            else:
                to = target.rsplit(":", 1)
                port = self.origin.tls_port if to[1] == "443" else int(to[1])
                up = socket.create_connection(("127.0.0.1", port))
                sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                _join(sock, up, rest)
        except OSError:
            pass
        finally:
            sock.close()

    def _run_plain(self, sock, head):
        """One request in absolute form; True: another may follow."""
        up = socket.create_connection(("127.0.0.1", self.origin.plain_port))
        method, target = head.split(" ")[:2]
        kept = [line for line in head.split("\r\n")[1:] if not line.lower().startswith("proxy-")]
        up.sendall("\r\n".join([f"{method} /{target.split('/', 3)[3]} HTTP/1.1"] + kept)
                   .encode("latin-1") + b"\r\n\r\n")
        answer, rest = _read_head(up)
        if answer is None:
            return False
        sock.sendall(answer.encode("latin-1") + b"\r\n\r\n" + rest)
        left = [int(line.split(":")[1]) - len(rest) for line in answer.split("\r\n")
                if line.lower().startswith("content-length:")]
        while not left or left[0] > 0:
            data = up.recv(65536)
            if not data:
                return False
            sock.sendall(data)
            if left:
                left[0] -= len(data)
        up.close()
        return True

    def _run_intercepted(self, sock):
        """The client's TLS ends here; the origin's is not even verified."""
        inner = self.intercept.wrap_socket(sock, server_side=True)
        head, _ = _read_head(inner)
        if head is None:
            return
        self.inner_heads.append(head)
        host = [line.split(":", 1)[1].strip() for line in head.split("\r\n")
                if line.lower().startswith("host:")][0]
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        up = context.wrap_socket(socket.create_connection(("127.0.0.1", self.origin.tls_port)),
                                 server_hostname=host.split(":")[0])
        up.sendall(head.encode("latin-1") + b"\r\nConnection: close\r\n\r\n")
        _copy(up, inner)
        inner.unwrap()


def _read_head(sock):
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more or more[0] == 0x16:
            return None, b""
        data += more
    head, rest = data.split(b"\r\n\r\n", 1)
    return head.decode("latin-1"), rest


def _join(sock, up, first):
    if first:
        up.sendall(first)
    if isinstance(sock, ssl.SSLSocket):
        _join_tls(sock, up)
        return
    threading.Thread(target=_copy, args=(up, sock), daemon=True).start()
    _copy(sock, up)


def _join_tls(sock, up):
    """Both ways in one thread: a TLS object is not for two."""
    while True:
        ready = [sock] if sock.pending() else select.select([sock, up], [], [])[0]
        for source in ready:
            data = source.recv(65536)
            if not data:
                up.close()
                return
            (up if source is sock else sock).sendall(data)


def _copy(source, sink):
    try:
        while True:
            data = source.recv(65536)
            if not data:
                break
            sink.sendall(data)
        if not isinstance(sink, ssl.SSLSocket):
            sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass
