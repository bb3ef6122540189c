"""Scores of texts, answers and label sets: known values, bounds, and the same in every language."""

import math
import random
import re

import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sklearn import metrics as sk
from sklearn.preprocessing import MultiLabelBinarizer

from pipeline.common.languages import cjk_language, lead, sentences, suffix, tokens
from pipeline.evaluation import names
from pipeline.evaluation.answers import answer_scores
from pipeline.evaluation.metrics import classification_scores, multilabel_scores
from pipeline.evaluation.text import reply_scores, summary_scores, translation_scores

CHINESE = "巴黎是法国的首都。它位于塞纳河畔。"
LANGUAGES = st.sampled_from(["en", "de", "ru", "ar", "hi", "zh", "ja", "ko"])
TEXTS = st.text("abZüßИя ىم漢字かナ한국3.,!?。！ \n'", max_size=25) | st.text(max_size=10)
ROWS = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3)


@pytest.mark.parametrize("language", ["en", "zh", "ja", "ko"])
def test_the_declared_metrics_are_the_ones_that_are_scored(language):
    for declare, score, truth in (
        (names.summary_metrics, summary_scores, "b"),
        (names.translation_metrics, translation_scores, "b"),
        (names.reply_metrics, reply_scores, "b"),
        (names.answer_metrics, answer_scores, ["b"]),
    ):
        assert declare(language).keys() == score(["a"], [truth], language).keys()


def test_directions_are_those_of_better_text():
    directions = names.translation_metrics("ja")
    good, bad = (translation_scores([text], ["猫が好き"], "ja") for text in ("猫が好き", "犬"))
    better = {name: "maximize" if good[name] > bad[name] else "minimize" for name in good}
    assert directions == better


def test_a_language_is_known_by_its_code_with_or_without_a_region():
    assert [suffix(given) for given in ("en", "de-AT", "zh-CN", "ZH_Hans", "ja", "ko")] == [
        "", "", "_zh", "_zh", "_ja", "_ko",
    ]  # fmt: skip
    for wrong in ("cn", "jp", "", "eng"):
        with pytest.raises(ValueError, match="ISO 639-1"):
            suffix(wrong)


def test_chinese_is_scored_by_characters():
    assert summary_scores([CHINESE], [CHINESE], "zh")["rouge1_zh"] == 1.0
    assert translation_scores([CHINESE], [CHINESE], "zh")["bleu_zh"] == pytest.approx(100)


def test_chinese_scored_as_if_it_had_blanks_is_nothing():
    # Why the language has to be said: rouge_score's own tokens are ASCII, and words are phrases.
    near = CHINESE.replace("是", "为").replace("位", "坐")
    assert RougeScorer(["rouge1"]).score(CHINESE, CHINESE)["rouge1"].fmeasure == 0.0
    assert summary_scores([near], [CHINESE], "en")["rouge1"] == 0.0
    assert summary_scores([near], [CHINESE], "zh")["rouge1_zh"] == pytest.approx(13 / 15)


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("Die Größe, ÄRGER!", "de", ["die", "größe", "ärger"]),
        ("Gro\u0308ße", "de", ["größe"]),
        ("Привет, мир", "ru", ["привет", "мир"]),
        ("مرحبا بالعالم", "ar", ["مرحبا", "بالعالم"]),
        ("हिन्दी भाषा ❤️", "hi", ["हिन्दी", "भाषा"]),
        ("İstanbul", "tr", ["i̇stanbul"]),
        ("用GPT-4写ＡＢ", "zh", ["用", "gpt", "4", "写", "ab"]),
        ("カﾅ漢", "ja", ["カ", "ナ", "漢"]),
        ("한국 BTS", "ko", ["한", "국", "bts"]),
    ],
)
def test_tokens(text, language, expected):
    assert tokens(text, language) == expected


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("Stop! Who? Me.", "en", ["Stop!", "Who?", "Me."]),
        ('Dr. J. R. Lee of the U.S. said "Go." It rose 3.5 %.', "en",
         ['Dr. J. R. Lee of the U.S. said "Go."', "It rose 3.5 %."]),
        ("No. He left in 2019. See No. 5 by e.g. Ray", "en",
         ["No.", "He left in 2019.", "See No. 5 by e.g. Ray"]),
        ("I don't. You do.", "en", ["I don't.", "You do."]),
        ("Am 3. Mai, z. B. bzw. vgl. Nr. 7. Dann", "de",
         ["Am 3. Mai, z. B. bzw. vgl. Nr. 7. Dann"]),
        ("Erste Zeile\nZweite\r\n\nDritte", "de", ["Erste Zeile", "Zweite", "Dritte"]),
        ("「行く！」と言った。寒い?はい!", "ja", ["「行く！」", "と言った。", "寒い?", "はい!"]),
        (CHINESE, "zh", ["巴黎是法国的首都。", "它位于塞纳河畔。"]),
        ("", "en", []),
    ],
)  # fmt: skip
def test_sentences(text, language, expected):
    assert sentences(text, language) == expected


