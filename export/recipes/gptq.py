"""GPTQ: rounding with error compensation (Frantar et al., 2022, https://arxiv.org/abs/2210.17323).

Inputs are rounded one after the other. The weights of later inputs compensate for the error of earlier ones, as far as
the inputs correlate. The Hessian comes from a short text, which measures chance too. So its off-diagonal values are
shrunk by half, and inputs of different segments count as uncorrelated.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .blocks import find_scales, narrow_each, nearest, to_blocks
from .levels import Levels

SHRINKAGE = 0.5  # the shrinkage factor of measured correlations (benchmarks/quality/int4_methods.py)


def followers(moments: NDArray[np.float32], shrinkage: float = SHRINKAGE) -> NDArray[np.float32]:
    """Return the share of the error at input i that the weights of input j > i compensate, [S, size, size].

    moments: the Hessian, mean products of pairs of inputs, [S, size, size], with a positive diagonal.
    """
    import torch  # noqa: PLC0415

    sizes = np.sqrt(np.diagonal(moments, axis1=1, axis2=2))
    alike = torch.from_numpy(shrinkage * moments / (sizes[:, :, None] * sizes[:, None]))
    alike.diagonal(dim1=1, dim2=2).fill_(1)  # so each eigenvalue is well above zero in spite of rounding
    # alike = a @ a.T with upper triangular `a`. The inverse of `a` is the upper Cholesky factor of the inverse of
    # `alike`.
    lower = torch.linalg.cholesky(alike.flip(1, 2))
    upper = torch.linalg.solve_triangular(lower, torch.eye(lower.shape[1]), upper=False).flip(1, 2).numpy()
    upper /= np.diagonal(upper, axis1=1, axis2=2)[:, :, None].copy()
    follow: NDArray[np.float32] = upper * (sizes[:, :, None] / sizes[:, None])
    return follow


def round_with_feedback(
    weight: NDArray[np.float32],
    moments: NDArray[np.float32],
    follow: NDArray[np.float32],
    levels: Levels,
    block_size: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the levels [N, B, block_size] and the scales [N, B] of `weight` [N, K], B over all segments.

    moments, follow: those of `followers`. Segments are whole blocks and cover all inputs.
    """
    import torch  # noqa: PLC0415

    segments, size, _ = moments.shape
    importance = np.diagonal(moments, axis1=1, axis2=2)[None]
    left = np.ascontiguousarray(to_blocks(weight, size).transpose(1, 2, 0))  # [S, size, N]
    rounded = np.empty_like(left)
    scales = np.empty((segments, size // block_size, len(weight)), np.float32)
    errors = np.empty((segments, block_size, len(weight)), np.float32)
    behind, compensated, taken_back = torch.from_numpy(left), torch.from_numpy(errors), torch.from_numpy(follow).mT
    for begin in range(0, size, block_size):
        end = begin + block_size
        blocks = np.ascontiguousarray(left[:, begin:end].transpose(2, 0, 1))
        found = find_scales(blocks, importance[..., begin:end], levels)
        scale = scales[:, begin // block_size] = narrow_each(found).T
        for place in range(begin, end):
            rounded[:, place] = nearest(left[:, place], scale, levels)
            error = errors[:, place - begin] = left[:, place] - rounded[:, place] * scale
            left[:, place + 1 : end] -= follow[:, place, place + 1 : end, None] * error[:, None]
        # With torch: numpy's threads wait for each other if several of our threads call it (three times as long).
        behind[:, end:].baddbmm_(taken_back[:, end:, begin:end], compensated, alpha=-1)
    return rounded.transpose(2, 0, 1).reshape(len(weight), -1, block_size), scales.reshape(-1, len(weight)).T
