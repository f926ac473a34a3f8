"""Experts, an operator of infrs's own domain, agrees with float64 and with the operators that it stands for.

A row's bits depend neither on the other rows, nor on the experts that they choose, nor on the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from experts_graph import FORMS, Form, Inputs, drawn, reference, run, separately, session, with_indices
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_graphs import Floats, has_vnni

from infrs.native.options import AUTO, AVX2, AVX_VNNI, PRECISE, KernelOptions

forms = st.sampled_from(list(FORMS.values()))
every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
rows_drawn = st.integers(1, 130)
seeds = st.integers(0, 2**32)


def alone(form: Form, inputs: Inputs, row: int, kernels: KernelOptions = AUTO) -> Floats:
    return run(form, {name: array[row : row + 1] for name, array in inputs.items()}, kernels=kernels)[0]


def close(form: Form, result: Floats, expected: npt.NDArray[np.float64], kernels: KernelOptions = AUTO) -> None:
    """Compare with float64. Inputs and activations are rounded to 8 bits, or to 16 (`wide`)."""
    wide = form.bits == 8 and (kernels not in (AUTO, AVX_VNNI) or not has_vnni())
    sizes = np.sqrt(np.square(expected).mean(axis=-1, keepdims=True))
    assert (np.abs(result - expected) <= (1e-3 if wide else 0.12) * sizes).all()
    error = np.sqrt(np.square(result - expected).mean()) / np.sqrt(np.square(expected).mean())
    assert error < (1e-4 if wide else 0.03)


@every_form
@pytest.mark.parametrize("kernels", [AUTO, AVX_VNNI, AVX2, PRECISE], ids=["best", "avx-vnni", "avx2", "precise"])
@pytest.mark.parametrize("rows", [1, 2, 7, 49, 130])
def test_experts_agree_with_float64(form: Form, rows: int, kernels: KernelOptions) -> None:
    inputs = drawn(form, rows, seed=rows)
    close(form, run(form, inputs, kernels=kernels), reference(form, inputs), kernels)


@given(forms, rows_drawn, seeds, st.sampled_from([AUTO, AVX_VNNI, AVX2, PRECISE]))
@settings(max_examples=40, deadline=None)
def test_a_row_has_the_same_bits_alone_and_in_a_batch(form: Form, rows: int, seed: int, kernels: KernelOptions) -> None:
    inputs = drawn(form, rows, seed)
    together = run(form, inputs, threads=2, kernels=kernels)
    assert run(form, inputs, kernels=kernels).tobytes() == together.tobytes()
    for row in {0, seed % rows, rows - 1}:
        assert alone(form, inputs, row, kernels).tobytes() == together[row].tobytes()


@given(forms, rows_drawn, seeds)
@settings(max_examples=40, deadline=None)
def test_all_instructions_give_the_same_bits(form: Form, rows: int, seed: int) -> None:
    """Those that the processor lacks run the next ones."""
    inputs = drawn(form, rows, seed)
    assert run(form, inputs, kernels=AVX_VNNI).tobytes() == run(form, inputs).tobytes()
    assert run(form, inputs, kernels=PRECISE).tobytes() == run(form, inputs, kernels=AVX2).tobytes()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("kernels", [AUTO, AVX_VNNI, AVX2, PRECISE], ids=["best", "avx-vnni", "avx2", "precise"])
def test_experts_give_the_bits_of_separate_products_and_gates(bits: int, kernels: KernelOptions) -> None:
    form = Form(bits=bits, biases=True)
    inputs = drawn(form, 60, seed=1)
    assert run(form, inputs, kernels=kernels).tobytes() == separately(form, inputs, kernels).tobytes()


@every_form
@pytest.mark.parametrize("expert", [0, -1])
def test_all_rows_can_choose_the_same_expert(form: Form, expert: int) -> None:
    inputs = drawn(form, 130, seed=2)
    indices = inputs["indices"]
    indices[:, 0] = form.experts - 1 if expert else 0
    result = run(form, inputs, threads=2)
    close(form, result, reference(form, inputs))
    assert alone(form, inputs, 77).tobytes() == result[77].tobytes()


@every_form
def test_a_row_can_choose_an_expert_twice(form: Form) -> None:
    inputs = drawn(form, 9, seed=3)
    inputs["indices"][:] = inputs["indices"][:, :1]
    close(form, run(form, inputs), reference(form, inputs))


def affects_its_own_row_only(form: Form, seed: int, name: str, column: int, value: float) -> None:
    inputs = drawn(form, 30, seed=seed)
    good = run(form, inputs)
    inputs[name][4, column] = value
    spoilt = run(form, inputs)
    assert not np.isfinite(spoilt[4]).any()
    assert np.delete(spoilt, 4, axis=0).tobytes() == np.delete(good, 4, axis=0).tobytes()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@every_form
def test_an_input_that_is_not_finite_affects_its_own_row_only(form: Form, value: float) -> None:
    affects_its_own_row_only(form, 4, "x", 17, value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_weight_that_is_not_finite_affects_its_own_row_only(value: float) -> None:
    affects_its_own_row_only(FORMS["4 bits"], 5, "weights", 1, value)


@pytest.mark.parametrize("index", [-1, 6, 2**31, 2**62, -(2**63)])
def test_an_index_of_no_expert_fails_the_run_and_not_the_session(index: int) -> None:
    form = FORMS["4 bits"]
    inputs = drawn(form, 30, seed=6)
    good = run(form, inputs)
    with pytest.raises(Exception, match="Experts: an index is negative, or not below the number of experts"):
        run(form, with_indices(inputs, 29, index))
    assert run(form, inputs).tobytes() == good.tobytes()


def test_no_rows_give_no_output() -> None:
    form = FORMS["4 bits"]
    assert run(form, drawn(form, 0, seed=0)).shape == (0, form.width)


def test_the_rows_of_a_batch_keep_its_shape() -> None:
    form = FORMS["8 bits"]
    inputs = drawn(form, 6, seed=7)
    shaped = inputs | {"x": inputs["x"].reshape(2, 3, form.width)}
    assert run(form, shaped).tobytes() == run(form, inputs).tobytes()
    assert run(form, shaped).shape == (2, 3, form.width)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": (5, 64)}, "the input's last dimension"),
        ({"weights": (5, 4)}, "weights and indices"),
        ({"indices": (5, 4)}, "weights and indices"),
        ({"weights": (4, 3), "indices": (4, 3)}, "weights and indices"),
        ({"weights": (5, 0), "indices": (5, 0)}, "weights and indices"),
        ({"weights": (5, 7), "indices": (5, 7)}, "weights and indices"),
        ({"weights": (15,), "indices": (15,)}, "weights and indices"),
        ({"weights": (5, 2), "indices": (5, 2)}, "weights and indices do not give each row k experts"),
    ],
)
def test_shapes_that_do_not_agree_are_an_error(changed: dict[str, tuple[int, ...]], message: str) -> None:
    form = FORMS["4 bits"]
    inputs = drawn(form, 5, seed=8)
    wrong: dict[str, Any] = {name: np.zeros(shape, inputs[name].dtype) for name, shape in changed.items()}
    with pytest.raises(Exception, match=f"Experts: {message}"):
        session(form).run(None, inputs | wrong)
