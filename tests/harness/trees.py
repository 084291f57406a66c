"""Folders that look like real repositories: line ends, marks, packages, rules, links, binaries."""

import os
import subprocess
from pathlib import Path

BOM = b"\xef\xbb\xbf"
# Characters of a long line, of three bytes each.
LONG = 500_000

FILES: dict[str, bytes] = {
    "README.md": "# Übung\n\nRead me.\n".encode(),
    "windows.txt": b"one\r\ntwo\r\nthree\r\n",
    "marked.cs": BOM + b"using System;\r\nclass A {}\r\n",
    "mixed.txt": b"one\r\ntwo\nthree\r\nfour\n",
    "classic.txt": b"one\rtwo\rthree\r",
    "no_end.txt": b"one\ntwo",
    "utf16.txt": "eins\r\nzwölf\r\n".encode("utf-16"),
    "latin1.txt": "Grüße aus Köln\n".encode("latin-1"),
    "picture.png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)),
    "late_nul.log": b"a line of a log\n" * 1000 + b"\0\0\0\n",
    "cjk.json": b'{"text": "' + "漢".encode() * LONG + b'"}',
    "src/app.ts": b"export const needle = 1\n",
    "src/view.tsx": b"export const needle = 2\n",
    "src/deep/util.ts": b"export const needle = 3\n",
    "src/deep/Util.TS": b"export const needle = 4\n",
    "src/[id].ts": b"export const needle = 5\n",
    "src/.hidden.ts": b"export const needle = 6\n",
    ".github/workflows/ci.yml": b"on: push # needle\n",
    ".gitignore": BOM + b"*.log\n/out/\r\nsecret*.txt\n!secret.example.txt\ncache/\n# a comment\n",
    "debug.log": b"needle\n",
    "secret.txt": b"needle\n",
    "secret.example.txt": b"needle\n",
    "out/app.js": b"needle\n",
    "src/out/kept.js": b"needle\n",
    "lib/.gitignore": b"gen-*\n!debug.log\n!cache/\n",
    "lib/gen-a.ts": b"needle\n",
    "lib/debug.log": b"needle\n",
    "lib/cache/kept.ts": b"needle\n",
    "node_modules/left-pad/index.js": b"needle\n",
    "packages/a/node_modules/b/index.ts": b"needle\n",
    "packages/a/dist/index.js": b"needle\n",
    "pkg/__pycache__/m.pyc": b"needle\n",
    ".venv/lib/site.py": b"needle\n",
    "target/debug/app": b"needle\n",
}
# What a search for `needle` finds by default.
NEEDLES = [
    ".github/workflows/ci.yml",
    "lib/cache/kept.ts",
    "lib/debug.log",
    "secret.example.txt",
    "src/.hidden.ts",
    "src/[id].ts",
    "src/app.ts",
    "src/deep/Util.TS",
    "src/deep/util.ts",
    "src/out/kept.js",
    "src/view.tsx",
]


def make_repository(folder: Path, *, git: bool = False) -> Path:
    """Make a repository in a new folder; `git`: with a first commit of some of it."""
    folder.mkdir(parents=True)
    for path, content in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    (folder / "run.sh").write_bytes(b"#!/bin/sh\necho hello\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "to_readme").symlink_to("README.md")
    (folder / "to_src").symlink_to("src")
    (folder / "to_nowhere").symlink_to("nowhere")
    if git:
        commit(folder)
    return folder


def commit(folder: Path) -> None:
    """Make a repository of git of a folder, with one commit."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/nowhere",
        "GIT_CONFIG_NOSYSTEM": "1",
        **{f"GIT_{who}_NAME": "A" for who in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{who}_EMAIL": "a@b.test" for who in ("AUTHOR", "COMMITTER")},
    }
    for command in (["init", "-q"], ["add", "README.md"], ["commit", "-qm", "Begin"]):
        subprocess.run(["git", *command], cwd=folder, env=environment, check=True)
