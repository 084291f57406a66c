import asyncio
from typing import Any

import psycopg
import pytest
from procrastinate.exceptions import ConnectorException

from amplifierd.common import outage
from sessions_app.worker import queue
from sessions_app.worker.queue import RetryingJobManager


class Connector:
    """A connector whose first statements fail."""

    def __init__(self, failures: int, cause: Exception) -> None:
        self.failures = failures
        self.cause = cause
        self.statements = 0

    async def execute_query_async(self, **arguments: Any) -> None:
        self.statements += 1
        if self.statements <= self.failures:
            raise ConnectorException from self.cause

    async def execute_query_one_async(self, **arguments: Any) -> dict[str, Any]:
        await self.execute_query_async()
        return {"id": None}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage, "FIRST_DELAY", 0)
    monkeypatch.setattr(queue, "FIRST_DELAY", 0)


def manager(failures: int, cause: Exception) -> tuple[RetryingJobManager, Connector]:
    connector = Connector(failures, cause)
    return RetryingJobManager(connector), connector


def test_while_the_database_is_away_there_is_no_job() -> None:
    patient, connector = manager(1, psycopg.OperationalError("gone"))
    assert asyncio.run(patient.fetch_job(None, 1)) is None
    assert connector.statements == 1


def test_a_heartbeat_is_told_once_the_database_is_back() -> None:
    patient, connector = manager(3, psycopg.OperationalError("gone"))
    asyncio.run(patient.update_heartbeat(1))
    assert connector.statements == 4


def test_any_other_fault_ends_the_worker() -> None:
    patient, connector = manager(1, psycopg.errors.ForeignKeyViolation("no such worker"))
    with pytest.raises(ConnectorException):
        asyncio.run(patient.fetch_job(None, 1))
    with pytest.raises(ConnectorException):
        connector.statements = 0
        asyncio.run(patient.update_heartbeat(1))
