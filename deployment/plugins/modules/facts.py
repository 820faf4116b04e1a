#!/usr/bin/python
"""Reads what a deployment must know of a host. Changes nothing, and says None for what it cannot read."""

# Runs on the servers: Python 3.8 or newer, standard library only.
from __future__ import annotations

import glob
import json
import os
import platform
import re
import shutil
import socket
import struct
import subprocess
import time

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: facts
short_description: Reads what a deployment must know of a host, in one call
description: System, memory, disk, addresses, ports in use, packages, kernel settings, Docker, the ssh session.
options:
  address: {description: The address the host should have., type: str, required: true}
  ports: {description: The ports wanted here with proto and port and sometimes address., type: list, elements: dict}
  packages: {description: Packages to look for., type: list, elements: str}
  sysctls: {description: Kernel settings to read., type: list, elements: str}
  fingerprint_file: {description: Where the fingerprint of this host's secrets is., type: path, required: true}
  projects_root: {description: The directory of our compose projects., type: path, required: true}
author: SecureConnect
"""


def text_of(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def output_of(*argv):
    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""


def system():
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', text_of("/etc/os-release"), re.M))
    memory = re.search(r"MemTotal:\s+(\d+)", text_of("/proc/meminfo"))
    place = next(path for path in ("/var/lib/docker", "/var/lib", "/") if os.path.isdir(path))
    return {
        "distribution": release.get("ID", ""),
        "release": release.get("VERSION_ID", ""),
        "codename": release.get("VERSION_CODENAME", ""),
        "python": platform.python_version(),
        "uid": os.getuid(),
        "systemd": os.path.isdir("/run/systemd/system"),
        "container": bool(output_of("systemd-detect-virt", "--container").strip()),
        "cores": os.cpu_count(),
        "memory_mb": int(memory.group(1)) // 1024 if memory else 0,
        "disk_free_mb": shutil.disk_usage(place).free // 2**20,
    }


def holds(address):
    """Whether the address is one of this host's: only then can a socket be bound to it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def addresses():
    listed = json.loads(output_of("ip", "-json", "address") or "[]")
    return [info["local"] for link in listed for info in link.get("addr_info", []) if info.get("scope") == "global"]


def session():
    """The ssh session we came by: sudo drops the variable, an ancestor still has it."""
    pid = os.getpid()
    while pid > 1:
        found = re.search(r"SSH_CONNECTION=(\S+) \S+ \S+ (\d+)", text_of("/proc/%d/environ" % pid))
        if found:
            return {"source": found.group(1), "port": int(found.group(2))}
        parent = re.search(r"^PPid:\s+(\d+)", text_of("/proc/%d/status" % pid), re.M)
        pid = int(parent.group(1)) if parent else 0
    return None


def unpacked(text):
    """An address of /proc/net/tcp or tcp6: words of 32 bits in the host's byte order."""
    raw = b"".join(struct.pack("=I", int(text[i:i + 8], 16)) for i in range(0, len(text), 8))
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def listeners():
    """Every listening TCP and every unconnected UDP socket: (proto, address, port, inode)."""
    found = []
    for proto, state in (("tcp", "0A"), ("udp", "07")):
        for family in ("", "6"):
            for line in text_of("/proc/net/%s%s" % (proto, family)).splitlines()[1:]:
                field = line.split()
                if field[3] == state:
                    address, port = field[1].split(":")
                    found.append((proto, unpacked(address), int(port, 16), field[9]))
    return found


def owner_of(inode):
    """The process that holds a socket: (pid, name)."""
    wanted = "socket:[%s]" % inode
    for link in glob.iglob("/proc/[0-9]*/fd/*"):
        try:
            if os.readlink(link) == wanted:
                pid = link.split("/")[2]
                return pid, text_of("/proc/%s/comm" % pid).strip()
        except OSError:
            continue
    return "", "an unknown process"


def our_containers(root):
    """Our projects' running containers: their ids, and the ports they publish."""
    line = '{{.ID}}\t{{.Label "com.docker.compose.project.working_dir"}}\t{{.Ports}}'
    rows = [row.split("\t") for row in output_of("docker", "ps", "--no-trunc", "--format", line).splitlines()]
    ours = [row for row in rows if row[1].startswith(root + "/")]
    return [row[0] for row in ours], {int(port) for row in ours for port in re.findall(r":(\d+)->", row[2])}


def taken(ports, address, root):
    """The wanted ports that somebody else holds, with who it is."""
    wanted = {}
    for entry in ports:
        at = entry.get("address", address)
        wanted.setdefault((entry["proto"], int(entry["port"])), set()).update((at, "0.0.0.0", "::", "::ffff:" + at))
    hits = [one for one in listeners() if one[1] in wanted.get((one[0], one[2]), ())]
    if not hits:
        return []
    containers, published = our_containers(root)
    strangers = {}
    for proto, _address, port, inode in hits:
        pid, name = owner_of(inode)
        cgroup = text_of("/proc/%s/cgroup" % pid) if pid else ""
        ours = any(container in cgroup for container in containers) or (name == "docker-proxy" and port in published)
        if not ours:
            strangers[(proto, port)] = {"proto": proto, "port": port, "process": name, "pid": pid}
    return [strangers[key] for key in sorted(strangers)]


def packages(wanted):
    """Which of the wanted packages are installed, and which of them are held."""
    listed = output_of("dpkg-query", "--show", "--showformat", "${Package}\t${db:Status-Want} ${db:Status-Status}\n")
    state = dict(line.split("\t") for line in listed.splitlines())
    installed = [name for name in wanted if state.get(name, "").endswith(" installed")]
    return installed, [name for name in installed if state[name].startswith("hold")]


def docker():
    unit = output_of(
        "systemctl", "show", "docker.service", "--property", "ActiveState,UnitFileState,ActiveEnterTimestampMonotonic"
    )
    state = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line)
    running = state.get("ActiveState") == "active"
    return {
        "running": running and state.get("UnitFileState") == "enabled",
        "stale": running and configured_since(int(state.get("ActiveEnterTimestampMonotonic") or 0)),
        "compose": output_of("docker", "compose", "version", "--short").strip().lstrip("v"),
    }


def configured_since(started_usec):
    """Whether daemon.json was written after the engine started: an earlier run was cut off before the restart."""
    try:
        written = os.stat("/etc/docker/daemon.json").st_mtime
    except OSError:
        return False
    return written > time.time() - (time.clock_gettime(time.CLOCK_MONOTONIC) - started_usec / 1e6)


def fingerprint(path):
    try:
        return json.loads(text_of(path) or "{}")
    except ValueError:
        return {}


def main():
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str", "required": True},
            "ports": {"type": "list", "elements": "dict", "default": []},
            "packages": {"type": "list", "elements": "str", "default": []},
            "sysctls": {"type": "list", "elements": "str", "default": []},
            "fingerprint_file": {"type": "path", "required": True},
            "projects_root": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    installed, held = packages(wanted["packages"])
    module.exit_json(
        changed=False,
        clock=time.time(),
        session=session(),
        address_held=holds(wanted["address"]),
        addresses=addresses(),
        ports_taken=taken(wanted["ports"], wanted["address"], wanted["projects_root"]),
        packages=installed,
        held=held,
        sysctls={name: text_of("/proc/sys/" + name.replace(".", "/")).strip() for name in wanted["sysctls"]},
        docker=docker(),
        fingerprint=fingerprint(wanted["fingerprint_file"]),
        **system()
    )


if __name__ == "__main__":
    main()
