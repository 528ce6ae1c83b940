# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""Malformed, enormous and lying repository files: not adopted, the reason in the log.

One test for each case below.  What the case is about comes with a newer Date, over a repository of
which the depot has a generation; that one is served on, and the next good edition is adopted.
"""
import gzip
import random
import re
import zlib

from aptlike import AptLike, follow, update_until, updates, warm
from cdn import ALL
from depot import SLOW
from repo import small_debs

RSS_LIMIT = 160 << 20


def spoil_line(pattern, line):
    """Changes Release: in each line that matches."""
    def change(text):
        changed = re.sub(pattern, line, text, flags=re.MULTILINE)
        assert changed != text
        return changed
    return change


def bomb(listed):
    """400 MB of blanks in a .gz; Release states the size of a decent Packages."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    parts = [squeeze.compress(listed["Packages"])]
    parts += [squeeze.compress(bytes(1 << 20)) for _ in range(400)]
    return dict(listed, **{"Packages.gz": b"".join(parts) + squeeze.flush()})


def other_content(listed):
    """Both are what Release says, but they are not the same index."""
    text = listed["Packages"].replace(b"Version: 2", b"Version: 3")
    return dict(listed, **{"Packages.gz": gzip.compress(text, 6, mtime=0)})


def cut_gzip(listed):
    """Ends in the middle, as Release says it does."""
    return dict(listed, **{"Packages.gz": listed["Packages.gz"][:-30]})


def replace_both(data):
    """The index is something else altogether."""
    return lambda listed: {"Packages": data, "Packages.gz": gzip.compress(data, 1, mtime=0)}


def disagreeing_stanzas(packages):
    """One Filename, two digests."""
    stanza = packages.decode().split("\n\n")[-1].rstrip("\n")
    digest = re.search(r"^SHA256: (\w+)", stanza, re.MULTILINE)[1]
    return packages + b"\n" + stanza.replace(digest, "0" * 64).encode() + b"\n"


