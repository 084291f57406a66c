"""Patroni supervises two PostgreSQL, and the daemon finds the leader by its list of hosts."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from amplifierd.postgres.data_folder import Layout
from amplifierd.postgres.programs import Account, account_for, find_programs, make_reachable
from tests.acceptance.people import crowd
from tests.acceptance.trouble import checked
from tests.harness import plain
from tests.harness.daemon import daemon, free_port
from tests.harness.standby import HOST, NAME
from tests.harness.waiting import until

PROGRAMS = ("etcd", "patroni")
MISSING = [name for name in PROGRAMS if shutil.which(name) is None]
pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.long,
    pytest.mark.alone,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]
CLIENTS = 5
# Seconds after which a leader that does not renew its key is no longer one; Patroni's least.
TTL = 20


@dataclass
class Group:
    """An etcd, and Patroni on two nodes, as processes of an account that PostgreSQL runs under."""

    folder: Path
    account: Account
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    # By node: the ports of Patroni's API and of PostgreSQL.
    apis: dict[str, int] = field(default_factory=dict)
    servers: dict[str, int] = field(default_factory=dict)

    def run(self, name: str, *command: str | Path) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                command, **self.account.options(self.folder), stdout=log, stderr=log
            )

    def start(self) -> None:
        etcd, peers = free_port(), free_port()
        client = f"http://{HOST}:{etcd}"
        urls = ["--listen-client-urls", client, "--advertise-client-urls", client]
        urls += ["--listen-peer-urls", f"http://{HOST}:{peers}"]
        self.run("etcd", "etcd", "--data-dir", self.folder / "etcd", *urls)
        for node in ("node1", "node2"):
            self.apis[node], self.servers[node] = free_port(), free_port()
        programs = make_reachable(find_programs(None), self.account)
        for node in self.apis:
            file = self.folder / f"{node}.json"
            file.write_text(json.dumps(self.settings(node, etcd, programs)))
            file.chmod(0o644)
            self.run(node, "patroni", file)
        until(lambda: self.is_complete(), "a leader and its synchronous standby")

    def settings(self, node: str, etcd: int, programs: Path) -> dict[str, object]:
        """Return the configuration of a node; JSON is YAML as well."""
        parameters = {"unix_socket_directories": "", "shared_buffers": "32MB", "fsync": "off"}
        api, server = f"{HOST}:{self.apis[node]}", f"{HOST}:{self.servers[node]}"
        return {
            "scope": "amplifierd",
            "name": node,
            "restapi": {"listen": api, "connect_address": api},
            "etcd3": {"hosts": f"{HOST}:{etcd}"},
            "bootstrap": {
                "dcs": {
                    "ttl": TTL,
                    "loop_wait": 1,
                    "retry_timeout": 5,
                    "synchronous_mode": True,
                    "postgresql": {"use_pg_rewind": True, "parameters": parameters},
                },
                "initdb": [{"encoding": "UTF8"}, "data-checksums", "no-sync", {"locale": "C"}],
            },
            "postgresql": {
                "listen": server,
                "connect_address": server,
                "data_dir": str(self.folder / f"{node}-data"),
                "bin_dir": str(programs),
                "pgpass": str(self.folder / f"{node}.pgpass"),
                "authentication": {
                    "superuser": {"username": NAME},
                    "replication": {"username": "replicator"},
                },
                "pg_hba": [f"host {each} all {HOST}/32 trust" for each in ("all", "replication")],
            },
        }

    def find(self, role: str) -> str | None:
        """Return the node that has this role, if one says so."""
        for node, port in self.apis.items():
            with contextlib.suppress(httpx.TransportError):
                if plain.get(f"http://{HOST}:{port}/{role}", timeout=5).status_code == 200:
                    return node
        return None

    def is_complete(self) -> bool:
        for name, process in self.processes.items():
            assert process.poll() is None, (self.folder / f"{name}.log").read_text()[-3000:]
        return bool(self.find("primary") and self.find("sync"))

    def kill(self, node: str) -> None:
        """Kill a node with everything on it, at once."""
        patroni = self.processes.pop(node)
        doomed = [*psutil.Process(patroni.pid).children(), *self.server_of(node)]
        patroni.kill()
        for process in doomed:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        patroni.wait()

    def server_of(self, node: str) -> list[psutil.Process]:
        """Return the processes of PostgreSQL, which Patroni starts as no children of its own."""
        pid_file = self.folder / f"{node}-data" / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError, psutil.NoSuchProcess):
            first = psutil.Process(int(pid_file.read_text().split()[0]))
            return [first, *first.children()]
        return []

    def close(self) -> None:
        for node in list(self.apis):
            if node in self.processes:
                self.kill(node)
        for process in self.processes.values():
            process.send_signal(signal.SIGKILL)
            process.wait()


@pytest.fixture
def group() -> Iterator[Group]:
    # The account may not enter the folders of tests, which are root's.
    with tempfile.TemporaryDirectory(prefix="amplifierd-patroni-", dir="/tmp") as name:
        folder = Path(name)
        account = account_for(Layout(folder))
        os.chown(folder, account.uid, account.gid)
        own = Group(folder, account)
        try:
            own.start()
            yield own
        finally:
            own.close()


def test_the_daemon_follows_the_leader_when_its_node_dies(group: Group, tmp_path: Path) -> None:
    leader = group.find("primary")
    assert leader
    with psycopg.connect(
        host=HOST, port=group.servers[leader], user=NAME, dbname="postgres", autocommit=True
    ) as admin:
        admin.execute(f"CREATE DATABASE {NAME}")
    hosts = ",".join(f"{HOST}:{port}" for port in group.servers.values())
    url = f"postgresql://{NAME}@{hosts}/{NAME}"
    stop = threading.Event()
    with (
        daemon(tmp_path / "home", DATABASE_URL=url, AMPLIFIERD_KEEPALIVE="1") as own,
        crowd(own, stop, CLIENTS) as people,
    ):
        before = {process.pid for process in own.children("run_")}
        with ThreadPoolExecutor(CLIENTS) as pool:
            working = [pool.submit(person.work) for person in people]
            try:
                until(lambda: all(person.accepted > 2 for person in people), "messages")
                killed = time.monotonic()
                group.kill(leader)
                until(lambda: group.find("primary"), "another leader")
                promoted = time.monotonic()
                until(own.ready, "the daemon to be ready")
                back = time.monotonic()
                counts = [person.accepted for person in people]
                until(
                    lambda: all(p.accepted > n + 2 for p, n in zip(people, counts, strict=True)),
                    "more messages",
                )
            finally:
                stop.set()
            for each in working:
                each.result()
        for person in people:
            for session in person.sessions:
                session.settle()
                assert session.watchers[0].lost == 0
        assert {process.pid for process in own.children("run_")} == before
        [other] = group.apis.keys() - {leader}
        assert checked(f"postgresql://{NAME}@{HOST}:{group.servers[other]}/{NAME}") == []
        print(
            f"\nleader killed: another one after {promoted - killed:.1f} s (its key lives {TTL} s),"
            f" the daemon ready {back - promoted:.1f} s later;"
            f" {sum(person.accepted for person in people)} accepted sends with one outcome each"
        )
