"""The demo model answers with nothing but transformers: greedy, the plain way, to check what servers say.

Pictures come as images and go through the vision service's own tiling; positions through the LLM service's.
"""

from collections.abc import Sequence

import torch
from PIL import Image
from transformers import InternVLForConditionalGeneration, PreTrainedTokenizerBase

from deploy.local.demo_model.drawing.marks import Drawing
from deploy.local.demo_model.drawing.tiles import tiled
from deploy.local.demo_model.model import SYSTEM_MESSAGE, TILING
from deploy.local.demo_model.talk import tokenizer as special
from deploy.local.demo_model.talk.examples import Picture, UserPart, Writer
from llm_service.positions import as_float, prompt_positions
from vision_service.pixels import normalize

MAX_ANSWER_TOKENS = 96


def image_parts(images: Sequence[Image.Image], increment: int) -> list[UserPart]:
    """What a first message shows before its question: one picture, or several with their numbers."""
    tiles = [tiled(Drawing(image.convert("RGB")), TILING) for image in images]
    pictures = [Picture(one.pixels, increment, one.labels) for one in tiles]
    if len(pictures) < 2:
        return [part for picture in pictures for part in (picture, "\n")]
    numbered = [(f"Image-{number}: ", picture, "\n") for number, picture in enumerate(pictures, start=1)]
    return [part for line in numbered for part in line]


def answers(
    model: InternVLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    images: Sequence[Image.Image],
    questions: Sequence[str],
    *,
    increment: int,
) -> list[str]:
    """The answer to each question of one conversation, pictures shown in the first; `increment` in ticks of 1/256."""
    parts = image_parts(images, increment)
    pictures = [part for part in parts if isinstance(part, Picture)]
    visual = _visual_tokens(model, pictures)
    writer = Writer(tokenizer)
    writer.start("system", SYSTEM_MESSAGE)
    writer.end()
    said: list[str] = []
    for index, question in enumerate(questions):
        writer.user([*parts, question] if index == 0 else [question])
        writer.start("assistant")
        said.append(_continue(model, writer, visual))
    return said


def _continue(model: InternVLForConditionalGeneration, writer: Writer, visual: torch.Tensor) -> str:
    """Write the likeliest answer, up to and including <|im_end|> and its line break."""
    end = writer.tokenizer.convert_tokens_to_ids(special.IM_END)
    start = len(writer.token_ids)
    while len(writer.token_ids) - start < MAX_ANSWER_TOKENS:
        token_id = _next_token(model, writer, visual)
        if token_id == end:
            break
        writer.token_ids.append(token_id)
    text = writer.tokenizer.decode(writer.token_ids[start:])
    assert isinstance(text, str)
    writer.end()
    return text


@torch.no_grad()
def _next_token(model: InternVLForConditionalGeneration, writer: Writer, visual: torch.Tensor) -> int:
    token_ids = torch.tensor([writer.token_ids])
    embeddings = model.get_input_embeddings()(token_ids)
    embeddings = embeddings.masked_scatter(
        (token_ids == model.config.image_token_id)[..., None], visual.to(embeddings.dtype)
    )
    positions = as_float(prompt_positions(len(writer.token_ids), writer.spans))[None]
    logits = model(inputs_embeds=embeddings, attention_mask=torch.ones_like(token_ids), position_ids=positions).logits
    return int(logits[0, -1].argmax())


@torch.no_grad()
def _visual_tokens(model: InternVLForConditionalGeneration, pictures: Sequence[Picture]) -> torch.Tensor:
    """(tokens of all pictures, D)"""
    if not pictures:
        return torch.empty(0)
    pixels = torch.cat([normalize(picture.tiles) for picture in pictures]).to(model.dtype)
    tokens = model.model.get_image_features(pixels).pooler_output
    assert isinstance(tokens, torch.Tensor)
    return tokens.flatten(0, 1)
