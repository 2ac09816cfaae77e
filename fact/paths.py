"""The best path of labels through the steps of a video, where changing the label has a price.

The exact optimum of a linear chain with one price for every change (Viterbi, "Error bounds for convolutional
codes", IEEE Trans. Inf. Theory 13(2), 1967). With one price the best label to come from is the same for all, so a
step costs C operations instead of C squared.

Axes: B batch, T steps, C classes.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fact.errors import ConfigError


def best_path(scores: Tensor, valid: Tensor, *, switch_cost: float) -> Tensor:
    """Labels whose sum of scores, less the price of every change, is largest, (B, T) int64.

    Args:
        scores: (B, T, C) score of each class at each step, such as log-probabilities.
        valid: (B, T) bool; padded steps come last and take the label of the last valid one.
        switch_cost: Price of a change of label between two steps, in units of the scores; 0 gives the argmax of
            every step.

    Raises:
        ConfigError: The price is negative or not finite.
    """
    if not 0 <= switch_cost < float("inf"):
        raise ConfigError(f"switch_cost must be a number from 0 on, found {switch_cost}.")
    # One copy to the host: the steps depend on each other, and a kernel for each would cost more than the work.
    scores_TBC = scores.masked_fill(~valid[..., None], 0).transpose(0, 1).double().cpu().numpy()
    labels_TB = _best_path(scores_TBC, switch_cost)
    return torch.from_numpy(labels_TB.T.copy()).to(scores.device)


def _best_path(scores_TBC: NDArray[np.float64], switch_cost: float) -> NDArray[np.int64]:
    num_steps, batch, num_classes = scores_TBC.shape
    came_from_TB = np.zeros((num_steps, batch), dtype=np.int64)
    stayed_TBC = np.ones((num_steps, batch, num_classes), dtype=bool)
    labels_TB = np.zeros((num_steps, batch), dtype=np.int64)
    if num_steps == 0:
        return labels_TB
    value_BC = scores_TBC[0].copy()
    for step in range(1, num_steps):
        came_from_TB[step] = value_BC.argmax(1)
        entered_B1 = value_BC.max(1, keepdims=True) - switch_cost
        stayed_TBC[step] = value_BC >= entered_B1
        value_BC = np.where(stayed_TBC[step], value_BC, entered_B1) + scores_TBC[step]
    rows_B = np.arange(batch)
    labels_TB[-1] = value_BC.argmax(1)
    for step in range(num_steps - 1, 0, -1):
        later_B = labels_TB[step]
        labels_TB[step - 1] = np.where(stayed_TBC[step, rows_B, later_B], later_B, came_from_TB[step])
    return labels_TB
