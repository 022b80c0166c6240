/**
 * The client of a pgkeras policy server. It requests actions for observations.
 *
 * <pre>{@code
 * try (var client = PolicyClient.connect("127.0.0.1:50051")) {
 *   Actions actions = client.act(Tensor.of(new float[] {0, 0.1f, 0, -0.1f}));
 * }
 * }</pre>
 *
 * <p>Every call has a deadline: its own, or else the client's. Failures of the server or the
 * network are subclasses of {@link io.pgkeras.client.PolicyServiceException}.
 */
package io.pgkeras.client;
