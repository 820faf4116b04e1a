"""Refuses a deployment before it has changed anything, with every problem found in one message.

`about: variables` looks at the inventory and the operator's files only, and contacts no host. `about: hosts`
judges what the `facts` task registered on every host. Each problem names the variable or the host.
"""

from __future__ import annotations

import difflib
import glob
import ipaddress
import os
import re

import yaml

from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase

GROUPS = ("lb", "app", "db", "storage")
CONNECTION_KEYS = {
    "ansible_host",
    "ansible_user",
    "ansible_port",
    "ansible_ssh_private_key_file",
    "ansible_ssh_common_args",
    "ansible_become",
    "ansible_become_password",
}
SYSTEMS = {("ubuntu", "22.04"), ("ubuntu", "24.04"), ("debian", "12"), ("debian", "13")}
DOMAIN = re.compile(r"(?=.{1,200}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]$")
SKEW_MS = 500


class StrictLoader(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, and Ansible's own tags are text."""


def _mapping(loader, node, deep=False):
    keys = [loader.construct_object(key, deep=deep) for key, _value in node.value]
    twice = sorted({str(key) for key in keys if keys.count(key) > 1})
    if twice:
        raise yaml.YAMLError(f"{', '.join(twice)} stands there twice")
    return yaml.SafeLoader.construct_mapping(loader, node, deep=deep)


StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, lambda *args: _mapping(*args, deep=True))
for _tag in ("!vault", "!unsafe"):
    StrictLoader.add_constructor(_tag, lambda loader, node: loader.construct_scalar(node))


def load(path):
    with open(path, encoding="utf-8") as file:
        return yaml.load(file, Loader=StrictLoader) or {}  # noqa: S506 -- a SafeLoader


# --- The operator's files ---------------------------------------------------------------------------------


def documented(root):
    """The variables an operator may set: the keys of the files that give each its sentence."""
    names = set()
    for part in ("addresses", "ports", "versions", "sizes"):
        names |= set(load(os.path.join(root, "group_vars", "all", part + ".yml")))
    return names


def variable_files(inventory, *folders):
    found = []
    for folder in folders:
        base = os.path.join(inventory, folder)
        found += [path for ext in ("", ".yml", ".yaml", ".json") if os.path.isfile(path := base + ext)]
        found += sorted(path for path in glob.glob(base + "/**", recursive=True) if os.path.isfile(path))
    return found


def inventory_variables(data):
    """Every `vars` and every host's variables of a hosts.yml, as one flat list of mappings."""
    if not isinstance(data, dict):
        return []
    found = [data["vars"]] if isinstance(data.get("vars"), dict) else []
    hosts = data.get("hosts") if isinstance(data.get("hosts"), dict) else {}
    found += [values for values in hosts.values() if isinstance(values, dict)]
    for key, value in data.items():
        if key not in ("vars", "hosts"):
            found += inventory_variables(value)
    return found


def file_problems(inventory, known):
    """Unknown, misspelt and misplaced variables in the operator's files."""
    problems = []
    for path in variable_files(inventory, "group_vars/all", *(f"group_vars/{group}" for group in GROUPS)):
        problems.append(f"{path}: has no effect or the wrong one here; write it in group_vars/secureconnect.yml")
    for path in variable_files(inventory, "group_vars/secureconnect", "host_vars/*"):
        problems += keys_of(path, known, lambda data: [data])
    for path in glob.glob(os.path.join(inventory, "hosts.y*ml")):
        problems += keys_of(path, known, inventory_variables)
    return problems


def keys_of(path, known, mappings):
    try:
        data = load(path)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        return [f"{path}: {' '.join(str(error).split())}"]
    if not isinstance(data, dict):
        return [f"{path}: must be `name: value` on every line"]
    names = {str(name) for mapping in mappings(data) for name in mapping}
    return [f"{path}: {unknown(name, known)}" for name in sorted(names - known - CONNECTION_KEYS)]


def unknown(name, known):
    near = difflib.get_close_matches(name, known | CONNECTION_KEYS, n=1, cutoff=0.6)
    return f"{name} is not a variable" + (f"; did you mean {near[0]}?" if near else " of this deployment")


def typed(name, option, value):
    """A value in the type its specification asks for; a bare `off` is what YAML reads as false."""
    spec = {key: option[key] for key in ("type", "elements") if key in option}
    checked = ArgumentSpecValidator({name: spec}).validate({name: value})
    if checked.error_messages:
        raise ValueError(f"{value!r} is not of type {option['type']}")
    right = checked.validated_parameters[name]
    choices = option.get("choices")
    if choices and value is False and "off" in choices:
        return "off"
    if choices and right not in choices:
        raise ValueError(f"{value!r} is none of {', '.join(filter(None, choices))}")
    return right


# --- What the values say ----------------------------------------------------------------------------------


