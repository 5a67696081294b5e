# Octavo's server on ONNX Runtime, for amd64 and arm64. docker/README.md says how it is built; `make images` does it.
#
# BASE is an image with Python 3.11 and glibc 2.28 or newer, of the architecture that the image is for. BUILD_BASE is
# the same for the machine that builds: nothing is run in BASE, so no emulator is needed. Both are meant to hold a
# digest, as in docker.io/library/python:3.11-slim-bookworm@sha256:...; there is no default, for a tag can change.
ARG BASE
ARG BUILD_BASE=${BASE}
ARG BUILD_PLATFORM=linux/amd64
ARG PLATFORM=linux/amd64

FROM --platform=${PLATFORM} ${BASE} AS base

FROM --platform=${BUILD_PLATFORM} ${BUILD_BASE} AS root
ARG PLATFORM
COPY docker/requirements-cpu.txt /build/
# A CA given as the secret `ca` is used for the package index and stays out of the image.
RUN --mount=type=secret,id=ca,required=false \
    case "${PLATFORM}" in \
      linux/amd64) machine=x86_64 ;; \
      linux/arm64*) machine=aarch64 ;; \
      *) echo "PLATFORM is '${PLATFORM}'; it can be linux/amd64 or linux/arm64" >&2; exit 2 ;; \
    esac; \
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi; \
    python3 -m venv /build/pip && /build/pip/bin/pip install \
      --disable-pip-version-check --no-cache-dir --quiet --no-compile \
      --require-hashes --only-binary=:all: --implementation cp --python-version 3.11 \
      --platform "manylinux_2_28_${machine}" --platform "manylinux_2_27_${machine}" \
      --platform "manylinux_2_17_${machine}" --platform "manylinux2014_${machine}" \
      --target /build/site --requirement /build/requirements-cpu.txt

# Podman's cache does not look into what is mounted; this tells it that a base of the same name is another one.
ARG BASE_ID
ARG VERSION=0
COPY docker/elf.py docker/owners.py docker/root.py /build/
RUN --mount=type=bind,from=base,source=/,target=/base \
    python3 /build/root.py --base /base --site /build/site --version "${VERSION}" /out
COPY deploy /app/deploy
COPY export /app/export
COPY quant /app/quant
COPY docker/health.py /app/
RUN python3 -m compileall -q --invalidation-mode unchecked-hash /app

FROM --platform=${PLATFORM} scratch
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Octavo server (CPU)" \
      org.opencontainers.image.description="Serves bundles of quantized models on ONNX Runtime" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Two layers, for the second one changes with every commit and the first one with the pins only.
COPY --from=root /out/ /
COPY --from=root /app/ /app/
ENV PATH=/usr/local/bin:/usr/bin \
    PYTHONPATH=/opt/octavo/site \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /app
USER 65532:65532
EXPOSE 8080 8081
# The server handles SIGTERM itself and starts no processes, so that it can be PID 1; --init does no harm.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["python3", "-S", "/app/health.py"]
ENTRYPOINT ["python3", "-m", "deploy.serve", "--host", "0.0.0.0"]
CMD ["/bundle.zip"]
