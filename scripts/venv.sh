#!/bin/sh
# Makes .venv and installs this checkout with its development tools into it, unless that is done.
# The stamp names what the installation depends on: pyproject.toml, the interpreter, and the
# checkout's own path (the scripts in .venv/bin begin with it, so that a moved checkout starts anew).
set -eu
cd "$(dirname "$0")/.."

stamp=.venv/.installed

# Runs a Python that may be broken: .venv outlives the interpreter that made it.
describe() {
    "$1" -c '
import sys
fits = sys.version_info >= (3, 12)
print(sys.base_prefix, *sys.version_info[:3]) if fits else sys.exit(1)
' 2>/dev/null
}

wanted() {
    printf '%s\n%s\n%s\n' "$1" "$(cksum <pyproject.toml)" "$(pwd)"
}

current=
if .venv/bin/python -c 'import pip' 2>/dev/null; then
    current=$(describe .venv/bin/python) || current=
fi

# An interpreter asked for by name replaces the one in .venv; otherwise what works stays.
if [ -n "${PYTHON:-}" ] || [ -z "$current" ]; then
    python=$(scripts/find-python.sh)
    chosen=$(describe "$python")
else
    python=.venv/bin/python
    chosen=$current
fi

if [ "$chosen" = "$current" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(wanted "$chosen")" ]; then
    exit 0
fi

if [ "$chosen" != "$current" ]; then
    echo "Making .venv with $python" >&2
    "$python" -m venv --clear .venv
fi
rm -f "$stamp"
echo "Installing Entrepot and its development tools into .venv" >&2
.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
wanted "$chosen" >"$stamp"
