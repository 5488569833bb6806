"""Identity of a model service's checkpoint, in the form that the gateway compares."""

from internvl.common.v1 import visual_pb2
from shared.checkpoint.config import ModelConfig
from shared.checkpoint.weights import Checkpoint
from shared.serving.settings import ModelSettings


def model_info(settings: ModelSettings, checkpoint: Checkpoint, config: ModelConfig) -> visual_pb2.ModelInfo:
    """Reads the projector's weights for the fingerprint."""
    return visual_pb2.ModelInfo(
        model=settings.public_model_name,
        revision=settings.revision,
        fingerprint=checkpoint.pairing_fingerprint(),
        hidden_size=config.hidden_size,
        tokens_per_tile=config.tokens_per_tile,
        max_tile_count=config.max_tile_count,
        max_positions=config.max_positions,
    )
