"""The rules that PostgreSQL enforces for every writer: services, the admin, plain SQL.

Every violation is a `check_violation`, which Python gets as an IntegrityError.
"""

from collections.abc import Sequence

import pgtrigger

# The id of the session whose rows this transaction may delete. Only the deletion of a session
# sets it.
PURGE_SETTING = "amplifierd.purge"
# The id of the session, not yet started, into which this transaction copies the history of another.
# Only the copying of a session sets it.
COPY_SETTING = "amplifierd.copy"
# The id of the ended session whose journal this transaction compacts. Only
# `services.journal_compaction` sets it.
COMPACT_SETTING = "amplifierd.compact"


def _refuse(message: str, *values: str) -> str:
    """Return a RAISE statement; the values replace the `%` in the message, in their order."""
    arguments = "".join(f", {value}" for value in values)
    return f"RAISE EXCEPTION '{message}'{arguments} USING ERRCODE = 'check_violation';"


def transitions(name: str, pairs: list[tuple[str, str]]) -> pgtrigger.Trigger:
    """Return the trigger that allows only these changes of `status`."""
    listed = ", ".join(f"('{source}', '{target}')" for source, target in pairs)
    return pgtrigger.Trigger(
        name=name,
        when=pgtrigger.Before,
        operation=pgtrigger.UpdateOf("status"),
        condition=pgtrigger.Q(old__status__df=pgtrigger.F("new__status")),
        func=f"""
            IF (OLD.status, NEW.status) NOT IN ({listed}) THEN
                {_refuse("a % cannot go from % to %", "TG_TABLE_NAME", "OLD.status", "NEW.status")}
            END IF;
            RETURN NEW;
        """,
    )


def initial(name: str, status: str) -> pgtrigger.Trigger:
    """Return the trigger that allows only this status for a new row."""
    return pgtrigger.Trigger(
        name=name,
        when=pgtrigger.Before,
        operation=pgtrigger.Insert,
        condition=~pgtrigger.Q(new__status=status),
        func=_refuse("a new % is % and nothing else", "TG_TABLE_NAME", f"'{status}'"),
    )


def count_rows(name: str, counter: str, table: str) -> pgtrigger.Trigger:
    """Return the trigger for a counter: at commit, each number up to it has a row of the table.

    With the unique (session, seq) this makes the seqs 1..n without a gap. For a session that the
    same transaction has deleted there is nothing to count.
    """
    refusal = _refuse(f"{counter} of % is not the seq of its newest row", "NEW.id")
    return pgtrigger.Trigger(
        name=name,
        when=pgtrigger.After,
        timing=pgtrigger.Deferred,
        operation=pgtrigger.UpdateOf(counter),
        condition=pgtrigger.Q(**{f"old__{counter}__df": pgtrigger.F(f"new__{counter}")}),
        func=f"""
            IF NEW.{counter} < OLD.{counter} OR NEW.{counter} - OLD.{counter} <> (
                SELECT count(*) FROM {table}
                WHERE session_id = NEW.id AND seq > OLD.{counter} AND seq <= NEW.{counter}
            ) AND EXISTS (SELECT FROM sessions_app_session WHERE id = NEW.id) THEN
                {refusal}
            END IF;
            RETURN NULL;
        """,
    )


def number_rows(name: str, counter: str, refusal: str = "false") -> pgtrigger.Trigger:
    """Return the trigger for new rows: no seq is above the session's counter.

    `refusal` is a further condition over the session `s` under which nothing may be added.
    """
    return pgtrigger.Trigger(
        name=name,
        when=pgtrigger.After,
        operation=pgtrigger.Insert,
        level=pgtrigger.Statement,
        referencing=pgtrigger.Referencing(new="added"),
        func=f"""
            IF EXISTS (
                SELECT FROM added JOIN sessions_app_session s ON s.id = added.session_id
                WHERE added.seq > s.{counter} OR {refusal}
            ) THEN
                {_refuse("the session of this new % does not take it", "TG_TABLE_NAME")}
            END IF;
            RETURN NULL;
        """,
    )


def takes_no_messages(session: str) -> str:
    """Return the condition under which a session accepts no message: it is not active.

    A copy accepts those of its original before it starts.
    """
    return (
        f"({session}.status <> 'active' AND NOT ({session}.status = 'created' AND {session}.id"
        f" IS NOT DISTINCT FROM current_setting('{COPY_SETTING}', true)))"
    )


def nothing_pending(name: str) -> pgtrigger.Trigger:
    """Return the trigger for runs: at commit, only a parked run has pending actions."""
    return pgtrigger.Trigger(
        name=name,
        when=pgtrigger.After,
        timing=pgtrigger.Deferred,
        operation=pgtrigger.UpdateOf("status"),
        condition=pgtrigger.Q(old__status="parked") & ~pgtrigger.Q(new__status="parked"),
        func=f"""
            IF EXISTS (
                SELECT FROM sessions_app_pending_action a JOIN sessions_app_run r ON r.id = a.run_id
                WHERE r.id = NEW.id AND r.status <> 'parked' AND a.status = 'pending'
            ) THEN
                {_refuse("the run % is % and waits for an answer", "NEW.id", "NEW.status")}
            END IF;
            RETURN NULL;
        """,
    )


