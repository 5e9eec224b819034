"""Computes, and prints a line for each kind of work, with the nanoseconds that it has taken: the shortest of some times, since
each is short enough to be left alone by what else the machine does."""

import hashlib
import random
import time
import zlib

random.seed(7)
NOISE = random.randbytes(1 << 20)
TEXT = b"".join(b"%d: the square of it is %d\n" % (i, i * i) for i in range(30_000))
PIECES = [TEXT[at : at + 4096] for at in range(0, 1 << 17, 4096)]
PACKER = zlib.compressobj()
PACKED = [PACKER.compress(piece) for piece in PIECES] + [PACKER.flush()]
WHOLE = zlib.compress(TEXT)


def compress():
    packer = zlib.compressobj()
    for piece in PIECES:
        packer.compress(piece)


def decompress():
    for _ in range(8):
        unpacker = zlib.decompressobj()
        for piece in PACKED:
            while piece:
                unpacker.decompress(piece, 4096)
                piece = unpacker.unconsumed_tail


def loop():
    total = 0
    for i in range(50_000):
        total = (total * 31 + i) % 1_000_003


def primes():
    found = 0
    for candidate in range(3, 10_000, 2):
        for divisor in range(3, int(candidate**0.5) + 1, 2):
            if candidate % divisor == 0:
                break
        else:
            found += 1
    return found


def words():
    counts = {}
    for word in TEXT[: 1 << 16].split():
        counts[word] = counts.get(word, 0) + 1


WORK = [
    ("SHA-256 of 2 MiB", lambda: [hashlib.sha256(NOISE).digest() for _ in range(2)]),
    ("zlib, compression", compress),
    ("zlib, the way back", decompress),
    ("a Python loop", loop),
    ("Python: primes by division", primes),
    ("Python: words in a dictionary", words),
    ("zlib, a MiB at once", lambda: zlib.decompress(WHOLE)),
    ("Python: a list of 50,000 numbers", lambda: sum([i * 3 for i in range(50_000)])),
]


def shortest(work):
    least = None
    for _ in range(30):
        start = time.perf_counter_ns()
        work()
        elapsed = time.perf_counter_ns() - start
        least = elapsed if least is None else min(least, elapsed)
    return least


for name, work in WORK:
    print(name, shortest(work))
