# The command insta-rtdetr in an image, on CPU or CUDA.
#
# NOT VERIFIED: no Docker daemon was at hand where this was written, so that the image has not been built.
#
#   docker build -t insta_rtdetr .
#   docker build -t insta_rtdetr:cuda --build-arg BASE=nvidia/cuda:13.0.1-runtime-ubuntu24.04 .
#   docker run --rm -v "$PWD:/data" insta_rtdetr predict --model quickstart_MNV2_D3_256 --input photo.jpg --output found
#   docker run --rm -v "$PWD:/data" --gpus all insta_rtdetr:cuda train --config-file ... --dataset ...
#
# BASE needs Python 3.11 or later, as Debian 12 and Ubuntu 24.04 have it.  PyTorch of requirements.txt brings CUDA 13.0's
# libraries along; a CPU image is smaller with PyTorch's CPU build (INSTALL.md):
#   --build-arg TORCH="torch==2.11.0 torchvision==0.26.0 --index-url ADDRESS"
ARG BASE=debian:12-slim
FROM ${BASE}
ARG TORCH=""

RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends make python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/insta_rtdetr
COPY . .
# pip's cache would double the layer.
RUN PIP_NO_CACHE_DIR=1 make TORCH="${TORCH}" env

ENV PATH="/opt/insta_rtdetr/.venv/bin:${PATH}"
WORKDIR /data
ENTRYPOINT ["insta-rtdetr"]
CMD ["--help"]
