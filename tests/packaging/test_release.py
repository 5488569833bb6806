"""One version: in both distributions, the chart, the changelog and, on a tagged commit, the tag."""

import re
import subprocess
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
SERVICES = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
CLIENT = tomllib.loads((ROOT / "clients" / "python" / "pyproject.toml").read_text("utf-8"))["project"]


def test_client_services_and_chart_have_one_version() -> None:
    chart = yaml.safe_load((ROOT / "deploy" / "helm" / "internvl" / "Chart.yaml").read_text("utf-8"))
    assert {CLIENT["version"], chart["version"], chart["appVersion"]} == {SERVICES["version"]}
    assert f"internvl-client=={SERVICES['version']}" in SERVICES["dependencies"]


def test_the_newest_release_of_the_changelog_is_not_ahead_of_the_version() -> None:
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert headings[1:2] in ([], [SERVICES["version"]])


def test_a_tag_of_this_commit_is_its_version() -> None:
    run = subprocess.run(["git", "tag", "--points-at", "HEAD"], capture_output=True, text=True, cwd=ROOT)
    tags = [tag for tag in run.stdout.split() if re.fullmatch(r"v\d.*", tag)]
    assert tags in ([], [f"v{SERVICES['version']}"])
