"""What a process keeps, and what of it travels."""

from pipeline.common.session import Session, session, shared


def test_results_asked_for_last_are_kept_and_others_computed_again():
    @shared(maxsize=2)
    def double(number):
        asked.append(number)
        return 2 * number

    asked: list[int] = []
    assert [double(n) for n in (1, 2, 1, 3, 2, 1)] == [2, 4, 2, 6, 4, 2]
    assert asked == [1, 2, 3, 2, 1]  # the third result took the second one's place
    session().clear()
    assert double(1) == 2
    assert asked == [1, 2, 3, 2, 1, 1]


def test_only_what_is_to_travel_does(monkeypatch):
    @shared(maxsize=None, travel=True)
    def rows(name, *, part):
        asked.append(name)
        return [name, part]

    @shared(maxsize=None)
    def client():
        return object()

    asked: list[str] = []
    monkeypatch.setattr("pipeline.common.session._SESSION", Session())
    found, _ = rows("a.csv", part=1), client()
    travelling = session().travelling()
    assert len(travelling) == 1
    monkeypatch.setattr("pipeline.common.session._SESSION", Session())  # another process
    session().take(travelling)
    assert rows("a.csv", part=1) is found
    assert asked == ["a.csv"]
    assert rows("a.csv", part=2) == ["a.csv", 2]
