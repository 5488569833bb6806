"""The tensors of a checkpoint under the names transformers' modules have, read one at a time.

A folder holds one `*.safetensors` file or shards with an index. Only the headers are read up front; a service then
asks for a prefix and gets that part, nothing else is touched.

    canonical prefix          original layout                     -hf layout, with or without a leading `model.`
    vision_tower.             vision_model.                       vision_tower.
    multi_modal_projector.    mlp1.                               multi_modal_projector.
    language_model.model.     language_model.model.               language_model.model.  |  model.language_model.
    language_model.lm_head.   language_model.lm_head.             language_model.lm_head.  |  lm_head.

The original layout keeps q, k and v of the vision tower in one tensor; here they are thirds of it, read as slices.
"""

import hashlib
import json
import mmap
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from safetensors import safe_open

VISION_PREFIXES = ("vision_tower.", "multi_modal_projector.")
LANGUAGE_PREFIXES = ("language_model.",)

_RENAMES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^model\.language_model\.", "language_model.model."),
        (r"^lm_head\.", "language_model.lm_head."),
        (r"^model\.(vision_tower|multi_modal_projector)\.", r"\1."),
        (r"^mlp1\.0\.", "multi_modal_projector.layer_norm."),
        (r"^mlp1\.1\.", "multi_modal_projector.linear_1."),
        (r"^mlp1\.3\.", "multi_modal_projector.linear_2."),
        (r"^vision_model\.embeddings\.class_embedding$", "vision_tower.embeddings.cls_token"),
        (r"^vision_model\.embeddings\.patch_embedding\.", "vision_tower.embeddings.patch_embeddings.projection."),
        (r"^vision_model\.embeddings\.position_embedding$", "vision_tower.embeddings.position_embeddings"),
        (r"^vision_model\.encoder\.layers\.", "vision_tower.encoder.layer."),
        (r"^(vision_tower\.encoder\.layer\.\d+)\.attn\.proj\.", r"\1.attention.projection_layer."),
        (r"^(vision_tower\.encoder\.layer\.\d+)\.attn\.", r"\1.attention."),
        (r"^(vision_tower\.encoder\.layer\.\d+)\.norm1\.", r"\1.layernorm_before."),
        (r"^(vision_tower\.encoder\.layer\.\d+)\.norm2\.", r"\1.layernorm_after."),
        (r"^(vision_tower\.encoder\.layer\.\d+)\.ls1$", r"\1.lambda_1"),
        (r"^(vision_tower\.encoder\.layer\.\d+)\.ls2$", r"\1.lambda_2"),
    )
)
_FUSED_QKV = re.compile(r"^(vision_tower\.encoder\.layer\.\d+\.attention)\.qkv\.(weight|bias)$")
_THIRDS = ("q_proj", "k_proj", "v_proj")


Cut = Callable[[str, tuple[int, ...]], tuple[slice, ...]]
"""(canonical name, shape) -> the part that is wanted."""


class CheckpointInvalid(ValueError):
    """A folder whose weights are missing, cut off or contradict their index."""


@dataclass(frozen=True)
class StoredTensor:
    """Where one canonical tensor lies."""

    path: Path
    stored_name: str
    rows: slice | None
    """Rows of the stored tensor; None for all of it."""


