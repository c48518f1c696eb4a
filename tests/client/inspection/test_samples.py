"""Large data sets are sampled, and the sample is said."""

from client.inspection import languages as languages_module
from client.inspection.languages import UNCERTAIN, languages
from client.inspection.lengths import token_lengths
from client.inspection.samples import evenly_spaced
from tests.tiny_models import tiny_tokenizer


def test_a_sample_spans_all_values() -> None:
    assert evenly_spaced(range(1000), 4) == [0, 250, 500, 750]
    assert evenly_spaced([1, 2], 4) == [1, 2]


def test_languages_say_how_many_texts_they_are_of(monkeypatch) -> None:
    monkeypatch.setattr(languages_module, "_MOST_TEXTS", 3)
    texts = ["Le chiffre d'affaires de la banque a augmenté de huit pour cent au troisième trimestre."] * 9
    assert languages(texts) == ({"fr": 3}, 3)
    assert languages(["XYZ 12"])[0] == {UNCERTAIN: 1}


def test_lengths_of_words_are_those_of_the_tokens() -> None:
    found = token_lengths([["profit", "rises"], ["bank"] * 20], tiny_tokenizer(), 10)
    assert (found.longest, found.measured, found.share_cut) == (22, 2, 0.5)