def asked_by_parked_run(name: str) -> pgtrigger.Trigger:
    """Return the trigger for pending actions: at commit, the run of a new one is parked."""
    return pgtrigger.Trigger(
        name=name,
        when=pgtrigger.After,
        timing=pgtrigger.Deferred,
        operation=pgtrigger.Insert,
        func=f"""
            IF EXISTS (
                SELECT FROM sessions_app_pending_action a JOIN sessions_app_run r ON r.id = a.run_id
                WHERE a.id = NEW.id AND a.status = 'pending' AND r.status <> 'parked'
            ) THEN
                {_refuse("the run % is not parked and waits for an answer", "NEW.run_id")}
            END IF;
            RETURN NULL;
        """,
    )


def unchangeable(name: str) -> pgtrigger.Trigger:
    """Return the trigger for history: a row is never updated."""
    return pgtrigger.Trigger(
        name=name,
        when=pgtrigger.Before,
        operation=pgtrigger.Update,
        level=pgtrigger.Statement,
        func=_refuse("% is append-only", "TG_TABLE_NAME"),
    )


def keep_history(name: str) -> pgtrigger.Trigger:
    """Return the trigger for history: a row is deleted only together with its session."""
    return pgtrigger.Trigger(
        name=name,
        when=pgtrigger.After,
        operation=pgtrigger.Delete,
        level=pgtrigger.Statement,
        referencing=pgtrigger.Referencing(old="removed"),
        func=f"""
            IF EXISTS (
                SELECT FROM removed
                WHERE session_id IS DISTINCT FROM current_setting('{PURGE_SETTING}', true)
            ) THEN
                {_refuse("% is kept as long as its session", "TG_TABLE_NAME")}
            END IF;
            RETURN NULL;
        """,
    )


def _list(types: Sequence[str]) -> str:
    return ", ".join(f"'{each}'" for each in types)


def keep_or_join(name: str, types: Sequence[str]) -> pgtrigger.Trigger:
    """Return the trigger for events: one is deleted with its session, or if another stands for it.

    The others are read once: a search for each row would pass all rows that were just deleted.
    """
    return pgtrigger.Trigger(
        name=name,
        when=pgtrigger.After,
        operation=pgtrigger.Delete,
        level=pgtrigger.Statement,
        referencing=pgtrigger.Referencing(old="removed"),
        func=f"""
            IF EXISTS (
                WITH whole AS MATERIALIZED (
                    SELECT type, seq, seq - span AS before FROM sessions_app_event
                    WHERE session_id = current_setting('{COMPACT_SETTING}', true) AND span > 1
                )
                SELECT FROM removed r
                WHERE r.session_id IS DISTINCT FROM current_setting('{PURGE_SETTING}', true)
                    AND NOT (
                        r.session_id IS NOT DISTINCT FROM current_setting('{COMPACT_SETTING}', true)
                        AND r.type IN ({_list(types)}) AND EXISTS (
                            SELECT FROM whole w
                            WHERE w.type = r.type AND w.before < r.seq AND r.seq < w.seq
                        )
                    )
            ) THEN
                {_refuse("% is kept as long as its session", "TG_TABLE_NAME")}
            END IF;
            RETURN NULL;
        """,
    )


def changed_by_compaction(name: str) -> pgtrigger.Trigger:
    """Return the trigger for events: none is updated, except while a journal is compacted."""
    return pgtrigger.Trigger(
        name=name,
        when=pgtrigger.Before,
        operation=pgtrigger.Update,
        level=pgtrigger.Statement,
        func=f"""
            IF coalesce(current_setting('{COMPACT_SETTING}', true), '') = '' THEN
                {_refuse("% is append-only", "TG_TABLE_NAME")}
            END IF;
            RETURN NULL;
        """,
    )


def joined_gaplessly(name: str, types: Sequence[str]) -> pgtrigger.Trigger:
    """Return the trigger for updated events: each stands for the seqs since the one before it.

    The session has ended, and nothing else changed than what it stands for.
    """
    return pgtrigger.Trigger(
        name=name,
        when=pgtrigger.After,
        operation=pgtrigger.Update,
        level=pgtrigger.Statement,
        referencing=pgtrigger.Referencing(old="earlier", new="joined"),
        func=f"""
            IF EXISTS (
                SELECT FROM joined n
                JOIN sessions_app_session s ON s.id = n.session_id
                LEFT JOIN earlier o ON o.session_id = n.session_id AND o.seq = n.seq
                WHERE n.session_id IS DISTINCT FROM current_setting('{COMPACT_SETTING}', true)
                    OR s.ended_at IS NULL OR n.type NOT IN ({_list(types)}) OR o.seq IS NULL
                    OR (n.type, n.run_id, n.created_at) IS DISTINCT FROM
                        (o.type, o.run_id, o.created_at)
                    OR n.span <= o.span
                    OR n.seq - n.span <> coalesce((
                        SELECT max(e.seq) FROM sessions_app_event e
                        WHERE e.session_id = n.session_id AND e.seq < n.seq
                    ), 0)
            ) THEN
                {_refuse("% is append-only", "TG_TABLE_NAME")}
            END IF;
            RETURN NULL;
        """,
    )
