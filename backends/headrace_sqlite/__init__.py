"""The ``sqlite`` backend: durable queues in one file, shared by the processes of one machine."""
