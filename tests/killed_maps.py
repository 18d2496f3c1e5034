"""What runs in the processes that the maps' test_kills.py kills."""

import os
from unittest.mock import patch

from killed import arm
from relatent.systems.anomaly.data.volume_folder import read_folder
from relatent.systems.anomaly.maps.error_mapper import ErrorMapper
from relatent.systems.anomaly.maps.run import write_maps


def work(place, out, moment=None):
    """The whole run over `place`'s volumes; `moment`: (where, how often it has come there) at which the process kills itself."""
    if moment is not None:
        arm(*moment)
    mapper = ErrorMapper(place / "last.ckpt", 16, batch_size=2, device="cpu")
    with patch.object(os, "fsync"):  # it takes most of the time, and only a machine that fails needs it
        return write_maps(out, read_folder(place / "volumes")[0], mapper, formats=("hdf5", "npy"), shard_size=4)
