"""Two long texts in one pair: the same tokens as without the cut, and no memory that grows with their product."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from mlops.tasks.long_pairs import shortened, tokens_of

WORDS = [word for row in tiny.tiny_rows(60) for word in row["text"].split()]
ENDS = ["<s>", "</s>"]
SCRIPTS = ("abcdefgeé 🙂ﬁ家", "家餐厅的服")
SHARE = """
import resource, sys
sys.path.insert(0, "tests")
from pathlib import Path
import tiny
from tokenizers import Tokenizer
from mlops.tasks.long_pairs import shortened
tokenizer = Tokenizer.from_file(str(tiny.tiny_tokenizer(Path(sys.argv[1])) ))
tokenizer.no_padding()
tokenizer.enable_truncation(32)
text = "a " * 50_000
print(len(tokenizer.encode(*shortened(tokenizer, (text, text), 32)).ids))
"""


def word_piece(folder: Path) -> Any:
    tiny.tiny_tokenizer(folder)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def bytes_of(folder: Path) -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return trained(
        tokenizer,
        trainers.BpeTrainer(vocab_size=400, special_tokens=ENDS, initial_alphabet=alphabet, show_progress=False),
    )


def unigram(folder: Path) -> Any:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.normalizer = normalizers.NFKC()
    special = [*ENDS, "<unk>"]
    return trained(
        tokenizer,
        trainers.UnigramTrainer(vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False),
    )


def trained(tokenizer: Any, trainer: Any) -> Any:
    tokenizer.train_from_iterator([" ".join(WORDS)] * 5, trainer)
    ends = [(name, tokenizer.token_to_id(name)) for name in ENDS]
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", "<s> $A </s> </s> $B:1 </s>:1", ends)
    return tokenizer


def text_of(chance: random.Random) -> str:
    kind = chance.randrange(4)
    if kind < 2:
        return (" " if kind else "").join(chance.choices(WORDS, k=chance.choice([5, 50, 150])))
    return "".join(chance.choices(SCRIPTS[kind - 2], k=chance.choice([20, 300, 600])))


@pytest.mark.parametrize("made", [word_piece, bytes_of, unigram])
@pytest.mark.parametrize("longest", [16, 33])
def test_what_is_cut_would_have_been_truncated(tmp_path: Path, made: Any, longest: int) -> None:
    tokenizer, chance = made(tmp_path), random.Random(longest)
    tokenizer.no_padding()
    cut = 0
    for _ in range(40):
        pair = text_of(chance), text_of(chance)
        less = shortened(tokenizer, pair, longest)
        cut += less != pair
        tokenizer.no_truncation()
        whole = len(tokenizer.encode(*pair).ids)
        tokenizer.enable_truncation(longest)
        expected, found = tokenizer.encode(*pair), tokenizer.encode(*less)
        assert (found.ids, found.type_ids) == (expected.ids, expected.type_ids), pair
        assert tokens_of(tokenizer, pair) == whole
    assert cut > 3


def test_short_pairs_stay_as_they_are(tmp_path: Path) -> None:
    tokenizer = word_piece(tmp_path)
    tokenizer.enable_truncation(8)
    assert shortened(tokenizer, ("a question", "an answer"), 8) == ("a question", "an answer")


def test_two_texts_of_a_hundred_thousand_characters_fit_into_memory(tmp_path: Path) -> None:
    """Uncut, this pair has 1,700 times 1,700 parts: far more than the 4 GB that this process may have."""
    command = f'ulimit -v 4000000; exec "{sys.executable}" -c \'{SHARE}\' "{tmp_path}"'
    done = subprocess.run(["bash", "-c", command], check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) <= 32
