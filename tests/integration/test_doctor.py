"""`manage.py doctor`: what is wrong, and what to do."""

import json
import os
import socket
from datetime import timedelta
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone
from pytest_django.fixtures import Settings

from amplifierd.auth import keys
from amplifierd.doctor import CheckResult, Level, database, machine, reach
from amplifierd.postgres import schema
from profiles_app.models import Profile
from profiles_app.services import profiles
from sessions_app.engine.model_files import ModelFile
from sessions_app.engine.tools import bash
from sessions_app.engine.tools.protection import Layer, can_use_landlock
from sessions_app.models import Process, Run, Session
from sessions_app.models.daemon import ProcessKind
from sessions_app.services import runs
from tests.conftest import claimed
from tests.harness.databases import empty_database

pytestmark = pytest.mark.django_db


def only(findings: object) -> CheckResult:
    """Return the one finding of a look."""
    [finding] = findings
    return finding


def has_worker(seconds: float = 0) -> None:
    """Note a worker whose heart beat so long ago."""
    seen_at = timezone.now() - timedelta(seconds=seconds)
    name = f"host:{Process.objects.count()}"
    Process.objects.create(name=name, kind=ProcessKind.WORKER, seen_at=seen_at)


def aged(run: Run, seconds: float) -> None:
    """Have a run wait for so long already."""
    Run.objects.filter(pk=run.pk).update(created_at=timezone.now() - timedelta(seconds=seconds))


@pytest.fixture
def home(settings: Settings, tmp_path: Path) -> Path:
    """A data folder of its own."""
    settings.HOME = tmp_path / "home"
    settings.HOME.mkdir(mode=0o700)
    settings.MODELS_DIR = settings.HOME / "models"
    return settings.HOME


