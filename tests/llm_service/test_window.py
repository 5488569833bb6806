"""Fitting a prompt into the window: increments, reply length, refusals."""

import pytest

from internvl.errors import PromptTooLong
from llm_service.conversation import Auto, Increment, Visual
from llm_service.prompt import Frame, PlacedFrame, Prompt
from llm_service.window import Fit, Window

WINDOW = Window(trained=1000, default_max_tokens=100)
STRETCHED = Window(trained=1000, default_max_tokens=100, stretched=3000)


def prompt_of(text_count: int, *visuals: Visual) -> Prompt:
    """A prompt with its frames at the end."""
    placed, start = [], text_count
    for visual in visuals:
        placed.append(PlacedFrame(Frame(visual, 0, visual.tile_count), start))
        start += visual.token_count
    return Prompt([0] * start, tuple(placed))


def picture(tile_count: int, increment: Increment, key: str = "k") -> Visual:
    return Visual(key * 64, 256, (tile_count,), is_clip=False, increment=increment)


@pytest.mark.parametrize(
    ("tile_count", "max_tokens", "wanted"),
    [(1, 100, 256), (3, 100, 256), (4, 100, 128), (13, 100, 32), (13, 875, 1), (100, 100, 8), (255, 600, 1)],
)
def test_auto_is_the_largest_increment_that_fits(tile_count: int, max_tokens: int, wanted: int) -> None:
    visual = picture(tile_count, Auto.AUTO)
    fitted = WINDOW.fit(prompt_of(100, visual), [visual], max_tokens)
    assert fitted.increments == {visual: wanted}
    used = 100 + -(-tile_count * 256 * wanted // 256)
    assert used + max_tokens <= WINDOW.trained
    assert wanted == 256 or 100 + tile_count * 256 * 2 * wanted // 256 + max_tokens > WINDOW.trained


def test_auto_leaves_named_increments_alone() -> None:
    named, auto = picture(2, 256, "a"), picture(2, Auto.AUTO, "b")
    fitted = WINDOW.fit(prompt_of(100, named, auto), [named, auto], 100)
    assert fitted.increments == {named: 256, auto: 128}


def test_a_reply_without_a_limit_takes_the_default_or_what_is_left() -> None:
    assert WINDOW.fit(prompt_of(100), [], None).max_tokens == 100
    assert WINDOW.fit(prompt_of(950), [], None).max_tokens == 50


@pytest.mark.parametrize(("text_count", "max_tokens"), [(1000, None), (950, 51), (2000, 1)])
def test_too_long_is_refused_with_the_numbers(text_count: int, max_tokens: int | None) -> None:
    with pytest.raises(PromptTooLong, match=f"takes {text_count} positions .* window has 1000"):
        WINDOW.fit(prompt_of(text_count), [], max_tokens)


def test_even_auto_has_an_end() -> None:
    visual = picture(900, Auto.AUTO)
    with pytest.raises(PromptTooLong):
        WINDOW.fit(prompt_of(100, visual), [visual], 100)


def test_dynamic_ntk_takes_a_request_past_the_window_where_the_operator_allows_it() -> None:
    assert STRETCHED.fit(prompt_of(1500), [], 200) == Fit({}, 200, ntk_length=1500)
    assert STRETCHED.fit(prompt_of(2950), [], None) == Fit({}, 50, ntk_length=2950)
    with pytest.raises(PromptTooLong, match="window has 3000"):
        STRETCHED.fit(prompt_of(2950), [], 51)


@pytest.mark.parametrize(("text_count", "length"), [(900, 0), (999, 0), (1000, 0), (1001, 1001), (2000, 2000)])
@pytest.mark.parametrize("max_tokens", [1, 50, 500, 1000])
def test_the_rotation_is_stretched_for_the_prompt_whatever_its_reply_may_take(
    text_count: int, length: int, max_tokens: int
) -> None:
    assert STRETCHED.fit(prompt_of(text_count), [], max_tokens).ntk_length == length


def test_a_reply_without_a_limit_stays_inside_the_window_if_its_prompt_does() -> None:
    assert STRETCHED.fit(prompt_of(950), [], None) == Fit({}, 50)


def test_v2pe_switches_dynamic_ntk_off() -> None:
    whole, half = picture(6, 256), picture(12, 128)
    assert STRETCHED.fit(prompt_of(100, whole), [whole], 100).ntk_length == 100 + 6 * 256
    with pytest.raises(PromptTooLong, match="window has 1000"):
        STRETCHED.fit(prompt_of(100, half), [half], 100)


@pytest.mark.parametrize(
    ("tile_count", "increment", "is_refused"),
    [
        (3, 256, False),
        (4, 256, True),
        (1000, 1, False),
        (1001, 1, True),
        (1000, Auto.AUTO, False),
        (1001, Auto.AUTO, True),
    ],
)
def test_pictures_that_can_never_fit_are_refused_before_they_are_laid_out(
    tile_count: int, increment: Increment, is_refused: bool
) -> None:
    visuals = [picture(tile_count, increment)]
    if not is_refused:
        WINDOW.refuse_visuals(visuals)
        return
    with pytest.raises(PromptTooLong, match="the window has 1000"):
        WINDOW.refuse_visuals(visuals)


@pytest.mark.parametrize(("counts", "wanted"), [((1, 1), 1), ((3, 1), 2), ((3, 3), 3)])
def test_a_combined_image_is_rounded_up_once(counts: tuple[int, int], wanted: int) -> None:
    """In units of half a position, a token a tile."""
    first, second = (
        Visual(key * 64, 1, (count,), is_clip=False, increment=128) for key, count in zip("ab", counts, strict=True)
    )
    frames = (Frame(first, 0, counts[0], closes=False), Frame(second, 0, counts[1], opens=False))
    prompt = Prompt([0] * (10 + sum(counts)), (PlacedFrame(frames[0], 5), PlacedFrame(frames[1], 5 + counts[0])))
    window = Window(trained=10 + wanted + 1, default_max_tokens=1)
    assert window.fit(prompt, [first, second], 1).max_tokens == 1
    with pytest.raises(PromptTooLong, match=f"takes {10 + wanted} positions"):
        window.fit(prompt, [first, second], 2)
