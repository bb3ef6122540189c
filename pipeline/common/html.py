"""Pages: one look, and a policy by which nothing runs in them but what sorts their tables."""

from __future__ import annotations

import base64
import hashlib
from html import escape


def note(text: str) -> str:
    """Return a text as a small paragraph; nothing for an empty one."""
    return f'<p class="note">{escape(text.strip())}</p>' if text.strip() else ""


def page(kind: str, title: str, body: str) -> str:
    """Return a page about a kind of thing (in a word), with a title and a body of HTML."""
    head = f"<header><p>{escape(kind)}</p><h1>{escape(title)}</h1></header>"
    return whole_page(title, head + body)


def whole_page(title: str, body: str) -> str:
    """Return a page with a title and a body of HTML, its heading included."""
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    return PAGE.format(
        title=escape(title), style=STYLE, body=body, script=SCRIPT, digest=f"sha256-{digest}"
    )


STYLE = """\
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 62rem; padding: 1rem 1.5rem 3rem;
  background: #fff; color: #1a1a1a;
  font: 15px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
header { background: #0072b2; color: #fff; padding: .8rem 1.2rem; border-radius: 6px; }
header p { margin: 0; }
h1 { margin: 0; font-size: 1.5rem; overflow-wrap: anywhere; }
h2 { margin: 2rem 0 .4rem; font-size: 1.15rem; }
.note, figcaption { margin: .2rem 0; color: #555; font-size: .9rem; max-width: 48rem; }
figure { margin: 0; }
svg { display: block; max-width: 100%; height: auto; margin: .4rem 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1.2rem; margin: .4rem 0; }
dt { color: #555; }
dd { margin: 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .87rem; }
th, td { padding: .25rem .7rem; text-align: left; vertical-align: top; }
thead th { border-bottom: 2px solid #767676; }
tbody th, tbody td { border-top: 1px solid #ddd; }
.best td { white-space: nowrap; }
.best .again td { border-top: 0; padding-top: 0; white-space: normal; }
code { font: .86em ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
.again code { color: #555; user-select: all; }
/* Next to the columns that are seen, however far the table is scrolled. */
.again div { position: sticky; left: 0; width: min(52rem, 100vw - 9.5rem); }
[aria-sort] { cursor: pointer; }
[aria-sort=ascending]::after { content: "\\a0▲"; }
[aria-sort=descending]::after { content: "\\a0▼"; }
"""

# A click on a column's title sorts by it, another one the other way round. A row with what belongs
# to it is a body of its own, where a table has several.
SCRIPT = """
for (const head of document.querySelectorAll("thead th")) {
  head.ariaSort = "none";
  head.addEventListener("click", () => {
    const table = head.closest("table"), bodies = [...table.tBodies];
    const parts = bodies.length > 1 ? bodies : [...bodies[0].rows];
    const text = part => (part.rows ? part.rows[0] : part).cells[head.cellIndex].textContent;
    const order = head.ariaSort === "descending" ? "ascending" : "descending";
    const sign = order === "ascending" ? 1 : -1;
    const compared = (a, b) => {
      const difference = parseFloat(text(a)) - parseFloat(text(b));
      return sign * (isNaN(difference) ? text(a).localeCompare(text(b)) : difference);
    };
    for (const part of parts.sort(compared)) part.parentNode.append(part);
    for (const other of head.parentNode.cells) other.ariaSort = "none";
    head.ariaSort = order;
  });
}
"""

# What the policy allows is all that the page has: even a slip in escaping could run nothing else.
PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src '{digest}'">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
{style}</style>
<script type="module">{script}</script>
</head>
<body>
{body}
</body>
</html>
"""
