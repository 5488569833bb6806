#!/bin/sh
# One step of an image's build, into the venv at $VENV. What may change less often comes first, so that layers are kept.
#
#   install.sh torch cpu|cuda     PyTorch, the build for the accelerator
#   install.sh lock SERVICE       what a service needs, in the versions of requirements.lock
#   install.sh flash cpu|cuda     flash-attn, built from source where there is CUDA
#   install.sh vllm               what the LLM service needs on vLLM, in the versions that vLLM wants
#   install.sh project            this repository: the client, then the services
#   install.sh kernels cpu|cuda   the LLM service's kernels for CPUs: the image that runs has no compiler
set -eu
VENV=${VENV:-/opt/internvl}
TORCH='torch==2.13.*'

install() {
    uv pip install --python "$VENV/bin/python" "$@"
}

# What both distributions require. The services require the client, which no index has: it is installed from here.
requirements() {
    printf 'internvl-client\n' | install --excludes - \
        --requirements pyproject.toml --requirements clients/python/pyproject.toml --extra traces "$@"
}

step=$1
case "$step" in
torch)
    case "$2" in
    cpu) install --torch-backend "${UV_TORCH_BACKEND:-cpu}" "$TORCH" ;;
    cuda) install --torch-backend "${UV_TORCH_BACKEND:-cu128}" "$TORCH" ;;
    *) echo "error: ACCELERATOR is cpu or cuda, not $2" >&2 && exit 2 ;;
    esac
    ;;
lock)
    requirements --constraints requirements.lock --extra "$2"
    ;;
flash)
    [ "$2" = cpu ] || install --no-build-isolation 'flash-attn>=2.8'
    ;;
vllm)
    requirements --extra vllm
    ;;
project)
    install --no-deps ./clients/python .
    ;;
kernels)
    # From elsewhere: here the repository itself would be compiled, not what was installed of it.
    [ "$2" = cuda ] || (cd / && "$VENV/bin/python" -m llm_service.model.kernels.native)
    ;;
*)
    echo "error: unknown step $step" >&2
    exit 2
    ;;
esac
