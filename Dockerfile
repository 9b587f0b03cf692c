# Two images: `docker build .` for GPUs, `docker build --target cpu .` without CUDA.
# How to run them: docs/docker.md
FROM python:3.11-slim AS cpu

# What Open3D loads and slim images lack (vl3d_lite/geometry/open3d.py).
RUN apt-get update \
    && apt-get install -y --no-install-recommends libusb-1.0-0 libgl1 libgomp1 libx11-6 \
    && rm -rf /var/lib/apt/lists/*

ENV HOME=/tmp MPLCONFIGDIR=/tmp XDG_CACHE_HOME=/tmp CUDA_CACHE_PATH=/tmp/cuda \
    VL3D_LITE_CACHE=off PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

WORKDIR /opt/vl3d-lite
COPY . .
RUN pip install . && mkdir /data /runs

# Any other user works as well: docker run --user $(id -u):$(id -g)
USER 1000:1000
WORKDIR /data
ENTRYPOINT ["vl3d-lite"]

FROM cpu AS gpu
USER root
WORKDIR /opt/vl3d-lite
RUN pip install ".[gpu]"
USER 1000:1000
WORKDIR /data
