# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""A scripted origin: HTTP/1.1 over TLS and in clear text, one thread per connection.

For: every test.  A test says what each path answers and reads afterwards what was asked:

    origin.serve("/x.deb", Pattern(1 << 20))                    # the same answer each time
    origin.serve("/y.deb", Answer(b"", status=503), Answer(b"body"))   # first this, then that
    origin.requests("/x.deb"), origin.body_bytes("/x.deb")

Paths are percent-decoded once before they are looked up, as a real server does; a path counts for
every host unless served with host=.  A path without a script is asked of its host's own function,
if it has one (cdn.py).  Nothing here waits for a time: a Gate stops an answer at its head or after
so many body bytes until the test opens it.
"""
import contextlib
import email.utils
import socket
import ssl
import struct
import threading
import time
import urllib.parse

import body as bodies
import ports

PIECE_BYTES = 256 << 10
LAST_MODIFIED = "Tue, 02 Jan 2024 03:04:05 GMT"
DEADLINE_S = 60


class Gate:
    """Stops answers until it is opened; knows how many wait before it."""

    def __init__(self):
        self._cond = threading.Condition()
        self._open = False
        self.waiting = 0

    def open(self):
        """Lets everyone through, from now on."""
        with self._cond:
            self._open = True
            self._cond.notify_all()

    def pass_through(self):
        """Called by the origin: waits for open()."""
        with self._cond:
            self.waiting += 1
            self._cond.notify_all()
            self._cond.wait_for(lambda: self._open, DEADLINE_S)

    def wait_for(self, n, deadline_s=45):
        """Called by a test: waits until n answers have come to the gate."""
        with self._cond:
            if not self._cond.wait_for(lambda: self.waiting >= n, deadline_s):
                raise AssertionError(f"{self.waiting} answers at the gate, expected {n}")


class Answer:
    """What a path answers.  Everything has the default of a well-behaved server.

    etag, last_modified   None: not sent.  etag "auto": from the body's size and seed or digest
    length     "exact", "chunked", "close", or a number: that (wrong) Content-Length
    ranges     False: Range is ignored, as by a server without them
    conditional False: never 304
    interim    raw bytes before the head, e.g. a 100 Continue
    raw        the whole answer in raw bytes; the connection is closed behind it, over TLS without
               close_notify where goodbye is False
    gate       a Gate before the head; held_at n: the gate is after n body bytes instead
    stop_at    n: the body ends after n bytes, by stop = "close" (no goodbye of TLS), "reset" or
               "stall"
    drop       "close" or "reset": instead of any answer
    rate       body bytes per second
    """

    def __init__(self, body=b"", status=200, *, headers=(), etag="auto",
                 last_modified=LAST_MODIFIED, content_type="application/octet-stream",
                 length="exact", ranges=True, conditional=True, interim=b"", raw=None, gate=None,
                 held_at=None, stop_at=None, stop="close", drop=None, rate=None, close=False,
                 goodbye=True):
        self.body = bodies.of(body)
        self.status = status
        self.headers = list(headers)
        if etag == "auto":
            etag = f'"{len(self.body):x}-{self._fingerprint()}"' if status == 200 else None
        self.etag = etag
        self.last_modified = last_modified if status == 200 else None
        self.content_type = content_type
        self.length = length
        self.ranges = ranges
        self.conditional = conditional
        self.interim = interim
        self.raw = raw
        self.gate = gate
        self.held_at = held_at
        self.stop_at = stop_at
        self.stop = stop
        self.drop = drop
        self.rate = rate
        self.close = close
        self.goodbye = goodbye

    def _fingerprint(self):
        if isinstance(self.body, bodies.Pattern):
            return f"p{self.body.seed}"
        return self.body.sha256()[:16]


def redirect(location, status=302):
    """An answer that sends the client elsewhere, with a body nobody wants."""
    return Answer(b"moved\n", status, headers=[("Location", location)], content_type="text/html")


class Request:
    """One request as it was received."""

    def __init__(self, origin_form, tls, sni, connection):
        self.head = origin_form
        lines = origin_form.decode("latin-1").split("\r\n")
        self.method, self.target, self.version = lines[0].split(" ", 2)
        self.fields = [tuple(part.strip() for part in line.split(":", 1)) for line in lines[1:]]
        # In absolute form too, for clients that take the origin for their proxy.
        path = self.target.split("?", 1)[0]
        if path.startswith("http://"):
            path = "/" + path[len("http://"):].split("/", 1)[-1]
        self.path = urllib.parse.unquote(path)
        self.tls = tls
        self.sni = sni
        self.connection = connection
        self.address = None     # the one of the origin's that was connected to

    def get(self, name, default=None):
        """A field's value, or default."""
        for field, value in self.fields:
            if field.lower() == name.lower():
                return value
        return default

    @property
    def host(self):
        """Host without port."""
        return (self.get("Host") or "").split(":")[0]

    def __repr__(self):
        text = f"{'https' if self.tls else 'http'}://{self.get('Host')} {self.method} {self.target}"
        for name in ("Range", "If-Range", "If-None-Match", "If-Modified-Since", "Cache-Control"):
            if self.get(name):
                text += f" {name}: {self.get(name)}"
        return text


