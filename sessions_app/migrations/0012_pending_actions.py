"""One table for all that runs wait for: approvals, and calls that sub-sessions answer.

The table of approvals gets a kind, and the rows of tasks move into it. Steps are called checkpoints.
"""

import django.db.models.deletion
import amplifierd.common.formats
import pgtrigger.compiler
import pgtrigger.migrations
from django.contrib.postgres.operations import AddConstraintNotValid, ValidateConstraint
from django.db import migrations, models

from amplifierd.common.migrations import AddUniqueConcurrently, Together

# A task waits as long as its sub-session has an open run; one of a run that was cancelled is
# withdrawn. Its id was never shown to anybody.
MOVE_TASKS = """
INSERT INTO sessions_app_pending_action (
    id, kind, session_id, run_id, checkpoint, tool_call_id, tool_name, tool_input, status,
    created_at, answered_at, answered_by, reason, fingerprint, always, sub_session_id)
SELECT 'action_' || lpad(to_hex((extract(epoch FROM asked.at) * 1000)::bigint), 12, '0')
        || lpad(to_hex(t.id), 20, '0'),
    'sub_session', r.session_id, r.id, t.step, t.tool_call_id, coalesce(asked.tool, ''), '{}',
    CASE WHEN is_open THEN 'pending' WHEN r.status = 'cancelled' THEN 'withdrawn' ELSE 'answered'
    END,
    asked.at, CASE WHEN NOT is_open THEN statement_timestamp() END, '', t.error, '', false,
    t.session_id
FROM sessions_app_task t
JOIN sessions_app_run r ON r.id = t.run_id
CROSS JOIN LATERAL (
    SELECT r.status = 'parked' AND EXISTS (
        SELECT FROM sessions_app_run c
        WHERE c.session_id = t.session_id AND c.status IN ('queued', 'running', 'parked')
    ) AS is_open
) state
CROSS JOIN LATERAL (
    SELECT coalesce(max(e.created_at), r.created_at) AS at, max(wait.value ->> 'tool_name') AS tool
    FROM sessions_app_event e
    CROSS JOIN LATERAL jsonb_array_elements(e.data -> 'waits') wait
    WHERE e.session_id = r.session_id AND e.run_id = r.id AND e.type = 'run_parked'
      AND wait.value ->> 'tool_call_id' = t.tool_call_id
) asked;
SET CONSTRAINTS ALL IMMEDIATE;
SET CONSTRAINTS ALL DEFERRED;
"""



