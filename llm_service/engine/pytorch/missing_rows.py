"""Visual rows that a request still lacks: neither computed nor loaded."""

from llm_service.engine.pytorch.request import Request
from llm_service.engine.rows import load_rows


async def load_missing_rows(request: Request) -> None:
    """Loads the rows of every visual token that is neither computed nor loaded, all images at once."""
    visuals = request.spec.visuals
    wanted = {
        index: max(request.computed_count - visuals[index].span.start, 0)
        for index in range(len(visuals))
        if _is_missing(request, index)
    }
    loaded = await load_rows([(visuals[index], first) for index, first in wanted.items()])
    for (index, first), rows in zip(wanted.items(), loaded, strict=True):
        assert rows.shape[0] == visuals[index].span.token_count - first
        request.rows[index] = (first, rows)


def _is_missing(request: Request, index: int) -> bool:
    span = request.spec.visuals[index].span
    first_needed = max(request.computed_count - span.start, 0)
    first_loaded = request.rows[index][0] if index in request.rows else span.token_count
    return first_needed < first_loaded
