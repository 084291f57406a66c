"""The files for deployment name only what the code has, are valid, and give nothing away."""

import ast
import configparser
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import get_commands
from django.urls import resolve

from amplifierd import views
from amplifierd.auth import exposure
from amplifierd.common.program import BASE_DIR

DEPLOY = BASE_DIR / "deploy"
DOCKERFILE = (BASE_DIR / "Dockerfile").read_text()
COMPOSE = {
    path.name: path.read_text()
    for path in (BASE_DIR / "docker-compose.yml", DEPLOY / "compose.cluster.yml")
}
FILES = {name: yaml.safe_load(text) for name, text in COMPOSE.items()}
CLUSTER = FILES["compose.cluster.yml"]["services"]
OWN = ("migrate", "web", "worker")
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
MANIFESTS = [
    each
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    for each in yaml.safe_load_all(path.read_text())
]


@pytest.fixture(params=FILES)
def file(request: pytest.FixtureRequest) -> dict[str, Any]:
    return FILES[request.param]


@pytest.fixture
def services(file: dict[str, Any]) -> dict[str, Any]:
    return file["services"]


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
def test_service_runs_commands_that_exist(services: dict[str, Any], name: str) -> None:
    named = re.findall(r"amplifierd (\w+)", words(services[name]["command"]))
    assert named
    assert set(named) <= set(get_commands())


