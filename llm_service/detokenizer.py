"""Token ids to text that never splits a character: step 10 of the data's path.

What a chat returns is trimmed, and ends before the first stop string; so besides incomplete characters the stream holds
back white space at the end, and anything that may yet become a stop string. `<ref>`, `<box>` and `<quad>` stay in. A
reply that is held to a form is not trimmed.
"""

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

_PRINTABLE = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
_BYTE_OF: dict[str, int] = {chr(byte): byte for byte in _PRINTABLE}
_BYTE_OF.update({chr(256 + index): byte for index, byte in enumerate(_OTHERS)})
"""Byte-level vocabularies write each byte as one printable character: itself, or one from 256 on."""


class Detokenizer:
    """Text of one reply. Feed tokens with `add`; `finish` gives what was held back."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop: Sequence[str] = (),
        *,
        is_trimmed: bool = True,
        includes_stop: bool = False,
        min_tokens: int = 0,
    ) -> None:
        """`includes_stop`: the text ends after the stop string. `min_tokens`: no stop string is met before so many."""
        self._tokenizer = tokenizer
        self._is_trimmed = is_trimmed
        self._includes_stop = includes_stop
        self._unstopped_count = min_tokens
        """Tokens to come in which no stop string is looked for."""
        self._stream = DecodeStream(skip_special_tokens=False)
        self._undecoded: list[int] = []
        """Tokens whose characters are not complete yet."""
        self._stop = [text for text in stop if text]
        self._held = ""
        self._has_begun = False
        self.is_stopped = False
        """Whether a stop string was met: no more text will come."""

    def add(self, token_id: int) -> str:
        """Text that has become certain; often empty, never half a character."""
        self._undecoded.append(token_id)
        self._unstopped_count -= 1
        text = self._stream.step(self._tokenizer, token_id)
        if text is None:
            return ""
        self._undecoded.clear()
        return self._take(text)

    def finish(self) -> str:
        """Text that was held back and belongs to the reply: no white space, no incomplete character."""
        if self._undecoded:
            text = self._tokenizer.decode(self._undecoded, skip_special_tokens=False)
            self._held += text.rstrip("\ufffd")
        return self._take("", is_last=True)

    def _take(self, text: str, *, is_last: bool = False) -> str:
        if self.is_stopped:  # tokens after a stop string, in one that ended inside a token
            return ""
        self._held += text
        if self._is_trimmed and not self._has_begun:  # white space before the first word is not part of a reply
            self._held = self._held.lstrip()
        # A stop string ends the text before itself; else a part of one at the end is held, and so is white space there,
        # which is part of the reply only if a word follows.
        end = self._stop_place() if self._unstopped_count < 0 else None
        if end is not None:
            self.is_stopped = is_last = True
            self._held = self._held[:end]
        certain = len(self._held) if is_last else len(self._held) - self._possible_stop_length()
        if self._is_trimmed:
            certain = len(self._held[:certain].rstrip())
        text, self._held = self._held[:certain], "" if is_last else self._held[certain:]
        self._has_begun = self._has_begun or bool(text)
        return text

    def _stop_place(self) -> int | None:
        """Where the text ends: before the stop string that begins first, or after it."""
        found = [(start, len(stop)) for stop in self._stop if (start := self._held.find(stop)) >= 0]
        if not found:
            return None
        start, length = min(found)
        return start + length if self._includes_stop else start

    def _possible_stop_length(self) -> int:
        """Length of the longest end of the held text that a stop string begins with."""
        longest = 0
        for stop in self._stop:
            for length in range(min(len(stop) - 1, len(self._held)), longest, -1):
                if self._held.endswith(stop[:length]):
                    longest = length
                    break
        return longest


def token_bytes(tokenizer: Tokenizer, token_id: int) -> bytes:
    """The bytes a token stands for, which need not be whole characters."""
    piece = tokenizer.id_to_token(token_id) or ""
    if all(character in _BYTE_OF for character in piece):
        return bytes(_BYTE_OF[character] for character in piece)
    return piece.encode()
