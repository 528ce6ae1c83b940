# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""An HTTP/1.1 client on a bare socket, for requests that no library would send.

For: every test.  It can pipeline, stop reading, leave with a reset, and it tells a body that ended
as announced from one that was cut.
"""
import socket
import struct

import body as bodies

TIMEOUT_S = 60


class Response:
    """Status line, fields and, once read, the body."""

    def __init__(self, head):
        lines = head.decode("latin-1").split("\r\n")
        self.head = head
        self.version, status, self.reason = (lines[0] + " ").split(" ", 2)
        self.reason = self.reason.strip()
        self.status = int(status)
        self.fields = []
        for line in lines[1:]:
            name, value = line.split(":", 1)
            self.fields.append((name, value.strip()))
        self.body = b""
        self.complete = False

    def get(self, name, default=None):
        """A field's value; fields that come twice are joined."""
        values = [v for n, v in self.fields if n.lower() == name.lower()]
        return ", ".join(values) if values else default

    @property
    def text(self):
        """The body as text."""
        return self.body.decode("utf-8", "replace")

    @property
    def cache_status(self):
        """The Cache-Status field."""
        return self.get("Cache-Status", "")

    @property
    def is_hit(self):
        """Served from the cache without upstream?"""
        return "; hit" in self.cache_status

    def __repr__(self):
        return f"<{self.status} {self.reason} {self.cache_status!r} {self.body[:200]!r}>"


class Conn:
    """One connection."""

    def __init__(self, port, *, timeout=TIMEOUT_S, receive_buffer=None, host="127.0.0.1",
                 source=None):
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET,
                                  socket.SOCK_STREAM)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(timeout)
        if source:
            # All of 127.0.0.0/8 is ours: clients with addresses of their own.
            self.sock.bind((source, 0))
        self.sock.connect((host, port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.data = b""

    @classmethod
    def of(cls, sock):
        """A connection that was made by other means."""
        conn = cls.__new__(cls)
        conn.sock = sock
        conn.data = b""
        return conn

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        """FIN."""
        self.sock.close()

    def reset(self):
        """Leaves with RST, as a killed client with unread data does."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def send(self, data):
        """Bytes as they are."""
        self.sock.sendall(data if isinstance(data, bytes) else data.encode("latin-1"))

    def ask(self, target, *headers, method="GET", version="HTTP/1.1", host="HTTPS"):
        """Sends a request; headers are "Name: value" lines."""
        self.send(make_request(target, *headers, method=method, version=version, host=host))

    def get(self, target, *headers, method="GET", expect=None, host="HTTPS"):
        """A request and its whole answer."""
        self.ask(target, *headers, method=method, host=host)
        return self.read(method, expect=expect)

    def more(self, limit=1 << 20):
        """Bytes as they come; b"" at the end."""
        if self.data:
            data, self.data = self.data[:limit], self.data[limit:]
            return data
        return self.sock.recv(limit)

    def read_head(self):
        """The next answer's head; None when the connection ended instead."""
        while b"\r\n\r\n" not in self.data:
            try:
                data = self.sock.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                if self.data:
                    raise AssertionError(f"connection ended inside a head: {self.data!r}")
                return None
            self.data += data
        head, self.data = self.data.split(b"\r\n\r\n", 1)
        return Response(head)

    def read_exactly(self, n):
        """n body bytes; fewer when the connection ends."""
        parts = []
        while n > 0:
            try:
                data = self.more(min(n, 1 << 20))
            except ConnectionResetError:
                break
            if not data:
                break
            parts.append(data)
            n -= len(data)
        return b"".join(parts)

    def read_body(self, response, method="GET", expect=None):
        """Reads the body; with expect (a body), compares instead of keeping it."""
        length = response.get("Content-Length")
        if method == "HEAD" or response.status in (204, 304) or response.status < 200:
            response.complete = True
        elif response.get("Transfer-Encoding", "").lower() == "chunked":
            assert length is None, "both Content-Length and Transfer-Encoding"
            self._read_chunked(response)
        elif length is not None and expect is not None:
            self._compare(response, int(length), expect)
        elif length is not None:
            response.body = self.read_exactly(int(length))
            response.complete = len(response.body) == int(length)
        else:
            response.body = self._read_rest()
            response.complete = response.version == "HTTP/1.0" or \
                response.get("Connection", "").lower() == "close"
        return response

    def read(self, method="GET", expect=None):
        """The next answer, whole."""
        response = self.read_head()
        if response is None:
            raise AssertionError("the connection ended before an answer")
        return self.read_body(response, method, expect)

    def ended(self):
        """Is the connection closed, with nothing left to read?"""
        try:
            return self.more() == b""
        except ConnectionResetError:
            return True

    def _read_rest(self):
        parts = []
        while True:
            try:
                data = self.more()
            except ConnectionResetError:
                break
            if not data:
                break
            parts.append(data)
        return b"".join(parts)

    def _read_line(self):
        while b"\r\n" not in self.data:
            try:
                data = self.sock.recv(65536)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self.data += data
        line, self.data = self.data.split(b"\r\n", 1)
        return line

    def _read_chunked(self, response):
        parts = []
        while True:
            line = self._read_line()
            if line is None:
                break
            n = int(line.split(b";")[0], 16)
            if n == 0:
                while self._read_line():
                    pass
                response.complete = True
                break
            part = self.read_exactly(n)
            parts.append(part)
            if len(part) != n or self._read_line() != b"":
                break
        response.body = b"".join(parts)

    def _compare(self, response, length, expect):
        at = 0
        while at < length:
            data = self.more(min(length - at, 1 << 20))
            if not data:
                break
            if data != expect.slice(at, at + len(data)):
                raise AssertionError(f"wrong bytes between {at} and {at + len(data)}")
            at += len(data)
        response.received = at
        response.complete = at == length


def make_request(target, *headers, method="GET", version="HTTP/1.1", host="HTTPS"):
    """A request's bytes."""
    lines = [f"{method} {target} {version}"]
    if host is not None:
        lines.append(f"Host: {host}")
    return ("\r\n".join(lines + list(headers)) + "\r\n\r\n").encode("latin-1")


def expect_body(response, want, status=200):
    """A complete answer with exactly these bytes."""
    want = bodies.of(want).bytes()
    assert response.status == status, f"status {response.status}, expected {status}: {response}"
    assert response.complete, f"the body was cut after {len(response.body)} of {len(want)} bytes"
    if response.body != want:
        at = next((i for i, (a, b) in enumerate(zip(response.body, want)) if a != b),
                  min(len(want), len(response.body)))
        raise AssertionError(f"body of {len(response.body)} bytes differs from the expected "
                             f"{len(want)} at {at}")
    return response


def expect_error(response, *statuses, words=()):
    """An error as the contract wants it: whole, with a length, not empty, in words."""
    assert response.status in statuses, f"status {response.status}, expected {statuses}: {response}"
    assert response.get("Content-Length") is not None, "an error without Content-Length"
    assert response.complete and len(response.body) > 0, "an error without a body"
    for word in words:
        assert word.lower() in response.text.lower(), f"{word!r} is not in {response.text!r}"
    return response
