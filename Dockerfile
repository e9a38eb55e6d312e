# dpo-tui in a container, as a user without rights. Two targets:
#   docker build --target cpu  -t dpo-tui:cpu .     for the demo, and to look at runs and data
#   docker build --target cuda -t dpo-tui:cuda .    for a GPU; --build-arg TORCH_BUILD=cu126 for an older driver
# docs/install.md says how to run them.

FROM python:3.11-slim AS cpu
ARG TORCH_BUILD=cpu
WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY dpo_tui ./dpo_tui
# torch first and from the index of its build: the constraints pin a version of it, which not every index has.
RUN python3 -m venv /opt/dpo-tui \
    && grep -v '^torch==' constraints.txt > /tmp/constraints.txt \
    && /opt/dpo-tui/bin/pip install --no-cache-dir --index-url https://download.pytorch.org/whl/${TORCH_BUILD} 'torch>=2.6,<3' \
    && /opt/dpo-tui/bin/pip install --no-cache-dir -c /tmp/constraints.txt . \
    && useradd --create-home --uid 1000 dpo \
    && mkdir /workspace && chown dpo /workspace
ENV PATH=/opt/dpo-tui/bin:$PATH DPO_TUI_HOME=/workspace/dpo-tui HF_HOME=/workspace/huggingface LANG=C.UTF-8 USER=dpo
VOLUME /workspace
WORKDIR /workspace
USER dpo
ENTRYPOINT ["dpo-tui"]

# torch's builds bring CUDA's libraries; the driver comes from the host.
FROM nvidia/cuda:12.8.1-base-ubuntu24.04 AS cuda
ARG TORCH_BUILD=cu128
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv gcc libc6-dev python3-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY dpo_tui ./dpo_tui
# Ubuntu's image has a user with the id 1000 already.
RUN python3 -m venv /opt/dpo-tui \
    && grep -v '^torch==' constraints.txt > /tmp/constraints.txt \
    && /opt/dpo-tui/bin/pip install --no-cache-dir --index-url https://download.pytorch.org/whl/${TORCH_BUILD} 'torch>=2.6,<3' \
    && /opt/dpo-tui/bin/pip install --no-cache-dir -c /tmp/constraints.txt . \
    && userdel --remove ubuntu \
    && useradd --create-home --uid 1000 dpo \
    && mkdir /workspace && chown dpo /workspace
ENV PATH=/opt/dpo-tui/bin:$PATH DPO_TUI_HOME=/workspace/dpo-tui HF_HOME=/workspace/huggingface LANG=C.UTF-8 USER=dpo
VOLUME /workspace
WORKDIR /workspace
USER dpo
ENTRYPOINT ["dpo-tui"]