def enormous(text):
    """64 MB of well-formed lines."""
    line = b" " + b"0123456789abcdef" * 4 + b" 1234 main/very/long/name/of/a/file-%08d\n"
    return text + b"".join(line % n for n in range((64 << 20) // len(line % 0)))


HEX = rb"[0-9a-f]{64}"
NOT_ADOPTED = {
    "inrelease_is_cut": {"inrelease": lambda data: data[:len(data) // 2]},
    "inrelease_has_no_signature_end": {
        "inrelease": lambda data: data[:data.index(b"-----END")]},
    "inrelease_is_empty": {"inrelease": lambda data: b""},
    "inrelease_is_garbage": {"inrelease": lambda data: random.Random(1).randbytes(5000)},
    "inrelease_is_enormous": {"release": enormous},
    "release_lists_nothing": {"release": lambda text: text.split(b"MD5Sum:")[0]},
    "release_has_only_md5": {"release": lambda text: text.split(b"SHA1:")[0]},
    "digest_is_not_hex": {"release": spoil_line(rb"^ [0-9a-f]{2}([0-9a-f]{62} )", rb" zz\1")},
    "digest_is_short": {"release": spoil_line(rb"^ [0-9a-f]{2}([0-9a-f]{62} )", rb" \1")},
    "size_is_negative": {"release": spoil_line(rb"^( " + HEX + rb") \d+", rb"\1 -5")},
    "size_overflows": {"release": spoil_line(rb"^( " + HEX + rb") \d+", rb"\1 " + b"9" * 30)},
    "size_is_missing": {"release": spoil_line(rb"^( " + HEX + rb") \d+", rb"\1")},
    "sizes_disagree": {"release": spoil_line(rb"^( " + HEX + rb") (\d+)", rb"\1 1\2")},
    "digests_disagree": {"release": spoil_line(
        rb"^ [0-9a-f](" + HEX[:8] + rb"{63} \d+ Packages.gz)$", rb" 0\1\n 1\1")},
    "index_is_a_bomb": {"files": bomb},
    "compressions_disagree": {"files": other_content},
    "gzip_is_cut": {"files": cut_gzip},
    "index_is_garbage": {"files": replace_both(random.Random(2).randbytes(20000))},
    "stanzas_disagree": {"stanzas": disagreeing_stanzas},
}
SURVIVED = {
    "paths_leave_the_repository": {"release": lambda text: text.replace(
        b"SHA256:\n", b"SHA256:\n " + b"0" * 64 + b" 5 ../../../../etc/passwd\n " + b"0" * 64
        + b" 5 /etc/passwd\n")},
    "filename_leaves_the_host": {"stanzas": lambda packages: packages + b"\nPackage: x\n"
                                 b"Version: 1\nFilename: ../../../../../../../etc/passwd\nSize: 5\n"
                                 b"SHA256: " + b"0" * 64 + b"\n"},
    "stanza_without_size": {"stanzas": lambda packages: re.sub(rb"Size: \d+\n", b"", packages)},
    "line_without_end": {"stanzas": lambda packages: packages + b"\nPackage: x\nDescription: "
                         + b"y" * (20 << 20) + b"\n"},
    "nul_bytes": {"stanzas": lambda packages: packages + b"\nPackage: x\0y\nVersion: \0\n"},
    "a_hundred_thousand_fields": {"stanzas": lambda packages: packages + b"\n" + b"".join(
        b"F%d: x\n" % n for n in range(100000))},
}


def rss_peak(depot):
    """The most memory the daemon ever had."""
    with open(f"/proc/{depot.process.pid}/status", encoding="ascii") as status:
        return int(re.search(r"VmHWM:\s*(\d+) kB", status.read())[1]) << 10


def start(env):
    """A depot with a generation, of which both indexes are asked for."""
    cdn = env.flat_cdn(*small_debs())
    depot = env.depot(revalidate_wait="0s")
    client = warm(depot, cdn)
    assert client.get(cdn.repo.index_path("")).status == 200
    return cdn, depot, client


def check_not_adopted(env, **options):
    """The case."""
    cdn, depot, client = start(env)
    old = cdn.editions[0]
    bad = cdn.prepare(*small_debs("2", 2), **options)
    cdn.show(bad, only=ALL)
    update_until(depot, client, old,
                 ["releases_refused_total", "generation_disagreements_total"], 1)
    updates(client, 10, old)
    assert client.download("lib") == old.debs["lib"].data
    depot.wait_log(cdn.repo.host + cdn.repo.root)
    assert SLOW > 1 or rss_peak(depot) < RSS_LIMIT, f"{rss_peak(depot) >> 20} MiB"
    assert depot.counter("generations_adopted_total") == 1
    depot.restart()
    updates(client, 2, old)
    follow(depot, client, cdn.publish(*small_debs("3", 3)))
    assert client.download("lib") == cdn.editions[-1].debs["lib"].data


def check_survived(env, **options):
    """Adopted or not, whichever it is: what clients see is whole, and the next edition is seen."""
    cdn, depot, client = start(env)
    cdn.show(cdn.prepare(*small_debs("2", 2), **options))
    for _ in range(5):
        client.update()
        client.has_whole(cdn.editions[client.edition])
    response = depot.fetch(f"https://{cdn.repo.host}/etc/passwd")
    assert response.status == 404, response
    assert SLOW > 1 or rss_peak(depot) < RSS_LIMIT, f"{rss_peak(depot) >> 20} MiB"
    follow(depot, client, cdn.publish(*small_debs("3", 3)))
    assert client.download("lib") == cdn.editions[-1].debs["lib"].data


def _make_tests():
    for name, options in NOT_ADOPTED.items():
        globals()["test_" + name] = lambda env, o=options: check_not_adopted(env, **o)
    for name, options in SURVIVED.items():
        globals()["test_" + name] = lambda env, o=options: check_survived(env, **o)


_make_tests()


def test_first_visit_to_something_else(env):
    """What is no Release never becomes a generation, but it is a file like any other."""
    cdn = env.flat_cdn(*small_debs())
    path = cdn.repo.top + "InRelease"
    text = b"This directory was released in 2009.\n"
    env.origin.serve(path, text, host=cdn.repo.host)
    depot = env.depot()
    client = AptLike(cdn, depot.port)
    for _ in range(2):
        response = client.get(path, "Cache-Control: max-age=0")
        assert response.status == 200 and response.body == text, response
    index = cdn.repo.index_path()
    assert client.get(index).body == cdn.data(cdn.editions[0], index)
    assert depot.counter("generations_current") == 0
    assert depot.counter("generations_adopted_total") == 0
