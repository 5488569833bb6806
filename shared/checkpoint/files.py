"""Files of a checkpoint's folder: what is read as JSON, and folders that hold something else than a checkpoint.

Weights are read as safetensors alone: a `.bin` file is a pickle, which may run code when it is opened.
"""

import json
import re
from pathlib import Path
from typing import Any

_POINTER = b"version https://git-lfs.github.com/spec/"
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.safetensors$")
_INDEX, _SINGLE, _ADAPTER = "model.safetensors.index.json", "model.safetensors", "adapter_config.json"
_PICKLES = ("*.bin", "*.pt", "*.pth")


class CheckpointInvalid(ValueError):
    """A folder whose files are missing, cut off, of another kind, or contradict each other."""


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file. Raises CheckpointInvalid that names the file."""
    refuse_pointer(path)
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointInvalid(f"{path} is not readable JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointInvalid(f"{path} is not a JSON object")
    return value


def refuse_pointer(path: Path) -> None:
    """Raises CheckpointInvalid for a file that git-lfs has not fetched."""
    with path.open("rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise CheckpointInvalid(f"{path} is a git-lfs pointer, not the file: run `git lfs pull` in {path.parent}")


def refuse_adapter(folder: Path) -> None:
    """Raises CheckpointInvalid for the folder of an adapter without its model."""
    if (folder / _ADAPTER).is_file() and not (folder / "config.json").is_file():
        raise CheckpointInvalid(
            f"{folder} holds a LoRA adapter ({_ADAPTER}), not a checkpoint: merge it into its base model "
            "(peft's merge_and_unload), and serve the folder of the merged model"
        )


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint: those of its index, else model.safetensors, else all shards, else the
    only one. Raises CheckpointInvalid with the reason and the next step.
    """
    refuse_adapter(folder)
    if (folder / _INDEX).is_file():
        return _indexed(folder)
    if (folder / _SINGLE).is_file():
        return [folder / _SINGLE]
    found = sorted(path for path in folder.glob("*.safetensors") if path.name != "adapter_model.safetensors")
    shards = {path: match for path in found if (match := _SHARD.search(path.name))}
    if shards:
        return _complete(folder, shards)
    if len(found) == 1:
        return found
    if found:
        raise CheckpointInvalid(f"{folder} holds {len(found)} safetensors files and no {_INDEX} that says which belong")
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise CheckpointInvalid(
            f"{folder} holds its weights as pickles ({pickles[0]}), which may run code and are never opened: convert "
            "them to safetensors (load them with transformers where that is safe, and call save_pretrained)"
        )
    raise CheckpointInvalid(f"{folder} holds neither {_SINGLE} nor {_INDEX}")


def _indexed(folder: Path) -> list[Path]:
    weight_map = read_json(folder / _INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointInvalid(f"{folder / _INDEX} has no weight_map: remove it, and the shards are read without it")
    names = sorted(set(weight_map.values()))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise CheckpointInvalid(f"{folder} lacks {', '.join(missing)}, which its index names: fetch what is missing")
    return [folder / name for name in names]


def _complete(folder: Path, shards: dict[Path, re.Match[str]]) -> list[Path]:
    """Shards whose names say how many there are, without an index."""
    totals = {int(match[2]) for match in shards.values()}
    if len(totals) > 1:
        raise CheckpointInvalid(f"{folder} holds shards of several checkpoints, and no {_INDEX} that says which belong")
    missing = sorted(set(range(1, totals.pop() + 1)) - {int(match[1]) for match in shards.values()})
    if missing:
        raise CheckpointInvalid(f"{folder} lacks the shards {', '.join(map(str, missing))}, and has no {_INDEX}")
    return list(shards)
