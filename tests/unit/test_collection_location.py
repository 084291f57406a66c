"""Which sources are read, and which are refused before anything is asked of anyone."""

from typing import Any

import pytest

from profiles_app.exceptions import InvalidSource, SourceUnreadable
from profiles_app.sources import hosts
from profiles_app.sources.location import Location, parse


@pytest.mark.parametrize(
    ("source", "location"),
    [
        ("/a/folder/", Location("folder", "/a/folder")),
        ("git+https://host/a/b", Location("git", "https://host/a/b")),
        ("https://host/a/b.git", Location("git", "https://host/a/b.git")),
        ("https://HOST/A", Location("git", "https://host/A")),
        ("git+https://host:8443/a@v1.0", Location("git", "https://host:8443/a", "v1.0")),
        ("git+https://host/a@feature/x", Location("git", "https://host/a", "feature/x")),
        (
            "git+https://host/a/b@main#subdirectory=c/d/",
            Location("git", "https://host/a/b", "main", "c/d"),
        ),
        ("git+ssh://git@host/a/b@main", Location("git", "ssh://git@host/a/b", "main")),
    ],
)
def test_a_source_is_read(source: str, location: Location) -> None:
    assert parse(source) == location
    assert parse(str(location)) == location


@pytest.mark.parametrize(
    "source",
    [
        "",
        "folder",
        "./folder",
        "~/folder",
        "/a/../b",
        "/a\0b",
        "/a\nb",
        "a" * 1001,
        "ext::sh -c id",
        "ext::sh",
        "git+ext::sh",
        "fd::17",
        "--upload-pack=id",
        "-oProxyCommand=id",
        "git+--upload-pack=id",
        "git@host:a/b",
        "http://host/a",
        "git+http://host/a",
        "git://host/a",
        "ftp://host/a",
        "file:///a",
        "git+file:///a",
        "https://user:word@host/a",
        "https://token@host/a",
        "ssh://git:word@host/a",
        "ssh://-oProxyCommand=id/a",
        "ssh://-o@host/a",
        "https:///a",
        "https://host",
        "https://host/",
        "https://host:99999/a",
        "https://[::1/a",
        "https://host/a?b=c",
        "https://host/a b",
        "https://host/a%2e%2e/b",
        "https://host/../a",
        "https://host/-a",
        "https://host/a@",
        "https://host/a@-x",
        "https://host/a@--upload-pack=id",
        "https://host/a@b:c",
        "https://host/a@b..c",
        "https://host/a@b@c",
        "https://host/a#egg=a",
        "https://host/a#subdirectory=",
        "https://host/a#subdirectory=..",
        "https://host/a#subdirectory=b/../../c",
        "https://host/a#subdirectory=/etc",
        "https://host\\@other/a",
        "https://ho\u202est/a",
    ],
)
def test_anything_else_is_refused(source: str) -> None:
    with pytest.raises(InvalidSource):
        parse(source)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "::1",
        "fd00::1",
        "fe80::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::7f00:1",
        "2002:7f00:1::",
        "2001:0:7f00:1::",
        "::127.0.0.1",
        "fec0::1",
        "3fff::1",
        "ff0e::1",
        "224.0.0.1",
        "168.63.129.16",
        "192.0.0.192",
    ],
)
def test_a_host_on_a_private_network_is_refused(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    answer = [(0, 0, 0, "", ("1.1.1.1", 443)), (0, 0, 0, "", (address, 443))]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: answer)
    with pytest.raises(SourceUnreadable, match="AMPLIFIERD_OUTBOUND_HOSTS"):
        hosts.pin_addresses("https://host/a")


def test_git_connects_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = [(0, 0, 0, "", ("1.1.1.1", 443))]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: answer)
    options, environment = hosts.pin_addresses("https://host/a")
    assert options == ["-c", "http.curloptResolve=host:443:1.1.1.1"]
    assert "-o HostName=1.1.1.1 -o HostKeyAlias=host" in environment["GIT_SSH_COMMAND"]


@pytest.mark.parametrize("name", ["OUTBOUND_HOSTS", "COLLECTION_HOSTS"])
def test_a_host_that_the_operator_names_is_asked_wherever_it_is(
    name: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = [(0, 0, 0, "", ("10.0.0.1", 443))]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: answer)
    setattr(settings, name, ["Git.internal"])
    options, _ = hosts.pin_addresses("https://git.internal/a")
    assert options == ["-c", "http.curloptResolve=git.internal:443:10.0.0.1"]


def test_a_host_that_is_not_found_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise OSError

    monkeypatch.setattr("socket.getaddrinfo", missing)
    with pytest.raises(SourceUnreadable, match="'host' is not found"):
        hosts.pin_addresses("https://host/a")


def test_a_proxy_is_asked_for_hosts_that_only_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: [])
    assert hosts.pin_addresses("https://host/a")[0] == []
    with pytest.raises(SourceUnreadable, match="not found"):
        hosts.pin_addresses("ssh://host/a")


def test_a_proxy_opens_no_private_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    answer = [(0, 0, 0, "", ("10.0.0.1", 443))]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: answer)
    with pytest.raises(SourceUnreadable, match="AMPLIFIERD_OUTBOUND_HOSTS"):
        hosts.pin_addresses("https://host/a")
