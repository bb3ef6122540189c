"""Metrics of texts are named without a heavy import, and imported without a trace."""

import subprocess
import sys


def test_names_import_nothing_heavy():
    heavy = "{'numpy', 'sacrebleu', 'rouge_score', 'sklearn', 'torch'}"
    program = f"import sys, pipeline.evaluation.names; sys.exit(str({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.stderr.strip() == "set()"


def test_streams_outlive_the_import_of_rouge_score():
    # Failed as "lost sys.stderr" in the next test that ran Hydra, which configures logging.
    program = """if True:
        import io, logging.config, sys
        sys.stderr = captured = io.StringIO()
        import pipeline.evaluation.text
        sys.stderr = sys.__stderr__
        logging.config.dictConfig({"version": 1})
        sys.exit(captured.closed)
    """
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
