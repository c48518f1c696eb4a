#!/usr/bin/env bash
# DebertaV2Tokenizer of transformers 5 drops the text normalisation that its SentencePiece model asks for.
#
# Packages: transformers 5.23.0, tokenizers 0.23.3, sentencepiece 0.2.3, protobuf 7.36.2. No torch needed.
# Behaviour: a SentencePiece model holds its own normalisation table (NFKC by default: "ﬁ" to "fi", full-width digits to
#   digits, "½" to "1⁄2"). DebertaV2Tokenizer takes the vocabulary from spm.model and not the table, so such characters reach
#   the model as unknown pieces. With a table that folds case, capital letters become unknown too. T5Tokenizer and
#   XLMRobertaTokenizer, given the very same model file, agree with SentencePiece on all texts.
# Why it matters: DeBERTa-v3 is a usual base for financial classifiers. Text from PDF reports is full of ligatures, and Asian
#   filings of full-width digits. A DeBERTa-type encoder pretrained with SentencePiece meets pieces that it has never seen.
# Seen (texts of 6 with other pieces than SentencePiece): DeBERTa-v2 4, T5 0, XLM-R 0. Case-folding model: DeBERTa-v2 6, T5 0,
#   XLM-R 0. "The ﬁnal proﬁt": SentencePiece has no unknown piece, DebertaV2Tokenizer has 2.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HF_HUB_OFFLINE=1 HF_HOME="$work/hf"
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  transformers==5.23.0 tokenizers==0.23.3 sentencepiece==0.2.3 protobuf==7.36.2
cat > "$work/check.py" <<'PY'
import itertools
import shutil
import sys
from pathlib import Path

import sentencepiece
import transformers
from transformers import DebertaV2Tokenizer, T5Tokenizer, XLMRobertaTokenizer

transformers.logging.set_verbosity_error()
subjects = (
    "The bank",
    "Net income",
    "Office rent",
    "The final profit",
    "Credit loss",
    "Half of the fees",
    "Mortgage flow",
)
verbs = ("rose by", "fell to", "is about", "was near", "stayed at", "moved from")
amounts = [f"{n} percent in {year}" for n, year in itertools.product((1, 2, 5, 12, 34, 678, 90), range(2015, 2025))]
lines = [" ".join(parts) for parts in itertools.product(subjects, verbs, amounts)]
Path("corpus.txt").write_text("\n".join([*lines, *["half is 1⁄2 of it", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"] * 20]))
texts = (
    "The final profit rose by 12 percent",
    "Net income was near 5 percent",
    "The ﬁnal proﬁt rose",  # ligatures, as in text taken from a PDF file
    "Net income rose by １２ percent",  # full-width digits
    "Half of the fees: ½",
    "Oﬃce rent fell to 34 percent",
)


def differences(model: str) -> dict[str, int]:
    reference = sentencepiece.SentencePieceProcessor(model_file=model)
    found = {}
    for tokenizer_class, name in (
        (DebertaV2Tokenizer, "spm.model"),
        (T5Tokenizer, "spiece.model"),
        (XLMRobertaTokenizer, "sentencepiece.bpe.model"),
    ):
        folder = Path(f"{model}-{tokenizer_class.__name__}")
        folder.mkdir()
        shutil.copy(model, folder / name)
        tokenizer = tokenizer_class.from_pretrained(str(folder))
        found[tokenizer_class.__name__] = sum(reference.encode(t, out_type=str) != tokenizer.tokenize(t) for t in texts)
    return found


for prefix, rule in (("nfkc", "nmt_nfkc"), ("fold", "nmt_nfkc_cf")):
    sentencepiece.SentencePieceTrainer.train(
        input="corpus.txt",
        model_prefix=prefix,
        vocab_size=200,
        hard_vocab_limit=False,
        normalization_rule_name=rule,
        minloglevel=2,
    )
plain, folded = differences("nfkc.model"), differences("fold.model")
print(f"texts of {len(texts)} with other pieces than SentencePiece: {plain}, with a case-folding model: {folded}")
reference = sentencepiece.SentencePieceProcessor(model_file="nfkc.model")
deberta = DebertaV2Tokenizer.from_pretrained("nfkc.model-DebertaV2Tokenizer")
print("SentencePiece     ", reference.encode("The ﬁnal proﬁt", out_type=str))
print("DebertaV2Tokenizer", deberta.tokenize("The ﬁnal proﬁt"))
unknown = [reference.encode("The ﬁnal proﬁt").count(reference.unk_id())]
unknown.append(sum(reference.piece_to_id(piece) == reference.unk_id() for piece in deberta.tokenize("The ﬁnal proﬁt")))
print("unknown pieces:", unknown)
agree = all(r[c] == 0 for r in (plain, folded) for c in ("T5Tokenizer", "XLMRobertaTokenizer"))
if not (agree and plain["DebertaV2Tokenizer"] == 4 and folded["DebertaV2Tokenizer"] == 6 and unknown == [0, 2]):
    sys.exit("changed: DebertaV2Tokenizer now normalises as its SentencePiece model does")
PY
cd "$work" && "$work/venv/bin/python" "$work/check.py"
