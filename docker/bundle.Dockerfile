# An image with its model inside: `make image BUNDLE=file.zip`, or these lines in a folder of your own.
ARG IMAGE
FROM ${IMAGE}
COPY --chmod=444 bundle.zip /bundle.zip
