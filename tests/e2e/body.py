# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""Bodies of any size that need no file and no memory.

For: the origin, which sends them, and the clients, which compare what they got.

A Pattern repeats a random block whose length shares no factor with any buffer size, so that bytes
from a wrong offset differ from those that belong there.
"""
import hashlib
import random

BLOCK_BYTES = (1 << 20) + 4093


class Pattern:
    """size bytes, decided by the seed."""
    _blocks = {}

    def __init__(self, size, seed=1):
        self.size = size
        self.seed = seed
        if seed not in Pattern._blocks:
            Pattern._blocks[seed] = random.Random(seed).randbytes(BLOCK_BYTES)
        self._block = Pattern._blocks[seed]

    def __len__(self):
        return self.size

    def slice(self, start, end):
        """Bytes [start, end)."""
        end = min(end, self.size)
        parts = []
        while start < end:
            at = start % BLOCK_BYTES
            n = min(end - start, BLOCK_BYTES - at)
            parts.append(self._block[at:at + n])
            start += n
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def bytes(self):
        """All of it."""
        return self.slice(0, self.size)

    def sha256(self):
        """Its digest in hex."""
        return hashlib.sha256(self.bytes()).hexdigest()


class Bytes:
    """The same interface over bytes in memory."""

    def __init__(self, data):
        self.data = data
        self.size = len(data)

    def __len__(self):
        return self.size

    def slice(self, start, end):
        """Bytes [start, end)."""
        return self.data[start:end]

    def bytes(self):
        """All of it."""
        return self.data

    def sha256(self):
        """Its digest in hex."""
        return hashlib.sha256(self.data).hexdigest()


def of(data):
    """bytes, text or a body already."""
    if isinstance(data, str):
        data = data.encode()
    return Bytes(data) if isinstance(data, bytes) else data
