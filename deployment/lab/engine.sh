#!/bin/sh
# Sees to it that a Docker engine runs on this machine, and that the tools which make root file
# systems are there. Debian or Ubuntu, as root or with sudo; with systemd or, as in a container,
# without. It can be repeated at any time.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
log=$root/.build/dockerd.log
bridge=172.27.0.1/24  # of this engine; the deployed hosts' engines have others
patience=60           # seconds for the engine to answer

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

answers() {
  as_root docker info >/dev/null 2>&1
}

# PACKAGE for each TOOL that is missing.
wanted() {
  command -v dockerd >/dev/null 2>&1 || [ -x /usr/sbin/dockerd ] || echo docker.io
  command -v docker >/dev/null 2>&1 || { apt-cache show docker-cli >/dev/null 2>&1 && echo docker-cli; } || :
  command -v iptables >/dev/null 2>&1 || [ -x /usr/sbin/iptables ] || echo iptables
  command -v mmdebstrap >/dev/null 2>&1 || echo mmdebstrap
  command -v ssh >/dev/null 2>&1 || echo openssh-client
  [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || echo debian-archive-keyring
}

install_missing() {
  # An engine that answers, wherever it runs, needs no second one here.
  packages=$(wanted)
  if answers; then
    packages=$(echo "$packages" | grep -v -x -e docker.io -e iptables || :)
  fi
  [ -n "$packages" ] || return 0
  echo "engine: installing" $packages
  as_root apt-get update -q
  packages=$(wanted)
  # shellcheck disable=SC2086  # one word a package
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $packages
}

start() {
  if [ -d /run/systemd/system ]; then
    as_root systemctl start docker
    return
  fi
  echo "engine: starting dockerd by hand, log in $log"
  mkdir -p "$root/.build"
  # A pid file outlives a machine that was switched off, and its number may be somebody else's now.
  for file in /var/run/docker.pid /run/docker/containerd/containerd.pid; do
    if [ -e "$file" ] && ! is_engine "$(cat "$file")"; then as_root rm -f "$file"; fi
  done
  # A session of its own, so that it outlives the terminal and make.
  as_root setsid --fork sh -c 'exec dockerd --bip "$1" >>"$2" 2>&1 </dev/null' dockerd "$bridge" "$log"
}

is_engine() {
  case $(cat "/proc/$1/comm" 2>/dev/null) in dockerd|containerd) return 0 ;; *) return 1 ;; esac
}

wait_until_it_answers() {
  waited=0
  until answers; do
    waited=$((waited + 1))
    if [ "$waited" -gt "$patience" ]; then
      echo "engine: no answer after $patience s; the end of $log:" >&2
      tail -n 20 "$log" >&2 2>/dev/null || :
      exit 1
    fi
    sleep 1
  done
}

# Who may not use the engine's socket asks sudo, also where a program calls docker by its name.
offer_sudo() {
  tool=$root/.build/tools/docker
  rm -f "$tool"
  if [ "$(id -u)" -eq 0 ] || [ -n "${DOCKER_HOST:-}" ] || [ -w /var/run/docker.sock ]; then return; fi
  mkdir -p "$root/.build/tools"
  printf '#!/bin/sh\nexec sudo %s "$@"\n' "$(command -v docker)" >"$tool"
  chmod 755 "$tool"
}

install_missing
answers || start
wait_until_it_answers
offer_sudo
echo "engine: Docker $(as_root docker version --format '{{.Server.Version}}') answers"
