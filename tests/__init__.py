"""The tests: support/ is what they share, then unit/, integration/ and system/."""

import pytest

pytest.register_assert_rewrite("tests.support")
