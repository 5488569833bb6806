"""Loaded by vLLM into each of its processes, by the entry point `vllm.general_plugins`."""

ARCHITECTURE = "InternvlDecoder"


def register() -> None:
    """Tells vLLM of the model. Loads neither it nor torch."""
    from vllm import ModelRegistry  # nothing but vLLM calls this

    ModelRegistry.register_model(ARCHITECTURE, "llm_service.engine.vllm.model:InternvlDecoder")