def test_the_lead_is_the_first_sentences():
    assert lead("One. Two. Three. Four.", 3, "en") == "One.\nTwo.\nThree."
    assert lead(CHINESE, 1, "zh") == "巴黎是法国的首都。"


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["Hello", "你好世界，这是机器学习"], "zh"),
        (["東京都知事選が告示された", "寒い"], "ja"),
        (["서울은 대한민국의 首都 Seoul"], "ko"),
        (["The character 漢 means Han in Chinese"], None),
        (["Grüße", "Привет", ""], None),
    ],
)
def test_the_script_tells_the_language(texts, expected):
    assert cjk_language(iter(texts)) == expected


def test_rouge_equals_values_by_hand():
    # Lin (2004), section 3.1: "police kill the gunman" shares a subsequence of 2 of 4 words.
    scores = summary_scores(["police kill the gunman"], ["police killed the gunman"], "en")
    assert scores["rougeL"] == scores["rouge1"] == 3 / 4
    scores = summary_scores(["the gunman kill police"], ["police killed the gunman"], "en")
    assert (scores["rougeL"], scores["rouge1"], scores["rouge2"]) == (2 / 4, 3 / 4, 1 / 3)


def test_rouge_lsum_does_not_mind_the_order_of_sentences():
    scores = summary_scores(["Dogs bark. Cats purr."], ["Cats purr. Dogs bark."], "en")
    assert (scores["rougeLsum"], scores["rougeL"]) == (1.0, 0.5)


def test_rouge_is_the_mean_over_rows():
    assert summary_scores(["a b", ""], ["a b", "c"], "en")["rouge1"] == 0.5


def test_translations_are_scored_as_by_sacrebleu():
    predicted = ["The cat sat on the mat.", "It is raining, isn't it?"]
    true = ["The cat is sitting on the mat.", "It rains, doesn't it?"]
    scores = translation_scores(predicted, true, "en")
    expected = sacrebleu.corpus_bleu(predicted, [true], tokenize="13a").score
    assert 0 < scores["bleu"] == pytest.approx(expected)
    assert scores["chrf"] == pytest.approx(sacrebleu.corpus_chrf(predicted, [true]).score)
    assert scores["ter"] == pytest.approx(sacrebleu.corpus_ter(predicted, [true]).score)


@pytest.mark.parametrize(
    ("language", "tokenizer", "predicted", "true"),
    [
        ("zh", "zh", "巴黎是法国的首都。", "巴黎为法国的首都。"),
        ("ja", "char", "猫がとても好きです。", "猫がかなり好きです。"),
        ("ko", "char", "나는 고양이를 좋아한다", "나는 고양이를 사랑한다"),
    ],
)
def test_bleu_has_the_tokens_of_its_language(language, tokenizer, predicted, true):
    score = translation_scores([predicted], [true], language)[f"bleu_{language}"]
    expected = sacrebleu.corpus_bleu([predicted], [[true]], tokenize=tokenizer).score
    assert score == pytest.approx(expected)
    assert score > translation_scores([predicted], [true], "en")["bleu"]


def test_chinese_translations_are_edited_by_characters():
    assert translation_scores(["我爱猫"], ["我爱狗"], "zh")["ter_zh"] == pytest.approx(100 / 3)


def test_missing_rows_are_an_error():
    for score in (summary_scores, translation_scores, reply_scores, answer_scores):
        with pytest.raises(ValueError, match=r"shorter|longer|predictions for"):
            score(["a", "b"], ["a"], "en")


def test_empty_translations_score_nothing():
    scores = translation_scores(["", ""], ["a b c d", "e"], "en")
    assert scores == {"bleu": 0, "chrf": 0, "ter": 100}


def test_replies_are_equal_but_for_blanks_around():
    scores = reply_scores([" Yes, sir.\n", "yes"], ["Yes, sir.", "Yes"], "en")
    assert scores == {"exact_match": 0.5, "rouge1": 1.0, "rougeL": 1.0}


@settings(max_examples=60, deadline=None)
@given(ROWS, LANGUAGES)
def test_scores_are_within_their_bounds(rows, language):
    predicted, true = zip(*rows, strict=True)
    shares = summary_scores(predicted, true, language) | reply_scores(predicted, true, language)
    shares |= answer_scores(predicted, [[text] for text in true], language)
    assert all(0 <= value <= 1 for value in shares.values()), shares
    *hundreds, ter = translation_scores(predicted, true, language).values()
    assert all(0 <= value <= 100 + 1e-9 for value in hundreds), hundreds
    assert 0 <= ter < math.inf


