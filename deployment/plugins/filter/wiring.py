"""Filters that group_vars/all/wiring.yml joins the parts with."""

from __future__ import annotations

import hashlib
import ipaddress
import json


def image_ref(part, sources, registry, manifest):
    """The image a part runs: the registry's, or the one `deploy images build` made."""
    if sources[part] == "registry":
        return registry[part]
    built = manifest["images"].get(part)
    return built["ref"] if built else f"secureconnect/{part}:not-built-yet"


def described_host(name, hostvars, addresses, public_addresses):
    """One host and the way to reach it by ssh, for the description `deploy` reads."""
    host = hostvars[name]
    return {
        "groups": [group for group in ("lb", "app", "db", "storage") if group in host["group_names"]],
        "address": addresses[name],
        "public_address": public_addresses[name],
        "user": host.get("ansible_user", ""),
        "port": int(host.get("ansible_port", 22)),
        "key": host.get("ansible_ssh_private_key_file", ""),
        "ssh_args": host.get("ansible_ssh_common_args", ""),
    }


def described_ports(table):
    """The port table with every port as text, a range included."""
    return [dict(entry, port=str(entry["port"])) for entry in table]


def host_ports(table, group_names):
    """The ports a host of these groups listens on, one by one: {proto, port}. Not sshd's, which is there before us."""
    mine = [entry for entry in table if entry["group"] in group_names]
    return [{"proto": entry["proto"], "port": int(entry["port"])} for entry in mine if "-" not in str(entry["port"])]


def parts_of(refs, parts, lacking):
    """The parts whose image is lacking, each image once."""
    found = {refs[part]: part for part in reversed(parts) if refs[part] in lacking}
    return [part for part in parts if part in found.values()]


def collapsed(networks):
    """Networks of both families without overlaps, which a set of nftables does not take."""
    read = [ipaddress.ip_network(str(network)) for network in networks]
    families = [[network for network in read if network.version == version] for version in (4, 6)]
    return [str(network) for family in families for network in ipaddress.collapse_addresses(family)]


def gateways(addresses, hosts, port):
    """The gateway of every app host: {name, address}."""
    return [{"name": host, "address": f"{addresses[host]}:{port}"} for host in hosts]


def at_least(live, wanted):
    """Kernel settings that are no smaller than wanted: what a host has more of, it keeps."""
    return {name: str(max(least, int(live.get(name) or 0))) for name, least in wanted.items()}


def below(checksums, folder, followed=()):
    """One checksum of a folder's files, from those of all by their paths; not of files that are read at every use."""
    mine = {path[len(folder) + 1:]: value for path, value in checksums.items() if path.startswith(folder + "/")}
    mine = sorted((name, value) for name, value in mine.items() if name not in followed)
    return hashlib.sha256(json.dumps(mine).encode()).hexdigest()


class FilterModule:
    def filters(self):
        return {
            "parts_of": parts_of,
            "collapsed": collapsed,
            "gateways": gateways,
            "at_least": at_least,
            "below": below,
            "host_ports": host_ports,
            "image_ref": image_ref,
            "described_host": described_host,
            "described_ports": described_ports,
        }
