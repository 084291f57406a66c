"""An older version's database is migrated: what its runs wait for is still there afterwards."""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connections
from django.db.migrations.executor import MigrationExecutor
from psycopg.conninfo import conninfo_to_dict

from sessions_app import invariants
from tests.harness.databases import empty_database

OLD = ("sessions_app", "0011_batch_ids")
NEW = ("sessions_app", "0012_pending_actions")
THEN = datetime(2026, 11, 1, tzinfo=UTC)


@contextlib.contextmanager
def database() -> Iterator[Any]:
    """A connection to an empty database of its own."""
    with empty_database() as own:
        connection = connections["default"].copy("upgraded")
        connection.settings_dict["NAME"] = conninfo_to_dict(own)["dbname"]
        connection.settings_dict["OPTIONS"].pop("pool", None)
        connections["upgraded"] = connection
        try:
            yield connection
        finally:
            connection.close()
            del connections["upgraded"]


def migrate(connection: Any, target: tuple[str, str]) -> Any:
    """Migrate to a version; return its models."""
    executor = MigrationExecutor(connection)
    executor.migrate([target])
    return MigrationExecutor(connection).loader.project_state([target]).apps


class Old:
    """Rows of the older version, written past its triggers."""

    def __init__(self, apps: Any) -> None:
        self.apps = apps

    def add(self, model: str, **columns: Any) -> Any:
        rows = self.apps.get_model("sessions_app", model).objects.using("upgraded")
        return rows.create(**columns)

    def session(self, name: str, status: str, parent: Any = None) -> tuple[Any, Any]:
        """Add an active session with one run in that status."""
        session = self.add(
            "Session",
            id=f"session_{name}",
            status="active",
            started_at=THEN,
            profile_name="foundation/test",
            parent=parent,
            message_count=1,
        )
        message = self.add("Message", id=f"message_{name}", session=session, seq=1, role="user")
        ended = {"ended_at": THEN} if status in ("succeeded", "cancelled") else {}
        run = self.add(
            "Run", id=f"run_{name}", session=session, message=message, status=status, **ended
        )
        return session, run

    def approval(self, run: Any, status: str) -> Any:
        answered = {} if status == "pending" else {"answered_at": THEN, "answered_by": "ann"}
        return self.add(
            "Approval",
            id=f"approval_{run.id}_{status}",
            session=run.session,
            run=run,
            step=1,
            tool_call_id=f"call_{status}",
            tool_name="push",
            tool_input={"key": "secret"},
            redacted_input={"key": "…"},
            fingerprint="f" * 64,
            status=status,
            created_at=THEN,
            expires_at=THEN + timedelta(days=3650),
            **answered,
        )


@pytest.mark.django_db(transaction=True)
def test_approvals_tasks_and_checkpoints_are_kept() -> None:
    with database() as connection:
        old = Old(migrate(connection, OLD))
        with connection.cursor() as cursor:
            cursor.execute("SET session_replication_role = replica")
        asking, parked = old.session("asking", "parked")
        _, working = old.session("working", "queued", asking)
        done, _ = old.session("done", "succeeded", asking)
        _, cancelled = old.session("cancelled", "cancelled")
        approvals = [old.approval(parked, status) for status in ("pending", "approved", "denied")]
        task = {"run": parked, "step": 1}
        old.add("Task", **task, tool_call_id="at_work", session=working.session)
        old.add("Task", **task, tool_call_id="done", session=done)
        old.add("Task", **task, tool_call_id="none", error="There is no such profile.")
        old.add("Task", run=cancelled, step=1, tool_call_id="late", session=None)
        old.add("Step", run=parked, number=1, data={"role": "assistant"}, event_seq=0)
        old.add(
            "Event",
            session=asking,
            seq=1,
            run_id=parked.id,
            type="run_parked",
            data={"waits": [{"tool_call_id": "at_work", "tool_name": "delegate"}]},
            created_at=THEN,
        )
        with connection.cursor() as cursor:
            cursor.execute("SET session_replication_role = origin")
        apps = migrate(connection, NEW)
        actions = apps.get_model("sessions_app", "PendingAction").objects.using("upgraded")

        kept = actions.filter(kind="approval").order_by("created_at", "id")
        assert {each.id for each in kept} == {each.id for each in approvals}
        for before in approvals:
            after = actions.get(pk=before.id)
            for name in (
                *("session_id", "run_id", "tool_call_id", "tool_name", "tool_input", "status"),
                *("redacted_input", "fingerprint", "created_at", "expires_at", "answered_by"),
            ):
                assert getattr(after, name) == getattr(before, name), name
            assert after.checkpoint == before.step

        columns = ("status", "session_id", "run_id", "sub_session_id", "reason", "checkpoint")
        calls = {
            call.tool_call_id: tuple(getattr(call, name) for name in columns)
            for call in actions.filter(kind="sub_session")
        }
        ids = (asking.id, parked.id)
        assert calls == {
            "at_work": ("pending", *ids, "session_working", "", 1),
            "done": ("answered", *ids, "session_done", "", 1),
            "none": ("answered", *ids, None, "There is no such profile.", 1),
            "late": ("withdrawn", "session_cancelled", cancelled.id, None, "", 1),
        }
        delegated = actions.get(tool_call_id="at_work")
        assert (delegated.tool_name, delegated.created_at) == ("delegate", THEN)

        checkpoint = apps.get_model("sessions_app", "Checkpoint").objects.using("upgraded").get()
        assert (checkpoint.run_id, checkpoint.data) == (parked.id, {"role": "assistant"})
        with connection.cursor() as cursor:
            waiting = [each for each in invariants.CHECKS if each.name.endswith("-pending")]
            assert len(waiting) == 2
            for check in waiting:
                assert list(invariants.broken(cursor, check, 9)) == []
            cursor.execute(
                "SELECT to_regclass('sessions_app_task'), to_regclass('sessions_app_step')"
            )
            assert cursor.fetchone() == (None, None)
