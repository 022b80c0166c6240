"""Export: writes a policy as a bundle, a self-contained SavedModel with a LiteRT flatbuffer.

Before a bundle is published, the three forms of the act graph (Keras model, SavedModel, flatbuffer) are compared on the
same observations and noise.
"""

from __future__ import annotations

import logging
import math
import platform
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pgkeras.backend import tf
from pgkeras.bundle.bundle import FLATBUFFER, Bundle, draft
from pgkeras.engines import noise as noise_source
from pgkeras.engines.litert import LiteRTEngine
from pgkeras.engines.tensorflow import TensorFlowEngine
from pgkeras.errors import EngineError, ExportError
from pgkeras.policy.distributions.categorical import IMPOSSIBLE
from pgkeras.policy.policy import Policy
from pgkeras.spaces import Box, Text
from pgkeras.spaces.layout import Layout, graph_dtype
from pgkeras.spaces.random_observations import random_observations
from pgkeras.spaces.spec import ActionPart, PolicySpec

__all__ = ["check_exportable", "convert", "export_policy", "package_versions"]

logger = logging.getLogger(__name__)

_PARITY_ROWS = 256
# Fewer rows for large observations or distributions, because 256 rows could take gigabytes.
_PARITY_ELEMENTS = 2**24
_MIN_PARITY_ROWS = 4
_PARITY_TOLERANCE = 1e-5
_ACTIONS = ("action", "greedy_action")


def export_policy(policy: Policy, root: Path, name: str, provenance: Mapping[str, Any]) -> Bundle:
    """Publishes a policy as the next free version of ``name`` under ``root``.

    The SavedModel's signatures are ``act`` (observation, noise), ``distribution`` (observation) and
    ``serving_default`` (observation, seed), which draws the noise in the graph. With memory, all of them also take
    ``state``. ``act`` and ``distribution`` take observations as rows (:mod:`pgkeras.spaces.layout`).
    ``serving_default`` takes each part of an observation as a separate input, such as ``observation_camera``; a text as
    the numbers of its tokens; and ``action_mask`` if there are masks.

    Args:
        policy: The policy, with its current weights.
        root: Directory of policies.
        name: The policy's name.
        provenance: The origin of the policy. Package versions are added.

    Returns:
        The published bundle.

    Raises:
        ConfigError: The name is not valid.
        ExportError: The SavedModel cannot be written or disagrees with the Keras model. Nothing is published.
    """
    with draft(root, name, policy.spec) as work:
        module, signatures = _module(policy)
        try:
            tf.saved_model.save(module, str(work.path), signatures=signatures)
        except tf.errors.OpError as error:  # for example, the disk is full
            raise ExportError(
                f"cannot write policy {name} under {root}: {error.message}; nothing was published"
            ) from error
        except (AssertionError, ValueError) as error:  # for example, a network has variables that Keras does not track
            reason = str(error).partition("\n")[0]
            raise ExportError(f"TensorFlow cannot save the network of policy {name}: {reason}") from error
        engines: dict[str, Any] = {"SavedModel": TensorFlowEngine.from_saved_model(work.path)}
        try:
            flatbuffer = convert(signatures["act"], module)
            engines["LiteRT"] = LiteRTEngine(flatbuffer)
            (work.path / FLATBUFFER).write_bytes(flatbuffer)
        except EngineError as error:
            logger.warning("%s: exported without a LiteRT flatbuffer: %s", name, error)
        for mismatch in _mismatches(policy, engines):
            # The SavedModel is correct, so the policy is exported without the flatbuffer.
            logger.warning("%s: exported without a LiteRT flatbuffer: %s", name, mismatch)
            (work.path / FLATBUFFER).unlink()
        work.provenance.update(provenance, packages=package_versions())
    assert work.bundle is not None
    return work.bundle


def check_exportable(policy: Policy) -> None:
    """Exports to a temporary directory. Called before training, it detects a policy that cannot be exported.

    Raises:
        ExportError: See :func:`export_policy`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        export_policy(policy, Path(scratch), "rehearsal", {})


def package_versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that affect a policy."""
    packages = ("pgkeras", "tensorflow", "keras", "ai-edge-litert", "gymnasium", "numpy")
    found = {package: metadata.version(package) for package in packages if _installed(package)}
    return {"python": platform.python_version(), **found}


