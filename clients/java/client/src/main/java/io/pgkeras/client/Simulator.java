package io.pgkeras.client;

import io.pgkeras.v1.Space;

/**
 * Describes the simulator that opens a session. A simulator that declares itself can also train a
 * policy, by connecting to {@code pgkeras train --listen}. A server of trained policies checks that
 * the spaces match the policy's.
 *
 * @param observationSpace the observation space; see {@link Spaces}
 * @param actionSpace the action space
 * @param environments the number of environments that it steps in parallel; 0 means unspecified
 * @param name the simulator's name, informational
 * @param version the simulator's version, informational
 */
public record Simulator(
    Space observationSpace, Space actionSpace, int environments, String name, String version) {

  /** A simulator without a version. */
  public Simulator(Space observationSpace, Space actionSpace, int environments, String name) {
    this(observationSpace, actionSpace, environments, name, "");
  }

  io.pgkeras.v1.Simulator toMessage() {
    return io.pgkeras.v1.Simulator.newBuilder()
        .setObservationSpace(observationSpace)
        .setActionSpace(actionSpace)
        .setEnvironments(environments)
        .setName(name)
        .setVersion(version)
        .build();
  }
}
