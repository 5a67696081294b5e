#!/usr/bin/env bash
# Build the CPU image, serve a bundle with it and hold it to its bars; `make image-check` calls this.
#
# BASE, CA and ENGINE are those of build.sh. Without BASE one is made by make_base.sh, once. BUNDLE is served, else
# the digits demo is run and packaged, which needs no data. BUSY=1 tells times and does not judge them.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/.."
. "$here/engine.sh"
find_engine
export ENGINE=$engine PLATFORM=
python=.venv/bin/python

if [ -z "${BASE:-}" ]; then
  BASE=localhost/octavo-base:bookworm
  "$engine" image inspect "$BASE" >/dev/null 2>&1 || docker/make_base.sh "$BASE"
fi
export BASE
if [ -z "${BUNDLE:-}" ]; then
  case $(uname -m) in x86_64) target=ort-x86 ;; *) target=ort-arm64 ;; esac
  $python -m octavo run examples/digits.yaml --out build/digits
  BUNDLE=build/digits-$target.zip
  $python -m octavo package build/digits --variant int8 --target "$target" --out "$BUNDLE"
fi
image=${NAME:-localhost/octavo:cpu}
NAME=$image docker/build.sh cpu
$python -m benchmarks.bars.image --engine "$engine" --image "$image" --bundle "$BUNDLE" ${BUSY:+--busy}