def test_image_runs_a_command_that_exists() -> None:
    [command] = re.findall(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    program, name = ast.literal_eval(command)
    assert program == "amplifierd"
    assert name in get_commands()


def test_services_migrate_serve_and_work(services: dict[str, Any]) -> None:
    commands = " ".join(words(services[name]["command"]) for name in OWN)
    for command in ("migrate", "load_profiles", "run_web", "run_worker"):
        assert f"amplifierd {command}" in commands


@pytest.mark.parametrize(
    "text",
    [
        *(" ".join(texts(each)) for each in FILES.values()),
        DOCKERFILE,
        " ".join(texts(MANIFESTS)),
        *(path.read_text() for path in [*UNITS, DEPLOY / "systemd" / "amplifierd.env"]),
    ],
)
def test_every_variable_is_one_that_the_settings_read(text: str) -> None:
    named = set(re.findall(r"AMPLIFIERD_\w+", text))
    assert named
    assert named <= variables_read()


@pytest.mark.parametrize("name", ["AMPLIFIERD_SECRET_KEY", "POSTGRES_PASSWORD"])
def test_secret_has_no_default(file: dict[str, Any], name: str) -> None:
    uses = [text for text in texts(file) if f"${{{name}" in text]
    assert uses
    for use in uses:
        assert re.fullmatch(rf"\$\{{{name}:\?put {name}=.+ into \.env\}}", use)


@pytest.mark.parametrize("text", COMPOSE.values(), ids=COMPOSE)
def test_no_password_is_written_down(text: str) -> None:
    assert not re.search(r"://[^/\s]*:[^/\s]*@", text)
    passwords = re.findall(r"^ *\w*(?:PASSWORD|SECRET_KEY): (\S+)", text, re.MULTILINE)
    assert len(passwords) >= 2
    assert all(value.startswith("${") for value in passwords)


@pytest.mark.parametrize("path", [*DEPLOY.rglob("*.*")], ids=lambda path: path.name)
def test_no_url_has_a_password(path: Path) -> None:
    assert not re.search(r"://[^/\s]*:[^/\s]*@", path.read_text())


def test_ports_are_published_on_loopback_alone(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_web_listens_where_its_health_is_asked_for(services: dict[str, Any]) -> None:
    web = services["web"]
    [url] = re.findall(r"http://[^']+", words(web["healthcheck"]["test"]))
    host, _, path = url.removeprefix("http://").partition("/")
    assert host == f"127.0.0.1:{web['environment']['AMPLIFIERD_PORT']}"
    assert web["environment"]["AMPLIFIERD_HOST"] == "0.0.0.0"
    assert resolve(f"/{path}").func is views.readyz


def test_security_middleware_lets_in_the_name_of_the_service(services: dict[str, Any]) -> None:
    hosts = services["web"]["environment"]["AMPLIFIERD_ALLOWED_HOSTS"]
    assert hosts.split(",")[0] == "web"


def test_web_may_listen_where_it_does(services: dict[str, Any], settings: Any) -> None:
    given = services["web"]["environment"]
    assert "AMPLIFIERD_REQUIRE_KEYS" not in given
    settings.BEHIND_PROXY = bool(given["AMPLIFIERD_BEHIND_PROXY"])
    settings.REQUIRE_KEYS = settings.BEHIND_PROXY
    settings.NAMED_HOSTS = [given["AMPLIFIERD_ALLOWED_HOSTS"].split(",")[0]]
    exposure.check(given["AMPLIFIERD_HOST"])


def test_web_alone_is_not_reached_but_through_the_proxy(file: dict[str, Any]) -> None:
    assert "ports" not in file["services"]["web"]
    assert not re.search(r"trusted_proxies|header_up", file["configs"]["caddyfile"]["content"])


@pytest.mark.parametrize("name", [name for name in OWN if name != "migrate"])
def test_service_waits_for_the_migrations(services: dict[str, Any], name: str) -> None:
    condition = services[name]["depends_on"]["migrate"]["condition"]
    assert condition == "service_completed_successfully"


def test_every_volume_is_declared(file: dict[str, Any]) -> None:
    services = file["services"].values()
    mounts = [mount.split(":")[0] for service in services for mount in service.get("volumes", [])]
    assert {mount for mount in mounts if mount != "."} == set(file["volumes"])


def test_proxy_holds_no_stream_back(file: dict[str, Any]) -> None:
    configuration = file["configs"]["caddyfile"]["content"]
    assert "dynamic a web 8420" in configuration
    assert not re.search(r"encode|buffer", configuration)


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


def test_image_tells_its_health_where_it_listens(services: dict[str, Any]) -> None:
    [url] = re.findall(r"http://[^'\"]+", DOCKERFILE.partition("HEALTHCHECK")[2])
    assert url == "http://127.0.0.1:8420/readyz"
    assert [name for name in OWN if "disable" in services[name]["healthcheck"]] == [
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


# --- The cluster ---


def test_each_server_knows_the_other_one_and_one_of_them_makes_the_cluster() -> None:
    pair = {name: CLUSTER[name]["environment"] for name in ("postgres-a", "postgres-b")}
    assert [each["PEER"] for each in pair.values()] == [*reversed(pair)]
    assert [each.get("FIRST") for each in pair.values()] == [1, None]
    assert len({each["NODE"] for each in pair.values()}) == 2


def test_processes_of_the_cluster_use_the_pool_and_listen_past_it() -> None:
    servers = "postgres-a:5432,postgres-b:5432"
    assert CLUSTER["pgbouncer"]["environment"]["POSTGRES"] == servers.replace(":5432", "")
    for name in OWN:
        given = CLUSTER[name]["environment"]
        assert given["DATABASE_URL"] == "postgresql://amplifierd@pgbouncer:6432/amplifierd"
        direct = f"postgresql://amplifierd@{servers}/amplifierd?target_session_attrs=read-write"
        assert given["AMPLIFIERD_LISTEN_URL"] == direct
        assert str(given["AMPLIFIERD_PREPARED_STATEMENTS"]) == "0"


def test_pools_are_of_transactions_and_fit_into_the_servers() -> None:
    config = configparser.ConfigParser(comment_prefixes=(";",), interpolation=None)
    config.read(DEPLOY / "pgbouncer" / "pgbouncer.ini")
    pool = config["pgbouncer"]
    assert pool["pool_mode"] == "transaction"
    server = (DEPLOY / "postgres" / "server.sh").read_text()
    [most] = map(int, re.findall(r"^max_connections = (\d+)$", server, re.MULTILINE))
    assert int(pool["default_pool_size"]) + int(pool["reserve_pool_size"]) <= most / 2


@pytest.mark.parametrize("path", [*DEPLOY.rglob("*.sh")], ids=lambda path: path.name)
def test_scripts_are_programs_without_errors_of_syntax(path: Path) -> None:
    assert path.stat().st_mode & 0o111
    shell = path.read_text().splitlines()[0].rpartition("/")[2].split()[-1]
    subprocess.run([shell, "-n", str(path)], check=True)


# --- systemd ---


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_unit_runs_a_command_that_exists_and_gives_it_time_to_stop(
    path: Path, settings: Any
) -> None:
    text = path.read_text()
    [command] = re.findall(r"^ExecStart=\S+/amplifierd (\w+)$", text, re.MULTILINE)
    assert command in get_commands()
    [seconds] = re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    assert int(seconds) >= 2 * settings.DRAIN_SECONDS
    assert "KillMode=mixed" in text


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_unit_is_one_that_systemd_takes(path: Path, tmp_path: Path) -> None:
    unit = tmp_path / path.name.replace("@", "@8420")
    # The program is not installed here.
    unit.write_text(path.read_text().replace("/opt/amplifierd/bin/amplifierd", "/bin/true"))
    (tmp_path / path.name).write_text(unit.read_text())
    found = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (0, "")


# --- Kubernetes ---


def containers() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Yield kind and pod of each workload, and its one container."""
    for each in MANIFESTS:
        if each["kind"] in {"Deployment", "Job"}:
            pod = each["spec"]["template"]["spec"]
            [container] = pod["containers"]
            yield each["metadata"]["name"], pod, container


def test_kustomization_has_every_manifest() -> None:
    folder = DEPLOY / "kubernetes"
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    assert sorted([*listed, "kustomization.yaml"]) == sorted(p.name for p in folder.iterdir())


def test_pods_run_commands_that_exist_with_the_least_rights() -> None:
    names = []
    for name, pod, container in containers():
        command = " ".join(container.get("command", container.get("args", [])))
        assert set(re.findall(r"amplifierd (\w+)", command)) <= set(get_commands())
        assert "amplifierd " in command
        assert pod["securityContext"]["runAsNonRoot"]
        assert not pod["automountServiceAccountToken"]
        rights = container["securityContext"]
        assert not rights["allowPrivilegeEscalation"]
        assert rights["readOnlyRootFilesystem"]
        assert rights["capabilities"] == {"drop": ["ALL"]}
        names.append(name)
    assert names == ["amplifierd-migrate", "amplifierd-web", "amplifierd-worker"]


def test_pods_get_time_to_finish_what_is_under_way(settings: Any) -> None:
    for name, pod, _ in containers():
        if name != "amplifierd-migrate":
            assert pod["terminationGracePeriodSeconds"] >= settings.DRAIN_SECONDS + 10


def test_probes_ask_pages_that_exist_by_a_name_that_is_let_in(settings: Any) -> None:
    [web] = [container for name, _, container in containers() if name == "amplifierd-web"]
    [port] = [each["containerPort"] for each in web["ports"] if each["name"] == "http"]
    [config] = [each["data"] for each in MANIFESTS if each["kind"] == "ConfigMap"]
    assert str(port) == config["AMPLIFIERD_PORT"]
    for probe, view in (
        ("startupProbe", views.readyz),
        ("readinessProbe", views.readyz),
        ("livenessProbe", views.livez),
    ):
        asked = web[probe]["httpGet"]
        assert resolve(asked["path"]).func is view
        [header] = asked["httpHeaders"]
        assert header["name"] == "Host"
        assert header["value"] in settings.ALLOWED_HOSTS


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
def test_kubectl_builds_the_manifests() -> None:
    command = ["kubectl", "kustomize", str(DEPLOY / "kubernetes")]
    built = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    made = list(yaml.safe_load_all(built))
    assert len(made) == len([each for each in MANIFESTS if each["kind"] != "Kustomization"])
    assert all(each["metadata"].get("namespace", "amplifierd") == "amplifierd" for each in made)
    images = set(re.findall(r"image: (\S+)", built))
    assert len(images) == 1
