# Debian's Caddy, which is older than the one of compose.tls.yaml.
ARG BASE
FROM $BASE
RUN apt-get update --quiet=2 && apt-get install --yes --quiet=2 --no-install-recommends caddy >/dev/null
ENV XDG_CONFIG_HOME=/config XDG_DATA_HOME=/data
CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
