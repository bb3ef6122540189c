"""A baseline without a language model: TF-IDF of words and word pairs, and logistic regression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

MOST_FEATURES = 200_000
SEED = 0  # of the order in which rows are learned from, and of the folds


def tfidf_predictions(
    texts: Sequence[str], labels: Sequence[str], asked: Sequence[str]
) -> list[str]:
    """Train on texts with one label each, and return the label of each text that is asked for."""
    vectors = _vectorizer()
    model = _model().fit(vectors.fit_transform(texts), labels)
    return [str(label) for label in model.predict(vectors.transform(asked))]


def out_of_fold(
    texts: Sequence[str], labels: Sequence[str], names: Sequence[str], folds: int
) -> np.ndarray[Any, Any]:
    """Return each text's probabilities by the baseline that was trained on the other folds.

    The words are weighed once, over all texts; no label has a part in that. Each label is that of
    at least ``folds`` texts; ``names`` are all of them, sorted. Of shape [texts, names].
    """
    import numpy as np
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    parts = StratifiedKFold(folds, shuffle=True, random_state=SEED)
    truth = np.array([names.index(label) for label in labels])
    vectors = _vectorizer().fit_transform(texts)
    found: np.ndarray[Any, Any] = cross_val_predict(
        _model(), vectors, truth, cv=parts, method="predict_proba"
    )
    return found


def _vectorizer() -> TfidfVectorizer:
    from sklearn.feature_extraction.text import TfidfVectorizer

    # A letter is a word, and so is a sign: scripts without blanks, emoticons.
    pattern = r"(?u)\b\w+\b|[^\w\s]"
    return TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, token_pattern=pattern, max_features=MOST_FEATURES
    )


def _model() -> LogisticRegression:
    from sklearn.linear_model import LogisticRegression

    # As good as lbfgs run to its end, in a tenth of the time.
    return LogisticRegression(C=4.0, solver="saga", tol=0.01, random_state=SEED)
