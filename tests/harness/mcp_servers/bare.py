"""An MCP server without a library, which starts at once and misbehaves in the way it is told to.

`bare.py MANNER …`: `stays` when it is told to end, `forks`, is `silent`, `fails`, `greets`, …
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ANNOTATED = {"reads": {"readOnlyHint": True}, "puts": {"idempotentHint": True}}
TOOLS = [
    "echo",
    "surroundings",
    "reads",
    "puts",
    "files.read",
    "ask",
    "content",
    "die",
    "sleep",
    "refuses",
]


def send(**message: Any) -> None:
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def receive() -> dict[str, Any]:
    if not (line := sys.stdin.readline()):
        raise SystemExit
    return json.loads(line)


def text(*texts: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": each} for each in texts]}


def ask(methods: list[str]) -> dict[str, Any]:
    """Ask the client for what it may not give; tell what it said."""
    said = []
    for number, method in enumerate(methods):
        send(id=f"q{number}", method=method, params={})
        answer = receive()
        said.append(json.dumps(answer.get("result", answer.get("error", {}).get("message"))))
    return text(*said)


def surroundings() -> dict[str, Any]:
    around = {"env": dict(os.environ), "cwd": str(Path.cwd())}
    return text(json.dumps({**around, "pid": os.getpid(), "group": os.getpgrp()}))


def call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    if name == "die":
        print("about to die", file=sys.stderr, flush=True)
        os._exit(3)
    if "mark" in arguments:
        mark = Path(arguments["mark"])
        if not mark.exists():
            mark.touch()
            os._exit(3)
    if name == "sleep":
        time.sleep(60)
    if name == "ask":
        return ask(arguments["methods"])
    if name == "surroundings":
        return surroundings()
    if name == "content":
        return arguments["result"]
    if name == "files.read" and arguments.get("fail"):
        return {**text("no such file"), "isError": True}
    return text(arguments.get("text", name))


def answered(message: dict[str, Any]) -> None:
    method, params = message["method"], message.get("params", {})
    if method == "initialize":
        result = {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "bare", "version": "1"},
        }
    elif method == "tools/list":
        result = listed(sys.argv[1:], params.get("cursor"))
    elif method == "tools/call":
        manner(sys.argv[1:], params)
        if params["name"] == "refuses":
            return send(id=message["id"], error="not today")
        result = call(params["name"], params.get("arguments", {}))
    else:
        return
    send(id=message["id"], result=result)


def listed(manners: list[str], cursor: str | None) -> dict[str, Any]:
    """Return a page of the list of tools."""
    tools = [tool(name) for name in TOOLS]
    if "is slow" in manners:
        time.sleep(0.5)
    if "has odd tools" in manners:
        tools += ODD_TOOLS
    if "has twins" in manners:
        tools += [tool("files.read"), tool("files_read")]
    if "has long names" in manners:
        tools += [tool("long" * 30 + end) for end in "ab"]
    if "repeats a page" in manners:
        return {"tools": tools, "nextCursor": "again"}
    if "has pages" in manners:
        page = int(cursor or 0)
        more = {"nextCursor": str(page + 1)} if page + 1 < len(tools) else {}
        return {"tools": tools[page : page + 1], **more}
    return {"tools": tools}


# Only the last two can be offered.
ODD_TOOLS = [
    {"name": "no_schema"},
    {"name": "null_schema", "inputSchema": None},
    {"name": "list_schema", "inputSchema": {"type": "array"}},
    {"inputSchema": {"type": "object"}},
    "no tool",
    {"name": "no_type", "inputSchema": {"properties": {"a": {"type": "integer"}}}},
    {
        "name": "odd_rest",
        "description": 5,
        "title": "Odd",
        "inputSchema": {"type": ["object"], "properties": None, "required": "a"},
        "annotations": {"readOnlyHint": "yes", "idempotentHint": True},
        "icons": "x",
        "outputSchema": {"type": "array"},
    },
]


def tool(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "description": f"Does {name}.",
        "inputSchema": {"type": "object"},
        "annotations": ANNOTATED.get(name),
    }


def manner(manners: list[str], params: dict[str, Any]) -> None:
    """Misbehave in a call."""
    if "floods" in manners:
        while True:
            os.write(1, b"x" * 65_536)
    if "babbles" in manners:
        while True:
            print("no message", flush=True)
    if "tells" in manners:
        for _ in range(3):
            send(method="notifications/message", params={"level": "info", "data": "x"})
            send(method="notifications/tools/list_changed")
    if "deafens" in manners:
        while True:
            send(id="q", method="ping")


def main() -> None:
    manners = sys.argv[1:]
    if "stays" in manners:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "forks" in manners:
        child = subprocess.Popen(["sleep", "600"])
        print(f"child {child.pid}", flush=True)
    for each in manners:
        needed = each.removeprefix("needs ")
        if needed != each and not Path(needed).exists():
            sys.exit(f"there is no {needed}")
    if "silent" in manners:
        time.sleep(600)
    if "fails" in manners:
        sys.exit(f"no key {os.environ.get('API_KEY')}")
    if "greets" in manners:
        print("Welcome!\n\n{not json}", flush=True)
    if "babbles at once" in manners:
        manner(["babbles"], {})
    if "floods at once" in manners:
        manner(["floods"], {})
    try:
        while True:
            message = receive()
            if "method" in message:
                answered(message)
    except SystemExit:
        if "stays" in manners:
            time.sleep(600)


if __name__ == "__main__":
    main()
