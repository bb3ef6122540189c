"""Scores of written text: ROUGE of summaries, BLEU, chrF and TER of translations, equal replies.

Each is computed on the tokens of its language (`languages.tokens`, sacrebleu's tokenizers), and
its name says so where these are characters: ``rouge1`` and ``rouge1_zh`` cannot be compared.

Predictions and references are texts, one a row, as many of each and at least one. The language is
the ISO 639-1 code of both; of a translation, that of the language translated to.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from absl import logging as absl_logging
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF, TER

from pipeline.common.languages import code, sentences, suffix, tokens

# rouge_score imports absl, whose handler closes what was stderr at that moment (a notebook's or a
# test's stream) when logging is configured anew, as Hydra does each run. This one it spares.
absl_logging.get_absl_handler().python_handler.setStream(sys.__stderr__)

# ja-mecab and ko-mecab cut words, but need packages and dictionaries of their own.
_BLEU_TOKENIZERS = {"zh": "zh", "ja": "char", "ko": "char"}


@dataclass(frozen=True)
class _Tokenizer:
    """What rouge_score calls for tokens; its own drops every letter outside ASCII."""

    language: str

    def tokenize(self, text: str) -> list[str]:
        return tokens(text, self.language)


def _rouge(
    kinds: Sequence[str], predictions: Sequence[str], references: Sequence[str], language: str
) -> dict[str, float]:
    """Return the mean F-measure of each kind of ROUGE, by its name in the language."""
    scorer = RougeScorer(list(kinds), tokenizer=_Tokenizer(language))

    def lines(text: str) -> str:
        return "\n".join(sentences(text, language))  # as rougeLsum wants them

    rows = [
        scorer.score(lines(reference), lines(prediction))
        for prediction, reference in zip(predictions, references, strict=True)
    ]
    return {
        f"{kind}{suffix(language)}": fmean(row[kind].fmeasure for row in rows) for kind in kinds
    }


def summary_scores(
    predictions: Sequence[str], references: Sequence[str], language: str
) -> dict[str, float]:
    """Score summaries by ROUGE (Lin, 2004: ROUGE, a package for automatic evaluation of summaries).

    Words are not stemmed.

    Returns:
        ``rouge1``, ``rouge2``, ``rougeL`` and ``rougeLsum`` (``rouge1_zh`` …): F-measures between 0
        and 1, the mean over rows. A text of one token has no bigram: its ``rouge2`` is 0.
    """
    return _rouge(("rouge1", "rouge2", "rougeL", "rougeLsum"), predictions, references, language)


def translation_scores(
    predictions: Sequence[str], references: Sequence[str], language: str
) -> dict[str, float]:
    """Score translations by sacrebleu (Post, 2018: A call for clarity in reporting BLEU scores).

    Returns:
        Scores of the corpus. ``bleu`` (Papineni et al., 2002) and ``chrf`` (Popović, 2015) between
        0 and 100; ``ter`` (Snover et al., 2006) from 0 upwards, edits per 100 tokens of the
        references: lower is better.
    """
    if len(predictions) != len(references):  # sacrebleu would leave the longer one's rest out
        raise ValueError(f"{len(predictions)} predictions for {len(references)} references.")
    by_character = bool(suffix(language))
    metrics = {
        # Effective order: as always, but where no prediction has four tokens. BLEU is 0 there.
        f"bleu{suffix(language)}": BLEU(
            tokenize=_BLEU_TOKENIZERS.get(code(language), "13a"), effective_order=True
        ),
        "chrf": CHRF(),
        # Without `normalized`, `asian_support` does nothing.
        f"ter{suffix(language)}": TER(normalized=by_character, asian_support=by_character),
    }
    return {
        name: float(metric.corpus_score(list(predictions), [list(references)]).score)
        for name, metric in metrics.items()
    }


def reply_scores(
    predictions: Sequence[str], references: Sequence[str], language: str
) -> dict[str, float]:
    """Score replies by the share that equal the reference and by ROUGE.

    Returns:
        ``exact_match``, blanks around a reply not counting; ``rouge1`` and ``rougeL``
        (``rouge1_zh`` …): all between 0 and 1.
    """
    equal = [p.strip() == r.strip() for p, r in zip(predictions, references, strict=True)]
    return {
        "exact_match": fmean(equal),
        **_rouge(("rouge1", "rougeL"), predictions, references, language),
    }
