#!/bin/sh
# Makes .venv with everything this repository runs, tests and trains with. Run again, it does only what has changed.
#
#   PYTHON=python3.13 sh scripts/setup.sh         another interpreter (3.11 to 3.14)
#   UV_TORCH_BACKEND=cu130 sh scripts/setup.sh    another build of torch than the one that fits this machine's driver
#
# uv and pip read their usual settings (indexes, certificates, find-links) from the environment and their own files.
set -eu
cd "$(dirname "$0")/.."

TORCH='torch==2.13.*'
STAMP=.venv/.setup-stamp

main() {
    if [ -f "$STAMP" ] && [ "$(cat "$STAMP")" = "$(fingerprint)" ]; then
        say "the environment in .venv is up to date"
        return
    fi
    rm -f "$STAMP"
    python=$(find_python)
    provide_uv
    copy_pip_settings
    provide_venv
    install_torch
    install_locked
    install_project
    fingerprint > "$STAMP"
    say "ready: .venv/bin/internvl --help"
}

say() { printf '==> %s\n' "$*"; }

fail() {
    printf '\nerror: %s\n' "$*" >&2
    exit 1
}

# The folder counts, too: an environment that was moved has scripts that point elsewhere.
fingerprint() { { pwd; cat requirements.lock pyproject.toml clients/python/pyproject.toml scripts/setup.sh; } | cksum; }

find_python() {
    for candidate in ${PYTHON:-python3 python}; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    [ -z "${PYTHON:-}" ] || fail "PYTHON=$PYTHON is not a Python from 3.11 to 3.14."
}

provide_uv() {
    UV=$(command -v uv || true)
    [ -z "$UV" ] || return 0
    UV=.uv/bin/uv
    "$UV" --version >/dev/null 2>&1 || install_uv
}

install_uv() {
    [ -n "$python" ] || fail "neither uv nor a Python from 3.11 to 3.14 is on PATH. Install one of them, or name a Python: PYTHON=/path/to/python3"
    say "uv is not on PATH: installing it with pip into .uv"
    rm -rf .uv
    "$python" -m venv .uv || fail "$python cannot make virtual environments (Debian and Ubuntu: apt install python3-venv). Its reason is above."
    .uv/bin/python -m pip install --quiet uv || fail "pip could not install uv: is the package index reachable? Its reason is above."
}

# uv reads none of pip's settings. Where packages come from by pip's settings, uv gets them from there as well.
copy_pip_settings() {
    index=${UV_DEFAULT_INDEX:-${UV_INDEX_URL:-${PIP_INDEX_URL:-$(pip_setting global.index-url)}}}
    [ -z "$index" ] || export UV_DEFAULT_INDEX="$index"
    links=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-$(pip_setting global.find-links)}}
    # pip separates by white space, uv by commas.
    links=$(printf '%s' "$links" | tr -s '[:space:]' ',')
    unset UV_FIND_LINKS
}

pip_setting() {
    [ -z "$python" ] || "$python" -m pip config get "$1" 2>/dev/null || true
}

provide_venv() {
    if [ -x .venv/bin/python ]; then
        .venv/bin/python -c '' || fail ".venv is broken (its Python is gone or it was moved). Remove it and run this again."
        return
    fi
    say "making .venv"
    "$UV" venv --quiet --python "${python:->=3.11,<3.15}" .venv || fail "uv could not make .venv. Its reason is above."
}

# Apart from the lock, because which build is right depends on the machine: one that was laid out for it in find-links,
# else the one for its GPU's driver, or without CUDA, from PyTorch's own index.
install_torch() {
    say "installing $TORCH (200 MB without a GPU, 3 GB with one)"
    if [ -n "$links" ] && install --no-index --no-deps --find-links "$links" "$TORCH" 2>/dev/null; then
        install "$TORCH" || fail "torch came from find-links, but what it depends on could not be installed: is the package index reachable? uv's reason is above."
    elif ! install --torch-backend "${UV_TORCH_BACKEND:-auto}" "$TORCH"; then
        say "PyTorch's own index failed (uv's reason is above): taking the package index's build, 3 GB with CUDA's libraries"
        unset UV_TORCH_BACKEND
        install "$TORCH" || fail "torch could not be installed. uv's reason is above. A wheel in a folder will do as well: PIP_FIND_LINKS=/folder sh scripts/setup.sh"
    fi
}

install_locked() {
    say "installing $(grep -c '^[a-z]' requirements.lock) packages from requirements.lock"
    install --require-hashes --requirements requirements.lock ||
        fail "the locked packages could not be installed: is the package index reachable? uv's reason is above."
}

install_project() {
    say "installing this repository, editable"
    install --no-deps --no-build-isolation --editable clients/python --editable . || fail "the repository itself could not be installed. uv's reason is above."
}

# Quiet where nobody watches: uv lists every package otherwise.
install() {
    if [ -t 2 ]; then quiet=; else quiet=--quiet; fi
    "$UV" pip install $quiet --python .venv/bin/python "$@"
}

main
