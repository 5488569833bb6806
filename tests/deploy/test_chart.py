"""The chart as Helm renders it: valid for Kubernetes, and every name in it exists in the code."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer
import yaml
from prometheus_client import Metric

from deploy.helm.schema import schema
from gateway.metrics import GatewayCollector
from gateway.settings import GatewaySettings
from internvl import errors
from internvl.cli.main import app
from llm_service.engine.interface import EngineStatus
from llm_service.metrics import EngineCollector
from llm_service.settings import LlmSettings
from shared.serving.metrics import REGISTRY
from shared.serving.rpc import LIVENESS
from shared.serving.settings import ServiceSettings
from vision_service.encoder_status import EncoderStatus
from vision_service.metrics import EncoderCollector
from vision_service.settings import VisionSettings

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/internvl"
EXAMPLES = sorted(path.stem for path in (CHART / "examples").glob("*.yaml"))
SETTINGS: dict[str, type[ServiceSettings]] = {"vision": VisionSettings, "llm": LlmSettings, "gateway": GatewaySettings}
KUBERNETES = ("1.25", "1.33")
NOT_KUBERNETES_OWN = ("keda.sh/", "monitoring.coreos.com/")
OF_THE_SCRAPE = {"namespace", "release", "component", "pod", "le"}
"""Labels that Prometheus adds."""
Object = dict[str, Any]


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    own = Path(sys.executable).with_name("helm")
    program = str(own) if own.exists() else shutil.which("helm")
    assert program, "helm is neither in the environment nor on PATH"
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)


@cache
def rendered(example: str) -> tuple[Object, ...]:
    done = helm("template", "chat", str(CHART), "--namespace", "ai", "-f", str(CHART / f"examples/{example}.yaml"))
    assert done.returncode == 0, done.stderr
    return tuple(each for each in yaml.safe_load_all(done.stdout) if each is not None)


def of_kind(example: str, kind: str) -> list[Object]:
    return [each for each in rendered(example) if each["kind"] == kind]


def pods(example: str) -> Iterator[tuple[str, Object]]:
    """Component and pod of each deployment."""
    for deployment in of_kind(example, "Deployment"):
        template = deployment["spec"]["template"]
        yield template["metadata"]["labels"]["app.kubernetes.io/component"], template


def services(example: str) -> Iterator[tuple[str, Object, Object]]:
    """Component, pod's spec and container of the three services."""
    for component, pod in pods(example):
        if component in SETTINGS:
            (container,) = pod["spec"]["containers"]
            yield component, pod["spec"], container


def environment(container: Object) -> dict[str, str]:
    """Variables; those that are read from elsewhere with a value that could stand there."""
    return {each["name"]: each.get("value", "redis://elsewhere:6379/0") for each in container["env"]}


