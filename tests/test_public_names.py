"""`import relatent` and its names."""

import pytest
import relatent


def test_every_public_name_can_be_imported():
    for name in relatent.__all__:
        assert getattr(relatent, name) is not None
    assert set(relatent.__all__) <= set(dir(relatent))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = relatent.nothing
