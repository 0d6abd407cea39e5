#!/bin/sh
# What has to hold before a commit, all of it or the steps that are named: scripts/check.sh [STEP...]
# Every step runs, so that one look shows all that is wrong; the exit status is 1 if any failed.
# A tool that is missing is said and passed over, except in CI.
set -u
cd "$(dirname "$0")/.." || exit 1

steps='ruff format mypy imports shellcheck yamllint secrets documents'
failed=

need() {
    command -v "$1" >/dev/null 2>&1 && return 0
    echo "$1 is not installed: this step was passed over" >&2
    return 1
}

# Files git knows or would add, so that a new file is checked before its first commit.
files() {
    git ls-files --cached --others --exclude-standard -- "$@" | while IFS= read -r file; do
        if [ -f "$file" ]; then printf '%s\n' "$file"; fi
    done
}

shell_scripts() {
    files | while IFS= read -r file; do
        first=
        IFS= read -r first <"$file" 2>/dev/null || true
        case $first in
            '#!'*/sh | '#!'*/bash | '#!'*'env bash') printf '%s\n' "$file" ;;
        esac
    done
}

# xargs -d is GNU's alone, and file names of ours hold no newline.
each_line() {
    tr '\n' '\0' | xargs -0 "$@"
}

# Key material by name and by content; a test that needs a key makes one.
secrets() {
    named=$(git ls-files -- '*.key' '*.p12' '*.pfx' '*.jks' 'ca/*.crt' 'ca/*.pem')
    held=$(git grep -lIE '^-----BEGIN [A-Z ]*PRIVATE KEY-----' || true)
    [ -z "$named$held" ] && return 0
    printf 'key material in the repository: %s\n' "$named" "$held" >&2
    return 1
}

run_step() {
    case $1 in
        ruff) .venv/bin/ruff check --quiet ;;
        format) .venv/bin/ruff format --check --quiet ;;
        mypy) .venv/bin/mypy --no-error-summary ;;
        imports) .venv/bin/lint-imports ;;
        shellcheck) shell_scripts | each_line shellcheck ;;
        yamllint) files '*.yaml' '*.yml' | each_line yamllint --strict ;;
        secrets) secrets ;;
        documents) .venv/bin/pytest -q tests/packaging/test_documents.py ;;
        *) echo "no such step: $1 (there are: $steps)" >&2 && return 2 ;;
    esac
}

available() {
    case $1 in
        shellcheck | yamllint) need git && need "$1" ;;
        secrets) need git ;;
    esac
}

if [ $# -eq 0 ]; then
    # shellcheck disable=SC2086  # a list of words
    set -- $steps
fi
for step; do
    if ! available "$step"; then
        if [ -n "${CI:-}" ]; then failed="$failed $step"; fi
        continue
    fi
    if run_step "$step"; then
        echo "ok      $step"
    else
        echo "FAILED  $step"
        failed="$failed $step"
    fi
done
if [ -n "$failed" ]; then
    echo "make check: failed:$failed" >&2
    exit 1
fi
