"""Tables in every style: nothing in a cell is markup or a command."""

import csv
import io
import json

from pipeline.common.tables import Table, render


def test_cells_are_escaped_in_every_style():
    table = Table(["a|b\x1b"], [["\x1b[2J\u202e|\n\\"], [float("nan")], ["[x](y)"]])
    assert render(table, "md").splitlines()[2:] == [
        r"| \\x1b\[2J\\u202e\|\\n\\ |",
        "| nan |",
        r"| \[x](y) |",
    ]
    assert "\x1b" not in render(table, "table") + render(table, "csv") + render(table, "json")
    assert json.loads(render(table, "json"))[:2] == [
        {"a|b\x1b": "\x1b[2J\u202e|\n\\"},
        {"a|b\x1b": None},
    ]
    assert render(Table(["x", "name"], [[1, "界"], [0.125, None]]), "table") == (
        "    x  name\n    1  界\n0.125\n"
    )
    assert "<td>&lt;b&gt; [red]</td>" in render(Table(["a"], [["<b> [red]"]]), "html")
    assert "<b> [red]" in render(Table(["a"], [["<b> [red]"]]), "table")


def test_no_text_in_csv_is_a_formula_to_a_spreadsheet():
    texts = ["=1+1", "+1", "-1_0", "@SUM(A1)", "a=1", ""]
    table = Table(["=cmd|' /C calc'!A0", "n"], [[text, -1.5] for text in texts])
    columns, *lines = csv.reader(io.StringIO(render(table, "csv"), newline=""))
    assert columns == ["'=cmd|' /C calc'!A0", "n"]
    assert [line[0] for line in lines] == ["'=1+1", "'+1", "'-1_0", "'@SUM(A1)", "a=1", ""]
    assert {line[1] for line in lines} == {"-1.5"}
