"""Export: a policy to a bundle, a self-contained SavedModel with its LiteRT flatbuffer beside it.

Three forms of the act graph leave here: the Keras model's, the SavedModel's and the flatbuffer's. They are compared on
the same observations and noise before anything is published.
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
# Fewer rows where an observation or a distribution is so large that this many would take gigabytes.
_PARITY_ELEMENTS = 2**24
_FEWEST_PARITY_ROWS = 4
_PARITY_TOLERANCE = 1e-5
_ACTIONS = ("action", "greedy_action")


def export_policy(policy: Policy, root: Path, name: str, provenance: Mapping[str, Any]) -> Bundle:
    """Publishes a policy as the next free version of ``name`` under ``root``.

    The SavedModel's signatures are ``act`` (observation, noise), ``distribution`` (observation) and
    ``serving_default`` (observation, seed), which draws the noise in the graph; with memory, all of them take
    ``state``, too. The first two take observations as rows
    (:mod:`pgkeras.spaces.layout`). ``serving_default`` takes every part of an observation as an input of its own, such
    as ``observation_camera``, a text as the numbers of its tokens, and ``action_mask`` where there are masks.

    Args:
        policy: The policy, with its current weights.
        root: Directory of policies.
        name: The policy's name.
        provenance: Where it comes from; package versions are added.

    Returns:
        The published bundle.

    Raises:
        ConfigError: The name is not valid.
        ExportError: The forms disagree, or nothing could be written. Nothing is published.
    """
    with draft(root, name, policy.spec) as work:
        module, signatures = _module(policy)
        try:
            tf.saved_model.save(module, str(work.path), signatures=signatures)
        except tf.errors.OpError as error:  # as TensorFlow reports a full disk
            raise ExportError(
                f"cannot write policy {name} under {root}: {error.message}; nothing was published"
            ) from error
        except (AssertionError, ValueError) as error:  # as it reports a network that keeps variables to itself
            reason = str(error).partition("\n")[0]
            raise ExportError(f"TensorFlow cannot save the network of policy {name}: {reason}") from error
        engines: dict[str, Any] = {"SavedModel": TensorFlowEngine.from_saved_model(work.path)}
        try:
            flatbuffer = convert(signatures["act"], module)
            engines["LiteRT"] = LiteRTEngine(flatbuffer)
            (work.path / FLATBUFFER).write_bytes(flatbuffer)
        except EngineError as error:
            logger.warning("%s: exported without a LiteRT flatbuffer: %s", name, error)
        for form in _disagreeing(policy, engines):
            # The SavedModel answers what was trained; only its faster form has to be left out.
            logger.warning("%s: exported without a LiteRT flatbuffer: %s", name, form)
            (work.path / FLATBUFFER).unlink()
        work.provenance.update(provenance, packages=package_versions())
    assert work.bundle is not None
    return work.bundle


def check_exportable(policy: Policy) -> None:
    """Exports to a directory that is deleted again, so that what cannot be exported is found out before it is trained.

    Raises:
        ExportError: See :func:`export_policy`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        export_policy(policy, Path(scratch), "rehearsal", {})


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape a policy."""
    packages = ("pgkeras", "tensorflow", "keras", "ai-edge-litert", "gymnasium", "numpy")
    found = {package: metadata.version(package) for package in packages if _installed(package)}
    return {"python": platform.python_version(), **found}


def convert(function: Any, owner: tf.Module | None) -> bytes:
    """A concrete function as a LiteRT flatbuffer.

    Args:
        function: The concrete function; variables it captures become constants.
        owner: Tracks those variables. Without it they would be lost, and the flatbuffer would answer NaN. None of a
            function that captures none: its flatbuffer has no signature, and is made in half of the time.

    Raises:
        EngineError: An operation has no LiteRT counterpart.
    """
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], owner or tf.Module())
    converter.experimental_lower_to_saved_model = owner is not None
    try:
        return bytes(converter.convert())
    except Exception as error:  # the converter raises a private class that derives from Exception alone
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
        drawn = _drawn(policy.spec, tf.shape(observation)[0], seed)
        return _taken_apart(policy.spec, act(observation=observation, noise=drawn, **state))

    module.act, module.distribution, module.serve = (
        tf.function(f, autograph=False) for f in (act, distribution, serve)
    )
    parts = _parts(policy.spec.layout)
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


def _drawn(spec: PolicySpec, rows: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Noise, in the graph."""
    shape, of = [rows, spec.noise_size], tf.stack([seed, 0])
    if spec.noise == "normal":
        return tf.random.stateless_normal(shape, of)
    uniform = tf.random.stateless_uniform(shape, of)
    if spec.noise == "uniform":
        return uniform
    return tf.where(spec.normal_noise, tf.random.stateless_normal(shape, tf.stack([seed, 1])), uniform)


