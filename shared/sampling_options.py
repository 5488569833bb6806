"""The ranges of SamplingOptions, which both the gateway and the LLM service hold requests to."""

import math
from dataclasses import dataclass

from internvl.common.v1 import sampling_pb2
from internvl.errors import BadOption

MAX_STOP_COUNT = 16
MAX_STOP_CHARS = 256
MAX_BIAS_COUNT = 1024
MAX_STOP_TOKEN_COUNT = 64
_LARGE = 1 << 30


@dataclass(frozen=True)
class _Range:
    low: float
    high: float
    low_excluded: bool = False

    def __contains__(self, value: float) -> bool:
        return math.isfinite(value) and self.low <= value <= self.high and not (self.low_excluded and value == self.low)

    def __str__(self) -> str:
        return f"{'(' if self.low_excluded else '['}{self.low:.12g}, {self.high:.12g}]"


_RANGES = {
    "max_tokens": _Range(1, _LARGE),
    "temperature": _Range(0, 100),
    "top_p": _Range(0, 1, low_excluded=True),
    "top_k": _Range(0, _LARGE),
    "min_p": _Range(0, 1),
    "repetition_penalty": _Range(0, 100, low_excluded=True),
    "presence_penalty": _Range(-100, 100),
    "frequency_penalty": _Range(-100, 100),
    "top_logprob_count": _Range(0, 20),
    "min_tokens": _Range(0, _LARGE),
}
_BIAS = _Range(-100, 100)


def check_sampling(options: sampling_pb2.SamplingOptions) -> None:
    """Raises BadOption that names the field, `sampling.temperature` for instance."""
    for descriptor, value in options.ListFields():
        allowed = _RANGES.get(descriptor.name)
        if allowed is not None and value not in allowed:
            raise BadOption(
                f"{descriptor.name} must be in {allowed}, got {value:.12g}", field=f"sampling.{descriptor.name}"
            )
    if len(options.stop) > MAX_STOP_COUNT or not all(1 <= len(text) <= MAX_STOP_CHARS for text in options.stop):
        raise BadOption(
            f"stop takes at most {MAX_STOP_COUNT} strings of 1 to {MAX_STOP_CHARS} characters", field="sampling.stop"
        )
    if len(options.stop_token_ids) > MAX_STOP_TOKEN_COUNT:
        raise BadOption(f"stop_token_ids takes at most {MAX_STOP_TOKEN_COUNT} ids", field="sampling.stop_token_ids")
    if len(options.logit_bias) > MAX_BIAS_COUNT or not all(bias in _BIAS for bias in options.logit_bias.values()):
        message = f"logit_bias takes at most {MAX_BIAS_COUNT} tokens, each with a bias in {_BIAS}"
        raise BadOption(message, field="sampling.logit_bias")
    if options.HasField("max_tokens") and options.min_tokens > options.max_tokens:
        raise BadOption(f"min_tokens must be at most max_tokens = {options.max_tokens}", field="sampling.min_tokens")
