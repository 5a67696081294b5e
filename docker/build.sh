#!/usr/bin/env bash
# Build an image; `make images` and `make image` call this, and docker/README.md says what for.
#
#   build.sh cpu|builder|tensorrt    from the repository
#   build.sh bundle                  the image IMAGE with the file BUNDLE inside
#
# BASE        base image, with a digest where it comes from a registry
# BUILD_BASE  the same for this machine, where PLATFORM is another one; else BASE
# PLATFORM    linux/amd64 or linux/arm64; this machine's unless it is said
# NAME        of the image to make, else PREFIX (localhost/octavo:) and what it is
# CA          file of the authorities that the package index is trusted by, where it is not a public one
# ENGINE      docker or podman, else the one that answers
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
. "$here/engine.sh"

what=${1:-}
case $what in cpu | builder | tensorrt | bundle) ;; *) give_up "'$what' is no image; it can be cpu, builder, tensorrt or bundle" ;; esac
find_engine
case $(uname -m) in x86_64) own=linux/amd64 ;; aarch64 | arm64) own=linux/arm64 ;; *) own=linux/$(uname -m) ;; esac
platform=${PLATFORM:-$own}
name=${NAME:-${PREFIX:-localhost/octavo:}$what}
context=$root
options=(--platform "$platform" --tag "$name" --file "$here/$what.Dockerfile")
[ "$engine" = docker ] || options+=(--format docker) # podman's own format has no HEALTHCHECK

if [ "$what" = bundle ]; then
  [ -f "${BUNDLE:-}" ] || give_up "BUNDLE is '${BUNDLE:-}'; it must be a zip that \`octavo package\` wrote"
  context=$(mktemp -d)
  trap 'rm -rf "$context"' EXIT
  cp "$BUNDLE" "$context/bundle.zip"
  options+=(--build-arg "IMAGE=${IMAGE:-localhost/octavo:cpu}")
else
  [ -n "${BASE:-}" ] || give_up "BASE is not set; give a base image with a digest, such as" \
    "BASE=docker.io/library/python:3.11-slim-bookworm@sha256:..., or make one: docker/make_base.sh"
  case $BASE in localhost/* | *@sha256:*) ;; *) echo "note: $BASE has no digest, so it can change" >&2 ;; esac
  [ "$platform" = "$own" ] || [ "$what" != cpu ] || [ -n "${BUILD_BASE:-}" ] || give_up \
    "PLATFORM is $platform and this machine is $own; give a base image of this machine as BUILD_BASE, too"
  version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/pyproject.toml")
  revision=$(git -C "$root" rev-parse HEAD 2>/dev/null || echo unknown)
  options+=(--build-arg "BASE=$BASE" --build-arg "VERSION=$version" --build-arg "REVISION=$revision")
  if [ "$what" = cpu ]; then
    options+=(--build-arg "BUILD_BASE=${BUILD_BASE:-$BASE}" --build-arg "BUILD_PLATFORM=$own")
    id=$("$engine" image inspect --format '{{.Id}}' "$BASE" 2>/dev/null || echo "$BASE")
    options+=(--build-arg "PLATFORM=$platform" --build-arg "BASE_ID=$id")
  fi
  [ -z "${CA:-}" ] || options+=(--secret "id=ca,src=$CA")
fi
DOCKER_BUILDKIT=1 "$engine" build "${options[@]}" "$context"
echo "$name"
