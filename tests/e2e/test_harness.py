# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""The test tools themselves, without a depot: what they claim to send and to notice."""
import ports
from body import BLOCK_BYTES, Pattern
from client import Conn, expect_body
from origin import LAST_MODIFIED, Answer
from support import Later


def ask(env, path, *fields, method="GET"):
    """Straight to the origin in clear text."""
    with Conn(env.origin.plain_port) as conn:
        return conn.get(path, *fields, method=method)


def test_pattern_is_what_it_says(_env):
    """Slices agree with the whole, across blocks; seeds differ."""
    body = Pattern(3 * BLOCK_BYTES + 17)
    whole = body.bytes()
    assert len(whole) == len(body)
    for start, end in [(0, 1), (BLOCK_BYTES - 1, BLOCK_BYTES + 1), (5, 3 * BLOCK_BYTES + 17),
                       (len(body) - 1, len(body) + 100), (len(body), len(body))]:
        assert body.slice(start, end) == whole[start:end]
    assert Pattern(100, seed=2).bytes() != Pattern(100, seed=1).bytes()


def test_origin_answers_as_a_good_server(env):
    """Conditions, ranges, HEAD, lengths."""
    body = Pattern(300000)
    env.origin.serve("/x", Answer(body, etag='"t"'))
    expect_body(ask(env, "/x"), body)
    expect_body(ask(env, "/x", "Range: bytes=5-9"), body.slice(5, 10), 206)
    expect_body(ask(env, "/x", "Range: bytes=299999-"), body.slice(299999, 300000), 206)
    expect_body(ask(env, "/x", "Range: bytes=5-", 'If-Range: "t"'), body.slice(5, 300000), 206)
    expect_body(ask(env, "/x", "Range: bytes=5-", 'If-Range: "u"'), body)
    assert ask(env, "/x", "Range: bytes=300000-").status == 416
    assert ask(env, "/x", 'If-None-Match: "t"').status == 304
    assert ask(env, "/x", "If-Modified-Since: " + LAST_MODIFIED).status == 304
    assert ask(env, "/x", method="HEAD").get("Content-Length") == "300000"
    assert ask(env, "/y").status == 404
    for how in ("chunked", "close"):
        env.origin.serve("/z", Answer(body, length=how))
        expect_body(ask(env, "/z"), body)


def test_origin_misbehaves_as_told(env):
    """Cuts are noticed, scripts advance, gates hold, counts count."""
    body = Pattern(300000)
    for how in ("close", "reset"):
        env.origin.serve("/x", Answer(body, stop_at=100000, stop=how), b"second")
        response = ask(env, "/x")
        assert not response.complete and len(response.body) <= 100000, how
        expect_body(ask(env, "/x"), b"second")
        expect_body(ask(env, "/x"), b"second")
    gate = env.origin.gate()
    env.origin.serve("/g", Answer(body, gate=gate, held_at=1000))
    with Conn(env.origin.plain_port) as conn:
        conn.ask("/g")
        conn.read_head()
        assert conn.read_exactly(1000) == body.slice(0, 1000)
        gate.wait_for(1)
        assert env.origin.body_bytes("/g") == 1000
        rest = Later(lambda: conn.read_exactly(299000))
        gate.open()
        assert rest.result() == body.slice(1000, 300000)
    assert env.origin.body_bytes("/g") == 300000 and env.origin.most_active("/g") == 1


def test_client_notices_wrong_bytes(env):
    """A comparison that cannot fail would be none."""
    env.origin.serve("/x", Pattern(100000, seed=1))
    for expected in (Pattern(100000, seed=2), Pattern(99999, seed=1), Pattern(100001, seed=1)):
        try:
            expect_body(ask(env, "/x"), expected)
        except AssertionError:
            continue
        raise RuntimeError("wrong bytes were not noticed")


def test_stopped_origin_refuses_and_comes_back(env):
    """stop() and start_again() keep the ports."""
    env.origin.serve("/x", b"data")
    expect_body(ask(env, "/x"), b"data")
    env.origin.stop()
    try:
        ask(env, "/x")
    except ConnectionRefusedError:
        pass
    else:
        raise AssertionError("a stopped origin accepted")
    env.origin.start_again()
    expect_body(ask(env, "/x"), b"data")


def test_held_port_refuses(_env):
    """A port without a listener is what tests of refused connections need."""
    try:
        Conn(ports.hold_port())
    except ConnectionRefusedError:
        return
    raise AssertionError("a held port accepted")
