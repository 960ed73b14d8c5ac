# The same release of Kafka as in compose.yaml, with the settings taken from variables as the official image does.
ARG BASE
FROM $BASE
RUN apt-get update --quiet=2 \
    && apt-get install --yes --quiet=2 --no-install-recommends openjdk-17-jre-headless >/dev/null
RUN useradd --uid 1000 --user-group appuser \
    && install --directory --owner appuser --group appuser /etc/kafka /var/lib/kafka/data
COPY jars /opt/kafka/libs
COPY kafka-start /opt/kafka/start
USER appuser
VOLUME /var/lib/kafka/data
EXPOSE 9092
CMD ["/opt/kafka/start"]
