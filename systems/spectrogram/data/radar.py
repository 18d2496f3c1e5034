"""A continuous-wave radar's baseband return of moving points, its spectrogram, and the spectrogram as a picture.

After V. C. Chen, The Micro-Doppler Effect in Radar (Artech House, 2011): the return of points at the ranges r_i(t) is
s(t) = Σ a_i exp(-j 4π r_i(t) / λ), so a point that comes nearer at v m/s has the Doppler frequency 2 v / λ.
"""

import functools

import numpy as np

LIGHT = 299_792_458.0
CARRIER = 77e9  # Hz, the band of automotive and indoor radars
WAVELENGTH = LIGHT / CARRIER
MAX_SPEED = 5.0  # m/s, towards the radar and away; what is faster would wrap round
SAMPLE_RATE = 4 * MAX_SPEED / WAVELENGTH  # Hz
BINS, COLUMNS = 128, 128  # velocities and times of a spectrogram
LOOKS, HOP = 4, 32  # spectra that are averaged for each time, and samples between them
WINDOW = 64  # samples, 12 ms: longer ones smear the feet, which change their speed by 30 m/s in a second
SAMPLES = COLUMNS * LOOKS * HOP
SECONDS = SAMPLES / SAMPLE_RATE  # of one picture: 3.2
STEP = 16  # samples between the times at which the body is computed, 3 ms
# seconds, from one step before the first sample to one after the last, so that each sample has two of them on either side
TIMES = np.arange(-STEP, SAMPLES + 2 * STEP, STEP) / SAMPLE_RATE
# decibels of the darkest and the brightest colour; 0 dB is one of the points that make the average person's torso
LOWEST_DB, HIGHEST_DB = -40.0, 8.0


def baseband(ranges: np.ndarray, amplitudes: np.ndarray) -> np.ndarray:
    """The return of points, (SAMPLES,) complex64.

    ranges: (points, times) metres at TIMES; between them they are taken as cubic polynomials. amplitudes: (points,).
    """
    count = SAMPLES // STEP
    turns = np.zeros((len(ranges), count, STEP))
    for place, weight in enumerate(_cubic_weights()):
        turns += (-2 / WAVELENGTH) * ranges[:, place : place + count, None] * weight
    turns -= np.rint(turns)  # in fp64: thousands of wavelengths; what is left of a turn is safe in fp32
    phase = (2 * np.pi * turns).astype(np.float32).reshape(len(ranges), SAMPLES)
    weights = amplitudes.astype(np.float32)
    return weights @ np.cos(phase) + 1j * (weights @ np.sin(phase))


def _cubic_weights() -> np.ndarray:
    """(4, STEP): Lagrange's weights of the four neighbours at -1, 0, 1, 2 for places from 0 to 1."""
    u = np.arange(STEP) / STEP
    return np.stack(
        [
            -u * (u - 1) * (u - 2) / 6,
            (u + 1) * (u - 1) * (u - 2) / 2,
            -(u + 1) * u * (u - 2) / 2,
            (u + 1) * u * (u - 1) / 6,
        ]
    )


def spectrogram(signal: np.ndarray) -> np.ndarray:
    """Power in dB, (BINS, COLUMNS) fp32: the first row is MAX_SPEED towards the radar, the last one is away; 0 dB is a point of
    amplitude 1 at rest in a bin.

    signal: (SAMPLES,) complex. A short-time Fourier transform with a Hann window, of which LOOKS neighbouring spectra are averaged.
    """
    padded = np.pad(signal, (WINDOW - HOP) // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    window = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
    spectra = np.fft.fftshift(np.fft.fft(frames * (window / window.sum()), BINS, axis=1), axes=1)
    power = (spectra.real**2 + spectra.imag**2).reshape(COLUMNS, LOOKS, BINS).mean(axis=1)
    return (10 * np.log10(power + 1e-12)).T[::-1].astype(np.float32)


def colour(decibels: np.ndarray) -> np.ndarray:
    """The map as (rows, columns, 3) uint8 RGB: viridis from LOWEST_DB to HIGHEST_DB, the same for every picture."""
    level = (decibels - LOWEST_DB) / (HIGHEST_DB - LOWEST_DB)
    return _colours()[np.clip(np.rint(255 * level), 0, 255).astype(np.uint8)]


@functools.cache
def _colours() -> np.ndarray:
    from matplotlib import colormaps

    return np.rint(255 * colormaps["viridis"](np.arange(256))[:, :3]).astype(np.uint8)
