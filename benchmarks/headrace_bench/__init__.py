"""The benchmark suite: any drivers side by side, beside the bare clients, every job accounted for.

``headrace bench`` runs it. `headrace_bench.results` is the schema of what comes out, for programs
that read reports or produce them, `headrace_bench.baseline` what a plugin brings to be compared
with its bare client, and ``scenarios`` has a file for each thing that is measured.
"""
