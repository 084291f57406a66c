"""Let one event of an ended journal stand for several: how many, and since when.

The columns have constant defaults, so no row is rewritten; the next migration checks the constraint.
"""

import pgtrigger.compiler
import pgtrigger.migrations
from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('sessions_app', '0017_database_clock'),
    ]

    operations = [
        pgtrigger.migrations.RemoveTrigger(
            model_name='event',
            name='event_unchangeable',
        ),
        pgtrigger.migrations.RemoveTrigger(
            model_name='event',
            name='event_kept',
        ),
        migrations.AddField(
            model_name='event',
            name='began_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='event',
            name='span',
            field=models.IntegerField(db_default=1, default=1),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='event',
            trigger=pgtrigger.compiler.Trigger(name='event_unchangeable', sql=pgtrigger.compiler.UpsertTriggerSql(func="\n            IF coalesce(current_setting('amplifierd.compact', true), '') = '' THEN\n                RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'check_violation';\n            END IF;\n            RETURN NULL;\n        ", hash='6488738296dc9e3da4a3d055cf4f4f6a4fd23ef4', level='STATEMENT', operation='UPDATE', pgid='pgtrigger_event_unchangeable_387e3', table='sessions_app_event', when='BEFORE')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='event',
            trigger=pgtrigger.compiler.Trigger(name='event_joined_gaplessly', sql=pgtrigger.compiler.UpsertTriggerSql(func="\n            IF EXISTS (\n                SELECT FROM joined n\n                JOIN sessions_app_session s ON s.id = n.session_id\n                LEFT JOIN earlier o ON o.session_id = n.session_id AND o.seq = n.seq\n                WHERE n.session_id IS DISTINCT FROM current_setting('amplifierd.compact', true)\n                    OR s.ended_at IS NULL OR n.type NOT IN ('content', 'hook:thinking:delta') OR o.seq IS NULL\n                    OR (n.type, n.run_id, n.created_at) IS DISTINCT FROM\n                        (o.type, o.run_id, o.created_at)\n                    OR n.span <= o.span\n                    OR n.seq - n.span <> coalesce((\n                        SELECT max(e.seq) FROM sessions_app_event e\n                        WHERE e.session_id = n.session_id AND e.seq < n.seq\n                    ), 0)\n            ) THEN\n                RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'check_violation';\n            END IF;\n            RETURN NULL;\n        ", hash='0fd8fdd27c621d32d6e5fca70ab2fd4e40c2835d', level='STATEMENT', operation='UPDATE', pgid='pgtrigger_event_joined_gaplessly_1d39b', referencing='REFERENCING OLD TABLE AS earlier  NEW TABLE AS joined ', table='sessions_app_event', when='AFTER')),
        ),
        pgtrigger.migrations.AddTrigger(
            model_name='event',
            trigger=pgtrigger.compiler.Trigger(name='event_kept', sql=pgtrigger.compiler.UpsertTriggerSql(func="\n            IF EXISTS (\n                WITH whole AS MATERIALIZED (\n                    SELECT type, seq, seq - span AS before FROM sessions_app_event\n                    WHERE session_id = current_setting('amplifierd.compact', true) AND span > 1\n                )\n                SELECT FROM removed r\n                WHERE r.session_id IS DISTINCT FROM current_setting('amplifierd.purge', true)\n                    AND NOT (\n                        r.session_id IS NOT DISTINCT FROM current_setting('amplifierd.compact', true)\n                        AND r.type IN ('content', 'hook:thinking:delta') AND EXISTS (\n                            SELECT FROM whole w\n                            WHERE w.type = r.type AND w.before < r.seq AND r.seq < w.seq\n                        )\n                    )\n            ) THEN\n                RAISE EXCEPTION '% is kept as long as its session', TG_TABLE_NAME USING ERRCODE = 'check_violation';\n            END IF;\n            RETURN NULL;\n        ", hash='4d531d64c4848f90d2c0180bfd05c88362d80cca', level='STATEMENT', operation='DELETE', pgid='pgtrigger_event_kept_91fa6', referencing='REFERENCING OLD TABLE AS removed ', table='sessions_app_event', when='AFTER')),
        ),
        AddConstraintNotValid(
            model_name='event',
            constraint=models.CheckConstraint(condition=models.Q(('span__gte', 1), ('span__lte', models.F('seq'))), name='event_span_within_journal'),
        ),
    ]
