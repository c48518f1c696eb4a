"""What is taken where nothing is said: the table of `docs/finetuning.md`, figure by figure."""

import pytest

from client.finetune.job import AdapterOptions, Method, TrainingOptions
from client.finetune.options.defaults import Defaults, defaults
from common.tasks import Head


def chosen(
    method: Method = "lora", head: Head = Head.SEQUENCE, width: int = 384, rows: int = 2000, fresh_head: bool = True
) -> Defaults:
    return defaults(AdapterOptions(method=method), TrainingOptions(), head, width, rows, fresh_head=fresh_head)


@pytest.mark.parametrize(
    ("method", "head", "rank"),
    [("lora", Head.SEQUENCE, 16), ("lora", Head.TOKEN, 32), ("qlora", Head.SEQUENCE, 64), ("qlora", Head.TOKEN, 64)],
)
def test_the_rank_is_that_of_the_task_or_of_qlora_and_alpha_twice_it(method: Method, head: Head, rank: int) -> None:
    found = chosen(method, head)
    assert (found.rank, found.alpha, found.target_modules) == (rank, 2 * rank, "all-linear")


@pytest.mark.parametrize(
    ("method", "head", "width", "fresh", "rates"),
    [
        ("lora", Head.SEQUENCE, 384, True, (1e-3, 1e-2)),
        ("lora", Head.SEQUENCE, 768, True, (2e-4, 1e-2)),
        ("lora", Head.SEQUENCE, 768, False, (2e-4, 1e-3)),
        ("lora", Head.TOKEN, 384, True, (5e-4, 5e-3)),
        ("lora", Head.TOKEN, 768, False, (2e-4, 5e-3)),
        ("p_tuning", Head.SEQUENCE, 384, True, (1e-2, 1e-2)),
        ("lora", Head.MASKED, 384, True, (1e-3, 1e-3)),
    ],
)
def test_a_head_that_starts_at_zero_takes_larger_steps_than_the_adapter(
    method: Method, head: Head, width: int, fresh: bool, rates: tuple[float, float]
) -> None:
    found = chosen(method, head, width, fresh_head=fresh)
    assert (found.learning_rate, found.head_learning_rate) == rates


@pytest.mark.parametrize(("rows", "epochs"), [(50, 10), (2400, 10), (4800, 5), (10_000, 3), (10**6, 3)])
def test_few_rows_are_passed_more_often(rows: int, epochs: int) -> None:
    assert chosen(rows=rows).epochs == epochs


def test_qlora_has_its_papers_optimizer_and_schedule_and_prompts_their_length() -> None:
    assert (chosen("qlora").optimizer, chosen("qlora").schedule) == ("paged_adamw_32bit", "cosine")
    assert (chosen("prefix_tuning").virtual_tokens, chosen("p_tuning").virtual_tokens) == (20, 8)
