"""One URL says which Redis; what is wrong with one is said without repeating it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.store.redis_url import RedisUrl, Topology


def test_one_server() -> None:
    url = RedisUrl.parse("redis://me:p%40ss@cache:6380/2")
    assert (url.topology, url.tls, url.hosts, url.database) == (Topology.SERVER, False, (("cache", 6380),), 2)
    assert url.credentials == {"username": "me", "password": "p@ss"}
    assert RedisUrl.parse("redis://cache").hosts == (("cache", 6379),)
    assert RedisUrl.parse("redis://[::1]:1").hosts == (("::1", 1),)
    assert "p@ss" not in repr(url)


def test_tls() -> None:
    url = RedisUrl.parse("rediss://:secret@cache?ssl_ca_certs=/ca.pem&ssl_check_hostname=false")
    assert url.tls
    assert url.credentials == {"password": "secret"}
    assert url.tls_options == {"ssl_ca_certs": "/ca.pem", "ssl_check_hostname": False}


def test_a_socket() -> None:
    url = RedisUrl.parse("unix:///run/my%20redis.sock?db=3")
    assert (url.topology, url.path, url.database) == (Topology.UNIX, "/run/my redis.sock", 3)


def test_sentinels() -> None:
    url = RedisUrl.parse("rediss+sentinel://u:p@one:1,two/mymaster/4?sentinel_username=s&sentinel_password=t")
    assert (url.topology, url.tls, url.service, url.database) == (Topology.SENTINEL, True, "mymaster", 4)
    assert url.hosts == (("one", 1), ("two", 26379))
    assert url.credentials == {"username": "u", "password": "p"}
    assert url.sentinel_credentials == {"username": "s", "password": "t"}


def test_a_cluster() -> None:
    url = RedisUrl.parse("redis+cluster://one:7000,two")
    assert (url.topology, url.hosts) == (Topology.CLUSTER, (("one", 7000), ("two", 6379)))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "must begin with one of redis://, rediss://, unix://, redis\\+sentinel://"),
        ("http://secret@host", "must begin with one of"),
        ("redis://", "names no host"),
        ("redis://secret@one,two", "several hosts: say redis\\+sentinel"),
        ("redis://secret@one:99999", "an invalid port"),
        ("redis://secret@one/x", "a database that is no number"),
        ("redis://secret@one/1/2", "too many parts"),
        ("redis://secret@one?sock_timeout=1", "redis:// does not know: sock_timeout"),
        ("redis://one?ssl_ca_certs=/ca.pem", "does not know: ssl_ca_certs"),
        ("rediss://one?ssl_cert_reqs=maybe", "must be none, optional or required"),
        ("rediss://one?ssl_check_hostname=maybe", "neither true nor false"),
        ("redis+sentinel://secret@one", "name the service"),
        ("redis+cluster://secret@one/1", "one database"),
        ("unix://relative", "must name a socket file"),
    ],
)
def test_what_is_wrong_is_said(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        RedisUrl.parse(url)
    assert "secret" not in str(caught.value)


@given(st.text(alphabet=st.sampled_from("redis+clunx:/@,[]?&=%#1é "), max_size=40))
def test_nonsense_is_a_value_error_or_nothing(text: str) -> None:
    try:
        RedisUrl.parse(text)
    except ValueError as error:
        assert str(error).startswith("redis_url")  # noqa: PT017 - most texts are none, some are