def group_problems(groups):
    problems = []
    hosts = groups.get("secureconnect", [])
    for group in GROUPS:
        members = groups.get(group, [])
        if not members:
            problems.append(f"hosts.yml: the group {group} has no host")
        if group != "app" and len(members) > 1:
            problems.append(f"hosts.yml: the group {group} has {len(members)} hosts; one is what it can have")
        problems += [f"hosts.yml: {host} of {group} is not below secureconnect" for host in members if host not in hosts]
    grouped = {host for group in GROUPS for host in groups.get(group, [])}
    problems += [f"hosts.yml: {host} is in none of {', '.join(GROUPS)}" for host in hosts if host not in grouped]
    return problems


def address_problems(values, groups, pools):
    problems, hosts = [], groups.get("secureconnect", [])
    addresses = values["addresses"]
    problems += [f"addresses: {host} of hosts.yml has no address" for host in hosts if host not in addresses]
    for name in ("addresses", "public_addresses"):
        for host, address in values[name].items():
            problems += one_address(f"{name}: {host}", host, address, hosts)
    problems += [f"addresses: {address} is given to {' and '.join(names)}" for address, names in shared(addresses)]
    for host, address in addresses.items():
        problems += [
            f"addresses: {host}: {address} lies in {pool}, which containers use"
            for pool in pools
            if is_address(address) and ipaddress.ip_address(str(address)) in ipaddress.ip_network(pool)
        ]
    return problems


def is_address(text):
    try:
        return ipaddress.ip_address(str(text)).version == 4
    except ValueError:
        return False


def one_address(where, host, address, hosts):
    if host not in hosts:
        near = difflib.get_close_matches(str(host), hosts, n=1)
        return [f"{where} is not in hosts.yml" + (f"; did you mean {near[0]}?" if near else "")]
    return [] if is_address(address) else [f"{where}: {address!r} is not an IPv4 address"]


def shared(addresses):
    by_address = {}
    for host, address in addresses.items():
        by_address.setdefault(str(address), []).append(str(host))
    return sorted((address, sorted(hosts)) for address, hosts in by_address.items() if len(hosts) > 1)


def network_problems(networks):
    if not networks:
        return ["admin_networks: is empty; name the networks you administer from, or ssh would be closed to you too"]
    problems = []
    for network in networks:
        try:
            ipaddress.ip_network(str(network))
        except ValueError as error:
            problems.append(f"admin_networks: {error}")
    return problems


def edge_problems(values):
    problems = []
    if values["edge_tls"] == "":
        problems.append("edge_tls: must be chosen: internal_ca, provided or off")
    if values["edge_tls"] == "provided":
        for name in ("edge_certificate_file", "edge_certificate_key_file"):
            if not os.path.isfile(values[name]):
                problems.append(f"{name}: edge_tls is provided, and there is no file {values[name]!r}")
    if not DOMAIN.match(values["public_domain"]):
        problems.append(f"public_domain: {values['public_domain']!r} is not a domain name in small letters")
    return problems


def image_problems(values, sources, registry, parts):
    problems = []
    for part in sorted(set(values["image_sources"]) - set(parts)):
        near = difflib.get_close_matches(str(part), parts, n=1)
        problems.append(f"image_sources: {part} is no image" + (f"; did you mean {near[0]}?" if near else ""))
    for part, source in sources.items():
        if source not in ("build", "registry"):
            problems.append(f"image_sources: {part}: {source!r} is neither build nor registry")
        if source == "registry" and not registry.get(part):
            problems.append(f"registry_images: has no image for {part}, which comes from the registry")
    if values["sql_engine"] == "cockroachdb" and sources.get("sql") == "build":
        problems.append(
            "sql_engine: cockroachdb cannot be built here; set image_sources: {sql: registry}, or sql_engine: postgresql"
        )
    return problems


def span(port):
    """The first and last port of `443` or `49152-57343`."""
    first, _dash, last = str(port).partition("-")
    return int(first), int(last or first)


def port_problems(table, groups):
    problems = []
    for entry in table:
        first, last = span(entry["port"])
        if not 1 <= first <= last <= 65535:
            problems.append(f"{variable_of(entry)}: {entry['port']} is not a port or a range of ports")
    for host in groups.get("secureconnect", []):
        mine = [entry for entry in table if entry["group"] == "all" or host in groups.get(entry["group"], [])]
        problems += [
            f"{variable_of(one)}: {one['port']}/{one['proto']} is also {variable_of(other)} on {host}"
            for i, one in enumerate(mine)
            for other in mine[i + 1:]
            if one["proto"] == other["proto"] and overlap(span(one["port"]), span(other["port"]))
        ]
    return list(dict.fromkeys(problems))


def relay_problems(values):
    """Every allocation has a port of its own."""
    ports = values["relay_port_max"] - values["relay_port_min"] + 1
    if values["coturn_total_quota"] > ports:
        yield (
            f"coturn_total_quota: {values['coturn_total_quota']} allocations do not fit into the {ports} ports "
            "from relay_port_min to relay_port_max"
        )


def overlap(one, other):
    return one[0] <= other[1] and other[0] <= one[1]


def variable_of(entry):
    return "relay_port_min, relay_port_max" if entry["name"] == "relay" else entry["name"] + "_port"


