"""The two halves together equal transformers' native InternVL, on random tiny checkpoints of both towers and layouts.

From picture files to greedy tokens, in float32: tiles, visual features, prompt, positions, store, engine. The native
model gets pixels and float positions, always with a mask: without one it takes fractions for packed sequences.
"""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import InternVLForConditionalGeneration

from llm_service.conversation import Increment, Message, Role, Visual
from llm_service.embeddings import EmbeddingLoader
from llm_service.engine.interface import SamplingParameters
from llm_service.engine.pytorch.engine import TorchEngine
from llm_service.engine.pytorch.scheduler import SchedulerLimits
from llm_service.generation import Delta, GenerationRequest, Generator
from llm_service.model.hardware import Hardware
from llm_service.model.loading import load_language_model
from llm_service.positions import VisualSpan, as_float, next_position, prompt_positions
from llm_service.prompt import PromptBuilder
from llm_service.window import Window
from shared.checkpoint.config import ModelConfig
from shared.checkpoint.tokenizer import load_tokenizer
from shared.checkpoint.weights import Checkpoint
from shared.store.embedding_store import EmbeddingStore, Manifest, frame_tile
from shared.store.value_store import MemoryStore
from tests.support.checkpoints import Layout, Style, write_random_checkpoint
from tests.support.pictures import file_of
from vision_service.encoder import _raw
from vision_service.image.decoding import ImageLimits, decode_image
from vision_service.model.loading import load_visual_encoder
from vision_service.model.tower import VisualEncoder
from vision_service.pixels import normalize
from vision_service.tiles import TilingOptions, cut

COUNT = 8
LIMITS = ImageLimits(1 << 24, 1 << 24, 1 << 14)
CPU = torch.device("cpu")


@dataclass
class Stack:
    """Both halves without their servers, and the native model."""

    native: InternVLForConditionalGeneration
    config: ModelConfig
    encoder: VisualEncoder
    prompts: PromptBuilder
    generator: Generator
    store: EmbeddingStore

    def pixels(self, data: bytes) -> torch.Tensor:
        tiling = TilingOptions(self.config.max_tile_count, tile_size=self.config.tile_size)
        return normalize(cut(decode_image(data, LIMITS), tiling))

    async def stored(self, key: str, pixels: torch.Tensor, increment: Increment) -> Visual:
        """What the vision service makes of it."""
        rows = self.encoder(pixels)
        manifest = Manifest(rows.shape[1], rows.shape[2], "float32", (len(rows),))
        await self.store.put(
            key, manifest, [frame_tile(key, index, _raw(tile), manifest) for index, tile in enumerate(rows)]
        )
        return Visual(key, rows.shape[1], (len(rows),), is_clip=False, increment=increment)

    async def tokens(self, messages: list[Message]) -> list[int]:
        request = GenerationRequest("t", messages, SamplingParameters(seed=0), COUNT, [], [])
        async with aclosing(self.generator.generate(request)) as events:
            deltas = [event async for event in events if isinstance(event, Delta)]
        return [delta.token.token_id for delta in deltas if delta.token is not None]

    @torch.no_grad()
    def native_tokens(self, messages: list[Message], pixels: torch.Tensor) -> list[int]:
        prompt = self.prompts.build(messages)
        spans = [
            VisualSpan(placed.start, placed.frame.token_count, cast(int, placed.frame.visual.increment))
            for placed in prompt.frames
        ]
        ids, ticks = torch.tensor(prompt.token_ids), prompt_positions(len(prompt.token_ids), spans)
        tokens: list[int] = []
        while len(tokens) < COUNT:
            logits = self.native(
                input_ids=ids[None],
                pixel_values=pixels,
                attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
                position_ids=as_float(ticks)[None],
            ).logits[0, -1]
            tokens.append(int(logits.argmax()))
            ids = torch.cat([ids, torch.tensor(tokens[-1:])])
            ticks = torch.cat([ticks, torch.tensor([next_position(ticks)])])
        return tokens


CHECKPOINTS: list[tuple[Style, Layout, int]] = [
    ("300m", "original", 1),
    ("300m", "hf", 2),
    ("6b", "original", 3),
    ("6b", "hf", 1),
]


