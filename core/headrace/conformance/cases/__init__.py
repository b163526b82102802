"""The cases, by what they are about. Each function is one sentence of the contract, and its proof."""
