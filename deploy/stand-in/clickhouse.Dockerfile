# The engine of the same release of ClickHouse as in compose.yaml, behind its HTTP protocol, as in the tests.
ARG BASE
FROM $BASE
RUN apt-get update --quiet=2 && apt-get install --yes --quiet=2 --no-install-recommends wget >/dev/null
ARG RELEASE
RUN pip install --break-system-packages --no-cache-dir --quiet "chdb-core==$RELEASE.*" lz4
COPY clickhouse_server.py clickhouse-start /opt/
VOLUME /var/lib/clickhouse
EXPOSE 8123
# It knows no other way to stop.
STOPSIGNAL SIGKILL
CMD ["/opt/clickhouse-start"]
