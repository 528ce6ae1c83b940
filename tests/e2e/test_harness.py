# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""The test tools themselves, without a depot: what they claim to send and to notice."""
from types import SimpleNamespace

import ports
from aptlike import AptLike, Crowd, Mismatch, republish, update_and_download
from body import BLOCK_BYTES, Pattern
from cdn import INDEXES, PACKAGES, RELEASES
from client import Conn, expect_body
from origin import LAST_MODIFIED, Answer
from repo import forge_deb, small_debs
from support import Later

NEEDS_PACKAGES = True


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


def expect_mismatch(job, words):
    """The job must fail as apt would."""
    try:
        job()
    except Mismatch as err:
        assert words in str(err), err
        return
    raise RuntimeError("what apt would refuse was not noticed")


def test_cdn_shows_what_it_is_told(env):
    """Mixed states, edges, no-cache, removed files; and the client notices them as apt does."""
    for cdn in (env.flat_cdn(*small_debs()), env.dists_cdn(*small_debs())):
        old, flat = cdn.editions[0], cdn.repo.by_hash_says == "no"
        client = AptLike(cdn, env.origin.plain_port, prefix=None)
        client.update()
        client.has_whole(old)
        assert client.download("tool") == old.debs["tool"].data
        new = cdn.prepare(forge_deb("tool", "2", 3001), forge_deb("lib", "1", 5000, seed=5))
        cdn.show(new, only=RELEASES)
        expect_mismatch(client.update, "Packages.gz: ")
        assert client.edition == 1
        cdn.show(old, only=RELEASES)
        cdn.show(new, only=INDEXES)
        if flat:
            expect_mismatch(client.update, "Packages.gz: ")
        else:
            client.update()
        cdn.show(new)
        assert client.update(conditional=True).status == 200
        assert client.update(conditional=True).status == 304
        client.has_whole(new)
        assert client.download("lib") == new.debs["lib"].data
        cdn.show(old, only=PACKAGES)
        expect_mismatch(lambda c=client: c.download("lib"), "Hash Sum mismatch")
        cdn.no_cache_gets = new
        assert client.get(client.path_of("lib"), "Cache-Control: no-cache").body == \
            new.debs["lib"].data
        cdn.no_cache_gets = None
        cdn.show(old, new, by="request")
        assert [client.update_release() and client.edition for _ in range(4)] in \
            ([0, 1, 0, 1], [1, 0, 1, 0])
        cdn.show(old, new, by="connection")
        with client.connect():
            assert len({client.update_release() and client.edition for _ in range(4)}) == 1
        assert {client.update_release() and client.edition for _ in range(16)} == {0, 1}
        cdn.remove(cdn.repo.index_path())
        assert client.get(cdn.repo.index_path()).status == 404
        cdn.fail(Answer(b"busy\n", 503))
        assert client.get(cdn.repo.top + "InRelease").status == 503


def test_relay_gives_addresses(env):
    """A depot sees the relay's source address; so it does with a client's own."""
    env.origin.serve("/x", b"data")
    depot = env.depot(allow_clients="127.0.0.7/32, 127.0.0.8/32, 127.0.0.1/32")
    url = "http://HTTPS///cuda.example/x"
    for source, status in (("127.0.0.7", 200), ("127.0.0.9", 403)):
        with Conn(env.relay(depot, source).port) as conn:
            assert conn.get(url).status == status, source
        with depot.conn(source=source) as conn:
            assert conn.get(url).status == status, source


def test_direct_clients_fail_during_publications(env):
    """What the depot has to prevent does happen without it: more than 1 run in 10 fails."""
    cdn = env.flat_cdn(*small_debs())
    clients = [AptLike(cdn, env.origin.plain_port, prefix=None) for _ in range(8)]
    with Crowd(clients, update_and_download) as crowd:
        republish(cdn, 5, crowd.more)
    assert any("Hash Sum mismatch" in text or "unexpected size" in text for text in crowd.errors)
    assert len(crowd.errors) > crowd.runs / 10, (len(crowd.errors), crowd.runs)


def test_direct_apt_fails_in_mixed_states(env):
    """Real apt-get, without a depot, on a new InRelease with an old Packages.gz."""
    cdn = env.flat_cdn(*small_debs(), signed=True)
    cdn.show(cdn.prepare(forge_deb("tool", "2", 3001)), only=RELEASES)
    root = env.apt(SimpleNamespace(port=env.origin.plain_port), cdn.repo.source("http://"))
    result = root.update()
    assert result.status != 0, result.text
    assert "unexpected size" in result.text or "Hash Sum mismatch" in result.text, result.text
    cdn.show(cdn.editions[1])
    root.update().expect_success()
    root.run("download", "tool").expect_success()
    assert root.downloaded() == {cdn.repo.debs["tool"].file_name: cdn.repo.debs["tool"].data}
