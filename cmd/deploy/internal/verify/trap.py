"""Counts what reaches a UDP port and begins with a nonce, until standard input ends or time is up."""
import json
import select
import socket
import sys
import time

address, port, nonce, seconds = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3]), float(sys.argv[4])
trap = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
trap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
trap.bind((address, port))
trapped = 0
deadline = time.monotonic() + seconds
running = True
while running and time.monotonic() < deadline:
    ready, _, _ = select.select([trap, sys.stdin], [], [], deadline - time.monotonic())
    if trap in ready:
        trapped += trap.recvfrom(65535)[0].startswith(nonce)
    if sys.stdin in ready:
        running = bool(sys.stdin.buffer.raw.read(1))
print(json.dumps({"trapped": trapped}))
