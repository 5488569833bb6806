"""Addresses without a port have the usual one; all others reach gRPC unchanged."""

import pytest

from internvl.transport.address import with_port


@pytest.mark.parametrize(
    ("address", "whole"),
    [
        ("localhost", "localhost:50050"),
        ("gateway.example.org", "gateway.example.org:50050"),
        ("10.0.0.1", "10.0.0.1:50050"),
        ("::1", "[::1]:50050"),
        ("[::1]", "[::1]:50050"),
        ("dns:///gateway", "dns:///gateway:50050"),
        ("dns:gateway", "dns:gateway:50050"),
        ("dns://8.8.8.8/gateway", "dns://8.8.8.8/gateway:50050"),
        ("ipv4:10.0.0.1,10.0.0.2:7", "ipv4:10.0.0.1:50050,10.0.0.2:7"),
        ("ipv6:[::1]", "ipv6:[::1]:50050"),
    ],
)
def test_the_usual_port_is_added(address: str, whole: str) -> None:
    assert with_port(address, 50050) == whole


@pytest.mark.parametrize(
    "address",
    ["localhost:7", "[::1]:7", "dns:///gateway:7", "ipv4:10.0.0.1:7", "unix:/run/gateway", "unix:g.sock"],
)
def test_a_whole_address_is_left_unchanged(address: str) -> None:
    assert with_port(address, 50050) == address


@pytest.mark.parametrize("address", ["", "dns:///", "http://localhost:50050", "https://gateway.example.org/v1"])
def test_no_address(address: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        with_port(address, 50050)
