"""Secrets that came into a session past the services."""

from tests.integration.corruptions import Corruption, append


def keep(column: str, data: str) -> str:
    """Return the statement that merges data into a column of a session."""
    merged = f"{column} || '{data}'"
    return f"UPDATE sessions_app_session SET {column} = {merged} WHERE id = %(busy)s"


SECRETS = (
    [
        Corruption("secret-key", "busy", title, keep(column, data))
        for title, column, data in (
            ("a key in its overrides", "settings_overrides", '{"llm": [{"apiKey": "sk-1"}]}'),
            ("a key that is a number", "settings_overrides", '{"auth": {"X-Api-Key": 12}}'),
            ("one below credentials", "settings_overrides", '{"credentials": {"user": ["a"]}}'),
            ("a reference with more", "settings_overrides", '{"token": "${A}b"}'),
            ("one in its settings", "mount_plan", '{"settings": {"password": "x"}}'),
            ("one in what was given", "mount_plan", '{"session": {"settings": {"cookie": "x"}}}'),
            (
                "one in a mount",
                "mount_plan",
                '{"mountPoints": [{"metadata": {"config": {"api_key": "sk-1"}}}]}',
            ),
            (
                "one in a provider",
                "mount_plan",
                '{"providers": {"p": {"config": {"secret": "x"}}}}',
            ),
        )
    ]
    + [
        Corruption(
            "secret-url",
            "busy",
            "a password in a URL",
            keep("settings_overrides", '{"base_url": "https://me:x@host/v1"}'),
        )
    ]
    + [
        Corruption(
            "secret-told",
            "busy",
            title,
            append("%(busy)s", kind, data=data),
        )
        for title, kind, data in (
            (
                "one in the input of a tool",
                "hook:tool:pre",
                '{"hook_data": {"tool_input": {"headers": [{"X-Api-Key": "sk-1"}], "path": "a"}}}',
            ),
            (
                "one in a question",
                "run_parked",
                '{"waits": [{"tool_input": {"cookie": "********"}}, {"tool_input": {"token": 1}}]}',
            ),
        )
    ]
)

# What looks like a secret, and is none.
HARMLESS = """
    UPDATE sessions_app_session SET settings_overrides = '{
        "api_key": "${NAME}", "token": null, "password": "", "cookie": true, "max_tokens": 5,
        "authorization": "Bearer ${NAME}", "url": "https://host/@me", "session": {"secret": []},
        "agents": {"token": "Count them."}, "context": {"a": "https://me@host"},
        "instruction": "https://me@host"}'
    WHERE id = %(busy)s;
    SET LOCAL session_replication_role = replica;
    UPDATE sessions_app_event SET data = jsonb_set(data, '{hook_data,tool_input}', '{
        "api_key": "********", "token": "${NAME}", "password": null, "path": "sk-1"}')
    WHERE type = 'hook:tool:pre';
    SET LOCAL session_replication_role = origin
"""
