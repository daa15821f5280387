"""Changes to bytes that break parsers. A target's ``mutate`` uses them, unless it has better ones.

Half of all places are among the first bytes, where formats keep sizes, counts and offsets.
"""

import re

import numpy as np

HEAD = 256
MOST_CHANGES = 6
MOST_GROWTH = 1 << 20  # keeps thousands of cases an hour small; decompression bombs are small, too
NUMBERS = (0, 1, 2**7 - 1, 2**7, 2**8 - 1, 2**15 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)  # fmt: skip
TEXTS = (b"0", b"-1", b"1e999", b"NaN", b"null", b"2147483648", b"9223372036854775808", b"1" * 400, b'""', b"[]", b"{}")


def mutate_file(rng, case, target, other=None):
    """Write a changed copy of the file ``case`` to ``target``, sometimes with a piece of the file ``other``."""
    target.write_bytes(mutate_bytes(rng, case.read_bytes(), other.read_bytes() if other else b""))


def mutate_bytes(rng, content, other=b""):
    """Return a changed copy of some bytes, with one to six changes of kinds that are drawn at random."""
    changed = bytearray(content)
    most = len(content) + MOST_GROWTH
    for _ in range(rng.integers(1, MOST_CHANGES + 1)):
        KINDS[rng.integers(len(KINDS))](rng, changed, other)
        del changed[most:]
    return bytes(changed)


def place(rng, changed):
    """Return a position in the bytes; 0 if there are none."""
    end = min(HEAD, len(changed)) if rng.integers(2) else len(changed)
    return int(rng.integers(max(end, 1)))


def span(rng, changed):
    """Return a slice of the bytes. Short ones are as frequent as long ones."""
    first = place(rng, changed)
    longest = max(len(changed) - first, 1)
    return slice(first, first + int(2 ** rng.uniform(0, np.log2(longest))))


def flip(rng, changed, other):
    """Flip one bit."""
    if changed:
        changed[place(rng, changed)] ^= 1 << int(rng.integers(8))


def overwrite(rng, changed, other):
    """Replace a byte by a random one."""
    if changed:
        changed[place(rng, changed)] = int(rng.integers(256))


def cut(rng, changed, other):
    """Remove a piece."""
    del changed[span(rng, changed)]


def truncate(rng, changed, other):
    """Cut the bytes off at a position."""
    del changed[place(rng, changed) :]


def insert(rng, changed, other):
    """Insert random bytes."""
    at = place(rng, changed)
    changed[at:at] = rng.bytes(int(rng.integers(1, 33)))


def repeat(rng, changed, other):
    """Repeat a piece many times."""
    piece = span(rng, changed)
    times = min(int(2 ** rng.uniform(1, 16)), MOST_GROWTH // max(piece.stop - piece.start, 1))
    changed[piece] = changed[piece] * times


def zero(rng, changed, other):
    """Fill a piece with zeros."""
    piece = span(rng, changed)
    changed[piece] = bytes(len(changed[piece]))


def number(rng, changed, other):
    """Write a number that often overflows, in 1, 2, 4 or 8 bytes of either order."""
    size = int(2 ** rng.integers(4))
    order = "little" if rng.integers(2) else "big"
    at = place(rng, changed)
    changed[at : at + size] = (int(rng.choice(NUMBERS_AS_OBJECTS)) % 2 ** (8 * size)).to_bytes(size, order)


def text(rng, changed, other):
    """Replace a number written in digits, if there is one, by a text that may break readers of numbers."""
    found = list(re.finditer(rb"-?\d+(\.\d+)?", changed[: 1 << 16]))
    if found:
        chosen = found[rng.integers(len(found))]
        changed[chosen.start() : chosen.end()] = TEXTS[rng.integers(len(TEXTS))]


def splice(rng, changed, other):
    """Replace a piece by a piece of the other bytes, or of these."""
    source = other or bytes(changed)
    changed[span(rng, changed)] = source[span(rng, source)]


NUMBERS_AS_OBJECTS = np.array(NUMBERS, object)  # NumPy would turn the largest numbers into floats
KINDS = (flip, overwrite, cut, truncate, insert, repeat, zero, number, text, splice)
