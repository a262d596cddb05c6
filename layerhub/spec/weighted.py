"""Parameters that layers with a kernel and a bias share: how these start, are regularized and constrained."""

from __future__ import annotations

from layerhub.spec.activations import ActivationLike
from layerhub.spec.constraints import ConstraintLike
from layerhub.spec.initializers import InitializerLike
from layerhub.spec.layer import Activated, Layer
from layerhub.spec.regularizers import RegularizerLike


class KernelAndBias(Layer, abstract=True):
    """A layer with a kernel and a bias, or several of each that start alike."""

    stands = 2

    kernel_initializer: InitializerLike = "glorot_uniform"
    bias_initializer: InitializerLike = "zeros"
    kernel_regularizer: RegularizerLike | None = None
    bias_regularizer: RegularizerLike | None = None
    activity_regularizer: RegularizerLike | None = None
    kernel_constraint: ConstraintLike | None = None
    bias_constraint: ConstraintLike | None = None


class Affine(Activated, KernelAndBias, abstract=True):
    """activation(a linear map of the input by the kernel + bias)."""

    stands = 1

    activation: ActivationLike = "linear"
    use_bias: bool = True
