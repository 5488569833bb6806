"""The Dockerfile and the compose file name what the code has, and keep what they promise."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.settings import GatewaySettings
from llm_service.settings import LlmSettings
from shared.serving.settings import ServiceSettings
from vision_service.settings import VisionSettings

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy/docker/Dockerfile"
SETTINGS: dict[str, type[ServiceSettings]] = {"vision": VisionSettings, "llm": LlmSettings, "gateway": GatewaySettings}
COMMANDS = {"vision": "internvl-vision", "llm": "internvl-llm", "gateway": "internvl-gateway"}
METRICS_PORT = 9090


def stages() -> dict[str, list[tuple[str, str]]]:
    """Instructions and their arguments by stage, what a stage inherits included."""
    found: dict[str, list[tuple[str, str]]] = {}
    current: list[tuple[str, str]] = []
    text = re.sub(r"\\\n\s*", " ", re.sub(r"(?m)^#.*\n", "", DOCKERFILE.read_text()))
    for line in filter(None, text.splitlines()):
        instruction, _, arguments = line.partition(" ")
        if instruction == "FROM":
            base, _, name = arguments.partition(" AS ")
            current = found[name] = list(found.get(base, []))
        current.append((instruction, arguments))
    return found


def arguments(stage: str, instruction: str) -> list[str]:
    return [text for name, text in stages()[stage] if name == instruction]


def variables(stage: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for text in arguments(stage, "ENV") for pair in text.split())


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())
    return found


def settings_variables(service: str) -> dict[str, str]:
    """Variable to the name of its field."""
    settings = SETTINGS[service]
    return {f"{settings.model_config['env_prefix']}{name.upper()}": name for name in settings.model_fields}


def compose_variables() -> Iterator[tuple[str, str]]:
    for name, service in compose()["services"].items():
        yield from ((name, variable) for variable in service.get("environment", {}))


def test_hadolint_has_nothing_to_say() -> None:
    command = [
        str(Path(sys.executable).with_name("hadolint")),
        "--config", str(DOCKERFILE.with_name(".hadolint.yaml")), str(DOCKERFILE),
    ]  # fmt: skip
    finished = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (finished.returncode, finished.stdout) == (0, "")


def test_install_steps_are_a_valid_script_and_all_of_them_exist() -> None:
    script = ROOT / "deploy/docker/install.sh"
    subprocess.run(["sh", "-n", str(script)], check=True, timeout=10)
    known = set(re.findall(r"(?m)^(\w+)\)$", script.read_text()))
    used = set(re.findall(r"sh install\.sh (\w+)", DOCKERFILE.read_text()))
    assert used == known
    finished = subprocess.run(["sh", str(script), "nonsense"], capture_output=True, text=True, timeout=10, check=False)
    assert (finished.returncode, finished.stderr) == (2, "error: unknown step nonsense\n")


@pytest.mark.parametrize("service", SETTINGS)
def test_an_image_runs_its_own_service_unprivileged_and_without_a_compiler(service: str) -> None:
    assert arguments(service, "ENTRYPOINT") == [f'["{COMMANDS[service]}"]']
    assert arguments(service, "USER") == ["10001:10001"]
    installed = " ".join(arguments(service, "RUN"))
    assert not {"gcc", "g++", "python3-dev"} & set(installed.split())
    assert arguments(service, "COPY") == [f"--from=build-{service} /opt/internvl /opt/internvl"]
    assert ("/models" in arguments(service, "VOLUME")) == (service != "gateway")


@pytest.mark.parametrize("service", SETTINGS)
def test_an_image_listens_where_it_says(service: str) -> None:
    settings = SETTINGS[service]
    prefix = str(settings.model_config["env_prefix"])
    port = settings.model_fields["port"].default
    own = {name: value for name, value in variables(service).items() if name.startswith("INTERNVL_")}
    assert own == {f"{prefix}HOST": "0.0.0.0", f"{prefix}METRICS_PORT": str(METRICS_PORT)}
    assert own.keys() <= settings_variables(service).keys()
    assert arguments(service, "EXPOSE") == [f"{port} {METRICS_PORT}"]
    assert arguments(service, "HEALTHCHECK")[0].endswith(f'CMD ["internvl", "health", "127.0.0.1:{port}"]')


def test_the_project_says_what_each_image_needs() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    for service in SETTINGS:
        assert any(f"install.sh lock {service}" in text for text in arguments(f"build-{service}", "RUN"))
        assert re.search(rf"(?m)^{service} = \[$", project)
        assert re.search(rf"(?m)^{COMMANDS[service]} = ", project)


def test_both_distributions_are_installed_and_the_client_is_asked_of_no_index() -> None:
    script = (ROOT / "deploy/docker/install.sh").read_text()
    assert "install --no-deps ./clients/python .\n" in script
    assert "printf 'internvl-client\\n' | install --excludes -" in script
    assert re.findall(r"--requirements (\S*pyproject\.toml)", script) == [
        "pyproject.toml",
        "clients/python/pyproject.toml",
    ]
    assert "clients/python/pyproject.toml clients/python/" in arguments("build", "COPY")


def test_what_is_copied_into_the_build_is_there_and_not_ignored() -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert all((ROOT / name).exists() for name in kept)
    (copied,) = [text for text in arguments("build", "COPY") if text.endswith(" ./")]
    assert set(copied.split()[:-1]) <= set(kept)
    packages = re.search(r"only-include = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL)
    assert packages is not None
    assert set(re.findall(r'"(.+?)"', packages[1])) <= set(kept)


@pytest.mark.parametrize(("service", "variable"), list(compose_variables()))
def test_compose_sets_only_what_the_service_reads(service: str, variable: str) -> None:
    assert variable in settings_variables(service)


@pytest.mark.parametrize("service", SETTINGS)
def test_compose_builds_an_image_and_confines_it(service: str) -> None:
    found = compose()["services"][service]
    assert found["build"]["target"] == service in stages()
    assert (ROOT / "deploy" / found["build"]["context"] / found["build"]["dockerfile"]).samefile(DOCKERFILE)
    assert found["read_only"] is True
    assert found["tmpfs"] == ["/tmp"]
    assert found["cap_drop"] == ["ALL"]
    drain_seconds = SETTINGS[service].model_fields["drain_seconds"].default
    assert int(found["stop_grace_period"].removesuffix("s")) > drain_seconds


def test_compose_lets_out_the_gateway_alone() -> None:
    services, networks = compose()["services"], compose()["networks"]
    assert [name for name, service in services.items() if "ports" in service] == ["gateway"]
    public = {name for name, network in networks.items() if not (network or {}).get("internal")}
    assert {name for name, service in services.items() if public & set(service["networks"])} == {"gateway"}
    assert "stores" not in services["gateway"]["networks"]
    assert services["gateway"]["ports"][0].endswith(f":{GatewaySettings.model_fields['port'].default}")


def test_compose_addresses_are_services_on_their_ports() -> None:
    environment = compose()["services"]["gateway"]["environment"]
    for service in ("vision", "llm"):
        port = SETTINGS[service].model_fields["port"].default
        assert environment[f"INTERNVL_GATEWAY_{service.upper()}_ADDRESS"] == f"dns:///{service}:{port}"
