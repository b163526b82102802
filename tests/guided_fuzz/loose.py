"""``python -m guided_fuzz.loose TARGET CORPUS [libFuzzer's options]``: the fuzzer itself, in a process of its own."""

import sys

import atheris

#: Whose code the fuzzer watches, to know what an input has reached.
WATCHED = ("headrace", "headrace_bench", "headrace_rabbitmq", "headrace_redis", "headrace_sqlite", "headrace_sqs")

with atheris.instrument_imports(include=[*WATCHED, "tomllib"]):
    from fuzz_targets import TARGETS

name = sys.argv.pop(1)
atheris.Setup(sys.argv, TARGETS[name].read)
atheris.Fuzz()
