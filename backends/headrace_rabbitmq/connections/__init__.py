"""Reaching RabbitMQ: where it is, one connection to it, and the channels on that."""