class _Stop(Exception):
    """The connection is to be closed now."""


class Origin:
    """The server; tls_port and plain_port say where."""

    def __init__(self, certificates):
        self.lock = threading.Lock()
        self._scripts = {}
        self._seen = {}
        self._hosts = {}
        self._log = []
        self._bytes = {}
        self._active = {}
        self._most_active = {}
        self._gates = []
        self._connections = set()
        self._connections_n = 0
        self.failures = []
        self._certificates = certificates
        self._contexts = {}
        self._listeners = []
        self.stopped = False
        self.tls_port = self._listen(True)
        self.plain_port = self._listen(False)

    # -- what a test says ---------------------------------------------------------------------

    def serve(self, path, *answers, host=None):
        """The n-th request for the path gets the n-th answer, later ones the last.

        An answer is an Answer, a body, or a function from the Request to either.
        """
        with self.lock:
            self._scripts[(host, path)] = list(answers)
            self._seen.pop((host, path), None)

    def unserve(self, path, host=None):
        """Takes a script back."""
        with self.lock:
            self._scripts.pop((host, path), None)

    def serve_host(self, host, function):
        """Paths of the host that have no script get function(request): an Answer, or None."""
        with self.lock:
            self._hosts[host] = function

    def listen_too(self, address):
        """Both ports on one more address; raises OSError where this machine has none such."""
        for tls, port in ((True, self.tls_port), (False, self.plain_port)):
            self._listen(tls, port, address)

    def refuse_at(self, address):
        """Connections to this one of its addresses are refused from now on."""
        for sock in [s for s in self._listeners if s.getsockname()[0] == address]:
            self._listeners.remove(sock)
            sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def gate(self):
        """A gate that opens by itself when the origin stops."""
        gate = Gate()
        self._gates.append(gate)
        return gate

    # -- what a test reads --------------------------------------------------------------------

    def requests(self, path=None, method=None):
        """Requests received, oldest first."""
        with self.lock:
            return [r for r in self._log if path in (None, r.path) and method in (None, r.method)]

    def body_bytes(self, path=None):
        """Body bytes sent, for one path or in all."""
        with self.lock:
            return sum(n for p, n in self._bytes.items() if path in (None, p))

    @property
    def connections(self):
        """Connections accepted so far."""
        with self.lock:
            return self._connections_n

    def most_active(self, path):
        """The largest number of answers for the path that ran at the same time."""
        with self.lock:
            return self._most_active.get(path, 0)

    def active_now(self, path):
        """How many answers for the path run at this moment."""
        with self.lock:
            return self._active.get(path, 0)

    def wait_requests(self, path, n, deadline_s=45):
        """Waits until n requests for the path have been received."""
        until = time.monotonic() + deadline_s
        while len(self.requests(path)) < n:
            if time.monotonic() > until:
                raise AssertionError(f"origin saw {len(self.requests(path))} requests for {path}, "
                                     f"expected {n}")
            time.sleep(0.005)

    def forget(self):
        """Empties the log and the sums; what is served stays."""
        with self.lock:
            self._log.clear()
            self._bytes.clear()
            self._most_active.clear()

    def log_text(self):
        """The log for a failed test."""
        lines = [repr(r) for r in self.requests()] + [f"origin failure: {f}" for f in self.failures]
        return "\n".join(lines)

    # -- going away and coming back ------------------------------------------------------------

    def stop(self):
        """Refuses connections from now on and resets those that are open."""
        self.stopped = True
        for gate in self._gates:
            gate.open()
        for sock in self._listeners:
            # Wakes the thread in accept; closing alone does not.
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()
        self._listeners.clear()
        with self.lock:
            open_now = list(self._connections)
        for sock in open_now:
            _reset(sock)

    def start_again(self):
        """After stop(): the same ports again."""
        self.stopped = False
        self._listen(True, self.tls_port)
        self._listen(False, self.plain_port)

    # -- the server ----------------------------------------------------------------------------

    def _listen(self, tls, port=None, address="127.0.0.1"):
        sock = ports.listen(port, address=address)
        self._listeners.append(sock)
        threading.Thread(target=self._accept, args=(sock, tls), daemon=True).start()
        return sock.getsockname()[1]

    def _context(self, name):
        file = self._certificates.leaf(name)
        with self.lock:
            if file not in self._contexts:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(file)
                context.sni_callback = self._choose
                self._contexts[file] = context
            return self._contexts[file]

    def _choose(self, sock, name, _context):
        sock.context = self._context(name)
        self._sni[sock] = name

    _sni = {}

    def _accept(self, listener, tls):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with self.lock:
                self._connections_n += 1
                n = self._connections_n
                self._connections.add(sock)
            threading.Thread(target=self._run, args=(sock, tls, n), daemon=True).start()

    def _run(self, raw, tls, n):
        sock = raw
        try:
            raw.settimeout(DEADLINE_S)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sni = None
            if tls:
                sock = self._context(None).wrap_socket(raw, server_side=True)
                sni = Origin._sni.pop(sock, None)
                with self.lock:
                    self._connections.discard(raw)
                    self._connections.add(sock)
            self._serve_connection(sock, tls, sni, n)
        except (_Stop, OSError):
            pass
        except Exception as err:  # pylint: disable=broad-except
            self.failures.append(repr(err))
        finally:
            with self.lock:
                self._connections.discard(raw)
                self._connections.discard(sock)
            try:
                sock.close()
            except OSError:
                pass

    def _serve_connection(self, sock, tls, sni, n):
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                more = sock.recv(65536)
                if not more:
                    return
                data += more
            head, data = data.split(b"\r\n\r\n", 1)
            request = Request(head, tls, sni, n)
            request.address = sock.getsockname()[0]
            with self._running(request.path):
                answer = self._find(request)
                self._send(sock, request, answer)
            if answer.close or (request.get("Connection") or "").lower() == "close":
                return

    def _find(self, request):
        with self.lock:
            self._log.append(request)
            for key in ((request.host, request.path), (None, request.path)):
                if key in self._scripts:
                    n = self._seen.get(key, 0)
                    self._seen[key] = n + 1
                    script = self._scripts[key]
                    answer = script[min(n, len(script) - 1)]
                    break
            else:
                answer = self._hosts.get(request.host)
        if callable(answer):
            answer = answer(request)
        if answer is None:
            answer = Answer(b"<html>no such file\n", 404, content_type="text/html",
                            headers=[("Cache-Control", "max-age=604800")])
        return answer if isinstance(answer, Answer) else Answer(answer)

    @contextlib.contextmanager
    def _running(self, path):
        with self.lock:
            self._active[path] = self._active.get(path, 0) + 1
            self._most_active[path] = max(self._most_active.get(path, 0), self._active[path])
        try:
            yield
        finally:
            with self.lock:
                self._active[path] -= 1

    def _send(self, sock, request, answer):
        if answer.gate is not None and answer.held_at is None:
            answer.gate.pass_through()
        if answer.drop == "reset":
            _reset(sock)
            raise _Stop
        if answer.drop == "close":
            raise _Stop
        if answer.interim:
            sock.sendall(answer.interim)
        if answer.raw is not None:
            sock.sendall(answer.raw)
            if answer.goodbye:
                _say_goodbye(sock)
            raise _Stop
        status, first, end = _choose_part(request, answer)
        sock.sendall(_make_head(answer, status, first, end))
        if request.method == "HEAD" or status in (304, 416):
            return
        self._send_body(sock, request.path, answer, first, end)
        if answer.length == "close":
            _say_goodbye(sock)
        if answer.length == "close" or isinstance(answer.length, int):
            raise _Stop

    def _count_bytes(self, path, n):
        with self.lock:
            self._bytes[path] = self._bytes.get(path, 0) + n

    def _send_body(self, sock, path, answer, first, end):
        at, started = first, time.monotonic()
        stop = end if answer.stop_at is None else min(end, answer.stop_at)
        held = answer.held_at is not None and first <= answer.held_at
        while True:
            if held and at == answer.held_at:
                answer.gate.pass_through()
                held = False
            if at >= stop:
                break
            n = min(stop - at, PIECE_BYTES)
            if held and at < answer.held_at:
                n = min(n, answer.held_at - at)
            if answer.rate:
                n = min(n, max(1, answer.rate // 50))
                ahead = (at - first) / answer.rate - (time.monotonic() - started)
                if ahead > 0:
                    time.sleep(ahead)
            piece = answer.body.slice(at, at + n)
            # Before it is sent: who has received bytes finds them counted.
            self._count_bytes(path, n)
            try:
                sock.sendall(b"%x\r\n%b\r\n" % (n, piece) if answer.length == "chunked" else piece)
            except OSError:
                self._count_bytes(path, -n)
                raise
            at += n
        if answer.stop_at is not None and stop < end:
            if answer.stop == "stall":
                gate = self.gate()
                gate.pass_through()
            if answer.stop == "reset":
                _reset(sock)
            raise _Stop
        if answer.length == "chunked":
            sock.sendall(b"0\r\n\r\n")


def _say_goodbye(sock):
    """Over TLS: close_notify, without which an end is a cut."""
    if not isinstance(sock, ssl.SSLSocket):
        return
    try:
        sock.settimeout(0)
        sock.unwrap()
    except (OSError, ValueError):
        pass        # sent; the other side's is not waited for


def _reset(sock):
    """Closes with RST, also while another thread is inside a call on the socket."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.socket.shutdown(sock, socket.SHUT_RD)
    except OSError:
        pass
    try:
        sock.close()
    except OSError:
        pass


def _choose_part(request, answer):
    """Status and byte range, as RFC 9110 says."""
    size = len(answer.body)
    if answer.status != 200:
        return answer.status, 0, size
    if answer.conditional:
        tags = request.get("If-None-Match")
        since = request.get("If-Modified-Since")
        if tags is not None:
            if answer.etag and answer.etag in [tag.strip() for tag in tags.split(",")]:
                return 304, 0, 0
        elif since is not None and since == answer.last_modified:
            return 304, 0, 0
    asked, condition = request.get("Range"), request.get("If-Range")
    if not asked or not answer.ranges or not asked.startswith("bytes=") or "," in asked or \
            request.method != "GET":
        return 200, 0, size
    if condition is not None and condition not in (answer.etag, answer.last_modified):
        return 200, 0, size
    first, last = asked[6:].split("-")
    if first == "":
        return 206, max(0, size - int(last)), size
    if int(first) >= size:
        return 416, 0, size
    return 206, int(first), min(size, int(last) + 1) if last else size


def _make_head(answer, status, first, end):
    lines = [f"HTTP/1.1 {status} Scripted", "Server: scripted-origin",
             f"Date: {email.utils.formatdate(usegmt=True)}"]
    lines += [f"{name}: {value}" for name, value in answer.headers]
    if answer.etag:
        lines.append(f"ETag: {answer.etag}")
    if answer.last_modified:
        lines.append(f"Last-Modified: {answer.last_modified}")
    if status != 304:
        lines.append(f"Content-Type: {answer.content_type}")
    if status == 206:
        lines.append(f"Content-Range: bytes {first}-{end - 1}/{len(answer.body)}")
    if status == 416:
        lines.append(f"Content-Range: bytes */{len(answer.body)}")
        lines.append("Content-Length: 0")
    elif status != 304:
        if answer.length == "chunked":
            lines.append("Transfer-Encoding: chunked")
        elif isinstance(answer.length, int):
            lines.append(f"Content-Length: {answer.length}")
        elif answer.length == "exact":
            lines.append(f"Content-Length: {end - first}")
    if answer.close or answer.length == "close":
        lines.append("Connection: close")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
