#!/usr/bin/env bash
# Install the packages a controller needs beside Go, Python 3, git and make, and those that are named. Does nothing when they
# are there.
set -euo pipefail

packages=(python3-venv openssh-client mmdebstrap debian-archive-keyring ca-certificates gcc libc6-dev chromium libnss3-tools "$@")
missing=()
for package in "${packages[@]}"; do
  [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
done
[[ ${#missing[@]} -eq 0 ]] && exit 0

as_root=()
if [[ $EUID -ne 0 ]]; then
  command -v sudo >/dev/null || { echo "Run this as root or install sudo: the packages ${missing[*]} are missing." >&2; exit 1; }
  as_root=(sudo)
fi
echo "Installing ${missing[*]}"
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