def convert(function: Any, owner: tf.Module | None) -> bytes:
    """Converts a concrete function to a LiteRT flatbuffer.

    Args:
        function: The concrete function. The variables that it captures become constants.
        owner: The module that tracks these variables. Without it the flatbuffer would lose them and return NaN. None
            for a function that captures no variables: its flatbuffer has no signature, and the conversion takes half of
            the time.

    Raises:
        EngineError: LiteRT does not support an operation.
    """
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], owner or tf.Module())
    converter.experimental_lower_to_saved_model = owner is not None
    try:
        return bytes(converter.convert())
    except Exception as error:  # the converter raises a private class derived from Exception
        raise EngineError(f"LiteRT cannot convert this policy: {error}") from error


def _module(policy: Policy) -> tuple[tf.Module, dict[str, Any]]:
    module = tf.Module(name="policy")
    module.weights = [tf.Variable(v, trainable=False) for v in policy.variables]
    inputs = policy.input_signature()

    def act(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return policy.act(**inputs, weights=module.weights)

    def distribution(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return policy.distribution_of(**inputs, weights=module.weights)

    def serve(seed: tf.Tensor, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        state = {"state": inputs["state"]} if policy.spec.state_size else {}
        observation = _pack(policy.spec.layout, [inputs[name] for name in parts])
        noise = _noise(policy.spec, tf.shape(observation)[0], seed)
        return _unpacked(policy.spec, act(observation=observation, noise=noise, **state))

    module.act, module.distribution, module.serve = (
        tf.function(f, autograph=False) for f in (act, distribution, serve)
    )
    parts = _part_specs(policy.spec.layout)
    without_noise = {name: spec for name, spec in inputs.items() if name != "noise"}
    return module, {
        "act": module.act.get_concrete_function(**inputs),
        "distribution": module.distribution.get_concrete_function(**without_noise),
        "serving_default": module.serve.get_concrete_function(
            seed=tf.TensorSpec([], tf.int64, "seed"),
            **parts,
            **{name: spec for name, spec in inputs.items() if name == "state"},
        ),
    }


def _noise(spec: PolicySpec, rows: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Draws noise in the graph."""
    shape, key = [rows, spec.noise_size], tf.stack([seed, 0])
    if spec.noise == "normal":
        return tf.random.stateless_normal(shape, key)
    uniform = tf.random.stateless_uniform(shape, key)
    if spec.noise == "uniform":
        return uniform
    return tf.where(spec.normal_noise, tf.random.stateless_normal(shape, tf.stack([seed, 1])), uniform)


def _unpacked(spec: PolicySpec, outputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Splits packed actions into one output per part, such as ``action_move``."""
    if not spec.is_structured:
        return outputs
    unpacked = {name: tensor for name, tensor in outputs.items() if name not in _ACTIONS}
    for name in _ACTIONS:
        for part in spec.parts:
            columns = tf.reshape(outputs[name][:, part.start : part.stop], [-1, *part.space.shape])
            unpacked[name + part.suffix] = tf.cast(columns, graph_dtype(part.space.dtype).name)
    return unpacked


def _part_specs(layout: Layout) -> dict[str, tf.TensorSpec]:
    """Returns the inputs of ``serving_default``: one per part of an observation, and the action mask."""
    if not layout.packed:
        return {"observation": tf.TensorSpec([None, *layout.shape], layout.dtype, "observation")}
    specs: dict[str, tf.TensorSpec] = {}
    for leaf, suffix in zip(layout.leaves, layout.suffixes, strict=True):
        name = f"observation{suffix}"
        dtype = np.dtype(np.int64) if isinstance(leaf.space, Text) else graph_dtype(leaf.space.dtype)
        specs[name] = tf.TensorSpec([None, *leaf.shape], dtype, name)
    if layout.mask_size:
        specs["action_mask"] = tf.TensorSpec([None, layout.mask_size], tf.bool, "action_mask")
    return specs


def _pack(layout: Layout, parts: list[tf.Tensor]) -> tf.Tensor:
    """Packs the parts of an observation into rows, like :meth:`Layout.pack`, but in the graph."""
    if not layout.packed:
        return parts[0]
    return tf.concat([tf.reshape(tf.cast(x, tf.float32), [-1, math.prod(x.shape[1:])]) for x in parts], axis=1)


def _mismatches(policy: Policy, engines: Mapping[str, Any]) -> list[str]:
    """Compares every engine with the Keras model on random observations.

    Returns:
        Descriptions of LiteRT's mismatches; empty if there are none.

    Raises:
        ExportError: The SavedModel disagrees, or a weight or an output of the policy is not finite.
    """
    generator = noise_source.seeded(0)
    layout = policy.spec.layout
    spec = policy.spec
    widest = max(math.prod(layout.shape), policy.distribution.parameter_size)
    rows = max(_MIN_PARITY_ROWS, min(_PARITY_ROWS, _PARITY_ELEMENTS // widest))
    observation = random_observations(layout, rows, generator)
    inputs = {"observation": observation, "noise": noise_source.draw(generator, policy.spec, rows)}
    if policy.spec.state_size:
        inputs["state"] = generator.uniform(-1, 1, (rows, policy.spec.state_size)).astype(np.float32)
    outputs = policy.act(**{name: tf.constant(array) for name, array in inputs.items()})
    reference = {name: tensor.numpy() for name, tensor in outputs.items()}
    # Weights are checked separately, because the clipping after the normalization can hide infinite statistics.
    if not all(np.isfinite(array).all() for array in (*reference.values(), *policy.weights())):
        raise ExportError("the policy's weights, or its outputs for ordinary observations, are not finite")
    # The tolerance is relative to the largest parameter or logit, because rounding errors of logits carry over to the
    # probabilities.
    largest = max(1.0, *(float(np.abs(reference[parameter]).max()) for parameter in spec.parameter_outputs))
    if spec.has_choices:
        state = tf.constant(inputs["state"]) if policy.spec.state_size else None
        logits, _ = policy.step(tf.constant(observation), state)
        largest = max(largest, _largest_logit(logits.numpy()))
    scales = dict.fromkeys(_ACTIONS, np.maximum(largest, _action_scales(spec)))
    found = []
    for form, engine in engines.items():
        outputs = engine.act(inputs)
        try:
            for name, array in reference.items():
                _compare(form, name, spec, scales.get(name, largest), outputs[name], array)
        except ExportError as error:
            if form == "SavedModel":
                raise
            found.append(str(error))
    return found


def _largest_logit(logits: NDArray[np.float32]) -> float:
    """Returns the largest magnitude among the logits that are not masked."""
    possible = np.abs(logits[logits > IMPOSSIBLE / 2])
    return float(possible.max(initial=0.0))


def _action_scales(spec: PolicySpec) -> Any:
    """Returns the largest magnitude of each component of an action, at least 1, in the act graph's layout."""
    scales = [_largest_bounds(part) for part in spec.parts]
    return np.concatenate([scale.ravel() for scale in scales]) if spec.is_structured else scales[0]


def _largest_bounds(part: ActionPart) -> NDArray[np.float64]:
    """Returns the magnitude of the larger bound, at least 1, for components scaled to their bounds; 1 for others."""
    space = part.space
    if not (part.kind.is_scaled and isinstance(space, Box)):
        return np.ones(space.shape)
    largest = np.maximum(np.abs(space.low), np.abs(space.high))
    return np.maximum(1.0, np.where(np.isfinite(largest), largest, 0.0))


def _compare(form: str, name: str, spec: PolicySpec, scale: Any, got: NDArray[Any], expected: NDArray[Any]) -> None:
    if got.shape != expected.shape:
        raise ExportError(f"{form} returns {name!r} with shape {got.shape}, the Keras model with {expected.shape}")
    if expected.dtype.kind == "f":
        good = np.abs(got - expected) <= _PARITY_TOLERANCE * np.maximum(scale, np.abs(expected))
    else:
        good = got == expected
    bad = np.count_nonzero(~good.reshape(len(good), -1).all(axis=1))
    # Rounding can change a discrete action, and its log_prob, if the noise is very near the boundary of two actions.
    allowed = len(expected) // 100 if spec.has_choices and name in (*_ACTIONS, "log_prob") else 0
    if np.isnan(got).any() or bad > allowed:
        raise ExportError(f"{form} disagrees with the Keras model on {name!r} for {bad} observations")


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
