# docker build -t entrepot . && docker run -d -p 3128:3128 -v entrepot:/var/lib/entrepot -v entrepot-ca:/ca entrepot
#
# Who comes from rpardini/docker-registry-proxy: its volume /docker_mirror_cache becomes
# /var/lib/entrepot (start with an empty one, its files have another form), /ca stays /ca, and its
# environment variables are understood. Directories of the host must belong to uid 10001.

ARG PYTHON=3.13-slim-trixie
ARG REGISTRY=2.8.3

# CNCF distribution, for the garbage collection of a private registry (docker-compose.registry.yml).
FROM registry:${REGISTRY} AS registry

FROM python:${PYTHON} AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
COPY ca/trust ./ca/trust
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel . \
    && python -m venv /opt/entrepot/.venv \
    && /opt/entrepot/.venv/bin/pip install --no-cache-dir /wheel/*.whl

FROM python:${PYTHON}
LABEL org.opencontainers.image.title="Entrepot" \
      org.opencontainers.image.description="A forward HTTPS proxy that caches every container registry" \
      org.opencontainers.image.licenses="Apache-2.0"
# A number, so that Kubernetes' runAsNonRoot can tell; fixed, so that volumes keep their owner.
RUN groupadd --gid 10001 entrepot \
    && useradd --uid 10001 --gid entrepot --home-dir /var/lib/entrepot --no-create-home \
        --shell /usr/sbin/nologin entrepot \
    && install -d -m 0750 -o entrepot -g entrepot /var/lib/entrepot /var/lib/registry /ca
COPY --from=registry /bin/registry /usr/local/bin/registry
COPY --from=build /opt/entrepot/.venv /opt/entrepot/.venv
COPY config/entrepot.yaml /etc/entrepot/entrepot.yaml
ENV PATH=/opt/entrepot/.venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ENTREPOT_CA__DIRECTORY=/ca
USER 10001:10001
WORKDIR /var/lib/entrepot
VOLUME ["/var/lib/entrepot", "/ca"]
EXPOSE 3128 8443
STOPSIGNAL SIGTERM
# http.client knows no proxy variables: in here they are meant for the way upstream.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 3128, timeout=4); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["entrepot"]
CMD ["serve"]
