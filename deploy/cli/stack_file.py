"""Settings of the services for `internvl up`: `SERVICE.NAME=VALUE`, and TOML files of the same.

model = "OpenGVLab/InternVL3-1B"       # as --model
http_port = 0

[llm]                                  # as internvl-llm --help lists them
weights = "int8"
"""

import difflib
import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from deploy.local.options import settings_classes

Settings = dict[str, dict[str, str]]
"""Settings by service and name, as text."""
OPTIONS = ("model", "host", "port", "http_port", "redis_url", "log_folder", "key_file", "vllm")
_PATHS = ("log_folder", "key_file", "vllm")
_PORTS = ("port", "http_port")
_OWN = {"model", "model_name", "host", "port", "http_port", "redis_url", "key_file", "vision_address", "llm_address"}
"""Settings that the launcher sets itself, from its options."""


def read_settings(lines: Iterable[str]) -> Settings:
    """Settings of `SERVICE.NAME=VALUE`. Raises ValueError for one that no service has."""
    found: Settings = {}
    for line in lines:
        place, equals, value = line.partition("=")
        service, dot, name = place.strip().partition(".")
        if not (equals and dot):
            raise ValueError(f"{line!r} is not SERVICE.NAME=VALUE, such as llm.weights=int8")
        found.setdefault(service, {})[_checked(service, name)] = value
    return found


def read_stack_file(path: Path) -> tuple[dict[str, Any], Settings]:
    """Options of `internvl up`, and settings. Raises ValueError that names the file and the key at fault."""
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not TOML: {error}") from None
    options: dict[str, Any] = {}
    settings: Settings = {}
    try:
        for name, value in content.items():
            if isinstance(value, Mapping):
                settings[name] = {_checked(name, each): _text(given) for each, given in value.items()}
            else:
                options[name] = _option(name, value)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return options, settings


def _option(name: str, value: object) -> object:
    """The value of an option of `internvl up`. Raises ValueError for an unknown name and for another type."""
    if name not in OPTIONS:
        raise ValueError(f"unknown option {name}{_near(name, OPTIONS)}")
    wanted = int if name in _PORTS else str
    if type(value) is not wanted:
        raise ValueError(f"{name} must be {'a number' if wanted is int else 'a string'}, got {value!r}")
    return Path(str(value)).expanduser() if name in _PATHS else value


def _checked(service: str, name: str) -> str:
    """The name of a setting as its class spells it. Raises ValueError with the nearest name there is."""
    classes = settings_classes()
    if service not in classes:
        raise ValueError(f"unknown service {service}: one of {', '.join(classes)}")
    name = name.strip().replace("-", "_")
    if name in _OWN:
        raise ValueError(f"{service}.{name} is set by `internvl up` itself: use its own option")
    known = classes[service].model_fields
    if name not in known:
        raise ValueError(f"the {service} service has no setting {name}{_near(name, known)}")
    return name


def _near(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(names), 1)
    return f"; did you mean {near[0]}?" if near else ""


def _text(value: object) -> str:
    """A value as an environment variable holds it."""
    return value if isinstance(value, str) else json.dumps(value)
