"""Counts given words in the files below given folders that were written to lately.

The words are standard input, as a JSON list. A word that a file's end cuts in two is not seen.
"""
import json
import os
import sys
import time

since, folders = time.time() - float(sys.argv[1]), sys.argv[2:]
words = [word.encode() for word in json.load(sys.stdin)]
overlap = max(map(len, words)) - 1
counts, read = [0] * len(words), 0


def search(path):
    global read
    with open(path, "rb") as file:
        rest = b""
        while chunk := file.read(4 << 20):
            read += len(chunk)
            text = rest + chunk
            rest = text[-overlap:]
            for i, word in enumerate(words):
                counts[i] += text.count(word) - rest.count(word)
        for i, word in enumerate(words):
            counts[i] += rest.count(word)


for folder in folders:
    for where, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(where, name)
            try:
                if os.path.isfile(path) and not os.path.islink(path) and os.stat(path).st_mtime >= since:
                    search(path)
            except FileNotFoundError:
                pass  # it was rotated away
print(json.dumps({"counts": counts, "read": read}))
