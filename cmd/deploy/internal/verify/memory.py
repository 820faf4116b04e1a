"""Counts byte strings in the memory of a process that it can write to: of the one whose number is named.

The strings are standard input, as a JSON list of hexadecimals. One that the end of a mapping cuts in two is not seen.
"""
import json
import os
import sys

process = sys.argv[1]
words = [bytes.fromhex(word) for word in json.load(sys.stdin)]
overlap = max(map(len, words)) - 1
counts, read = [0] * len(words), 0

with open(f"/proc/{process}/maps") as file:
    lines = [line.split() for line in file]
memory = os.open(f"/proc/{process}/mem", os.O_RDONLY)
for line in lines:
    if not line[1].startswith("rw") or len(line) > 5 and line[5] in ("[vvar]", "[vsyscall]"):
        continue
    at, end = (int(edge, 16) for edge in line[0].split("-"))
    rest = b""
    while at < end:
        try:
            chunk = os.pread(memory, min(4 << 20, end - at), at)
        except OSError:
            break  # it was given back meanwhile
        if not chunk:
            break
        at, read = at + len(chunk), read + len(chunk)
        text = rest + chunk
        rest = text[-overlap:]
        for i, word in enumerate(words):
            counts[i] += text.count(word) - rest.count(word)
    for i, word in enumerate(words):
        counts[i] += rest.count(word)
print(json.dumps({"counts": counts, "read": read}))
