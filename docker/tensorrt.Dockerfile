# Octavo on NVIDIA's TensorRT image, for amd64. docker/README.md says what it can do.
#
# BASE is NVIDIA's TensorRT image with Python 3.12, meant to hold a digest:
# nvcr.io/nvidia/tensorrt:<release>-py3@sha256:... . Engines run on the release of TensorRT that built them, so take
# the one they were built with. The project's CI has no access to that image and does not build this one.
ARG BASE

FROM ${BASE} AS packages
COPY docker/requirements-tensorrt.txt docker/requirements-pycuda.txt docker/requirements-pycuda-build.txt /build/
# A CA given as the secret `ca` is used for the package index and stays out of the image. NVIDIA's images may set
# PIP_CONSTRAINT, which pip refuses beside hashes. pycuda has no wheels; the base's CUDA toolkit builds it.
RUN --mount=type=secret,id=ca,required=false \
    set -e; \
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi; \
    unset PIP_CONSTRAINT; \
    python3 -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12) and "BASE must have Python 3.12")'; \
    python3 -c 'import importlib.util as u, sys; sys.exit(not u.find_spec("tensorrt") and "BASE has no tensorrt")'; \
    install="python3 -m pip install --disable-pip-version-check --no-cache-dir --quiet --no-compile --require-hashes"; \
    $install --only-binary=:all: --target /build/site --requirement /build/requirements-tensorrt.txt; \
    $install --only-binary=:all: --target /build/tools --requirement /build/requirements-pycuda-build.txt; \
    export PATH="/usr/local/cuda/bin:${PATH}" PYTHONPATH=/build/tools:/build/site; \
    $install --no-deps --no-build-isolation --target /build/pycuda --requirement /build/requirements-pycuda.txt
ARG VERSION=0
RUN cp -r /build/pycuda/. /build/site/; \
    rm -rf /build/site/bin; \
    info="/build/site/octavo-${VERSION}.dist-info"; \
    mkdir "${info}" && printf 'Metadata-Version: 2.1\nName: octavo\nVersion: %s\n' "${VERSION}" >"${info}/METADATA" && \
    python3 -m compileall -q -s /build/site -p /opt/octavo/site /build/site

FROM ${BASE}
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Octavo (TensorRT)" \
      org.opencontainers.image.description="Runs engines of quantized models on NVIDIA's TensorRT" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=packages /build/site /opt/octavo/site
COPY deploy /app/deploy
COPY export /app/export
COPY quant /app/quant
COPY docker/health.py /app/
# What the base has of its own, such as TensorRT, stays where it is; these packages come before it.
ENV PYTHONPATH=/opt/octavo/site \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /app
RUN python3 -m compileall -q /app
USER 65532:65532
EXPOSE 8080 8081
# The base's own entry point, which prints its licence and checks the driver, is replaced: it needs a shell, and the
# server handles SIGTERM itself and starts no processes, so that it can be PID 1.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 CMD ["python3", "-S", "/app/health.py"]
ENTRYPOINT ["python3", "-m", "deploy.serve", "--host", "0.0.0.0"]
CMD ["/bundle.zip"]
