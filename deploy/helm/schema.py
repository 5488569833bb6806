"""Writes the chart's values.schema.json: python -m deploy.helm.schema [--check]

Its shape is that of values.yaml; the settings below each service are those of the service's own class, less those that
the chart sets itself. A value that is not in values.yaml, or a setting that no service has, is refused by Helm.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from gateway.settings import GatewaySettings
from llm_service.settings import LlmSettings
from shared.serving.settings import ServiceSettings
from vision_service.settings import VisionSettings

CHART = Path(__file__).parent / "internvl"
SETTINGS: dict[str, type[ServiceSettings]] = {"vision": VisionSettings, "llm": LlmSettings, "gateway": GatewaySettings}
SET_BY_THE_CHART = frozenset(
    (
        "host", "port", "metrics_port", "http_port", "log_level", "otlp_endpoint", "drain_seconds", "model",
        "model_name", "revision", "redis_url", "device", "advertised_host", "tls_certificate", "tls_key",
        "tls_client_ca", "peer_ca", "peer_certificate", "peer_key", "peer_name", "key_file", "vision_address",
        "llm_address", "engine", "tensor_parallel", "pipeline_parallel",
    )
)  # fmt: skip
_OPEN = frozenset(("resources", "nodeSelector", "affinity", "podAnnotations", "annotations", "labels", "metricsFrom"))
"""Objects of Kubernetes' own, which it checks itself."""
_CHOICES = {
    "engine": ["torch", "vllm"],
    "pullPolicy": ["Always", "IfNotPresent", "Never"],
    "type": ["ClusterIP", "LoadBalancer", "NodePort"],
    "logLevel": ["debug", "info", "warning", "error"],
}


def schema() -> dict[str, Any]:
    """Schema of the whole values."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    found = _object(values, ())
    found["properties"]["global"] = {"type": "object"}  # Helm's own
    return {"$schema": "http://json-schema.org/draft-07/schema#", **found}


def _object(values: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    properties = {name: _value(name, value, (*path, name)) for name, value in values.items()}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _value(name: str, value: Any, path: tuple[str, ...]) -> dict[str, Any]:
    if name == "settings":
        return _settings(SETTINGS[path[0]])
    if name in _OPEN:
        return {"type": "object"}
    if name in _CHOICES:
        return {"enum": _CHOICES[name]}
    match value:
        case dict():
            return _object(value, path)
        case list():
            return {"type": "array", "items": {"type": "object"}}
        case bool():
            return {"type": "boolean"}
        case int() | float():
            return {"type": "number" if name in ("kvUse", "queueWaitSeconds") else "integer", "minimum": 0}
        case _:
            return {"type": "string"}


def _settings(settings: type[ServiceSettings]) -> dict[str, Any]:
    fields = settings.model_json_schema()
    properties = {
        name: {key: value for key, value in field.items() if key in ("type", "enum", "anyOf", "description", "minimum")}
        for name, field in fields["properties"].items()
        if name not in SET_BY_THE_CHART
    }
    return {"type": "object", "additionalProperties": False, "properties": properties}


def main() -> None:
    path = CHART / "values.schema.json"
    text = json.dumps(schema(), indent=2) + "\n"
    if "--check" in sys.argv[1:]:
        sys.exit(0 if path.read_text() == text else f"{path} is not what deploy.helm.schema writes")
    path.write_text(text)


if __name__ == "__main__":
    main()
