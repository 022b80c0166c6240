package io.pgkeras.client;

import io.pgkeras.v1.Space;

/**
 * Who plays. A simulator that declares itself can also teach a policy, where {@code pgkeras train
 * --listen} listens; a server of trained policies checks that the spaces are the policy's.
 *
 * @param observationSpace what its environments show; see {@link Spaces}
 * @param actionSpace what they take
 * @param environments how many it steps side by side; 0 leaves it open
 * @param name what people call it
 * @param version its own version
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
