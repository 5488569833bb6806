"""Our top-level packages have common names, and no other distribution may own them; nor may we take anyone else's."""

import sys
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ["deploy", "gateway", "llm_service", "shared", "vision_service"]
CLIENT = ROOT / "clients" / "python" / "internvl"


@pytest.mark.parametrize("package", PACKAGES)
def test_only_this_distribution_owns_the_package(package: str) -> None:
    # An editable install lists no packages, so the name may be nobody's there; in a wheel it is ours.
    assert set(packages_distributions().get(package, [])) <= {"internvl-serving"}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_package_that_is_imported_is_this_one(package: str) -> None:
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin == str(ROOT / package / "__init__.py")


@pytest.mark.parametrize("package", PACKAGES)
def test_the_package_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


def test_no_module_directly_in_a_package_has_the_name_of_somebody_elses() -> None:
    """A module run as a script puts its folder first on the path: a neighbour called http then hides theirs."""
    foreign = (sys.stdlib_module_names | set(packages_distributions())) - set(PACKAGES)
    ours = [
        path for package in PACKAGES for path in (ROOT / package).iterdir() if path.suffix == ".py" or path.is_dir()
    ]
    assert [str(path) for path in ours if path.stem in foreign] == []