@dataclass(frozen=True)
class _FileTensor:
    """One tensor as a safetensors header describes it."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    """First byte in the file."""
    end: int


class Checkpoint:
    """A folder of weights, opened but not read."""

    def __init__(self, folder: Path, files: Mapping[str, _FileTensor]) -> None:
        self.folder = folder
        self._files = files
        self._tensors = dict(sorted(entry for name, stored in files.items() for entry in _canonical(name, stored)))

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """Reads the headers. Raises CheckpointInvalid with the file and the reason."""
        paths = _weight_files(folder)
        files: dict[str, _FileTensor] = {}
        for path in paths:
            files.update(_read_header(path))
        return cls(folder, files)

    def names(self, *prefixes: str) -> list[str]:
        """Canonical names under any of the prefixes, in order."""
        return [name for name in self._tensors if name.startswith(prefixes)]

    def require(self, shapes: Mapping[str, tuple[int, ...]], *prefixes: str) -> None:
        """Raises CheckpointInvalid unless the tensors under the prefixes are exactly these, in these shapes."""
        found = {name: self._shape(name) for name in self.names(*prefixes)}
        missing, surplus = sorted(shapes.keys() - found.keys()), sorted(found.keys() - shapes.keys())
        if missing or surplus:
            raise CheckpointInvalid(
                f"{self.folder}: {len(missing)} tensors missing {missing[:3]}, {len(surplus)} unknown {surplus[:3]}"
            )
        for name, shape in shapes.items():
            if found[name] != shape:
                raise CheckpointInvalid(f"{self.folder}: {name} is {found[name]}, config.json says {shape}")

    def tensors(self, *prefixes: str, cut: Cut | None = None) -> Iterator[tuple[str, Any]]:
        """(canonical name, torch tensor on the CPU) under the prefixes, each file opened once at a time.

        `cut` says which part of each tensor is read; without it, all.
        """
        by_path: dict[Path, list[str]] = {}
        for name in self.names(*prefixes):
            by_path.setdefault(self._tensors[name].path, []).append(name)
        for path, names in by_path.items():
            with safe_open(path, framework="pt") as file:
                for name in names:
                    stored = self._tensors[name]
                    if stored.rows is not None:
                        yield name, file.get_slice(stored.stored_name)[stored.rows]
                    elif cut is not None:
                        yield name, file.get_slice(stored.stored_name)[cut(name, self._shape(name))]
                    else:
                        yield name, file.get_tensor(stored.stored_name)

    def byte_count(self, *prefixes: str) -> int:
        """Bytes on disk of what `tensors` yields."""
        names = {self._tensors[name].stored_name for name in self.names(*prefixes)}
        return sum(self._files[name].end - self._files[name].begin for name in names)

    def _shape(self, name: str) -> tuple[int, ...]:
        stored = self._tensors[name]
        shape = self._files[stored.stored_name].shape
        return shape if stored.rows is None else (stored.rows.stop - stored.rows.start, *shape[1:])

    def table_digest(self) -> bytes:
        """SHA-256 over config.json and every tensor's name, dtype and shape: cheap, and blind to values."""
        digest = hashlib.sha256((self.folder / "config.json").read_bytes())
        for name, stored in sorted(self._files.items()):
            digest.update(f"\0{name}\0{stored.dtype}\0{stored.shape}".encode())
        return digest.digest()

    def content_digest(self, *prefixes: str) -> bytes:
        """SHA-256 over the bytes of the tensors under the prefixes, in canonical order."""
        digest = hashlib.sha256()
        for name in dict.fromkeys(self._tensors[name].stored_name for name in self.names(*prefixes)):
            stored = self._files[name]
            digest.update(f"{name}\0{stored.dtype}\0{stored.shape}\0".encode())
            with stored.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                digest.update(memoryview(view)[stored.begin : stored.end].toreadonly().tobytes())
        return digest.digest()

    def pairing_fingerprint(self) -> str:
        """Fingerprint that both services must agree on: configuration, tensor table and the projector's weights.

        The projector ties the two halves together and is small, so both services can afford to read it.
        """
        return hashlib.sha256(self.table_digest() + self.content_digest("multi_modal_projector.")).hexdigest()


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise CheckpointInvalid(f"{folder} lacks {', '.join(missing)}, which its index names")
        return [folder / name for name in names]
    single = folder / "model.safetensors"
    if not single.is_file():
        raise CheckpointInvalid(f"{folder} holds neither model.safetensors nor model.safetensors.index.json")
    return [single]


def _read_header(path: Path) -> Iterator[tuple[str, _FileTensor]]:
    """The format: 8 bytes little-endian header length, JSON, then the tensors' bytes."""
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
        if 8 + length > size:
            raise CheckpointInvalid(f"{path} is cut off inside its header")
        header = json.loads(file.read(length))
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        if end > size:
            raise CheckpointInvalid(f"{path} has {size} bytes, {name} ends at {end}: the file is cut off")
        yield name, _FileTensor(path, entry["dtype"], tuple(entry["shape"]), begin, end)


def _canonical(name: str, stored: _FileTensor) -> Iterator[tuple[str, StoredTensor]]:
    renamed = name
    for pattern, replacement in _RENAMES:
        renamed = pattern.sub(replacement, renamed)
    fused = _FUSED_QKV.match(renamed)
    if fused is None:
        yield renamed, StoredTensor(stored.path, name, None)
        return
    third = stored.shape[0] // 3
    for place, projection in enumerate(_THIRDS):
        rows = slice(place * third, (place + 1) * third)
        yield f"{fused[1]}.{projection}.{fused[2]}", StoredTensor(stored.path, name, rows)


def resolve_folder(model: str, revision: str) -> Path:
    """The folder of a checkpoint: `model` itself where it is one, else the hub repository of that name, downloaded.

    Raises CheckpointInvalid when it is neither.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        raise CheckpointInvalid(f"{model} is neither a folder nor a name like OpenGVLab/InternVL3-1B")
    from huggingface_hub import snapshot_download  # optional until a hub name is given

    try:
        wanted = ["*.json", "*.safetensors", "*.txt", "*.model"]
        return Path(snapshot_download(model, revision=revision or None, allow_patterns=wanted))
    except Exception as error:
        raise CheckpointInvalid(f"{model} is not a folder here and could not be downloaded: {error}") from error
