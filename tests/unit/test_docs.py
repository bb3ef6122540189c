"""README, docs/ and examples/: links lead somewhere, and every output names its command."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(page for folder in ("", "docs/", "examples/") for page in ROOT.glob(f"{folder}*.md"))
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)")


def load_script():
    spec = importlib.util.spec_from_file_location("regenerate", ROOT / "docs" / "regenerate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def anchors(page):
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    for name, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        target = (page.parent / name) if name else page
        assert target.exists(), f"{page.name}: {name}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {name}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_output_has_a_command_and_an_end(page):
    text = page.read_text(encoding="utf-8")
    steps = load_script().steps_of(text, page.name)
    assert text.count("<!-- output") == text.count("<!-- end -->") == sum(s.stop > 0 for s in steps)


def test_an_output_is_the_block_above_or_its_own_command():
    page = "```bash\na \\\n  b\n```\n\n<!-- output | head -1 -->\nold\n<!-- end -->\n"
    page += "<!-- setup: c\nd\n-->\n<!-- output: e | f -->\n<!-- end -->\n"
    steps = load_script().steps_of(page, "page")
    assert [s.command for s in steps] == ["{ a \\\n  b\n} | head -1", "c\nd", "e | f"]
    assert page[steps[0].start : steps[0].stop] == "old\n"


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("<!-- output -->\n<!-- end -->\n", "page:1: no command"),
        ("\n<!-- output: a -->\n<!-- output: b -->\n<!-- end -->\n", "page:2: expected `<!-- end"),
    ],
)
def test_a_marker_without_command_or_end_is_refused(page, said):
    with pytest.raises(ValueError, match=said):
        load_script().steps_of(page, "page")


@pytest.mark.parametrize("name", ["README", "docs/guide"])
def test_a_translated_page_is_in_step(name):
    """Headings, commands, outputs, links and figures are those of the English page."""
    english, chinese = (
        (ROOT / f"{name}{language}.md").read_text(encoding="utf-8") for language in ("", ".zh")
    )
    assert blocks_of(english) == blocks_of(chinese)
    for found in (r"^(#+) ", r"\]\(([^)]*)\)", r"\d+(?:[.,-]\d+)*", r"`([^`]+)`"):
        said, translated = (
            sorted(re.findall(found, prose_of(page), re.MULTILINE)) for page in (english, chinese)
        )
        assert said == translated


@pytest.mark.parametrize("name", ["README", "docs/guide"])
def test_a_translation_gets_the_outputs_of_its_page(name):
    english, chinese = (
        (ROOT / f"{name}{language}.md").read_text(encoding="utf-8") for language in ("", ".zh")
    )
    in_step = load_script().in_step
    assert in_step(chinese, english) == chinese
    outdated = chinese.replace("0.6", "0.5").replace("CPU 核，20", "CPU 核，19")
    assert in_step(outdated, english) == chinese != outdated


def prose_of(page):
    """The text without code and markers; what is translated leads to translations."""
    page = re.sub(r"^```.*?^```$|<!--.*?-->", "", page, flags=re.DOTALL | re.MULTILINE)
    return page.replace(".zh.md)", ".md)")


def blocks_of(page):
    """The fenced blocks without comments, which are translated."""
    return [re.sub(r" +# .*", "", b) for b in re.findall(r"^```.*?^```$", page, re.DOTALL | re.M)]
