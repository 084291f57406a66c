"""The cluster of deploy/compose.cluster.yml as processes of this machine, with its own scripts.

Two PostgreSQL servers, PgBouncer, two web processes and two workers; then the primary is killed.
"""

import contextlib
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest
import yaml

from amplifierd.common.program import BASE_DIR
from tests.harness.daemon import free_port
from tests.harness.waiting import PATIENCE, until

PROGRAMS = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.long,
    pytest.mark.skipif(PROGRAMS is None, reason="PostgreSQL's programs are not installed"),
    pytest.mark.skipif(not shutil.which("pgbouncer"), reason="pgbouncer is not installed"),
]
DEPLOY = BASE_DIR / "deploy"
SERVICES = yaml.safe_load((DEPLOY / "compose.cluster.yml").read_text())["services"]
HOST = "127.0.0.1"
# With all that a shell, a URL or a connection string could misread.
PASSWORD = 'it\'s "a b" $c @/%&'


class Cluster:
    """The services of the compose file; each is a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # PostgreSQL and PgBouncer refuse to run as root.
        self.user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
        self.ports = {name: free_port() for name in ("postgres-a", "postgres-b", "pgbouncer")}
        self.web_ports = [free_port(), free_port()]
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.statuses: list[int] = []
        self.key = ""

    def environment(self, name: str) -> dict[str, str]:
        """Return what the compose file gives the service, with this machine's ports and folders."""
        given = {key: str(value) for key, value in SERVICES[name]["environment"].items()}
        given = {key: value for key, value in given.items() if not value.startswith("${")}
        for host, port in self.ports.items():
            default = 6432 if host == "pgbouncer" else 5432
            given = {
                key: re.sub(f"{host}:{default}", f"{HOST}:{port}", value)
                for key, value in given.items()
            }
        return {
            "PATH": f"{PROGRAMS}:{os.environ['PATH']}:/usr/sbin",
            "LANG": "C.UTF-8",
            "HOME": str(self.folder),
            **given,
            "PGPASSWORD": PASSWORD,
        }

    def server(self, name: str) -> dict[str, str]:
        """Return the environment of one PostgreSQL server."""
        given = self.environment(name)
        return given | {
            "PEER": HOST,
            "PEER_PORT": str(self.ports[given["PEER"]]),
            "PORT": str(self.ports[name]),
            "LISTEN": HOST,
            "NETWORK": f"{HOST}/32",
            "PGDATA": str(self.folder / name / "data"),
            "SOCKETS": str(self.folder / name),
        }

    def pooler(self) -> tuple[Path, dict[str, str]]:
        """Return config and environment of PgBouncer."""
        text = (DEPLOY / "pgbouncer" / "pgbouncer.ini").read_text()
        text = text.replace("listen_port = 6432", f"listen_port = {self.ports['pgbouncer']}")
        config = self.folder / "pgbouncer" / "source.ini"
        config.write_text(text.replace("listen_addr = *", f"listen_addr = {HOST}"))
        servers = self.environment("pgbouncer")["POSTGRES"].split(",")
        changes = {
            "POSTGRES": ",".join(HOST for _ in servers),
            "PORTS": ",".join(str(self.ports[name]) for name in servers),
            "TMPDIR": str(config.parent),
        }
        return config, self.environment("pgbouncer") | changes

    def app(self, name: str, **changes: str) -> dict[str, str]:
        """Return the environment of one of our own processes."""
        given = {
            "AMPLIFIERD_HOME": str(self.folder / "home"),
            "AMPLIFIERD_SECRET_KEY": "of-a-test" * 6,
            "AMPLIFIERD_FETCH_MODEL": "0",
        }
        return self.environment(name) | given | changes

    def own(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        shutil.chown(folder, self.user)
        return folder

    def start(
        self, name: str, command: list[str], environment: dict[str, str], **options: Any
    ) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                cwd=BASE_DIR,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **options,
            )

    def start_server(self, name: str) -> None:
        self.own(name)
        command = [str(DEPLOY / "postgres" / "server.sh")]
        self.start(name, command, self.server(name), **self.account)

    @property
    def account(self) -> dict[str, Any]:
        is_other = os.getuid() == 0
        return {"user": self.user, "group": self.user, "extra_groups": []} if is_other else {}

    def promote(self, name: str, *arguments: str) -> str:
        """Run promote.sh beside a server; return what it says."""
        done = subprocess.run(
            [str(DEPLOY / "postgres" / "promote.sh"), *arguments],
            env=self.server(name),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            **self.account,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def kill(self, name: str) -> None:
        """End a service and all of its processes at once."""
        process = self.processes.pop(name)
        found = psutil.Process(process.pid)
        for each in [found, *found.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait()

    def manage(self, *words: str) -> str:
        """Run a management command as the compose file's `migrate` does; return its output."""
        done = subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=BASE_DIR,
            env=self.app("migrate"),
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def query(self, name: str, statement: str) -> Any:
        """Return the first value that one of the servers answers; None if it is away."""
        parameters = {"host": HOST, "port": self.ports[name], "user": "amplifierd"}
        with (
            contextlib.suppress(psycopg.OperationalError),
            psycopg.connect(
                **parameters, dbname="amplifierd", password=PASSWORD, connect_timeout=3
            ) as connection,
        ):  # type: ignore[arg-type]
            row = connection.execute(statement).fetchone()  # type: ignore[call-overload]
            return row and row[0]
        return None

    def is_synchronous(self, name: str) -> bool:
        found = "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
        return self.query(name, found) is True

    def ask(self, method: str, path: str, body: Any = None, key: str = "") -> Any:
        """Send a request until it is accepted, to one web process after the other.

        With the same `Idempotency-Key` each time, so that it has one effect.
        """
        headers = {"Authorization": f"Bearer {self.key}", "X-Forwarded-Proto": "https"}
        if method == "POST":
            headers["Idempotency-Key"] = key or os.urandom(8).hex()

        def answer() -> httpx.Response | None:
            self.web_ports.reverse()
            url = f"http://{HOST}:{self.web_ports[0]}/api/v1{path}"
            with contextlib.suppress(httpx.TransportError):
                response = httpx.request(method, url, json=body, headers=headers, timeout=40)
                self.statuses.append(response.status_code)
                return response if response.status_code < 300 else None
            return None

        found = until(answer, f"{method} {path} to be accepted")
        assert found
        return found.json() if found.content else None


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    # Not pytest's folder, through which the account of the servers does not get.
    folder = Path(tempfile.mkdtemp(prefix="amplifierd-cluster-"))
    folder.chmod(0o755)
    own = Cluster(folder)
    try:
        own.start_server("postgres-a")
        own.start_server("postgres-b")
        until(lambda: own.is_synchronous("postgres-a"), "the standby to be synchronous")
        own.own("pgbouncer")
        config, environment = own.pooler()
        command = ["sh", str(DEPLOY / "pgbouncer" / "run.sh"), str(config)]
        own.start("pgbouncer", command, environment, **own.account)
        until(
            lambda: (
                own.processes["pgbouncer"].poll() is None
                and (config.parent / "pgbouncer.ini").exists()
            ),
            "PgBouncer",
        )
        own.manage("migrate")
        own.manage("load_profiles")
        own.key = own.manage("apikeys", "create", "tester", "--owner", "tester", "--scope", "admin")
        for number, port in enumerate(own.web_ports):
            changes = {"AMPLIFIERD_HOST": HOST, "AMPLIFIERD_PORT": str(port)}
            own.start(
                f"web-{number}", [sys.executable, "manage.py", "run_web"], own.app("web", **changes)
            )
            own.start(
                f"worker-{number}", [sys.executable, "manage.py", "run_worker"], own.app("worker")
            )
        yield own
    finally:
        for name in [*own.processes]:
            own.kill(name)
        # Shown if the test fails.
        for log in folder.glob("*.log"):
            print(f"== {log.name}\n{log.read_text()[-6000:]}")
        shutil.rmtree(folder, ignore_errors=True)


def talk(own: Cluster, session: str, content: str) -> str:
    """Send a message, wait for its run, and return the answer."""
    key = os.urandom(8).hex()
    sent = own.ask("POST", f"/sessions/{session}/send-message", {"content": content}, key)

    def answer() -> str | None:
        transcript = own.ask("GET", f"/sessions/{session}/transcript")
        found = [
            each["content"]
            for each in transcript
            if each["runId"] == sent["runId"] and each["role"] == "assistant"
        ]
        return found[0] if found else None

    return until(answer, f"the answer to {content!r}") or ""


def test_a_cluster_serves_through_its_pool_and_outlives_its_primary(cluster: Cluster) -> None:
    session = cluster.ask("POST", "/sessions/", {"profile_name": "foundation/test"})["sessionId"]
    cluster.ask("POST", f"/sessions/{session}/start")
    assert talk(cluster, session, "before")
    assert set(cluster.statuses) <= {200, 201, 202, 204, 503}
    before = cluster.ask("GET", f"/sessions/{session}/events?after=0")

    cluster.kill("postgres-a")
    assert "This server is the primary" in cluster.promote("postgres-b")
    assert talk(cluster, session, "after")
    after = cluster.ask("GET", f"/sessions/{session}/events?after=0")
    assert after[: len(before)] == before
    assert [each["id"] for each in after] == [*range(1, len(after) + 1)]

    # The one that was killed comes back as the standby, and is synchronous again.
    cluster.start_server("postgres-a")
    assert "synchronous" in cluster.promote("postgres-b", "--pair")
    until(lambda: cluster.is_synchronous("postgres-b"), "the standby to be synchronous")
    assert talk(cluster, session, "again")
    count = "SELECT count(*) FROM sessions_app_event"
    until(
        lambda: cluster.query("postgres-a", count) == cluster.query("postgres-b", count),
        "the standby to have everything",
    )
    assert cluster.query("postgres-a", "SELECT pg_is_in_recovery()") is True
    # 409: the first attempt of a request was still under way when it was sent again.
    assert set(cluster.statuses) <= {200, 201, 202, 204, 409, 503}
    cluster.manage("check_invariants")