@settings(max_examples=60, deadline=None)
@given(TEXTS, LANGUAGES)
def test_a_text_is_the_best_answer_to_itself(text, language):
    found = tokens(text, language)
    summary = summary_scores([text], [text], language)
    least = {kind: 2 if "rouge2" in kind else 1 for kind in summary}  # of tokens
    assert summary == {kind: float(len(found) >= least[kind]) for kind in summary}
    assert answer_scores([text], [[text]], language).keys() == names.answer_metrics(language).keys()
    assert set(answer_scores([text], [[text]], language).values()) == {1.0}
    if found:
        bleu, chrf, ter = translation_scores([text], [text], language).values()
        assert (bleu, chrf) == (pytest.approx(100), pytest.approx(100))
        # sacreBLEU tokenizes references twice for TER, which splits ". .3" of "..3" once more.
        if not re.search(r"[.,-]\s*\d|\d\s*[.,-]", text):
            assert ter == 0


@pytest.mark.parametrize(
    ("predicted", "true", "language", "exact", "f1"),
    [
        ("the Eiffel Tower", ["Eiffel tower."], "en", 1, 1),
        ("Tower", ["The Eiffel Tower", "Louvre"], "en", 0, 2 / 3),
        ("in the year 1066", ["1066", "year 1066!"], "en", 0, 4 / 5),
        ("U.S.", ["us"], "en", 1, 1),
        ("", [], "en", 1, 1),
        ("the", [], "en", 1, 1),  # as SQuAD's script, which normalises first
        ("Paris", [], "en", 0, 0),
        ("", ["Paris"], "en", 0, 0),
        ("die „Stadt“", ["die Stadt"], "de", 1, 1),
        ("a Stadt", ["Stadt"], "de", 0, 2 / 3),
        ("北京市", ["北京", "上海"], "zh", 0, 4 / 5),
        ("《北京》", ["北京。"], "zh", 1, 1),
    ],
)
def test_answers_are_scored_as_by_squad(predicted, true, language, exact, f1):
    scores = answer_scores([predicted], [true], language)
    assert scores["exact_match"] == exact
    assert scores[f"f1{suffix(language)}"] == pytest.approx(f1)


def test_whether_there_is_an_answer_is_judged_apart_from_which():
    wrong = answer_scores(["Rome", "Bonn", ""], [["Paris"], ["Berlin"], []], "en")
    assert (wrong["no_answer_accuracy"], wrong["exact_match"]) == (1.0, pytest.approx(1 / 3))
    assert answer_scores(["Rome", ""], [[], ["Berlin"]], "en")["no_answer_accuracy"] == 0.0


LABELS = ("anger", "joy", "so so!", "never")


@pytest.mark.parametrize(("predicted_of", "true_of"), [(3, 3), (1, 3), (3, 1), (0, 2), (2, 0)])
def test_label_sets_are_scored_as_by_scikit_learn(predicted_of, true_of):
    chance = random.Random(2)

    def draw(count):
        return [[n for n in LABELS[:count] if chance.random() < 0.5] for _ in range(50)]

    predicted, true = draw(predicted_of), draw(true_of)
    scores = multilabel_scores(predicted, true, LABELS)
    present = [n for n in LABELS if any(n in row for row in predicted + true)]
    told = [MultiLabelBinarizer(classes=present).fit_transform(rows) for rows in (true, predicted)]
    assert scores["accuracy"] == sk.accuracy_score(*told)
    for average in ("macro", "weighted", "micro"):
        found = sk.precision_recall_fscore_support(*told, average=average, zero_division=0)[:3]
        for kind, value in zip(("precision", "recall", "f1"), found, strict=True):
            if (kind, average) not in (("precision", "micro"), ("recall", "micro")):
                assert scores[f"{kind}_{average}"] == pytest.approx(value), (kind, average)
    each = sk.f1_score(*told, average=None, zero_division=0)
    assert [scores[f"f1/{names.metric_name(n)}"] for n in present] == pytest.approx(list(each))
    assert scores["f1/never"] == 0.0
    share = len(present) / len(LABELS)  # a label that nobody names is decided rightly
    assert scores["hamming_loss"] == pytest.approx(sk.hamming_loss(*told) * share)


def test_label_sets_have_the_metrics_of_single_labels():
    single = classification_scores(["joy"], ["joy"], LABELS)
    several = multilabel_scores([["joy"]], [["joy"]], LABELS)
    assert several.keys() == single.keys() | {"f1_micro", "hamming_loss"}
    assert single.items() <= several.items()


def test_rows_without_any_label_are_scored():
    scores = multilabel_scores([[], []], [[], []], LABELS)
    assert scores.pop("accuracy") == 1.0
    assert set(scores.values()) == {0.0}
