"""Settings for `internvl up`: read by their own names, and refused with the nearest one."""

from pathlib import Path

import pytest

from deploy.cli.stack_file import read_settings, read_stack_file
from deploy.local.options import StackOptions

FILE = """
model = "a/b"
port = 0
key_file = "k"
[llm]
weights = "int8"
threads = 2
[vision]
compress_embeddings = true
"""


def test_settings_are_the_environment_of_their_service() -> None:
    settings = read_settings(["llm.weights=int8", "gateway.media-hosts=a.example,b.example", "llm.threads=2"])
    assert settings == {"llm": {"weights": "int8", "threads": "2"}, "gateway": {"media_hosts": "a.example,b.example"}}
    options = StackOptions(settings=settings, key_file=Path("keys.toml"))
    assert options.environment("llm") == {"INTERNVL_LLM_WEIGHTS": "int8", "INTERNVL_LLM_THREADS": "2"}
    assert options.environment("gateway") == {
        "INTERNVL_GATEWAY_MEDIA_HOSTS": "a.example,b.example",
        "INTERNVL_GATEWAY_KEY_FILE": "keys.toml",
    }
    assert options.environment("vision") == {}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("llm.weigths=int8", "no setting weigths; did you mean weights"),
        ("lmm.weights=int8", "unknown service lmm: one of vision, llm, gateway"),
        ("weights=int8", "is not SERVICE.NAME=VALUE"),
        ("llm.weights", "is not SERVICE.NAME=VALUE"),
        ("gateway.port=1", "use its own option"),
    ],
)
def test_an_unknown_setting_is_refused(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_settings([line])


def test_a_file_holds_options_and_tables(tmp_path: Path) -> None:
    path = tmp_path / "stack.toml"
    path.write_text(FILE)
    options, settings = read_stack_file(path)
    assert options == {"model": "a/b", "port": 0, "key_file": Path("k")}
    assert settings == {"llm": {"weights": "int8", "threads": "2"}, "vision": {"compress_embeddings": "true"}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("modle = 1", "unknown option modle; did you mean model"),
        ("[llm]\nx = 1", "no setting x"),
        ("[", "not TOML"),
        ('port = "50050"', "port must be a number, got '50050'"),
        ("host = 1", "host must be a string, got 1"),
    ],
)
def test_a_broken_file_names_itself_and_the_key(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "stack.toml"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"stack.toml: .*{message}"):
        read_stack_file(path)


def test_the_file_in_the_documentation_is_one(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")
    path = tmp_path / "stack.toml"
    path.write_text(text.split("```toml\n")[1].split("```")[0])
    options, settings = read_stack_file(path)
    assert options == {"model": "/models/InternVL3-8B", "port": 50050, "key_file": Path("keys.toml")}
    assert settings == {"llm": {"weights": "int8"}, "gateway": {"media_hosts": "images.example.com"}}
