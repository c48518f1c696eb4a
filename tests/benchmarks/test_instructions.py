"""The benchmark of instructions: one instruction an institution, and test labels that training rows have."""

from benchmarks.instructions import rows_of


def test_an_institution_has_one_instruction_that_names_its_labels() -> None:
    train = [(f"loss {n}", "down") for n in range(30)] + [(f"profit {n}", "up") for n in range(20)] + [("odd", "rare")]
    test = [(f"gain {n}", "up") for n in range(5)] + [("odder", "other")]
    rows = rows_of("markets", train, test)
    assert {row["instruction"] for row in rows} == {"What is the sentiment of this headline? Answer down, rare or up."}
    assert {row["output"] for row in rows if row["split"] == "test"} == {"up"}
    assert sum(row["split"] == "train" for row in rows) == 51
