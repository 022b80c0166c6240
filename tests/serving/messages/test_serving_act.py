"""Act over a real socket, compared with closed forms."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pgkeras import engines
from pgkeras.bundle import bundle
from pgkeras.engines import noise
from pgkeras.errors import SpecMismatchError
from pgkeras.protocol.wire import decode_tensor, encode_tensor
from pgkeras.v1 import policy_pb2, service_pb2, tensors_pb2

ROWS = np.random.default_rng(0).normal(0, 2, (64, 4)).astype(np.float32)


def request(observation, policy="discrete", **fields):
    value = tensors_pb2.Value(tensor=encode_tensor(np.asarray(observation, np.float32)))
    return service_pb2.ActRequest(policy=policy_pb2.PolicyRef(name=policy), observation=value, **fields)


def log_softmax_free_log_prob(answer, start):
    return np.log(np.take_along_axis(answer.distribution["probabilities"], (answer.action - start)[:, None], 1))[:, 0]


def gaussian_log_prob(answer, at):
    mean, stddev = (answer.distribution[name].astype(np.float64) for name in ("mean", "stddev"))
    density = np.exp(-(((at - mean) / stddev) ** 2) / 2) / (stddev * np.sqrt(2 * np.pi))
    return np.log(density).reshape(len(at), -1).sum(axis=1)


@pytest.mark.parametrize("mode", ["sample", "greedy"])
def test_categorical_answer_is_consistent_with_its_own_distribution(connect, mode):
    answer = connect().act(ROWS, mode, seed=1)
    p = answer.distribution["probabilities"].astype(np.float64)
    assert answer.action.shape == (64,)
    assert answer.action.dtype == np.int64
    np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(answer.entropy, -(p * np.log(p)).sum(axis=1), atol=1e-5)
    np.testing.assert_allclose(answer.log_prob, log_softmax_free_log_prob(answer, 5), atol=1e-5)
    if mode == "greedy":
        np.testing.assert_array_equal(answer.action, p.argmax(axis=1) + 5)


@pytest.mark.parametrize("mode", ["sample", "greedy"])
def test_gaussian_answer_is_consistent_with_its_own_distribution(connect, mode):
    answer = connect("gaussian").act(ROWS, mode, seed=1)
    assert answer.action.shape == answer.distribution["mean"].shape == (64, 2, 1)
    np.testing.assert_allclose(answer.log_prob, gaussian_log_prob(answer, answer.action), atol=1e-4)
    entropy = 0.5 * np.log(2 * np.pi * np.e * answer.distribution["stddev"] ** 2).reshape(64, -1).sum(axis=1)
    np.testing.assert_allclose(answer.entropy, entropy, atol=1e-5)
    if mode == "greedy":
        np.testing.assert_array_equal(answer.action, answer.distribution["mean"])


def test_action_is_the_inverse_distribution_function_at_the_seeds_noise(connect, policies):
    client = connect()
    answer = client.act(ROWS, seed=7)
    uniform = noise.draw(noise.seeded(7), client.describe().spec, len(ROWS))
    expected = (np.cumsum(answer.distribution["probabilities"], axis=1) <= uniform).sum(axis=1) + 5
    np.testing.assert_array_equal(answer.action, expected)


def test_the_tensorflow_engine_answers_the_same(connect, policies):
    client = connect("gaussian")
    answer = client.act(ROWS, seed=7)
    drawn = noise.draw(noise.seeded(7), client.describe().spec, len(ROWS))
    engine = engines.load(bundle.open_bundle(policies / "gaussian" / "1"), "tensorflow")
    expected = engine.act({"observation": ROWS, "noise": drawn})
    np.testing.assert_allclose(answer.action, expected["action"], atol=1e-5)
    np.testing.assert_allclose(answer.log_prob, expected["log_prob"], atol=1e-4)


@pytest.mark.parametrize("policy", ["discrete", "gaussian"])
def test_one_observation_is_answered_without_a_batch_axis(connect, policy):
    client = connect(policy)
    one, batch = client.act(ROWS[0], seed=3), client.act(ROWS[:1], seed=3)
    assert one.action.shape == client.describe().spec.action_space.shape
    assert one.log_prob.shape == one.entropy.shape == ()
    np.testing.assert_array_equal(one.action, batch.action[0])
    for name, array in one.distribution.items():
        np.testing.assert_array_equal(array, batch.distribution[name][0])


@pytest.mark.parametrize("policy", ["discrete", "gaussian"])
def test_a_seeded_response_does_not_depend_on_concurrent_requests(connect, policy):
    client = connect(policy)
    alone = [client.act(row, seed=seed) for seed, row in enumerate(ROWS)]
    with ThreadPoolExecutor(64) as pool:
        together = list(pool.map(lambda seed: client.act(ROWS[seed], seed=seed), range(64)))
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_allclose(a.action, b.action, atol=1e-5)
        np.testing.assert_allclose(a.log_prob, b.log_prob, atol=1e-4)


def test_a_seeded_rows_noise_does_not_depend_on_the_rows_after_it(connect):
    client = connect()
    np.testing.assert_array_equal(client.act(ROWS, seed=5).action[:10], client.act(ROWS[:10], seed=5).action)


def test_seeds_differ_and_no_seed_is_fresh(connect):
    client = connect()
    draws = [client.act(ROWS, seed=seed).action.tolist() for seed in (1, 2, None, None)]
    assert len({tuple(draw) for draw in draws}) == 4


def test_sampling_frequencies_match_probabilities(connect):
    answer = connect().act(np.repeat(ROWS[:1], 4096, axis=0))
    p = answer.distribution["probabilities"][0].astype(np.float64)
    counts = np.bincount(answer.action - 5, minlength=3)
    chi_squared = ((counts - 4096 * p) ** 2 / (4096 * p)).sum()
    assert chi_squared < 27.6, "beyond the 1e-6 quantile of chi-squared with 2 degrees of freedom"


def test_gaussian_samples_have_the_stated_moments(connect):
    answer = connect("gaussian").act(np.repeat(ROWS[:1], 4096, axis=0))
    z = (answer.action - answer.distribution["mean"]) / answer.distribution["stddev"]
    np.testing.assert_allclose(z.mean(axis=0), 0.0, atol=5 / np.sqrt(4096))
    np.testing.assert_allclose(z.std(axis=0), 1.0, atol=5 / np.sqrt(2 * 4096))


def test_responses_contain_the_requested_outputs(stub):
    def present(**fields):
        return {field.name for field, _ in stub.Act(request(ROWS[0], **fields)).ListFields()}

    always = {"action", "policy"}
    assert present() == always | {"log_prob", "entropy", "distribution"}
    assert present(outputs=[service_pb2.ACT_OUTPUT_ACTION]) == always
    assert present(outputs=[service_pb2.ACT_OUTPUT_GREEDY_ACTION]) == always | {"greedy_action"}
    everything = [n for n in service_pb2.ActOutput.values() if n]
    assert present(outputs=everything) == always | {"log_prob", "entropy", "distribution", "greedy_action"}


def test_the_greedy_action_equals_the_action_of_greedy_mode(connect):
    client = connect()
    sampled = client.act(ROWS, outputs=["greedy_action"])
    np.testing.assert_array_equal(sampled.greedy_action, client.act(ROWS, "greedy").action)
    assert (sampled.greedy_action != sampled.action).any()
    assert sampled.log_prob is None
    assert sampled.distribution == {}


def test_versions_can_be_chosen_and_are_named(connect):
    newest, old = connect().act(ROWS, "greedy"), connect(version=1).act(ROWS, "greedy")
    assert (newest.policy, newest.version, old.version) == ("discrete", 2, 1)
    assert np.abs(newest.distribution["probabilities"] - old.distribution["probabilities"]).max() > 0.01


def test_the_spec_hash_must_be_the_policys(connect, stub):
    right = connect().describe().spec_hash
    answer = stub.Act(request(ROWS, spec_hash=right))
    assert answer.policy.spec_hash == right
    other = connect("gaussian")
    other._info = connect().describe()  # a description that no longer matches the policy
    with pytest.raises(SpecMismatchError, match="describe the policy again"):
        other.act(ROWS)


def test_unspecified_mode_samples(stub):
    greedy, unspecified, sample = (
        decode_tensor(stub.Act(request(ROWS, mode=mode, seed=4)).action, "action")
        for mode in (service_pb2.ACT_MODE_GREEDY, service_pb2.ACT_MODE_UNSPECIFIED, service_pb2.ACT_MODE_SAMPLE)
    )
    np.testing.assert_array_equal(unspecified, sample)
    assert (greedy != sample).any()


def test_list_policies_describes_everything_in_order(connect):
    found = connect().policies()
    assert [(info.name, info.version) for info in found] == [("discrete", 1), ("discrete", 2), ("gaussian", 1)]
    assert all(info.engine == "litert" for info in found)
    assert found[1].provenance["seed"] == 2
    assert found[1].provenance["mean_return"] == 12.5
    described = connect().describe()
    assert described.spec_hash == found[1].spec_hash
    assert described.limits.max_batch_size == 4096