def _taken_apart(spec: PolicySpec, answer: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """With an output of its own for every part of a packed action, such as ``action_move``."""
    if not spec.is_structured:
        return answer
    outputs = {name: tensor for name, tensor in answer.items() if name not in _ACTIONS}
    for name in _ACTIONS:
        for part in spec.parts:
            columns = tf.reshape(answer[name][:, part.start : part.stop], [-1, *part.space.shape])
            outputs[name + part.suffix] = tf.cast(columns, graph_dtype(part.space.dtype).name)
    return outputs


def _parts(layout: Layout) -> dict[str, tf.TensorSpec]:
    """The inputs of ``serving_default``: one for every part of an observation, and one for its mask."""
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
    """In the graph, what :meth:`Layout.pack` does outside of it."""
    if not layout.packed:
        return parts[0]
    return tf.concat([tf.reshape(tf.cast(x, tf.float32), [-1, math.prod(x.shape[1:])]) for x in parts], axis=1)


def _disagreeing(policy: Policy, engines: Mapping[str, Any]) -> list[str]:
    """Compares every engine with the Keras model on random observations.

    Returns:
        How LiteRT disagrees; nothing if it does not.

    Raises:
        ExportError: The SavedModel disagrees, or the policy's answers are not finite.
    """
    generator = noise_source.seeded(0)
    layout = policy.spec.layout
    spec = policy.spec
    widest = max(math.prod(layout.shape), policy.distribution.parameter_size)
    rows = max(_FEWEST_PARITY_ROWS, min(_PARITY_ROWS, _PARITY_ELEMENTS // widest))
    observation = random_observations(layout, rows, generator)
    inputs = {"observation": observation, "noise": noise_source.draw(generator, policy.spec, rows)}
    if policy.spec.state_size:
        inputs["state"] = generator.uniform(-1, 1, (rows, policy.spec.state_size)).astype(np.float32)
    outputs = policy.act(**{name: tf.constant(array) for name, array in inputs.items()})
    reference = {name: tensor.numpy() for name, tensor in outputs.items()}
    # Weights besides, since a clip hides those of the normalisation.
    if not all(np.isfinite(array).all() for array in (*reference.values(), *policy.weights())):
        raise ExportError("the policy's weights, or its answers to ordinary observations, are not finite")
    # What is computed from large numbers is off by more: a probability, and all that is made of it, by as much as its
    # logits are rounded.
    largest = max(1.0, *(float(np.abs(reference[parameter]).max()) for parameter in spec.parameter_outputs))
    if spec.has_choices:
        state = tf.constant(inputs["state"]) if policy.spec.state_size else None
        logits, _ = policy.step(tf.constant(observation), state)
        largest = max(largest, _largest_logit(logits.numpy()))
    sizes = dict.fromkeys(_ACTIONS, np.maximum(largest, _sizes(spec)))
    found = []
    for form, engine in engines.items():
        answer = engine.act(inputs)
        try:
            for name, array in reference.items():
                _compare(form, name, spec, sizes.get(name, largest), answer[name], array)
        except ExportError as error:
            if form == "SavedModel":
                raise
            found.append(str(error))
    return found


def _largest_logit(logits: NDArray[np.float32]) -> float:
    """The largest magnitude among logits, less those that a mask has made impossible."""
    possible = np.abs(logits[logits > IMPOSSIBLE / 2])
    return float(possible.max(initial=0.0))


def _sizes(spec: PolicySpec) -> Any:
    """How large the components of an action may be, where that is known; at least 1. As the act graph lays them out."""
    sizes = [_largest_bounds(part) for part in spec.parts]
    return np.concatenate([size.ravel() for size in sizes]) if spec.is_structured else sizes[0]


def _largest_bounds(part: ActionPart) -> NDArray[np.float64]:
    """The larger magnitude of either bound of every component that is scaled to its bounds; 1 for all others."""
    space = part.space
    if not (part.kind.is_scaled and isinstance(space, Box)):
        return np.ones(space.shape)
    largest = np.maximum(np.abs(space.low), np.abs(space.high))
    return np.maximum(1.0, np.where(np.isfinite(largest), largest, 0.0))


def _compare(form: str, name: str, spec: PolicySpec, size: Any, got: NDArray[Any], expected: NDArray[Any]) -> None:
    if got.shape != expected.shape:
        raise ExportError(f"{form} gives {name!r} of shape {got.shape}, the Keras model of shape {expected.shape}")
    if expected.dtype.kind == "f":
        good = np.abs(got - expected) <= _PARITY_TOLERANCE * np.maximum(size, np.abs(expected))
    else:
        good = got == expected
    bad = np.count_nonzero(~good.reshape(len(good), -1).all(axis=1))
    # A discrete action may differ where its noise lies within rounding of a boundary, and log_prob with it.
    allowed = len(expected) // 100 if spec.has_choices and name in (*_ACTIONS, "log_prob") else 0
    if np.isnan(got).any() or bad > allowed:
        raise ExportError(f"{form} disagrees with the Keras model on {name!r} for {bad} observations")


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
