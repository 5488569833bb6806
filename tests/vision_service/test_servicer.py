"""Options of a request: what an operator allows, and what the checkpoint says where a request says nothing."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from internvl.common.v1 import visual_pb2
from internvl.errors import BadOption
from internvl.vision.v1 import vision_pb2
from shared.checkpoint.config import ModelConfig
from shared.store.embedding_store import Manifest
from tests.support.checkpoints import MAX_TILE_COUNT
from vision_service.encoder import Encoded, Encoder
from vision_service.servicer import VisionServicer
from vision_service.settings import VisionSettings
from vision_service.tiles import TilingOptions


@dataclass
class FakeEncoder:
    """Notes how images are to be cut."""

    tilings: list[TilingOptions] = field(default_factory=list)

    async def encode_image(self, tenant: str, source: object, tiling: TilingOptions) -> Encoded:
        return self._note(tiling)

    async def encode_video(self, tenant: str, source: object, frames: object, tiling: TilingOptions) -> Encoded:
        return self._note(tiling)

    def _note(self, tiling: TilingOptions) -> Encoded:
        self.tilings.append(tiling)
        return Encoded(key="k" * 64, manifest=Manifest(4, 8, "float32", (1,)), media_id="m", cached=False)


@pytest.fixture
def encoder() -> FakeEncoder:
    return FakeEncoder()


@pytest.fixture
def servicer(encoder: FakeEncoder, tiny_checkpoint: Path) -> VisionServicer:
    settings = VisionSettings.from_command_line(["--model", str(tiny_checkpoint), "--max-tile-count", "24"])
    config = ModelConfig.from_folder(tiny_checkpoint)
    return VisionServicer(cast(Encoder, encoder), config, visual_pb2.ModelInfo(), settings, holder="")


def context() -> Any:
    return None


@pytest.mark.parametrize(("asked", "wanted"), [(None, MAX_TILE_COUNT), (1, 1), (12, 12), (24, 24)])
async def test_tiles_of_an_image(
    servicer: VisionServicer, encoder: FakeEncoder, asked: int | None, wanted: int
) -> None:
    """More than the checkpoint's own number, up to the operator's."""
    await servicer.Encode(vision_pb2.EncodeRequest(tenant="t", data=b"x", max_tile_count=asked), context())
    assert [tiling.max_tile_count for tiling in encoder.tilings] == [wanted]


@pytest.mark.parametrize(("asked", "wanted"), [(None, 1), (24, 24)])
async def test_tiles_of_a_frame(servicer: VisionServicer, encoder: FakeEncoder, asked: int | None, wanted: int) -> None:
    await servicer.EncodeVideo(vision_pb2.EncodeVideoRequest(tenant="t", data=b"x", max_tile_count=asked), context())
    assert [tiling.max_tile_count for tiling in encoder.tilings] == [wanted]


@pytest.mark.parametrize("asked", [0, -1, 25, 2**31 - 1])
async def test_more_than_the_operator_allows(servicer: VisionServicer, encoder: FakeEncoder, asked: int) -> None:
    with pytest.raises(BadOption, match="max_tile_count must be 1 to 24") as refused:
        await servicer.Encode(vision_pb2.EncodeRequest(tenant="t", data=b"x", max_tile_count=asked), context())
    assert refused.value.field == "max_tile_count"
    with pytest.raises(BadOption, match="max_tile_count must be 1 to 24"):
        await servicer.EncodeVideo(
            vision_pb2.EncodeVideoRequest(tenant="t", data=b"x", max_tile_count=asked), context()
        )
    assert encoder.tilings == []