@pytest.mark.parametrize("example", EXAMPLES)
def test_lint_has_nothing_to_say(example: str) -> None:
    done = helm("lint", "--strict", str(CHART), "-f", str(CHART / f"examples/{example}.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("example", EXAMPLES)
@pytest.mark.parametrize("version", KUBERNETES)
def test_manifests_are_what_kubernetes_takes(example: str, version: str) -> None:
    kinds = set()
    for manifest in rendered(example):
        assert manifest["metadata"]["labels"]["app.kubernetes.io/instance"] == "chat"
        if not manifest["apiVersion"].startswith(NOT_KUBERNETES_OWN):
            kubernetes_validate.validate(manifest, version, strict=True)
            kinds.add(manifest["kind"])
    assert {"Deployment", "Service", "NetworkPolicy", "PodDisruptionBudget", "Pod"} <= kinds


def test_the_largest_example_is_not_all_there_is() -> None:
    assert {each["kind"] for each in rendered("8b-one-gpu")} >= {
        "ScaledObject", "ServiceMonitor", "PrometheusRule", "ConfigMap",
    }  # fmt: skip


@pytest.mark.parametrize("example", EXAMPLES)
def test_each_service_starts_with_what_the_chart_tells_it(example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for component, _, container in services(example):
        with monkeypatch.context() as patch:
            for name, value in environment(container).items():
                patch.setenv(name, value)
            settings = SETTINGS[component].from_command_line([])
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert (ports["grpc"], ports["metrics"]) == (settings.port, settings.metrics_port)
        assert settings.host == "0.0.0.0"
        if isinstance(settings, GatewaySettings):
            assert ports.get("http") == settings.http_port


@pytest.mark.parametrize("example", EXAMPLES)
def test_pods_are_confined_and_not_told_of_their_neighbours(example: str) -> None:
    for component, pod in pods(example):
        spec = pod["spec"]
        assert spec["enableServiceLinks"] is False, "INTERNVL_VISION_PORT would be a setting"
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True, component
            assert security["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_pod_has_the_time_to_drain(example: str) -> None:
    for component, spec, container in services(example):
        prefix = SETTINGS[component].model_config["env_prefix"]
        drain = float(environment(container)[f"{prefix}DRAIN_SECONDS"])
        (_, seconds) = container["lifecycle"]["preStop"]["exec"]["command"]
        assert spec["terminationGracePeriodSeconds"] > drain + float(seconds)


@pytest.mark.parametrize("example", EXAMPLES)
def test_files_that_settings_name_are_mounted(example: str) -> None:
    for _, spec, container in services(example):
        volumes = {volume["name"] for volume in spec["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        mounted = tuple(mount["mountPath"] for mount in container["volumeMounts"])
        probes = [probe.get("exec", {}).get("command", []) for probe in all_probes(container)]
        arguments = [text.rpartition("=")[2] for command in probes for text in command]
        for value in [*environment(container).values(), *arguments]:
            if value.startswith("/"):
                assert value.startswith(mounted), value


def all_probes(container: Object) -> list[Object]:
    return [container[name] for name in ("startupProbe", "readinessProbe", "livenessProbe")]


@pytest.mark.parametrize("example", EXAMPLES)
def test_probes_ask_what_is_there(example: str) -> None:
    group: Any = typer.main.get_command(app)
    with group.make_context("internvl", [], resilient_parsing=True) as context:
        command = group.get_command(context, "health")
    options = {name for parameter in command.params for name in parameter.opts}
    for _, _, container in services(example):
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        for probe in all_probes(container):
            match probe:
                case {"grpc": found}:
                    assert found["port"] == ports["grpc"]
                    assert found.get("service", "") in ("", LIVENESS)
                case {"exec": {"command": ["internvl", "health", address, *flags]}}:
                    assert address == f"127.0.0.1:{ports['grpc']}"
                    assert {flag.partition("=")[0] for flag in flags} <= options
                case {"httpGet": {"path": "/health", "port": port}} | {"tcpSocket": {"port": port}}:
                    assert port in ports
                case _:
                    raise AssertionError(f"an unknown probe: {probe}")


@pytest.mark.parametrize("example", EXAMPLES)
def test_services_and_policies_name_ports_that_pods_have(example: str) -> None:
    def matching(selector: Object) -> list[Object]:
        return [
            pod
            for component, pod in pods(example)
            if selector.items() <= pod["metadata"]["labels"].items()
            if "app.kubernetes.io/component" in selector or component in SETTINGS
        ]

    def port_names(pod: Object) -> set[str]:
        return {port["name"] for container in pod["spec"]["containers"] for port in container["ports"]}

    for service in of_kind(example, "Service"):
        chosen = matching(service["spec"]["selector"])
        assert chosen, service["metadata"]["name"]
        for port in service["spec"]["ports"]:
            assert all(port["targetPort"] in port_names(pod) for pod in chosen)
    for policy in of_kind(example, "NetworkPolicy"):
        for pod in matching(policy["spec"]["podSelector"]["matchLabels"]):
            for rule in policy["spec"]["ingress"]:
                assert {port["port"] for port in rule["ports"]} <= port_names(pod)


@pytest.mark.parametrize("example", EXAMPLES)
def test_only_the_gateway_is_reached_from_outside_and_redis_by_the_model_services(example: str) -> None:
    callers: dict[str, set[str] | None] = {}
    for policy in of_kind(example, "NetworkPolicy"):
        component = policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
        sources = policy["spec"]["ingress"][0].get("from")
        callers[component] = sources and {
            source["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for source in sources
        }
    assert callers == {"gateway": None, "vision": {"gateway", "llm"}, "llm": {"gateway"}, "redis": {"vision", "llm"}}


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_gateway_finds_the_services_by_their_headless_names(example: str) -> None:
    headless = {
        service["metadata"]["name"]: service["spec"]["ports"][0]["port"]
        for service in of_kind(example, "Service")
        if service["spec"].get("clusterIP") == "None"
    }
    (variables,) = [environment(container) for component, _, container in services(example) if component == "gateway"]
    for service in ("VISION", "LLM"):
        name, _, port = variables[f"INTERNVL_GATEWAY_{service}_ADDRESS"].removeprefix("dns:///").partition(":")
        assert headless[name] == int(port)


@pytest.mark.parametrize("example", EXAMPLES)
def test_gpus_ranks_and_shared_memory_come_from_one_value(example: str) -> None:
    ((spec, container),) = [(spec, container) for name, spec, container in services(example) if name == "llm"]
    variables = environment(container)
    ranks = int(variables["INTERNVL_LLM_TENSOR_PARALLEL"]) * int(variables.get("INTERNVL_LLM_PIPELINE_PARALLEL", 1))
    gpus = container["resources"].get("limits", {}).get("nvidia.com/gpu", 0)
    assert ranks == max(1, gpus)
    assert variables["INTERNVL_LLM_DEVICE"] == ("cuda" if gpus else "cpu")
    (shared,) = [volume for volume in spec["volumes"] if volume["name"] == "shared-memory"]
    assert shared["emptyDir"] == {"medium": "Memory", "sizeLimit": f"{1 + 2 * ranks}Gi"}


def test_the_schema_is_what_the_settings_are() -> None:
    written = json.loads((CHART / "values.schema.json").read_text())
    assert written == schema(), "run python -m deploy.helm.schema"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("vision.settings.max_queued_tile=1", "max_queued_tile"),
        ("vision.settings.max_queued_tiles=many", "max_queued_tiles"),
        ("llm.settings.engine=vllm", "engine"),
        ("llm.settings.attention=fast", "attention"),
        ("llm.engine=tgi", "engine"),
        ("gateway.replica=2", "replica"),
        ("gateway.settings.port=1", "port"),
        ("redis.url=redis://x", "url"),
        ("visoin.replicas=2", "visoin"),
        ("llm.pipelineStages=2", "pipelineStages"),
        ("llm.pipelineStages=2,llm.engine=vllm,llm.gpus=3", "multiple"),
        ("redis.enabled=false", "urlSecret"),
        ("model.name=", "model.name"),
        ("gateway.autoscaling.enabled=true", "autoscaling.prometheus"),
    ],
)
def test_values_that_are_refused(change: str, said: str) -> None:
    example = str(CHART / "examples/1b-cpu.yaml")
    done = helm("template", "chat", str(CHART), "-f", example, "--set", change)
    assert done.returncode != 0
    assert said in done.stderr


def samples() -> dict[str, set[str]]:
    """Names of all samples the services show, with the labels of each."""

    class Everything:
        def collect(self) -> Iterator[Metric]:
            yield from REGISTRY.collect()
            yield from GatewayCollector(lambda: 0, lambda: {"llm": 1}).collect()
            yield from EngineCollector(lambda: EngineStatus(0, 0, 1, 0)).collect()
            yield from EncoderCollector(lambda: EncoderStatus(0, 0, 0, False)).collect()

    found: dict[str, set[str]] = {}
    for family in Everything().collect():
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        labels = {label for sample in family.samples for label in sample.labels}
        for suffix in suffixes:
            found[f"{family.name}{suffix}"] = labels | set(_label_names(family.name))
    return found


def _label_names(family: str) -> tuple[str, ...]:
    collector: Any = REGISTRY._names_to_collectors.get(family)
    return tuple(getattr(collector, "_labelnames", ()))


def queries() -> Iterator[tuple[str, str]]:
    """Where each stands, and what Prometheus is asked there."""
    for rule in of_kind("8b-one-gpu", "PrometheusRule"):
        for group in rule["spec"]["groups"]:
            yield from ((each["alert"], each["expr"]) for each in group["rules"])
    for scaled in of_kind("8b-one-gpu", "ScaledObject"):
        for trigger in scaled["spec"]["triggers"]:
            yield scaled["metadata"]["name"], trigger["metadata"]["query"]
    (dashboard,) = [each for each in of_kind("8b-one-gpu", "ConfigMap") if "internvl.json" in each["data"]]
    for panel in json.loads(dashboard["data"]["internvl.json"])["panels"]:
        yield from ((panel["title"], target["expr"]) for target in panel["targets"])


@pytest.mark.parametrize(("place", "query"), list(queries()))
def test_metrics_and_labels_that_are_asked_for_exist(place: str, query: str) -> None:
    known = samples()
    names = set(re.findall(r"\b(?:internvl|process)_\w+", query))
    assert names
    for name in names:
        assert name in known, f"{place}: {name}"
    for name, matchers in re.findall(r"\b((?:internvl|process)_\w+)\{([^}]*)\}", query):
        labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        assert labels - OF_THE_SCRAPE <= known[name], f"{place}: {labels}"
    for reason in re.findall(r'reason="(\w+)"', query):
        assert errors.error_class(reason) is not None


def test_every_alert_has_a_place_in_the_run_book() -> None:
    headings = re.findall(r"(?m)^### (\w+)$", (ROOT / "docs/operations.md").read_text())
    alerts = [place for place, _ in queries() if place.startswith("Internvl")]
    assert headings == alerts


def test_the_docs_name_every_metric_and_no_other() -> None:
    documented = set(re.findall(r"(?m)^\| `(internvl_\w+)`", (ROOT / "docs/metrics.md").read_text()))
    plain = {re.sub(r"_(bucket|sum|count)$", "", name) for name in samples() if name.startswith("internvl_")}
    assert documented == plain