@pytest.fixture
def whole(home: Path, settings: Settings, catalogue: None) -> None:
    """An installation that lacks nothing but the model."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        settings.PORT = free.getsockname()[1]
    has_worker()


def test_all_is_told_a_line_each(whole: None) -> None:
    call_command("doctor", stdout=(out := StringIO()), stderr=(err := StringIO()))
    lines = [line.split("\t") for line in out.getvalue().splitlines()]
    assert {line[0] for line in lines} <= {"ok", "warning"}
    topics = {line[1] for line in lines}
    assert topics >= {"python", "packages", "home", "disk", "model", "port", "database", "keys"}
    assert topics >= {"migrations", "clock", "workers", "queue", "leases", "address"}
    assert err.getvalue().endswith(".\n")


def test_json_is_a_line_each(whole: None) -> None:
    call_command("doctor", "--json", stdout=(out := StringIO()), stderr=StringIO())
    findings = [json.loads(line) for line in out.getvalue().splitlines()]
    assert len(findings) > 10
    assert all(set(each) == {"topic", "level", "says", "todo"} for each in findings)
    assert all(each["todo"] for each in findings if each["level"] != "ok")


def test_an_error_is_exit_code_1(whole: None, settings: Settings) -> None:
    settings.PUBLIC = settings.REQUIRE_KEYS = True
    with pytest.raises(CommandError, match=r"^1 error, \d+ warning") as refusal:
        call_command("doctor", stdout=(out := StringIO()), stderr=StringIO())
    assert refusal.value.returncode == 1
    assert "error\tAPI keys\tthere is none, so nobody can call\tMake one" in out.getvalue()


def test_a_database_that_is_away_ends_the_look_with_its_reason(
    whole: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = {"host": "127.0.0.1", "port": 1, "dbname": "x", "user": "nobody", "password": "hush"}
    monkeypatch.setattr(schema, "parameters", lambda purpose: away)
    with pytest.raises(CommandError):
        call_command("doctor", stdout=(out := StringIO()), stderr=StringIO())
    last = out.getvalue().splitlines()[-1]
    assert last.startswith("error\tdatabase\t")
    assert "onnection refused" in last
    assert "hush" not in out.getvalue()


@pytest.mark.parametrize(
    ("options", "says", "todo"),
    [
        ("-c default_transaction_read_only=on", "read-only, it takes no writes", "Reset"),
        ("", "", ""),
    ],
)
def test_a_database_that_takes_no_writes_is_an_error(
    whole: None, monkeypatch: pytest.MonkeyPatch, options: str, says: str, todo: str
) -> None:
    known = schema.parameters("doctor")
    known["options"] = f"{known.get('options', '')} {options}"
    monkeypatch.setattr(schema, "parameters", lambda purpose: known)
    with database.open_database() as finding:
        assert finding.level is (Level.ERROR if says else Level.OK)
        assert says in finding.says
        assert "UTF8" in finding.says
        assert finding.todo.startswith(todo)


def test_a_database_of_another_encoding_is_an_error(
    whole: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with empty_database("LATIN1") as other:
        monkeypatch.setattr(schema, "parameters", lambda purpose: {"conninfo": other})
        with database.open_database() as finding:
            assert finding.level is Level.ERROR
            assert "has the encoding LATIN1" in finding.says
            assert "ENCODING 'UTF8' TEMPLATE template0" in finding.todo


def test_a_server_that_is_too_old_is_named_with_what_is_needed() -> None:
    [(says, todo)] = schema.find_faults(14, "14.9", "UTF8", "amplifierd")
    assert "PostgreSQL 14.9 is too old" in says
    assert "15 or newer" in todo
    assert list(schema.find_faults(15, "15.0", "UTF8", "amplifierd")) == []


def test_a_home_without_a_database_is_told_to_start(home: Path, settings: Settings) -> None:
    settings.DATABASE_URL = database.embedded_url(home)
    with database.open_database() as finding:
        assert finding is database.NOT_MADE
    assert not (home / "pgdata").exists()


def test_migrations_that_are_not_applied_are_an_error() -> None:
    assert only(database.migrations()).level is Level.OK
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM django_migrations WHERE app = 'sessions_app' AND name ~ '^0003'"
        )
    finding = only(database.migrations())
    assert finding.level is Level.ERROR
    assert finding.says.startswith("1 are not applied, the first is sessions_app.0003")


def test_a_database_of_a_newer_version_is_told() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO django_migrations (app, name, applied)"
            " VALUES ('sessions_app', '9999_later', now())"
        )
    finding = only(database.migrations())
    assert finding.level is Level.WARNING
    assert "sessions_app.9999_later" in finding.says


@pytest.mark.parametrize(
    ("seconds", "level"), [(0, Level.OK), (10, Level.WARNING), (-3600, Level.ERROR)]
)
def test_a_clock_that_differs_is_told(
    seconds: int, level: Level, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = SimpleNamespace(now=lambda zone: timezone.now() - timedelta(seconds=seconds))
    monkeypatch.setattr(database, "datetime", now)
    finding = only(database.clock())
    assert finding.level is level
    assert ("behind" in finding.says) is (level is Level.WARNING)


def test_workers_are_counted_by_their_heartbeats() -> None:
    has_worker(seconds=3600)
    assert only(database.workers()).level is Level.WARNING
    has_worker()
    assert only(database.workers()).says == "1 alive, 0 runs under way"


def test_a_daemon_without_workers_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "find_daemon", lambda: {"pid": 7, "url": "http://127.0.0.1:1"})
    finding = only(database.workers())
    assert finding.level is Level.ERROR
    assert "(pid 7)" in finding.says


def test_runs_that_wait_long_are_told(session: Session) -> None:
    assert only(database.queue()).says == "nothing waits"
    run, _ = runs.send(session.id, "hello")
    assert only(database.queue()).level is Level.OK
    aged(run, 7200)
    finding = only(database.queue())
    assert (finding.level, finding.says) == (Level.ERROR, "1 queued, the oldest for 2 hours")
    has_worker()
    assert only(database.queue()).level is Level.WARNING


def test_an_expired_lease_is_told(session: Session) -> None:
    assert only(database.leases()).level is Level.OK
    attempt = claimed(session, worker="gone:7")
    lease = timezone.now() - timedelta(seconds=5)
    Run.objects.filter(pk=attempt.run_id).update(lease_expires_at=lease)
    assert only(database.leases()).level is Level.ERROR
    has_worker()
    finding = only(database.leases())
    assert finding.level is Level.WARNING
    assert finding.says.startswith("1 expired, one of gone:7, for 5")
    lease = timezone.now() - timedelta(hours=1)
    Run.objects.filter(pk=attempt.run_id).update(lease_expires_at=lease)
    assert only(database.leases()).level is Level.ERROR


@pytest.fixture
def hosted(catalogue: None) -> Profile:
    """A profile whose provider needs a key."""
    profile = Profile.objects.get(collection="foundation", name="test")
    providers = [{"module": "provider-openai", "source": None, "config": {"base_url": "${A_HOST}"}}]
    profile.definition = {**profile.definition, "providers": providers}
    profile.save()
    return profile


def test_variables_that_are_not_set_are_named(
    hosted: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("A_HOST", "https://a-value.example")
    finding = only(machine.variables())
    assert finding.level is Level.WARNING
    assert finding.says == (
        "OPENAI_API_KEY is not set; needed by developer-expertise/dev, developer-expertise/full, "
        "foundation/test"
    )


def test_a_variable_that_the_active_profile_needs_is_an_error(
    hosted: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("A_HOST", raising=False)
    Profile.objects.filter(pk=hosted.pk).update(is_active=True)
    assert [each.level for each in machine.variables()] == [Level.ERROR, Level.ERROR]


def test_a_variable_that_another_provider_makes_up_for_is_no_error(
    hosted: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("A_HOST", "https://a-value.example")
    second = {"module": "provider-mock", "source": None, "config": {}}
    providers = [*hosted.definition["providers"], second]
    definition = {**hosted.definition, "providers": providers}
    Profile.objects.filter(pk=hosted.pk).update(is_active=True, definition=definition)
    assert only(machine.variables()).level is Level.WARNING


def test_values_are_never_told(hosted: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    monkeypatch.setenv("A_HOST", "https://canary.example")
    finding = only(machine.variables())
    assert finding.says == "A_HOST, OPENAI_API_KEY set"
    assert "canary" not in str(finding)


def test_a_folder_that_others_read_is_told(home: Path) -> None:
    assert only(machine.home()).level is Level.OK
    (home / "secret_key").touch(mode=0o644)
    finding = only(machine.home())
    assert finding.level is Level.WARNING
    assert finding.todo == f"chmod go-rw {home / 'secret_key'}"
    (home / "secret_key").chmod(0o600)
    home.chmod(0o755)
    assert str(home) in only(machine.home()).todo


@pytest.mark.parametrize(
    ("free", "level"), [(10**8, Level.ERROR), (10**9, Level.WARNING), (10**11, Level.OK)]
)
def test_room_on_the_disk_is_looked_at(
    home: Path, free: int, level: Level, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    assert only(machine.disk()).level is level


def test_the_model_is_looked_at_byte_by_byte(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert only(machine.model()).level is Level.WARNING
    model = ModelFile("m.gguf", 3, "0" * 64, "p", "0" * 64)
    monkeypatch.setattr(machine, "SMOLLM2", model)
    (home / "models").mkdir()
    (home / "models" / "m.gguf").write_text("abc")
    finding = only(machine.model())
    assert finding.level is Level.ERROR
    assert "its checksum is wrong" in finding.says


def test_packages_other_than_pinned_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert only(machine.packages()).level is Level.OK
    pins = tmp_path / "requirements.txt"
    pins.write_text("# all\nrich==1.0  # old\nnobody-has-this==2\nx==1 ; sys_platform == 'none'\n")
    monkeypatch.setattr(machine, "REQUIREMENTS", pins)
    finding = only(machine.packages())
    assert finding.level is Level.WARNING
    assert "instead of 1.0, nobody-has-this is not installed" in finding.says


def test_a_port_in_use_is_told_with_its_program(home: Path, settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        settings.HOST, settings.PORT = other.getsockname()
        finding = only(reach.port())
    assert finding.level is Level.ERROR
    assert f"(pid {os.getpid()})" in finding.says
    assert only(reach.port()).level is Level.OK


def test_an_address_of_another_machine_is_told(home: Path, settings: Settings) -> None:
    settings.HOST = "192.0.2.1"
    finding = only(reach.port())
    assert finding.level is Level.ERROR
    assert "cannot be had" in finding.says


def test_a_note_of_a_daemon_that_was_killed_is_not_believed(home: Path) -> None:
    (home / "serve.lock").write_text(json.dumps({"pid": os.getpid(), "url": "http://x"}))
    assert machine.find_daemon() is None


def test_a_daemon_that_does_not_answer_is_an_error(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        url = f"http://127.0.0.1:{gone.getsockname()[1]}"
    monkeypatch.setattr(machine, "find_daemon", lambda: {"pid": 7, "url": url})
    finding = only(reach.port())
    assert finding.level is Level.ERROR
    assert "the daemon (pid 7) does not answer" in finding.says


def test_an_open_address_wants_hosts_and_tls(settings: Settings) -> None:
    assert only(reach.address()).level is Level.OK
    settings.HOST, settings.PUBLIC = "0.0.0.0", True
    findings = list(reach.address())
    assert {each.level for each in findings} == {Level.ERROR}
    assert any("AMPLIFIERD_ALLOWED_HOSTS" in each.todo for each in findings)
    assert any("TLS" in each.todo for each in findings)


def test_keys_are_counted_where_they_are_demanded(settings: Settings) -> None:
    assert list(reach.api_keys()) == []
    settings.REQUIRE_KEYS = True
    assert only(reach.api_keys()).level is Level.ERROR
    keys.create(name="a", owner="a", scope="read", expires_at=None)
    assert only(reach.api_keys()).says == "1 that let in"


@pytest.mark.usefixtures("catalogue")
def test_private_addresses_in_profiles_are_told_where_keys_are_demanded(
    settings: Settings,
) -> None:
    ollama = {"module": "provider-ollama", "config": {"default_model": "m"}}
    config = {"servers": {"a": {"url": "http://10.1.2.3:8000/mcp"}}, "approval_timeout": 60}
    sections = {"providers": [ollama], "tools": [{"module": "tool-mcp", "config": config}]}
    profiles.create("local-servers", sections=sections)
    assert only(reach.outbound()).says == "private addresses: profiles may name them"
    settings.REQUIRE_KEYS = True
    findings = list(reach.outbound())
    assert {each.level for each in findings} == {Level.WARNING}
    assert ["127.0.0.1" in findings[0].says, "10.1.2.3" in findings[1].says] == [True, True]
    assert all("local/local-servers" in each.says for each in findings)
    settings.OUTBOUND_HOSTS = ["127.0.0.1:11434", "10.1.0.0/16"]
    assert only(reach.outbound()).says.endswith("open are 127.0.0.1:11434, 10.1.0.0/16")


def test_what_is_wrong_is_shown_on_a_terminal(whole: None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "dumb")
    call_command("doctor", stdout=(out := Terminal()), stderr=StringIO())
    lines = out.getvalue().splitlines()
    assert any(line.startswith("✓ python") for line in lines)
    assert any(line.startswith("! model") for line in lines)


def test_a_proxy_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert only(reach.proxies()).level is Level.OK
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    assert only(reach.proxies()).says == "ALL_PROXY can be used"
    monkeypatch.setenv("HTTPS_PROXY", "ftp://proxy.example")
    finding = only(reach.proxies())
    assert finding.level is Level.ERROR
    assert "HTTPS_PROXY" in finding.says


@pytest.mark.parametrize(
    ("layer", "sandbox", "requires_keys", "level", "says"),
    [
        (None, "auto", False, Level.OK, "keep"),
        (Layer.LANDLOCK, "auto", False, Level.OK, "Landlock and seccomp keep"),
        (Layer.LANDLOCK, "auto", True, Level.WARNING, "modes and times"),
        (Layer.BASIC, "auto", False, Level.WARNING, "read files of the machine, "),
        (Layer.BASIC, "", True, Level.ERROR, "are refused"),
        (None, "off", False, Level.WARNING, "connect to services of this machine"),
    ],
)
def test_commands_try_to_get_out_and_the_protection_is_named(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    layer: Layer | None,
    sandbox: str,
    requires_keys: bool,
    level: Level,
    says: str,
) -> None:
    if layer == Layer.LANDLOCK and not can_use_landlock():
        pytest.skip("the kernel has no Landlock that scopes signals")
    settings.SANDBOX, settings.REQUIRE_KEYS = sandbox, requires_keys
    if layer:
        monkeypatch.setattr(bash, "find_layer", lambda user: (layer, ""))
    [finding] = machine.commands()
    assert (finding.level, finding.topic) == (level, "commands")
    assert says in finding.says
    assert (level == Level.OK) == (finding.todo == "")
