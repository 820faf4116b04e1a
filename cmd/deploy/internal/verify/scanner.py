"""Tries every door of a plan at once and prints what each did: open, refused or silent."""
import errno
import json
import select
import socket
import sys
import time

plan = json.loads(sys.argv[1])


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def outcome(code):
    return {0: "open", errno.ECONNREFUSED: "refused"}.get(code, "silent")


# A new source port for every datagram: no connection tracking may take the second for an answer's follower.
for address, port in plan.get("udp", []):
    for _ in range(plan["datagrams"]):
        with socket.socket(family(address), socket.SOCK_DGRAM) as s:
            try:
                s.sendto(b"secureconnect verify", (address, port))
            except OSError:
                pass

doors, results, poll = {}, [], select.poll()
for address, port in plan.get("tcp", []):
    s = socket.socket(family(address), socket.SOCK_STREAM)
    s.setblocking(False)
    code = s.connect_ex((address, port))
    if code == errno.EINPROGRESS:
        doors[s.fileno()] = (s, address, port)
        poll.register(s, select.POLLOUT)
        continue
    results.append([address, port, outcome(code)])
    s.close()

deadline = time.monotonic() + plan.get("seconds", 1.0)
while doors and time.monotonic() < deadline:
    for fd, _ in poll.poll(max(1, int((deadline - time.monotonic()) * 1000))):
        s, address, port = doors.pop(fd)
        poll.unregister(fd)
        results.append([address, port, outcome(s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))])
        s.close()
results += [[address, port, "silent"] for _, address, port in doors.values()]
print(json.dumps(results))
