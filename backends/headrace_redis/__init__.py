"""The ``redis`` backend: queues in Redis or Valkey, single, behind Sentinel or in a Cluster."""
