"""A reply that outlives the replica it began on. Pure: its tokens so far, and the request that resumes it.

Every event of a reply carries its tokens, and sampling depends on the seed and the token's index only; so another
replica that is given the seed and the tokens continues with the next one, and with the text that was not certain yet.
"""

from internvl.llm.v1 import llm_pb2


class Reply:
    """One reply over any number of calls."""

    def __init__(self, request: llm_pb2.GenerateRequest) -> None:
        self._request = request
        self._token_ids: list[int] = []
        self._seed: int | None = None
        self._tail: llm_pb2.GenerateResponse | None = None

    @property
    def token_count(self) -> int:
        """Tokens that are there."""
        return len(self._token_ids)

    @property
    def request(self) -> llm_pb2.GenerateRequest:
        """The request for the rest."""
        if self._seed is None:
            return self._request
        request = llm_pb2.GenerateRequest()
        request.CopyFrom(self._request)
        request.sampling.seed = self._seed
        request.resume_token_ids.extend(self._token_ids)
        return request

    def replace(self, request: llm_pb2.GenerateRequest) -> None:
        """The same conversation with other embedding references: what is there of the reply stays."""
        self._request = request

    def restart(self) -> None:
        """Forgets what a broken call left unfinished."""
        self._tail = None

    def take(self, event: llm_pb2.GenerateResponse) -> list[llm_pb2.GenerateResponse]:
        """The events to hand on: Started once, and text that no token stands for only with the end that follows it.

        Such text is what was held back when the reply ended; another replica would send it again.
        """
        kind = event.WhichOneof("event")
        if kind == "started":
            is_first, self._seed = self._seed is None, event.started.seed
            return [event] if is_first else []
        if kind == "delta":
            if not event.delta.token_ids:
                self._tail = event
                return []
            self._token_ids.extend(event.delta.token_ids)
            return [event]
        return [event] if self._tail is None else [self._tail, event]
