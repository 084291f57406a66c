"""What is said in the scene: sessions as people have them, for pictures and for the checks."""

from dataclasses import dataclass, field
from typing import Any

REVIEWER, WRITER = "local/reviewer", "local/writer"
SMALL = "foundation/base"


@dataclass(frozen=True)
class Turn:
    """A message, what was thought and done about it, and what was answered."""

    says: str
    answers: str = ""
    thinks: str = ""
    # Name, input and output of each tool.
    tools: tuple[tuple[str, Any, Any], ...] = ()
    # succeeded, failed, cancelled, running, queued or parked.
    outcome: str = "succeeded"
    # Name and input of each tool that asks, and messages that sub-sessions are given, where parked.
    asks: tuple[tuple[str, Any], ...] = ()
    gives: tuple[str, ...] = ()


@dataclass(frozen=True)
class Conversation:
    """A session: how long ago it was last at work, and how it ended, if it did."""

    name: str
    minutes_ago: float
    turns: tuple[Turn, ...] = ()
    status: str = "active"
    profile: str = REVIEWER
    directory: str = "."
    error: str = ""
    children: tuple["Conversation", ...] = field(default=())


REVIEW = Turn(
    "Why does the nightly import get slower every week? The code is in `importer/batches.py`.",
    """The import is quadratic: `known()` runs once for each row, and reads a table that grows.

| rows in the table | rows to import | lookups | time |
|---:|---:|---:|---:|
| 100,000 | 5,000 | 5,000 | 41 s |
| 400,000 | 5,000 | 5,000 | 163 s |
| 400,000 | 5,000 | **1** | **0.9 s** |

Ask once for the whole batch, and keep the answer in a set:

```python
def new_rows(batch: list[Row]) -> list[Row]:
    \"\"\"Return the rows that the database does not have, by one query for all of them.\"\"\"
    keys = {row.key for row in batch}
    known = set(Import.objects.filter(key__in=keys).values_list("key", flat=True))
    return [row for row in batch if row.key not in known]
```

Two things follow from it:

1. The index on `key` is used once per batch and not once per row.
2. A batch that is interrupted may be repeated: rows that are there are left alone.

> Before you deploy, run `manage.py import --dry-run` on a copy; it prints what it would add.
""",
    thinks="The loop calls known() for each row. That is a query per row, and without an index the "
    "table is read again each time. The number of rows grows every night, so the time grows with "
    "both. First I look at the file to be sure, then at the plan of the query.",
    tools=(
        (
            "read_file",
            {"path": "importer/batches.py", "lines": "40-62"},
            "def new_rows(batch):\n    return [row for row in batch if not known(row.key)]\n",
        ),
        (
            "query",
            {"sql": "EXPLAIN ANALYZE SELECT 1 FROM import WHERE key = 'a1'"},
            {"plan": "Seq Scan on import", "rows": 412_883, "ms": 32.6},
        ),
    ),
)
AGAIN = Turn(
    "And if two imports run at the same time?",
    """Then both may find a row missing, and both add it. Let the database decide:

```sql
INSERT INTO import (key, value)
SELECT key, value FROM staged
ON CONFLICT (key) DO NOTHING;
```

With the unique index on `key` the second one adds nothing, and neither has to wait for the other \
longer than for the rows that they share.""",
)
NOW = Turn(
    "Write the migration for it, and a test that runs two imports at once.",
    """The migration adds the index without blocking writers:

```python
class Migration(migrations.Migration):
    atomic = False

    operations = [
        AddIndexConcurrently("import", models.Index("key", name="import_by_key")),
    ]
```

Now the test. Two connections begin at the same""",
    thinks="AddIndexConcurrently cannot run in a transaction, so the migration must not be atomic.",
    outcome="running",
)
LETTER = Turn(
    "Shorten this to three sentences, and keep the date: “We regret to inform you …”",
    "The hall is closed from **3 to 17 December** while the heating is replaced. "
    "Courses move to the library on Mill Lane at the usual times. We are sorry for the trouble.",
)
LIMIT = Turn(
    "Summarise the 240 reports in `reports/2026`.",
    "I began with the first forty reports. ",
    outcome="failed",
)
ASKS = Turn(
    "Write down what we decided, and clear away the drafts.",
    "I have the decisions. ",
    outcome="parked",
    asks=(
        (
            "write_file",
            {
                "path": "site/decisions.md",
                "content": "# Decisions\n\n- Courses move to Mill Lane.\n- <b>Heating</b> first.",
                "api_key": "not to be seen",
            },
        ),
        ("run_command", {"command": "rm -r site/drafts", "timeout": 30}),
    ),
)

CONVERSATIONS = (
    Conversation("Release notes 2.3", 60 * 26, (LETTER,), "completed", WRITER, "site"),
    Conversation(
        "Quarterly reports",
        95,
        (LIMIT,),
        "failed",
        WRITER,
        "reports",
        error="The provider has refused every request for an hour: the account's limit is reached.",
    ),
    Conversation(
        "Letters to the members", 48, (LETTER, LETTER), "completed", WRITER, "site/letters"
    ),
    Conversation("Move the wiki to Markdown", 33, (AGAIN,), "terminated", SMALL, "site"),
    Conversation(
        "Slow nightly import",
        0.1,
        (REVIEW, AGAIN, NOW),
        profile=REVIEWER,
        directory="importer",
        children=(
            Conversation("Reads the query plans", 9, (REVIEW,), "completed", REVIEWER, "importer"),
            Conversation("Writes the tests", 2, (AGAIN,), "active", SMALL, "importer"),
        ),
    ),
    Conversation(
        "Translate the manual", 0.5, (NOW, Turn("Begin with chapter 1.", outcome="queued"))
    ),
    Conversation("Tidy the notes", 12, (LETTER, ASKS), profile=WRITER, directory="site"),
    Conversation("Check the invoices of November", 0.2, (), "created", WRITER),
)
# The everyday sessions behind them, by their names; their dates are spread over a month.
EVERYDAY = (
    "Digest of the mailing list",
    "Triage of new issues",
    "Summary of the night's logs",
    "Draft of the weekly letter",
    "Check of the backups",
    "Names for the new module",
)
