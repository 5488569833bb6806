"""Flags over environment over defaults, and nothing unknown."""

from typing import ClassVar

import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsConfigDict

from shared.serving.settings import ModelSettings, ServiceSettings


class GatewayLike(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="INTERNVL_GATEWAY_")
    service: ClassVar[str] = "gateway"
    port: int = 50050


class VisionLike(ModelSettings):
    model_config = SettingsConfigDict(env_prefix="INTERNVL_VISION_")
    service: ClassVar[str] = "vision"
    port: int = 50051


def test_defaults() -> None:
    settings = GatewayLike.from_command_line([])
    assert (settings.host, settings.port) == ("127.0.0.1", 50050)


def test_the_environment_is_over_the_default_and_flags_over_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERNVL_GATEWAY_PORT", "1")
    monkeypatch.setenv("INTERNVL_GATEWAY_DRAIN_SECONDS", "2.5")
    settings = GatewayLike.from_command_line(["--port", "3"])
    assert (settings.port, settings.drain_seconds) == (3, 2.5)


@pytest.mark.parametrize("name", ["INTERNVL_GATEWAY_PROT", "INTERNVL_GATWAY_PORT", "INTERNVL_PORT"])
def test_an_unknown_variable_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(ValueError, match=name):
        GatewayLike.from_command_line([])


def test_variables_of_the_other_services_are_not_ours_to_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERNVL_VISION_MODEL", "x")
    monkeypatch.setenv("INTERNVL_CLI_ADDRESS", "x")
    GatewayLike.from_command_line([])


def test_an_unknown_flag_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        GatewayLike.from_command_line(["--prot", "1"])
    assert caught.value.code == 2
    assert "--prot" in capsys.readouterr().err


def test_settings_do_not_change() -> None:
    settings = GatewayLike.from_command_line([])
    with pytest.raises(ValidationError):
        settings.port = 1


@pytest.mark.parametrize(
    "flags", [["--tls-certificate", "a.pem"], ["--tls-key", "a.pem"], ["--tls-client-ca", "a.pem"]]
)
def test_half_a_tls_configuration_is_refused(flags: list[str]) -> None:
    with pytest.raises(ValueError, match="tls_"):
        GatewayLike.from_command_line(flags)


def test_the_redis_password_is_not_shown() -> None:
    settings = VisionLike.from_command_line(["--model", "/models/InternVL3-1B", "--redis-url", "redis://:secret@h/0"])
    assert "secret" not in repr(settings)
    assert settings.redis_url.get_secret_value() == "redis://:secret@h/0"


def test_the_public_name_is_the_last_part_of_the_model() -> None:
    assert VisionLike.from_command_line(["--model", "OpenGVLab/InternVL3-1B"]).public_model_name == "InternVL3-1B"
    named = VisionLike.from_command_line(["--model", "/a/b", "--model-name", "mine"])
    assert named.public_model_name == "mine"
