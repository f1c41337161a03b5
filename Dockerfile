# latentd without CUDA: for gateways (`serve --workers 0`), which load no model and must not need a GPU driver, and for CPUs.
#
#     docker build --build-arg COMMIT=$(git rev-parse HEAD) -t latentd:cpu .
#     docker run -p 8080:8080 -v latentd:/data -v models:/models -e LATENTD_API_KEY=… latentd:cpu
#
# Dockerfile.cuda is the same for NVIDIA GPUs.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
ARG COMMIT=unknown
ENV LATENTD_COMMIT=$COMMIT
RUN cargo build --release --features otlp --locked && strip target/release/latentd

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates libstdc++6 && \
    rm -rf /var/lib/apt/lists/* && useradd --system --uid 10001 --create-home latentd && \
    install -d -o latentd /data /models
COPY --from=build /src/target/release/latentd /usr/local/bin/
USER 10001
ENV LATENTD_LISTEN=0.0.0.0:8080 LATENTD_DATA_DIR=/data HF_HOME=/models
VOLUME /data /models
EXPOSE 8080
# Ready means that a worker has loaded the model. The shell opens the port itself, since the image has no HTTP client.
HEALTHCHECK --interval=10s --timeout=5s --start-period=180s \
    CMD bash -c 'exec 3<>/dev/tcp/127.0.0.1/8080 && printf "GET /health/ready HTTP/1.0\r\nHost: localhost\r\n\r\n" >&3 && head -n 1 <&3 | grep -q " 200 "'
ENTRYPOINT ["latentd"]
CMD ["serve"]
