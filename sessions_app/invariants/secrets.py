"""No literal secret in what a session keeps of its profile, nor in what the journal tells of calls.

As `amplifierd.common.redaction` knows one: by the key that it stands under. The steps of a run, and
the inputs of tools that wait for approval, are not looked into: they are what a model and its tools
wrote, kept as it is executed and sent, and never shown.
"""

import re

from amplifierd.common import redaction
from profiles_app.definition import TEXTS
from sessions_app.invariants.check import Check

# Agents, context and instruction are texts of their authors, and not looked into.
OWN_TEXTS = {"texts": [*TEXTS, "instruction"]}
KEPT = """
WITH kept AS (
    SELECT id, 'settings_overrides' AS place, settings_overrides - %(texts)s::text[] AS data
    FROM sessions_app_session
    UNION ALL
    SELECT id, 'mount_plan', jsonb_build_array(
        mount_plan -> 'settings',
        jsonb_path_query_array(mount_plan, '$.session.settings') #- '{0,agents}' #- '{0,context}'
            #- '{0,instruction}',
        mount_plan -> 'providers', mount_plan -> 'tools', mount_plan -> 'hooks',
        jsonb_path_query_array(mount_plan, '$.mountPoints[*].metadata'))
    FROM sessions_app_session
)
"""

# What people are shown of calls, without secrets.
TOLD = """
WITH kept AS (
    SELECT session_id AS id, 'event ' || seq AS place, jsonb_build_array(
        data -> 'tool_input', data -> 'hook_data' -> 'tool_input',
        jsonb_path_query_array(data, '$.waits[*].tool_input')) AS data
    FROM sessions_app_event
    WHERE type IN ('hook:tool:pre', 'hook:tool:post', 'hook:approval:required', 'run_parked')
)
"""

UNDER_KEY = """
SELECT DISTINCT id, 'has one in its ' || place || ' under ' || (pair ->> 'key')
FROM kept,
    jsonb_path_query(data, '$.** ? (@.type() == "object").keyvalue()') pair,
    jsonb_path_query(pair -> 'value', '$.** ? (@.type() == "string" || @.type() == "number")') leaf
WHERE lower(regexp_replace(pair ->> 'key', %(word_break)s, '_', 'g')) ~ %(key)s
  AND leaf #>> '{}' !~ %(harmless)s
"""

BY_URL = f"""{KEPT}
SELECT DISTINCT id, 'has one in a URL in its ' || place
FROM kept, jsonb_path_query(data, '$.** ? (@.type() == "string")') leaf
WHERE leaf #>> '{{}}' ~ %(user_info)s
"""  # noqa: S608 - our own text

PATTERNS = {"word_break": redaction.WORD_BREAK, "key": redaction.KEY_PATTERN}
RULE = "No settings_overrides and no mount plan has a literal secret."

CHECKS = (
    Check(
        "secret-key",
        RULE,
        f"{KEPT}{UNDER_KEY}",
        {**PATTERNS, **OWN_TEXTS, "harmless": f"^({redaction.REFERENCE})?$"},
    ),
    Check(
        "secret-told",
        "The journal tells of the input of a tool without what stands under a secret's key.",
        f"{TOLD}{UNDER_KEY}",
        {**PATTERNS, "harmless": f"^({redaction.REFERENCE}|{re.escape(redaction.MASK)})?$"},
    ),
    Check("secret-url", RULE, BY_URL, {**OWN_TEXTS, "user_info": redaction.USER_INFO}),
)
