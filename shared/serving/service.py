"""How a service process begins: settings, logging, and one clear line when it cannot serve."""

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine
from typing import TypeVar

from shared.serving.settings import ServiceSettings
from shared.serving.telemetry import configure_logging

log = logging.getLogger(__name__)
Settings = TypeVar("Settings", bound=ServiceSettings)


def run_service(settings_class: type[Settings], serve: Callable[[Settings], Coroutine[None, None, None]]) -> None:
    """Runs `serve` until it returns. Exits with 2 when the settings or what they name are not usable."""
    try:
        settings = settings_class.from_command_line()
    except ValueError as error:
        sys.stderr.write(f"internvl-{settings_class.service}: {error}\n")
        sys.exit(2)
    configure_logging(settings.service, settings.log_level)
    try:
        asyncio.run(serve(settings))
    except (ValueError, OSError, RuntimeError) as error:
        log.critical("cannot serve", extra={"cause": str(error)})
        sys.exit(2)
