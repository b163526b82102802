"""How figures, sizes and parameters are told."""

import pytest

from headrace_bench.words import figure, parse_size, told


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0.00"), (0.0123, "0.012"), (1.234, "1.23"), (56.78, "56.8"), (1234.5, "1,234")]
)
def test_a_figure_is_told_with_the_digits_that_mean_something(value: float, text: str) -> None:
    assert figure(value) == text


@pytest.mark.parametrize(
    ("text", "size"), [("100", 100), ("100B", 100), ("10kB", 10_000), ("10 KB", 10_000), ("1.5mb", 1_500_000)]
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "kB", "ten", "-3", "0"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_size(text)


def test_parameters_that_others_bring_are_told_by_their_names() -> None:
    assert told({"body": 10_000, "concurrency": 10, "workers": 3}) == "10 at once, 10 kB, workers 3"
