"""No literal secret in what a session keeps of its profile; as `profiles_app.masking` knows one."""

from profiles_app import masking
from profiles_app.definition import TEXTS
from sessions_app.invariants.check import Check

# Agents, context and instruction are texts of their authors, and not looked into.
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

BY_KEY = f"""{KEPT}
SELECT DISTINCT id, 'has one in its ' || place || ' under ' || (pair ->> 'key')
FROM kept,
    jsonb_path_query(data, '$.** ? (@.type() == "object").keyvalue()') pair,
    jsonb_path_query(pair -> 'value', '$.** ? (@.type() == "string" || @.type() == "number")') leaf
WHERE lower(regexp_replace(pair ->> 'key', %(word_break)s, '_', 'g')) ~ %(key)s
  AND leaf #>> '{{}}' !~ %(harmless)s
"""  # noqa: S608 - our own text

BY_URL = f"""{KEPT}
SELECT DISTINCT id, 'has one in a URL in its ' || place
FROM kept, jsonb_path_query(data, '$.** ? (@.type() == "string")') leaf
WHERE leaf #>> '{{}}' ~ %(user_info)s
"""  # noqa: S608 - our own text

RULE = "No settings_overrides and no mount plan has a literal secret."

CHECKS = (
    Check(
        "secret-key",
        RULE,
        BY_KEY,
        {
            "texts": [*TEXTS, "instruction"],
            "word_break": masking.WORD_BREAK,
            "key": masking.KEY_PATTERN,
            "harmless": f"^({masking.REFERENCE})?$",
        },
    ),
    Check(
        "secret-url",
        RULE,
        BY_URL,
        {"texts": [*TEXTS, "instruction"], "user_info": masking.USER_INFO},
    ),
)
