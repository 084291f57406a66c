"""Check the constraint of joined events, and index journals to be compacted, while others write."""

from django.contrib.postgres.operations import AddIndexConcurrently, ValidateConstraint
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("sessions_app", "0018_compaction")]
    operations = [
        migrations.AddField(
            "session",
            "compacted_at",
            models.DateTimeField(blank=True, editable=False, null=True),
        ),
        ValidateConstraint("event", "event_span_within_journal"),
        AddIndexConcurrently(
            "session",
            models.Index(
                models.F("ended_at"),
                condition=models.Q(("compacted_at__isnull", True), ("ended_at__isnull", False)),
                name="session_to_compact",
            ),
        ),
    ]
