"""The study's page: one HTML file with all that a search found, for its parent run in MLflow.

It holds no scripts and asks for nothing, so it opens in MLflow's sandboxed frame, from a mail or
from a disk. Its size is bounded: charts of many trials are drawn as pictures, curves are thinned.
"""

from pipeline.analysis.report.data_section import check_page
from pipeline.analysis.report.report import FILE, report, study_page, write_page
from pipeline.analysis.report.view import About

__all__ = ["FILE", "About", "check_page", "report", "study_page", "write_page"]
