"""Lists of addresses, and names that are looked up."""

import pytest

from gateway.replicas.discovery import Discovery, Target, resolve


async def nowhere(name: str, port: int) -> list[str]:
    raise OSError


def test_a_list_is_what_it_says() -> None:
    assert Target.parse("a:1, b:2,a:1").addresses == ("a:1", "b:2")
    assert Target.parse("[::1]:50").addresses == ("[::1]:50",)
    assert Target.parse("dns:///vision.default:50051") == Target(name="vision.default", port=50051)


@pytest.mark.parametrize("text", ["", " , ", "host", "host:", ":1", "host:0", "host:70000", "dns:///host", "a:1,b"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"host:port|no address"):
        Target.parse(text)


async def test_a_name_is_looked_up_again_and_keeps_what_it_had() -> None:
    answers: list[list[str]] = [["10.0.0.2", "10.0.0.1", "10.0.0.2"], ["10.0.0.3"], [], ["::1"]]

    async def answer(name: str, port: int) -> list[str]:
        assert (name, port) == ("vision", 7)
        return answers.pop(0)

    discovery = Discovery(Target.parse("dns:///vision:7"), answer)
    assert await discovery.addresses() == ("10.0.0.1:7", "10.0.0.2:7")
    assert await discovery.addresses() == ("10.0.0.3:7",)
    assert await discovery.addresses() == ("10.0.0.3:7",)
    assert await discovery.addresses() == ("[::1]:7",)


async def test_a_name_that_never_resolved_has_no_addresses() -> None:
    assert await Discovery(Target.parse("dns:///vision:7"), nowhere).addresses() == ()


async def test_this_machine_is_found_by_its_name() -> None:
    assert {"127.0.0.1", "::1"} & set(await resolve("localhost", 50051))
    with pytest.raises(OSError, match=r".+"):
        await resolve("no-such-host.invalid", 50051)
