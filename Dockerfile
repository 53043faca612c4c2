# syntax=docker/dockerfile:1
# One image per role, each with no more than its role needs: `docker build --target alerts .`
# Everything Python comes from the package index pip is configured for.

FROM python:3.12-slim AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN apt-get update \
    && apt-get install -y --no-install-recommends openssl tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 linewatch \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/linewatch --create-home --shell /usr/sbin/nologin linewatch
WORKDIR /opt/linewatch
# `pip install --group` came with pip 25.1.
RUN pip install --upgrade "pip>=25.1"
COPY pyproject.toml ./
ENTRYPOINT ["tini", "--", "linewatch"]

# What OpenCV's wheel expects of the system.
FROM base AS opencv
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

FROM opencv AS capture
RUN pip install --group capture
COPY . .
RUN pip install --no-deps . && linewatch capture --help >/dev/null
USER 10001:10001

# No torch, no OpenCV: `tests/linewatch/test_packaging.py` holds the group to that.
FROM base AS alerts
RUN pip install --group alerts
COPY . .
RUN pip install --no-deps . && linewatch alerts --help >/dev/null
USER 10001:10001

# On x86 the index's torch brings CUDA along, some gigabytes. TORCH_INDEX names an index with CPU-only wheels.
FROM opencv AS worker-cpu
ARG TORCH_INDEX=""
RUN if [ -n "$TORCH_INDEX" ]; then pip install --index-url "$TORCH_INDEX" torch torchvision; fi
COPY . .
RUN pip install . && linewatch worker --help >/dev/null
USER 10001:10001

FROM opencv AS worker-cuda
COPY . .
RUN pip install . && linewatch worker --help >/dev/null
# Read by NVIDIA's container runtime.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
