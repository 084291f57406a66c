# One image for `run_web`, `run_worker` and the other commands. The first stage has what only
# building needs; the second has Python, the packages and the local model.
FROM python:3.13-slim AS build

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

WORKDIR /source
RUN python -m venv /opt/amplifierd
ENV PATH=/opt/amplifierd/bin:$PATH

# A layer of its own, which a change of the code leaves as it is. These are the pins of what runs;
# what tests need is in tests/requirements.txt.
COPY requirements.txt .
RUN pip install --requirement requirements.txt

# The local model is part of the image: a worker answers without a network, and each replica with
# the same file, checked by its hash. Only these files take part, so that a change of any other
# does not fetch it anew.
COPY sessions_app/__init__.py sessions_app/
COPY sessions_app/engine/__init__.py sessions_app/engine/model_files.py sessions_app/engine/
RUN python -c "from pathlib import Path; \
from sessions_app.engine.model_files import SMOLLM2, download, fetch; \
fetch(Path('/models'), SMOLLM2, download)"

COPY . .
RUN pip install --no-deps .


FROM python:3.13-slim

# llama.cpp computes with libgomp1; collections come by git, over https or ssh; bubblewrap is the sandbox
# of commands where user namespaces are allowed.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        bubblewrap ca-certificates git libgomp1 openssh-client \
    && rm -rf /var/lib/apt/lists/*

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PATH=/opt/amplifierd/bin:$PATH \
    AMPLIFIERD_HOME=/data \
    AMPLIFIERD_MODELS=/models

# The code and the model belong to root: the daemon reads them, and writes to its data alone.
COPY --from=build /opt/amplifierd /opt/amplifierd
COPY --from=build /models /models
RUN useradd --system --uid 10001 --no-create-home amplifierd \
    && install --directory --owner=amplifierd --mode=0700 /data /data/root
USER amplifierd
WORKDIR /data
VOLUME /data
EXPOSE 8420

# For a web process, which is what the image runs unless another command is given.
HEALTHCHECK --interval=10s --timeout=5s --retries=3 --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8420/readyz', timeout=4)"]

CMD ["amplifierd", "run_web"]
