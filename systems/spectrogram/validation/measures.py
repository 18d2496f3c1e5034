"""Scalar measures of each picture, its histogram and its spectrum."""

import numpy as np

BINS = 64  # of the histogram of grey values
LEVELS = 32  # of grey in the co-occurrence matrix
ANGLES = (0.0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)  # radians, as scikit-image takes them: 45 would be 45 radians
GLCM = ("contrast", "dissimilarity", "homogeneity", "energy", "correlation")
MOMENTS = ("mean", "standard_deviation", "skewness", "kurtosis")
LEAST_POWER = 1e-12


def moments(grey: np.ndarray) -> np.ndarray:
    """(N, H, W) in [0, 1] to (N, 4), in the order of `MOMENTS`; the kurtosis of a normal distribution is 0."""
    flat = grey.reshape(len(grey), -1).astype(np.float64)
    mean, deviation = flat.mean(1), flat.std(1)
    unit = (flat - mean[:, None]) / np.maximum(deviation, 1e-9)[:, None]
    return np.stack([mean, deviation, (unit**3).mean(1), (unit**4).mean(1) - 3.0], 1)


def glcm_properties(grey: np.ndarray) -> np.ndarray:
    """(N, H, W) in [0, 1] to (N, 5), the order of `GLCM`: of the co-occurrence at distance 1, mean over the four angles."""
    from skimage.feature import graycomatrix, graycoprops

    quantised = np.minimum(grey * LEVELS, LEVELS - 1).astype(np.uint8)
    rows = []
    for picture in quantised:
        matrix = graycomatrix(picture, [1], ANGLES, LEVELS, symmetric=True, normed=True)
        rows.append([float(graycoprops(matrix, name).mean()) for name in GLCM])
    return np.asarray(rows)


def scalars(grey: np.ndarray) -> dict[str, np.ndarray]:
    """All moments and properties by name, each (N,)."""
    table = np.concatenate([moments(grey), glcm_properties(grey)], 1)
    return dict(zip((*MOMENTS, *(f"glcm_{name}" for name in GLCM)), table.T, strict=True))


def grey_histogram(grey: np.ndarray) -> np.ndarray:
    """The share of all values in [0, 1] in each of `BINS` bins, (BINS,)."""
    counts = np.histogram(grey, BINS, (0.0, 1.0))[0]
    return counts / counts.sum()


def spectra(grey: np.ndarray) -> dict[str, np.ndarray]:
    """Mean power in dB against frequency: `radial`, `time` (over columns) and `doppler` (over rows), each from one cycle a picture to Nyquist.

    The mean of each picture is taken off, so that 0 dB is a variance of 1 in one coefficient. (N, R, R) in [0, 1].
    """
    side = grey.shape[-1]
    centred = grey - grey.mean((1, 2), keepdims=True)
    power = (np.abs(np.fft.fft2(centred)) ** 2).mean(0) / side**2
    frequency = np.abs(np.fft.fftfreq(side) * side)  # cycles in a picture
    radius = np.hypot(frequency[:, None], frequency[None]).round().astype(int)
    count = side // 2 + 1
    inside = radius < count
    total = np.bincount(radius[inside], power[inside], count)
    radial = total / np.maximum(np.bincount(radius[inside], minlength=count), 1)
    profiles = {"radial": radial, "time": power.mean(0)[:count], "doppler": power.mean(1)[:count]}
    return {name: 10.0 * np.log10(np.maximum(profile[1:], LEAST_POWER)) for name, profile in profiles.items()}
