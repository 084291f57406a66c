"""Lists and searches that stay as fast with a hundred thousand sessions."""

import django.contrib.postgres.indexes
import django.contrib.postgres.search
from django.db import migrations, models
from django.db.models.functions import Left, Replace

SEPARATORS = '<>&/.@+-、。，！？：；「」“”‘’—…'

# A session's row is counted by the thousand and rewritten with each event, its mount plan is read
# now and then: where the row is long (2 kB), the plan is put beside it and is not in the way. What
# has not changed is marked as such soon, so that an index alone tells how many there are.
STORAGE = """
ALTER TABLE sessions_app_session SET (
    toast_tuple_target = 512,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_insert_scale_factor = 0.02,
    autovacuum_analyze_scale_factor = 0.02
);
"""
USUAL_STORAGE = """
ALTER TABLE sessions_app_session RESET (
    toast_tuple_target,
    autovacuum_vacuum_scale_factor,
    autovacuum_vacuum_insert_scale_factor,
    autovacuum_analyze_scale_factor
);
"""


def words(field: str) -> django.contrib.postgres.search.SearchVector:
    """Return the words of a field."""
    text = Left(models.F(field), 100000)
    for character in SEPARATORS:
        text = Replace(text, models.Value(character), models.Value(' '))
    return django.contrib.postgres.search.SearchVector(text, config=models.Value('simple'))


class Migration(migrations.Migration):

    dependencies = [
        ('sessions_app', '0003_owners_search_copies'),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name='message',
            name='message_by_words',
        ),
        migrations.RemoveIndex(
            model_name='session',
            name='session_by_words',
        ),
        migrations.AddField(
            model_name='message',
            name='words',
            field=models.GeneratedField(db_persist=True, expression=words('content'), output_field=django.contrib.postgres.search.SearchVectorField()),
        ),
        migrations.AddIndex(
            model_name='message',
            index=django.contrib.postgres.indexes.GinIndex(fields=['words'], gin_pending_list_limit=1024, name='message_by_words'),
        ),
        migrations.AddIndex(
            model_name='session',
            index=django.contrib.postgres.indexes.GinIndex(words('name'), name='session_by_words'),
        ),
        migrations.RemoveIndex(
            model_name='session',
            name='session_by_owner',
        ),
        migrations.AddIndex(
            model_name='session',
            index=models.Index(models.F('owner'), models.F('created_at'), models.F('id'), include=('status', 'profile_name', 'amplified_dir', 'parent'), name='session_by_owner'),
        ),
        migrations.RunSQL(STORAGE, USUAL_STORAGE),
    ]
