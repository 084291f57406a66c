"""The compose file and the Dockerfile name only what the code has, and give nothing away."""

import ast
import re
import tomllib
from typing import Any

import pytest
import yaml
from django.core.management import get_commands
from django.urls import resolve

from amplifierd import views
from amplifierd.auth import exposure
from amplifierd.common.program import BASE_DIR

COMPOSE = (BASE_DIR / "docker-compose.yml").read_text()
DOCKERFILE = (BASE_DIR / "Dockerfile").read_text()
FILE = yaml.safe_load(COMPOSE)
SERVICES = FILE["services"]
OWN = [name for name, service in SERVICES.items() if service["image"] == "amplifierd"]


def words(value: str | list[str]) -> str:
    return value if isinstance(value, str) else " ".join(value)


def variables_read() -> set[str]:
    """Return the variables that the settings ask the environment for."""
    found = set()
    for name in ("settings.py", "env.py"):
        tree = ast.parse((BASE_DIR / "amplifierd" / name).read_text())
        calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args)
        found |= {call.args[0].value for call in calls if isinstance(call.args[0], ast.Constant)}
    return found


def texts(value: Any) -> list[str]:
    """Return every text in a YAML document, keys and values."""
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in texts(part)]
    if isinstance(value, list):
        return [text for item in value for text in texts(item)]
    return [str(value)]


@pytest.mark.parametrize("name", OWN)
def test_service_runs_commands_that_exist(name: str) -> None:
    named = re.findall(r"amplifierd (\w+)", words(SERVICES[name]["command"]))
    assert named
    assert set(named) <= set(get_commands())


def test_image_runs_a_command_that_exists() -> None:
    [command] = re.findall(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    program, name = ast.literal_eval(command)
    assert program == "amplifierd"
    assert name in get_commands()


def test_services_migrate_serve_and_work() -> None:
    commands = " ".join(words(SERVICES[name]["command"]) for name in OWN)
    for command in ("migrate", "load_profiles", "run_web", "run_worker"):
        assert f"amplifierd {command}" in commands


def test_every_variable_is_one_that_the_settings_read() -> None:
    named = set(re.findall(r"AMPLIFIERD_\w+", " ".join(texts(FILE)) + DOCKERFILE))
    assert "AMPLIFIERD_SECRET_KEY" in named
    assert named <= variables_read()


@pytest.mark.parametrize("name", ["AMPLIFIERD_SECRET_KEY", "POSTGRES_PASSWORD"])
def test_secret_has_no_default(name: str) -> None:
    uses = [text for text in texts(FILE) if f"${{{name}" in text]
    assert uses
    for use in uses:
        assert re.fullmatch(rf"\$\{{{name}:\?put {name}=.+ into \.env\}}", use)


def test_no_password_is_written_down() -> None:
    assert not re.search(r"://[^/\s]*:[^/\s]*@", COMPOSE)
    passwords = re.findall(r"^ *\w*(?:PASSWORD|SECRET_KEY): (\S+)", COMPOSE, re.MULTILINE)
    assert len(passwords) == 3
    assert all(value.startswith("${") for value in passwords)


def test_ports_are_published_on_loopback_alone() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_web_listens_where_its_health_is_asked_for() -> None:
    web = SERVICES["web"]
    [url] = re.findall(r"http://[^']+", words(web["healthcheck"]["test"]))
    host, _, path = url.removeprefix("http://").partition("/")
    assert host == f"127.0.0.1:{web['environment']['AMPLIFIERD_PORT']}"
    assert web["environment"]["AMPLIFIERD_HOST"] == "0.0.0.0"
    assert resolve(f"/{path}").func is views.readyz


def test_security_middleware_lets_in_the_name_of_the_service() -> None:
    hosts = SERVICES["web"]["environment"]["AMPLIFIERD_ALLOWED_HOSTS"]
    assert hosts.split(",")[0] == "web"


def test_web_may_listen_where_it_does(settings: Any) -> None:
    given = SERVICES["web"]["environment"]
    assert "AMPLIFIERD_REQUIRE_KEYS" not in given
    settings.BEHIND_PROXY = bool(given["AMPLIFIERD_BEHIND_PROXY"])
    settings.REQUIRE_KEYS = settings.BEHIND_PROXY
    settings.NAMED_HOSTS = [given["AMPLIFIERD_ALLOWED_HOSTS"].split(",")[0]]
    exposure.check(given["AMPLIFIERD_HOST"])


def test_web_alone_is_not_reached_but_through_the_proxy() -> None:
    assert "ports" not in SERVICES["web"]
    assert not re.search(r"trusted_proxies|header_up", FILE["configs"]["caddyfile"]["content"])


@pytest.mark.parametrize("name", [name for name in OWN if name != "migrate"])
def test_service_waits_for_the_migrations(name: str) -> None:
    condition = SERVICES[name]["depends_on"]["migrate"]["condition"]
    assert condition == "service_completed_successfully"


def test_every_volume_is_declared() -> None:
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", [])]
    assert {mount.split(":")[0] for mount in mounts} == set(FILE["volumes"])


def test_proxy_holds_no_stream_back() -> None:
    configuration = FILE["configs"]["caddyfile"]["content"]
    assert "dynamic a web 8420" in configuration
    assert not re.search(r"encode|buffer|flush_interval", configuration)


def test_image_does_not_run_as_root() -> None:
    [user] = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
    assert user == "amplifierd"


def test_image_has_what_runs_and_not_what_tests_need() -> None:
    assert len(re.findall(r"^FROM ", DOCKERFILE, re.MULTILINE)) == 2
    assert "tests" not in re.sub(r"^#.*$", "", DOCKERFILE, flags=re.MULTILINE)
    project = tomllib.loads((BASE_DIR / "pyproject.toml").read_text())
    pinned = (BASE_DIR / "requirements.txt").read_text()
    dev = {line.partition("==")[0] for line in project["dependency-groups"]["dev"]}
    # mcp checks the answers of tools with the one, django-grip signs with the other.
    both = {name for name in dev if re.search(rf"^{re.escape(name)}==", pinned, re.MULTILINE)}
    assert both == {"jsonschema", "requests"}


def test_image_tells_its_health_where_it_listens() -> None:
    [url] = re.findall(r"http://[^'\"]+", DOCKERFILE.partition("HEALTHCHECK")[2])
    assert url == "http://127.0.0.1:8420/readyz"
    assert [name for name in OWN if "disable" in SERVICES[name]["healthcheck"]] == [
        "migrate",
        "worker",
    ]


def test_requirements_are_a_layer_before_the_code() -> None:
    lines = DOCKERFILE.splitlines()
    assert lines.index("COPY requirements.txt .") < lines.index("COPY . .")


def test_every_file_copied_into_the_image_exists_and_is_not_ignored() -> None:
    joined = DOCKERFILE.replace("\\\n", " ")
    copied = [
        source
        for line in re.findall(r"^COPY (.+)$", joined, re.MULTILINE)
        if not line.startswith("--from=build")
        for source in line.split()[:-1]
    ]
    ignore = (BASE_DIR / ".dockerignore").read_text().splitlines()
    let_in = tuple(line[1:] for line in ignore if line.startswith("!"))
    assert len(copied) > 3
    for source in copied:
        assert (BASE_DIR / source).exists()
        assert source == "." or source.startswith(let_in)


def test_nothing_but_code_reaches_the_image() -> None:
    ignore = (BASE_DIR / ".dockerignore").read_text().splitlines()
    assert "*" in ignore
    assert not any(line.startswith(("!.", "!tests", "!docs")) for line in ignore)
