"""Rounding whose errors make up for each other: GPTQ (Frantar et al., 2022, https://arxiv.org/abs/2210.17323).

Inputs are rounded one after the other; what rounding the weights of one does to the product is taken back, as far as
the inputs that follow resemble it, by theirs before they are rounded. How alike inputs are is measured on a text, and
a short one measures chance too, so half of the likeness is believed, and only that within a segment of inputs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .blocks import find_scales, narrow_each, nearest, to_blocks

BELIEVED = 0.5  # of a measured correlation (benchmarks/quality/int4_methods.py)


def followers(moments: NDArray[np.float32], believed: float = BELIEVED) -> NDArray[np.float32]:
    """How much of the error at input i of a segment the weights of input j > i have to take back: [S, size, size].

    moments: mean products of pairs of inputs, [S, size, size], the squares of single ones above zero.
    """
    import torch  # noqa: PLC0415

    sizes = np.sqrt(np.diagonal(moments, axis1=1, axis2=2))
    alike = torch.from_numpy(believed * moments / (sizes[:, :, None] * sizes[:, None]))
    alike.diagonal(dim1=1, dim2=2).fill_(1)  # so each eigenvalue is well above zero, whatever rounding did to others
    # alike = a @ a.T with `a` upper triangular, whose inverse is the upper Cholesky factor of the inverse of `alike`.
    lower = torch.linalg.cholesky(alike.flip(1, 2))
    upper = torch.linalg.solve_triangular(lower, torch.eye(lower.shape[1]), upper=False).flip(1, 2).numpy()
    upper /= np.diagonal(upper, axis1=1, axis2=2)[:, :, None].copy()
    follow: NDArray[np.float32] = upper * (sizes[:, :, None] / sizes[:, None])
    return follow


def round_with_feedback(
    weight: NDArray[np.float32],
    moments: NDArray[np.float32],
    follow: NDArray[np.float32],
    bits: int,
    block_size: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Signed levels [N, B, block_size] and scales [N, B] of `weight` [N, K], B those of the segments together.

    moments, follow: as of `followers`; their segments are whole blocks and cover all inputs.
    """
    import torch  # noqa: PLC0415

    segments, size, _ = moments.shape
    importance = np.diagonal(moments, axis1=1, axis2=2)[None]
    left = np.ascontiguousarray(to_blocks(weight, size).transpose(1, 2, 0))  # [S, size, N]
    levels = np.empty_like(left)
    scales = np.empty((segments, size // block_size, len(weight)), np.float32)
    errors = np.empty((segments, block_size, len(weight)), np.float32)
    behind, told, taken_back = torch.from_numpy(left), torch.from_numpy(errors), torch.from_numpy(follow).mT
    for begin in range(0, size, block_size):
        end = begin + block_size
        blocks = np.ascontiguousarray(left[:, begin:end].transpose(2, 0, 1))
        found = find_scales(blocks, importance[..., begin:end], bits)
        scale = scales[:, begin // block_size] = narrow_each(found).T
        for place in range(begin, end):
            levels[:, place] = nearest(left[:, place], scale, bits)
            error = errors[:, place - begin] = left[:, place] - levels[:, place] * scale
            left[:, place + 1 : end] -= follow[:, place, place + 1 : end, None] * error[:, None]
        # By torch: numpy's threads, called from several of ours, wait for each other (three times as long in all).
        behind[:, end:].baddbmm_(taken_back[:, end:, begin:end], told, alpha=-1)
    return levels.transpose(2, 0, 1).reshape(len(weight), -1, block_size), scales.reshape(-1, len(weight)).T
