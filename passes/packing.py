"""Pack the weights of convolutions at compile time, in the order in which their kernels read them."""

from __future__ import annotations

import numpy as np

from dlas.passes.conv import ConvShape
from dlas.passes.strassen import weight_sums
from dlas.passes.winograd import divide_weights, transform_weights


def merge_groups(shape: ConvShape, weights: np.ndarray, merge: int) -> np.ndarray:
    """Weights ``[K, C_PG, K_h, K_w]`` to ``[g / merge, K_PG * merge, C_PG * merge, K_h, K_w]``, block-diagonal."""
    c_pg, k_pg = shape.c_per_group, shape.k_per_group
    dense = np.zeros((shape.groups // merge, k_pg * merge, c_pg * merge, shape.k_h, shape.k_w), np.float32)
    source = weights.reshape(-1, merge, k_pg, c_pg, shape.k_h, shape.k_w)
    for m in range(merge):
        dense[:, m * k_pg : (m + 1) * k_pg, m * c_pg : (m + 1) * c_pg] = source[:, m]
    return dense


def pack_weights(
    shape: ConvShape, weights: np.ndarray, merge: int, t_i: int | None, t_o: int
) -> tuple[int, np.ndarray]:
    """Weights ``[K, C_PG, K_h, K_w]`` to ``[g * K_PG/T_O, C_PG/T_I, K_h, K_w, T_I, T_O]`` (GSPC paper, section 4).

    Args:
        merge: this many groups become one, block-diagonally.
        t_i: channels of an input block (the channel counts are padded with zeros), None: all channels at once.
        t_o: channels of an output tile.

    Returns:
        (groups after merging, packed weights).
    """
    dense = merge_groups(shape, weights, merge)
    groups, k_pg, c_pg = dense.shape[:3]
    t_i = c_pg if t_i is None else t_i
    pad_k, pad_c = -k_pg % t_o, -c_pg % t_i
    if pad_k or pad_c:
        dense = np.pad(dense, ((0, 0), (0, pad_k), (0, pad_c), (0, 0), (0, 0)))
    split = dense.reshape(groups, -1, t_o, (c_pg + pad_c) // t_i, t_i, shape.k_h, shape.k_w)
    packed = split.transpose(0, 1, 3, 5, 6, 4, 2)
    return groups, np.ascontiguousarray(packed).reshape(-1, *packed.shape[2:])


def pack_lanes(weights: np.ndarray, block: int) -> np.ndarray:
    """Weights ``[C, C_PG, K_h, K_w]`` to ``[C/block, K_h, K_w, C_PG, block]``; the last block is padded."""
    padded = np.pad(weights, ((0, -weights.shape[0] % block), (0, 0), (0, 0), (0, 0)))
    split = padded.reshape(-1, block, *weights.shape[1:])
    return np.ascontiguousarray(split.transpose(0, 3, 4, 2, 1))


def pack_winograd_weights(
    shape: ConvShape, weights: np.ndarray, merge: int, block: int, m: int, depth: int, t_o: int, k_w: int
) -> np.ndarray:
    """Weights ``[K, C_PG, 3, 3]``, transformed, in the order of reading.

    Args:
        merge: this many groups become one, block-diagonally.
        block: channels of a layout block; channel counts are padded to blocks and tiles with zeros.
        m: outputs of a tile per side.
        depth: input channels at a time.
        t_o, k_w: output channels of a register tile and of a workgroup.

    Returns:
        ``[g * K_PG/k_w, k_w/t_o, C_PG/depth, (m + 2)^2, depth, t_o/block, block]``.
    """
    points = transform_weights(_split_winograd(shape, weights, merge, block, depth, t_o, k_w), m).astype(np.float32)
    packed = points.reshape(*points.shape[:-2], -1).transpose(0, 1, 4, 6, 5, 2, 3)
    return np.ascontiguousarray(packed)


def pack_winograd_taps(
    shape: ConvShape, weights: np.ndarray, merge: int, block: int, m: int, depth: int, t_o: int, k_w: int
) -> np.ndarray:
    """Weights ``[K, C_PG, 3, 3]``, which the kernel transforms, in the order of reading.

    Args:
        merge, block, m, depth, t_o, k_w: as for :func:`pack_winograd_weights`.

    Returns:
        ``[g * K_PG/k_w, k_w/t_o, C_PG/depth, depth, 9, t_o/block, block]``, by
        :func:`dlas.passes.winograd.divide_weights`.
    """
    taps = divide_weights(_split_winograd(shape, weights, merge, block, depth, t_o, k_w), m).astype(np.float32)
    packed = taps.reshape(*taps.shape[:-2], -1).transpose(0, 1, 4, 5, 6, 2, 3)
    return np.ascontiguousarray(packed)


def _split_winograd(
    shape: ConvShape, weights: np.ndarray, merge: int, block: int, depth: int, t_o: int, k_w: int
) -> np.ndarray:
    """Weights ``[K, C_PG, 3, 3]`` to ``[g * K_PG/k_w, k_w/t_o, t_o/block, block, C_PG/depth, depth, 3, 3]``."""
    dense = merge_groups(shape, weights, merge)
    k_pg, c_pg = dense.shape[1:3]
    dense = np.pad(dense, ((0, 0), (0, -k_pg % k_w), (0, -c_pg % depth), (0, 0), (0, 0)))
    return dense.reshape(-1, k_w // t_o, t_o // block, block, dense.shape[2] // depth, depth, *dense.shape[3:])


def pack_strassen_weights(weights: np.ndarray, block: int, t_o: int, k_w: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights ``[K, C]``, in the sums of :mod:`dlas.passes.strassen`, in the order of reading.

    Args:
        block: channels of a layout block; channel counts are padded to blocks and workgroups with zeros.
        t_o: output channels of a register tile, of which two are the halves of a product.
        k_w: output channels of a workgroup, a multiple of ``2 * t_o``.

    Returns:
        (``[K/k_w, k_w/(2 t_o), 7, C/2, t_o/block, block]`` of the channel blocks that have a partner in the other half,
        ``[K/k_w, k_w/(2 t_o), 2, block, t_o/block, block]`` of the last block where they are odd, else empty).
    """
    padded = np.pad(weights, ((0, -weights.shape[0] % k_w), (0, -weights.shape[1] % block)))
    split = padded.reshape(-1, k_w // (2 * t_o), 2, t_o // block, block, padded.shape[1])
    halves = np.moveaxis(split, -1, 3)  # [..., half of K, C, t_o / block, block]
    half = padded.shape[1] // block // 2 * block
    (b11, b12), (b21, b22) = (
        [part[:, :, k] for k in range(2)] for part in (halves[..., :half, :, :], halves[..., half : 2 * half, :, :])
    )
    packed = np.moveaxis(weight_sums(b11, b12, b21, b22), 0, 2)
    return np.ascontiguousarray(packed), np.ascontiguousarray(halves[..., 2 * half :, :, :])


NEAR = 4
"""Lanes within which a shuffle is one cheap operation: f32 lanes of 128 bits."""


def pack_winograd_lanes(weights: np.ndarray, block: int, m: int) -> np.ndarray:
    """Weights ``[C, C_PG, 3, 3]``, transformed, to ``[C/block, (m + 2)^2, C_PG, block]``; the last block is padded.

    C_PG is a power of two. Step ``far + near``, near below ``NEAR``, has in lane ``l`` the weight of channel ``l xor
    near`` for output channel ``l xor far``: the first step of each ``far`` needs no shuffle of the input, the others
    one among ``NEAR`` lanes, and only sums cross over to lane ``l xor far``.
    """
    channels, per_group = weights.shape[:2]
    points = transform_weights(weights, m).astype(np.float32).reshape(channels, per_group, (m + 2) ** 2)
    lane, step = np.arange(channels)[:, None], np.arange(per_group)[None, :]
    near, far = step % NEAR, step - step % NEAR
    points = points[lane ^ far, (lane ^ near) % per_group]
    padded = np.pad(points, ((0, -channels % block), (0, 0), (0, 0)))
    split = padded.reshape(-1, block, per_group, (m + 2) ** 2)
    return np.ascontiguousarray(split.transpose(0, 3, 2, 1))
