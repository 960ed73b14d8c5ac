# Debian's RabbitMQ, which is older than the one of compose.rabbitmq.yaml.
ARG BASE
FROM $BASE
RUN apt-get update --quiet=2 && apt-get install --yes --quiet=2 --no-install-recommends rabbitmq-server >/dev/null
USER rabbitmq
# In the foreground, so that it gets the signal that stops it.
ENV HOME=/var/lib/rabbitmq RABBITMQ_LOGS=- RABBITMQ_ALLOW_INPUT=yes
VOLUME /var/lib/rabbitmq
EXPOSE 5672
CMD ["/usr/lib/rabbitmq/bin/rabbitmq-server", "-noinput"]
