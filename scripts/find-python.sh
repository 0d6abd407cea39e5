#!/bin/sh
# Prints the path of a Python that can run Entrepot: CPython >= 3.12 with venv and ensurepip.
# $PYTHON, when set, is the only candidate. Otherwise what is on PATH, then what pyenv holds, even
# where none of its versions is active: the default python3 of a long-lived system is often older.
set -eu

# Exit status: 0 fits, 3 right version without venv, anything else does not fit. A pyenv shim whose
# version is not active exits 127 and so rules itself out.
probe='
import sys
if sys.version_info < (3, 12) or sys.implementation.name != "cpython":
    sys.exit(4)
try:
    import ensurepip, venv
except ImportError:
    sys.exit(3)
print(sys.executable)
'
without_venv=

try() {
    command -v "$1" >/dev/null 2>&1 || return 0
    status=0
    found=$("$1" -c "$probe" 2>/dev/null </dev/null) || status=$?
    if [ "$status" -eq 0 ] && [ -n "$found" ]; then
        printf '%s\n' "$found"
        exit 0
    fi
    if [ "$status" -eq 3 ] && [ -z "$without_venv" ]; then without_venv=$1; fi
}

explain() {
    if [ -n "$without_venv" ]; then
        version=$("$without_venv" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        cat <<END
$without_venv is Python $version, but its modules venv and ensurepip are missing. Install them:
  Debian, Ubuntu:  sudo apt-get install python$version-venv
END
    else
        cat <<END
Entrepot needs Python 3.12 or newer, and none was found on PATH or under pyenv. Install one:
  Debian 13, Ubuntu 24.04 or newer:  sudo apt-get install python3 python3-venv
  Fedora:                            sudo dnf install python3
  macOS:                             brew install python@3.13
  anywhere, Debian 12 among them:    curl -fsSL https://pyenv.run | bash && pyenv install 3.13
END
    fi
    echo "or name one that is elsewhere:  make PYTHON=/path/to/python3.13 ..."
}

if [ -n "${PYTHON:-}" ]; then
    try "$PYTHON"
    echo "PYTHON=$PYTHON is not a Python that fits." >&2
    explain >&2
    exit 1
fi

for name in python3.14 python3.13 python3.12 python3 python; do try "$name"; done

versions=${PYENV_ROOT:-${HOME:-/nonexistent}/.pyenv}/versions
for minor in 14 13 12; do
    for directory in "$versions/3.$minor".*; do
        # 3.13.0t and the like are free-threaded: few of the dependencies are built for them.
        case $directory in *t) continue ;; esac
        try "$directory/bin/python"
    done
done

explain >&2
exit 1
