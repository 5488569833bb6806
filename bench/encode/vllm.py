"""`bench.encode`'s tower by vLLM: PYTHON -m bench.encode.vllm CHECKPOINT DTYPE, by a Python that has vllm.

Reads numbers of tiles, one a line, and answers each with "done" when a batch of so many is through. The tower alone:
vLLM's module of the whole model wants torchvision, and the projector, left out, is a hundredth of the work.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import PretrainedConfig
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.distributed import init_distributed_environment, initialize_model_parallel
from vllm.model_executor.models.intern_vit import InternVisionModel

_PREFIX = "vision_model."


def load(folder: Path, dtype: torch.dtype) -> InternVisionModel:
    """vLLM's InternViT from a checkpoint in the original layout, its weights laid out as vLLM's loader leaves them.

    To be called where a VllmConfig is set. Makes the process group of one that vLLM's layers ask for.
    """
    vision = json.loads((folder / "config.json").read_text())["vision_config"]
    with tempfile.NamedTemporaryFile() as meeting:
        init_distributed_environment(1, 0, f"file://{meeting.name}", 0, backend="gloo")
        initialize_model_parallel()
    torch.set_default_dtype(dtype)
    tower = InternVisionModel(PretrainedConfig(**{"initializer_factor": 1.0, **vision}))
    loaded = tower.load_weights((name, tensor.to(dtype)) for name, tensor in _stored(folder))
    if missing := {name for name, _ in tower.named_parameters()} - loaded:
        raise ValueError(f"{folder} has no {min(missing)} in the original layout")
    for module in tower.modules():
        if (method := getattr(module, "quant_method", None)) is not None:
            method.process_weights_after_loading(module)
    return tower.eval()


def _stored(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is no dict
                if name.startswith(_PREFIX):
                    yield name.removeprefix(_PREFIX), file.get_tensor(name)


@torch.inference_mode()
def serve(folder: Path, dtype: torch.dtype) -> None:
    with set_current_vllm_config(VllmConfig()):
        tower = load(folder, dtype)
    side = tower.config.image_size
    batches: dict[int, torch.Tensor] = {}
    print("ready", flush=True)
    for line in sys.stdin:
        if (count := int(line)) not in batches:
            batches[count] = torch.randn(count, 3, side, side)
        tower(pixel_values=batches[count])
        print("done", flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), getattr(torch, sys.argv[2]))
