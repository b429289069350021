"""What Phobos 3.3 clients do, as scripted exchanges with a real daemon and a real PostgreSQL."""

import pytest

# What they find is told as that of the tests themselves is.
pytest.register_assert_rewrite(
    *(f"tests.interop.{module}" for module in ("captured", "host", "phobos", "tables", "tapes", "transfers", "wire"))
)
