# Everything Octavo can do, for CI: `octavo run`, `octavo build`, `octavo package`. Large, for PyTorch is in it.
#
# BASE is an image with Python 3.11, meant to hold a digest; there is no default, for a tag can change.
ARG BASE
FROM ${BASE} AS packages
COPY requirements.lock /build/
# A CA given as the secret `ca` is used for the package index and stays out of the image.
RUN --mount=type=secret,id=ca,required=false \
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi; \
    python3 -m venv /opt/octavo && /opt/octavo/bin/pip install \
      --disable-pip-version-check --no-cache-dir --quiet --requirement /build/requirements.lock

FROM packages AS own
COPY LICENSE README.md octavo.py pyproject.toml /build/
COPY benchmarks /build/benchmarks
COPY deploy /build/deploy
COPY export /build/export
COPY quant /build/quant
RUN /opt/octavo/bin/pip install --disable-pip-version-check --no-cache-dir --quiet \
      --target /opt/own --no-deps --no-build-isolation /build

FROM ${BASE}
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Octavo builder" \
      org.opencontainers.image.description="Quantizes models, builds engines and packages bundles" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Two layers: the large one changes with requirements.lock only.
COPY --from=packages /opt/octavo /opt/octavo
COPY --from=own /opt/own /opt/own
COPY examples /examples
# Caches go to /tmp, which any user may write to.
ENV PATH=/opt/own/bin:/opt/octavo/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/opt/own \
    HOME=/tmp \
    PYTHONUNBUFFERED=1
WORKDIR /work
USER 65532:65532
ENTRYPOINT ["octavo"]
CMD ["--help"]
