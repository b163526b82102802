"""headrace beside other job queues: the same job on the same broker, in turns, in one run.

``benchmarks/PEERS.md`` says how it is run and what each setting means. It is not shipped: each
competitor is installed into a folder of its own by `peers.install`.
"""
