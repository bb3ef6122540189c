"""Later commands read what an earlier one encoded."""

from pipeline.tasks.classification import Classification
from tests.support.stores import forget


def test_later_commands_tokenise_nothing(cli, tiny, monkeypatch):
    calls = []
    encode = Classification.encode

    def counted(task, rows, **options):
        calls.append(len(rows))
        return encode(task, rows, **options)

    monkeypatch.setattr(Classification, "encode", counted)
    evaluated = (*tiny, "evaluation.test=true")

    def tokenised(*argv):
        forget()
        calls.clear()
        assert cli("train", *argv).code == 0
        return sum(calls)

    first = tokenised(*evaluated)
    again = tokenised(*evaluated, "seed=1")  # the kept model is read again, with a few rows
    assert 0 < again < 20 < 120 <= first
    assert tokenised(*evaluated, "training.max_length=12") == first
