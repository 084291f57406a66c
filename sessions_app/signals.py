"""What the services tell the rest of the process, after the commit.

A sender is a function: the receivers of each are looked up once.
"""

from django.dispatch import Signal

# Sent with `grown: Mapping[str, int]`, the seq of the newest event of each session, and with
# `within: float`, the seconds for which it may wait for more.
# A hint that carries no truth: who misses it finds the event in the journal.
journal_grew = Signal(use_caching=True)
# Who follows journals holds, shared, the advisory lock of each one's bucket; while anybody does, a
# transaction that appends cannot have it. There are few enough buckets for PostgreSQL to hold them
# all for each process. The lock's two numbers, as SQL:
FOLLOWED, BUCKETS = 1634561650, 256
FOLLOWED_LOCK = f"{FOLLOWED}, hashtext({{session}}) & {BUCKETS - 1}"

# Sent with `session_id: str` and `owner: str`: a worker may have something to do for the session.
# A hint as well: workers look for themselves now and then.
work_queued = Signal(use_caching=True)
# The channel on which workers of all processes hear of it; the payload is ids with commas between,
# each with a colon and its owner, quoted as in URLs, if it has one.
WORK_CHANNEL = "amplifierd_work"

# Sent with `kind: str`, `session_id: str`, `owner: str` (whose session it is) and `data: dict`, the
# little that has changed. For lists of sessions: who misses one reads the list again.
session_changed = Signal(use_caching=True)
