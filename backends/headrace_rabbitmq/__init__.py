"""The RabbitMQ backend: quorum queues, publisher confirms, and delays without a plugin."""
