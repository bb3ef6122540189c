"""The study's report: one HTML file with all that a search found, for its parent run in MLflow.

It loads nothing, so it opens in MLflow's sandboxed frame, from a mail and from a disk; its only
script sorts tables. Marks in charts say which trial they are. Its size is bounded: charts of many
trials are rasterized, and curves are thinned.
"""

from pipeline.analysis.report.report import FILE, page_of, report, study_page, write_page
from pipeline.analysis.report.sections import check_page
from pipeline.analysis.report.view import About, most_important

__all__ = [
    "FILE",
    "About",
    "check_page",
    "most_important",
    "page_of",
    "report",
    "study_page",
    "write_page",
]
