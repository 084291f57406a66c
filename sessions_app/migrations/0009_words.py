"""Words that are found in either Unicode form, wherever in a long text they stand."""

import django.contrib.postgres.indexes
import django.contrib.postgres.search
from django.db import migrations, models

from amplifierd.common.migrations import RebuildTable, ReplaceIndexConcurrently

SEPARATORS = "<>&/.@+-、。，！？：；「」“”‘’—…"  # noqa: RUF001
PARTED = "composed"
for character in SEPARATORS:
    PARTED = f"replace({PARTED}, '{character}', ' ')"
# A vector has at most 1 MB, and whoever adds a message must not be refused for what is searched:
# of a text with too many different words, the rest is left out. Pieces overlap, as a border may go
# through a word.
CREATE = f"""
CREATE OR REPLACE FUNCTION amplifierd_words(content text) RETURNS tsvector
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    piece CONSTANT int := 100000;
    overlap CONSTANT int := 300;
    -- What is ASCII is composed already; to find that out takes a fraction of composing it.
    composed CONSTANT text := CASE
        WHEN octet_length(content) = char_length(content) THEN content
        ELSE normalize(coalesce(content, ''), NFC)  -- a session may have no name
    END;
    parted CONSTANT text := {PARTED};
    words tsvector := to_tsvector('pg_catalog.simple', left(parted, piece));
    first int := piece + 1 - overlap;
BEGIN
    WHILE length(parted) > first + overlap - 1 LOOP
        BEGIN
            words := words || strip(
                to_tsvector('pg_catalog.simple', substr(parted, first, piece + overlap))
            );
        EXCEPTION WHEN program_limit_exceeded THEN
            EXIT;
        END;
        first := first + piece;
    END LOOP;
    RETURN words;
END
$$
"""


def words(field: str) -> models.Func:
    """Return the words of a field."""
    return models.Func(
        models.F(field),
        function="amplifierd_words",
        output_field=django.contrib.postgres.search.SearchVectorField(),
    )


# The old words are read until the new ones are there, and then in one moment no longer.
OTHER_WORDS = [
    "ALTER TABLE {table} DROP COLUMN words",
    "ALTER TABLE {table} ADD COLUMN words tsvector"
    " GENERATED ALWAYS AS (amplifierd_words(content)) STORED",
]
ARE_OTHER = """
SELECT pg_get_expr(adbin, adrelid) LIKE '%amplifierd_words%'
FROM pg_attrdef JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum
WHERE adrelid = 'sessions_app_message'::regclass AND attname = 'words'
"""


class Migration(migrations.Migration):

    atomic = False
    reasons = {"RunSQL": "It creates a function, which locks no table."}
    dependencies = [("sessions_app", "0008_clients")]

    operations = [
        migrations.RunSQL(CREATE, "DROP FUNCTION amplifierd_words"),
        RebuildTable(
            "message",
            key=["id"],
            changes=OTHER_WORDS,
            is_done=ARE_OTHER,
            state_operations=[
                migrations.RemoveIndex(model_name="message", name="message_by_words"),
                migrations.RemoveField(model_name="message", name="words"),
                migrations.AddField(
                    model_name="message",
                    name="words",
                    field=models.GeneratedField(
                        db_persist=True,
                        expression=words("content"),
                        output_field=django.contrib.postgres.search.SearchVectorField(),
                    ),
                ),
                migrations.AddIndex(
                    model_name="message",
                    index=django.contrib.postgres.indexes.GinIndex(
                        fields=["words"], gin_pending_list_limit=1024, name="message_by_words"
                    ),
                ),
            ],
        ),
        ReplaceIndexConcurrently(
            model_name="session",
            index=django.contrib.postgres.indexes.GinIndex(
                words("name"), name="session_by_words"
            ),
        ),
    ]
