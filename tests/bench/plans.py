"""How PostgreSQL answers requests, in a process of its own that knows the daemon's database.

`python -m tests.bench.plans` reads paths, one in a line, answers each as a web process does,
and prints, as JSON, the plan of every query that it took: what it scanned, and the time.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

from amplifierd import wsgi  # noqa: F401

# Django is set up now, which the others need.
# isort: split

from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext


def main() -> None:
    """Serve the lines of standard input."""
    client = Client(SERVER_NAME="127.0.0.1")
    for line in sys.stdin:
        path = line.strip()
        # The first time, what is the same for every request is looked up as well.
        client.get(path)
        with CaptureQueriesContext(connection) as captured:
            status = client.get(path).status_code
        plans = explain([query["sql"] for query in captured])
        print(json.dumps(plans if status == 200 else [f"answered {status}"]), flush=True)


def explain(queries: list[str]) -> list[str]:
    """Return the plan of each query in one line; settings that were made for one hold again."""
    lines = []
    with transaction.atomic(), connection.cursor() as cursor:
        for sql in queries:
            if sql.startswith("SET LOCAL"):
                cursor.execute(sql)
            elif sql.startswith(("SELECT", "WITH", "\nWITH")) and " FROM " in sql:
                cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}")
                [[plan]] = cursor.fetchone()
                lines.append(condense(plan))
    return lines


def condense(plan: dict[str, Any]) -> str:
    """Return what a plan scans, in its order, and the time that it took."""
    found = dict.fromkeys(scans(plan["Plan"]))
    return f"{'; '.join(found) or 'no table'} ({plan['Execution Time']:.1f} ms)"


def scans(node: dict[str, Any]) -> Iterator[str]:
    """Yield the nodes that read a table or an index, and how many rows each gave."""
    for child in node.get("Plans", []):
        yield from scans(child)
    if "Index Name" in node or "Relation Name" in node:
        rows = node["Actual Rows"] * node["Actual Loops"]
        where = node.get("Index Name") or node["Relation Name"].removeprefix("sessions_app_")
        yield f"{node['Node Type']} {where}: {rows:,.0f}"


if __name__ == "__main__":
    main()
