"""Counts the packets of all interfaces that carry given words, until standard input ends or time is up.

The words are the first line of standard input, as a JSON list. The file that is named first exists while it listens.
"""
import json
import os
import select
import socket
import sys
import time

ready, seconds = sys.argv[1], float(sys.argv[2])
ETH_P_ALL = 3
SO_RCVBUFFORCE = 33
LATE = 5  # seconds for what has come before standard input ended and was not looked at yet
words = [word.encode() for word in json.loads(sys.stdin.readline())]
counts, packets = [0] * len(words), 0
listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
listener.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 32 << 20)
listener.setblocking(False)
open(ready, "w").close()


def look():
    """Takes one packet; says whether there was one."""
    global packets
    try:
        packet = listener.recv(65535)
    except BlockingIOError:
        return False
    packets += 1
    for i, word in enumerate(words):
        counts[i] += word in packet
    return True


try:
    deadline, running = time.monotonic() + seconds, True
    while running and time.monotonic() < deadline:
        events, _, _ = select.select([listener, sys.stdin], [], [], deadline - time.monotonic())
        if listener in events:
            look()
        if sys.stdin in events:
            running = bool(os.read(0, 1))
    deadline = time.monotonic() + LATE
    while time.monotonic() < deadline and look():
        pass
finally:
    os.unlink(ready)
print(json.dumps({"counts": counts, "read": packets}))
