"""One row whose value a restore replaces, and the function that tells the epoch of the journals.

The epoch is of the cluster, of its timeline (a promotion and a recovery to a point in time begin a
new one), and of that value. In recovery it is NULL: what is read there may be behind. Where a role
or a service has not one of the functions (Amazon Aurora has no timelines), the rest has to do.
"""

from django.db import migrations, models
from django.db.models.functions import Now

ROW = "INSERT INTO sessions_app_installation (id, value) VALUES (true, gen_random_uuid())"
FUNCTION = """
CREATE FUNCTION sessions_app_epoch() RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    -- To read the control file takes longer than all the rest, and the cluster of a server process
    -- never changes. So its session keeps it, whoever the clients of that session are.
    cluster text := coalesce(current_setting('amplifierd.cluster', true), '');
    timeline text := '';
BEGIN
    IF pg_is_in_recovery() THEN
        RETURN NULL;
    END IF;
    IF cluster = '' THEN
        BEGIN
            SELECT system_identifier INTO cluster FROM pg_control_system();
        EXCEPTION WHEN insufficient_privilege OR undefined_function OR feature_not_supported THEN
            cluster := 'unknown';
        END;
        PERFORM set_config('amplifierd.cluster', cluster, false);
    END IF;
    BEGIN
        -- Unlike the control file, it is right as soon as a promotion is over.
        timeline := left(pg_walfile_name(pg_current_wal_insert_lsn()), 8);
    EXCEPTION WHEN insufficient_privilege OR undefined_function OR feature_not_supported THEN
        NULL;
    END;
    RETURN left(encode(sha256(convert_to(concat_ws(
        '/', cluster, timeline, (SELECT value FROM sessions_app_installation)), 'UTF8')), 'hex'), 12);
END
$$
"""


class Migration(migrations.Migration):
    reasons = {"RunSQL": "A row of a new table, and a function."}
    dependencies = [("sessions_app", "0013_room_for_versions")]
    operations = [
        migrations.CreateModel(
            name="Installation",
            fields=[
                ("id", models.BooleanField(default=True, primary_key=True, serialize=False)),
                ("value", models.UUIDField()),
                ("began_at", models.DateTimeField(db_default=Now())),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("id", True)), name="installation_only_one"
                    )
                ],
            },
        ),
        migrations.RunSQL(ROW, migrations.RunSQL.noop),
        migrations.RunSQL(FUNCTION, "DROP FUNCTION sessions_app_epoch()"),
    ]
