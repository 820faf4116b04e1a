"""Echoes a relay's packets on one UDP port and only counts on another, until standard input ends or time is up."""
import json
import select
import socket
import sys
import time

address, port, trap, nonce, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), bytes.fromhex(sys.argv[4]), float(sys.argv[5])
family = socket.AF_INET6 if ":" in address else socket.AF_INET


def bound(number):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    s.bind((address, number))
    return s


echo, closed = bound(port), bound(trap)
echoed, trapped, senders = 0, 0, set()
deadline = time.monotonic() + seconds
running = True
while running and time.monotonic() < deadline:
    ready, _, _ = select.select([echo, closed, sys.stdin], [], [], deadline - time.monotonic())
    if echo in ready:
        packet, sender = echo.recvfrom(65535)
        if packet.startswith(nonce):
            echoed += 1
            senders.add(sender[0])
            echo.sendto(packet, sender)
    if closed in ready:
        packet, _ = closed.recvfrom(65535)
        trapped += packet.startswith(nonce)
    if sys.stdin in ready:
        running = bool(sys.stdin.buffer.raw.read(1))
print(json.dumps({"echoed": echoed, "trapped": trapped, "senders": sorted(senders)}))
