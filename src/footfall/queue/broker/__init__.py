"""A broker between the roles: what is published to Kafka or RabbitMQ, and how a sink reads it."""