# --- What the hosts say -----------------------------------------------------------------------------------


def host_problems(name, facts, values):
    """Why this host cannot be deployed to, from what it told about itself."""
    problems = list(system_problems(facts)) + list(size_problems(facts, values)) + list(way_in_problems(facts, values))
    if not facts["address_held"]:
        problems.append(
            f"addresses: {values['address']} is not an address of this host, which has {', '.join(facts['addresses'])}"
        )
    if abs(facts["clock_skew_ms"]) > SKEW_MS:
        problems.append(f"its clock is {facts['clock_skew_ms']} ms off this machine's; at most {SKEW_MS} are right")
    for port in facts["ports_taken"]:
        problems.append(f"port {port['port']}/{port['proto']} is taken by {port['process']} (pid {port['pid']})")
    return [f"{name}: {problem}" for problem in problems]


def system_problems(facts):
    if (facts["distribution"], facts["release"]) not in SYSTEMS:
        yield (
            f"runs {facts['distribution']} {facts['release']}; "
            "Ubuntu 22.04 and 24.04, Debian 12 and 13 are what it can be"
        )
    if tuple(int(part) for part in re.findall(r"\d+", facts["python"])[:2]) < (3, 8):
        yield f"its Python is {facts['python']}; 3.8 is the oldest that will do"
    if not facts["systemd"]:
        yield "does not run systemd"
    if facts["uid"] != 0:
        yield "ansible_user: cannot become root there by sudo"


def size_problems(facts, values):
    if facts["memory_mb"] < values["memory_min_mb"]:
        yield f"has {facts['memory_mb']} MiB of memory; {values['memory_min_mb']} are needed (host_memory_min_mb)"
    if facts["memory_mb"] < values["memory_needed_mb"]:
        yield (
            f"has {facts['memory_mb']} MiB of memory, and its parts are given {values['memory_needed_mb']}: "
            "lower sql_memory_mb, cassandra_heap_mb, redis_memory_mb, minio_memory_mb, coturn_total_quota or video_memory_mb"
        )
    if facts["disk_free_mb"] < values["disk_free_mb"]:
        yield f"has {facts['disk_free_mb']} MiB free below /var/lib; {values['disk_free_mb']} are needed (disk_free_mb)"


def way_in_problems(facts, values):
    session = facts["session"]
    if session is None:
        return
    source = ipaddress.ip_address(session["source"])
    if not any(source in ipaddress.ip_network(str(network)) for network in values["admin_networks"]):
        yield f"admin_networks: we come from {source}, which is in none of them: the firewall would lock us out"
    if session["port"] != values["ssh_port"]:
        yield f"ssh_port: is {values['ssh_port']}, and its sshd listens on {session['port']}"


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset({"about", "spec", "values"})

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        about = getattr(self, "_" + self._task.args["about"])
        problems = about(task_vars)
        if problems:
            lines = "\n".join(f"  - {problem}" for problem in problems)
            result.update(failed=True, msg=f"PREFLIGHT: {len(problems)} to put right; nothing was changed.\n{lines}")
        return dict(result, changed=False)

    def _variables(self, task_vars):
        root, groups = self._value("project_root"), task_vars["groups"]
        problems = file_problems(task_vars["inventory_dir"], documented(root)) + group_problems(groups)
        values, wrong = self._typed(os.path.join(root, "roles/preflight/meta/argument_specs.yml"))
        problems += wrong.values()

        def right(*names):
            return not any(name in wrong for name in names)

        if right("addresses", "public_addresses"):
            problems += address_problems(values, groups, self._value("container_pools"))
        if right("admin_networks"):
            problems += network_problems(values["admin_networks"])
        if right("edge_tls", "public_domain"):
            problems += edge_problems(values)
        if right("image_source", "image_sources", "registry_images", "sql_engine"):
            sources = self._value("image_source_of")
            problems += image_problems(values, sources, self._value("registry_image_of"), self._value("parts"))
        if right(*(name for name in values if "_port" in name)):
            problems += port_problems(self._value("port_table"), groups)
        if right("relay_port_min", "relay_port_max", "coturn_total_quota"):
            problems += relay_problems(values)
        return problems

    def _typed(self, spec_file):
        """The operator's values in their types, and by name what is wrong with the others."""
        values, wrong = {}, {}
        for name, option in load(spec_file)["argument_specs"]["main"]["options"].items():
            try:
                values[name] = typed(name, option, self._value(name))
            except (AnsibleError, ValueError) as error:
                values[name], wrong[name] = None, f"{name}: {error}"
        return values, wrong

    def _hosts(self, task_vars):
        problems = []
        for name in task_vars["ansible_play_hosts"]:
            host = task_vars["hostvars"][name]
            if "preflight_host" not in host:
                problems.append(f"{name}: told nothing about itself")
                continue
            problems += host_problems(name, host["preflight_host"], host["preflight_limits"])
        return problems

    def _value(self, name):
        return self._templar.resolve_variable_expression(name)
