"""Help and refusals come before anything heavy is imported."""

import subprocess
import sys


def test_a_wrong_key_is_refused_before_torch_is_imported():
    code = (
        "import sys; from pipeline.cli import main\n"
        "assert main(['train', 'optimizer.lerning_rate=1']) == 2\n"
        "heavy = {'torch', 'transformers', 'mlflow', 'optuna', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_imports_next_to_nothing():
    code = (
        "import sys; from pipeline.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert 'hydra' not in sys.modules and 'pydantic' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
