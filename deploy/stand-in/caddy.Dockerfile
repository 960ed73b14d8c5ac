# Debian's Caddy, which is older than the one of compose.tls.yaml.
FROM python:3.13.9-slim-bookworm
RUN apt-get update --quiet=2 && apt-get install --yes --quiet=2 --no-install-recommends caddy >/dev/null
ENV XDG_CONFIG_HOME=/config XDG_DATA_HOME=/data
CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
