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
import math
import mmap
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from safetensors import safe_open

from shared.checkpoint.files import CheckpointInvalid, refuse_pointer, weight_files

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
_BUFFERS = re.compile(r"\.(rotary_emb\.inv_freq|position_ids)$")
"""Buffers that older versions of transformers saved along with the weights: they follow from config.json."""
_UNMERGED = re.compile(r"\.(base_layer|lora_[AB]|lora_embedding_[AB])\.")
_DTYPES = frozenset(("F64", "F32", "F16", "BF16"))
_HEAD, _EMBEDDING = "language_model.lm_head.weight", "language_model.model.embed_tokens.weight"


Cut = Callable[[str, tuple[int, ...]], tuple[slice, ...]]
"""(canonical name, shape) -> the part that is wanted."""


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

    def with_head(self, *, is_tied: bool) -> "Checkpoint":
        """The same, with the embedding as the head where the model ties them and the folder stores it once."""
        if is_tied and _HEAD not in self._tensors and _EMBEDDING in self._tensors:
            tied = Checkpoint(self.folder, self._files)
            tied._tensors[_HEAD] = self._tensors[_EMBEDDING]
            return tied
        return self

    @property
    def has_head(self) -> bool:
        """Whether the decoder has a head of its own."""
        return _HEAD in self._tensors

    @property
    def file_count(self) -> int:
        return len({stored.path for stored in self._files.values()})

    def dtypes(self, *prefixes: str) -> list[str]:
        """Names of safetensors' dtypes under the prefixes, such as BF16, the commonest first."""
        counts = Counter(self._files[self._tensors[name].stored_name].dtype for name in self.names(*prefixes))
        return [dtype for dtype, _ in counts.most_common()]

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """Reads the headers. Raises CheckpointInvalid with the file and the reason."""
        paths = weight_files(folder)
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
                f"{self.folder}: {len(missing)} tensors missing {missing[:3]}, {len(surplus)} unknown {surplus[:3]}: "
                "these are not the weights of its config.json"
            )
        for name, shape in shapes.items():
            if found[name] != shape:
                raise CheckpointInvalid(f"{self.folder}: {name} is {found[name]}, config.json says {shape}")
            dtype = self._files[self._tensors[name].stored_name].dtype
            if dtype not in _DTYPES:
                raise CheckpointInvalid(
                    f"{self.folder}: {name} is stored as {dtype}, quantised: take the checkpoint in bfloat16, with "
                    "weights=int8 for the LLM service if it is to be small"
                )

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

    def parameter_count(self, *prefixes: str) -> int:
        """Numbers of the tensors under the prefixes."""
        return sum(math.prod(self._shape(name)) for name in self.names(*prefixes))

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


def _read_header(path: Path) -> Iterator[tuple[str, _FileTensor]]:
    """The format: 8 bytes little-endian header length, JSON, then the tensors' bytes."""
    refuse_pointer(path)
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
    if _BUFFERS.search(name):
        return
    if _UNMERGED.search(name):
        raise CheckpointInvalid(
            f"{stored.path}: {name} belongs to a LoRA that is not merged: merge it first (peft's merge_and_unload, or "
            "tools/merge_lora.py of OpenGVLab's repository)"
        )
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


def resolve_folder(model: str, revision: str, *, with_weights: bool = True) -> Path:
    """The folder of a checkpoint: `model` itself where it is one, else the hub repository of that name, downloaded.

    `with_weights`: whether files of weights are downloaded, too. Raises CheckpointInvalid when it is neither.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        raise CheckpointInvalid(f"{model} is neither a folder nor a name like OpenGVLab/InternVL3-1B")
    from huggingface_hub import snapshot_download  # optional until a hub name is given

    try:
        wanted = ["*.json", "*.txt", "*.model", *(["*.safetensors"] if with_weights else [])]
        return Path(snapshot_download(model, revision=revision or None, allow_patterns=wanted))
    except Exception as error:
        raise CheckpointInvalid(f"{model} is not a folder here and could not be downloaded: {error}") from error
