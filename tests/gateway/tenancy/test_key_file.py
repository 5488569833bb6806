"""What an operator may write, and what is said about the rest."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.tenancy.key_file import KEY_PREFIX, KeyFile, Limits, key_digest, new_key

DIGEST = key_digest("ivl_test")


def test_tenants_limits_and_keys() -> None:
    text = f'[tenants.a]\nrequests_per_minute = 1_000\n[tenants."b.c-d"]\nsuspended = true\n[keys]\n{DIGEST} = "a"\n'
    found = KeyFile.parse(text)
    assert found.tenants == {"a": Limits(requests_per_minute=1000), "b.c-d": Limits(suspended=True)}
    assert found.keys == {DIGEST: "a"}


def test_the_file_in_the_documentation_is_one() -> None:
    documented = Path(__file__).parents[3] / "docs" / "security.md"
    (text,) = re.findall(r"```toml\n(.*?)```", documented.read_text(), re.DOTALL)
    found = KeyFile.parse(text)
    assert set(found.tenants) == {"acme", "guest"}
    assert set(found.keys.values()) == {"acme"}
    assert found.tenants["acme"].model_fields_set == set(Limits.model_fields) - {"suspended"}, "every limit is shown"


def test_keys_are_long_random_and_told_apart() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == len({key_digest(key) for key in keys}) == 100
    assert all(key.startswith(KEY_PREFIX) and len(key) == len(KEY_PREFIX) + 43 for key in keys)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[tenants.a\nx = 1", "not TOML at line 1"),
        ("", "tenants: Field required"),
        ("[tenants.a]\nrequests_a_minute = 3", "tenants.a.requests_a_minute: Extra inputs"),
        ("[tenants.a]\nrequests_per_minute = 0", "tenants.a.requests_per_minute: Input should be greater"),
        ('[tenants.a]\nrequests_per_minute = "3"', "tenants.a.requests_per_minute: Input should be a valid integer"),
        ("[tenants.a]\nbytes_in_flight = true", "tenants.a.bytes_in_flight: Input should be a valid integer"),
        ('[tenants."a b"]', "tenants.a b: String should match"),
        (f'[tenants.a]\n[keys]\n{DIGEST} = "b"', "keys of tenants that are not in the file: b"),
        ('[tenants.a]\n[keys]\nivl_notadigest = "a"', "keys: each is the 64 hexadecimal digits"),
        (f"[tenants.a]\n[keys]\n{DIGEST} = 3", "keys: each is the 64 hexadecimal digits"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match="key file") as caught:
        KeyFile.read(path)
    assert complaint in str(caught.value)
    assert "notadigest" not in str(caught.value), "a key that stands there by mistake is not repeated"


@given(st.text())
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    complaint = ""
    try:
        KeyFile.parse(text)
    except ValueError as error:
        complaint = str(error)
    assert "\n" not in complaint
