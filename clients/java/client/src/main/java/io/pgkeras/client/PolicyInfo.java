package io.pgkeras.client;

import io.pgkeras.v1.Limits;
import io.pgkeras.v1.Policy;

/**
 * A policy as the server describes it.
 *
 * @param policy its name, version, spec and provenance
 * @param limits what the server accepts
 */
public record PolicyInfo(Policy policy, Limits limits) {}