@pytest.fixture(params=CHECKPOINTS, ids=lambda case: f"{case[0]}-{case[1]}-{case[2]} file(s)")
async def stack(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stack]:
    style, layout, shards = request.param
    native = write_random_checkpoint(tmp_path, style=style, layout=layout, shards=shards)
    async with running(tmp_path, native) as stack:
        yield stack


@asynccontextmanager
async def running(tmp_path: Path, native: InternVLForConditionalGeneration) -> AsyncIterator[Stack]:
    """Both halves of the checkpoint in the folder, and transformers' model of it."""
    checkpoint, config = Checkpoint.from_folder(tmp_path), ModelConfig.from_folder(tmp_path)

    def quiet(loaded: int, total: int) -> None:
        assert 0 < loaded <= total

    encoder = load_visual_encoder(checkpoint, config, device=CPU, dtype=torch.float32, progress=quiet)
    model = load_language_model(checkpoint, config, Hardware.choose(CPU, dtype="float32"), progress=quiet)
    engine = TorchEngine(model, page_count=200, page_size=8, limits=SchedulerLimits(64, 8, 8))
    tokenizer = load_tokenizer(tmp_path)
    prompts = PromptBuilder(tokenizer, config.system_message)
    store = EmbeddingStore(MemoryStore(1 << 24), seconds=60)
    loader = EmbeddingLoader(store, hidden_size=config.hidden_size, max_message_bytes=1 << 20)
    window = Window(config.max_positions, default_max_tokens=64)
    generator = Generator(engine, prompts, tokenizer, loader, window)
    yield Stack(native, config, encoder, prompts, generator, store)
    engine.check()
    await engine.close()


async def test_visual_features(stack: Stack) -> None:
    pixels = stack.pixels(file_of(130, 60))
    with torch.no_grad():
        native = stack.native.get_image_features(pixels).pooler_output
    assert pixels.shape == (3, 3, 56, 56)
    torch.testing.assert_close(stack.encoder(pixels), native, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("increment", [256, 64, 1])
async def test_one_picture_and_a_second_turn(stack: Stack, increment: int) -> None:
    pixels = stack.pixels(file_of(130, 60))
    visual = await stack.stored("a" * 64, pixels, increment)
    messages = [Message(Role.USER, (visual, "What is this?"))]
    first = await stack.tokens(messages)
    assert first == stack.native_tokens(messages, pixels)
    messages += [Message(Role.ASSISTANT, ("hello",)), Message(Role.USER, ("And now?",))]
    assert await stack.tokens(messages) == stack.native_tokens(messages, pixels)


async def test_two_pictures_of_two_increments(stack: Stack) -> None:
    first, second = stack.pixels(file_of(130, 60)), stack.pixels(file_of(60, 60, seed=3))
    visuals = (await stack.stored("a" * 64, first, 128), await stack.stored("b" * 64, second, 16))
    messages = [Message(Role.USER, (*visuals, "Compare."))]
    assert await stack.tokens(messages) == stack.native_tokens(messages, torch.cat([first, second]))


async def test_text_alone(stack: Stack) -> None:
    messages = [Message(Role.SYSTEM, ("Be brief.",)), Message(Role.USER, ("hello",))]
    assert await stack.tokens(messages) == stack.native_tokens(messages, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("layout", ["original", "hf"])
async def test_a_checkpoint_that_stores_its_head_once(tmp_path: Path, layout: Layout) -> None:
    """As transformers writes small InternVL3.5 and any InternVLConfig that does not say otherwise: without lm_head."""
    native = write_random_checkpoint(tmp_path, layout=layout)
    native.lm_head.weight = native.get_input_embeddings().weight
    path = tmp_path / "model.safetensors"
    save_file({name: each for name, each in load_file(path).items() if not name.endswith("lm_head.weight")}, path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    async with running(tmp_path, native) as stack:
        messages = [Message(Role.USER, ("hello",))]
        assert await stack.tokens(messages) == stack.native_tokens(messages, None)  # type: ignore[arg-type]
