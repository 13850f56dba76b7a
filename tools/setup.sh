#!/bin/sh
# Makes $VENV and installs one lock into it. torch comes first, unhashed: its wheel depends on the machine.
set -eu
lock=$1

if [ ! -x "$VENV/bin/python" ]; then
    "$PYTHON" - <<'PY'
import sys
if sys.version_info < (3, 11):
    sys.exit("Danqing needs Python 3.11 or newer; set PYTHON=python3.11 (this is %s)" % sys.version.split()[0])
PY
    "$PYTHON" -m venv "$VENV" || {
        echo "could not make a virtual environment (on Debian: apt install python3-venv)" >&2
        exit 1
    }
fi
pip="$VENV/bin/python -m pip --disable-pip-version-check"

if ! "$VENV/bin/python" -c "import torch" 2>/dev/null; then
    if [ -z "$TORCH_INDEX" ] && [ "$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null 2>&1; then
        echo "no NVIDIA driver here: the default torch for Linux may bring gigabytes of CUDA; PyTorch's own page names the index of the CPU build (make setup TORCH_INDEX=…)"
    fi
    $pip install -q ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$TORCH"
fi
$pip install -q --require-hashes --no-deps -r "$lock"
$pip install -q --no-deps --no-build-isolation -e .
