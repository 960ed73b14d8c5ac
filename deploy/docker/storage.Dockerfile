# Writes the visits log. There is one; a second waits until the first is gone.
# docker build --file deploy/docker/storage.Dockerfile --tag footfall-storage .
ARG BASE=python:3.13.9-slim-bookworm

FROM $BASE AS build
WORKDIR /build
COPY requirements-extras.txt .
# All that is locked, by its hash; what this service needs is taken from there, with no network.
RUN pip wheel --no-cache-dir --no-deps --require-hashes --requirement requirements-extras.txt --wheel-dir /wheels
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN python -m venv --without-pip /opt/footfall \
    && pip --python /opt/footfall install --no-cache-dir --no-index --find-links /wheels '.[kafka,rabbitmq,opentelemetry]'

FROM $BASE
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /var/lib/footfall footfall \
    && install --directory --owner footfall --group footfall --mode 0750 /var/lib/footfall /var/log/footfall
COPY --from=build /opt/footfall /opt/footfall
ENV PATH=/opt/footfall/bin:$PATH \
    FOOTFALL__DATA_DIR=/var/lib/footfall \
    FOOTFALL__STORAGE__PATH=/var/log/footfall/visits.log \
    FOOTFALL__MONITOR__PORT=8002
# Each setting can be a variable; or mount an appsettings.json here.
WORKDIR /etc/footfall
USER 10001:10001
VOLUME ["/var/lib/footfall", "/var/log/footfall"]
EXPOSE 8002
STOPSIGNAL SIGTERM
# Alive, not ready: a restart mends no full disk, and no broker or database that is away.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8002/healthz', timeout=4)"]
ENTRYPOINT ["footfall"]
CMD ["run", "storage"]
