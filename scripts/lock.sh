#!/bin/sh
# Regenerates requirements.lock from pyproject.toml: pinned and hashed, for every platform and Python 3.11 to 3.14.
# Versions that still fit are kept; `sh scripts/lock.sh --upgrade` takes the newest, `--upgrade-package NAME` one of them.
set -eu
cd "$(dirname "$0")/.."

UV=$(command -v uv || echo .uv/bin/uv)
"$UV" --version >/dev/null 2>&1 || {
    echo "error: uv is neither on PATH nor in .uv: run \`make setup\` first" >&2
    exit 1
}

# torch stays out, with what only torch needs, because setup.sh chooses its build by the machine. It is excluded here and not
# in pyproject.toml, where that would also hide torch from everyone who installs this repository with uv.
echo torch | "$UV" pip compile pyproject.toml clients/python/pyproject.toml \
    --extra vision --extra llm --extra gateway --extra local --extra traces --extra dev \
    --excludes - --universal --python-version 3.11 --generate-hashes \
    --no-annotate --no-header --quiet "$@" --output-file requirements.lock >/dev/null
echo "requirements.lock pins $(grep -c '^[a-z]' requirements.lock) packages"
