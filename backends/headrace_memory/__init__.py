"""The ``memory`` backend: queues inside one process, and the model that other backends are held against."""
