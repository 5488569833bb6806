"""Options of the one-machine stack."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.serving.settings import ServiceSettings

DEMO_MODEL = Path(__file__).parent / "demo_model" / "checkpoint"
DEMO_MODEL_NAME = "InternVL3-demo"


@dataclass(frozen=True)
class StackOptions:
    """A stack to start."""

    model: str = str(DEMO_MODEL)
    """Folder of an InternVL3 checkpoint, or its name on the model hub."""
    model_name: str = DEMO_MODEL_NAME
    """Name clients see; empty: the last part of `model`."""
    host: str = "127.0.0.1"
    """Address of the gateway; all else listens on loopback."""
    port: int = 50050
    """Port of the gateway; 0 = any."""
    http_port: int | None = None
    """Port of the gateway's OpenAI-compatible endpoint; None = there is none, 0 = any."""
    redis_url: str | None = None
    """A running Redis; None starts a private one."""
    log_folder: Path | None = None
    """Folder of `vision.log` and the others; None = a folder that goes when the stack does."""
    otlp_endpoint: str = ""
    """Address that traces are sent to; empty = none are made."""
    drain_seconds: float = 10.0
    """How long replies in flight may take when the stack is stopped."""
    key_file: Path | None = None
    """API keys of the gateway; None = every caller is the default tenant."""
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Further settings by service and name, as text: `{"llm": {"weights": "int8"}}`."""

    def environment(self, service: str) -> dict[str, str]:
        """The settings of a service as its environment variables."""
        own = {
            f"INTERNVL_{service.upper()}_{name.upper()}": value
            for name, value in self.settings.get(service, {}).items()
        }
        if service == "gateway" and self.key_file is not None:
            own["INTERNVL_GATEWAY_KEY_FILE"] = str(self.key_file)
        return own

    def flags(self, service: str) -> list[str]:
        """The settings of a service, with those that the launcher sets, as its flags: to check, not to run it with.

        Everyone on a machine sees the flags of a process, and settings may hold secrets.
        """
        own = dict(self.settings.get(service, {}))
        if service == "gateway":
            own |= {"key_file": str(self.key_file)} if self.key_file is not None else {}
        else:
            own |= {"model": self.model} | ({"redis_url": self.redis_url} if self.redis_url is not None else {})
        return [f"--{name.replace('_', '-')}={value}" for name, value in own.items()]

    def with_model(self, model: str) -> "StackOptions":
        """The same for another model, under its own name."""
        return replace(self, model=model, model_name="")


def settings_classes() -> dict[str, type["ServiceSettings"]]:
    """The class of each service's settings; they take a while to import."""
    from gateway.settings import GatewaySettings
    from llm_service.settings import LlmSettings
    from vision_service.settings import VisionSettings

    return {"vision": VisionSettings, "llm": LlmSettings, "gateway": GatewaySettings}
