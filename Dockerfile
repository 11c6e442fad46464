# Four images from one file: lsp (the language server), cpu, gpu (the backend), train.
#   docker build --target cpu -t code-assistant:v1-cpu .
# docs/deployment.md says what is in each and how large it is; docker/build makes them
# where there is no Docker. Packages are locked in docker/*.txt.
FROM python:3.11.14-slim-bookworm AS base
ENV PATH=/opt/tabwise/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin tabwise
WORKDIR /tmp

# --- what builds, and stays behind ---
FROM base AS tools
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
COPY docker/sbom.txt /build/sbom.txt
RUN python -m venv /build/sbom \
    && /build/sbom/bin/pip install --no-cache-dir --no-deps -r /build/sbom.txt \
    && python -m venv /opt/tabwise

# Packages change seldom: their layers come before the source.
FROM tools AS lsp-packages
COPY docker/lsp.txt /build/docker/
RUN pip install --no-cache-dir --no-deps -r /build/docker/lsp.txt

FROM lsp-packages AS cpu-packages
COPY docker/cpu.txt /build/docker/
RUN pip install --no-cache-dir --no-deps -r /build/docker/cpu.txt

FROM cpu-packages AS gpu-packages
COPY docker/gpu.txt /build/docker/
RUN pip install --no-cache-dir --no-deps -r /build/docker/gpu.txt

FROM gpu-packages AS train-packages
COPY docker/train.txt /build/docker/
RUN pip install --no-cache-dir --no-deps -r /build/docker/train.txt

FROM tools AS wheel
COPY docker/build.txt /build/docker/
RUN pip install --no-cache-dir --no-deps -r /build/docker/build.txt
WORKDIR /build/source
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY server server
COPY model model
COPY training training
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /build/wheel .

# --- each image's /opt/tabwise, with a list of all that is in it ---
FROM lsp-packages AS lsp-files
COPY --from=wheel /build/wheel /build/wheel
RUN pip install --no-cache-dir --no-deps /build/wheel/*.whl \
    && rm -rf /opt/tabwise/lib/python3.11/site-packages/tabwise_model \
              /opt/tabwise/lib/python3.11/site-packages/tabwise_training \
    && /build/sbom/bin/cyclonedx-py environment /opt/tabwise/bin/python \
           --output-file /opt/tabwise/sbom.cdx.json \
    && pip uninstall --yes pip setuptools

FROM cpu-packages AS cpu-files
COPY --from=wheel /build/wheel /build/wheel
RUN pip install --no-cache-dir --no-deps /build/wheel/*.whl \
    && python -c 'from tabwise_model.runners.choose import available_runners as a; assert "native" in a()' \
    && /build/sbom/bin/cyclonedx-py environment /opt/tabwise/bin/python \
           --output-file /opt/tabwise/sbom.cdx.json \
    && pip uninstall --yes pip setuptools

FROM gpu-packages AS gpu-files
COPY --from=wheel /build/wheel /build/wheel
RUN pip install --no-cache-dir --no-deps /build/wheel/*.whl \
    && /build/sbom/bin/cyclonedx-py environment /opt/tabwise/bin/python \
           --output-file /opt/tabwise/sbom.cdx.json \
    && pip uninstall --yes pip

FROM train-packages AS train-files
COPY --from=wheel /build/wheel /build/wheel
RUN pip install --no-cache-dir --no-deps /build/wheel/*.whl \
    && /build/sbom/bin/cyclonedx-py environment /opt/tabwise/bin/python \
           --output-file /opt/tabwise/sbom.cdx.json \
    && pip uninstall --yes pip

# --- the images ---
FROM base AS image
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Tabwise" \
      org.opencontainers.image.description="Code completion: language server, backend and training" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
USER 10001:10001
ENTRYPOINT ["tabwise"]

# An editor starts it: docker run -i --rm -e TABWISE_BACKEND_URL=... code-assistant:v1-lsp
FROM image AS lsp
COPY --from=lsp-files /opt/tabwise /opt/tabwise
CMD ["lsp"]

FROM image AS server
ENV TABWISE_SERVE_HOST=0.0.0.0 \
    TABWISE_SERVE_PORT=8000
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, ssl, urllib.request as u; e = os.environ; tls = 'TABWISE_SERVE_TLS_CERT' in e; u.urlopen('http' + 's' * tls + '://127.0.0.1:' + e['TABWISE_SERVE_PORT'] + '/livez', timeout=4, context=ssl._create_unverified_context() if tls else None)"]
CMD ["serve"]

# torch's own wheels bring the CUDA runtime; the driver comes from the host.
FROM server AS gpu
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    TABWISE_SERVE_RUNNER=torch \
    TABWISE_SERVE_DEVICE=cuda
COPY --from=gpu-files /opt/tabwise /opt/tabwise

# Training on several machines, and exports for vLLM (k8s/training, k8s/overlays/vllm).
FROM image AS train
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=train-files /opt/tabwise /opt/tabwise
COPY training/configs /opt/tabwise/configs
CMD ["train", "--help"]

# The last stage is what a build without --target makes.
FROM server AS cpu
COPY --from=cpu-files /opt/tabwise /opt/tabwise
