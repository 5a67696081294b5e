#!/usr/bin/env bash
# Build the CPU image for ARM64, serve a bundle with it in the emulator, and compare; `make arm64` calls this.
#
# Needs podman: Docker does not build from a local base of another architecture.
#
# BASE        base image for ARM64; else one is made by make_base.sh, once
# BUILD_BASE  the same for this machine
# BUNDLE      made for ort-arm64; else the digits demo's, which needs no data
# CA          see build.sh
set -euo pipefail
cd "$(dirname "$0")/.."
python=.venv/bin/python
if ! podman info >/dev/null 2>&1; then
  echo "arm64.sh: the serving image was not tried: podman does not answer (apt-get install podman)" >&2
  exit 0
fi
export ENGINE=podman
if [ -z "${BASE:-}" ]; then
  BASE=localhost/octavo-base:bookworm-arm64
  podman image inspect "$BASE" >/dev/null 2>&1 || docker/make_base.sh "$BASE" arm64
fi
if [ -z "${BUILD_BASE:-}" ]; then
  BUILD_BASE=localhost/octavo-base:bookworm
  podman image inspect "$BUILD_BASE" >/dev/null 2>&1 || docker/make_base.sh "$BUILD_BASE"
fi
if [ -z "${BUNDLE:-}" ]; then
  BUNDLE=build/arm64/digits-ort-arm64.zip
  # `make arm64 RUN=...` has not made it.
  [ -f build/arm64/runs/digits/summary.json ] || $python -m octavo run docker/arm64.yaml --out build/arm64/runs/digits
  $python -m octavo package build/arm64/runs/digits --variant int8 --target ort-arm64 --out "$BUNDLE"
fi
image=localhost/octavo:cpu-arm64
BASE=$BASE BUILD_BASE=$BUILD_BASE PLATFORM=linux/arm64 NAME=$image docker/build.sh cpu
$python -m benchmarks.bars.arm64_image --image "$image" --bundle "$BUNDLE"
