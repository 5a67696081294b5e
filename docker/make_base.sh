#!/usr/bin/env bash
# Make a base image with Debian's Python and pip, for machines that cannot pull one.
#
#   make_base.sh NAME [amd64|arm64]
#
# Needs root and debootstrap. The architecture is this machine's unless it is named; nothing of the other one is run:
# its packages are unpacked and not configured, which is enough for Python. Such a base needs podman: Docker builds
# from a local image of another architecture only where its containerd store is on.
#
# MIRROR   of Debian; else the first one of this machine's apt, or debootstrap's own
# SUITE    of Debian (bookworm, which has Python 3.11)
# ENGINE   docker or podman, else the one that answers
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/engine.sh"

name=${1:?a name for the image is needed, such as localhost/octavo-base:bookworm}
own=$(dpkg --print-architecture)
arch=${2:-$own}
suite=${SUITE:-bookworm}
[ "$(id -u)" = 0 ] || give_up "debootstrap needs root; run this as root, or name a base image with BASE=..."
command -v debootstrap >/dev/null || give_up "debootstrap is not installed; try: apt-get install debootstrap"
find_engine

mirror=${MIRROR:-}
if [ -z "$mirror" ]; then
  mirror=$(sed -n 's/^URIs: *\([^ ]*debian\/\{0,1\}\)$/\1/p; s/^deb \(\[.*\] \)\{0,1\}\([^ ]*debian\/\{0,1\}\) .*/\2/p' \
    $(ls /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null) </dev/null | head -1)
fi

work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
root=$work/root
options=(--variant=minbase --include=python3,python3-venv,ca-certificates --arch="$arch")
[ "$arch" = "$own" ] || options+=(--foreign)
debootstrap "${options[@]}" "$suite" "$root" ${mirror:+"$mirror"} >"$work/log" 2>&1 || {
  tail -5 "$work/log" >&2
  give_up "debootstrap failed; its last lines are above"
}
if [ "$arch" != "$own" ]; then
  # As dpkg itself does, leave /lib the link to /usr/lib that it is, though packages have it as a folder.
  for package in "$root"/var/cache/apt/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -C "$root" --keep-directory-symlink -xf -
  done
  rm -rf "$root/debootstrap"
fi

# Whoever uses the image must not learn which mirror it came from, nor depend on it.
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/* "$root"/etc/apt/sources.list*
rm -f "$root/etc/resolv.conf" "$root/etc/hostname" # of this machine

tar -C "$root" --sort=name --numeric-owner -cf "$work/root.tar" .
printf 'FROM scratch\nADD root.tar /\nENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nCMD ["python3"]\n' \
  >"$work/Dockerfile"
rm -rf --one-file-system "$root"
if [ "$engine" = podman ]; then
  podman build --quiet --platform "linux/$arch" --format docker --tag "$name" "$work" >/dev/null
else
  docker build --quiet --platform "linux/$arch" --tag "$name" "$work" >/dev/null
fi
echo "$name: Debian $suite, $arch"
