"""The ``directory`` backend of headrace."""
