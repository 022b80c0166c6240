package io.pgkeras.client;

import io.pgkeras.v1.Limits;
import io.pgkeras.v1.Policy;

/**
 * The server's description of a policy.
 *
 * @param policy name, version, spec and provenance of the policy
 * @param limits the server's limits
 */
public record PolicyInfo(Policy policy, Limits limits) {}