class Migration(migrations.Migration):

    atomic = False
    # Processes of 0.1 ask for the tables by their old names: `docs/upgrading.md` says to stop them.
    reasons = {
        "SeparateDatabaseAndState": "Not rolling: the tables get other names, in an instant.",
        "RenameField": "Not rolling: the table has another name.",
        "DeleteModel": "Not rolling: processes of 0.1 are stopped.",
        "AddField": "Not rolling: nobody else inserts rows. A unique index of a small table.",
        "locks": "Of checkpoints and steps: that is one table.",
        "RunSQL": "Tasks are few, and their rows are moved without an exclusive lock.",
    }
    dependencies = [
        ("sessions_app", "0011_batch_ids"),
    ]

    operations = [
        Together([
            pgtrigger.migrations.RemoveTrigger(model_name="approval", name="approval_begins_pending"),
            pgtrigger.migrations.RemoveTrigger(model_name="approval", name="approval_transitions"),
            pgtrigger.migrations.RemoveTrigger(model_name="step", name="step_unchangeable"),
            migrations.RemoveConstraint(model_name="approval", name="approval_asked_once"),
            migrations.RemoveConstraint(model_name="approval", name="approval_status_known"),
            migrations.RemoveConstraint(model_name="approval", name="approval_answered_iff_not_pending"),
            # The content type stays that of approvals, and with it what people may do with them.
            migrations.SeparateDatabaseAndState(
                database_operations=[
                    migrations.RunSQL(
                        "ALTER TABLE sessions_app_approval RENAME TO sessions_app_pending_action"
                    ),
                    migrations.RunSQL("ALTER TABLE sessions_app_step RENAME TO sessions_app_checkpoint"),
                    # There may be many checkpoints: the unique index is not built anew.
                    migrations.RunSQL("ALTER INDEX step_number_once RENAME TO checkpoint_number_once"),
                ],
                state_operations=[
                    migrations.RenameModel("Approval", "PendingAction"),
                    migrations.AlterModelTable("PendingAction", "sessions_app_pending_action"),
                    migrations.RemoveConstraint(model_name="step", name="step_number_once"),
                    migrations.RenameModel("Step", "Checkpoint"),
                    migrations.AddConstraint(
                        model_name="checkpoint",
                        constraint=models.UniqueConstraint(
                            models.F("run"), models.F("number"), name="checkpoint_number_once"
                        ),
                    ),
                ],
            ),
            migrations.RenameIndex("pendingaction", new_name="action_pending", old_name="approval_pending"),
            migrations.RenameIndex("pendingaction", new_name="action_newest", old_name="approval_newest"),
            migrations.RenameIndex(
                "pendingaction", new_name="action_of_session", old_name="approval_of_session"
            ),
            migrations.RenameField("pendingaction", "step", "checkpoint"),
            migrations.AddField(
                "pendingaction",
                "kind",
                models.CharField(
                    choices=[("approval", "Approval"), ("sub_session", "Sub Session")],
                    default="approval",
                    max_length=16,
                ),
                preserve_default=False,
            ),
            migrations.AddField(
                "pendingaction",
                "sub_session",
                models.OneToOneField(
                    blank=True,
                    null=True,
                    on_delete=django.db.models.deletion.SET_NULL,
                    related_name="parent_action",
                    to="sessions_app.session",
                ),
            ),
            migrations.AlterField(
                "pendingaction", "expires_at", models.DateTimeField(blank=True, null=True)
            ),
            migrations.AlterField(
                model_name='checkpoint',
                name='run',
                field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='checkpoints', to='sessions_app.run'),
            ),
            migrations.AlterField(
                model_name='pendingaction',
                name='id',
                field=models.CharField(default=amplifierd.common.formats.new_action_id, editable=False, max_length=64, primary_key=True, serialize=False),
            ),
            migrations.AlterField(
                model_name='pendingaction',
                name='run',
                field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='pending_actions', to='sessions_app.run'),
            ),
            migrations.AlterField(
                model_name='pendingaction',
                name='session',
                field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='pending_actions', to='sessions_app.session'),
            ),
            migrations.AlterField(
                model_name='pendingaction',
                name='status',
                field=models.CharField(choices=[('pending', 'Pending'), ('approved', 'Approved'), ('denied', 'Denied'), ('answered', 'Answered'), ('expired', 'Expired'), ('withdrawn', 'Withdrawn')], default='pending', max_length=16),
            ),
        ]),
        migrations.RunSQL(MOVE_TASKS),
        Together([
            migrations.DeleteModel(name='Task'),
            migrations.CreateModel(
                name='Approval',
                fields=[
                ],
                options={
                    'proxy': True,
                    'indexes': [],
                    'constraints': [],
                },
                bases=('sessions_app.pendingaction',),
            ),
            migrations.CreateModel(
                name='SubSessionCall',
                fields=[
                ],
                options={
                    'proxy': True,
                    'indexes': [],
                    'constraints': [],
                },
                bases=('sessions_app.pendingaction',),
            ),
            pgtrigger.migrations.AddTrigger(
                model_name='checkpoint',
                trigger=pgtrigger.compiler.Trigger(name='checkpoint_unchangeable', sql=pgtrigger.compiler.UpsertTriggerSql(func="RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'check_violation';", hash='bea29efa6015c7b938f6aefa194ade5207362b3e', level='STATEMENT', operation='UPDATE', pgid='pgtrigger_checkpoint_unchangeable_117d4', table='sessions_app_checkpoint', when='BEFORE')),
            ),
            pgtrigger.migrations.AddTrigger(
                model_name='pendingaction',
                trigger=pgtrigger.compiler.Trigger(name='action_begins_pending', sql=pgtrigger.compiler.UpsertTriggerSql(condition='WHEN (NOT (NEW."status" = \'pending\'))', func="RAISE EXCEPTION 'a new % is % and nothing else', TG_TABLE_NAME, 'pending' USING ERRCODE = 'check_violation';", hash='63d2824cc6b7401f68996c8beab43211fadee58e', operation='INSERT', pgid='pgtrigger_action_begins_pending_d76ce', table='sessions_app_pending_action', when='BEFORE')),
            ),
            pgtrigger.migrations.AddTrigger(
                model_name='pendingaction',
                trigger=pgtrigger.compiler.Trigger(name='action_transitions', sql=pgtrigger.compiler.UpsertTriggerSql(condition='WHEN (OLD."status" IS DISTINCT FROM (NEW."status"))', func="\n            IF (OLD.status, NEW.status) NOT IN (('pending', 'approved'), ('pending', 'denied'), ('pending', 'answered'), ('pending', 'expired'), ('pending', 'withdrawn')) THEN\n                RAISE EXCEPTION 'a % cannot go from % to %', TG_TABLE_NAME, OLD.status, NEW.status USING ERRCODE = 'check_violation';\n            END IF;\n            RETURN NEW;\n        ", hash='63dabc110d340c7baefb879d1184701f19557410', operation='UPDATE OF "status"', pgid='pgtrigger_action_transitions_f6ae2', table='sessions_app_pending_action', when='BEFORE')),
            ),
            pgtrigger.migrations.AddTrigger(
                model_name='pendingaction',
                trigger=pgtrigger.compiler.Trigger(name='action_of_parked_run', sql=pgtrigger.compiler.UpsertTriggerSql(constraint='CONSTRAINT', func="\n            IF EXISTS (\n                SELECT FROM sessions_app_pending_action a JOIN sessions_app_run r ON r.id = a.run_id\n                WHERE a.id = NEW.id AND a.status = 'pending' AND r.status <> 'parked'\n            ) THEN\n                RAISE EXCEPTION 'the run % is not parked and waits for an answer', NEW.run_id USING ERRCODE = 'check_violation';\n            END IF;\n            RETURN NULL;\n        ", hash='9e3b5d422ab91f6867aa955896abe283377954df', operation='INSERT', pgid='pgtrigger_action_of_parked_run_90c85', table='sessions_app_pending_action', timing='DEFERRABLE INITIALLY DEFERRED', when='AFTER')),
            ),
        ]),
        pgtrigger.migrations.AddTrigger(
            model_name='run',
            trigger=pgtrigger.compiler.Trigger(name='run_goes_on_when_answered', sql=pgtrigger.compiler.UpsertTriggerSql(condition='WHEN (OLD."status" = \'parked\' AND NOT (NEW."status" = \'parked\'))', constraint='CONSTRAINT', func="\n            IF EXISTS (\n                SELECT FROM sessions_app_pending_action a JOIN sessions_app_run r ON r.id = a.run_id\n                WHERE r.id = NEW.id AND r.status <> 'parked' AND a.status = 'pending'\n            ) THEN\n                RAISE EXCEPTION 'the run % is % and waits for an answer', NEW.id, NEW.status USING ERRCODE = 'check_violation';\n            END IF;\n            RETURN NULL;\n        ", hash='d63a95658307baf9431b0ab995aadad13d5e4677', operation='UPDATE OF "status"', pgid='pgtrigger_run_goes_on_when_answered_6a8ef', table='sessions_app_run', timing='DEFERRABLE INITIALLY DEFERRED', when='AFTER')),
        ),
        AddUniqueConcurrently(
            model_name='pendingaction',
            constraint=models.UniqueConstraint(models.F('run'), models.F('kind'), models.F('checkpoint'), models.F('tool_call_id'), name='action_asked_once'),
        ),
        AddConstraintNotValid(
            model_name='pendingaction',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('expires_at__isnull', False), ('kind', 'approval'), ('status__in', ('pending', 'approved', 'denied', 'expired', 'withdrawn')), ('sub_session__isnull', True)), models.Q(('always', False), ('fingerprint', ''), ('kind', 'sub_session'), ('status__in', ('pending', 'answered', 'withdrawn'))), _connector='OR'), name='action_fits_kind'),
        ),
        AddConstraintNotValid(
            model_name='pendingaction',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('answered_at__isnull', True), ('status', 'pending')), models.Q(models.Q(('status', 'pending'), _negated=True), ('answered_at__isnull', False)), _connector='OR'), name='action_answered_iff_not_pending'),
        ),
        ValidateConstraint("pendingaction", "action_fits_kind"),
        ValidateConstraint("pendingaction", "action_answered_iff_not_pending"),
    ]
